//! Whoever speaks the scheduler API: a script or a Marathon.

use std::fmt;
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_proto::mesos::AgentId;
use dcos_proto::scheduler::{Call, Event};

use crate::kept;

/// One framework with what it keeps across connections.
pub(crate) trait Party: fmt::Debug {
    /// Its stream, while it is subscribed.
    fn stream(&self) -> Option<&str>;

    /// Whether it speaks the messages of a v0 driver instead of the scheduler API.
    fn is_driver(&self) -> bool {
        false
    }

    /// Whether it awaits the answer to a call before it sends the next.
    fn is_patient(&self) -> bool {
        false
    }

    /// As whom it authenticates, if it does.
    fn principal(&self) -> Option<&'static str> {
        None
    }

    /// When it wants to do something by itself.
    fn next_deadline(&self, now: Time) -> Time;

    /// What it does then. `is_calm` says that the time of faults is over.
    fn tick(&mut self, now: Time, is_calm: bool) -> Vec<Call>;

    /// The stream it asked for is open.
    fn subscribed(&mut self, now: Time, stream: String);

    /// A call was refused.
    fn refused(&mut self, now: Time);

    /// Its stream broke.
    fn disconnected(&mut self, now: Time);

    /// Its process is killed and started again.
    fn crash(&mut self, now: Time);

    /// Its process is to be killed when it has written `writes` more times: right after the next
    /// write if `is_written`, else right before. False if it writes nothing.
    fn light(&mut self, _writes: u32, _is_written: bool) -> bool {
        false
    }

    /// Whether that has come, so that it has to be started again.
    fn is_burnt(&self) -> bool {
        false
    }

    /// The master says something on its stream.
    fn event(&mut self, now: Time, event: &Arc<Event>) -> Vec<Call>;

    /// Whether all it wanted has been done.
    fn is_content(&self, now: Time) -> bool;

    /// What an agent last offered it since it is content, as far as it kept count.
    fn idle_offer(&self, agent: &AgentId) -> Option<&Resources>;

    /// Whether it has come to rest, and awaits to hear what is kept for it.
    fn compares(&self) -> bool {
        false
    }

    /// Masters and agents agree that this is kept on agents.
    fn compare(&mut self, _now: Time, _found: &kept::All) {}

    /// What went wrong with what it saw.
    fn complaint(&self) -> Option<&str>;

    /// What it still waits for, for the report of a failing seed.
    fn open(&self, now: Time) -> String;
}

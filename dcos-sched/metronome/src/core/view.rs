//! What readers see: a picture of one moment that shares everything with the next one.

use std::collections::BTreeSet;
use std::sync::Arc;

use dcos_marathon::engine::{Registration, Spoken};

use super::JobScheduler;
use crate::model::{Job, JobId, RunKey};
use crate::ordered::Ordered;

/// Everything readers can ask for.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All jobs.
    pub jobs: Ordered<JobId, Arc<Job>>,
    /// Runs that wait to be launched.
    pub waiting: Ordered<RunKey, ()>,
    /// How many runs go on.
    pub active: usize,
    /// The framework's id.
    pub framework_id: Option<String>,
    /// The roles the framework needs.
    pub roles: Arc<BTreeSet<String>>,
    /// How often things happened.
    pub counters: Counters,
    /// That master's address.
    pub master: Option<String>,
}

impl Registration for View {
    fn framework_id(&self) -> Option<&str> {
        self.framework_id.as_deref()
    }

    fn roles(&self) -> &BTreeSet<String> {
        &self.roles
    }
}

/// How often things happened since this Metronome started; names are Metronome's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Runs that began.
    pub started: u64,
    /// Runs that did not end well.
    pub failed: u64,
    /// Times a schedule triggered while its job was running, and may not run twice, or for a job that is too large.
    pub skipped: u64,
    /// Offers that arrived.
    pub offers_incoming: u64,
    /// Offers nothing was launched with.
    pub offers_declined: u64,
    /// Offers something was launched with.
    pub offers_used: u64,
    /// Tasks launched.
    pub launched: u64,
    /// Times offers were asked for.
    pub revives: u64,
    /// Times no offers were asked for.
    pub suppresses: u64,
    /// What was said to the master and by it.
    pub spoken: Spoken,
}

impl Counters {
    /// Names and values.
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("metronome.jobs.started.counter", self.started),
            ("metronome.jobs.failed.counter", self.failed),
            ("metronome.jobs.skipped.counter", self.skipped),
            (
                "metronome.mesos.offers.incoming.counter",
                self.offers_incoming,
            ),
            (
                "metronome.mesos.offers.declined.counter",
                self.offers_declined,
            ),
            ("metronome.mesos.offers.used.counter", self.offers_used),
            ("metronome.tasks.launched.counter", self.launched),
            ("metronome.mesos.calls.revive.counter", self.revives),
            ("metronome.mesos.calls.suppress.counter", self.suppresses),
        ]
    }
}

impl JobScheduler {
    pub(super) fn picture(&self) -> View {
        View {
            jobs: self.jobs.clone(),
            waiting: self.waiting.clone(),
            active: self.active,
            framework_id: self.framework_id.as_ref().map(|id| id.value.clone()),
            roles: Arc::clone(&self.roles),
            counters: self.counters,
            master: self.subscription.master().cloned(),
        }
    }
}

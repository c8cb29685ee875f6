//! The event streams of custom executors.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_proto::executor::{Event, event};
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::AgentId;
use dcos_wire::MediaType;
use dcos_wire::libprocess::Actor;
use dcos_wire::records::RecordSender;
use prost::Message as _;

use super::core::event as plain_event;
use super::drivers::Driver;
use super::handle::{Handle, Work};
use super::records::ExecutorKey;

/// How often an idle stream carries a heartbeat.
const HEARTBEAT: Duration = Duration::from_mins(30);

/// One open stream.
#[derive(Debug)]
pub(super) struct EventStream {
    pub(super) id: u64,
    pub(super) sender: RecordSender,
    pub(super) media: MediaType,
}

/// How an executor is reached.
#[derive(Debug)]
enum Channel {
    Http(EventStream),
    Driver(Box<Driver>),
}

/// The open streams by executor; a new one of an executor replaces the old.
#[derive(Debug, Default)]
pub(super) struct EventStreams {
    open: BTreeMap<ExecutorKey, Channel>,
}

impl EventStreams {
    pub(super) fn insert(&mut self, key: ExecutorKey, stream: EventStream) {
        self.open.insert(key, Channel::Http(stream));
    }

    pub(super) fn insert_driver(&mut self, key: ExecutorKey, driver: Box<Driver>) {
        self.open.insert(key, Channel::Driver(driver));
    }

    pub(super) fn remove(&mut self, key: &ExecutorKey) {
        self.open.remove(key);
    }

    /// Removes the stream if it has not been replaced.
    pub(super) fn remove_if(&mut self, key: &ExecutorKey, id: u64) -> bool {
        let open = self.open.get(key);
        let same = matches!(open, Some(Channel::Http(stream)) if stream.id == id);
        same && self.open.remove(key).is_some()
    }

    pub(super) fn send(
        &mut self,
        actor: &Actor,
        key: &ExecutorKey,
        agent: &AgentId,
        event: &Event,
    ) {
        match self.open.get_mut(key) {
            None => {}
            Some(Channel::Http(stream)) => {
                // A stream that is cut ends its watch, which tells the loop.
                let _ = stream.sender.send(encode(event, stream.media).into());
            }
            Some(Channel::Driver(driver)) => driver.send(actor, key, agent, event),
        }
    }
}

/// Keeps a stream alive, and tells the loop when it has ended.
pub(super) async fn watch(
    key: ExecutorKey,
    id: u64,
    sender: RecordSender,
    media: MediaType,
    handle: Handle,
) {
    let beat = encode(&plain_event(event::Type::Heartbeat), media);
    loop {
        tokio::select! {
            () = sender.closed() => break,
            () = tokio::time::sleep(HEARTBEAT) => {
                if sender.send(beat.clone().into()).is_err() {
                    break;
                }
            }
        }
    }
    handle.send(Work::StreamEnded { key, id }).await;
}

fn encode(event: &Event, media: MediaType) -> Vec<u8> {
    match media {
        MediaType::Json => json::to_vec(event, Dialect::V1),
        MediaType::Protobuf => event.encode_to_vec(),
    }
}

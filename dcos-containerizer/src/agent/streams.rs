//! The event streams of custom executors.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_proto::executor::{Event, event};
use dcos_proto::json::{self, Dialect};
use dcos_wire::MediaType;
use dcos_wire::records::RecordSender;
use prost::Message as _;

use super::core::event as plain_event;
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

/// The open streams by executor; a new one of an executor replaces the old.
#[derive(Debug, Default)]
pub(super) struct EventStreams {
    open: BTreeMap<ExecutorKey, EventStream>,
}

impl EventStreams {
    pub(super) fn insert(&mut self, key: ExecutorKey, stream: EventStream) {
        self.open.insert(key, stream);
    }

    pub(super) fn remove(&mut self, key: &ExecutorKey) {
        self.open.remove(key);
    }

    /// Removes the stream if it has not been replaced.
    pub(super) fn remove_if(&mut self, key: &ExecutorKey, id: u64) -> bool {
        let same = self.open.get(key).is_some_and(|stream| stream.id == id);
        same && self.open.remove(key).is_some()
    }

    pub(super) fn send(&self, key: &ExecutorKey, event: &Event) {
        if let Some(stream) = self.open.get(key) {
            // A stream that is cut ends its watch, which tells the loop.
            let _ = stream.sender.send(encode(event, stream.media).into());
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

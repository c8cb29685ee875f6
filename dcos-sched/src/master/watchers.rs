//! The readers of the operator API's event stream.

use std::collections::VecDeque;
use std::sync::Arc;

use dcos_proto::master::{Event, event};
use dcos_wire::MediaType;
use dcos_wire::records::RecordSender;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, MissedTickBehavior, interval_at};

use super::Snapshot;
use super::http::views;
use super::shell::encode;

/// How often a reader hears from the master.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events that wait for a reader whose first record, the whole state, is still being written.
/// Some seconds of a busy cluster; a reader that needs longer is cut and subscribes again.
const WAITING: usize = 16 * 1024;

/// All readers, oldest first. Each has a task of its own, so that none waits for another.
#[derive(Debug)]
pub(crate) struct Watchers {
    most: usize,
    readers: VecDeque<Reader>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Reader {
    events: mpsc::Sender<Arc<Event>>,
    sender: RecordSender,
}

impl Watchers {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            readers: VecDeque::new(),
            tasks: JoinSet::new(),
        }
    }

    /// A new reader, who first hears of everything in `snapshot`.
    pub(crate) fn add(&mut self, sender: RecordSender, media: MediaType, snapshot: Arc<Snapshot>) {
        while self.tasks.try_join_next().is_some() {}
        self.readers.retain(|reader| !reader.sender.is_closed());
        while self.readers.len() >= self.most {
            if let Some(oldest) = self.readers.pop_front() {
                oldest.sender.cut();
            }
        }
        let (events, waiting) = mpsc::channel(WAITING);
        self.readers.push_back(Reader {
            events,
            sender: sender.clone(),
        });
        self.tasks.spawn(serve(sender, media, snapshot, waiting));
    }

    /// Tells all readers; one that does not keep up is cut.
    pub(crate) fn publish(&mut self, event: &Arc<Event>) {
        self.readers.retain(|reader| {
            let kept =
                !reader.sender.is_closed() && reader.events.try_send(Arc::clone(event)).is_ok();
            if !kept {
                reader.sender.cut();
            }
            kept
        });
    }
}

async fn serve(
    sender: RecordSender,
    media: MediaType,
    snapshot: Arc<Snapshot>,
    mut waiting: mpsc::Receiver<Arc<Event>>,
) {
    let first = tokio::task::spawn_blocking(move || {
        let subscribed = event::Subscribed {
            get_state: Some(views::state(&snapshot)),
            heartbeat_interval_seconds: Some(HEARTBEAT.as_secs_f64()),
        };
        let event = Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(subscribed),
            ..Event::default()
        };
        encode(&event, media)
    });
    let Ok(first) = first.await else {
        return sender.cut();
    };
    let heartbeat = Event {
        r#type: Some(event::Type::Heartbeat.into()),
        ..Event::default()
    };
    let heartbeat = encode(&heartbeat, media);
    if sender.send(first).is_err() || sender.send(heartbeat.clone()).is_err() {
        return;
    }
    let mut beat = interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let record = tokio::select! {
            event = waiting.recv() => match event {
                Some(event) => encode(&*event, media),
                None => return,
            },
            _ = beat.tick() => heartbeat.clone(),
            () = sender.closed() => return,
        };
        if sender.send(record).is_err() {
            return;
        }
    }
}

//! The readers of the operator API's event stream.
//!
//! All read one log: an event is kept once, however many wait for it, and written once in each
//! form. A reader that falls further behind than the log reaches is cut, since this API has no
//! event that could say so; it subscribes again and is told the state anew.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dcos_proto::master::{Event, event};
use dcos_wire::records::{Feed, Limits, Subscription, frame};
use dcos_wire::{Body, MediaType};
use futures::FutureExt;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::Duration;

use super::http::desk::{Desk, Order, Takes};
use super::http::documents::Document;
use super::http::sight::{Shown, Sight};
use super::shell::encode;
use super::{Config, News, Snapshot, TaskRecord};

/// How often a reader hears from the master.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// What the log holds at most: for a busy cluster the time in which a reader takes in the state of
/// a large one, and memory that a master has to spare. It is empty while all keep up.
const LOG: Limits = Limits {
    records: 256 * 1024,
    bytes: 256 << 20,
};

/// An event in memory is so many times as large as in protobuf, its written forms included.
const EXPANSION: usize = 4;

/// All readers. What they are sent is made in the tasks of their connections.
#[derive(Debug)]
pub(crate) struct Watchers {
    most: usize,
    feed: Feed<Published>,
    desk: Desk,
    config: Arc<Config>,
    /// Held once for every reader who may not see everything.
    limited: Arc<()>,
    /// Wakes readers.
    _pump: JoinSet<()>,
}

/// An event with its written forms, once a reader asked for them.
#[derive(Debug)]
struct Published {
    event: Event,
    /// Whom it is about, for readers who may not see everyone.
    task: Option<TaskRecord>,
    json: OnceLock<Bytes>,
    protobuf: OnceLock<Bytes>,
}

impl Published {
    fn record(&self, media: MediaType) -> Bytes {
        let record = match media {
            MediaType::Json => &self.json,
            MediaType::Protobuf => &self.protobuf,
        };
        record
            .get_or_init(|| frame(&encode(&self.event, media)))
            .clone()
    }
}

impl Watchers {
    /// Within a runtime.
    pub(crate) fn new(desk: Desk, config: Arc<Config>) -> Self {
        let feed = Feed::new(LOG);
        let mut pump = JoinSet::new();
        pump.spawn(feed.clone().run());
        Self {
            most: config.max_subscribers,
            feed,
            desk,
            config,
            limited: Arc::default(),
            _pump: pump,
        }
    }

    /// A new reader, who first hears of everything in `snapshot`; the oldest makes room if there
    /// are too many.
    pub(crate) fn add(&self, media: MediaType, sight: Sight, snapshot: Arc<Snapshot>) -> Body {
        let (desk, config) = (self.desk.clone(), Arc::clone(&self.config));
        sight.hear_of(&snapshot);
        let limited = (!sight.is_whole()).then(|| Arc::clone(&self.limited));
        let seen = sight.clone();
        let opening = async move {
            let order = Order {
                document: Document::Subscribed(media),
                takes: Takes {
                    gzip: false,
                    pieces: false,
                },
                config: &config,
                sight: &seen,
            };
            desk.document_of(order, snapshot).await
        };
        let heartbeat = Event {
            r#type: Some(event::Type::Heartbeat.into()),
            ..Event::default()
        };
        let subscription = Subscription {
            opening: opening.boxed(),
            view: Box::new(move |published: &Published| {
                let task = limited.as_ref().and(published.task.as_deref());
                match sight.event(&published.event, task) {
                    Shown::Whole => Some(published.record(media)),
                    Shown::Part(event) => Some(frame(&encode(&*event, media))),
                    Shown::Hidden => None,
                }
            }),
            heartbeat: (frame(&encode(&heartbeat, media)), HEARTBEAT),
        };
        self.feed.subscribe(self.most, subscription)
    }

    /// Tells all readers.
    pub(crate) fn publish(&self, news: News) {
        if self.feed.readers() == 0 {
            return;
        }
        // Kept for those only who need it: the master writes its own copy as long as another is held.
        let task = (Arc::strong_count(&self.limited) > 1).then(|| news.task());
        let task = task.flatten();
        let event = news.into_event();
        let held = event.encoded_len() + task.as_ref().map_or(0, |task| task.encoded_len());
        let size = held * EXPANSION + size_of::<Event>();
        let published = Published {
            event,
            task,
            json: OnceLock::new(),
            protobuf: OnceLock::new(),
        };
        self.feed.publish(published, size);
    }

    /// How many readers there are.
    pub(crate) fn count(&self) -> usize {
        self.feed.readers()
    }
}

//! The desk where large documents are written: one at a time, each for all who wait for it.
//!
//! A reader never waits for the core, and the core never for a reader. Whoever asks while a
//! document is being written gets the next one, together with all others who asked meanwhile: it
//! shows what was so after the last of them came. Fifty pollers cost what one does, and one core
//! is always left for deciding. Whoever is alone is sent the document while it is being written.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::Version;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use dcos_wire::{Flow, MediaType, Refusal, Rope, accepts_gzip, flow, reply};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::documents::{Document, Writer};
use super::pieces::Pieces;
use super::sight::{Eyes, Sight};
use crate::master::gauges::Gauges;
use crate::master::shell::MasterHandle;
use crate::master::{Config, Snapshot};

/// After how long without readers the texts of the last document are dropped.
const IDLE: Duration = Duration::from_secs(60);

/// How long one reader who is alone may keep the pen by reading slowly, in all.
const PATIENCE: Duration = Duration::from_millis(500);

/// Clones are the same desk.
#[derive(Debug, Clone)]
pub(crate) struct Desk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Who may write a large document.
    pen: Arc<Semaphore>,
    /// Who may write a small one.
    small: Semaphore,
    /// For each document the round that has not begun.
    next: Mutex<HashMap<Wanted, Arc<Round>>>,
    pieces: Mutex<(Pieces, Instant)>,
    gauges: Arc<Gauges>,
}

/// A document, whether it is compressed, and for whose eyes.
type Wanted = (Document, bool, Eyes);

/// One writing of a document.
type Round = OnceCell<Rope>;

/// In which form a reader takes a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Takes {
    /// Compressed.
    pub(crate) gzip: bool,
    /// While it is being written. HTTP/1.0 has no way to tell an end from a connection that broke.
    pub(crate) pieces: bool,
}

impl<S: Sync> FromRequestParts<S> for Takes {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self {
            gzip: accepts_gzip(&parts.headers),
            pieces: parts.version > Version::HTTP_10,
        })
    }
}

/// What a reader wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) document: Document,
    pub(crate) takes: Takes,
    pub(crate) config: &'a Arc<Config>,
    pub(crate) sight: &'a Sight,
}

impl Order<'_> {
    fn wanted(self) -> Wanted {
        (self.document, self.takes.gzip, self.sight.eyes())
    }
}

/// A document for a reader.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is there.
    Whole(Rope),
    /// It is being written.
    Flowing(Flow),
}

impl Written {
    /// As an answer; `gzipped` says that it is compressed.
    pub(crate) fn into_response(self, media: MediaType, gzipped: bool) -> Response {
        match self {
            Self::Whole(rope) => reply::rope(media, rope, gzipped),
            Self::Flowing(flow) => reply::message(media, flow.into_body()),
        }
    }

    /// All of it.
    pub(crate) async fn into_bytes(self) -> Result<Bytes, Refusal> {
        match self {
            Self::Whole(rope) => Ok(rope.to_bytes()),
            Self::Flowing(flow) => flow.into_bytes().await.ok_or_else(unwritten),
        }
    }
}

fn unwritten() -> Refusal {
    Refusal::unavailable("The answer could not be written")
}

/// Why a round has no document.
enum Missing {
    Refused(Refusal),
    /// There is one reader only, who gets the pen.
    Alone(OwnedSemaphorePermit),
}

impl From<Refusal> for Missing {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Desk {
    pub(crate) fn new(gauges: Arc<Gauges>) -> Self {
        Self(Arc::new(Shared {
            pen: Arc::new(Semaphore::new(1)),
            small: Semaphore::new(2),
            next: Mutex::default(),
            pieces: Mutex::new((Pieces::default(), Instant::now())),
            gauges,
        }))
    }

    /// The document as it is now.
    pub(crate) async fn document(
        &self,
        order: Order<'_>,
        master: &MasterHandle,
    ) -> Result<Written, Refusal> {
        let round = self.join(order);
        let write = || async {
            let pen = Arc::clone(&self.0.pen).acquire_owned().await;
            let pen = pen.map_err(|_| Refusal::unavailable("the master has stopped"))?;
            let readers = self.close(order, &round);
            let flows = order.takes.pieces && !order.takes.gzip && order.document.can_flow();
            if readers == 1 && flows {
                return Err(Missing::Alone(pen));
            }
            let snapshot = master.snapshot().await.map_err(Refusal::from)?;
            let rope = self.written(order, snapshot).await;
            rope.ok_or_else(|| unwritten().into())
        };
        match round.get_or_try_init(write).await {
            Ok(rope) => Ok(Written::Whole(rope.clone())),
            Err(Missing::Alone(pen)) => {
                let snapshot = master.snapshot().await?;
                let flow = self.flowing(order, snapshot, pen).await;
                flow.map(Written::Flowing).ok_or_else(unwritten)
            }
            Err(Missing::Refused(refusal)) => Err(refusal),
        }
    }

    /// The round that has not begun. Those who see only a part share it with their like.
    fn join(&self, order: Order<'_>) -> Arc<Round> {
        let key = order.wanted();
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        // Readers that left before their round began.
        next.retain(|_, round| Arc::strong_count(round) > 1);
        let shared = usize::from(next.contains_key(&key));
        self.0.gauges.shared_documents.add(shared);
        Arc::clone(next.entry(key).or_default())
    }

    /// Nobody joins from now on, who might have seen what this round does not show. How many
    /// readers it has.
    fn close(&self, order: Order<'_>, round: &Arc<Round>) -> usize {
        let key = order.wanted();
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.get(&key).is_some_and(|open| Arc::ptr_eq(open, round)) {
            next.remove(&key);
        }
        Arc::strong_count(round)
    }

    /// A document of a moment that was chosen by the caller; `None` if it can't be written.
    pub(crate) async fn document_of(
        &self,
        order: Order<'_>,
        snapshot: Arc<Snapshot>,
    ) -> Option<Rope> {
        let _pen = self.0.pen.acquire().await.ok()?;
        self.written(order, snapshot).await
    }

    async fn written(&self, order: Order<'_>, snapshot: Arc<Snapshot>) -> Option<Rope> {
        let (document, gzip) = (order.document, order.takes.gzip);
        let write = self.with_pieces(order, snapshot, move |from, pieces| {
            let rope = document.write(from, pieces);
            if gzip { rope.gzip() } else { rope }
        });
        tokio::task::spawn_blocking(write).await.ok()
    }

    /// A document that is being written from now on; `None` if it can't be.
    async fn flowing(
        &self,
        order: Order<'_>,
        snapshot: Arc<Snapshot>,
        pen: OwnedSemaphorePermit,
    ) -> Option<Flow> {
        let document = order.document;
        // There may be as many kinds of readers who see only a part as there are principals, and together they would keep
        // the pen for long.
        let whole = order.sight.is_whole();
        let (writer, flow) = flow(if whole { PATIENCE } else { Duration::ZERO });
        let write = self.with_pieces(order, snapshot, move |from, pieces| {
            document.flow(writer, from, pieces);
            drop(pen);
        });
        tokio::task::spawn_blocking(write);
        flow.begun().await
    }

    /// What `write` makes of a moment, with the texts that are kept for readers of its kind.
    fn with_pieces<T, F>(
        &self,
        order: Order<'_>,
        snapshot: Arc<Snapshot>,
        write: F,
    ) -> impl FnOnce() -> T + use<T, F>
    where
        F: FnOnce(&Writer<'_>, &mut Pieces) -> T,
    {
        let (shared, config) = (Arc::clone(&self.0), Arc::clone(order.config));
        let sight = order.sight.clone();
        move || {
            let from = Writer {
                snapshot: &snapshot,
                config: &config,
                sight: &sight,
            };
            if sight.is_whole() {
                let mut kept = shared.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                kept.1 = Instant::now();
                write(&from, &mut kept.0)
            } else {
                write(&from, &mut Pieces::default())
            }
        }
    }

    /// Waits for a place among the few small documents that are written at a time.
    pub(crate) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.0.small.acquire().await.ok()
    }

    /// Drops what is kept for readers when there are none any more. Never ends.
    pub(crate) async fn tidy(&self) {
        let mut pause = tokio::time::interval(IDLE / 2);
        loop {
            pause.tick().await;
            // If it is locked, somebody reads.
            if let Ok(mut kept) = self.0.pieces.try_lock()
                && kept.1.elapsed() > IDLE
            {
                kept.0.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dcos_security::{Acls, Authorizer, Principal};

    use super::*;

    const RULES: &str = r#"{"view_tasks": [
        {"principals": {"values": ["guest", "visitor"]}, "users": {"type": "NONE"}}]}"#;

    #[tokio::test]
    async fn a_round_is_shared_by_those_who_see_the_same() {
        let desk = Desk::new(Arc::default());
        let authorizer: Arc<dyn Authorizer> = Arc::new(RULES.parse::<Acls>().unwrap());
        let config = Arc::new(Config::default());
        let sight = |name| Sight::of(&authorizer, Some(&Principal::new(name)));
        let sights = ["admin", "operator", "guest", "guest", "visitor"].map(sight);
        let orders = sights.each_ref().map(|sight| Order {
            document: Document::State,
            takes: Takes {
                gzip: false,
                pieces: true,
            },
            config: &config,
            sight,
        });
        let rounds = orders.map(|order| desk.join(order));
        let same = |a: usize, b: usize| Arc::ptr_eq(&rounds[a], &rounds[b]);
        assert!(same(0, 1), "nothing is hidden from either");
        assert!(same(2, 3), "the same principal");
        assert!(!same(0, 2) && !same(2, 4), "others may see something else");

        // One more reader of each round than there were: this function's.
        assert_eq!(desk.close(orders[2], &rounds[2]), 2);
        let next = desk.join(orders[3]);
        assert!(!Arc::ptr_eq(&next, &rounds[3]), "it has begun");
        // Whoever leaves before a round begins leaves nothing.
        drop(next);
        drop(rounds);
        drop(desk.join(orders[0]));
        assert_eq!(desk.0.next.lock().unwrap().len(), 1);
    }
}

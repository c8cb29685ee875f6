//! The desk where large documents are written: one at a time, each for all who wait for it.
//!
//! A reader never waits for the core, and the core never for a reader. Whoever asks while a
//! document is being written gets the next one, together with all others who asked meanwhile: it
//! shows what was so after the last of them came. Fifty pollers cost what one does, and one core
//! is always left for deciding.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dcos_wire::{Refusal, Rope};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::documents::{Document, Writer};
use super::pieces::Pieces;
use super::sight::Sight;
use crate::master::gauges::Gauges;
use crate::master::shell::MasterHandle;
use crate::master::{Config, Snapshot};

/// After how long without readers the texts of the last document are dropped.
const IDLE: Duration = Duration::from_secs(60);

/// Clones are the same desk.
#[derive(Debug, Clone)]
pub(crate) struct Desk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Who may write a large document.
    pen: Semaphore,
    /// Who may write a small one.
    small: Semaphore,
    /// For each document the round that has not begun.
    next: Mutex<HashMap<(Document, bool), Arc<Round>>>,
    pieces: Mutex<(Pieces, Instant)>,
    gauges: Arc<Gauges>,
}

/// One writing of a document.
type Round = OnceCell<Rope>;

impl Desk {
    pub(crate) fn new(gauges: Arc<Gauges>) -> Self {
        Self(Arc::new(Shared {
            pen: Semaphore::new(1),
            small: Semaphore::new(2),
            next: Mutex::default(),
            pieces: Mutex::new((Pieces::default(), Instant::now())),
            gauges,
        }))
    }

    /// The document as it is now, compressed if `gzip`.
    pub(crate) async fn document(
        &self,
        document: Document,
        gzip: bool,
        master: &MasterHandle,
        config: &Arc<Config>,
        sight: &Sight,
    ) -> Result<Rope, Refusal> {
        let key = (document, gzip);
        let round = if sight.is_whole() {
            let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
            let shared = usize::from(next.contains_key(&key));
            self.0.gauges.shared_documents.add(shared);
            Arc::clone(next.entry(key).or_default())
        } else {
            Arc::default()
        };
        let write = || async {
            let closed = |_| Refusal::unavailable("the master has stopped");
            let _pen = self.0.pen.acquire().await.map_err(closed)?;
            if sight.is_whole() {
                // Who comes from now on might have seen what this round does not show.
                let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
                next.remove(&key);
            }
            let snapshot = master.snapshot().await?;
            let rope = self.written(document, snapshot, config, sight, gzip).await;
            rope.ok_or_else(|| Refusal::unavailable("The answer could not be written"))
        };
        round.get_or_try_init(write).await.cloned()
    }

    /// A document of a moment that was chosen by the caller; `None` if it can't be written.
    pub(crate) async fn document_of(
        &self,
        document: Document,
        snapshot: Arc<Snapshot>,
        config: &Arc<Config>,
        sight: &Sight,
    ) -> Option<Rope> {
        let _pen = self.0.pen.acquire().await.ok()?;
        self.written(document, snapshot, config, sight, false).await
    }

    async fn written(
        &self,
        document: Document,
        snapshot: Arc<Snapshot>,
        config: &Arc<Config>,
        sight: &Sight,
        gzip: bool,
    ) -> Option<Rope> {
        let (shared, config, sight) = (Arc::clone(&self.0), Arc::clone(config), sight.clone());
        let written = tokio::task::spawn_blocking(move || {
            let from = Writer {
                snapshot: &snapshot,
                config: &config,
                sight: &sight,
            };
            let rope = if sight.is_whole() {
                let mut kept = shared.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                kept.1 = Instant::now();
                document.write(&from, &mut kept.0)
            } else {
                document.write(&from, &mut Pieces::default())
            };
            if gzip { rope.gzip() } else { rope }
        });
        written.await.ok()
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

//! The trait [`Election`] and the words it is spoken in.

mod memory;
mod single;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{ElectionError, Lease};
pub use memory::MemoryElection;
pub use single::SingleElection;

/// Decides who leads, one at a time.
///
/// # Contract
/// 1. **One leader a term.** Terms only grow, also across restarts; no term is given twice.
/// 2. **Told at once.** When a leadership ends, its [`Leadership::lost`] resolves; but the deposed may learn late,
///    which is why the store fences ([`crate::StateStore`], promise 5), and why there is a [`Lease`], which
///    is over before another leads, also for a process that was frozen.
/// 3. **Resigning is dropping.** Dropping a [`Leadership`] lets the next candidate in.
/// 4. **Dropping a campaign** withdraws the candidate.
///
/// # Implementing
/// Run `dcos_store::testkit::election` (feature `testkit`) in your tests.
#[async_trait]
pub trait Election: fmt::Debug + Send + Sync + 'static {
    /// Waits until this candidate leads.
    ///
    /// `candidate` is what the others will be told of it, for instance where it can be reached.
    ///
    /// # Errors
    /// If the election itself cannot be held; the candidate does not lead then.
    async fn campaign(&self, candidate: Bytes) -> Result<Leadership, ElectionError>;

    /// The present leader, if any, and every later one (quick changes may be skipped over).
    fn observe(&self) -> watch::Receiver<Option<Leader>>;

    /// What all who stand said of themselves, now and later: the leader first, then the others in the order in which they
    /// would follow. An election whose candidates are unknown to each other tells of the leader only. One that is
    /// withdrawn or dead is told for as long as it could still be elected.
    fn candidates(&self) -> watch::Receiver<Vec<Bytes>>;
}

/// Tells what is news.
pub(crate) fn tell<T: PartialEq>(listeners: &watch::Sender<T>, now: T) {
    listeners.send_if_modified(|known| {
        let news = *known != now;
        *known = now;
        news
    });
}

/// The number of a leadership; a later leader has a higher one. The first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Under whose leadership a transaction is done: an office (`master`, `marathon`) and a term of it.
///
/// Offices are independent of one another, so that several services can share a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// What is led.
    pub office: Arc<str>,
    /// Which leadership of it.
    pub term: Term,
}

impl Fence {
    /// The fence of `term` of `office`.
    pub fn new(office: impl Into<Arc<str>>, term: Term) -> Self {
        Self {
            office: office.into(),
            term,
        }
    }
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Since this term.
    pub term: Term,
    /// What the leader said of itself when it campaigned.
    pub candidate: Bytes,
}

/// Being the leader, until it is lost or dropped.
#[derive(Debug)]
pub struct Leadership {
    fence: Fence,
    lost: CancellationToken,
    lease: Lease,
    _resign: Box<dyn fmt::Debug + Send + Sync>,
}

impl Leadership {
    /// A leadership that cancels `lost` when it ends; dropping `resign` must end it.
    pub fn new(
        fence: Fence,
        lost: CancellationToken,
        resign: impl fmt::Debug + Send + Sync + 'static,
    ) -> Self {
        Self {
            fence,
            lease: Lease::endless(lost.clone()),
            lost,
            _resign: Box::new(resign),
        }
    }

    /// The same, for an election that confirms its leader from time to time.
    #[must_use]
    pub fn with_lease(mut self, lease: Lease) -> Self {
        self.lease = lease;
        self
    }

    /// To be asked right before acting: whether nobody else can lead by now.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// What transactions of this leadership carry.
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// The number of this leadership.
    pub fn term(&self) -> Term {
        self.fence.term
    }

    /// Waits until this leadership has ended. Whoever led must stop deciding then.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// The same as a token, to hand to tasks that must end with the leadership.
    pub fn lost_token(&self) -> CancellationToken {
        self.lost.clone()
    }
}

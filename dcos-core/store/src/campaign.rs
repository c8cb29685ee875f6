//! What the elections of both engines share: how often they look, how a leader resigns, and how a candidate withdraws.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Between two tries of an election to reach the servers.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// How often an election reads the order of candidates even if nothing was told.
pub(crate) const REVIEW: Duration = Duration::from_secs(5);

/// Ends a leadership when it is dropped: whoever keeps it then gives up what it stands on.
#[derive(Debug)]
pub(crate) struct Resign {
    lost: CancellationToken,
    _resigned: DropGuard,
}

impl Resign {
    /// Cancels both when it is dropped.
    pub(crate) fn new(lost: &CancellationToken, resigned: CancellationToken) -> Self {
        Self {
            lost: lost.clone(),
            _resigned: resigned.drop_guard(),
        }
    }
}

impl Drop for Resign {
    fn drop(&mut self) {
        self.lost.cancel();
    }
}

/// The candidates of an ensemble that stand, or are being withdrawn; all clones of the ensemble share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Candidacies(TaskTracker);

impl Candidacies {
    /// One that stands until this is dropped.
    pub(crate) fn token(&self) -> TaskTrackerToken {
        self.0.token()
    }

    /// Runs what keeps a candidate or withdraws it, if there is still a runtime to do so.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = Handle::try_current() {
            self.0.spawn_on(work, &runtime);
        }
    }

    /// Returns once none is left.
    pub(crate) async fn over(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

/// They say nothing of which ensemble it is.
impl PartialEq for Candidacies {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Candidacies {}

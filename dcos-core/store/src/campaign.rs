//! What the elections of both engines share: how often they look, and how a leader resigns.

use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

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

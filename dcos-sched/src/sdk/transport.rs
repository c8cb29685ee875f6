//! The plug point between a driver and a master: how calls and events travel.

use std::fmt;

use async_trait::async_trait;
use dcos_proto::scheduler::{Call, Event};
use tokio::sync::mpsc;

use crate::why::{Explanations, Question};

/// Carries a framework's calls to the leading master and its events back.
///
/// # Contract
/// 1. [`subscribe`](Self::subscribe) opens a new stream; an older one of the same framework ends.
/// 2. The first event of a stream is SUBSCRIBED, and events arrive in the order the master sent
///    them. The stream ends when the link breaks or the master closes it.
/// 3. [`call`](Self::call) returns once the master has accepted the call; what comes of it arrives
///    as events. Two calls of which the second starts after the first returned reach the master in
///    that order.
/// 4. Finding the leading master, and finding it again, is the transport's business: each
///    `subscribe` starts from what it was configured with.
///
/// # Source
/// Mesos 1.11 `docs/scheduler-http-api.md`: `POST /api/v1/scheduler` and its `Mesos-Stream-Id`.
#[async_trait]
pub trait SchedulerTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends the SUBSCRIBE call and opens the stream of events.
    ///
    /// # Errors
    /// [`TransportError`]; no stream is open then.
    async fn subscribe(&self, call: Call) -> Result<Subscription, TransportError>;

    /// Sends any other call in the name of the stream `stream_id`.
    ///
    /// # Errors
    /// [`TransportError`]. After [`TransportError::Unreachable`] the master may have taken the call
    /// nevertheless.
    async fn call(&self, stream_id: &str, call: Call) -> Result<(), TransportError>;

    /// Asks why something is not offered. Only masters of this project answer.
    ///
    /// # Errors
    /// [`TransportError`]; [`TransportError::Refused`] if the master has no answer.
    async fn why(&self, question: &Question) -> Result<Explanations, TransportError> {
        let _ = question;
        Err(TransportError::Refused {
            status: 501,
            reason: "this transport cannot ask why".to_owned(),
        })
    }
}

/// An open stream of events.
#[derive(Debug)]
pub struct Subscription {
    /// What the master named the stream.
    pub stream_id: String,
    /// The events. Closed when the stream ends.
    pub events: mpsc::Receiver<Event>,
}

/// Why a call did not reach a master, or was refused by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No master answered. Trying again later may help.
    #[error("no master can be reached at {target}")]
    Unreachable {
        /// Where it was looked for.
        target: String,
        /// What went wrong at the last try.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A master answered that it can't serve now (HTTP 503, or a redirect that leads nowhere).
    /// Trying again later may help.
    #[error("the master is not ready: {reason}")]
    NotReady {
        /// What the master said.
        reason: String,
    },
    /// The master refused the call; sending it again unchanged will not help.
    #[error("the master refused the call with status {status}: {reason}")]
    Refused {
        /// The HTTP status code, also where no HTTP is involved.
        status: u16,
        /// What the master said.
        reason: String,
    },
    /// There is no open stream to speak on.
    #[error("not subscribed")]
    NotSubscribed,
}

impl TransportError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::NotReady { .. } | Self::NotSubscribed
        )
    }
}

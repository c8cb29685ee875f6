//! [`Shortcut`]: somebody in front of HTTP's whole machinery who knows what is asked most and answers that by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::peer::Peer;
use super::timed::PARKED_AFTER;
use super::{ServerConfig, timed};
use crate::io::Stream;

/// Serves the plain part of what comes on connections; see [`Server::shortcut`](super::Server::shortcut).
///
/// # Contract
/// 1. It keeps the limits of [`Visit::limits`] itself: nobody else watches the clock while it has a connection.
/// 2. What it does not take for plain it leaves, unanswered, with every byte it has read of it and since when it is awaited
///    ([`Left::Unfit`]); HTTP's machinery serves that and what follows, until the connection is silent for `PAUSE`. A head
///    has one limit of time over both.
/// 3. Once [`Visit::stop`] is cancelled, it ends connections between requests, and others behind their answer.
/// 4. Its future may be dropped at any time: the connection is cut.
pub trait Shortcut: fmt::Debug + Send + Sync + 'static {
    /// Serves a connection for as long as it can.
    fn serve(self: Arc<Self>, visit: Visit) -> BoxFuture<'static, Left>;
}

impl dyn Shortcut {
    /// After so much silence between requests a connection is left as [`Left::Silent`], where the idle timeout is longer:
    /// of thousands most are silent, and cost little then.
    pub const PAUSE: Duration = PARKED_AFTER;
    /// What is answered to who does not send a head to its end in time.
    pub const LATE: &'static [u8] = timed::LATE;
}

/// A connection that a [`Shortcut`] may serve.
#[derive(Debug)]
pub struct Visit {
    /// The connection, TLS taken off.
    pub stream: Stream,
    /// What was read of it already; nothing if it is new.
    pub first: Vec<u8>,
    /// Who is at the other end.
    pub peer: Peer,
    /// What that one may cost.
    pub limits: Arc<ServerConfig>,
    /// When the server is asked to stop.
    pub stop: CancellationToken,
}

/// How a [`Shortcut`] left a connection.
#[derive(Debug)]
pub enum Left {
    /// It has ended, or must end here.
    Ended,
    /// It is between requests, of which the next is awaited.
    Silent(Stream),
    /// These bytes came, and nothing was answered to them. The rest of their head, if it is not there, is awaited since then.
    Unfit(Stream, Vec<u8>, Instant),
}

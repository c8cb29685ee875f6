//! One connection, from the TLS handshake to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::Service;

use super::handler::Handler;
use super::peer::Peer;
use super::places::Places;
use super::shortcut::{Left, Shortcut, Visit};
use super::timed::{Activity, PARKED_AFTER, Parking, Timed};
use super::{Aside, ServerConfig};
use crate::io::Stream;
use crate::libprocess::Messenger;
use crate::libprocess::intake::{self, Foreign};

pub(super) struct Connection<S> {
    pub(super) peer: Peer,
    pub(super) service: S,
    pub(super) config: Arc<ServerConfig>,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) downgrade: bool,
    pub(super) messages: Option<Messenger>,
    pub(super) aside: Option<Aside>,
    pub(super) shortcut: Option<Arc<dyn Shortcut>>,
    pub(super) places: Places,
    pub(super) shutdown: CancellationToken,
}

/// The first byte of a connection with TLS.
const HANDSHAKE: u8 = 0x16;

/// The first byte of a stream, and the stream with that byte still in it.
async fn peek(mut stream: Stream) -> std::io::Result<(u8, Stream)> {
    let first = stream.read_u8().await?;
    let (reader, writer) = tokio::io::split(stream);
    let reader = std::io::Cursor::new([first]).chain(reader);
    Ok((first, Stream::new(tokio::io::join(reader, writer))))
}

/// Requests a client of HTTP/2 may have open at once; Mesos's clients use a handful.
const MAX_STREAMS: u32 = 256;

impl<S> Connection<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    /// Serves the connection until it ends by itself. Dropped, it cuts it.
    pub(super) async fn serve(mut self, mut stream: Stream) {
        if self.acceptor.is_some() && self.downgrade {
            let timeout = self.config.first_byte_timeout;
            let Ok(Ok((first, whole))) = tokio::time::timeout(timeout, peek(stream)).await else {
                return;
            };
            stream = whole;
            if first != HANDSHAKE {
                self.acceptor = None;
            }
        }
        if let Some(acceptor) = self.acceptor.take() {
            // Large, and over soon.
            let handshake = Box::pin(acceptor.accept(stream));
            match tokio::time::timeout(self.config.header_timeout, handshake).await {
                Ok(Ok(encrypted)) => {
                    let shown = encrypted.get_ref().1.peer_certificates();
                    self.peer.certificates = shown.unwrap_or_default().into();
                    stream = Stream::new(encrypted);
                }
                Ok(Err(error)) => {
                    tracing::debug!(peer = ?self.peer.address, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => return,
            }
        }
        let foreign = match &self.messages {
            Some(messenger) => {
                let (peer, config) = (&self.peer, &self.config);
                Box::pin(intake::run(messenger, peer, config, stream, &self.shutdown)).await
            }
            None => Some(Foreign { stream, line: None }),
        };
        let Some(Foreign { stream, line }) = foreign else {
            return;
        };
        match self.aside.take() {
            Some(aside) if line.is_some_and(|line| (aside.chosen)(&line)) => {
                let answering = aside.runtime.spawn(self.answer(stream));
                // Whoever cuts this connection drops the handle.
                let _ended = AbortOnDropHandle::new(answering).await;
            }
            _ => self.answer(stream).await,
        }
    }

    /// Answers requests. Between them, what HTTP needs is given back after a while of silence: of thousands of
    /// connections, most are silent.
    async fn answer(self, mut stream: Stream) {
        let activity = Arc::new(Activity::default());
        let seat = self.places.seat();
        let mut first = Vec::new();
        loop {
            let left = match &self.shortcut {
                Some(shortcut) if seat.is_found() => {
                    let visit = self.visit(stream, first);
                    Arc::clone(shortcut).serve(visit).await
                }
                _ => Left::Unfit(stream, first, Instant::now()),
            };
            stream = match left {
                Left::Ended => return,
                Left::Silent(stream) => stream,
                Left::Unfit(stream, first, since) => {
                    let parking = Parking::default();
                    let (known, config) = (Arc::clone(&activity), Arc::clone(&self.config));
                    let said = (first, since);
                    let io = Timed::new(stream, said, known, config, parking.clone());
                    let handler = Handler {
                        service: self.service.clone(),
                        peer: self.peer.clone(),
                        config: Arc::clone(&self.config),
                        activity: Arc::clone(&activity),
                        seat: seat.clone(),
                    };
                    // Apart from what stays while the connection is parked.
                    let whole = Box::pin(speak(io, handler, self.shutdown.clone())).await;
                    match parking.take() {
                        Some(stream) if whole => stream,
                        _ => return,
                    }
                }
            };
            let mut bytes = [0; 16];
            let patience = self.config.idle_timeout.saturating_sub(PARKED_AFTER);
            let next = async {
                if activity.is_patient() {
                    return stream.read(&mut bytes).await.ok();
                }
                let next = tokio::time::timeout(patience, stream.read(&mut bytes));
                next.await.ok()?.ok()
            };
            let read = tokio::select! {
                read = next => read,
                () = self.shutdown.cancelled() => None,
            };
            let length = read.unwrap_or_default();
            if length == 0 {
                let _ = stream.shutdown().await;
                return;
            }
            first = bytes[..length].to_vec();
        }
    }

    fn visit(&self, stream: Stream, first: Vec<u8>) -> Visit {
        Visit {
            stream,
            first,
            peer: self.peer.clone(),
            limits: Arc::clone(&self.config),
            stop: self.shutdown.clone(),
        }
    }
}

/// HTTP on a stream, until it ends or is parked; says whether it ended between requests.
async fn speak<S>(io: Timed, handler: Handler<S>, shutdown: CancellationToken) -> bool
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (address, config) = (handler.peer.address, Arc::clone(&handler.config));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Without `pipeline_flush`: it holds the 400 for a broken request back for ever.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(config.head_limit.max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(config.idle_timeout);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), handler));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended
        .inspect_err(|error| tracing::debug!(peer = ?address, %error, "connection broke"))
        .is_ok()
}

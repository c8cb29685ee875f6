//! One request: limits around it, the service inside, compression behind it.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, Request, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tower::{Service, ServiceExt};

use super::ServerConfig;
use super::body::{BodyError, RequestBody, Unhurried};
use super::peer::Peer;
use super::places::Seat;
use super::timed::{Activity, Busy};
use crate::{Refusal, accepts_gzip, gzip, libprocess};

pub(super) struct Handler<S> {
    pub(super) service: S,
    pub(super) peer: Peer,
    pub(super) config: Arc<ServerConfig>,
    pub(super) activity: Arc<Activity>,
    /// The client's; messages are taken in without one.
    pub(super) seat: Seat,
}

impl<S> hyper::service::Service<Request<Incoming>> for Handler<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let busy = self.activity.begin();
        let activity = Arc::clone(&self.activity);
        let is_message = libprocess::is_message(request.method(), request.headers());
        let limit = if is_message {
            self.activity.be_patient();
            self.config.message_limit
        } else {
            self.config.body_limit
        };
        let gzip = self.config.gzip && accepts_gzip(request.headers());
        let old = request.version() < Version::HTTP_11;
        let unhurried = Unhurried::new(&self.activity);
        let answering = match announced_length(&request) {
            _ if !is_message && !self.seat.is_found() => {
                Err(Refusal::unavailable("There are too many connections"))
            }
            Ok(length) if length <= limit => {
                let request = self.limited(request, limit, &unhurried);
                Ok(run(self.service.clone(), request))
            }
            Ok(_) => {
                let error = BodyError::TooLarge { limit };
                Err(Refusal::new(error.status(), error.to_string()))
            }
            Err(refusal) => Err(refusal),
        };
        Box::pin(async move {
            let mut response = match answering {
                Ok(answering) => answering.await,
                Err(refusal) => closing(refusal.into_response()),
            };
            if let Some(status) = unhurried.failure()
                && !response.status().is_success()
            {
                let text = status.canonical_reason().unwrap_or_default();
                response = closing(Refusal::new(status, text).into_response());
            }
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                activity.leave();
            }
            if gzip && !old {
                response = Box::pin(gzip::compress(response)).await;
            }
            Ok(response.map(|body| ResponseBody {
                body,
                _unhurried: unhurried,
                _busy: busy,
            }))
        })
    }
}

impl<S> Handler<S> {
    fn limited(
        &self,
        request: Request<Incoming>,
        limit: u64,
        unhurried: &Unhurried,
    ) -> Request<Body> {
        let timeout = self.config.body_timeout;
        let mut request = request.map(|body| {
            if body.is_end_stream() {
                return Body::empty();
            }
            Body::new(RequestBody::new(body, limit, timeout, unhurried.clone()))
        });
        request.extensions_mut().insert(unhurried.clone());
        // The limit above holds for every body; axum's own of 2 MB would hide it.
        DefaultBodyLimit::disable().apply(&mut request);
        request.extensions_mut().insert(self.peer.clone());
        request
    }
}

/// Runs the service; a handler that panics costs its own request only.
async fn run<S>(service: S, request: Request<Body>) -> Response
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    let uri = request.uri().clone();
    let answered = AssertUnwindSafe(service.oneshot(request)).catch_unwind();
    match answered.await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            let path = uri.path();
            tracing::error!(path, "the handler of a request panicked");
            let text = "the server failed to answer this request";
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

/// The size the client announces; 0 if it announces none.
fn announced_length<B>(request: &Request<B>) -> Result<u64, Refusal> {
    let Some(length) = request.headers().get(CONTENT_LENGTH) else {
        return Ok(0);
    };
    let length = length.to_str().ok().and_then(|length| length.parse().ok());
    length.ok_or_else(|| Refusal::bad_request("Expecting 'Content-Length' to be a number"))
}

/// The answer, and the connection ends behind it: what is left of the body is not worth reading.
fn closing(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// Keeps the connection marked as busy until the last byte is handed over.
pub(super) struct ResponseBody {
    body: Body,
    /// Before the next: whoever is told that the answer has ended shall find its allowance ended.
    _unhurried: Unhurried,
    _busy: Busy,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

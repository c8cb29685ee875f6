//! A request on its way to somebody behind the router, and the answer back. Nothing is held: both stream.

use std::pin::pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use dcos_wire::{Peer, Unhurried};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, UPGRADE};
use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode, Version};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::body::{Passing, limited};
use crate::decide::{Forward, OFF_LIMITS, Target};
use crate::headers;
use crate::location::relocate;
use crate::own::text;
use crate::pool::Carried;
use crate::upstream::{SendError, Upstreams};
use crate::world::Scheme;

/// What sends requests on.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) upstreams: Upstreams,
    /// Connections that became something else, which are cut when the router ends, and those that send bodies.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Where a request came from.
pub(crate) struct Origin<'a> {
    pub(crate) host: &'a Authority,
    pub(crate) peer: &'a Peer,
    pub(crate) scheme: Scheme,
}

impl Proxy {
    /// Sends a request on, and gives back what is answered.
    pub(crate) async fn forward(
        &self,
        request: Request<Body>,
        forward: &Forward,
        origin: &Origin<'_>,
        passing: &Arc<Passing>,
    ) -> Response {
        let (mut parts, body) = request.into_parts();
        if let Some(length) = announced(&parts.headers)
            && length > forward.limit
        {
            return too_large();
        }
        let wanted = headers::upgrade(&parts).filter(|_| forward.upgrades);
        let client = wanted
            .as_ref()
            .and_then(|_| parts.extensions.remove::<OnUpgrade>());
        let upgrades = client.is_some();
        let unhurried = parts.extensions.remove::<Unhurried>();
        if let Some(unhurried) = &unhurried
            && is_conversation(forward, &parts.headers)
        {
            unhurried.allow();
        }
        headers::onward(
            &mut parts.headers,
            origin.host,
            origin.peer.ip(),
            origin.scheme,
            forward,
        );
        if let (Some(protocol), Some(_)) = (wanted, &client) {
            parts.headers.insert(UPGRADE, protocol);
            parts
                .headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
        let empty = body.is_end_stream();
        let body = if empty {
            Body::empty()
        } else {
            limited(body, forward.limit, passing)
        };
        // The client refuses a version it does not speak.
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let patience = Duration::from_secs(forward.ways.patience.into());
        let request = Request::from_parts(parts, body);
        let to = &self.upstreams;
        let deadline = Instant::now() + patience;
        let sending = to.send(request, &forward.to, &forward.path, upgrades, deadline);
        let answered = if empty && !upgrades {
            sending.await
        } else {
            let seen = (!empty).then_some(passing);
            // Of its own: the clock would make every request larger.
            Box::pin(in_time(sending, patience, seen)).await
        };
        let mut answer = match answered {
            Ok(answer) => answer,
            Err(SendError::Late) => {
                return late();
            }
            Err(_) if passing.is_too_large() => return too_large(),
            Err(error) => return failed(&forward.to, &error),
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match (client, unhurried) {
                (Some(client), Some(unhurried)) => self.tunnel(client, answer, &unhurried),
                _ => text(
                    StatusCode::BAD_GATEWAY,
                    "502 Bad Gateway: nobody asked for another protocol",
                ),
            };
        }
        headers::back(answer.headers_mut(), forward);
        let location = answer
            .headers()
            .get(LOCATION)
            .and_then(|location| std::str::from_utf8(location.as_bytes()).ok());
        let location = location
            .and_then(|location| relocate(location, &forward.redirects, origin.host.as_str()))
            .and_then(|location| HeaderValue::try_from(location).ok());
        if let Some(location) = location {
            answer.headers_mut().insert(LOCATION, location);
        }
        // What this connection speaks is for hyper to say.
        *answer.version_mut() = Version::HTTP_11;
        answer.extensions_mut().clear();
        answer.map(Body::new)
    }

    /// Both sides have agreed on another protocol: from here on bytes are carried.
    fn tunnel(
        &self,
        client: OnUpgrade,
        mut answer: http::Response<Carried>,
        unhurried: &Unhurried,
    ) -> Response {
        unhurried.hand_over();
        let server = hyper::upgrade::on(&mut answer);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let both = async {
                let (client, server) = futures::try_join!(client, server)?;
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                let carried = copy_bidirectional(&mut client, &mut server).await;
                Ok::<_, hyper::Error>(carried)
            };
            tokio::select! {
                ended = both => debug!(?ended, "a tunnel ended"),
                () = stop.cancelled() => {}
            }
        });
        let protocol = answer.headers().get(UPGRADE).cloned();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let mut kept = std::mem::take(answer.headers_mut());
        for name in [CONTENT_LENGTH, http::header::TRANSFER_ENCODING] {
            kept.remove(name);
        }
        kept.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(protocol) = protocol {
            kept.insert(UPGRADE, protocol);
        }
        *response.headers_mut() = kept;
        response
    }
}

/// The answer, unless `patience` passes after the last piece of the request's body.
async fn in_time<T>(
    answer: impl Future<Output = Result<T, SendError>>,
    patience: Duration,
    passing: Option<&Arc<Passing>>,
) -> Result<T, SendError> {
    let mut answer = pin!(answer);
    let mut wait = patience;
    loop {
        if let Ok(answered) = tokio::time::timeout(wait, answer.as_mut()).await {
            return answered;
        }
        wait = passing
            .map(|passing| passing.left(patience))
            .unwrap_or_default();
        if wait.is_zero() {
            return Err(SendError::Late);
        }
    }
}

/// How long the body is said to be.
fn announced(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the body goes on for as long as somebody types: only the operator API of masters and agents has such
/// (`ATTACH_CONTAINER_INPUT`, which is not answered before it ends).
fn is_conversation(forward: &Forward, headers: &http::HeaderMap) -> bool {
    let path = forward.path.split('?').next().unwrap_or_default();
    if !matches!(forward.to, Target::Member(_)) || !path.ends_with("/api/v1") {
        return false;
    }
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|media| media.to_str().ok());
    media.is_some_and(|media| media.starts_with("application/recordio"))
}

fn too_large() -> Response {
    let mut response = text(
        StatusCode::PAYLOAD_TOO_LARGE,
        "413 Request Entity Too Large",
    );
    // What is left of the body is not worth reading.
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Nobody answered in time.
pub(crate) fn late() -> Response {
    text(StatusCode::GATEWAY_TIMEOUT, "504 Gateway Time-out")
}

/// Nobody answered.
pub(crate) fn failed(to: &Target, error: &SendError) -> Response {
    let shown = dcos_core::error::chain(error).to_string();
    debug!(?to, error = shown, "no answer from behind the router");
    if error.is_off_limits() {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| warn!(?to, "the name of a service leads to an address that each host has for itself: not asked; told once"));
        return text(StatusCode::FORBIDDEN, OFF_LIMITS);
    }
    text(StatusCode::BAD_GATEWAY, "502 Bad Gateway")
}

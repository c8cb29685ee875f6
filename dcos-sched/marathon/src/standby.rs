//! What a Marathon answers while another one leads: what the leader says.
//!
//! Requests are forwarded with `X-Marathon-Via` and `X-Forwarded-For`, so that clients may ask any Marathon; event
//! streams are redirected, since they would hold a connection here for nothing. Source: Marathon 1.11
//! `LeaderProxyFilter`, `AsyncUrlConnectionRequestForwarder`; limits of `LeaderProxyConf`. Departures: a leader that
//! does not answer in time is 504 (the original says 500); bodies without a length are forwarded, not dropped.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use dcos_store::Leader;
use dcos_wire::tls::{Ssl, TlsError};
use dcos_wire::{Client, ClientConfig, ClientError, FORWARDED_HOST, Peer};
use http::header::{
    ACCEPT_ENCODING, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{StatusCode, Uri};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// `--leader_proxy_connection_timeout`.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `--leader_proxy_read_timeout`.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// `--leader_proxy_max_open_connections`.
const MOST_FORWARDED: usize = 64;
/// How long a request waits while nobody is known to lead.
const INTERREGNUM: Duration = Duration::from_millis(2_750);

const VIA: HeaderName = HeaderName::from_static("x-marathon-via");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers that speak of one connection only.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Answers for the Marathon that is reached at `own` (`host:port`) until `elected` is cancelled: that one leads then, and
/// whoever still waits here is forwarded to its API.
///
/// What candidates say of themselves has to be their `host:port`. With TLS the leader is expected to speak it, and is
/// asked without only if `LIBPROCESS_SSL_SUPPORT_DOWNGRADE` allows that and it does not.
///
/// # Errors
/// If no client can be made of `tls`.
pub fn router(
    own: &str,
    leaders: watch::Receiver<Option<Leader>>,
    elected: CancellationToken,
    tls: Option<&Ssl>,
) -> Result<Router, TlsError> {
    crate::api::metrics::up_since();
    let client = Client::with_config(ClientConfig {
        tls: tls.map(|ssl| Arc::clone(&ssl.client)),
        connect_timeout: CONNECT_TIMEOUT,
        answer_timeout: READ_TIMEOUT,
        max_redirects: 0,
        ..ClientConfig::default()
    })?;
    let standby = Standby {
        own: own.into(),
        leaders,
        elected,
        client,
        tls: tls.is_some(),
        downgrade: tls.is_some_and(|ssl| ssl.downgrade),
        permits: Arc::new(Semaphore::new(MOST_FORWARDED)),
    };
    Ok(Router::new().fallback(answer).with_state(standby))
}

/// Answers 503 with `Retry-After` while whoever would answer here, `name`, is down and is tried again in `retry`.
pub fn down(name: &str, retry: Duration) -> Router {
    let seconds = retry.as_secs();
    let message = format!("{name} is down, and is tried again in {seconds} s: its log says why");
    let answer = move || async move {
        let after = [(RETRY_AFTER, HeaderValue::from(seconds))];
        let body = axum::Json(serde_json::json!({ "message": message }));
        (StatusCode::SERVICE_UNAVAILABLE, after, body)
    };
    Router::new().fallback(answer)
}

#[derive(Clone, Debug)]
struct Standby {
    own: Arc<str>,
    leaders: watch::Receiver<Option<Leader>>,
    elected: CancellationToken,
    client: Client,
    tls: bool,
    downgrade: bool,
    permits: Arc<Semaphore>,
}

impl Standby {
    /// Where the leader is; waits a little if that is about to be known.
    async fn leader(&self) -> Option<String> {
        let mut leaders = self.leaders.clone();
        let another = async {
            let known = leaders.wait_for(|leader| self.elsewhere(leader.as_ref()).is_some());
            let known = known.await.map(|known| self.elsewhere(known.as_ref()));
            match known {
                Ok(elsewhere) => elsewhere,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            // Once elected, what was known of others is of the past.
            biased;
            () = self.elected.cancelled() => Some(self.own.to_string()),
            leader = another => leader,
            () = tokio::time::sleep(INTERREGNUM) => None,
        }
    }

    /// The address of a leader that is not this Marathon.
    fn elsewhere(&self, leader: Option<&Leader>) -> Option<String> {
        let address = String::from_utf8(leader?.candidate.to_vec()).ok()?;
        (!address.is_empty() && address != *self.own).then_some(address)
    }

    /// How the leader is spoken to. While a cluster is moved to TLS, its nodes speak it one after the other.
    async fn scheme(&self, leader: &str) -> &'static str {
        if !self.tls {
            return "http";
        }
        let unspoken = self.downgrade
            && self
                .client
                .get(&format!("https://{leader}/ping"))
                .await
                .is_err();
        if unspoken { "http" } else { "https" }
    }

    /// How this Marathon marks what it forwards.
    fn mark(&self) -> String {
        format!("1.1 {}", self.own)
    }
}

async fn answer(State(standby): State<Standby>, peer: Peer, request: Request) -> Response {
    let mark = standby.mark();
    let mut marks = request.headers().get_all(VIA).iter();
    if marks.any(|seen| seen.as_bytes() == mark.as_bytes()) {
        return refuse(StatusCode::BAD_GATEWAY, "Detected proxying loop.");
    }
    let Some(leader) = standby.leader().await else {
        let text = "Could not determine the current leader";
        return refuse(StatusCode::BAD_GATEWAY, text);
    };
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let scheme = standby.scheme(&leader).await;
    let Ok(url) = format!("{scheme}://{leader}{path}").parse::<Uri>() else {
        return refuse(StatusCode::BAD_GATEWAY, "The leader has no address.");
    };
    if path.starts_with("/v2/events") {
        return redirect(&url);
    }
    let Ok(_permit) = standby.permits.acquire().await else {
        return refuse(StatusCode::BAD_GATEWAY, "ending");
    };
    tracing::debug!(method = %request.method(), %url, "forwarding to the leader");
    match standby
        .client
        .send_streaming(onward(request, url, &mark, &peer))
        .await
    {
        Ok(said) => {
            let (status, headers) = (said.status(), said.headers().clone());
            let mut response = Response::new(said.into_body());
            *response.status_mut() = status;
            *response.headers_mut() = end_to_end(headers);
            if let Ok(mark) = HeaderValue::from_str(&mark) {
                response.headers_mut().append(VIA, mark);
            }
            response
        }
        Err(error) => {
            let shown = dcos_core::error::chain(&error).to_string();
            tracing::info!(leader, error = shown, "the leader does not answer");
            match error {
                ClientError::Timeout { .. } => refuse(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Connection to leader timed out.",
                ),
                _ => refuse(StatusCode::BAD_GATEWAY, "Connection to leader refused."),
            }
        }
    }
}

/// The request as the leader gets it.
fn onward(request: Request, url: Uri, mark: &str, peer: &Peer) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    // Of HTTP/2, which has no `Host`.
    let asked = parts.uri.authority();
    let asked = asked.and_then(|asked| HeaderValue::from_str(asked.as_str()).ok());
    parts.uri = url;
    parts.extensions.clear();
    let mut headers = end_to_end(parts.headers);
    // The leader sees by it that a page of this Marathon's is no foreign one, behind whatever proxies it is.
    if let Some(host) = headers.remove(HOST).or(asked) {
        headers.append(FORWARDED_HOST, host);
    }
    // Or the answer might be packed for a client that did not ask for that.
    let plain = HeaderValue::from_static("identity");
    headers.entry(ACCEPT_ENCODING).or_insert(plain);
    let before = headers
        .get(FORWARDED_FOR)
        .and_then(|list| list.to_str().ok());
    let hops: Vec<String> = before
        .map(str::to_owned)
        .into_iter()
        .chain(peer.ip().map(|ip| ip.to_string()))
        .collect();
    if let Ok(hops) = HeaderValue::from_str(&hops.join(",")) {
        headers.insert(FORWARDED_FOR, hops);
    }
    if let Ok(mark) = HeaderValue::from_str(mark) {
        headers.append(VIA, mark);
    }
    parts.headers = headers;
    Request::from_parts(parts, body)
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}

fn redirect(url: &Uri) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    if let Ok(location) = HeaderValue::from_str(&url.to_string()) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

#[cfg(test)]
mod tests;

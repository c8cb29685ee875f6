//! The master's HTTP surface: API v1 for schedulers and operators, the v0 endpoints, and readers.
//!
//! Reads take a [`Snapshot`](super::Snapshot) and serialise it outside the core's loop.

mod body;
pub(crate) mod desk;
pub(crate) mod documents;
mod files;
mod json;
mod metrics;
mod operator;
mod orders;
mod packed;
mod pieces;
mod reads;
pub(crate) mod realms;
mod reservations;
mod scheduler;
pub(crate) mod sight;
mod standby;
mod summary;
mod text;
mod turns;
mod views;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use dcos_security::{Action, Authorizer, Caller, Object, Turns};
use dcos_wire::absent::{self, Absent};
use dcos_wire::files::Files;
use dcos_wire::{Refusal, reply};
use tokio::sync::watch;

use super::gauges::Gauges;
use super::shell::{MasterHandle, MasterStopped};
use super::{Config, Reply, Snapshot, Stance};
use desk::Desk;
pub(crate) use files::shown;
pub(crate) use metrics::Figures;
use sight::Sight;

/// What every handler needs.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) master: MasterHandle,
    pub(crate) config: Arc<Config>,
    pub(crate) desk: Desk,
    pub(crate) stance: watch::Receiver<Stance>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) files: Files,
    /// How often metrics may be read.
    pub(crate) metrics: Turns,
}

impl Api {
    /// The state, once the registry has been read.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, Refusal> {
        Ok(self.master.snapshot().await?)
    }

    /// What `caller` may see: every read takes it along.
    fn sight(&self, caller: &Caller) -> Sight {
        let authorizer = &self.config.settings.security.authorizer;
        Sight::of(authorizer, caller.principal())
    }

    fn authorizer(&self) -> &dyn Authorizer {
        &*self.config.settings.security.authorizer
    }

    /// Goes on only if `caller` may do this: the line every call that does something begins with.
    fn allow(&self, caller: &Caller, action: Action, object: &Object<'_>) -> Result<(), Refusal> {
        caller.may(self.authorizer(), action, object)
    }
}

impl From<MasterStopped> for Refusal {
    fn from(stopped: MasterStopped) -> Self {
        Self::unavailable(stopped.to_string())
    }
}

/// Whether this first line of a connection is of somebody who looks and does not act, as far as a line can say: it is
/// served by threads of readers. Operators' calls go there too, since most of them read.
pub(crate) fn only_reads(line: &str) -> bool {
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("GET"), Some(_)) => true,
        (Some("POST"), Some(path)) => matches!(path, "/api/v1" | "/master/api/v1"),
        _ => false,
    }
}

/// All routes. Those of the master's actor also answer under `/master`.
pub(crate) fn router(api: Api) -> Router {
    let firewall = api.config.firewall.clone();
    let origins = api.config.origins.clone();
    let gate = realms::gate(&api.config.http);
    let turns = Turns::new(&api.config.settings.security.rate_limits);
    let others = api.config.routes.clone().with_state(());
    let toggle = middleware::from_fn_with_state(api.clone(), guard_toggle);
    let own = Router::new()
        .route("/api/v1/scheduler", any(scheduler::call))
        .route("/api/v1", any(operator::call))
        .route("/state", any(reads::state))
        // Gone from Mesos 1.11; `dcoscli` asks for it by this name.
        .route("/state.json", any(reads::state))
        .route("/state-summary", any(summary::state_summary))
        .route("/slaves", any(reads::slaves))
        .route("/frameworks", any(reads::frameworks))
        .route("/tasks", any(reads::tasks))
        .route("/roles", any(reads::roles))
        .route("/weights", any(orders::weights))
        .route("/priorities", any(orders::priorities))
        .route("/quota", any(orders::quota))
        .route("/quota/{*role}", any(orders::quota))
        .route("/maintenance/schedule", any(orders::schedule))
        .route("/maintenance/status", any(orders::status))
        .route("/machine/down", any(orders::machine_down))
        .route("/machine/up", any(orders::machine_up))
        .route("/flags", any(reads::flags))
        .route("/health", any(health))
        .route("/redirect", any(redirect))
        .route("/teardown", any(orders::teardown))
        .route("/reserve", any(reservations::reserve))
        .route("/unreserve", any(reservations::unreserve))
        .route("/create-volumes", any(reservations::create_volumes))
        .route("/destroy-volumes", any(reservations::destroy_volumes))
        .route("/allocator/explain", any(reads::explain));
    let router = Router::new()
        .nest("/master", own.clone())
        .merge(own)
        .route("/version", any(reads::version))
        .route("/metrics", any(metrics::scraped))
        .route("/metrics/snapshot", any(metrics::snapshot))
        .merge(files::routes(&api))
        .merge(others)
        .merge(dcos_wire::logging::router().layer(toggle))
        .merge(dcos_wire::host::router())
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(api.clone(), standby::guard))
        // The server limits bodies for all.
        .layer(DefaultBodyLimit::disable())
        .with_state(api)
        .layer(middleware::from_fn_with_state(turns, turns::take))
        .layer(gate);
    firewall.protect(origins.protect(router))
}

/// Lets those through who may change how much is logged.
async fn guard_toggle(
    State(api): State<Api>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Response {
    let path = Object::value("/logging/toggle");
    match api.allow(&caller, Action::GetEndpointWithPath, &path) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

async fn health() -> Response {
    reply::empty(StatusCode::OK)
}

/// The leader is this master: whoever runs one has been elected.
async fn redirect(State(api): State<Api>) -> Result<Response, Refusal> {
    let snapshot = api.snapshot().await?;
    let leader = standby::address(&snapshot.settings.info);
    let mut response = reply::empty(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(location) = format!("//{leader}").parse() {
        response
            .headers_mut()
            .insert(axum::http::header::LOCATION, location);
    }
    Ok(response)
}

/// What of an original master's endpoints is not there.
const ABSENT: [Absent; 4] = [
    (
        "/registrar(1)",
        "the registry is in the store, an entry a key; agents and orders are in /state and API v1",
    ),
    (
        "/hierarchical-allocator(1)",
        "/allocator/explain says why offers are as they are",
    ),
    ("/static", "there is no web UI yet"),
    ("/app", "there is no web UI yet"),
];

async fn unknown(uri: Uri) -> Response {
    absent::answer(uri.path(), &ABSENT)
}

/// The name of whoever authenticated, which calls of API v1 need.
fn name_of(caller: &Caller) -> Result<Option<&str>, Refusal> {
    match caller.principal() {
        Some(principal) if principal.value.is_none() => Err(Refusal::forbidden(
            "The request's authenticated principal contains claims, but no value string. \
             The master currently requires that principals have a value",
        )),
        _ => Ok(caller.name()),
    }
}

/// 405 unless the request's method is `allowed`.
fn only(allowed: &Method, method: &Method) -> Result<(), Box<Response>> {
    one_of(std::slice::from_ref(allowed), method)
}

/// 405 unless the request's method is one of those `allowed`.
fn one_of(allowed: &[Method], method: &Method) -> Result<(), Box<Response>> {
    let head = *method == Method::HEAD && allowed.contains(&Method::GET);
    if head || allowed.contains(method) {
        return Ok(());
    }
    let quoted: Vec<String> = allowed.iter().map(|name| format!("'{name}'")).collect();
    let mut response = reply::text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "405 Method Not Allowed. Expecting one of {{ {} }}, but received '{method}'.",
            quoted.join(", ")
        ),
    );
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    if let Ok(names) = names.join(", ").parse() {
        response
            .headers_mut()
            .insert(axum::http::header::ALLOW, names);
    }
    Err(Box::new(response))
}

/// The answer to a call that was carried out, or was not.
fn answer(reply: Reply) -> Response {
    match reply {
        Reply::Accepted => reply::accepted(),
        Reply::Done | Reply::Subscribed { .. } => reply::empty(StatusCode::OK),
        Reply::Refused { status, text } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            Refusal::new(status, text).into_response()
        }
    }
}

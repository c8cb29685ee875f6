//! The agent's HTTP surface: routes, and what their handlers share.
//!
//! Every path is served bare and below `/slave(1)`, as libprocess routes it.

mod access;
mod containers;
mod executors;
mod inside;
mod media;
mod metrics;
mod nested;
mod operator;
mod process;
pub(super) mod realms;
mod sessions;
mod state;
mod validation;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use dcos_core::time::Time;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::VersionInfo;
use dcos_security::{Action, Caller, Object, Turns};
use dcos_wire::files::{self, Files};
use dcos_wire::{Load, Refusal, absent, reply};
use http::{Method, Uri};
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::config::{Config, Meter};
use super::handle::Handle;
use super::security::Security;
use super::shell::{ACTOR, VERSION, now};
use super::view::View;
use crate::containerizer::Containerizer;
use crate::provisioner::Provisioner;

/// What handlers share.
#[derive(Debug, Clone)]
pub(super) struct Context(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) flags: BTreeMap<String, String>,
    pub(super) containerizer: Arc<dyn Containerizer>,
    pub(super) files: Files,
    /// Whose images can be removed.
    pub(super) images: Option<Arc<dyn Provisioner>>,
    pub(super) security: Security,
    pub(super) started: Time,
    /// How long it took to take up what an earlier agent left.
    pub(super) recovery: Duration,
    /// What others count.
    pub(super) meters: Vec<Meter>,
    /// Where the agent's log is.
    pub(super) log_file: Option<PathBuf>,
    pub(super) own_log: Option<PathBuf>,
    /// Connections to the agent's port.
    pub(super) connections: Load,
    /// Who watches the event streams of executors, and ends sessions.
    pub(super) streams: TaskTracker,
    /// How often who listens to a container hears that the connection stands.
    pub(super) heartbeat: std::time::Duration,
    /// How often metrics may be read.
    pub(super) metrics: Turns,
}

impl std::ops::Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Context {
    pub(super) fn new(
        handle: Handle,
        config: &Config,
        containerizer: Arc<dyn Containerizer>,
        files: Files,
        begun: Time,
    ) -> Self {
        Self(Arc::new(Shared {
            handle,
            flags: config.flags.clone(),
            containerizer,
            files,
            images: config.images.clone(),
            security: config.security.clone(),
            started: begun,
            recovery: begun.until(now()),
            meters: config.meters.clone(),
            log_file: config.log_file.clone(),
            own_log: config.own_log.clone(),
            connections: config.server.load.clone(),
            streams: TaskTracker::new(),
            heartbeat: config.http_heartbeat_interval,
            metrics: Turns::new(&config.metrics_limit),
        }))
    }

    /// The agent as it is now.
    pub(super) async fn view(&self) -> Result<View, Refusal> {
        let view = self.handle.ask(super::core::Agent::view).await;
        view.ok_or_else(|| Refusal::unavailable("The agent is stopping"))
    }
}

pub(super) fn router(context: Context, others: Router) -> Router {
    let gate = realms::gate(&context.security);
    let guard = middleware::from_fn_with_state(context.clone(), access::guard_files);
    let files = files::router(context.files.clone()).layer(guard);
    let routes = Router::new()
        .route(
            "/api/v1/executor",
            post(executors::executor).fallback(only_post),
        )
        .route("/api/v1", post(operator::api).fallback(only_post))
        .route("/state", get(state::state))
        .route("/containers", get(containers::containers))
        .route("/monitor/statistics", get(containers::statistics))
        .route("/containerizer/debug", get(process::debug))
        .route(
            "/api/v1/resource_provider",
            post(no_providers).fallback(only_post),
        )
        .route("/health", get(health))
        .route("/flags", get(flags));
    let own = format!("/{ACTOR}");
    let toggle = middleware::from_fn_with_state(context.clone(), access::guard_toggle);
    Router::new()
        .nest(&own, routes.clone())
        .merge(routes)
        .route("/version", get(shown_version))
        .route("/metrics/snapshot", get(metrics::snapshot))
        .route("/metrics", get(metrics::scraped))
        .fallback(async |uri: Uri| absent::answer(uri.path(), &[]))
        .with_state(context)
        .merge(files)
        .merge(others)
        .merge(dcos_wire::logging::router().layer(toggle))
        .merge(dcos_wire::host::router())
        .layer(gate)
}

async fn health() -> Response {
    reply::empty(http::StatusCode::OK)
}

async fn shown_version() -> Response {
    reply::json(json::to_string(&version(), Dialect::V1))
}

/// What this is. The version is that of the Mesos whose protocols it speaks, because clients
/// decide by it what they may use.
fn version() -> VersionInfo {
    VersionInfo {
        version: VERSION.to_owned(),
        build_date: Some("1970-01-01 00:00:00".to_owned()),
        build_time: Some(0.0),
        build_user: Some("dcos".to_owned()),
        git_sha: Some(String::new()),
        git_branch: None,
        git_tag: Some(concat!("dcos-", env!("CARGO_PKG_VERSION")).to_owned()),
    }
}

/// These take POST only.
async fn only_post(method: Method) -> Response {
    reply::method_not_allowed(&[Method::POST], &method)
}

async fn no_providers() -> Refusal {
    Refusal::not_implemented("Resource providers are not offered by this agent")
}

async fn flags(State(context): State<Context>, caller: Caller) -> Result<Response, Refusal> {
    context.allow(&caller, Action::ViewFlags, &Object::ANY)?;
    Ok(reply::json(json!({ "flags": context.flags }).to_string()))
}

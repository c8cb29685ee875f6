//! The agent's HTTP surface: routes, and what their handlers share.
//!
//! Every path is served bare and below `/slave(1)`, as libprocess routes it.

mod executors;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use dcos_wire::reply;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::config::Config;
use super::handle::Handle;
use super::shell::{ACTOR, VERSION};

/// What handlers share.
#[derive(Debug, Clone)]
pub(super) struct Context(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) handle: Handle,
    pub(super) flags: BTreeMap<String, String>,
    /// Who watches the event streams of executors.
    pub(super) streams: TaskTracker,
}

impl std::ops::Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Context {
    pub(super) fn new(handle: Handle, config: &Config) -> Self {
        Self(Arc::new(Shared {
            handle,
            flags: config.flags.clone(),
            streams: TaskTracker::new(),
        }))
    }
}

pub(super) fn router(context: Context) -> Router {
    let routes = Router::new()
        .route("/api/v1/executor", post(executors::executor))
        .route("/health", get(health))
        .route("/version", get(version))
        .route("/flags", get(flags));
    let own = format!("/{ACTOR}");
    Router::new()
        .nest(&own, routes.clone())
        .merge(routes)
        .with_state(context)
}

async fn health() -> Response {
    reply::empty(http::StatusCode::OK)
}

async fn version() -> Response {
    reply::json(json!({ "version": VERSION }).to_string())
}

async fn flags(State(context): State<Context>) -> Response {
    reply::json(json!({ "flags": context.flags }).to_string())
}

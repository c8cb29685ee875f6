//! `/files/*` and the file calls of the operator API: the master's log under `/master/log`.

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use dcos_security::{Action, Caller, Object};
use dcos_wire::Refusal;
use dcos_wire::files::{Files, asked_for, router};

use super::Api;
use crate::master::Config;

/// The one path that can be read.
const LOG: &str = "/master/log";

/// What this master shows.
pub(crate) fn shown(config: &Config) -> Files {
    let files = Files::default();
    if let Some(log) = config.log_file.as_ref().or(config.own_log.as_ref()) {
        files.attach(LOG, log);
    }
    files
}

/// The routes below `/files`, each behind the question who may.
pub(super) fn routes(api: &Api) -> Router<Api> {
    let guard = middleware::from_fn_with_state(api.clone(), guard);
    router(api.files.clone()).layer(guard)
}

async fn guard(
    State(api): State<Api>,
    caller: Caller,
    RawQuery(query): RawQuery,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let allowed = if path == "/files/debug" {
        api.allow(&caller, Action::GetEndpointWithPath, &Object::value(path))
    } else {
        let asked = asked_for(&query.unwrap_or_default()).unwrap_or_default();
        allow(&api, &caller, &asked)
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Goes on only if `caller` may look at what is shown at `path`; what is not shown is not hidden.
pub(super) fn allow(api: &Api, caller: &Caller, path: &str) -> Result<(), Refusal> {
    match api.files.attachment(path) {
        Some(_) => api.allow(caller, Action::AccessMesosLog, &Object::ANY),
        None => Ok(()),
    }
}

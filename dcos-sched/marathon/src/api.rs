//! Marathon's REST API.
//!
//! Ids contain slashes, and clients double them (`/v2/apps//prod/db`), so requests are not matched
//! against patterns: the path is cut at slashes, empty pieces dropped, and `dispatch` looks at the
//! rest. Reads come from the published view and never wait; writes go through the mailbox and answer
//! once they are durable.

mod app_tasks;
mod apps;
mod deployments;
mod events;
mod groups;
mod info;
pub mod list;
pub mod metrics;
mod plan;
mod pods;
mod queue;
pub(crate) mod render;
pub mod request;
mod selector;
mod system;
mod tasks;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES, HeaderName, HeaderValue, PRAGMA};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::deployment::Plan;
use crate::shell::Mailbox;
use crate::{Error, PathId};

use metrics::HttpMetrics;
use request::Request;

/// An answer, or why there is none.
type Reply = Result<Response, Error>;

/// The API over a running core.
///
/// Event streams end with `ending`, since they would never end by themselves.
pub fn router(mailbox: Mailbox, ending: CancellationToken) -> Router {
    let http = HttpMetrics::new();
    let state = Api {
        mailbox,
        ending,
        http,
    };
    Router::new().fallback(serve).with_state(state)
}

#[derive(Clone, Debug)]
struct Api {
    mailbox: Mailbox,
    ending: CancellationToken,
    http: Arc<HttpMetrics>,
}

async fn serve(State(api): State<Api>, request: HttpRequest) -> Response {
    let mailbox = &api.mailbox;
    let call = api.http.begin(&request);
    let mut response = match Request::read(request).await {
        Ok(request) if !request.body.is_empty() && !request.is_json() => json_with(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &json!({"message": "Unsupported Media Type: send documents as Content-Type: application/json"}),
        ),
        Ok(request) => match dispatch(&api, &request).await {
            Ok(response) => response,
            Err(error) => json_with(error.status(), &error.body()),
        },
        Err(refusal) => refusal,
    };
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(EXPIRES, HeaderValue::from_static("0"));
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "1; mode=block"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    if let Ok(leader) = HeaderValue::from_str(&mailbox.config().url()) {
        headers.insert(HeaderName::from_static("x-marathon-leader"), leader);
    }
    call.end(response)
}

/// This Marathon's host and port.
fn leader(mailbox: &Mailbox) -> String {
    let config = mailbox.config();
    format!("{}:{}", config.hostname, config.http_port)
}

/// Finds who answers.
async fn dispatch(api: &Api, request: &Request) -> Reply {
    let mailbox = &api.mailbox;
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let get = request.method == Method::GET || request.method == Method::HEAD;
    match (&request.method, path.as_slice()) {
        (_, []) if get => Ok(info::home()),
        (_, ["ui"]) if get => Ok(info::page(mailbox)),
        (_, ["ping"]) if get => Ok(info::ping(request)),
        (_, ["metrics"]) if get => Ok(info::report(api).document()),
        (_, ["metrics", "prometheus"]) if get => Ok(info::report(api).prometheus()),
        (_, ["config"]) if get => Ok(system::config(mailbox)),
        (_, ["logging"]) if get => Ok(system::loggers()),
        (&Method::POST, ["logging"]) => system::change(mailbox, request),
        (_, ["config" | "logging"]) => Ok(method_not_allowed()),
        (_, ["v2", "eventSubscriptions"]) => Err(Error::NotFound(NO_CALLBACKS.to_owned())),
        (_, ["v2", "info"]) if get => Ok(info::info(mailbox)),
        (_, ["v2", "leader"]) if get => Ok(info::leader_of(mailbox)),
        (&Method::DELETE, ["v2", "leader"]) => info::abdicate(mailbox, request),
        (_, ["v2", "plugins"]) if get => Ok(json_of(&json!({"plugins": []}))),
        (_, ["v2", "pods", rest @ ..]) => pods::dispatch(mailbox, request, rest).await,
        (_, ["v2", "events"]) if get => Ok(events::stream(api, request).await),
        (_, ["v2", "queue"]) if get => Ok(queue::list(mailbox, request)),
        (&Method::DELETE, ["v2", "queue", id @ .., "delay"]) => {
            queue::reset_delay(mailbox, &PathId::absolute(&id.join("/"))).await
        }
        (_, ["v2", "deployments"]) if get => Ok(deployments::list(mailbox, request)),
        (&Method::DELETE, ["v2", "deployments", id]) => {
            deployments::cancel(mailbox, request, id).await
        }
        (_, ["v2", "tasks"]) if get => Ok(tasks::list(mailbox, request)),
        (&Method::POST, ["v2", "tasks", "delete"]) => tasks::kill(mailbox, request).await,
        (&Method::POST, ["v2", "plan"]) => plan::dry_run(mailbox, request).await,
        (&Method::POST, ["v2", "simulate"]) => plan::simulate(mailbox, request).await,
        (_, ["v2", "apps", rest @ ..]) => apps::dispatch(mailbox, request, rest).await,
        (_, ["v2", "groups", rest @ ..]) => groups::dispatch(mailbox, request, rest).await,
        _ => Ok(no_such_uri()),
    }
}

/// Marathon 1.11 knows `/v2/eventSubscriptions` no more; its clients are told what took its place.
const NO_CALLBACKS: &str = "Callbacks (/v2/eventSubscriptions) are gone, as Marathon 1.4 announced: listen to /v2/events instead";

/// The original answers routes it does not know with 500; a client error is a 404 here.
fn no_such_uri() -> Response {
    json_with(StatusCode::NOT_FOUND, &json!({"message": "URI not found"}))
}

fn method_not_allowed() -> Response {
    json_with(
        StatusCode::METHOD_NOT_ALLOWED,
        &json!({"message": "Method Not Allowed"}),
    )
}

fn json_of(document: &impl Serialize) -> Response {
    json_with(StatusCode::OK, document)
}

/// An answer that is a JSON document.
pub fn json_with(status: StatusCode, document: &impl Serialize) -> Response {
    // Documents have string keys and finite numbers only, so that writing them cannot fail.
    let body = serde_json::to_vec(document).unwrap_or_default();
    typed(status, "application/json", body)
}

/// An answer of some type.
pub fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The answer to what started a deployment.
fn deployed(plan: &Plan) -> Response {
    let document = json!({"version": plan.version, "deploymentId": plan.id});
    with_deployment(json_of(&document), plan)
}

fn with_deployment(mut response: Response, plan: &Plan) -> Response {
    set(&mut response, "marathon-deployment-id", &plan.id);
    response
}

/// Marks an answer as the birth of something at `location`.
fn created(mut response: Response, location: &PathId) -> Response {
    *response.status_mut() = StatusCode::CREATED;
    set(&mut response, "location", location.as_str());
    response
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

/// Adds the fields of one document to another.
fn extend(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
    }
}

#[cfg(test)]
mod tests;

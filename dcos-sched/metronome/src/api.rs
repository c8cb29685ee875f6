//! Metronome's REST API: v1, and v0 for clients from before schedules stood apart.
//!
//! Reads come from the published view and never wait; writes go through the mailbox and answer once they are durable.

mod info;
mod jobs;
mod render;
mod runs;
mod schedules;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use dcos_marathon::api::metrics::HttpMetrics;
use dcos_marathon::api::request::Request;
use dcos_marathon::api::{json_with, typed};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::core::JobScheduler;
use crate::model::JobId;

/// The way to a running scheduler.
pub type Mailbox = dcos_marathon::shell::Mailbox<JobScheduler>;

/// An answer, or why there is none.
type Reply = Result<Response, Error>;

/// The API over a running scheduler.
pub fn router(mailbox: Mailbox) -> Router {
    let http = HttpMetrics::new();
    let state = Api { mailbox, http };
    Router::new().fallback(serve).with_state(state)
}

#[derive(Clone, Debug)]
struct Api {
    mailbox: Mailbox,
    http: Arc<HttpMetrics>,
}

async fn serve(State(api): State<Api>, request: HttpRequest) -> Response {
    let call = api.http.begin(&request);
    call.end(match Request::read(request).await {
        Ok(request) => match dispatch(&api, &request).await {
            Ok(response) => response,
            Err(error) => json_with(error.status(), &error.body(&request.uri)),
        },
        Err(refusal) => refusal,
    })
}

/// Finds who answers.
async fn dispatch(api: &Api, request: &Request) -> Reply {
    let mailbox = &api.mailbox;
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let get = request.method == Method::GET || request.method == Method::HEAD;
    match (&request.method, path.as_slice()) {
        (_, ["ping"]) if get => Ok(typed(StatusCode::OK, "text/plain; charset=utf-8", "pong")),
        (_, ["info"]) if get => Ok(info::info(mailbox)),
        (_, ["leader"]) if get => Ok(info::leader(mailbox)),
        (_, ["v1", "metrics"]) if get => Ok(info::report(api).document()),
        (_, ["metrics"]) if get => Ok(info::report(api).prometheus()),
        (_, ["v1", "queue"]) if get => Ok(info::queue(mailbox)),
        (_, ["v1", "jobs"]) if get => jobs::list(mailbox, request),
        (&Method::POST, ["v1", "jobs"] | ["v0", "scheduled-jobs"]) => {
            jobs::create(mailbox, request).await
        }
        (&Method::PUT, ["v0", "scheduled-jobs", id]) => {
            jobs::replace(mailbox, request, job_id(id)?).await
        }
        (_, ["v1", "jobs", id, rest @ ..]) => {
            let route = (mailbox, request, job_id(id)?);
            of_job(route, get, rest).await
        }
        _ => Err(no_route()),
    }
}

/// What belongs to one job.
async fn of_job(
    (mailbox, request, id): (&Mailbox, &Request, JobId),
    get: bool,
    rest: &[&str],
) -> Reply {
    match (&request.method, rest) {
        (_, []) if get => jobs::show(mailbox, request, &id),
        (&Method::PUT, []) => jobs::update(mailbox, request, id).await,
        (&Method::DELETE, []) => jobs::delete(mailbox, request, id).await,
        (_, ["schedules"]) if get => schedules::list(mailbox, &id),
        (&Method::POST, ["schedules"]) => schedules::add(mailbox, request, id).await,
        (_, ["schedules", schedule]) if get => schedules::show(mailbox, &id, schedule),
        (&Method::PUT, ["schedules", schedule]) => {
            schedules::update(mailbox, request, id, schedule).await
        }
        (&Method::DELETE, ["schedules", schedule]) => {
            schedules::remove(mailbox, id, (*schedule).to_owned()).await
        }
        (_, ["runs"]) if get => runs::list(mailbox, &id),
        (&Method::POST, ["runs"]) => runs::start(mailbox, id).await,
        (_, ["runs", run]) if get => runs::show(mailbox, &id, run),
        (&Method::POST, ["runs", run, "actions", "stop"]) => runs::stop(mailbox, id, run).await,
        _ => Err(no_route()),
    }
}

fn no_route() -> Error {
    Error::Client(StatusCode::NOT_FOUND, "Unknown route.".to_owned())
}

fn bad_request(text: impl Into<String>) -> Error {
    Error::Client(StatusCode::BAD_REQUEST, text.into())
}

fn job_id(text: &str) -> Result<JobId, Error> {
    let id = JobId::from(text);
    if id.is_valid() {
        Ok(id)
    } else {
        Err(bad_request(format!("Not a valid id: {text}")))
    }
}

/// The document that was sent.
fn document(request: &Request) -> Result<Value, Error> {
    if !request.is_json() {
        let text = "Expecting text/json or application/json body";
        return Err(Error::Client(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            text.to_owned(),
        ));
    }
    serde_json::from_slice(&request.body)
        .map_err(|error| bad_request(format!("Invalid Json: {error}")))
}

fn ok(document: &impl Serialize) -> Response {
    json_with(StatusCode::OK, document)
}

/// The moment a picture is looked at.
fn now() -> dcos_marathon::Timestamp {
    dcos_core::time::steady().into()
}

//! `/v1/metrics/mesos_listener`: what is heard of the leading master, counted.
//!
//! Source: the registry `mesos_listener` of dcos-net (`dcos_net_mesos_listener`), names without its prefix. Departures: who leads is
//! followed, so that `is_leader` would say nothing; listeners are not waited for one by one (`pubsub_duration_seconds`).

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use dcos_net::Census;
use dcos_wire::{Told, reply};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use prost::Message as _;
use tokio::sync::mpsc;

/// Events that wait to be counted, which takes no time.
const WAITING: usize = 256;

/// What was heard so far. Clones count together.
#[derive(Clone, Debug, Default)]
struct Heard(Arc<Mutex<Tally>>);

#[derive(Debug, Default)]
struct Tally {
    census: Census,
    messages: u64,
    bytes: u64,
    /// Masters that were asked, each time.
    asked: u64,
    /// Those of them that told something.
    told: u64,
}

/// What counts, with where it is to be told and the route; it ends when nobody tells it any more.
pub fn listener() -> (mpsc::Sender<Told>, Router, impl Future<Output = ()>) {
    let (sender, mut told) = mpsc::channel(WAITING);
    let heard = Heard::default();
    let routes = Router::new()
        .route("/v1/metrics/mesos_listener", get(metrics))
        .with_state(heard.clone());
    let counting = async move {
        while let Some(told) = told.recv().await {
            heard.tally().count(&told);
        }
    };
    (sender, routes, counting)
}

impl Heard {
    /// Nobody panics while holding it; if somebody did, the numbers are whole all the same.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn count(&mut self, told: &Told) {
        match told {
            Told::Asked(..) => self.asked += 1,
            Told::Leader(_) => self.told += 1,
            Told::Event(event) => {
                self.messages += 1;
                self.bytes += event.encoded_len() as u64;
                self.census.apply(event);
            }
        }
    }

    fn exposition(&self) -> String {
        let counts = self.census.counts();
        let mut text = String::new();
        for (name, kind, help, value) in [
            (
                "agents_total",
                "gauge",
                "Total number of agents seen on the Mesos stream.",
                counts.agents as u64,
            ),
            (
                "frameworks_total",
                "gauge",
                "Total number of frameworks seen on the Mesos stream.",
                counts.frameworks as u64,
            ),
            (
                "tasks_total",
                "gauge",
                "Total number of tasks seen on the Mesos stream.",
                counts.tasks as u64,
            ),
            (
                "waiting_tasks_total",
                "gauge",
                "Total number of tasks with no agent/framework information.",
                counts.waiting as u64,
            ),
            (
                "messages_total",
                "counter",
                "Total number of messages received from the Mesos stream.",
                self.messages,
            ),
            (
                "bytes_total",
                "counter",
                "Total number of bytes received from the Mesos stream.",
                self.bytes,
            ),
            (
                "failures_total",
                "counter",
                "Total number of streams that ended, and of masters that told nothing.",
                self.asked.saturating_sub(1),
            ),
            (
                "streams_total",
                "counter",
                "Total number of streams that began.",
                self.told,
            ),
        ] {
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
        text
    }
}

async fn metrics(State(heard): State<Heard>) -> Response {
    let text = heard.tally().exposition();
    let mut response = reply::text(StatusCode::OK, text);
    let prometheus = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(CONTENT_TYPE, prometheus);
    response
}

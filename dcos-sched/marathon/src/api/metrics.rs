//! What is measured: documents as Marathon 1.11's `/metrics` has them (Dropwizard's metrics, version 4), the same as text for
//! Prometheus, and what clients ask for by HTTP.

mod meter;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::body::Body;
use axum::response::Response;
use dcos_core::time::Time;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde_json::{Map, Value, json};

use super::{json_with, typed};

pub use meter::{Meter, Rates, Summary, Timer};

/// What is measured, at one moment. Names are Marathon's, dots included.
#[derive(Clone, Debug, Default)]
pub struct Report {
    gauges: Vec<(String, Value)>,
    counters: Vec<(String, u64)>,
    meters: Vec<(String, Rates)>,
    timers: Vec<(String, Summary)>,
}

impl Report {
    /// Adds what goes up and down.
    pub fn gauge(&mut self, name: impl Into<String>, value: usize) {
        self.gauges.push((name.into(), value.into()));
    }

    /// Adds what only grows.
    pub fn counter(&mut self, name: impl Into<String>, count: u64) {
        self.counters.push((name.into(), count));
    }

    /// As a document.
    pub fn document(&self) -> Response {
        fn map<T>(all: &[(String, T)], one: impl Fn(&T) -> Value) -> Map<String, Value> {
            let all = all.iter();
            all.map(|(name, value)| (name.clone(), one(value)))
                .collect()
        }
        json_with(
            StatusCode::OK,
            &json!({
                "version": "4.0.0",
                "counters": map(&self.counters, |count| json!({"count": count})),
                "gauges": map(&self.gauges, |value| json!({"value": value})),
                "histograms": {},
                "meters": map(&self.meters, |rates| rates.to_json("units", "events/second")),
                "timers": map(&self.timers, |summary| summary.to_json()),
            }),
        )
    }

    /// As text for Prometheus, whose names know no dots and dashes.
    pub fn prometheus(&self) -> Response {
        let mut text = String::new();
        for (name, value) in &self.gauges {
            line(&mut text, name, "gauge", value);
        }
        for (name, count) in &self.counters {
            line(&mut text, name, "counter", count);
        }
        for (name, rates) in &self.meters {
            let count = format!("{name}.count");
            line(&mut text, &count, "gauge", rates.count);
            for (which, rate) in rates.named() {
                line(&mut text, &format!("{name}.{which}"), "gauge", rate);
            }
        }
        for (name, timer) in &self.timers {
            let known = known(name);
            let _ = writeln!(text, "# TYPE {known} summary");
            for (quantile, value) in timer.quantiles() {
                let _ = writeln!(text, "{known}{{quantile=\"{quantile}\"}} {value}");
            }
            let _ = writeln!(text, "{known}_count {}", timer.rates.count);
            let more = timer.named().into_iter().chain(timer.rates.named());
            for (which, value) in more {
                line(&mut text, &format!("{name}.{which}"), "gauge", value);
            }
        }
        typed(StatusCode::OK, "text/plain; version=0.0.4", text)
    }
}

fn known(name: &str) -> String {
    name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_")
}

fn line(text: &mut String, name: &str, kind: &str, value: impl std::fmt::Display) {
    let name = known(name);
    let _ = write!(text, "# TYPE {name} {kind}\n{name} {value}\n");
}

/// What clients of a service ask for, since the service began.
#[derive(Debug)]
pub struct HttpMetrics {
    begun: Time,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    active: usize,
    asked_bytes: u64,
    answered_bytes: u64,
    /// Who listens to events, and how much they were sent.
    streams: usize,
    streamed_bytes: u64,
    /// Answers by the first digit of their status.
    classes: [Meter; 5],
    all: Timer,
    by_method: [(Method, Timer); 4],
}

impl HttpMetrics {
    /// Of a service that begins now.
    pub fn new() -> Arc<Self> {
        let now = dcos_core::time::steady();
        let timer = || Timer::new(now);
        let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
        Arc::new(Self {
            begun: now,
            calls: Mutex::new(Calls {
                active: 0,
                asked_bytes: 0,
                answered_bytes: 0,
                streams: 0,
                streamed_bytes: 0,
                classes: std::array::from_fn(|_| Meter::new(now)),
                all: timer(),
                by_method: methods.map(|method| (method, timer())),
            }),
        })
    }

    /// A call begins.
    pub fn begin(self: &Arc<Self>, request: &http::Request<Body>) -> Call {
        let mut calls = self.calls();
        calls.active += 1;
        calls.asked_bytes += request.body().size_hint().exact().unwrap_or_default();
        Call {
            http: Arc::clone(self),
            method: request.method().clone(),
            begun: dcos_core::time::steady(),
        }
    }

    /// Somebody listens to events until what is returned is dropped.
    pub fn stream(self: &Arc<Self>) -> Listening {
        self.calls().streams += 1;
        Listening(Arc::clone(self))
    }

    /// How many listen to events, and how many bytes all were sent.
    pub fn streams(&self) -> (usize, u64) {
        let calls = self.calls();
        (calls.streams, calls.streamed_bytes)
    }

    /// Adds what was measured to `report`; `service` is what names begin with.
    pub fn add_to(&self, report: &mut Report, service: &str) {
        let now = dcos_core::time::steady();
        let mut calls = self.calls();
        let calls = &mut *calls;
        let http = format!("{service}.http");
        let led = now.since(self.begun).as_secs_f64();
        let name = format!("{service}.leadership.duration.gauge.seconds");
        report.gauges.push((name, led.into()));
        let name = format!("{service}.uptime.gauge.seconds");
        let up = now.since(up_since()).as_secs_f64();
        report.gauges.push((name, up.into()));
        report.gauge(format!("{http}.requests.active.gauge"), calls.active);
        for (what, bytes) in [
            ("requests", calls.asked_bytes),
            ("responses", calls.answered_bytes),
        ] {
            report.counter(format!("{http}.{what}.size.counter.bytes"), bytes);
        }
        for (class, meter) in calls.classes.iter_mut().enumerate() {
            let name = format!("{http}.responses.{}xx.rate.meter", class + 1);
            report.meters.push((name, meter.rates(now)));
        }
        let name = format!("{http}.requests.duration.timer.seconds");
        report.timers.push((name, calls.all.summary(now)));
        for (method, timer) in &mut calls.by_method {
            let method = method.as_str().to_ascii_lowercase();
            let name = format!("{http}.requests.{method}.duration.timer.seconds");
            report.timers.push((name, timer.summary(now)));
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Numbers that somebody left half-added are numbers still.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Since when there is a service in this process, whether it leads or stands by.
pub(crate) fn up_since() -> Time {
    static BEGUN: OnceLock<Time> = OnceLock::new();
    *BEGUN.get_or_init(dcos_core::time::steady)
}

/// How long changes take to be durable.
#[derive(Debug)]
pub struct Writes(Mutex<Timer>);

impl Writes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Timer::new(dcos_core::time::steady()))))
    }

    /// One began at `begun` and is over.
    pub(crate) fn end(&self, begun: Time) {
        let now = dcos_core::time::steady();
        self.timer().add(now, now.since(begun));
    }

    /// Adds what was measured to `report`; `service` is what names begin with.
    pub fn add_to(&self, report: &mut Report, service: &str) {
        let name = format!("{service}.debug.persistence.operations.store.duration.timer.seconds");
        let summary = self.timer().summary(dcos_core::time::steady());
        report.timers.push((name, summary));
    }

    fn timer(&self) -> MutexGuard<'_, Timer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who listens to events.
#[derive(Debug)]
pub struct Listening(Arc<HttpMetrics>);

impl Listening {
    /// What is sent.
    pub fn sent(&self, bytes: usize) {
        self.0.calls().streamed_bytes += bytes as u64;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.calls().streams -= 1;
    }
}

/// A call under way; one that is dropped was given up by its client.
#[derive(Debug)]
pub struct Call {
    http: Arc<HttpMetrics>,
    method: Method,
    begun: Time,
}

impl Call {
    /// It is answered: that is measured to the first byte of the answer, however long a stream goes on.
    pub fn end(self, response: Response) -> Response {
        let now = dcos_core::time::steady();
        let took = now.since(self.begun);
        let mut calls = self.http.calls();
        calls.all.add(now, took);
        let class = usize::from(response.status().as_u16() / 100).wrapping_sub(1);
        if let Some(meter) = calls.classes.get_mut(class) {
            meter.mark(now);
        }
        let mut own = calls.by_method.iter_mut();
        if let Some((_, timer)) = own.find(|(method, _)| *method == self.method) {
            timer.add(now, took);
        }
        let Some(bytes) = response.body().size_hint().exact() else {
            drop(calls);
            let http = Arc::clone(&self.http);
            return response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                    http.calls().answered_bytes += bytes;
                    frame
                }))
            });
        };
        calls.answered_bytes += bytes;
        drop(calls);
        response
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.http.calls().active -= 1;
    }
}

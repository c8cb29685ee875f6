//! Who this is, how it is, and what waits: `/info`, `/leader`, `/v1/metrics` and `/metrics`, `/v1/queue`.

use std::collections::BTreeMap;

use axum::response::Response;
use dcos_marathon::api::metrics::Report;
use serde_json::{Value, json};

use super::{Api, Mailbox, ok};

/// The Metronome whose API this is, and the Marathon it is made of.
const VERSION: &str = "0.6.70";
const LIB_VERSION: &str = "1.11.24";

pub(super) fn info(mailbox: &Mailbox) -> Response {
    let config = mailbox.config();
    // Values are rendered as HOCON, so that texts have their quotes.
    let quoted = |text: &str| Value::from(format!("{text:?}"));
    let view = mailbox.view();
    ok(&json!({
        "version": VERSION,
        "libVersion": LIB_VERSION,
        "config": {
            "metronome.framework.name": quoted(&config.framework_name),
            "metronome.leader.election.hostname": quoted(&config.hostname),
            "metronome.mesos.role": quoted(&config.mesos_role),
            "metronome.mesos.user": quoted(&config.mesos_user),
            "metronome.mesos.master.url": quoted(view.master.as_deref().unwrap_or(&config.master)),
            "metronome.mesos.failover.timeout": config.failover_timeout.as_secs().to_string(),
            "play.server.http.port": config.http_port.to_string(),
        },
    }))
}

pub(super) fn leader(mailbox: &Mailbox) -> Response {
    let config = mailbox.config();
    let leader = format!("{}:{}", config.hostname, config.http_port);
    ok(&json!({"leader": leader}))
}

/// What is measured.
pub(super) fn report(api: &Api) -> Report {
    let view = api.mailbox.view();
    let mut report = Report::default();
    report.gauge("metronome.jobs.active.gauge", view.active);
    report.gauge("metronome.jobs.waiting.gauge", view.waiting.len());
    report.gauge("metronome.jobs.known.gauge", view.jobs.len());
    for (name, count) in view.counters.named() {
        report.counter(name, count);
    }
    for (name, count) in view.counters.spoken.named("metronome") {
        report.counter(name, count);
    }
    api.http.add_to(&mut report, "metronome");
    api.mailbox.writes().add_to(&mut report, "metronome");
    report
}

/// The runs that wait to be launched, by job.
pub(super) fn queue(mailbox: &Mailbox) -> Response {
    let view = mailbox.view();
    let mut jobs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (key, ()) in view.waiting.iter() {
        let runs = jobs.entry(key.job.as_str()).or_default();
        runs.push(json!({"runId": key.run}));
    }
    let jobs: Value = jobs
        .into_iter()
        .map(|(job, runs)| json!({"jobId": job, "runs": runs}))
        .collect();
    ok(&jobs)
}

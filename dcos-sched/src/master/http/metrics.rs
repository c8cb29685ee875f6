//! `/metrics/snapshot` and `GET_METRICS`: the names of Mesos 1.11 (`docs/monitoring.md`).

use std::collections::BTreeMap;
use std::fs;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse as _, Response};
use dcos_core::resources::Resources;
use dcos_proto::json::JsonEnum as _;
use dcos_proto::mesos::TaskState;
use dcos_security::{Action, Caller, Object};
use serde_json::{Map, Value};

use super::{Api, reads};
use crate::master::{Link, Snapshot};

pub(super) async fn snapshot(State(api): State<Api>, caller: Caller, uri: Uri) -> Response {
    let path = Object::value("/metrics/snapshot");
    if let Err(refusal) = api.allow(&caller, Action::GetEndpointWithPath, &path) {
        return refusal.into_response();
    }
    reads::read(&api, &uri, |snapshot, _, _| {
        let object: Map<String, Value> = all(snapshot)
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        Value::from(object)
    })
    .await
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are doubles, as in Mesos"
)]
pub(super) fn all(snapshot: &Snapshot) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    put("master/elected", 1.0);
    put(
        "master/uptime_secs",
        (snapshot.now - snapshot.started).as_secs_f64(),
    );
    let agents = || snapshot.agents.values();
    put(
        "master/slaves_connected",
        agents().filter(|agent| agent.connected).count() as f64,
    );
    put(
        "master/slaves_disconnected",
        agents().filter(|agent| !agent.connected).count() as f64,
    );
    put(
        "master/slaves_active",
        agents().filter(|agent| agent.active).count() as f64,
    );
    put(
        "master/slaves_inactive",
        agents().filter(|agent| !agent.active).count() as f64,
    );
    put(
        "master/slaves_unreachable",
        snapshot.unreachable.len() as f64,
    );
    let frameworks = || snapshot.frameworks.values();
    put(
        "master/frameworks_connected",
        frameworks()
            .filter(|framework| framework.link.is_connected())
            .count() as f64,
    );
    put(
        "master/frameworks_disconnected",
        frameworks()
            .filter(|framework| framework.link == Link::Disconnected)
            .count() as f64,
    );
    put(
        "master/frameworks_active",
        frameworks().filter(|framework| framework.active).count() as f64,
    );
    put(
        "master/frameworks_inactive",
        frameworks().filter(|framework| !framework.active).count() as f64,
    );
    put(
        "master/frameworks_recovered",
        frameworks()
            .filter(|framework| framework.link == Link::Recovered)
            .count() as f64,
    );
    put("master/outstanding_offers", snapshot.offers.len() as f64);
    let active = [
        TaskState::TaskStaging,
        TaskState::TaskStarting,
        TaskState::TaskRunning,
        TaskState::TaskKilling,
    ];
    for state in active {
        let counts = frameworks().map(|framework| u64::from(framework.counts.of(state)));
        put(&metric(state), counts.sum::<u64>() as f64);
    }
    put(
        "master/tasks_unreachable",
        frameworks()
            .map(|framework| framework.unreachable_tasks.len())
            .sum::<usize>() as f64,
    );
    for state in [
        "finished",
        "failed",
        "killed",
        "lost",
        "error",
        "dropped",
        "gone",
        "gone_by_operator",
    ] {
        put(&format!("master/tasks_{state}"), 0.0);
    }
    put("master/event_queue_messages", 0.0);
    put("master/event_queue_dispatches", 0.0);
    put("master/event_queue_http_requests", 0.0);
    for (name, count) in snapshot.counters.named() {
        put(name, count as f64);
    }
    for (name, count) in snapshot
        .counters
        .ends
        .iter()
        .chain(&snapshot.counters.ends_by_reason)
        .chain(&snapshot.counters.operations)
    {
        put(name, *count as f64);
    }
    let mut total = Resources::default();
    let mut used = Resources::default();
    for agent in agents() {
        total += &agent.total;
        used += &agent.used_total();
    }
    for name in ["cpus", "gpus", "mem", "disk"] {
        for (suffix, revocable) in [("", false), ("_revocable", true)] {
            let amount = |resources: &Resources| {
                let part = resources.filter(|resource| resource.revocable.is_some() == revocable);
                part.scalar_quantities().get(name).as_f64()
            };
            let (total, used) = (amount(&total), amount(&used));
            put(&format!("master/{name}{suffix}_total"), total);
            put(&format!("master/{name}{suffix}_used"), used);
            put(
                &format!("master/{name}{suffix}_percent"),
                if total > 0.0 { used / total } else { 0.0 },
            );
        }
    }
    for (name, value) in host() {
        put(name, value);
    }
    metrics
}

fn metric(state: TaskState) -> String {
    format!(
        "master/{}",
        state.name().to_lowercase().replace("task_", "tasks_")
    )
}

/// What the machine is doing; what it does not tell is left out.
#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are doubles, as in Mesos"
)]
pub(super) fn host() -> Vec<(&'static str, f64)> {
    let mut values = Vec::new();
    if let Ok(cpus) = std::thread::available_parallelism() {
        values.push(("system/cpus_total", cpus.get() as f64));
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let names = ["system/load_1min", "system/load_5min", "system/load_15min"];
    values.extend(
        names
            .into_iter()
            .zip(load.split(' ').filter_map(|text| text.parse().ok())),
    );
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    for (key, name) in [
        ("MemTotal:", "system/mem_total_bytes"),
        ("MemFree:", "system/mem_free_bytes"),
    ] {
        let line = memory.lines().find_map(|line| line.strip_prefix(key));
        let kilobytes =
            line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        values.extend(kilobytes.map(|kilobytes| (name, kilobytes * 1024.0)));
    }
    values
}

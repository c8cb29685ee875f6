//! `/metrics/snapshot`: what the agent counts, under the original's names.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use dcos_core::resources::{Resources, Scalar};
use dcos_core::units::parse_duration;
use dcos_proto::mesos::{Task, TaskState};
use dcos_security::Caller;
use dcos_wire::{Refusal, reply};

use super::Context;
use crate::agent::shell::now;
use crate::agent::view::View;

pub(super) async fn snapshot(
    State(context): State<Context>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    context.allow_path(&caller, "/metrics/snapshot")?;
    let parameters = query.iter().flat_map(|query| query.split('&'));
    for timeout in parameters.filter_map(|parameter| parameter.strip_prefix("timeout=")) {
        if let Err(error) = parse_duration(timeout) {
            let text = format!("Invalid timeout '{timeout}': {error}.\n");
            return Err(Refusal::bad_request(text));
        }
    }
    let metrics = all(&context).await?;
    let text = serde_json::to_string(&metrics).unwrap_or_default();
    reply::jsonp(query.as_deref(), text)
}

/// Every metric by name.
pub(super) async fn all(context: &Context) -> Result<BTreeMap<String, f64>, Refusal> {
    let view = context.view().await?;
    let mut metrics = BTreeMap::new();
    let mut set = |name: &str, value: f64| {
        metrics.insert(format!("slave/{name}"), value);
    };
    let uptime = now().since(context.started);
    set("uptime_secs", uptime.as_secs_f64());
    set("registered", f64::from(u8::from(view.master.is_some())));
    set("frameworks_active", count(view.frameworks.len()));
    let executors = || {
        view.frameworks
            .iter()
            .flat_map(|framework| &framework.executors)
    };
    set(
        "executors_running",
        count(executors().filter(|executor| !executor.over).count()),
    );
    set("executors_terminating", 0.0);
    for (state, name) in STATES {
        let known = tasks(&view).filter(|task| task.state() == state).count();
        set(&format!("tasks_{name}"), count(known));
    }
    for (name, total, used) in shares(&view) {
        set(&format!("{name}_total"), total);
        set(&format!("{name}_used"), used);
        let share = if total > 0.0 { used / total } else { 0.0 };
        set(&format!("{name}_percent"), share);
    }
    system(&mut metrics);
    Ok(metrics)
}

const STATES: [(TaskState, &str); 8] = [
    (TaskState::TaskStaging, "staging"),
    (TaskState::TaskStarting, "starting"),
    (TaskState::TaskRunning, "running"),
    (TaskState::TaskKilling, "killing"),
    (TaskState::TaskFinished, "finished"),
    (TaskState::TaskFailed, "failed"),
    (TaskState::TaskKilled, "killed"),
    (TaskState::TaskLost, "lost"),
];

/// Every task that is remembered, ended ones included.
fn tasks(view: &View) -> impl Iterator<Item = &Task> {
    let frameworks = view.frameworks.iter().chain(&view.completed_frameworks);
    let executors = frameworks.flat_map(|framework| {
        framework
            .executors
            .iter()
            .chain(&framework.completed_executors)
    });
    executors.flat_map(|executor| {
        let live = executor.queued.iter().chain(&executor.launched);
        live.chain(&executor.terminated).chain(&executor.completed)
    })
}

fn shares(view: &View) -> [(&'static str, f64, f64); 4] {
    let total = Resources::from(&view.info.resources);
    let executors = view
        .frameworks
        .iter()
        .flat_map(|framework| &framework.executors);
    let used = executors.filter(|executor| !executor.over);
    let used: Resources = used.flat_map(|executor| &executor.resources).collect();
    ["cpus", "gpus", "mem", "disk"].map(|name| {
        let amount = |resources: &Resources| resources.scalar(name).map_or(0.0, Scalar::as_f64);
        (name, amount(&total), amount(&used))
    })
}

#[expect(clippy::cast_precision_loss, reason = "metrics are numbers of JSON")]
fn system(metrics: &mut BTreeMap<String, f64>) {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit);
    let mut set = |name: &str, value: f64| {
        metrics.insert(format!("system/{name}"), value);
    };
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    set("cpus_total", count(cpus));
    for (load, name) in info
        .loads
        .iter()
        .zip(["load_1min", "load_5min", "load_15min"])
    {
        // The kernel counts in 65536ths.
        set(name, *load as f64 / 65536.0);
    }
    set("mem_total_bytes", (info.totalram * unit) as f64);
    set("mem_free_bytes", (info.freeram * unit) as f64);
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

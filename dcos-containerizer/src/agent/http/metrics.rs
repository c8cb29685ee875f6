//! `/metrics/snapshot`: what the agent counts, under the original's names; `/metrics` for Prometheus.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use dcos_core::resources::{Resources, Scalar};
use dcos_core::units::parse_duration;
use dcos_proto::mesos::{Resource, Task, TaskState};
use dcos_security::Caller;
use dcos_wire::prometheus::{self, Sample};
use dcos_wire::{Refusal, reply};
use http::StatusCode;

use super::Context;
use crate::agent::ExecutorState;
use crate::agent::config::Meter;
use crate::agent::counters;
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
    let metrics = in_turn(&context).await?;
    let text = serde_json::to_string(&metrics).unwrap_or_default();
    reply::jsonp(query.as_deref(), text)
}

/// The same for Prometheus.
pub(super) async fn scraped(
    State(context): State<Context>,
    caller: Caller,
) -> Result<Response, Refusal> {
    // The same as there, and no path that rules could name.
    context.allow_path(&caller, "/metrics/snapshot")?;
    let metrics = in_turn(&context).await?;
    let samples = metrics.into_iter();
    Ok(prometheus::page(
        samples.map(|(name, value)| Sample::plain(name, value)),
    ))
}

/// Every metric by name, not more often than may be asked.
async fn in_turn(context: &Context) -> Result<BTreeMap<String, f64>, Refusal> {
    let turn = context.metrics.come(None).await;
    turn.map_err(|error| {
        let text = format!("Request dropped: {error}");
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, text)
    })?;
    all(context).await
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
    for (state, name) in EXECUTORS {
        let known = counters::executors(&view, state);
        set(&format!("executors_{name}"), count(known));
    }
    for (state, name) in LIVE {
        let known = tasks(&view).filter(|task| task.state() == state).count();
        set(&format!("tasks_{name}"), count(known));
    }
    let counted = &view.counters;
    for (state, name) in ENDED {
        let ended = counted.ended.get(&state).copied().unwrap_or_default();
        set(&format!("tasks_{name}"), number(ended));
    }
    for (name, total, used) in shares(&view) {
        set(&format!("{name}_total"), total);
        set(&format!("{name}_used"), used);
        let share = if total > 0.0 { used / total } else { 0.0 };
        set(&format!("{name}_percent"), share);
    }
    set("recovery_time_secs", context.recovery.as_secs_f64());
    // Damage ends an agent: one that runs has found none.
    set("recovery_errors", 0.0);
    let (pending, age) = view.removals;
    set("executor_directory_max_allowed_age_secs", age.as_secs_f64());
    for (name, value) in [
        ("executors_terminated", counted.executors_terminated),
        ("executors_preempted", counted.executors_preempted),
        ("valid_status_updates", counted.valid_status_updates),
        ("invalid_status_updates", counted.invalid_status_updates),
        ("valid_framework_messages", counted.valid_framework_messages),
        (
            "invalid_framework_messages",
            counted.invalid_framework_messages,
        ),
        ("container_launch_errors", counted.container_launch_errors),
    ] {
        set(name, number(value));
    }
    for (name, value) in [
        ("gc/path_removals_pending", count(pending)),
        (
            "gc/path_removals_succeeded",
            number(counted.removals_succeeded),
        ),
        ("gc/path_removals_failed", number(counted.removals_failed)),
        (
            Meter::DESTROY_ERRORS,
            number(counted.container_destroy_errors),
        ),
    ] {
        metrics.insert(name.to_owned(), value);
    }
    for (name, value) in context.meters.iter().flat_map(Meter::read) {
        *metrics.entry(name).or_default() += value;
    }
    let connections = context.connections.metrics();
    metrics.extend(connections.map(|(name, value)| (name.to_owned(), value)));
    system(&mut metrics);
    Ok(metrics)
}

const EXECUTORS: [(ExecutorState, &str); 3] = [
    (ExecutorState::Registering, "registering"),
    (ExecutorState::Running, "running"),
    (ExecutorState::Terminating, "terminating"),
];

const LIVE: [(TaskState, &str); 4] = [
    (TaskState::TaskStaging, "staging"),
    (TaskState::TaskStarting, "starting"),
    (TaskState::TaskRunning, "running"),
    (TaskState::TaskKilling, "killing"),
];

const ENDED: [(TaskState, &str); 5] = [
    (TaskState::TaskFinished, "finished"),
    (TaskState::TaskFailed, "failed"),
    (TaskState::TaskKilled, "killed"),
    (TaskState::TaskLost, "lost"),
    (TaskState::TaskGone, "gone"),
];

/// Every task that has not ended.
fn tasks(view: &View) -> impl Iterator<Item = &Task> {
    let frameworks = view.frameworks.iter();
    let executors = frameworks.flat_map(|framework| &framework.executors);
    executors.flat_map(|executor| executor.queued.iter().chain(&executor.launched))
}

/// What there is of each resource, and what executors have of it; what may be taken back by itself.
fn shares(view: &View) -> Vec<(String, f64, f64)> {
    let executors = view
        .frameworks
        .iter()
        .flat_map(|framework| &framework.executors);
    let used = executors.filter(|executor| !executor.over);
    let (lent_out, used): (Vec<&Resource>, Vec<&Resource>) = used
        .flat_map(|executor| &executor.resources)
        .partition(|resource| resource.revocable.is_some());
    let amount = |resources: &Resources, name| resources.scalar(name).map_or(0.0, Scalar::as_f64);
    let own = (
        Resources::from(&view.info.resources),
        used.into_iter().collect(),
    );
    let lent = (view.oversubscribed.clone(), lent_out.into_iter().collect());
    let mut shares = Vec::new();
    for ((total, used), end) in [(own, ""), (lent, "_revocable")] {
        for name in ["cpus", "gpus", "mem", "disk"] {
            shares.push((
                format!("{name}{end}"),
                amount(&total, name),
                amount(&used, name),
            ));
        }
    }
    shares
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

#[expect(clippy::cast_precision_loss, reason = "metrics are numbers of JSON")]
fn number(number: u64) -> f64 {
    number as f64
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

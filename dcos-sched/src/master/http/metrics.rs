//! `/metrics/snapshot` and `GET_METRICS`: the names of Mesos 1.11 (`docs/monitoring.md`).

use dcos_core::states::is_terminal;
use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use dcos_core::resources::{ResourceExt as _, Resources, Scalar};
use dcos_proto::json::JsonEnum as _;
use dcos_proto::mesos::TaskState;
use dcos_proto::mesos::offer::operation;
use dcos_proto::scheduler::{call, event};
use dcos_security::{Action, Caller, Object};
use dcos_wire::Refusal;
use dcos_wire::prometheus::{self, Sample};
use serde_json::{Map, Value};

use super::turns::too_many;
use super::{Api, reads};
use crate::allocator::Metrics;
use crate::master::feedback::is_final;
use crate::master::gauges::Gauges;
use crate::master::{Framework, Link, Snapshot};

mod roles;

pub(crate) use roles::Figures;

pub(super) async fn snapshot(State(api): State<Api>, caller: Caller, uri: Uri) -> Response {
    let path = Object::value("/metrics/snapshot");
    if let Err(refusal) = api.allow(&caller, Action::GetEndpointWithPath, &path) {
        return refusal.into_response();
    }
    if let Some(text) = reads::parameter(uri.query(), "timeout")
        && let Err(error) = dcos_core::units::parse_duration(&text)
    {
        let text = format!("Invalid timeout '{text}': {error}.\n");
        return Refusal::bad_request(text).into_response();
    }
    if let Err(error) = api.metrics.come(None).await {
        return too_many(error).into_response();
    }
    let allocator = match api.gauges.figures.of(&api.master).await {
        Ok(figures) => figures,
        Err(stopped) => return Refusal::from(stopped).into_response(),
    };
    let gauges = Arc::clone(&api.gauges);
    reads::read(&api, &uri, move |snapshot, _, _| {
        let object: Map<String, Value> = all(snapshot, &gauges, &allocator)
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        Value::from(object)
    })
    .await
}

/// The same for Prometheus.
pub(super) async fn scraped(State(api): State<Api>, caller: Caller) -> Response {
    // The same as there, and no path that rules could name.
    let path = Object::value("/metrics/snapshot");
    if let Err(refusal) = api.allow(&caller, Action::GetEndpointWithPath, &path) {
        return refusal.into_response();
    }
    if let Err(error) = api.metrics.come(None).await {
        return too_many(error).into_response();
    }
    match now(&api).await {
        Ok(metrics) => page(&metrics),
        Err(refusal) => refusal.into_response(),
    }
}

/// As Prometheus reads them.
pub(super) fn page(metrics: &BTreeMap<String, f64>) -> Response {
    prometheus::page(samples(metrics))
}

/// All there are, as they are now.
pub(super) async fn now(api: &Api) -> Result<BTreeMap<String, f64>, Refusal> {
    let allocator = api.gauges.figures.of(&api.master).await?;
    let snapshot = api.snapshot().await?;
    Ok(all(&snapshot, &api.gauges, &allocator))
}

/// Metrics whose frameworks and roles are labels.
fn samples(metrics: &BTreeMap<String, f64>) -> impl Iterator<Item = Sample> {
    metrics.iter().map(|(name, value)| {
        let parts: Vec<&str> = name.split('/').collect();
        let of_role = |name: &str, role: &[&str]| (name.to_owned(), vec![("role", role.join("/"))]);
        let (name, labels) = match &parts[..] {
            ["master", "frameworks", name, id, rest @ ..] => (
                format!("master/framework/{}", rest.join("/")),
                vec![("name", (*name).to_owned()), ("id", (*id).to_owned())],
            ),
            [
                "allocator",
                "mesos",
                "roles",
                role @ ..,
                "shares",
                "dominant",
            ] => of_role("allocator/mesos/role/shares/dominant", role),
            [
                "allocator",
                "mesos",
                "offer_filters",
                "roles",
                role @ ..,
                "active",
            ] => of_role("allocator/mesos/role/offer_filters/active", role),
            [
                "allocator",
                "mesos",
                "quota",
                "roles",
                role @ ..,
                "resources",
                resource,
                what,
            ] => {
                let (name, mut labels) =
                    of_role(&format!("allocator/mesos/role/quota/{what}"), role);
                labels.push(("resource", (*resource).to_owned()));
                (name, labels)
            }
            _ => (name.clone(), Vec::new()),
        };
        let value = *value;
        Sample {
            name,
            labels,
            value,
        }
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are doubles, as in Mesos"
)]
pub(super) fn all(
    snapshot: &Snapshot,
    gauges: &Gauges,
    allocator: &Metrics,
) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    measured(&mut metrics, gauges);
    always(&mut metrics);
    let shown = snapshot.frameworks.values();
    for framework in shown.filter(|_| snapshot.settings.framework_metrics) {
        of_framework(&mut metrics, framework);
    }
    let mut put = |name: &str, value: f64| {
        metrics.insert(name.to_owned(), value);
    };
    put("master/elected", 1.0);
    put(
        "master/uptime_secs",
        (snapshot.now - snapshot.process_start()).as_secs_f64(),
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
    for (name, count) in snapshot.counters.named() {
        put(name, count as f64);
    }
    for (name, count) in snapshot
        .counters
        .ends
        .iter()
        .chain(&snapshot.counters.ends_by_reason)
    {
        put(name, *count as f64);
    }
    operations(&mut metrics, snapshot);
    shares(&mut metrics, snapshot);
    roles::put(&mut metrics, snapshot, allocator);
    metrics.extend(
        host()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    metrics
}

/// What became of operations, those under way included: of each type, and of all.
#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are doubles, as in Mesos"
)]
fn operations(metrics: &mut BTreeMap<String, f64>, snapshot: &Snapshot) {
    let mut add = |kind: &str, state: &str, count: u64| {
        for name in [
            format!("{kind}/{state}"),
            format!("{kind}/total"),
            state.to_owned(),
            "total".to_owned(),
        ] {
            *metrics
                .entry(format!("master/operations/{name}"))
                .or_default() += count as f64;
        }
    };
    for (name, count) in &snapshot.counters.operations {
        if let Some((kind, state)) = name.split_once('/') {
            add(kind, state, *count);
        }
    }
    let booked = snapshot.agents.values();
    for pending in booked.flat_map(|agent| agent.operations.values()) {
        let state = pending.operation.latest_status.state();
        if !is_final(state) {
            let kind = pending.operation.info.r#type().as_str_name();
            let state = state.as_str_name().trim_start_matches("OPERATION_");
            add(&kind.to_lowercase(), &state.to_lowercase(), 1);
        }
    }
}

/// What all agents have, what of it is used, and what the allocator holds as given out.
fn shares(metrics: &mut BTreeMap<String, f64>, snapshot: &Snapshot) {
    // Sums of scalars; adding up ports of 40,000 agents would take most of the time, for nothing.
    let mut sums = [[[Scalar::ZERO; 2]; 2]; NAMES.len()];
    let mut add = |resources: &Resources, which: usize| {
        for resource in resources.iter() {
            let name = NAMES.iter().position(|name| *name == resource.name);
            if let (Some(name), Some(scalar)) = (name, resource.scalar_value()) {
                let revocable = usize::from(resource.revocable.is_some());
                sums[name][revocable][which] += scalar;
            }
        }
    };
    for agent in snapshot.agents.values() {
        add(&agent.total, 0);
        for used in agent.used.values() {
            add(used, 1);
        }
    }
    let mut offered = Resources::default();
    for offer in snapshot.offers.values() {
        let scalars = offer.resources.iter();
        let scalars = scalars.filter(|resource| resource.scalar.is_some());
        offered += &Resources::from_messages(scalars);
    }
    let offered = offered.scalar_quantities();
    for (name, sums) in NAMES.iter().zip(sums) {
        for (suffix, [total, used]) in [("", sums[0]), ("_revocable", sums[1])] {
            let (total, used) = (total.as_f64(), used.as_f64());
            let mut put = |what: &str, value: f64| {
                metrics.insert(format!("master/{name}{suffix}_{what}"), value);
            };
            put("total", total);
            put("used", used);
            put("percent", if total > 0.0 { used / total } else { 0.0 });
        }
        if *name != "gpus" || sums[0][0] > Scalar::ZERO {
            let (total, used) = (sums[0][0] + sums[1][0], sums[0][1] + sums[1][1]);
            let held = used.as_f64() + offered.get(name).as_f64();
            let key = format!("allocator/mesos/resources/{name}");
            metrics.insert(format!("{key}/total"), total.as_f64());
            metrics.insert(format!("{key}/offered_or_allocated"), held);
        }
    }
}

/// The scalars that have metrics.
const NAMES: [&str; 4] = ["cpus", "gpus", "mem", "disk"];

/// What the shell measures.
#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are doubles, as in Mesos"
)]
fn measured(metrics: &mut BTreeMap<String, f64>, gauges: &Gauges) {
    for (name, gauge) in [
        ("master/event_queue_messages", &gauges.messages),
        // Calls and reads come from requests; the core has no other queue.
        ("master/event_queue_http_requests", &gauges.commands),
        (
            "master/operator_event_stream_subscribers",
            &gauges.subscribers,
        ),
        ("master/http_cache_hits", &gauges.shared_documents),
        ("registrar/queued_operations", &gauges.queued_writes),
        ("registrar/registry_size_bytes", &gauges.registry_bytes),
    ] {
        metrics.insert(name.to_owned(), gauge.get() as f64);
    }
    let connections = gauges.connections.metrics();
    metrics.extend(connections.map(|(name, value)| (name.to_owned(), value)));
    metrics.extend(gauges.store.metrics("registrar/state_store_ms"));
    let fetch = gauges.fetch.metrics("registrar/state_fetch_ms");
    metrics.extend(fetch.into_iter().take(1));
    let runs = gauges
        .allocation
        .metrics("allocator/mesos/allocation_run_ms");
    metrics.extend(runs);
    // It decides in the turn in which it is due: there is no queue to wait in.
    let mut none = gauges
        .allocation
        .metrics("allocator/mesos/allocation_run_latency_ms");
    for (name, value) in &mut none {
        if !name.ends_with("/count") {
            *value = 0.0;
        }
    }
    metrics.extend(none);
}

/// Names that are there from the beginning, and stay at nothing where this master has nothing to
/// count under them.
fn always(metrics: &mut BTreeMap<String, f64>) {
    const KINDS: [&str; 9] = [
        "",
        "create/",
        "create_disk/",
        "destroy/",
        "destroy_disk/",
        "grow_volume/",
        "reserve/",
        "shrink_volume/",
        "unreserve/",
    ];
    const STATES: [&str; 9] = [
        "dropped",
        "error",
        "failed",
        "finished",
        "gone_by_operator",
        "pending",
        "recovering",
        "total",
        "unreachable",
    ];
    for kind in KINDS {
        for state in STATES {
            metrics.insert(format!("master/operations/{kind}{state}"), 0.0);
        }
    }
    for name in [
        "allocator/event_queue_dispatches",
        "allocator/mesos/event_queue_dispatches",
        "master/event_queue_dispatches",
        "master/invalid_operation_status_update_acknowledgements",
        "master/invalid_operation_status_updates",
        "master/messages_authenticate",
        "master/messages_operation_status_update",
        "master/messages_operation_status_update_acknowledgement",
        "master/slave_shutdowns_canceled",
        "master/slave_shutdowns_completed",
        "master/slave_shutdowns_scheduled",
        "master/slave_unreachable_canceled",
        "master/slave_unreachable_scheduled",
        "master/valid_operation_status_update_acknowledgements",
        "master/valid_operation_status_updates",
    ] {
        metrics.insert(name.to_owned(), 0.0);
    }
}

/// Where the types of calls, events and operations lie; 0 is for none.
const NUMBERS: RangeInclusive<i32> = 1..=100;

/// What is counted of one framework (Mesos 1.11 `src/master/metrics.cpp`, `FrameworkMetrics`).
#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are doubles, as in Mesos"
)]
fn of_framework(metrics: &mut BTreeMap<String, f64>, framework: &Framework) {
    let id = framework.id().value;
    let prefix = format!("master/frameworks/{}/{id}", escaped(&framework.info.name));
    let mut put = |name: &str, value: f64| {
        metrics.insert(format!("{prefix}/{name}"), value);
    };
    put(
        "subscribed",
        f64::from(u8::from(framework.link.is_connected())),
    );
    let total = |counts: &BTreeMap<&'static str, u64>| counts.values().sum::<u64>() as f64;
    put("calls", total(&framework.calls));
    for kind in NUMBERS.filter_map(|number| call::Type::try_from(number).ok()) {
        let kind = kind.as_str_name();
        let count = framework.calls.get(kind).copied().unwrap_or_default();
        put(&format!("calls/{}", kind.to_lowercase()), count as f64);
    }
    let tally = &framework.tally;
    put("events", total(&tally.events));
    for kind in NUMBERS.filter_map(|number| event::Type::try_from(number).ok()) {
        let kind = kind.as_str_name();
        let count = tally.events.get(kind).copied().unwrap_or_default();
        put(&format!("events/{}", kind.to_lowercase()), count as f64);
    }
    put("offers/sent", tally.offers_sent as f64);
    put("offers/accepted", tally.offers_accepted as f64);
    put("offers/declined", tally.offers_declined as f64);
    put("offers/rescinded", tally.offers_rescinded as f64);
    put("operations", tally.operations.values().sum::<u64>() as f64);
    for kind in NUMBERS.filter_map(|number| operation::Type::try_from(number).ok()) {
        let count = tally.operations.get(&kind).copied().unwrap_or_default();
        put(
            &format!("operations/{}", kind.name().to_lowercase()),
            count as f64,
        );
    }
    for state in ALL_STATES {
        let name = state.name().to_lowercase();
        if is_terminal(state) {
            put(
                &format!("tasks/terminal/{name}"),
                f64::from(tally.ended.of(state)),
            );
        } else {
            put(
                &format!("tasks/active/{name}"),
                f64::from(framework.counts.of(state)),
            );
        }
    }
    for role in framework.roles() {
        let suppressed = framework.suppressed.contains(&role);
        let name = format!("roles/{role}/suppressed");
        put(&name, f64::from(u8::from(suppressed)));
    }
}

/// A framework's name as it stands in a path (`process::http::encode`).
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

const ALL_STATES: [TaskState; 14] = [
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskFinished,
    TaskState::TaskFailed,
    TaskState::TaskKilled,
    TaskState::TaskError,
    TaskState::TaskLost,
    TaskState::TaskDropped,
    TaskState::TaskUnreachable,
    TaskState::TaskGone,
    TaskState::TaskGoneByOperator,
    TaskState::TaskUnknown,
];

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dcos_core::seed::Seed;
    use dcos_core::time::Time;
    use dcos_proto::mesos::{FrameworkInfo, MasterInfo};

    use super::*;
    use crate::allocator::{self, HierarchicalDrf};
    use crate::master::{Master, Settings};

    /// What `/metrics/snapshot` of an original master and its parts shows right after its start.
    const ORIGINAL: &str = include_str!("metrics-1.11.txt");

    fn metrics() -> BTreeMap<String, f64> {
        let seed = Seed::new(1);
        let allocator = HierarchicalDrf::new(allocator::Config::default(), &seed);
        let settings = Settings::new(MasterInfo::default());
        let mut master = Master::new(settings, Box::new(allocator), &seed, Time::from_secs(1));
        let info = FrameworkInfo {
            id: Some("f-1".into()),
            name: "a b/c".to_owned(),
            ..FrameworkInfo::default()
        };
        let framework = Framework::new(info, Time::from_secs(1));
        master
            .frameworks
            .insert(framework.id(), Arc::new(framework));
        let gauges = Gauges::default();
        for timings in [&gauges.store, &gauges.fetch, &gauges.allocation] {
            timings.record(Duration::from_millis(3));
        }
        all(&Snapshot::of(&master), &gauges, &Metrics::default())
    }

    #[test]
    fn no_name_of_the_original_is_missing() {
        let ours = metrics();
        let missing: Vec<&str> = ORIGINAL
            .lines()
            .filter(|name| !ours.contains_key(*name))
            .collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn prometheus_gets_names_it_can_read() {
        let text = prometheus::text(samples(&metrics()));
        assert!(text.contains("mesos_master_elected 1\n"), "{text}");
        let line =
            "mesos_master_framework_tasks_active_task_running{name=\"a%20b%2Fc\",id=\"f-1\"} 0\n";
        assert!(text.contains(line), "{text}");
    }
}

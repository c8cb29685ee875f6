//! Apps, tasks and groups as documents, with what is asked to be embedded.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{extend, pods};
use crate::PathId;
use crate::Timestamp;
use crate::core::View;
use crate::health::verdict;
use crate::instance::{Condition, Instance};
use crate::model::{App, Group};

/// What to embed in an app.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one word of the embed parameter"
)]
pub(super) struct Embed {
    pub(super) tasks: bool,
    pub(super) counts: bool,
    pub(super) deployments: bool,
    pub(super) readiness: bool,
    pub(super) last_task_failure: bool,
    pub(super) task_stats: bool,
}

impl Embed {
    /// Reads `apps.tasks`, `app.tasks`, `group.apps.tasks` or `tasks`; others mean nothing.
    pub(super) fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut embed = Self::default();
        for name in names {
            let name = name.strip_prefix("group.").unwrap_or(name);
            let name = name
                .strip_prefix("apps.")
                .or(name.strip_prefix("app."))
                .unwrap_or(name);
            match name {
                "tasks" => (embed.tasks, embed.deployments) = (true, true),
                "counts" => embed.counts = true,
                "deployments" => embed.deployments = true,
                "readiness" => embed.readiness = true,
                "lastTaskFailure" => embed.last_task_failure = true,
                "taskStats" => embed.task_stats = true,
                "failures" => {
                    (embed.tasks, embed.deployments, embed.last_task_failure) = (true, true, true);
                }
                _ => {}
            }
        }
        embed
    }
}

/// An app's definition.
pub(crate) fn definition(app: &App) -> Value {
    let mut document = json!(app);
    if app.is_resident() {
        document["residency"] =
            json!({"relaunchEscalationTimeoutSeconds": 3600, "taskLostBehavior": "WAIT_FOREVER"});
    }
    document
}

pub(super) fn app(view: &View, app: &App, embed: Embed) -> Value {
    let mut document = definition(app);
    let instances: Vec<&Instance> = view.instances_of(&app.id).map(AsRef::as_ref).collect();
    if embed.counts {
        let counts = Counts::of(view, &instances);
        extend(
            &mut document,
            json!({
                "tasksStaged": counts.staged,
                "tasksRunning": counts.running,
                "tasksHealthy": counts.healthy,
                "tasksUnhealthy": counts.unhealthy,
            }),
        );
    }
    if embed.deployments {
        document["deployments"] = json!(deployments_of(view, &app.id));
    }
    if embed.readiness {
        let results: Vec<_> = instances.iter().filter_map(|i| readiness(i)).collect();
        document["readinessCheckResults"] = json!(results);
    }
    if embed.tasks {
        let tasks: Vec<_> = instances
            .iter()
            .map(|instance| task(view, instance))
            .collect();
        document["tasks"] = json!(tasks);
    }
    if embed.last_task_failure
        && let Some(failure) = view.failures.get(&app.id)
    {
        document["lastTaskFailure"] = json!(crate::core::TaskFailure {
            started_at: None,
            ..(**failure).clone()
        });
    }
    if embed.task_stats {
        document["tasksStats"] = stats(view, app, &instances);
    }
    document
}

fn deployments_of(view: &View, app: &PathId) -> Vec<Value> {
    view.deployments
        .iter()
        .filter(|deployment| deployment.plan.affected().contains(app))
        .map(|deployment| json!({"id": deployment.plan.id}))
        .collect()
}

/// The last result of an instance's readiness check.
pub(super) fn readiness(instance: &Instance) -> Option<Value> {
    let result = instance.ready.as_ref()?;
    let mut document =
        json!({"name": result.name, "taskId": instance.task_id, "ready": result.ready});
    if let Some((status, content_type, body)) = &result.last_response {
        document["lastResponse"] =
            json!({"status": status, "contentType": content_type, "body": body});
    }
    Some(document)
}

pub(super) fn task(view: &View, instance: &Instance) -> Value {
    let addresses = instance.shown_addresses();
    let known = instance.health.iter().filter(|health| health.is_known());
    let health: Vec<_> = known.map(|health| health.to_json(&instance.id)).collect();
    let mut document = json!({
        "appId": instance.app,
        "healthCheckResults": health,
        "host": instance.agent.host,
        "id": instance.task_id,
        "ipAddresses": addresses,
        "ports": instance.host_ports(),
        "servicePorts": [],
        "slaveId": instance.agent.id,
        "state": instance.condition.state(),
        "stagedAt": instance.staged_at,
        "version": instance.version,
        "localVolumes": local_volumes(instance),
        "role": instance.role,
    });
    if let Some(started) = instance.started_at {
        document["startedAt"] = json!(started);
    }
    if let Some(check) = &instance.check_result {
        document["checkResult"] = check.clone();
    }
    for (name, value) in [
        ("region", &instance.agent.region),
        ("zone", &instance.agent.zone),
    ] {
        if let Some(value) = value {
            document[name] = json!(value);
        }
    }
    if let Some(app) = view.root.app(&instance.app) {
        document["servicePorts"] = json!(app.service_ports());
    }
    document
}

/// The volumes kept for an instance.
pub(super) fn local_volumes(instance: &Instance) -> Vec<Value> {
    let volumes = instance.reservation.iter().flat_map(|kept| &kept.volumes);
    volumes
        .map(|volume| {
            json!({
                "runSpecId": instance.app,
                "containerPath": volume.container_path,
                "uuid": volume.uuid,
                "persistenceId": volume.persistence_id,
            })
        })
        .collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    staged: usize,
    running: usize,
    healthy: usize,
    unhealthy: usize,
}

impl Counts {
    fn of(view: &View, instances: &[&Instance]) -> Self {
        let mut counts = Self::default();
        for instance in instances {
            match instance.condition {
                Condition::Running => counts.running += 1,
                launching if launching.is_launching() => counts.staged += 1,
                _ => {}
            }
            match view
                .spec_of(instance)
                .and_then(|spec| verdict(spec, &instance.health))
            {
                Some(true) => counts.healthy += 1,
                Some(false) => counts.unhealthy += 1,
                None => {}
            }
        }
        counts
    }

    fn to_json(self) -> Value {
        json!({
            "staged": self.staged, "running": self.running,
            "healthy": self.healthy, "unhealthy": self.unhealthy,
        })
    }
}

fn stats(view: &View, app: &App, instances: &[&Instance]) -> Value {
    let scaled = app
        .version_info
        .map_or(app.version, |info| info.last_scaling_at);
    let config = app.config_version();
    let mut document = json!({});
    let mut add = |name: &str, test: &dyn Fn(&Instance) -> bool| {
        let some: Vec<&Instance> = instances.iter().copied().filter(|i| test(i)).collect();
        if !some.is_empty() {
            let mut stats = json!({"counts": Counts::of(view, &some).to_json()});
            if let Some(life_time) = life_time(&some) {
                stats["lifeTime"] = life_time;
            }
            document[name] = json!({"stats": stats});
        }
    };
    add("startedAfterLastScaling", &|instance| {
        instance.version >= scaled
    });
    add("withLatestConfig", &|instance| {
        instance.config_version == config
    });
    add("withOutdatedConfig", &|instance| {
        instance.config_version != config
    });
    add("totalSummary", &|_| true);
    document
}

fn life_time(instances: &[&Instance]) -> Option<Value> {
    let now = Timestamp::from(crate::shell::now());
    let started = instances.iter().filter_map(|instance| instance.started_at);
    let mut seconds: Vec<f64> = started.map(|at| now.since(at).as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    let median = if seconds.len().is_multiple_of(2) {
        f64::midpoint(*seconds.get(middle.checked_sub(1)?)?, seconds[middle])
    } else {
        seconds[middle]
    };
    let count = u32::try_from(seconds.len()).unwrap_or(u32::MAX);
    let average = seconds.iter().sum::<f64>() / f64::from(count);
    Some(json!({"averageSeconds": average, "medianSeconds": median}))
}

/// What to embed in a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupEmbed {
    pub(super) apps: Option<Embed>,
    pub(super) groups: bool,
    pub(super) pods: bool,
}

impl GroupEmbed {
    /// Reads what is asked for; nothing asked for means apps, pods and groups.
    pub(super) fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: BTreeSet<&str> = names.into_iter().collect();
        if names.is_empty() {
            return Self {
                apps: Some(Embed::default()),
                groups: true,
                pods: true,
            };
        }
        let apps = names.iter().any(|name| name.contains("apps"));
        Self {
            apps: apps.then(|| Embed::parse(names.iter().copied())),
            groups: names.contains("group.groups"),
            pods: names.iter().any(|name| name.starts_with("group.pods")),
        }
    }
}

pub(super) fn group(view: &View, id: &PathId, known: &Group, embed: GroupEmbed) -> Value {
    let root = &view.root;
    let mut document = json!({
        "id": id, "version": known.version, "dependencies": known.dependencies,
    });
    if id.is_root() {
        document["version"] = json!(root.version);
    }
    if let Some(embed) = embed.apps {
        let apps: Vec<_> = root
            .apps_in(id)
            .filter(|each| !each.is_pod())
            .map(|each| app(view, each, embed))
            .collect();
        document["apps"] = json!(apps);
    }
    if embed.pods {
        let now = Timestamp::from(crate::shell::now());
        let pods = root.apps_in(id);
        let pods = pods.filter_map(|each| pods::status::pod(view, each, now));
        document["pods"] = json!(pods.collect::<Vec<_>>());
    }
    if embed.groups {
        let groups: Vec<_> = root
            .groups_in(id)
            .filter_map(|child| Some(group(view, child, root.groups.get(child)?, embed)))
            .collect();
        document["groups"] = json!(groups);
    }
    if id.is_top_level() {
        document["enforceRole"] = json!(known.enforce_role.unwrap_or_default());
    }
    document
}

//! The state in the messages of the operator API.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::Resources;
use dcos_proto::master::response;
use dcos_proto::mesos::{AgentId, ExecutorInfo, FrameworkId, Role, Task, VersionInfo, WeightInfo};

use crate::master::snapshot::endpoint;
use crate::master::{Snapshot, VERSION};

/// A task with its resources as endpoints show them.
pub(super) fn task(task: &Task) -> Task {
    let mut task = Task::clone(task);
    task.resources = endpoint(task.resources);
    task
}

/// An executor with its resources as endpoints show them.
pub(super) fn executor(info: &ExecutorInfo, agent: &AgentId) -> response::get_executors::Executor {
    let mut executor_info = info.clone();
    executor_info.resources = endpoint(executor_info.resources);
    response::get_executors::Executor {
        executor_info,
        agent_id: agent.clone(),
    }
}

/// The roles somebody uses or that weigh something, with who uses them and what they hold.
pub(crate) fn used_roles(snapshot: &Snapshot) -> BTreeMap<String, BTreeSet<FrameworkId>> {
    let mut roles: BTreeMap<String, BTreeSet<FrameworkId>> = BTreeMap::new();
    for role in snapshot.settings.weights.keys() {
        roles.entry(role.clone()).or_default();
    }
    for (id, framework) in &snapshot.frameworks {
        let held = framework.used_total();
        for role in framework
            .roles()
            .into_iter()
            .chain(held.allocations().into_keys())
        {
            roles.entry(role).or_default().insert(id.clone());
        }
    }
    for agent in snapshot.agents.values() {
        for role in agent.total.reservations().into_keys() {
            roles.entry(role).or_default();
        }
    }
    roles
}

/// What a role's frameworks use, and what they are offered.
pub(crate) fn role_resources(snapshot: &Snapshot, role: &str) -> (Resources, Resources) {
    let mut used = Resources::default();
    let mut offered = Resources::default();
    for framework in snapshot.frameworks.values() {
        used += &framework.used_total().allocated_to_role(role);
        offered += &snapshot.offered(&framework.offers).allocated_to_role(role);
    }
    (used, offered)
}

/// The part of resources that is allocated to a role.
pub(crate) trait AllocatedTo {
    fn allocated_to_role(&self, role: &str) -> Resources;
}

impl AllocatedTo for Resources {
    fn allocated_to_role(&self, role: &str) -> Resources {
        self.allocations().remove(role).unwrap_or_default()
    }
}

pub(crate) fn weight(snapshot: &Snapshot, role: &str) -> f64 {
    snapshot.settings.weights.get(role).copied().unwrap_or(1.0)
}

pub(crate) fn roles(snapshot: &Snapshot) -> response::GetRoles {
    let roles = used_roles(snapshot).into_iter().map(|(name, frameworks)| {
        let (used, offered) = role_resources(snapshot, &name);
        let held = &used + &offered;
        Role {
            weight: weight(snapshot, &name),
            frameworks: frameworks.into_iter().collect(),
            resources: endpoint(held.to_messages()),
            name,
        }
    });
    response::GetRoles {
        roles: roles.collect(),
    }
}

pub(crate) fn weights(snapshot: &Snapshot) -> response::GetWeights {
    let weights = snapshot
        .settings
        .weights
        .iter()
        .map(|(role, weight)| WeightInfo {
            weight: *weight,
            role: Some(role.clone()),
        });
    response::GetWeights {
        weight_infos: weights.collect(),
    }
}

/// What this is. The version is that of the Mesos whose protocols it speaks, because clients
/// decide by it what they may use.
pub(crate) fn version() -> VersionInfo {
    VersionInfo {
        version: VERSION.to_owned(),
        build_date: Some("1970-01-01 00:00:00".to_owned()),
        build_time: Some(0.0),
        build_user: Some("dcos".to_owned()),
        git_sha: Some(String::new()),
        git_branch: None,
        git_tag: Some(concat!("dcos-", env!("CARGO_PKG_VERSION")).to_owned()),
    }
}

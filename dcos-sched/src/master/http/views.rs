//! The state in the messages of the operator API.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::scalar_resource;
use dcos_proto::master::response;
use dcos_proto::mesos::{AgentId, ExecutorInfo, FrameworkId, Role, Task, VersionInfo, WeightInfo};
use dcos_proto::quota::QuotaStatus;

use super::sight::Sight;
use crate::master::breakdown::{self, Breakdown};
use crate::master::quota::{config_of, info_of};
use crate::master::snapshot::endpoint;
use crate::master::{Snapshot, TaskRecord, VERSION};

/// A task with its resources as endpoints show them.
pub(super) fn task(record: &TaskRecord) -> Task {
    let mut task = record.read().into_owned();
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

/// Operations nobody has acknowledged yet, as far as a reader may see them.
pub(crate) fn operations(snapshot: &Snapshot, sight: &Sight) -> response::GetOperations {
    let pending = snapshot
        .agents
        .values()
        .flat_map(|agent| agent.operations.values());
    response::GetOperations {
        operations: pending
            .map(|pending| &pending.operation)
            .filter(|operation| sight.operation(&operation.info))
            .cloned()
            .collect(),
    }
}

/// Every role there is, with the frameworks that use it.
pub(crate) fn known_roles(snapshot: &Snapshot) -> BTreeMap<String, BTreeSet<FrameworkId>> {
    let standing = &snapshot.standing;
    breakdown::known_roles(
        snapshot.settings.roles.as_ref(),
        standing
            .weights
            .keys()
            .chain(standing.priorities.keys())
            .chain(standing.quotas.keys()),
        &snapshot.frameworks,
        &snapshot.agents,
    )
}

/// What every role holds.
pub(crate) fn breakdown(snapshot: &Snapshot) -> Breakdown {
    Breakdown::of(&snapshot.frameworks, &snapshot.agents, &snapshot.offers)
}

pub(crate) fn weight(snapshot: &Snapshot, role: &str) -> f64 {
    snapshot.standing.weights.get(role).copied().unwrap_or(1.0)
}

pub(crate) fn roles(snapshot: &Snapshot, sight: &Sight) -> response::GetRoles {
    const SHOWN: [&str; 4] = ["cpus", "disk", "gpus", "mem"];
    let breakdown = breakdown(snapshot);
    let known = known_roles(snapshot).into_iter();
    let seen = known.filter(|(name, _)| sight.role(name));
    let roles = seen.map(|(name, frameworks)| {
        let held = breakdown.role(&name);
        let mut amounts = held.allocated;
        amounts.add_all(&held.offered);
        let resources = amounts
            .iter()
            .filter(|(resource, _)| SHOWN.contains(resource))
            .map(|(resource, amount)| scalar_resource(resource, amount.as_f64()));
        Role {
            weight: weight(snapshot, &name),
            frameworks: frameworks.into_iter().collect(),
            resources: resources.collect(),
            name,
        }
    });
    response::GetRoles {
        roles: roles.collect(),
    }
}

/// The weights a reader may see.
pub(crate) fn seen_weights(snapshot: &Snapshot, sight: &Sight) -> response::GetWeights {
    let mut all = weights(snapshot);
    all.weight_infos
        .retain(|weight| sight.role(weight.role.as_deref().unwrap_or_default()));
    all
}

pub(crate) fn weights(snapshot: &Snapshot) -> response::GetWeights {
    let weights = snapshot.standing.weights.iter();
    let weights = weights.map(|(role, weight)| WeightInfo {
        weight: *weight,
        role: Some(role.clone()),
    });
    response::GetWeights {
        weight_infos: weights.collect(),
    }
}

/// Quotas in both forms.
pub(crate) fn quota(snapshot: &Snapshot) -> QuotaStatus {
    let quotas = || snapshot.standing.quotas.iter();
    QuotaStatus {
        infos: quotas().map(|(role, quota)| info_of(role, quota)).collect(),
        configs: quotas()
            .map(|(role, quota)| config_of(role, quota))
            .collect(),
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

//! What frameworks and agents may do: each question to the authorizer that the core asks, in one
//! place. What callers of HTTP endpoints may do is asked in `http`, before the core hears of it.
//!
//! Source: Mesos 1.11 `src/master/authorization.cpp`, `Master::_accept`, `Master::_subscribe`.

use dcos_proto::master::Call;
use dcos_proto::master::call::Type as Order;
use dcos_proto::mesos::offer::operation::Type;
use dcos_proto::mesos::resource::disk_info::source::Type as Source;
use dcos_proto::mesos::{AgentInfo, FrameworkInfo, Resource, TaskInfo, offer};
use dcos_security::{Action, Object, Principal};

use super::Master;

impl Master {
    /// Whether a principal may do something.
    pub(crate) fn may(&self, principal: Option<&str>, action: Action, object: &Object<'_>) -> bool {
        let subject = principal.map(Principal::new);
        let authorizer = &self.settings.security.authorizer;
        authorizer.authorized(subject.as_ref(), action, object)
    }

    /// SUBSCRIBE and `UPDATE_FRAMEWORK`: the roles a framework takes offers for.
    pub(crate) fn authorize_framework(&self, info: &FrameworkInfo) -> Result<(), String> {
        let object = Object::framework(info);
        if self.may(
            info.principal.as_deref(),
            Action::RegisterFramework,
            &object,
        ) {
            return Ok(());
        }
        let what = object.describe(Action::RegisterFramework);
        Err(format!("Not authorized to {what}"))
    }

    /// A launch: the user it would run as.
    pub(crate) fn authorize_launch(
        &self,
        framework: &FrameworkInfo,
        task: &TaskInfo,
    ) -> Result<(), String> {
        let principal = framework.principal.as_deref();
        self.check(principal, Action::RunTask, &Object::launch(task, framework))
    }

    /// Every other operation, a framework's as well as an operator's: the roles and principals of
    /// what it changes.
    pub(crate) fn authorize_operation(
        &self,
        principal: Option<&str>,
        operation: &offer::Operation,
    ) -> Result<(), String> {
        for (action, resource) in questions(operation) {
            let object = resource.map_or(Object::ANY, Object::resource);
            self.check(principal, action, &object)?;
        }
        Ok(())
    }

    /// An operator's order: everything it is about has to be allowed.
    pub(crate) fn authorize_order(&self, principal: Option<&str>, call: &Call) -> bool {
        let may = |action, object: &Object<'_>| self.may(principal, action, object);
        let any = |action| may(action, &Object::ANY);
        match call.r#type() {
            Order::Teardown => {
                let id = call
                    .teardown
                    .as_ref()
                    .map(|teardown| &teardown.framework_id);
                // That there is no such framework is nothing to hide.
                id.and_then(|id| self.frameworks.get(id))
                    .is_none_or(|framework| {
                        may(
                            Action::TeardownFramework,
                            &Object::framework(&framework.info),
                        )
                    })
            }
            Order::UpdateQuota => {
                let configs = call
                    .update_quota
                    .iter()
                    .flat_map(|update| &update.quota_configs);
                let mut roles = configs.map(|config| config.role.as_str());
                roles.all(|role| may(Action::UpdateQuotaWithConfig, &Object::value(role)))
            }
            Order::SetQuota => {
                let role = call
                    .set_quota
                    .as_ref()
                    .and_then(|set| set.quota_request.role.as_deref());
                may(
                    Action::UpdateQuota,
                    &Object::value(role.unwrap_or_default()),
                )
            }
            Order::RemoveQuota => {
                let role = call
                    .remove_quota
                    .as_ref()
                    .map(|remove| remove.role.as_str());
                may(
                    Action::UpdateQuota,
                    &Object::value(role.unwrap_or_default()),
                )
            }
            Order::UpdateWeights => {
                let weights = call
                    .update_weights
                    .iter()
                    .flat_map(|update| &update.weight_infos);
                // As it is applied: without blanks around it.
                let mut roles =
                    weights.map(|weight| weight.role.as_deref().unwrap_or_default().trim());
                roles.all(|role| may(Action::UpdateWeight, &Object::value(role)))
            }
            Order::UpdateMaintenanceSchedule => {
                let update = call.update_maintenance_schedule.iter();
                let windows = update.flat_map(|update| &update.schedule.windows);
                let mut machines = windows.flat_map(|window| &window.machine_ids);
                let action = Action::UpdateMaintenanceSchedule;
                machines.all(|machine| may(action, &Object::machine(machine)))
            }
            Order::StartMaintenance => {
                let mut machines = call
                    .start_maintenance
                    .iter()
                    .flat_map(|start| &start.machines);
                machines.all(|machine| may(Action::StartMaintenance, &Object::machine(machine)))
            }
            Order::StopMaintenance => {
                let mut machines = call.stop_maintenance.iter().flat_map(|stop| &stop.machines);
                machines.all(|machine| may(Action::StopMaintenance, &Object::machine(machine)))
            }
            Order::DrainAgent => {
                let gone = call
                    .drain_agent
                    .as_ref()
                    .is_some_and(dcos_proto::master::call::DrainAgent::mark_gone);
                any(Action::DrainAgent) && (!gone || any(Action::MarkAgentGone))
            }
            Order::DeactivateAgent => any(Action::DeactivateAgent),
            Order::ReactivateAgent => any(Action::ReactivateAgent),
            Order::MarkAgentGone => any(Action::MarkAgentGone),
            // The others are asked about where they become operations, or only read.
            _ => true,
        }
    }

    fn check(
        &self,
        principal: Option<&str>,
        action: Action,
        object: &Object<'_>,
    ) -> Result<(), String> {
        if self.may(principal, action, object) {
            return Ok(());
        }
        let what = object.describe(action);
        let who = principal.unwrap_or_default();
        Err(format!("Principal '{who}' not authorized to {what}"))
    }

    /// An agent's registration, and the static reservations it brings.
    pub(crate) fn authorize_agent(
        &self,
        principal: Option<&str>,
        info: &AgentInfo,
    ) -> Result<(), String> {
        let reserved = distinct(&info.resources, role_of);
        let reserved = reserved.into_iter().filter(|one| role_of(one) != "*");
        let reserves =
            |one: &Resource| self.may(principal, Action::ReserveResources, &Object::resource(one));
        if self.may(principal, Action::RegisterAgent, &Object::ANY)
            && reserved.into_iter().all(reserves)
        {
            return Ok(());
        }
        Err(match principal {
            Some(principal) => format!("with principal '{principal}'"),
            None => "without a principal".to_owned(),
        })
    }
}

/// What has to be allowed for an operation to be carried out. A launch is asked about task by task.
fn questions(operation: &offer::Operation) -> Vec<(Action, Option<&Resource>)> {
    match operation.r#type() {
        Type::Reserve => match &operation.reserve {
            Some(reserve) => reserving(&reserve.source, &reserve.resources),
            None => Vec::new(),
        },
        Type::Unreserve => match &operation.unreserve {
            Some(unreserve) => unreserving(&unreserve.resources),
            None => Vec::new(),
        },
        Type::Create => {
            let volumes = operation.create.as_ref().map(|create| &create.volumes);
            let volumes = volumes.map(|volumes| distinct(volumes, role_of));
            each(Action::CreateVolume, volumes.unwrap_or_default(), true)
        }
        Type::Destroy => {
            let volumes = operation.destroy.as_ref().map(|destroy| &destroy.volumes);
            let persistent = |volume: &&Resource| {
                let disk = volume.disk.as_ref();
                disk.is_some_and(|disk| disk.persistence.is_some())
            };
            let volumes = volumes.into_iter().flatten().filter(persistent).collect();
            each(Action::DestroyVolume, volumes, true)
        }
        Type::GrowVolume => {
            let volume = operation.grow_volume.iter().map(|grow| &grow.volume);
            each(Action::ResizeVolume, volume.collect(), false)
        }
        Type::ShrinkVolume => {
            let volume = operation.shrink_volume.iter().map(|shrink| &shrink.volume);
            each(Action::ResizeVolume, volume.collect(), false)
        }
        Type::CreateDisk => {
            let disk = operation.create_disk.as_ref();
            let action =
                match disk.map(dcos_proto::mesos::offer::operation::CreateDisk::target_type) {
                    Some(Source::Block) => Action::CreateBlockDisk,
                    _ => Action::CreateMountDisk,
                };
            each(
                action,
                disk.map(|disk| &disk.source).into_iter().collect(),
                true,
            )
        }
        Type::DestroyDisk => {
            let disk = operation.destroy_disk.as_ref().map(|disk| &disk.source);
            let source = disk.and_then(|one| one.disk.as_ref()?.source.as_ref());
            let action = match source.map(dcos_proto::mesos::resource::disk_info::Source::r#type) {
                Some(Source::Block) => Action::DestroyBlockDisk,
                Some(Source::Raw) => Action::DestroyRawDisk,
                _ => Action::DestroyMountDisk,
            };
            each(action, disk.into_iter().collect(), true)
        }
        Type::Launch | Type::LaunchGroup | Type::Unknown => Vec::new(),
    }
}

/// One question for each; if there are none, and `none` says so, one about any object.
fn each(action: Action, resources: Vec<&Resource>, none: bool) -> Vec<(Action, Option<&Resource>)> {
    if resources.is_empty() && none {
        return vec![(action, None)];
    }
    let asked = resources.into_iter().map(|one| (action, Some(one)));
    asked.collect()
}

/// Reserving: each role once. With a source, what it was reserved for is given up first, down to
/// what source and target have in common.
fn reserving<'a>(
    source: &'a [Resource],
    target: &'a [Resource],
) -> Vec<(Action, Option<&'a Resource>)> {
    let mut asked = Vec::new();
    if !source.is_empty() && !is_refined(source, target) {
        asked = unreserving(source);
    }
    let roles = distinct(target, role_of);
    asked.extend(
        roles
            .into_iter()
            .map(|one| (Action::ReserveResources, Some(one))),
    );
    asked
}

/// Whether the target only adds reservations to those of the source.
fn is_refined(source: &[Resource], target: &[Resource]) -> bool {
    let (Some(source), Some(target)) = (source.first(), target.first()) else {
        return false;
    };
    target.reservations.starts_with(&source.reservations)
}

/// Giving up: whoever made each reservation; once for those nobody is known to have made.
fn unreserving(resources: &[Resource]) -> Vec<(Action, Option<&Resource>)> {
    let (known, unknown): (Vec<&Resource>, Vec<&Resource>) =
        resources.iter().partition(|resource| {
            let last = resource
                .reservations
                .last()
                .or(resource.reservation.as_ref());
            last.is_some_and(|last| last.principal.is_some())
        });
    let known = known.into_iter().map(Some);
    let unknown = (!unknown.is_empty()).then_some(None);
    known
        .chain(unknown)
        .map(|resource| (Action::UnreserveResources, resource))
        .collect()
}

/// The role resources are reserved for, in either form.
fn role_of(resource: &Resource) -> &str {
    match resource.reservations.last() {
        Some(last) => last.role.as_deref().unwrap_or_default(),
        None => resource.role.as_deref().unwrap_or("*"),
    }
}

/// The first of those that are the same in one respect.
fn distinct(resources: &[Resource], by: fn(&Resource) -> &str) -> Vec<&Resource> {
    let mut seen = std::collections::BTreeSet::new();
    let fresh = resources
        .iter()
        .filter(|resource| seen.insert(by(resource)));
    fresh.collect()
}

//! Offer operations: reservations and volumes of what the agent itself has.
//!
//! ```text
//! ApplyOperation ─► total changed, noted on disk ─► volumes made, deleted ─► FINISHED, noted ─►
//!                                                         told until acknowledged ─► forgotten
//! ```
//!
//! The agent's total follows at once, so that tasks which use the outcome may come right behind.
//! What is on disk always holds the total and every operation that nobody acknowledged: one that
//! was interrupted is done again by the next agent.
//!
//! Source: Mesos 1.11 `Slave::applyOperation`, `checkpointResourceState`, `reconcileOperations`,
//! `OperationStatusUpdateManager`. Departures: where the original exits, because an operation does
//! not fit or a volume cannot be made, this one tells `OPERATION_FAILED`; an operation that comes
//! while the agent is not registered is dropped, since the master has just been told what there
//! is without it; one that was decided for an earlier agent's resources is dropped and told to be, as launches are.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use dcos_core::resources::convert::{upgrade, upgrade_all};
use dcos_core::resources::operation::{self, Conversion, Inapplicable};
use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::time::{Time, earliest};
use dcos_proto::internal::{
    AcknowledgeOperationStatusMessage, ApplyOperationMessage, CheckpointResourcesMessage,
    ReconcileOperationsMessage, UpdateOperationStatusMessage, UpdateSlaveMessage,
    update_slave_message,
};
use dcos_proto::mesos::offer;
use dcos_proto::mesos::resource::disk_info::source::Type as Disk;
use dcos_proto::mesos::{Operation, OperationState, OperationStatus, Resource, Uuid};

use super::core::Agent;
use super::words::Action;
use crate::checkpoint::{Write, paths};

const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_mins(10);
/// More operations than this do not wait in connections of before.
const MISSED: usize = 1000;

/// What the agent has, and what was done to it that the master has not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// All it has, allocated to nobody.
    pub(super) total: Resources,
    /// Changes whenever the total is not what the master may believe: with each start.
    pub(super) version: Uuid,
    /// In the order they came.
    list: Vec<Pending>,
    /// The last that were told to have never come: a copy that comes late is not carried out.
    missed: VecDeque<Uuid>,
    paused: bool,
}

#[derive(Debug)]
struct Pending {
    operation: Operation,
    /// When its status is told (again), and how long to wait after that.
    due: Option<(Time, Duration)>,
}

/// Volumes to be made and deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeWork {
    /// The operation it belongs to, which hears how it went.
    pub operation: Option<Vec<u8>>,
    /// Directories that have to be there.
    pub make: Vec<PathBuf>,
    /// Directories that have to go, with all they hold.
    pub delete: Vec<PathBuf>,
    /// Directories that have to be empty: the roots of mounted disks.
    pub empty: Vec<PathBuf>,
}

impl VolumeWork {
    fn is_nothing(&self) -> bool {
        self.make.is_empty() && self.delete.is_empty() && self.empty.is_empty()
    }
}

impl Operations {
    /// Takes up what an earlier agent left.
    pub(super) fn recover(total: Resources, version: Uuid, operations: Vec<Operation>) -> Self {
        let pending = |operation| Pending {
            operation,
            due: None,
        };
        Self {
            total,
            version,
            list: operations.into_iter().map(pending).collect(),
            missed: VecDeque::new(),
            paused: true,
        }
    }

    /// Those the master has not acknowledged.
    pub(super) fn all(&self) -> impl Iterator<Item = &Operation> {
        self.list.iter().map(|pending| &pending.operation)
    }

    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn resume(&mut self, now: Time) {
        self.paused = false;
        for pending in &mut self.list {
            pending.due =
                is_final(pending.operation.latest_status.state()).then_some((now, RETRY_MIN));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        if self.paused {
            return None;
        }
        let deadlines = self.list.iter().map(|pending| pending.due);
        deadlines
            .map(|due| due.map(|(at, _)| at))
            .fold(None, earliest)
    }

    /// A status to tell now.
    pub(super) fn poll(&mut self, now: Time) -> Option<UpdateOperationStatusMessage> {
        if self.paused {
            return None;
        }
        self.list.iter_mut().find_map(|pending| {
            let (_, wait) = pending.due.filter(|(at, _)| at.is_due(now))?;
            pending.due = Some((now + wait, (wait * 2).min(RETRY_MAX)));
            Some(update_of(&pending.operation))
        })
    }

    fn miss(&mut self, uuid: Option<&Uuid>) {
        self.missed.extend(uuid.cloned());
        if self.missed.len() > MISSED {
            self.missed.pop_front();
        }
    }

    fn find(&mut self, uuid: &[u8]) -> Option<&mut Pending> {
        let mut list = self.list.iter_mut();
        list.find(|pending| pending.operation.uuid.value == uuid)
    }
}

impl Agent {
    pub(super) fn apply_operation(&mut self, now: Time, message: ApplyOperationMessage) {
        if self.master().is_none() {
            return;
        }
        if self.operations.missed.contains(&message.operation_uuid) {
            return;
        }
        let uuid = message.operation_uuid.value.clone();
        if let Some(pending) = self.operations.find(&uuid) {
            // Asked twice: told once more.
            pending.due = pending.due.map(|(_, wait)| (now, wait));
            return;
        }
        let assumed = &message.resource_version_uuid;
        if assumed.resource_provider_id.is_none() && assumed.uuid != self.operations.version {
            // It goes by what an earlier agent had. The master has taken back its booking, or will when it hears
            // what this agent has: carried out here, nobody would book it.
            self.operations.miss(Some(&message.operation_uuid));
            let text = "Operation assumes outdated resource state".to_owned();
            return self.drop_operation(message.operation_uuid, Some(text));
        }
        let mut info = message.operation_info;
        operation::change_resources(&mut info, upgrade);
        let plain = operation::unallocated(&info);
        self.operations.list.push(Pending {
            operation: Operation {
                framework_id: message.framework_id,
                agent_id: self.info.id.clone(),
                latest_status: self.status_of(&info, OperationState::OperationPending, None),
                statuses: Vec::new(),
                uuid: message.operation_uuid,
                info,
            },
            due: None,
        });
        match self.convert_total(&plain) {
            Ok(()) => self.work_on_volumes(now, &uuid, &plain),
            Err((state, text)) => self.finish_operation(now, &uuid, state, Some(text)),
        }
    }

    /// Tells that an operation was not and will not be carried out. Nobody acknowledges that.
    fn drop_operation(&mut self, uuid: Uuid, message: Option<String>) {
        let status = OperationStatus {
            state: OperationState::OperationDropped.into(),
            message,
            agent_id: self.info.id.clone(),
            ..OperationStatus::default()
        };
        self.send_master(UpdateOperationStatusMessage {
            framework_id: None,
            agent_id: self.info.id.clone(),
            status,
            latest_status: None,
            operation_uuid: Some(uuid),
        });
    }

    fn convert_total(&mut self, plain: &offer::Operation) -> Result<(), (OperationState, String)> {
        if let Some(provider) = operation::provider(plain) {
            let text = format!("Resource provider {provider} is unknown");
            return Err((OperationState::OperationError, text));
        }
        let conversions = operation::conversions(plain)
            .map_err(|error| (OperationState::OperationError, error.to_string()))?;
        // What a task has looks like what is free, if the master goes by an operation that failed.
        let failed = |error: Inapplicable| (OperationState::OperationFailed, error.to_string());
        let free = self.convertible();
        free.convert_all(&conversions).map_err(failed)?;
        let total = self.operations.total.convert_all(&conversions);
        self.operations.total = total.map_err(failed)?;
        Ok(())
    }

    /// Goes on with an operation whose conversions are in the total.
    fn work_on_volumes(&mut self, now: Time, uuid: &[u8], plain: &offer::Operation) {
        let none: &[Resource] = &[];
        let made = plain.create.as_ref().map_or(none, |create| &create.volumes);
        let gone = plain
            .destroy
            .as_ref()
            .map_or(none, |destroy| &destroy.volumes);
        let mut work = self.volume_work(made, gone);
        if work.is_nothing() {
            return self.finish_operation(now, uuid, OperationState::OperationFinished, None);
        }
        work.operation = Some(uuid.to_vec());
        self.write_resources();
        self.act(Action::Volumes(work));
    }

    fn volume_work(&self, made: &[Resource], gone: &[Resource]) -> VolumeWork {
        let path = |volume: &Resource| paths::volume(&self.settings.work_dir, volume);
        let mut work = VolumeWork {
            make: made.iter().filter_map(path).collect(),
            ..VolumeWork::default()
        };
        for volume in gone {
            let list = if volume.is_disk(Disk::Mount) {
                &mut work.empty
            } else {
                &mut work.delete
            };
            list.extend(path(volume));
        }
        work
    }

    /// Volumes were made and deleted, or could not be.
    pub(super) fn volumes_changed(
        &mut self,
        now: Time,
        uuid: Option<&[u8]>,
        outcome: Result<(), String>,
    ) {
        let Some(uuid) = uuid else {
            return match outcome {
                Ok(()) => self.write_resources(),
                // The master was told nothing of it and cannot be: start anew and try again.
                Err(text) => self.act(Action::Stop {
                    reason: format!("changing persistent volumes: {text}"),
                    fresh: false,
                }),
            };
        };
        match outcome {
            Ok(()) => self.finish_operation(now, uuid, OperationState::OperationFinished, None),
            Err(text) => {
                self.take_back(uuid);
                self.finish_operation(now, uuid, OperationState::OperationFailed, Some(text));
                self.keep_volumes(uuid);
            }
        }
    }

    /// What an operation did not destroy is still a volume. Some of it may be gone already: in an earlier attempt, or
    /// before what failed.
    fn keep_volumes(&mut self, uuid: &[u8]) {
        let Some(pending) = self.operations.find(uuid) else {
            return;
        };
        let plain = operation::unallocated(&pending.operation.info);
        let kept = plain.destroy.unwrap_or_default().volumes;
        let work = self.volume_work(&kept, &[]);
        if !work.is_nothing() {
            self.act(Action::Volumes(work));
        }
    }

    /// What an operation changed in the total is as it was before.
    fn take_back(&mut self, uuid: &[u8]) {
        let Some(pending) = self.operations.find(uuid) else {
            return;
        };
        let plain = operation::unallocated(&pending.operation.info);
        let conversions = operation::conversions(&plain).unwrap_or_default();
        let back: Vec<_> = conversions.iter().rev().map(Conversion::reversed).collect();
        if let Ok(before) = self.operations.total.convert_all(&back) {
            self.operations.total = before;
        }
    }

    fn finish_operation(
        &mut self,
        now: Time,
        uuid: &[u8],
        state: OperationState,
        message: Option<String>,
    ) {
        let status_uuid = Uuid {
            value: self.uuids.uuid_bytes().to_vec(),
        };
        let Some(info) = self
            .operations
            .find(uuid)
            .map(|pending| pending.operation.info.clone())
        else {
            return;
        };
        let status = OperationStatus {
            uuid: Some(status_uuid),
            ..self.status_of(&info, state, message)
        };
        if let Some(pending) = self.operations.find(uuid) {
            pending.operation.latest_status = status.clone();
            pending.operation.statuses.push(status);
            pending.due = Some((now, RETRY_MIN));
        }
        self.write_resources();
    }

    fn status_of(
        &self,
        info: &offer::Operation,
        state: OperationState,
        message: Option<String>,
    ) -> OperationStatus {
        OperationStatus {
            operation_id: info.id.clone(),
            state: state.into(),
            message,
            agent_id: self.info.id.clone(),
            ..OperationStatus::default()
        }
    }

    pub(super) fn operation_acknowledged(&mut self, message: &AcknowledgeOperationStatusMessage) {
        let before = self.operations.list.len();
        self.operations.list.retain(|pending| {
            let status = &pending.operation.latest_status;
            pending.operation.uuid != message.operation_uuid
                || status.uuid.as_ref() != Some(&message.status_uuid)
        });
        if self.operations.list.len() < before {
            self.write_resources();
        }
    }

    /// The master missed operations in our list, or a framework asks about some.
    pub(super) fn reconcile_operations(&mut self, message: ReconcileOperationsMessage) {
        for asked in message.operations {
            let found = self.operations.list.iter().find(|pending| {
                let own = &pending.operation;
                asked.operation_uuid.as_ref() == Some(&own.uuid)
                    || (asked.operation_id.is_some()
                        && asked.operation_id == own.info.id
                        && message.framework_id == own.framework_id)
            });
            let answer = match (found, &message.framework_id) {
                // The master knows it too; its status is under way.
                (Some(_), None) => continue,
                (Some(found), Some(_)) => {
                    let mut answer = update_of(&found.operation);
                    answer.status.uuid = None;
                    answer
                }
                (None, framework) => {
                    if framework.is_none() {
                        self.operations.miss(asked.operation_uuid.as_ref());
                    }
                    let (state, text) = match framework {
                        None => (OperationState::OperationDropped, None),
                        Some(_) => (
                            OperationState::OperationUnknown,
                            Some("Reconciliation: Operation is unknown".to_owned()),
                        ),
                    };
                    UpdateOperationStatusMessage {
                        framework_id: framework.clone(),
                        agent_id: self.info.id.clone(),
                        status: OperationStatus {
                            operation_id: asked.operation_id,
                            state: state.into(),
                            message: text,
                            agent_id: self.info.id.clone(),
                            resource_provider_id: asked.resource_provider_id,
                            ..OperationStatus::default()
                        },
                        latest_status: None,
                        operation_uuid: asked.operation_uuid,
                    }
                }
            };
            self.send_master(answer);
        }
    }

    /// A master that takes us for an older agent says all we have to keep.
    pub(super) fn checkpoint_resources(&mut self, message: CheckpointResourcesMessage) {
        let mut resources = message.resources;
        upgrade_all(&mut resources);
        let own = Resources::from(&self.info.resources);
        let total = match own.with_checkpointed(&Resources::from(&resources)) {
            Ok(total) => total,
            Err(error) => {
                return self.act(Action::Stop {
                    reason: error.to_string(),
                    fresh: false,
                });
            }
        };
        let volumes = |resources: &Resources| {
            resources
                .filter(ResourceExt::is_persistent_volume)
                .to_messages()
        };
        let path = |volume: &Resource| paths::volume(&self.settings.work_dir, volume);
        let (before, after) = (volumes(&self.operations.total), volumes(&total));
        let missing = |from: &[Resource], of: &[Resource]| -> Vec<Resource> {
            let known: Vec<_> = from.iter().map(path).collect();
            let new = of.iter().filter(|volume| !known.contains(&path(volume)));
            new.cloned().collect()
        };
        let work = self.volume_work(&missing(&before, &after), &missing(&after, &before));
        self.operations.total = total;
        if work.is_nothing() {
            self.write_resources();
        } else {
            self.act(Action::Volumes(work));
        }
    }

    /// Does again what was interrupted, and makes sure of the rest.
    pub(super) fn resume_operations(&mut self, now: Time) {
        let volumes = self
            .operations
            .total
            .filter(ResourceExt::is_persistent_volume);
        let work = self.volume_work(&volumes.to_messages(), &[]);
        if !work.is_nothing() {
            self.act(Action::Volumes(work));
        }
        let interrupted: Vec<_> = self
            .operations
            .all()
            .filter(|operation| !is_final(operation.latest_status.state()))
            .cloned()
            .collect();
        for operation in interrupted {
            let plain = operation::unallocated(&operation.info);
            self.work_on_volumes(now, &operation.uuid.value, &plain);
        }
    }

    /// What the master has to know beyond the registration.
    pub(super) fn agent_update(&self) -> Option<UpdateSlaveMessage> {
        Some(UpdateSlaveMessage {
            agent_id: self.info.id.clone()?,
            oversubscribed_resources: self
                .oversubscribed
                .as_ref()
                .map_or_else(Vec::new, Resources::to_messages),
            update_oversubscribed_resources: Some(self.oversubscribed.is_some()),
            operations: Some(update_slave_message::Operations {
                operations: self.operations.all().cloned().collect(),
            }),
            resource_version_uuid: Some(self.operations.version.clone()),
            resource_providers: Some(update_slave_message::ResourceProviders::default()),
        })
    }

    fn write_resources(&mut self) {
        if self.info.id.is_some() {
            let resources = self.operations.total.checkpointed().to_messages();
            let operations = self.operations.all().cloned().collect();
            self.write(Write::Resources(resources, operations));
        }
    }

    /// What it has, reservations and volumes included.
    pub fn total(&self) -> &Resources {
        &self.operations.total
    }

    /// Operations the master has not acknowledged.
    pub fn operations(&self) -> Vec<Operation> {
        self.operations.all().cloned().collect()
    }
}

fn is_final(state: OperationState) -> bool {
    !matches!(
        state,
        OperationState::OperationPending | OperationState::OperationUnsupported
    )
}

fn update_of(operation: &Operation) -> UpdateOperationStatusMessage {
    UpdateOperationStatusMessage {
        framework_id: operation.framework_id.clone(),
        agent_id: operation.agent_id.clone(),
        status: operation.latest_status.clone(),
        latest_status: None,
        operation_uuid: Some(operation.uuid.clone()),
    }
}

#[cfg(test)]
mod tests;

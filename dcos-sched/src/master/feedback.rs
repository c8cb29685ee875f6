//! How operations went: what agents report, what frameworks hear, acknowledge and ask.
//!
//! An agent repeats a status until it is acknowledged. A framework that gave its operation an id
//! acknowledges itself; for all others, and for frameworks that are gone, the master does.
//!
//! Source: Mesos 1.11 `Master::updateOperationStatus`, `acknowledgeOperationStatus`,
//! `reconcileOperations`, `sendBulkOperationFeedback`, `updateSlave` (`src/master/master.cpp`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_core::resources::operation;
use dcos_proto::internal::{
    AcknowledgeOperationStatusMessage, ReconcileOperationsMessage, UpdateOperationStatusMessage,
    reconcile_operations_message, update_slave_message,
};
use dcos_proto::mesos::agent_info::capability::Type as AgentCapability;
use dcos_proto::mesos::{
    AgentId, FrameworkId, Operation, OperationId, OperationState, OperationStatus, Uuid, offer,
};
use dcos_proto::scheduler::call;

use super::agent::PendingOperation;
use super::operations::operation_event;
use super::{Agent, Link, Master};

/// How long after an agent came back a framework that nobody knows may still come back for its
/// operations.
const ADOPTION_DELAY: Duration = Duration::from_mins(10);

/// Whether an operation in this state changes no more.
pub(crate) fn is_final(state: OperationState) -> bool {
    matches!(
        state,
        OperationState::OperationFinished
            | OperationState::OperationFailed
            | OperationState::OperationError
            | OperationState::OperationDropped
            | OperationState::OperationGoneByOperator
    )
}

impl Master {
    pub(crate) fn add_operation(&mut self, agent: &AgentId, pending: PendingOperation) {
        let operation = &pending.operation;
        let uuid = operation.uuid.value.clone();
        if let (Some(id), Some(framework)) = (&operation.info.id, &operation.framework_id) {
            let (id, place) = (id.clone(), (agent.clone(), uuid.clone()));
            if let Some(known) = self.framework_mut(&framework.clone()) {
                known.operations.insert(id, place);
            }
        }
        if let Some(known) = self.agent_mut(agent) {
            known.operations.insert(uuid, pending);
        }
    }

    /// The agent came back as a program that knows no feedback: it will not ask for the acknowledgement of what ended.
    pub(crate) fn forget_ended_operations(&mut self, agent: &AgentId) {
        let known = self.agents.get(agent);
        let operations = known.into_iter().flat_map(|known| &known.operations);
        let ended: Vec<Vec<u8>> = operations
            .filter(|(_, pending)| {
                let operation = &pending.operation;
                operation.info.id.is_some() && is_final(operation.latest_status.state())
            })
            .map(|(uuid, _)| uuid.clone())
            .collect();
        for uuid in ended {
            self.remove_operation(agent, &uuid);
        }
    }

    fn remove_operation(&mut self, agent: &AgentId, uuid: &[u8]) {
        let removed = self
            .agent_mut(agent)
            .and_then(|known| known.operations.remove(uuid));
        let Some(operation) = removed.map(|pending| pending.operation) else {
            return;
        };
        self.emptied.insert(agent.clone());
        if let (Some(id), Some(framework)) = (&operation.info.id, &operation.framework_id)
            && let Some(known) = self.framework_mut(framework)
            && known.operations.get(id).is_some_and(|(_, own)| own == uuid)
        {
            known.operations.remove(id);
        }
    }

    /// Counts an operation that has come to a state.
    pub(crate) fn count_operation(&mut self, operation: &offer::Operation, state: OperationState) {
        let kind = operation.r#type().as_str_name().to_lowercase();
        let state = state.as_str_name().trim_start_matches("OPERATION_");
        let name = format!("{kind}/{}", state.to_lowercase());
        *self.counters.operations.entry(name).or_default() += 1;
    }

    /// An agent reports how an operation went.
    pub(crate) fn operation_status(&mut self, mut update: UpdateOperationStatusMessage) {
        self.counters.messages_operation_status_update += 1;
        let framework = update.framework_id.clone();
        let Some(uuid) = update.operation_uuid.clone() else {
            // The answer to a question of the framework that was passed on.
            if let Some(framework) = framework {
                self.tell(&framework, operation_event(update.status));
            }
            return;
        };
        let Some(agent) = update.agent_id.clone() else {
            self.counters.invalid_operation_status_updates += 1;
            return;
        };
        let Some(place) = self.agents.get(&agent) else {
            self.counters.invalid_operation_status_updates += 1;
            return;
        };
        let Some(pending) = place.operations.get(&uuid.value) else {
            self.unknown_operation_status(&agent, framework, &uuid, update);
            return;
        };
        self.counters.valid_operation_status_updates += 1;
        let operation = &pending.operation;
        let owner = operation.framework_id.clone();
        update.status.operation_id.clone_from(&operation.info.id);
        let asked = operation.info.id.is_some();
        let status = update.latest_status.clone().map_or_else(
            || update.status.clone(),
            |latest| OperationStatus {
                operation_id: operation.info.id.clone(),
                ..latest
            },
        );
        self.note_status(&agent, &uuid.value, &status);
        let listener = owner.filter(|owner| asked && !self.is_ended(owner));
        let ended = is_final(status.state());
        match listener {
            Some(framework) if self.frameworks.contains_key(&framework) => {
                self.tell(&framework, operation_event(update.status));
                if ended && status.uuid.is_none() {
                    self.remove_operation(&agent, &uuid.value);
                }
            }
            listener => {
                if listener.is_some() && self.may_be_adopted(&agent) {
                    // Its framework may come back; the agent says it again.
                    return;
                }
                if let Some(last) = status.uuid.as_ref().filter(|_| ended) {
                    self.acknowledged.note(self.now, &uuid.value, last);
                }
                self.acknowledge_for_nobody(&agent, &uuid, status.uuid);
                if ended {
                    self.remove_operation(&agent, &uuid.value);
                }
            }
        }
    }

    /// The operation ended in the books already, or never was in these.
    fn unknown_operation_status(
        &mut self,
        agent: &AgentId,
        framework: Option<FrameworkId>,
        uuid: &Uuid,
        update: UpdateOperationStatusMessage,
    ) {
        self.counters.invalid_operation_status_updates += 1;
        let status_uuid = update.status.uuid.clone();
        if self.acknowledged.has(&uuid.value, status_uuid.as_ref()) {
            // The agent cannot have heard of it, or this came late.
            return self.acknowledge_for_nobody(agent, uuid, status_uuid);
        }
        let asked = update.status.operation_id.is_some();
        match framework {
            Some(framework) if asked && self.frameworks.contains_key(&framework) => {
                self.tell(&framework, operation_event(update.status));
            }
            Some(framework)
                if asked && !self.is_ended(&framework) && self.may_be_adopted(agent) => {}
            // Nobody else will ever acknowledge it.
            _ => self.acknowledge_for_nobody(agent, uuid, status_uuid),
        }
    }

    fn may_be_adopted(&self, agent: &AgentId) -> bool {
        let returned = self.agents.get(agent).and_then(|known| known.reregistered);
        returned.is_some_and(|returned| self.now.since(returned) < ADOPTION_DELAY)
    }

    /// Tells the agent that it may forget a status: nobody will acknowledge it, or somebody has.
    fn acknowledge_for_nobody(&mut self, agent: &AgentId, operation: &Uuid, status: Option<Uuid>) {
        let Some(status_uuid) = status else { return };
        let Some(pid) = self.agents.get(agent).map(|known| known.pid.clone()) else {
            return;
        };
        let message = AcknowledgeOperationStatusMessage {
            status_uuid,
            operation_uuid: operation.clone(),
            resource_provider_id: None,
        };
        self.send(&pid, &message);
    }

    /// Writes a status into an operation's record; if the agent did not do what was booked, the
    /// booking is taken back.
    fn note_status(&mut self, agent: &AgentId, uuid: &[u8], status: &OperationStatus) {
        let Some(pending) = self
            .agent_mut(agent)
            .and_then(|known| known.operations.get_mut(uuid))
        else {
            return;
        };
        let before = pending.operation.latest_status.state();
        if !is_final(before) {
            pending.operation.latest_status = status.clone();
        }
        if pending.operation.statuses.last() != Some(status) {
            pending.operation.statuses.push(status.clone());
        }
        let state = status.state();
        if is_final(before) || !is_final(state) {
            return;
        }
        let booked = std::mem::take(&mut pending.booked);
        let operation = pending.operation.clone();
        self.count_operation(&operation.info, state);
        if state != OperationState::OperationFinished
            && booked
            && operation::is_speculative(operation.info.r#type())
        {
            self.undo_operation(agent, &operation.info);
        }
    }

    /// `ACKNOWLEDGE_OPERATION_STATUS`: the framework has noted it; the agent may forget it.
    pub(crate) fn acknowledge_operation(
        &mut self,
        framework: &FrameworkId,
        acknowledge: call::AcknowledgeOperationStatus,
    ) {
        self.counters
            .messages_operation_status_update_acknowledgement += 1;
        match self.acknowledged_operation(framework, &acknowledge) {
            Some((agent, pid, uuid, ended)) => {
                self.counters.valid_operation_status_update_acknowledgements += 1;
                let status_uuid = Uuid {
                    value: acknowledge.uuid,
                };
                if ended {
                    self.acknowledged.note(self.now, &uuid, &status_uuid);
                    self.remove_operation(&agent, &uuid);
                }
                let message = AcknowledgeOperationStatusMessage {
                    status_uuid,
                    operation_uuid: Uuid { value: uuid },
                    resource_provider_id: acknowledge.resource_provider_id,
                };
                self.send(&pid, &message);
            }
            None => {
                self.counters
                    .invalid_operation_status_update_acknowledgements += 1;
            }
        }
    }

    /// The agent, its UPID, the operation's uuid, and whether the status acknowledged is the last.
    fn acknowledged_operation(
        &self,
        framework: &FrameworkId,
        acknowledge: &call::AcknowledgeOperationStatus,
    ) -> Option<(AgentId, String, Vec<u8>, bool)> {
        let agent = acknowledge.agent_id.clone()?;
        let place = self.agents.get(&agent).filter(|place| place.connected)?;
        let needed = if acknowledge.resource_provider_id.is_some() {
            AgentCapability::ResourceProvider
        } else {
            AgentCapability::AgentOperationFeedback
        };
        if !place.has(needed) {
            return None;
        }
        let operations = &self.frameworks.get(framework)?.operations;
        let (_, uuid) = operations.get(&acknowledge.operation_id)?;
        let operation = &place.operations.get(uuid)?.operation;
        let status = operation.statuses.iter().find(|status| {
            let own = status.uuid.as_ref().map(|uuid| &uuid.value);
            own == Some(&acknowledge.uuid)
        })?;
        Some((
            agent,
            place.pid.clone(),
            uuid.clone(),
            is_final(status.state()),
        ))
    }

    /// `RECONCILE_OPERATIONS`: what is known of the operations asked for, or of all if none are.
    pub(crate) fn reconcile_operations(
        &mut self,
        framework: &FrameworkId,
        asked: call::ReconcileOperations,
    ) {
        self.counters.messages_reconcile_operations += 1;
        let mut answers = Vec::new();
        let mut passed_on: BTreeMap<AgentId, ReconcileOperationsMessage> = BTreeMap::new();
        if asked.operations.is_empty() {
            let known = self.frameworks.get(framework);
            let all = known.into_iter().flat_map(|known| known.operations.keys());
            answers.extend(all.filter_map(|id| self.known_status(framework, id)));
        }
        for operation in asked.operations {
            if let Some(status) = self.known_status(framework, &operation.operation_id) {
                answers.push(status);
                continue;
            }
            let agent = operation.agent_id.clone();
            let feedback = agent
                .as_ref()
                .and_then(|agent| self.agents.get(agent))
                .is_some_and(|agent| agent.has(AgentCapability::AgentOperationFeedback));
            if let (Some(agent), Some(provider), true) =
                (&agent, &operation.resource_provider_id, feedback)
            {
                let message = passed_on.entry(agent.clone()).or_default();
                message.framework_id = Some(framework.clone());
                message
                    .operations
                    .push(reconcile_operations_message::Operation {
                        operation_uuid: None,
                        operation_id: Some(operation.operation_id),
                        resource_provider_id: Some(provider.clone()),
                    });
                continue;
            }
            let (state, text) = self.about_unknown(agent.as_ref());
            answers.push(OperationStatus {
                operation_id: Some(operation.operation_id),
                state: state.into(),
                message: Some(format!("Reconciliation: {text}")),
                agent_id: agent,
                resource_provider_id: operation.resource_provider_id,
                ..OperationStatus::default()
            });
        }
        for status in answers {
            self.tell(framework, operation_event(status));
        }
        for (agent, message) in passed_on {
            if let Some(pid) = self.agents.get(&agent).map(|agent| agent.pid.clone()) {
                self.send(&pid, &message);
            }
        }
    }

    /// The last status of an operation that the framework was told. Nobody acknowledges it again.
    fn known_status(&self, framework: &FrameworkId, id: &OperationId) -> Option<OperationStatus> {
        let (agent, uuid) = self.frameworks.get(framework)?.operations.get(id)?;
        let operation = &self.agents.get(agent)?.operations.get(uuid)?.operation;
        let last = operation.statuses.last();
        let mut status = last.unwrap_or(&operation.latest_status).clone();
        status.uuid = None;
        Some(status)
    }

    /// Table 5.6 of the conformance inventory, for operations.
    fn about_unknown(&self, agent: Option<&AgentId>) -> (OperationState, &'static str) {
        match agent {
            Some(agent) if self.recovered_agents.contains_key(agent) => (
                OperationState::OperationRecovering,
                "Agent is recovered but has not re-registered",
            ),
            Some(agent) if self.agents.contains_key(agent) => {
                (OperationState::OperationUnknown, "Operation is unknown")
            }
            Some(agent) if self.unreachable.contains_key(agent) => {
                (OperationState::OperationUnreachable, "Agent is unreachable")
            }
            Some(agent) if self.gone.contains_key(agent) => (
                OperationState::OperationGoneByOperator,
                "Agent marked gone by operator",
            ),
            Some(_) => (
                OperationState::OperationUnknown,
                "Both operation and agent are unknown",
            ),
            None => (
                OperationState::OperationUnknown,
                "Operation is unknown and no 'agent_id' was provided",
            ),
        }
    }

    /// An agent lists the operations it has not had acknowledged. Those it lacks never reached
    /// it, or are on their way: it is asked. Those the master lacks are from before it led.
    pub(crate) fn agent_operations(
        &mut self,
        agent: &AgentId,
        listed: Option<update_slave_message::Operations>,
    ) {
        let Some(listed) = listed else { return };
        let Some(place) = self.agents.get(agent) else {
            return;
        };
        let there: BTreeSet<&Vec<u8>> = listed
            .operations
            .iter()
            .map(|operation| &operation.uuid.value)
            .collect();
        let missing: Vec<_> = place
            .operations
            .keys()
            .filter(|uuid| !there.contains(uuid))
            .map(|uuid| reconcile_operations_message::Operation {
                operation_uuid: Some(Uuid {
                    value: uuid.clone(),
                }),
                operation_id: None,
                resource_provider_id: None,
            })
            .collect();
        let pid = place.pid.clone();
        let new: Vec<Operation> = listed
            .operations
            .into_iter()
            .filter(|operation| !place.operations.contains_key(&operation.uuid.value))
            .collect();
        for mut operation in new {
            let last = operation.latest_status.uuid.clone();
            if self.acknowledged.has(&operation.uuid.value, last.as_ref()) {
                self.acknowledge_for_nobody(agent, &operation.uuid, last);
                continue;
            }
            operation::change_resources(
                &mut operation.info,
                dcos_core::resources::convert::upgrade,
            );
            self.add_operation(agent, PendingOperation::known(operation));
        }
        if !missing.is_empty() {
            let message = ReconcileOperationsMessage {
                operations: missing,
                framework_id: None,
            };
            self.send(&pid, &message);
        }
    }

    /// The agent is lost with all its operations: frameworks that asked for feedback hear it.
    pub(crate) fn end_operations(
        &mut self,
        agent: &Agent,
        state: Option<OperationState>,
        text: &str,
    ) {
        for pending in agent.operations.values() {
            let operation = &pending.operation;
            if let Some(state) = state.filter(|_| !is_final(operation.latest_status.state())) {
                self.count_operation(&operation.info, state);
            }
            let (Some(id), Some(framework)) = (&operation.info.id, &operation.framework_id) else {
                continue;
            };
            let Some(known) = self.framework_mut(framework) else {
                continue;
            };
            known.operations.remove(id);
            let listens = matches!(known.link, Link::Stream(_));
            if let (Some(state), true) = (state, listens) {
                let status = OperationStatus {
                    operation_id: Some(id.clone()),
                    state: state.into(),
                    message: Some(text.to_owned()),
                    agent_id: Some(agent.id()),
                    ..OperationStatus::default()
                };
                self.tell(framework, operation_event(status));
            }
        }
    }
}

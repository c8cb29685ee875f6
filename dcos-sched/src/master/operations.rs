//! RESERVE, UNRESERVE, CREATE, DESTROY and their like, from an ACCEPT to the agent.
//!
//! What such an operation leads to is known beforehand. So it is booked at once, with the agent's
//! total and the allocator, and what follows it in the same ACCEPT may use its outcome; the agent
//! hears of it in an `ApplyOperationMessage` and tells how it went ([`super::feedback`]). An agent
//! of before Mesos 1.5 is sent all it has to keep instead, and tells nothing.
//!
//! Source: Mesos 1.11 `Master::_accept`, `Master::_apply` (`src/master/master.cpp`). Departure: if
//! the agent cannot do what was booked, the booking is taken back ([`super::bookings`]).

use dcos_core::resources::convert::downgrade_all;
use dcos_core::resources::operation::{self, Conversion, Inapplicable};
use dcos_core::resources::{ResourceExt, Resources};
use dcos_proto::internal::{
    ApplyOperationMessage, CheckpointResourcesMessage, ResourceVersionUuid,
};
use dcos_proto::mesos::agent_info::capability::Type as AgentCapability;
use dcos_proto::mesos::offer::{Operation as Info, operation::Type};
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    AgentId, FrameworkId, OfferId, Operation, OperationState, OperationStatus, TaskState, Uuid,
};
use dcos_proto::scheduler::{Event, event};

use super::agent::PendingOperation;
use super::offers::launched;
use super::validation::operation::Actor;
use super::{Link, Master, convert, validation};
use crate::allocator::Event as Allocation;

/// What is left of accepted offers while their operations are carried out, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Holdings {
    offered: Resources,
    /// What the next operation may use.
    pub(crate) left: Resources,
    /// Shared volumes stay usable however many tasks took them.
    shared: Resources,
    /// Volumes that were resized: nothing else in the same ACCEPT may use them.
    resized: Resources,
}

impl Holdings {
    pub(crate) fn new(offered: Resources) -> Self {
        Self {
            left: offered.clone(),
            shared: offered.shared(),
            resized: Resources::new(),
            offered,
        }
    }

    /// What a task may use.
    pub(crate) fn usable(&self) -> Resources {
        &self.left.unshared() + &self.shared
    }

    /// Takes what a task uses; returns the copies of shared volumes it uses beyond those offered.
    pub(crate) fn take(&mut self, used: &Resources) -> Resources {
        let more = &used.shared() - &self.left.shared();
        self.left -= used;
        more
    }

    /// Exchanges resources; what comes of it may be used at once.
    fn convert(&mut self, conversions: &[Conversion]) -> Result<(), Inapplicable> {
        self.left = self.left.convert_all(conversions)?;
        self.shared = self.left.shared();
        Ok(())
    }

    /// Sets a resized volume aside.
    fn resize(&mut self, kind: Type, conversions: &[Conversion]) -> Result<(), String> {
        for conversion in conversions {
            if !self.left.contains(&conversion.consumed) {
                return Err(format!(
                    "Invalid {} operation: {} does not contain {}",
                    kind.as_str_name(),
                    self.left,
                    conversion.consumed
                ));
            }
            self.left -= &conversion.consumed;
            self.resized += &conversion.converted;
        }
        Ok(())
    }

    /// What is given back: what operations made, and what was of no use to the framework.
    pub(crate) fn settle(self) -> (Resources, Resources) {
        let made = &(&self.left + &self.resized) - &self.offered;
        let declined = &self.left - &made;
        (made, declined)
    }
}

/// Why an operation is not even tried.
enum Objection {
    /// The framework hears of it as feedback, or as ends of tasks.
    Told(String),
    /// A driver cannot hear of it otherwise: it is ended.
    Fatal(String),
}

impl Master {
    /// Refuses operations that make no sense on their own, and completes the others.
    pub(crate) fn sound_operations(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        operations: Vec<Info>,
        role: &str,
    ) -> Vec<Info> {
        let mut sound = Vec::new();
        for mut operation in operations {
            match self.objection(framework, agent, &operation) {
                None => {
                    convert::operation_from_framework(&mut operation, role);
                    sound.push(operation);
                }
                Some(Objection::Told(text)) => self.refuse_form(framework, &operation, &text),
                Some(Objection::Fatal(message)) => {
                    let event = Event {
                        r#type: Some(event::Type::Error.into()),
                        error: Some(event::Error { message }),
                        ..Event::default()
                    };
                    self.tell(framework, event);
                }
            }
        }
        sound
    }

    fn objection(
        &self,
        framework: &FrameworkId,
        agent: &AgentId,
        operation: &Info,
    ) -> Option<Objection> {
        let is_launch = matches!(operation.r#type(), Type::Launch | Type::LaunchGroup);
        if let Err(error) = validation::operation::form(operation) {
            return Some(Objection::Told(if is_launch {
                error
            } else {
                format!("Operation attempted with invalid resources: {error}")
            }));
        }
        let reserve = operation.reserve.as_ref();
        if reserve.is_some_and(|reserve| !reserve.source.is_empty()) {
            // Mesos's own words, and what its schedulers look for.
            let text = "Operation attempted with invalid resources: Reservation updates are not yet implemented for the scheduler API.";
            return Some(Objection::Told(text.to_owned()));
        }
        operation.id.as_ref()?;
        let kind = operation.r#type().as_str_name();
        if is_launch {
            let text = format!("The `id` field cannot be set on {kind} operations");
            return Some(Objection::Told(text));
        }
        if matches!(self.frameworks.get(framework)?.link, Link::Pid(_)) {
            let text = "The 'id' field was set in an offer operation, but operation feedback is not supported for the SchedulerDriver API; please use the HTTP scheduler API for this feature";
            return Some(Objection::Fatal(text.to_owned()));
        }
        let place = self.agents.get(agent)?;
        if !place.has(AgentCapability::ResourceProvider) {
            return Some(Objection::Told(format!(
                "Operation requested feedback, but agent {agent} does not have the required RESOURCE_PROVIDER capability"
            )));
        }
        if operation::provider(operation).is_none()
            && !place.has(AgentCapability::AgentOperationFeedback)
        {
            return Some(Objection::Told(format!(
                "Operation on agent default resources requested feedback, but agent {agent} does not have the required AGENT_OPERATION_FEEDBACK and RESOURCE_PROVIDER capabilities"
            )));
        }
        None
    }

    fn refuse_form(&mut self, framework: &FrameworkId, operation: &Info, text: &str) {
        let reason = match operation.r#type() {
            Type::Launch => Reason::TaskInvalid,
            Type::LaunchGroup => Reason::TaskGroupInvalid,
            _ => {
                let state = OperationState::OperationError;
                return self.refuse_operation(framework, operation, state, text);
            }
        };
        for task in launched(operation) {
            self.fail_launch(
                framework,
                task,
                TaskState::TaskError,
                reason,
                text.to_owned(),
            );
        }
    }

    /// Carries out an operation that launches nothing, with what is left of the offers.
    pub(crate) fn change_resources(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        operation: Info,
        holdings: &mut Holdings,
    ) {
        match self.try_change(framework, agent, &operation, holdings) {
            Ok(conversions) => {
                for conversion in conversions {
                    let event = Allocation::Convert {
                        framework: framework.clone(),
                        agent: agent.clone(),
                        consumed: conversion.consumed,
                        converted: conversion.converted,
                    };
                    self.allocator.handle(self.now, event);
                }
                self.apply_operation(agent, Some(framework), operation);
            }
            Err(text) => {
                let state = OperationState::OperationError;
                self.refuse_operation(framework, &operation, state, &text);
            }
        }
    }

    fn try_change(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        operation: &Info,
        holdings: &mut Holdings,
    ) -> Result<Vec<Conversion>, String> {
        let (Some(known), Some(place)) = (self.frameworks.get(framework), self.agents.get(agent))
        else {
            return Err("Agent removed".to_owned());
        };
        let kind = operation.r#type();
        if matches!(kind, Type::CreateDisk | Type::DestroyDisk)
            && !place.has(AgentCapability::ResourceProvider)
        {
            return Err(format!(
                "Not supported on agent {place} because it does not have RESOURCE_PROVIDER capability"
            ));
        }
        validation::operation::operation(operation, Actor::Framework(known), place)
            .map_err(|error| format!("{error}; on agent {place}"))?;
        self.authorize_operation(known.info.principal.as_deref(), operation)?;
        if kind == Type::Destroy {
            self.rescind_volumes(agent, operation);
        }
        if matches!(kind, Type::CreateDisk | Type::DestroyDisk) {
            // Agents' resource providers are not asked for what they have: nobody is offered it.
            let source = operation::consumed(operation).map_err(|error| error.to_string())?;
            return Err(format!(
                "Invalid {} Operation: {} does not contain {source}",
                kind.as_str_name(),
                holdings.left
            ));
        }
        let conversions = operation::conversions(operation).map_err(|error| error.to_string())?;
        if matches!(kind, Type::GrowVolume | Type::ShrinkVolume) {
            holdings.resize(kind, &conversions)?;
        } else {
            holdings
                .convert(&conversions)
                .map_err(|error| error.to_string())?;
        }
        Ok(conversions)
    }

    /// Takes back the offers that hold a volume which is to be destroyed.
    pub(crate) fn rescind_volumes(&mut self, agent: &AgentId, operation: &Info) {
        let volumes = operation
            .destroy
            .as_ref()
            .map(|destroy| Resources::from(&destroy.volumes).unallocated());
        let Some(volumes) = volumes else { return };
        for offer in self.offers_on(agent) {
            let held = self
                .offers
                .get(&offer)
                .map(|offer| Resources::from(&offer.resources).unallocated());
            let concerned =
                held.is_some_and(|held| volumes.iter().any(|volume| held.contains_message(volume)));
            if concerned {
                self.rescind(&offer);
            }
        }
    }

    pub(crate) fn offers_on(&self, agent: &AgentId) -> Vec<OfferId> {
        let known = self.agents.get(agent);
        known.map_or_else(Vec::new, |known| known.offers.iter().cloned().collect())
    }

    /// Books an operation with its agent and lets that carry it out. The allocator has been told,
    /// or will be.
    pub(crate) fn apply_operation(
        &mut self,
        agent: &AgentId,
        framework: Option<&FrameworkId>,
        info: Info,
    ) {
        let plain = operation::unallocated(&info);
        let uuid = self.uuids.uuid_bytes().to_vec();
        let Some(place) = self.agent_mut(agent) else {
            return;
        };
        if let Ok(after) = operation::conversions(&plain)
            .and_then(|conversions| place.total.convert_all(&conversions))
        {
            place.total = after;
        }
        if let Some(framework) = framework {
            self.tally_operation(framework, info.r#type());
        }
        let Some(place) = self.agents.get(agent) else {
            return;
        };
        let is_owing = !place.undone.is_empty();
        let pid = place.pid.clone();
        let version = place.own_resource_version().cloned();
        let version = version.filter(|_| place.has(AgentCapability::ResourceProvider));
        if is_owing {
            self.freed.insert(agent.clone());
        }
        let Some(version) = version else {
            return self.send_checkpointed(agent);
        };
        let operation = Operation {
            framework_id: framework.cloned(),
            agent_id: Some(agent.clone()),
            latest_status: OperationStatus {
                operation_id: info.id.clone(),
                state: OperationState::OperationPending.into(),
                agent_id: Some(agent.clone()),
                ..OperationStatus::default()
            },
            statuses: Vec::new(),
            uuid: Uuid {
                value: uuid.clone(),
            },
            info: info.clone(),
        };
        self.add_operation(agent, PendingOperation::booked(operation));
        let message = ApplyOperationMessage {
            framework_id: framework.cloned(),
            operation_info: info,
            operation_uuid: Uuid { value: uuid },
            resource_version_uuid: ResourceVersionUuid {
                resource_provider_id: None,
                uuid: version,
            },
        };
        self.send(&pid, &message);
    }

    /// Tells an agent that knows no operations all it has to keep.
    pub(crate) fn send_checkpointed(&mut self, agent: &AgentId) {
        let Some(place) = self.agents.get(agent) else {
            return;
        };
        let mut resources = place.total.checkpointed().to_messages();
        // Refinements are not made on an agent that cannot express them; one that was replaced by
        // an older program keeps what it has.
        if !place.has(AgentCapability::ReservationRefinement)
            && downgrade_all(&mut resources).is_err()
        {
            return;
        }
        let pid = place.pid.clone();
        self.send(&pid, &CheckpointResourcesMessage { resources });
    }

    /// What nobody uses and nobody is offered.
    pub(crate) fn available_on(&self, agent: &AgentId) -> Resources {
        let Some(place) = self.agents.get(agent) else {
            return Resources::new();
        };
        let mut held = place.used_total().unallocated();
        for offer in place.offers.iter().filter_map(|id| self.offers.get(id)) {
            held += &Resources::from(&offer.resources).unallocated();
        }
        // However often a shared volume is used, one more may.
        &(&place.total.unshared() - &held.unshared()) + &place.total.shared()
    }

    /// An operation that is not carried out: whoever asked for feedback gets it.
    pub(crate) fn refuse_operation(
        &mut self,
        framework: &FrameworkId,
        operation: &Info,
        state: OperationState,
        message: &str,
    ) {
        self.count_operation(operation, state);
        let listens = self
            .frameworks
            .get(framework)
            .is_some_and(|known| matches!(known.link, Link::Stream(_)));
        let Some(id) = operation.id.clone().filter(|_| listens) else {
            return;
        };
        let status = OperationStatus {
            operation_id: Some(id),
            state: state.into(),
            message: Some(message.to_owned()),
            ..OperationStatus::default()
        };
        self.tell(framework, operation_event(status));
    }

    pub(crate) fn tell_allocator_of_total(&mut self, agent: &AgentId) {
        if let Some(place) = self.agents.get(agent) {
            let spec = self.agent_spec(place);
            self.allocator
                .handle(self.now, Allocation::UpdateAgent(spec));
        }
    }
}

/// An `UPDATE_OPERATION_STATUS` event.
pub(crate) fn operation_event(status: OperationStatus) -> Event {
    Event {
        r#type: Some(event::Type::UpdateOperationStatus.into()),
        update_operation_status: Some(event::UpdateOperationStatus { status }),
        ..Event::default()
    }
}

/// Copies of shared volumes that a framework uses beyond those it was offered.
pub(crate) fn more_copies(
    framework: &FrameworkId,
    agent: &AgentId,
    more: Resources,
) -> Option<Allocation> {
    (!more.is_empty()).then(|| {
        debug_assert!(more.iter().all(ResourceExt::is_shared));
        Allocation::Convert {
            framework: framework.clone(),
            agent: agent.clone(),
            consumed: Resources::new(),
            converted: more,
        }
    })
}

//! Reservations and volumes made by operators, of what nobody uses.
//!
//! Source: Mesos 1.11 `Master::Http::_operation` and the handlers that call it
//! (`src/master/http.cpp`). Departure: an agent that is disconnected refuses at once, since what
//! was accepted would be lost.

use dcos_core::resources::convert::upgrade;
use dcos_core::resources::{Resources, operation as operations};
use dcos_proto::master::{Call, call::Type as CallType};
use dcos_proto::mesos::AgentId;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::offer::operation::{self, Type};

use super::validation::operation::{Actor, form};
use super::{Master, Reply, validation};

impl Master {
    /// `RESERVE_RESOURCES` and its like.
    pub(crate) fn operate(&mut self, principal: Option<&str>, call: &Call) -> Reply {
        match of_call(call) {
            Some((agent, operation)) => self.operate_on(principal, &agent, operation),
            None => Reply::refused(
                400,
                "Expecting 'agent_id' to be present; only agent default resources are supported right now",
            ),
        }
    }

    /// Carries out an operator's operation on what nobody uses.
    pub(crate) fn operate_on(
        &mut self,
        principal: Option<&str>,
        agent: &AgentId,
        operation: Operation,
    ) -> Reply {
        match self.try_operate(principal, agent, operation) {
            Ok(()) => Reply::Accepted,
            Err((status, text)) => Reply::refused(status, text),
        }
    }

    fn try_operate(
        &mut self,
        principal: Option<&str>,
        agent: &AgentId,
        mut operation: Operation,
    ) -> Result<(), (u16, String)> {
        let bad = |text: String| (400, text);
        let Some(place) = self.agents.get(agent) else {
            return Err(bad("No agent found with specified ID".to_owned()));
        };
        form(&operation).map_err(bad)?;
        operations::change_resources(&mut operation, upgrade);
        let kind = operation.r#type();
        let name = kind.as_str_name();
        let actor = Actor::Operator(principal);
        validation::operation::operation(&operation, actor, place).map_err(|error| {
            bad(match kind {
                Type::Unreserve | Type::Destroy => format!("Invalid {name} operation: {error}"),
                _ => format!("Invalid {name} operation on agent {place}: {error}"),
            })
        })?;
        let conversions = operations::conversions(&operation)
            .map_err(|error| bad(format!("Invalid {name} operation: {error}")))?;
        if let Some(provider) = operations::provider(&operation) {
            let text = format!("Resource provider {provider} is unknown");
            return Err(bad(format!("Invalid {name} operation: {text}")));
        }
        if !place.connected {
            return Err((409, format!("Agent {place} is disconnected")));
        }
        self.authorize_operation(principal, &operation)
            .map_err(|text| (403, text))?;
        self.make_room(agent, &operation)?;
        self.available_on(agent)
            .convert_all(&conversions)
            .map_err(|error| (409, error.to_string()))?;
        let (mut consumed, mut converted) = (Resources::new(), Resources::new());
        for conversion in &conversions {
            consumed += &conversion.consumed;
            converted += &conversion.converted;
        }
        self.allocator
            .convert_free(self.now, agent, &consumed, &converted)
            .map_err(|error| (409, error.to_string()))?;
        self.apply_operation(agent, None, operation);
        Ok(())
    }

    /// Takes back offers, one after the other, until what an operation needs is free; none if it
    /// is already, and only such as hold some of it.
    fn make_room(&mut self, agent: &AgentId, operation: &Operation) -> Result<(), (u16, String)> {
        self.rescind_volumes(agent, operation);
        let mut needed =
            operations::consumed(operation).map_err(|error| (400, error.to_string()))?;
        needed -= &self.available_on(agent);
        for offer in self.offers_on(agent) {
            if needed.is_empty() {
                break;
            }
            let Some(known) = self.offers.get(&offer) else {
                continue;
            };
            let held = Resources::from(&known.resources).unallocated();
            let rest = &needed - &held;
            if rest != needed {
                needed = rest;
                self.rescind(&offer);
            }
        }
        Ok(())
    }
}

/// What one of the calls of API v1 asks for; `None` for other calls.
fn of_call(call: &Call) -> Option<(AgentId, Operation)> {
    Some(match call.r#type() {
        CallType::ReserveResources => {
            let call = call.reserve_resources.clone()?;
            let reserve = operation::Reserve {
                resources: call.resources,
                source: call.source,
            };
            let operation = Operation {
                reserve: Some(reserve),
                ..info(Type::Reserve)
            };
            (call.agent_id, operation)
        }
        CallType::UnreserveResources => {
            let call = call.unreserve_resources.clone()?;
            let resources = call.resources;
            let operation = Operation {
                unreserve: Some(operation::Unreserve { resources }),
                ..info(Type::Unreserve)
            };
            (call.agent_id, operation)
        }
        CallType::CreateVolumes => {
            let call = call.create_volumes.clone()?;
            let volumes = call.volumes;
            let operation = Operation {
                create: Some(operation::Create { volumes }),
                ..info(Type::Create)
            };
            (call.agent_id, operation)
        }
        CallType::DestroyVolumes => {
            let call = call.destroy_volumes.clone()?;
            let volumes = call.volumes;
            let operation = Operation {
                destroy: Some(operation::Destroy { volumes }),
                ..info(Type::Destroy)
            };
            (call.agent_id, operation)
        }
        CallType::GrowVolume => {
            let call = call.grow_volume.clone()?;
            let grow = operation::GrowVolume {
                volume: call.volume,
                addition: call.addition,
            };
            let operation = Operation {
                grow_volume: Some(grow),
                ..info(Type::GrowVolume)
            };
            (call.agent_id?, operation)
        }
        CallType::ShrinkVolume => {
            let call = call.shrink_volume.clone()?;
            let shrink = operation::ShrinkVolume {
                volume: call.volume,
                subtract: call.subtract,
            };
            let operation = Operation {
                shrink_volume: Some(shrink),
                ..info(Type::ShrinkVolume)
            };
            (call.agent_id?, operation)
        }
        _ => return None,
    })
}

fn info(kind: Type) -> Operation {
    Operation {
        r#type: Some(kind.into()),
        ..Operation::default()
    }
}

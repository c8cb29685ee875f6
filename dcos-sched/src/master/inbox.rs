//! Which libprocess message reaches which part.

use dcos_proto::internal as messages;
use dcos_proto::mesos::{AgentId, FrameworkInfo};
use dcos_proto::scheduler::{Call, call};
use dcos_proto::{Message, decode};

use super::{Master, Packet, Returning, old_call, validation};
use call::Type;

impl Master {
    /// Takes in a message. One that can't be read or is of no known kind changes nothing.
    pub(crate) fn message(&mut self, from: &str, packet: &Packet) {
        if !self.recovered {
            self.counters.dropped_messages += 1;
            return;
        }
        if self.authentication_message(from, packet) {
            return;
        }
        if !self.agent_message(from, packet) && !self.driver_message(from, packet) {
            self.counters.dropped_messages += 1;
        }
    }

    /// Takes in what an agent that comes back says, which was read where it arrived.
    pub(crate) fn returning_message(&mut self, from: &str, returning: Returning) {
        if !self.recovered {
            self.counters.dropped_messages += 1;
        } else if self.authentication.is_open(from) {
            // It waits for the end of that, as all messages do.
            self.message(from, &returning.into_packet());
        } else {
            self.agent_returns(from, returning);
        }
    }

    fn agent_returns(&mut self, from: &str, returning: Returning) {
        if returning.fault.is_some() {
            return self.refuse_agent();
        }
        let (message, tasks, history) = (returning.message, returning.tasks, returning.history);
        let id = message.agent.id.clone().unwrap_or_default();
        let known = self.agents.contains_key(&id);
        self.reregister_agent(from, message, tasks);
        if !known && !history.is_empty() && self.agents.contains_key(&id) {
            self.remember_history(&history);
        }
    }

    fn agent_message(&mut self, from: &str, packet: &Packet) -> bool {
        if let Some(message) = read::<messages::RegisterSlaveMessage>(packet) {
            self.register_agent(from, message);
        } else if packet.name == messages::ReregisterSlaveMessage::V0_NAME {
            let Some(returning) = Returning::read(&packet.body) else {
                return false;
            };
            self.agent_returns(from, returning);
        } else if let Some(message) = read::<messages::UnregisterSlaveMessage>(packet) {
            self.counters.messages_unregister_slave += 1;
            if self.is_agent(from, &message.agent_id) {
                self.counters.removals_unregistered += 1;
                self.remove_agent(&message.agent_id, "the agent unregistered");
            }
        } else if let Some(message) = read::<messages::StatusUpdateMessage>(packet) {
            self.counters.messages_status_update += 1;
            self.status_update(message);
        } else if let Some(message) = read::<messages::UpdateSlaveMessage>(packet) {
            self.update_agent(message);
        } else if let Some(message) = read::<messages::ExitedExecutorMessage>(packet) {
            self.executor_exited(message);
        } else if let Some(message) = read::<messages::ExecutorToFrameworkMessage>(packet) {
            self.executor_message(message);
        } else if let Some(message) = read::<messages::UpdateOperationStatusMessage>(packet) {
            self.operation_status(message);
        } else if read::<messages::PongSlaveMessage>(packet).is_some() {
            self.pong(from);
        } else {
            return false;
        }
        true
    }

    fn is_agent(&self, pid: &str, id: &AgentId) -> bool {
        self.agent_pids.get(pid) == Some(id)
    }

    /// Messages of a v0 scheduler driver: the calls of today's libmesos, and what older ones send.
    fn driver_message(&mut self, from: &str, packet: &Packet) -> bool {
        if let Some((call, force)) = old_call::read(packet) {
            self.driver_call(from, call, force);
        } else if let Some(message) = read::<messages::DeactivateFrameworkMessage>(packet) {
            self.counters.messages_deactivate_framework += 1;
            if self.pids.get(from) == Some(&message.framework_id) {
                self.deactivate_framework(&message.framework_id);
            }
        } else if let Some(message) = read::<messages::RegisterFrameworkMessage>(packet) {
            if has_id(&message.framework) {
                self.refuse_driver(from, "Registering with 'id' already set");
            } else {
                self.driver_subscribe(from, message.framework, false);
            }
        } else if let Some(message) = read::<messages::ReregisterFrameworkMessage>(packet) {
            if has_id(&message.framework) {
                self.driver_subscribe(from, message.framework, message.failover);
            } else {
                self.refuse_driver(from, "Re-registering without an 'id'");
            }
        } else if let Some(call) = older_call(packet) {
            self.driver_call(from, call, false);
        } else {
            return false;
        }
        true
    }

    fn refuse_driver(&mut self, from: &str, why: &str) {
        let message = why.to_owned();
        self.send(from, &messages::FrameworkErrorMessage { message });
    }

    fn driver_subscribe(&mut self, from: &str, framework_info: FrameworkInfo, force: bool) {
        let subscribe = call::Subscribe {
            framework_info,
            ..call::Subscribe::default()
        };
        self.subscribe_driver(from, force, subscribe);
    }

    fn driver_call(&mut self, from: &str, call: Call, force: bool) {
        let Ok(kind) = validation::call::call(&call, None) else {
            self.counters.dropped_messages += 1;
            return;
        };
        if kind == Type::Subscribe {
            if let Some(subscribe) = call.subscribe {
                self.subscribe_driver(from, force, subscribe);
            }
            return;
        }
        let id = call.framework_id.clone().unwrap_or_default();
        if self.pids.get(from) == Some(&id) {
            let reply = self.perform(&id, kind, call);
            if let super::Reply::Refused { text, .. } = reply {
                self.send(from, &messages::FrameworkErrorMessage { message: text });
            }
        } else if self.was_last_at(from, &id) {
            self.tell_disconnected(from);
        } else {
            self.counters.dropped_messages += 1;
        }
    }
}

/// The message, if the packet carries one of this type.
fn read<M: Message>(packet: &Packet) -> Option<M> {
    if packet.name != M::V0_NAME {
        return None;
    }
    decode(&packet.body).ok()
}

fn has_id(info: &FrameworkInfo) -> bool {
    info.id.as_ref().is_some_and(|id| !id.value.is_empty())
}

/// What drivers before 0.24 send, as the call that replaced it.
fn older_call(packet: &Packet) -> Option<Call> {
    let call = |framework_id, kind: Type| Call {
        framework_id: Some(framework_id),
        r#type: Some(kind.into()),
        ..Call::default()
    };
    if let Some(message) = read::<messages::UnregisterFrameworkMessage>(packet) {
        return Some(call(message.framework_id, Type::Teardown));
    }
    if let Some(message) = read::<messages::ReviveOffersMessage>(packet) {
        return Some(Call {
            revive: Some(call::Revive {
                roles: message.roles,
            }),
            ..call(message.framework_id, Type::Revive)
        });
    }
    if let Some(message) = read::<messages::KillTaskMessage>(packet) {
        return Some(Call {
            kill: Some(call::Kill {
                task_id: message.task_id,
                agent_id: None,
                kill_policy: message.kill_policy,
            }),
            ..call(message.framework_id, Type::Kill)
        });
    }
    if let Some(message) = read::<messages::StatusUpdateAcknowledgementMessage>(packet) {
        return Some(Call {
            acknowledge: Some(call::Acknowledge {
                agent_id: message.agent_id,
                task_id: message.task_id,
                uuid: message.uuid,
            }),
            ..call(message.framework_id, Type::Acknowledge)
        });
    }
    if let Some(message) = read::<messages::FrameworkToExecutorMessage>(packet) {
        return Some(Call {
            message: Some(call::Message {
                agent_id: message.agent_id,
                executor_id: message.executor_id,
                data: message.data,
            }),
            ..call(message.framework_id, Type::Message)
        });
    }
    if let Some(message) = read::<messages::ReconcileTasksMessage>(packet) {
        let tasks = message
            .statuses
            .into_iter()
            .map(|status| call::reconcile::Task {
                task_id: status.task_id,
                agent_id: status.agent_id,
            });
        return Some(Call {
            reconcile: Some(call::Reconcile {
                tasks: tasks.collect(),
            }),
            ..call(message.framework_id, Type::Reconcile)
        });
    }
    if let Some(message) = read::<messages::ResourceRequestMessage>(packet) {
        return Some(Call {
            request: Some(call::Request {
                requests: message.requests,
            }),
            ..call(message.framework_id, Type::Request)
        });
    }
    let message = read::<messages::LaunchTasksMessage>(packet)?;
    let framework_id = message.framework_id;
    if message.tasks.is_empty() {
        return Some(Call {
            decline: Some(call::Decline {
                offer_ids: message.offer_ids,
                filters: Some(message.filters),
            }),
            ..call(framework_id, Type::Decline)
        });
    }
    let launch = dcos_proto::mesos::offer::Operation {
        r#type: Some(dcos_proto::mesos::offer::operation::Type::Launch.into()),
        launch: Some(dcos_proto::mesos::offer::operation::Launch {
            task_infos: message.tasks,
        }),
        ..dcos_proto::mesos::offer::Operation::default()
    };
    Some(Call {
        accept: Some(call::Accept {
            offer_ids: message.offer_ids,
            operations: vec![launch],
            filters: Some(message.filters),
        }),
        ..call(framework_id, Type::Accept)
    })
}

//! The scheduler API: which call reaches which part, and with which status it is answered.

use dcos_proto::allocator::inverse_offer_status::Status as Answer;
use dcos_proto::internal::{
    ExecutorToFrameworkMessage, ExitedExecutorMessage, FrameworkToExecutorMessage,
    ShutdownExecutorMessage,
};
use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::call::Type;
use dcos_proto::scheduler::{Call, Event, call, event};

use super::subscriptions::Subscriber;
use super::{Link, Master, Reply, RequestId, validation};

impl Master {
    /// A call of API v1. The order of the checks is that of table 1.2 of the conformance inventory, 3 and 8 to 19.
    pub(crate) fn scheduler_call(
        &mut self,
        request: RequestId,
        stream_id: Option<&str>,
        principal: Option<&str>,
        call: Call,
    ) {
        if !self.recovered {
            let text = "Master has not finished recovery";
            return self.reply(request, Reply::refused(503, text));
        }
        let kind = match validation::call::call(&call, principal) {
            Ok(kind) => kind,
            Err(error) => {
                let text = format!("Failed to validate scheduler::Call: {error}");
                return self.reply(request, Reply::refused(400, text));
            }
        };
        if kind == Type::Subscribe {
            if stream_id.is_some() {
                let text = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
                return self.reply(request, Reply::refused(400, text));
            }
            if let Some(mut subscribe) = call.subscribe {
                // One that authenticated need not say its principal again.
                let own = &mut subscribe.framework_info.principal;
                *own = own.take().or_else(|| principal.map(ToOwned::to_owned));
                let proved = principal.is_some();
                self.subscribe(&Subscriber::Request(request, proved), subscribe);
            }
            return;
        }
        let id = call.framework_id.clone().unwrap_or_default();
        if let Err((status, text)) = self.check_stream(&id, stream_id, principal) {
            return self.reply(request, Reply::refused(status, text));
        }
        let reply = self.perform(&id, kind, call);
        self.reply(request, reply);
    }

    /// Whether a call comes from the framework it names.
    pub(crate) fn check_stream(
        &self,
        id: &FrameworkId,
        stream_id: Option<&str>,
        principal: Option<&str>,
    ) -> Result<(), (u16, String)> {
        let Some(framework) = self.frameworks.get(id) else {
            return Err((400, "Framework cannot be found".to_owned()));
        };
        let own = framework.info.principal.as_deref().unwrap_or_default();
        if let Some(principal) = principal
            && principal != own
        {
            let text = format!(
                "Authenticated principal '{principal}' does not match principal '{own}' set in `FrameworkInfo`"
            );
            return Err((400, text));
        }
        let own = match &framework.link {
            Link::Stream(own) => own,
            Link::Pid(_) => return Err((403, "Framework is not connected via HTTP".to_owned())),
            Link::Recovered | Link::Disconnected => {
                return Err((403, "Framework is not subscribed".to_owned()));
            }
        };
        match stream_id {
            None => Err((
                400,
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header".to_owned(),
            )),
            Some(given) if given != own => Err((
                400,
                format!(
                    "The stream ID '{given}' included in this request didn't match the stream ID currently associated with framework ID {id}"
                ),
            )),
            Some(_) => Ok(()),
        }
    }

    /// Carries out a call of a framework that may make it.
    pub(crate) fn perform(&mut self, id: &FrameworkId, kind: Type, call: Call) -> Reply {
        if let Some(framework) = self.framework_mut(id) {
            *framework.calls.entry(kind.as_str_name()).or_default() += 1;
        }
        match kind {
            Type::Teardown => {
                self.counters.messages_unregister_framework += 1;
                self.remove_framework(id);
            }
            Type::Accept => self.accept(id, call.accept.unwrap_or_default()),
            Type::Decline => self.decline(id, &call.decline.unwrap_or_default()),
            Type::Revive => {
                self.counters.messages_revive_offers += 1;
                self.revive(
                    id,
                    call.revive.map(|revive| revive.roles).unwrap_or_default(),
                );
            }
            Type::Suppress => {
                self.counters.messages_suppress_offers += 1;
                self.suppress(
                    id,
                    call.suppress
                        .map(|suppress| suppress.roles)
                        .unwrap_or_default(),
                );
            }
            Type::Kill => self.kill(id, call.kill.unwrap_or_default()),
            Type::Shutdown => self.shutdown_executor(id, call.shutdown.unwrap_or_default()),
            Type::Acknowledge => {
                self.counters.messages_status_update_acknowledgement += 1;
                self.acknowledge(id, call.acknowledge.unwrap_or_default());
            }
            Type::Reconcile => {
                self.counters.messages_reconcile_tasks += 1;
                self.reconcile(id, &call.reconcile.unwrap_or_default().tasks);
            }
            Type::ReconcileOperations => {
                self.reconcile_operations(id, call.reconcile_operations.unwrap_or_default());
            }
            Type::AcknowledgeOperationStatus => {
                let acknowledge = call.acknowledge_operation_status.unwrap_or_default();
                self.acknowledge_operation(id, acknowledge);
            }
            Type::Message => self.message_to_executor(id, call.message.unwrap_or_default()),
            Type::UpdateFramework => {
                if let Some(update) = call.update_framework {
                    return self.update_framework(id, update);
                }
            }
            Type::AcceptInverseOffers => {
                let accept = call.accept_inverse_offers.unwrap_or_default();
                let (ids, filters) = (accept.inverse_offer_ids, accept.filters);
                self.answer_inverse_offers(id, &ids, filters.as_ref(), Answer::Accept);
            }
            Type::DeclineInverseOffers => {
                let decline = call.decline_inverse_offers.unwrap_or_default();
                let (ids, filters) = (decline.inverse_offer_ids, decline.filters);
                self.answer_inverse_offers(id, &ids, filters.as_ref(), Answer::Decline);
            }
            Type::Request => {
                self.counters.messages_resource_request += 1;
                self.wish(id, &call.request.unwrap_or_default());
            }
            Type::Subscribe | Type::Unknown => {
                return Reply::refused(501, "Not Implemented");
            }
        }
        Reply::Accepted
    }

    fn shutdown_executor(&mut self, id: &FrameworkId, shutdown: call::Shutdown) {
        if let Some(pid) = self.connected_pid(&shutdown.agent_id) {
            let message = ShutdownExecutorMessage {
                executor_id: Some(shutdown.executor_id),
                framework_id: Some(id.clone()),
            };
            self.send(&pid, &message);
        }
    }

    fn message_to_executor(&mut self, id: &FrameworkId, message: call::Message) {
        self.counters.messages_framework_to_executor += 1;
        match self.connected_pid(&message.agent_id) {
            Some(pid) => {
                self.counters.valid_framework_to_executor_messages += 1;
                let message = FrameworkToExecutorMessage {
                    agent_id: message.agent_id,
                    framework_id: id.clone(),
                    executor_id: message.executor_id,
                    data: message.data,
                };
                self.send(&pid, &message);
            }
            None => self.counters.invalid_framework_to_executor_messages += 1,
        }
    }

    fn connected_pid(&self, agent: &dcos_proto::mesos::AgentId) -> Option<String> {
        let agent = self.agents.get(agent).filter(|agent| agent.connected)?;
        Some(agent.pid.clone())
    }

    /// An executor speaks to its framework.
    pub(crate) fn executor_message(&mut self, message: ExecutorToFrameworkMessage) {
        self.counters.messages_executor_to_framework += 1;
        let listener = self.frameworks.get(&message.framework_id);
        let listens = listener.is_some_and(|known| known.link.is_connected());
        if !listens || !self.agents.contains_key(&message.agent_id) {
            self.counters.invalid_executor_to_framework_messages += 1;
            return;
        }
        self.counters.valid_executor_to_framework_messages += 1;
        let event = Event {
            r#type: Some(event::Type::Message.into()),
            message: Some(event::Message {
                agent_id: message.agent_id,
                executor_id: message.executor_id,
                data: message.data,
            }),
            ..Event::default()
        };
        self.tell(&message.framework_id, event);
    }

    /// An executor ended; its tasks' updates come from the agent. Of one that is in no books nobody hears.
    pub(crate) fn executor_exited(&mut self, message: ExitedExecutorMessage) {
        self.counters.messages_exited_executor += 1;
        let known = self.frameworks.get(&message.framework_id);
        let is_known =
            known.is_some_and(|known| known.has_executor(&message.agent_id, &message.executor_id));
        if !is_known {
            return;
        }
        self.remove_executor(
            &message.framework_id,
            &message.agent_id,
            &message.executor_id,
        );
        let event = Event {
            r#type: Some(event::Type::Failure.into()),
            failure: Some(event::Failure {
                agent_id: Some(message.agent_id),
                executor_id: Some(message.executor_id),
                status: Some(message.status),
            }),
            ..Event::default()
        };
        self.tell(&message.framework_id, event);
    }
}

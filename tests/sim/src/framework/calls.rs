//! What a scripted framework says.

use dcos_core::resources::Resources;
use dcos_proto::mesos::framework_info::{Capability, capability};
use dcos_proto::mesos::{
    AgentId, CommandInfo, Filters, FrameworkInfo, InverseOffer, Offer, Request, TaskId, TaskInfo,
    TaskState, TaskStatus, offer,
};
use dcos_proto::scheduler::{Call, Event, call};

use super::{Framework, Known};
use crate::guard::{FORBIDDEN, GUEST};
use crate::node::FOREVER;

/// The role frameworks have besides their own, now and then.
const EXTRA: &str = "extra";

impl Framework {
    /// The roles it has now.
    fn roles(&self) -> Vec<String> {
        let extra = self.extra.then_some(EXTRA);
        let roles = [self.role].into_iter().chain(extra);
        roles.map(ToOwned::to_owned).collect()
    }

    fn info(&self) -> FrameworkInfo {
        let mut capabilities = vec![
            capability::Type::MultiRole,
            capability::Type::ReservationRefinement,
        ];
        if self.partition_aware {
            capabilities.push(capability::Type::PartitionAware);
        }
        FrameworkInfo {
            user: "nobody".to_owned(),
            name: self.name.clone(),
            id: self.id.clone(),
            principal: self.is_guest.then(|| GUEST.to_owned()),
            failover_timeout: Some(604_800.0),
            checkpoint: Some(true),
            roles: self.roles(),
            capabilities: capabilities
                .into_iter()
                .map(|kind| Capability {
                    r#type: Some(kind.into()),
                })
                .collect(),
            ..FrameworkInfo::default()
        }
    }

    /// The roles it wants no offers for.
    fn suppressed_roles(&self) -> Vec<String> {
        if self.suppressed {
            self.roles()
        } else {
            Vec::new()
        }
    }

    /// Takes up another role, or gives it up.
    pub(super) fn change_itself(&mut self) -> Call {
        self.extra = !self.extra;
        let framework_info = self.info();
        // What a guest asks for in vain it does not ask for again when it comes back.
        self.extra &= !self.is_guest;
        Call {
            update_framework: Some(call::UpdateFramework {
                framework_info,
                suppressed_roles: self.suppressed_roles(),
                ..call::UpdateFramework::default()
            }),
            ..self.call(call::Type::UpdateFramework)
        }
    }

    /// Says whether it will leave an agent: that is up to it.
    pub(super) fn answer_inverse(&mut self, offer: &InverseOffer) -> Call {
        let inverse_offer_ids = vec![offer.id.clone()];
        if self.seed.chance(0.5) {
            Call {
                accept_inverse_offers: Some(call::AcceptInverseOffers {
                    inverse_offer_ids,
                    filters: None,
                }),
                ..self.call(call::Type::AcceptInverseOffers)
            }
        } else {
            Call {
                decline_inverse_offers: Some(call::DeclineInverseOffers {
                    inverse_offer_ids,
                    filters: None,
                }),
                ..self.call(call::Type::DeclineInverseOffers)
            }
        }
    }

    pub(super) fn subscribe(&self) -> Call {
        Call {
            framework_id: self.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: self.info(),
                suppressed_roles: self.suppressed_roles(),
                ..call::Subscribe::default()
            }),
            ..Call::default()
        }
    }

    pub(super) fn call(&self, kind: call::Type) -> Call {
        Call {
            framework_id: self.id.clone(),
            r#type: Some(kind.into()),
            ..Call::default()
        }
    }

    /// What it still wants: a piece for a task, or nothing.
    pub(super) fn wish(&self) -> Call {
        let resources = self.need.to_messages();
        let piece = Request {
            agent_id: None,
            resources,
        };
        let requests = if self.wanted > 0 {
            vec![piece]
        } else {
            Vec::new()
        };
        Call {
            request: Some(call::Request { requests }),
            ..self.call(call::Type::Request)
        }
    }

    pub(super) fn suppress(&self) -> Call {
        let roles = self.roles();
        Call {
            suppress: Some(call::Suppress { roles }),
            ..self.call(call::Type::Suppress)
        }
    }

    pub(super) fn revive(&self) -> Call {
        let roles = self.roles();
        Call {
            revive: Some(call::Revive { roles }),
            ..self.call(call::Type::Revive)
        }
    }

    /// Ends itself; whether the master hears of it shows when it comes back and is told.
    pub(super) fn tear_down(&mut self) -> Call {
        self.call(call::Type::Teardown)
    }

    /// The master ends a stream with a word.
    pub(super) fn heard_error(&mut self, event: &Event) {
        let text = event.error.as_ref().map(|error| error.message.clone());
        let text = text.unwrap_or_default();
        match &*text {
            "Framework has been removed" if self.quits => self.has_quit = true,
            // A copy of its own call came later, or an older stream ends.
            "Framework failed over" => {}
            _ => self.complaint = Some(format!("the master says ERROR: {text}")),
        }
    }

    pub(super) fn kill(&self, id: &str, agent: AgentId) -> Call {
        let kill = call::Kill {
            task_id: TaskId::from(id),
            agent_id: Some(agent),
            ..call::Kill::default()
        };
        Call {
            kill: Some(kill),
            ..self.call(call::Type::Kill)
        }
    }

    pub(super) fn reconcile_call(&self) -> Call {
        let tasks = self.open.iter().filter_map(|id| {
            let task = self.tasks.get(id)?;
            Some(call::reconcile::Task {
                task_id: TaskId::from(id.as_str()),
                agent_id: Some(task.agent.clone()),
            })
        });
        let tasks = tasks.collect();
        Call {
            reconcile: Some(call::Reconcile { tasks }),
            ..self.call(call::Type::Reconcile)
        }
    }

    /// Asks for whatever the master knows of its tasks.
    pub(super) fn reconcile_all(&self) -> Call {
        Call {
            reconcile: Some(call::Reconcile { tasks: Vec::new() }),
            ..self.call(call::Type::Reconcile)
        }
    }

    pub(super) fn acknowledge(&self, status: &TaskStatus) -> Option<Call> {
        let uuid = status.uuid.clone().filter(|uuid| !uuid.is_empty())?;
        let acknowledge = call::Acknowledge {
            agent_id: status.agent_id.clone().unwrap_or_default(),
            task_id: status.task_id.clone(),
            uuid,
        };
        Some(Call {
            acknowledge: Some(acknowledge),
            ..self.call(call::Type::Acknowledge)
        })
    }

    pub(super) fn decline(&self, offer: &Offer, refuse: f64) -> Call {
        let decline = call::Decline {
            offer_ids: vec![offer.id.clone()],
            filters: Some(filters(refuse)),
        };
        Call {
            decline: Some(decline),
            ..self.call(call::Type::Decline)
        }
    }

    pub(super) fn accept(
        &self,
        offer: &Offer,
        operations: Vec<offer::Operation>,
        refuse: f64,
    ) -> Call {
        let accept = call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations,
            filters: Some(filters(refuse)),
        };
        Call {
            accept: Some(accept),
            ..self.call(call::Type::Accept)
        }
    }

    pub(super) fn new_task(&mut self, agent: &AgentId, resources: &Resources) -> TaskInfo {
        self.next += 1;
        let id = format!("{}-task-{}", self.name, self.next);
        let forever = self.seed.chance(0.2);
        let forbidden = self.is_bold && self.seed.chance(0.1);
        let known = Known {
            agent: agent.clone(),
            state: TaskState::TaskStaging,
            forever,
            forbidden,
            kill: None,
            lost: None,
            ended: None,
        };
        self.tasks.insert(id.clone(), known);
        self.open.insert(id.clone());
        let command = if forever { FOREVER } else { "true" };
        TaskInfo {
            name: id.clone(),
            task_id: TaskId::from(id),
            agent_id: agent.clone(),
            resources: resources.to_messages(),
            command: Some(CommandInfo {
                value: Some(command.to_owned()),
                user: forbidden.then(|| FORBIDDEN.to_owned()),
                ..CommandInfo::default()
            }),
            ..TaskInfo::default()
        }
    }
}

pub(super) fn launch(task_infos: Vec<TaskInfo>) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::Launch.into()),
        launch: Some(offer::operation::Launch { task_infos }),
        ..offer::Operation::default()
    }
}

fn filters(refuse: f64) -> Filters {
    Filters {
        refuse_seconds: Some(refuse),
    }
}

//! What a scripted framework says.

use dcos_proto::mesos::framework_info::{Capability, capability};
use dcos_proto::mesos::{
    AgentId, CommandInfo, Filters, FrameworkInfo, Offer, TaskId, TaskInfo, TaskState, TaskStatus,
    offer,
};
use dcos_proto::scheduler::{Call, Event, call};

use super::{Framework, Known};
use crate::node::FOREVER;

impl Framework {
    pub(super) fn subscribe(&mut self) -> Call {
        let mut capabilities = vec![capability::Type::MultiRole];
        if self.partition_aware {
            capabilities.push(capability::Type::PartitionAware);
        }
        let info = FrameworkInfo {
            user: "nobody".to_owned(),
            name: self.name.clone(),
            id: self.id.clone(),
            failover_timeout: Some(604_800.0),
            checkpoint: Some(true),
            roles: vec![self.role.to_owned()],
            capabilities: capabilities
                .into_iter()
                .map(|kind| Capability {
                    r#type: Some(kind.into()),
                })
                .collect(),
            ..FrameworkInfo::default()
        };
        let suppressed = self.suppressed.then(|| self.role.to_owned());
        Call {
            framework_id: self.id.clone(),
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                suppressed_roles: suppressed.into_iter().collect(),
                ..call::Subscribe::default()
            }),
            ..Call::default()
        }
    }

    fn call(&self, kind: call::Type) -> Call {
        Call {
            framework_id: self.id.clone(),
            r#type: Some(kind.into()),
            ..Call::default()
        }
    }

    pub(super) fn suppress(&self) -> Call {
        let roles = vec![self.role.to_owned()];
        Call {
            suppress: Some(call::Suppress { roles }),
            ..self.call(call::Type::Suppress)
        }
    }

    pub(super) fn revive(&self) -> Call {
        let roles = vec![self.role.to_owned()];
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

    pub(super) fn accept(&self, offer: &Offer, tasks: Vec<TaskInfo>, refuse: f64) -> Call {
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch.into()),
            launch: Some(offer::operation::Launch { task_infos: tasks }),
            ..offer::Operation::default()
        };
        let accept = call::Accept {
            offer_ids: vec![offer.id.clone()],
            operations: vec![launch],
            filters: Some(filters(refuse)),
        };
        Call {
            accept: Some(accept),
            ..self.call(call::Type::Accept)
        }
    }

    pub(super) fn new_task(&mut self, agent: &AgentId) -> TaskInfo {
        self.next += 1;
        let id = format!("{}-task-{}", self.name, self.next);
        let forever = self.seed.chance(0.2);
        let known = Known {
            agent: agent.clone(),
            state: TaskState::TaskStaging,
            forever,
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
            resources: self.need.to_messages(),
            command: Some(CommandInfo {
                value: Some(command.to_owned()),
                ..CommandInfo::default()
            }),
            ..TaskInfo::default()
        }
    }
}

fn filters(refuse: f64) -> Filters {
    Filters {
        refuse_seconds: Some(refuse),
    }
}

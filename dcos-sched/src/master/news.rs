//! What the subscribers of the operator API are told.
//!
//! A master whose agents all come back has half a million things to tell and mostly nobody who
//! listens, so the larger ones are written out only for those who do.

use std::sync::Arc;

use dcos_proto::master::{Event, event};

use super::{Agent, TaskRecord, snapshot};

/// Something that happened, as it was at that moment.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum News {
    /// Anything, as it is told.
    Event(Box<Event>),
    /// An agent was admitted; nothing of it is offered yet.
    AgentAdded(Arc<Agent>),
    /// A task is known from now on.
    TaskAdded(TaskRecord),
    /// What became of a task: the event names it, and the task says who may hear of it.
    TaskUpdated(Box<Event>, TaskRecord),
}

impl News {
    /// The task an event is about without showing it.
    pub(crate) fn task(&self) -> Option<TaskRecord> {
        match self {
            Self::TaskUpdated(_, task) => Some(task.clone()),
            _ => None,
        }
    }

    /// As it is told.
    pub fn into_event(self) -> Event {
        match self {
            Self::Event(event) | Self::TaskUpdated(event, _) => *event,
            Self::AgentAdded(agent) => Event {
                r#type: Some(event::Type::AgentAdded.into()),
                agent_added: Some(event::AgentAdded {
                    agent: snapshot::agent_added(&agent),
                }),
                ..Event::default()
            },
            Self::TaskAdded(task) => Event {
                r#type: Some(event::Type::TaskAdded.into()),
                task_added: Some(event::TaskAdded {
                    task: task.into_task(),
                }),
                ..Event::default()
            },
        }
    }
}

impl From<Event> for News {
    fn from(event: Event) -> Self {
        Self::Event(Box::new(event))
    }
}

//! Agents that come back, read before they reach the core.
//!
//! After a failover all agents come back at once, with all that runs. Reading what they say takes as long as what
//! the core does with it, so it is read where it arrives, on as many threads as there are, and the core
//! only takes it in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dcos_core::resources::convert::upgrade_all;
use dcos_proto::internal::ReregisterSlaveMessage;
use dcos_proto::mesos::{FrameworkId, Resource, TaskId};
use dcos_proto::{Message as _, decode};
use dcos_wire::libprocess::Event as Heard;

use super::{Input, Packet, TaskRecord, history, validation};

/// How many bytes of messages may have been read that the core has not taken in: once read they take about twice
/// the room. What comes beyond that is read by the core, when it is its turn.
const AHEAD: usize = 32 << 20;

/// `tasks` of `ReregisterSlaveMessage`.
const TASKS: u32 = 3;

/// A `ReregisterSlaveMessage` that has been read: resources are in the refined format, tasks are packed, and what has
/// ended is apart.
#[derive(Debug, Clone)]
pub struct Returning {
    /// Without tasks and history.
    pub(crate) message: ReregisterSlaveMessage,
    pub(crate) tasks: Vec<Told>,
    /// Frameworks with the tasks of theirs that have ended, as they came.
    pub(crate) history: Vec<Bytes>,
    /// What is wrong with it.
    pub(crate) fault: Option<String>,
    /// All of it as it came.
    body: Bytes,
    _place: Option<Arc<Place>>,
}

impl Returning {
    /// Reads a message; `None` if it is not well-formed.
    pub fn read(body: &Bytes) -> Option<Self> {
        Self::read_in(body, None)
    }

    fn read_in(body: &Bytes, place: Option<Arc<Place>>) -> Option<Self> {
        let (rest, history) = history::apart(body);
        let mut message: ReregisterSlaveMessage = decode(&rest).ok()?;
        let history = history.into_iter().map(|part| body.slice_ref(part));
        let history = history.collect();
        let tasks = told(&mut message, &rest)?;
        let fault = validation::agent::returning(&message, &tasks).err();
        upgrade_all(&mut message.agent.resources);
        upgrade_all(&mut message.checkpointed_resources);
        for executor in &mut message.executor_infos {
            upgrade_all(&mut executor.resources);
        }
        Some(Self {
            message,
            tasks,
            history,
            fault,
            body: body.clone(),
            _place: place,
        })
    }

    /// As it came.
    pub(crate) fn into_packet(self) -> Packet {
        Packet {
            name: ReregisterSlaveMessage::V0_NAME.to_owned(),
            body: self.body,
        }
    }
}

/// A task that an agent tells of.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) framework_id: FrameworkId,
    pub(crate) task_id: TaskId,
    /// What it uses. Tasks one after the other that use the same share this.
    pub(crate) resources: Arc<[Resource]>,
    pub(crate) record: TaskRecord,
}

/// Takes the tasks out of a message that was decoded from `bytes`.
fn told(message: &mut ReregisterSlaveMessage, bytes: &[u8]) -> Option<Vec<Told>> {
    let tasks = std::mem::take(&mut message.tasks);
    let bytes = history::values(bytes, TASKS)?;
    if bytes.len() != tasks.len() {
        return None;
    }
    let agent = Arc::new(message.agent.id.clone().unwrap_or_default());
    let mut told: Vec<Told> = Vec::with_capacity(tasks.len());
    for (mut task, bytes) in tasks.into_iter().zip(bytes) {
        upgrade_all(&mut task.resources);
        let before = told.last().map(|before| &before.resources);
        let same = before.filter(|before| ***before == *task.resources);
        let resources = same.cloned();
        let resources = resources.unwrap_or_else(|| std::mem::take(&mut task.resources).into());
        let agent = if task.agent_id == *agent {
            Arc::clone(&agent)
        } else {
            Arc::new(task.agent_id.clone())
        };
        told.push(Told {
            record: TaskRecord::packed(bytes, &task, agent),
            framework_id: task.framework_id,
            task_id: task.task_id,
            resources,
        });
    }
    Some(told)
}

/// Makes inputs of what the master hears. Clones share their bound.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadAhead {
    ahead: Arc<AtomicUsize>,
}

/// Bytes of a message that was read ahead; given back when the core has taken it in.
#[derive(Debug)]
struct Place {
    ahead: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ahead.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl ReadAhead {
    /// What the core is told of it.
    pub(super) fn input(&self, heard: Heard) -> Input {
        let message = match heard {
            Heard::Message(message) => message,
            Heard::Exited(pid) => {
                return Input::Exited {
                    pid: pid.to_string(),
                };
            }
        };
        let from = message.from.to_string();
        if message.name == ReregisterSlaveMessage::V0_NAME
            && let Some(returning) = self.read_ahead(&message.body)
        {
            let returning = Box::new(returning);
            return Input::Returning { from, returning };
        }
        let message = Packet {
            name: message.name,
            body: message.body,
        };
        Input::Message { from, message }
    }

    fn read_ahead(&self, body: &Bytes) -> Option<Returning> {
        let place = self.place(body.len())?;
        Returning::read_in(body, Some(Arc::new(place)))
    }

    fn place(&self, bytes: usize) -> Option<Place> {
        let before = self.ahead.fetch_add(bytes, Ordering::AcqRel);
        let place = Place {
            ahead: Arc::clone(&self.ahead),
            bytes,
        };
        (before.saturating_add(bytes) <= AHEAD).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use dcos_proto::mesos::{AgentInfo, FrameworkInfo, Task, TaskState};
    use dcos_wire::libprocess::Message;
    use prost::Message as _;

    use super::*;

    fn heard(name: &str, body: Bytes) -> Heard {
        Heard::Message(Message {
            from: "slave(1)@10.0.0.1:5051".parse().unwrap(),
            name: name.to_owned(),
            body,
        })
    }

    fn returning(tasks: usize) -> Bytes {
        let task = Task {
            state: TaskState::TaskRunning.into(),
            ..Task::default()
        };
        let message = ReregisterSlaveMessage {
            agent: AgentInfo {
                hostname: "host".to_owned(),
                ..AgentInfo::default()
            },
            tasks: vec![task; tasks],
            completed_frameworks: vec![dcos_proto::internal::archive::Framework {
                framework_info: FrameworkInfo::default(),
                ..Default::default()
            }],
            ..ReregisterSlaveMessage::default()
        };
        message.encode_to_vec().into()
    }

    #[test]
    fn only_agents_that_return_are_read_ahead() {
        let reader = ReadAhead::default();
        let body = returning(3);
        let name = ReregisterSlaveMessage::V0_NAME;
        let Input::Returning { from, returning } = reader.input(heard(name, body.clone())) else {
            panic!("not read");
        };
        assert_eq!(from, "slave(1)@10.0.0.1:5051");
        assert!(returning.message.tasks.is_empty());
        assert_eq!(returning.tasks.len(), 3);
        let read: Vec<_> = returning
            .tasks
            .iter()
            .map(|told| told.record.state())
            .collect();
        assert_eq!(read, [TaskState::TaskRunning; 3]);
        let shared = &returning.tasks[0].resources;
        assert!(Arc::ptr_eq(shared, &returning.tasks[2].resources));
        assert!(returning.message.completed_frameworks.is_empty());
        assert_eq!(returning.history.len(), 1);
        let packet = returning.into_packet();
        assert_eq!((&*packet.name, &packet.body), (name, &body));
        for (name, body) in [("mesos.internal.Other", body), (name, "\u{1}".into())] {
            let Input::Message { message, .. } = reader.input(heard(name, body.clone())) else {
                panic!("read");
            };
            assert_eq!((&*message.name, message.body), (name, body));
        }
    }

    #[test]
    fn what_is_read_ahead_is_bounded() {
        let reader = ReadAhead::default();
        let half = reader.place(AHEAD / 2);
        let other = reader.clone().place(AHEAD / 2);
        assert!(half.is_some() && other.is_some());
        assert!(reader.place(1).is_none());
        drop(half);
        assert!(reader.place(1).is_some());
        drop(other);
        assert_eq!(reader.ahead.load(Ordering::Acquire), 0);
    }
}

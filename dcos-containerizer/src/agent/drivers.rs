//! Executors on the libmesos driver, which speak API v0: the words of the v1 executor API, said in
//! libprocess messages.
//!
//! Source: Mesos 1.11 `src/exec/exec.cpp` (what a driver sends and understands), and the branches
//! for `executor->pid` in `src/slave/slave.cpp`.

use dcos_proto::executor::{Event, call, event};
use dcos_proto::internal::{
    ExecutorRegisteredMessage, ExecutorReregisteredMessage, ExecutorToFrameworkMessage,
    FrameworkToExecutorMessage, KillTaskMessage, RegisterExecutorMessage,
    ReregisterExecutorMessage, RunTaskMessage, ShutdownExecutorMessage,
    StatusUpdateAcknowledgementMessage, StatusUpdateMessage,
};
use dcos_proto::mesos::{AgentId, ExecutorId, FrameworkId, FrameworkInfo, TaskInfo};
use dcos_proto::{DecodeError, Message, decode};
use dcos_wire::libprocess::{Actor, Upid};

use super::records::ExecutorKey;
use super::words::Input;

/// A driver that has registered.
#[derive(Debug)]
pub(super) struct Driver {
    pid: Upid,
    /// Whether it was registered with an earlier agent already.
    again: bool,
    framework: FrameworkInfo,
}

/// What a driver says.
pub(super) enum Said {
    /// It is there: its first message, or the first to this agent.
    Register(ExecutorKey, Box<Driver>, call::Subscribe),
    /// Anything later.
    Input(Box<Input>),
}

impl Said {
    /// Reads the message called `name` that `from` sent; `None` if no driver says that.
    pub(super) fn decode(
        from: &Upid,
        name: &str,
        body: &[u8],
    ) -> Option<Result<Self, DecodeError>> {
        let said = if name == RegisterExecutorMessage::V0_NAME {
            decode::<RegisterExecutorMessage>(body).map(|message| {
                let key = key(message.framework_id, message.executor_id);
                Self::Register(key, Driver::new(from, false), call::Subscribe::default())
            })
        } else if name == ReregisterExecutorMessage::V0_NAME {
            decode::<ReregisterExecutorMessage>(body).map(|message| reregister(from, message))
        } else if name == StatusUpdateMessage::V0_NAME {
            decode::<StatusUpdateMessage>(body).map(|message| {
                let mut update = message.update;
                update.status.uuid = update.uuid.take().or(update.status.uuid);
                let executor = update.executor_id.unwrap_or_default();
                let key = key(update.framework_id, executor);
                Self::Input(Box::new(Input::Update(key, update.status)))
            })
        } else if name == ExecutorToFrameworkMessage::V0_NAME {
            decode::<ExecutorToFrameworkMessage>(body).map(|message| {
                let key = key(message.framework_id, message.executor_id);
                Self::Input(Box::new(Input::ExecutorMessage(key, message.data)))
            })
        } else {
            return None;
        };
        Some(said)
    }
}

fn reregister(from: &Upid, message: ReregisterExecutorMessage) -> Said {
    let updates = message.updates.into_iter().map(|mut update| {
        update.status.uuid = update.uuid.take().or(update.status.uuid);
        call::Update {
            status: update.status,
        }
    });
    let subscribe = call::Subscribe {
        unacknowledged_updates: updates.collect(),
        unacknowledged_tasks: message.tasks,
    };
    let key = key(message.framework_id, message.executor_id);
    Said::Register(key, Driver::new(from, true), subscribe)
}

fn key(framework: FrameworkId, executor: ExecutorId) -> ExecutorKey {
    ExecutorKey {
        framework,
        executor,
    }
}

impl Driver {
    fn new(pid: &Upid, again: bool) -> Box<Self> {
        Box::new(Self {
            pid: pid.clone(),
            again,
            framework: FrameworkInfo::default(),
        })
    }

    /// Where it listens.
    pub(super) fn pid(&self) -> &Upid {
        &self.pid
    }

    /// Says `event` in the driver's words.
    pub(super) fn send(
        &mut self,
        actor: &Actor,
        key: &ExecutorKey,
        agent: &AgentId,
        event: &Event,
    ) {
        let pid = &self.pid;
        match event.r#type() {
            event::Type::Subscribed => {
                let Some(subscribed) = event.subscribed.clone() else {
                    return;
                };
                self.framework = subscribed.framework_info.clone();
                if self.again {
                    let message = ExecutorReregisteredMessage {
                        agent_id: agent.clone(),
                        agent_info: subscribed.agent_info,
                    };
                    return actor.send_message(&self.pid, &message);
                }
                let message = ExecutorRegisteredMessage {
                    executor_info: subscribed.executor_info,
                    framework_id: key.framework.clone(),
                    framework_info: subscribed.framework_info,
                    agent_id: agent.clone(),
                    agent_info: subscribed.agent_info,
                };
                actor.send_message(&self.pid, &message);
            }
            event::Type::Launch => {
                if let Some(launch) = &event.launch {
                    self.launch(actor, key, &launch.task);
                }
            }
            event::Type::LaunchGroup => {
                // A driver knows no groups; the tasks of one come one after the other.
                for task in event
                    .launch_group
                    .iter()
                    .flat_map(|group| &group.task_group.tasks)
                {
                    self.launch(actor, key, task);
                }
            }
            event::Type::Kill => {
                let Some(kill) = event.kill.clone() else {
                    return;
                };
                let message = KillTaskMessage {
                    framework_id: key.framework.clone(),
                    task_id: kill.task_id,
                    kill_policy: kill.kill_policy,
                };
                actor.send_message(pid, &message);
            }
            event::Type::Acknowledged => {
                let Some(acknowledged) = event.acknowledged.clone() else {
                    return;
                };
                let message = StatusUpdateAcknowledgementMessage {
                    agent_id: agent.clone(),
                    framework_id: key.framework.clone(),
                    task_id: acknowledged.task_id,
                    uuid: acknowledged.uuid,
                };
                actor.send_message(pid, &message);
            }
            event::Type::Message => {
                let Some(message) = event.message.clone() else {
                    return;
                };
                let message = FrameworkToExecutorMessage {
                    agent_id: agent.clone(),
                    framework_id: key.framework.clone(),
                    executor_id: key.executor.clone(),
                    data: message.data,
                };
                actor.send_message(pid, &message);
            }
            event::Type::Shutdown => {
                let message = ShutdownExecutorMessage {
                    executor_id: Some(key.executor.clone()),
                    framework_id: Some(key.framework.clone()),
                };
                actor.send_message(pid, &message);
            }
            event::Type::Error | event::Type::Heartbeat | event::Type::Unknown => {}
        }
    }

    fn launch(&self, actor: &Actor, key: &ExecutorKey, task: &TaskInfo) {
        let message = RunTaskMessage {
            framework_id: Some(key.framework.clone()),
            framework: self.framework.clone(),
            task: task.clone(),
            ..RunTaskMessage::default()
        };
        actor.send_message(&self.pid, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::internal::StatusUpdate;
    use prost::Message as _;

    #[test]
    fn an_update_of_a_driver_carries_its_uuid() {
        let from: Upid = "executor(1)@127.0.0.1:1234".parse().unwrap();
        let message = StatusUpdateMessage {
            update: StatusUpdate {
                framework_id: "f".into(),
                executor_id: Some("e".into()),
                uuid: Some(vec![7; 16]),
                ..StatusUpdate::default()
            },
            pid: None,
        };
        let name = "mesos.internal.StatusUpdateMessage";
        let said = Said::decode(&from, name, &message.encode_to_vec());
        let Some(Ok(Said::Input(input))) = said else {
            panic!("not understood")
        };
        let Input::Update(key, status) = *input else {
            panic!("no update")
        };
        assert_eq!(key.to_string(), "e of framework f");
        assert_eq!(status.uuid, Some(vec![7; 16]));
        assert!(Said::decode(&from, "mesos.internal.PingSlaveMessage", b"").is_none());
    }
}

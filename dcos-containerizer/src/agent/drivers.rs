//! Executors on the libmesos driver, which speak API v0: the words of the v1 executor API, said in
//! libprocess messages. Whether a driver is heard is the core's to say (`admission.rs`).
//!
//! Source: Mesos 1.11 `src/exec/exec.cpp` (what a driver understands), and the branches
//! for `executor->pid` in `src/slave/slave.cpp`.

use dcos_proto::executor::{Event, event};
use dcos_proto::internal::{
    ExecutorRegisteredMessage, ExecutorReregisteredMessage, FrameworkToExecutorMessage,
    KillTaskMessage, RunTaskMessage, ShutdownExecutorMessage, StatusUpdateAcknowledgementMessage,
};
use dcos_proto::mesos::{AgentId, FrameworkInfo, TaskInfo};
use dcos_wire::libprocess::{Actor, Upid};

use super::records::ExecutorKey;

/// A driver that has registered.
#[derive(Debug)]
pub(super) struct Driver {
    pid: Upid,
    /// Whether it was registered with an earlier agent already.
    again: bool,
    framework: FrameworkInfo,
}

impl Driver {
    pub(super) fn new(pid: Upid, again: bool) -> Box<Self> {
        Box::new(Self {
            pid,
            again,
            framework: FrameworkInfo::default(),
        })
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

//! The agent's core with a disk that is a list of writes, so that it can crash after any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::slice;
use std::time::Duration;

use dcos_core::resources::convert::dynamic_reservation;
use dcos_core::resources::scalar_resource;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::executor::call::Subscribe;
use dcos_proto::executor::event;
use dcos_proto::internal::*;
use dcos_proto::mesos::task_status::{Reason, Source};
use dcos_proto::mesos::*;
use proptest::prelude::*;

use super::*;
use crate::checkpoint::{Store, Write};
use crate::containerizer::{ContainerTermination, Recovered};
use dcos_core::states::is_terminal;

mod authorization;
mod drivers;
mod hooks;
mod oversubscription;
mod regressions;

const MASTER: &str = "master@10.0.0.1:5050";

pub(super) fn settings(work_dir: PathBuf) -> Settings {
    Settings {
        version: "1.11.0".to_owned(),
        pid: "slave(1)@10.0.0.2:5051".to_owned(),
        endpoint: "10.0.0.2:5051".to_owned(),
        work_dir,
        registration_backoff_factor: Duration::from_secs(1),
        executor_registration_timeout: Duration::from_mins(1),
        executor_reregistration_timeout: Duration::from_secs(2),
        executor_reregistration_retry_interval: None,
        executor_shutdown_grace_period: Duration::from_secs(5),
        docker_stop_timeout: None,
        recovery_timeout: Duration::from_mins(15),
        gc_delay: Duration::from_hours(7 * 24),
        gc_disk_headroom: 0.1,
        max_completed_executors_per_framework: 150,
        switch_user: true,
        executor_environment: BTreeMap::new(),
        executor_socket: None,
        credential: None,
        patience: Patience::default(),
        executor_key: None,
        drivers: true,
        authorizer: None,
        hooks: Hooks::default(),
    }
}

/// An agent with a disk, a containerizer that does what it is told, and a master that listens.
struct Node {
    work_dir: tempfile::TempDir,
    agent: Agent,
    now: Time,
    launched: Vec<ContainerId>,
    running: BTreeSet<ContainerId>,
    /// Whose limits were set anew.
    resized: Vec<ContainerId>,
    destroyed: BTreeSet<ContainerId>,
    ended: BTreeMap<ContainerId, ContainerTermination>,
    to_master: Vec<ToMaster>,
    events: Vec<(ExecutorKey, dcos_proto::executor::Event)>,
    /// Where drivers listen that are taken in, or told to end.
    drivers: Vec<(String, bool)>,
    stopped: Option<String>,
    restarts: u64,
}

impl Node {
    fn new() -> Self {
        // In memory where possible: what is tested is what is written, not how it is synced.
        let work_dir = tempfile::tempdir_in("/dev/shm");
        let work_dir = work_dir.or_else(|_| tempfile::tempdir()).unwrap();
        let now = Time::from_secs(1_000_000);
        let state = Store::open(work_dir.path()).unwrap().read("boot").unwrap();
        let settings = settings(work_dir.path().to_owned());
        let info = AgentInfo {
            hostname: "node".to_owned(),
            resources: vec![scalar_resource("cpus", 4.0)],
            ..AgentInfo::default()
        };
        let seed = Seed::new(1);
        let agent = Agent::recover(now, settings, &seed, info, state, BTreeMap::new());
        Self {
            work_dir,
            agent,
            now,
            launched: Vec::new(),
            running: BTreeSet::new(),
            resized: Vec::new(),
            destroyed: BTreeSet::new(),
            ended: BTreeMap::new(),
            to_master: Vec::new(),
            events: Vec::new(),
            drivers: Vec::new(),
            stopped: None,
            restarts: 0,
        }
    }

    /// One that is registered as `a1`.
    fn registered() -> Self {
        let mut node = Self::new();
        node.join();
        node.told(SlaveRegisteredMessage {
            agent_id: "a1".into(),
            connection: None,
        });
        node
    }

    fn join(&mut self) {
        self.handle(Input::Detected(Some(MASTER.to_owned())));
        self.pass(Duration::from_secs(3));
    }

    fn handle(&mut self, input: Input) {
        self.agent.handle(self.now, input);
        self.carry_out(None);
    }

    fn told(&mut self, message: impl Into<FromMaster>) {
        self.handle(Input::Message {
            from: MASTER.to_owned(),
            message: message.into(),
        });
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.agent.next_deadline().filter(|due| due.is_due(end)) {
            self.now = self.now.max(due);
            self.agent.tick(self.now);
            self.carry_out(None);
        }
        self.now = end;
    }

    /// The master is still there.
    fn ping(&mut self) {
        self.told(PingSlaveMessage { connected: true });
    }

    /// Carries out what the agent wants; it dies after `survive` writes.
    fn carry_out(&mut self, survive: Option<usize>) {
        let mut left = survive.unwrap_or(usize::MAX);
        while let Some(action) = self.agent.poll() {
            match action {
                Action::Write(write) => {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    self.write(*write);
                }
                Action::Send(_, message) => self.to_master.push(*message),
                Action::Event(key, event) => self.events.push((key, *event)),
                Action::Admit { pid, .. } => self.drivers.push((pid, true)),
                Action::Refuse { pid, shutdown, .. } if shutdown => self.drivers.push((pid, false)),
                Action::Launch(id, _) => {
                    assert!(!self.launched.contains(&id), "{id} is launched twice");
                    self.launched.push(id.clone());
                    self.running.insert(id);
                }
                Action::Resize(id, ..) => self.resized.push(id),
                Action::Destroy(id) => {
                    self.destroyed.insert(id);
                }
                Action::Remove(id) => {
                    self.ended.remove(&id);
                }
                Action::Stop { reason, .. } => self.stopped = Some(reason),
                Action::Volumes(work) => {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    let done = volumes::change(&work).map_err(|error| error.to_string());
                    let done = done.map(|aside| volumes::discard(&aside));
                    let input = Input::Volumes(work.operation, done);
                    self.agent.handle(self.now, input);
                }
                _ => {}
            }
        }
    }

    fn write(&self, write: Write) {
        let mut store = Store::open(self.work_dir.path()).unwrap();
        store.read("boot").unwrap();
        store.apply(&[write]).unwrap();
    }

    /// Dies without a word, and comes back.
    fn crash(&mut self) {
        self.crash_with(|_| {});
    }

    /// The same with other settings.
    fn crash_with(&mut self, change: impl FnOnce(&mut Settings)) {
        self.restarts += 1;
        let state = Store::open(self.work_dir.path())
            .unwrap()
            .read("boot")
            .unwrap();
        let mut containers = BTreeMap::new();
        let known = state.containers();
        for id in &self.running {
            if known.contains(id.root_id()) {
                containers.insert(id.clone(), Recovered::Running);
            }
        }
        self.running.retain(|id| known.contains(id.root_id()));
        for (id, termination) in &self.ended {
            containers.insert(id.clone(), Recovered::Ended(termination.clone()));
        }
        let info = AgentInfo {
            hostname: "node".to_owned(),
            ..AgentInfo::default()
        };
        let mut settings = settings(self.work_dir.path().to_owned());
        change(&mut settings);
        let seed = Seed::new(1).stream(&self.restarts.to_string());
        self.agent = Agent::recover(self.now, settings, &seed, info, state, containers);
        self.carry_out(None);
    }

    /// Tells that a container runs, as the shell does after a launch and a restart.
    fn runs(&mut self, id: &ContainerId) {
        self.handle(Input::Launched(id.clone(), ContainerStatus::default()));
    }

    fn ends(&mut self, id: &ContainerId, status: i32) {
        self.running.remove(id);
        let termination = ContainerTermination::exited(status);
        self.ended.insert(id.clone(), termination.clone());
        self.handle(Input::Ended(id.clone(), termination));
    }

    fn updates(&mut self) -> Vec<StatusUpdate> {
        let sent = std::mem::take(&mut self.to_master).into_iter();
        let updates = sent.filter_map(|message| match message {
            ToMaster::Update(message) => Some(message.update),
            _ => None,
        });
        updates.collect()
    }

    /// Acknowledges whatever is sent, until nothing is; returns the states by task.
    fn acknowledge_all(&mut self) -> Vec<(String, TaskState)> {
        let mut seen = Vec::new();
        loop {
            let updates = self.updates();
            if updates.is_empty() {
                return seen;
            }
            for update in updates {
                seen.push((update.status.task_id.value.clone(), update.status.state()));
                self.acknowledge(&update);
            }
        }
    }

    fn acknowledge(&mut self, update: &StatusUpdate) {
        self.told(StatusUpdateAcknowledgementMessage {
            agent_id: "a1".into(),
            framework_id: update.framework_id.clone(),
            task_id: update.status.task_id.clone(),
            uuid: update.uuid.clone().unwrap(),
        });
    }
}

fn framework(checkpoint: bool) -> FrameworkInfo {
    FrameworkInfo {
        id: Some("f".into()),
        user: "root".to_owned(),
        checkpoint: Some(checkpoint),
        ..FrameworkInfo::default()
    }
}

fn task(id: &str) -> TaskInfo {
    TaskInfo {
        name: id.to_owned(),
        task_id: id.into(),
        agent_id: "a1".into(),
        command: Some(CommandInfo {
            value: Some("true".to_owned()),
            ..CommandInfo::default()
        }),
        ..TaskInfo::default()
    }
}

fn run_task(task: TaskInfo) -> RunTaskMessage {
    RunTaskMessage {
        framework: framework(true),
        task,
        ..RunTaskMessage::default()
    }
}

fn run_group(ids: &[&str]) -> RunTaskGroupMessage {
    RunTaskGroupMessage {
        framework: framework(true),
        executor: ExecutorInfo {
            executor_id: "pod".into(),
            r#type: Some(executor_info::Type::Default.into()),
            ..ExecutorInfo::default()
        },
        task_group: TaskGroupInfo {
            tasks: ids.iter().map(|id| task(id)).collect(),
        },
        ..RunTaskGroupMessage::default()
    }
}

fn custom_task(id: &str) -> RunTaskMessage {
    let executor = ExecutorInfo {
        executor_id: "own".into(),
        command: Some(CommandInfo::default()),
        ..ExecutorInfo::default()
    };
    run_task(TaskInfo {
        executor: Some(executor),
        command: None,
        ..task(id)
    })
}

fn own() -> ExecutorKey {
    ExecutorKey {
        framework: "f".into(),
        executor: "own".into(),
    }
}

fn executor_status(task: &str, state: TaskState, uuid: u8) -> TaskStatus {
    TaskStatus {
        task_id: task.into(),
        state: state.into(),
        source: Some(Source::Executor.into()),
        uuid: Some(vec![uuid; 16]),
        ..TaskStatus::default()
    }
}

#[test]
fn it_registers_after_a_delay_and_again_until_it_is_heard() {
    let mut node = Node::new();
    node.handle(Input::Detected(Some(MASTER.to_owned())));
    assert!(node.to_master.is_empty());
    node.pass(Duration::from_mins(5));
    let asked = node.to_master.len();
    assert!((5..60).contains(&asked), "asked {asked} times");
    assert!(
        node.to_master
            .iter()
            .all(|message| matches!(message, ToMaster::Register(_)))
    );
    node.told(SlaveRegisteredMessage {
        agent_id: "a1".into(),
        connection: None,
    });
    assert_eq!(node.agent.master(), Some(MASTER));
    assert_eq!(node.agent.id(), Some(&"a1".into()));
}

#[test]
fn a_silent_master_is_asked_again() {
    let mut node = Node::registered();
    node.to_master.clear();
    let ping = || Input::Message {
        from: "slave-observer(1)@10.0.0.1:5050".to_owned(),
        message: PingSlaveMessage { connected: true }.into(),
    };
    for _ in 0..10 {
        node.pass(Duration::from_secs(15));
        node.handle(ping());
    }
    assert!(
        node.to_master
            .iter()
            .all(|message| matches!(message, ToMaster::Pong(_)))
    );
    node.pass(Duration::from_secs(80));
    assert!(matches!(
        node.to_master.last(),
        Some(ToMaster::Reregister(_))
    ));
}

#[test]
fn a_ping_that_says_disconnected_makes_it_join_again() {
    let mut node = Node::registered();
    node.to_master.clear();
    node.told(PingSlaveMessage { connected: false });
    node.pass(Duration::from_secs(2));
    assert!(matches!(
        node.to_master[..],
        [ToMaster::Pong(_), ToMaster::Reregister(_), ..]
    ));
}

#[test]
fn another_identity_stops_it() {
    let mut node = Node::registered();
    node.handle(Input::Disconnected(MASTER.to_owned()));
    node.pass(Duration::from_secs(2));
    node.told(SlaveRegisteredMessage {
        agent_id: "a2".into(),
        connection: None,
    });
    assert!(node.stopped.is_some());
}

/// The answer that gives it an id got lost: what came behind could not be told of.
#[test]
fn without_an_id_it_runs_nothing() {
    let mut node = Node::new();
    node.join();
    node.told(run_task(task("t")));
    assert!(node.launched.is_empty() && node.agent.tasks().next().is_none());
    node.told(SlaveRegisteredMessage {
        agent_id: "a1".into(),
        connection: None,
    });
    node.told(run_task(task("u")));
    assert_eq!(node.launched.len(), 1);
}

#[test]
fn tasks_of_an_agent_that_was_here_before_do_not_run() {
    let mut node = Node::registered();
    node.told(run_task(TaskInfo {
        agent_id: "a0".into(),
        ..task("t")
    }));
    assert!(node.launched.is_empty() && node.agent.tasks().next().is_none());
}

/// The launch waited in a connection of before; meanwhile the framework was told that it is lost.
#[test]
fn a_launch_that_comes_after_its_task_was_given_up_is_refused() {
    let mut node = Node::registered();
    node.told(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        reconciliations: vec![ReconcileTasksMessage {
            framework_id: "f".into(),
            framework: Some(framework(true)),
            statuses: vec![TaskStatus {
                task_id: "t".into(),
                ..TaskStatus::default()
            }],
        }],
        connection: None,
    });
    assert_eq!(
        node.acknowledge_all(),
        [("t".to_owned(), TaskState::TaskLost)]
    );
    node.told(run_task(task("t")));
    assert!(node.launched.is_empty());
    assert_eq!(
        node.acknowledge_all(),
        [("t".to_owned(), TaskState::TaskLost)]
    );
    // A framework that uses names again may do so a little later.
    node.pass(Duration::from_mins(1));
    node.told(run_task(task("t")));
    assert_eq!(node.launched.len(), 1);
}

#[test]
fn a_command_task_goes_its_way() {
    let mut node = Node::registered();
    node.told(run_task(task("t")));
    let container = node.launched[0].clone();
    assert!(node.updates().is_empty());
    node.runs(&container);
    let starting = node.updates().remove(0);
    assert_eq!(starting.status.state(), TaskState::TaskStarting);
    assert_eq!(starting.latest_state(), TaskState::TaskRunning);
    node.acknowledge(&starting);
    let running = node.updates().remove(0);
    assert_eq!(running.status.state(), TaskState::TaskRunning);
    let status = running.status.container_status.clone().unwrap();
    let address = status.network_infos[0].ip_addresses[0].ip_address();
    assert_eq!(address, "10.0.0.2");
    node.acknowledge(&running);
    node.ends(&container, 0);
    let states = node.acknowledge_all();
    assert_eq!(states, [("t".to_owned(), TaskState::TaskFinished)]);
    assert!(node.ended.is_empty(), "its container is forgotten");
    assert_eq!(node.agent.tasks().count(), 0);
}

#[test]
fn a_failed_launch_is_told_by_the_agent() {
    let mut node = Node::registered();
    node.told(run_task(task("t")));
    let container = node.launched[0].clone();
    let failed = Input::LaunchFailed(
        container,
        Reason::ContainerLaunchFailed,
        "no image".to_owned(),
    );
    node.handle(failed);
    let update = node.updates().remove(0);
    assert_eq!(update.status.state(), TaskState::TaskFailed);
    assert_eq!(update.status.reason(), Reason::ContainerLaunchFailed);
    assert_eq!(update.status.source(), Source::Agent);
    assert_eq!(update.status.message(), "no image");
}

#[test]
fn a_limit_is_told_with_what_was_exceeded() {
    let mut node = Node::registered();
    node.told(run_task(task("t")));
    let container = node.launched[0].clone();
    node.runs(&container);
    let limited = ContainerTermination {
        reason: Some(Reason::ContainerLimitationMemory),
        limited: vec![dcos_core::resources::scalar_resource("mem", 64.0)],
        message: Some("Memory limit exceeded".to_owned()),
        ..ContainerTermination::exited(9)
    };
    node.handle(Input::Ended(container, limited));
    node.agent.handle(node.now, Input::DiskUsage(0.0));
    let tasks: Vec<_> = node.agent.tasks().collect();
    let status = tasks[0].statuses.last().unwrap();
    assert_eq!(status.reason(), Reason::ContainerLimitationMemory);
    assert_eq!(status.limitation.as_ref().unwrap().resources[0].name, "mem");
    assert_eq!(status.source(), Source::Agent);
}

#[test]
fn a_group_waits_for_its_holder_and_ends_together() {
    let mut node = Node::registered();
    node.told(run_group(&["a", "b"]));
    let holder = node.launched[0].clone();
    assert_eq!(node.launched.len(), 1);
    node.runs(&holder);
    let [_, a, b] = node.launched.clone().try_into().unwrap();
    assert_eq!(
        (a.parent.as_deref(), b.parent.as_deref()),
        (Some(&holder), Some(&holder))
    );
    node.runs(&a);
    node.runs(&b);
    node.acknowledge_all();
    node.ends(&a, 256);
    node.ends(&b, 15);
    let states = node.acknowledge_all();
    let expected = [
        ("a".to_owned(), TaskState::TaskFailed),
        ("b".to_owned(), TaskState::TaskKilled),
    ];
    assert_eq!(states, expected);
    assert!(node.destroyed.contains(&holder));
    node.ends(&holder, 0);
    assert!(
        node.to_master
            .iter()
            .any(|m| matches!(m, ToMaster::ExitedExecutor(_)))
    );
}

#[test]
fn a_custom_executor_gets_its_tasks_when_it_subscribes() {
    let mut node = Node::registered();
    node.told(custom_task("t"));
    node.handle(Input::Subscribe(own(), Subscribe::default()));
    let kinds: Vec<_> = node
        .events
        .iter()
        .map(|(_, event)| event.r#type())
        .collect();
    assert_eq!(kinds, [event::Type::Subscribed, event::Type::Launch]);
    node.handle(Input::Update(
        own(),
        executor_status("t", TaskState::TaskRunning, 1),
    ));
    assert_eq!(
        node.events.last().unwrap().1.r#type(),
        event::Type::Acknowledged
    );
    node.handle(Input::Update(
        own(),
        executor_status("t", TaskState::TaskRunning, 1),
    ));
    assert_eq!(
        node.updates().len(),
        1,
        "a repeated update is acknowledged and not sent"
    );
    let container = node.launched[0].clone();
    node.ends(&container, 0);
    let last = node.agent.tasks().next().unwrap().statuses.pop().unwrap();
    assert_eq!(
        (last.state(), last.reason()),
        (TaskState::TaskFailed, Reason::ExecutorTerminated)
    );
}

#[test]
fn a_custom_executor_that_never_registers_is_given_up() {
    let mut node = Node::registered();
    node.told(custom_task("t"));
    let container = node.launched[0].clone();
    node.pass(Duration::from_secs(61));
    assert!(node.destroyed.contains(&container));
    node.ends(&container, 9);
    let update = node.updates().remove(0);
    assert_eq!(update.status.reason(), Reason::ExecutorRegistrationTimeout);
    assert_eq!(
        update.status.message(),
        "Executor did not register within 1mins"
    );
}

#[test]
fn a_custom_executor_comes_back_after_a_restart_or_is_given_up() {
    let mut node = Node::registered();
    node.told(custom_task("t"));
    node.handle(Input::Subscribe(own(), Subscribe::default()));
    node.handle(Input::Update(
        own(),
        executor_status("t", TaskState::TaskRunning, 1),
    ));
    node.acknowledge_all();
    node.crash();
    assert!(node.agent.is_recovering());
    let subscribe = Subscribe {
        unacknowledged_updates: vec![dcos_proto::executor::call::Update {
            status: executor_status("t", TaskState::TaskFinished, 2),
        }],
        ..Default::default()
    };
    node.handle(Input::Subscribe(own(), subscribe));
    assert!(!node.agent.is_recovering());
    node.join();
    node.told(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        ..Default::default()
    });
    assert_eq!(
        node.acknowledge_all(),
        [("t".to_owned(), TaskState::TaskFinished)]
    );

    node.crash();
    node.pass(Duration::from_secs(3));
    let container = node.launched[0].clone();
    assert!(node.destroyed.contains(&container));
}

#[test]
fn unknown_and_refused_tasks_are_answered() {
    let mut node = Node::registered();
    node.told(KillTaskMessage {
        framework_id: "f".into(),
        task_id: "gone".into(),
        kill_policy: None,
    });
    assert_eq!(
        node.acknowledge_all(),
        [("gone".to_owned(), TaskState::TaskLost)]
    );
    let mut late = run_task(task("late"));
    late.launch_executor = Some(false);
    late.framework
        .capabilities
        .push(framework_info::Capability {
            r#type: Some(framework_info::capability::Type::PartitionAware.into()),
        });
    node.told(late);
    assert_eq!(
        node.acknowledge_all(),
        [("late".to_owned(), TaskState::TaskDropped)]
    );
    node.told(run_task(task("../escape")));
    assert_eq!(
        node.acknowledge_all(),
        [("../escape".to_owned(), TaskState::TaskError)]
    );
}

/// It waited in a connection of before, or a master that missed the end sent it: how the task ended stays true.
#[test]
fn a_kill_after_the_end_is_answered_with_the_end() {
    let mut node = Node::registered();
    let mut partition_aware = run_task(task("t"));
    let capabilities = &mut partition_aware.framework.capabilities;
    capabilities.push(framework_info::Capability {
        r#type: Some(framework_info::capability::Type::PartitionAware.into()),
    });
    node.told(partition_aware);
    let container = node.launched[0].clone();
    node.runs(&container);
    node.ends(&container, 0);
    let first = node.acknowledge_all();
    assert_eq!(first.last().unwrap().1, TaskState::TaskFinished);
    assert_eq!(node.agent.tasks().count(), 0);
    let kill = |id: &str| KillTaskMessage {
        framework_id: "f".into(),
        task_id: id.into(),
        kill_policy: None,
    };
    node.told(kill("t"));
    // Asked again before it was acknowledged: it is under way.
    node.told(kill("t"));
    let finished = ("t".to_owned(), TaskState::TaskFinished);
    assert_eq!(node.acknowledge_all(), slice::from_ref(&finished));
    // The framework has ended nothing since, and is remembered with what it knows.
    node.told(kill("other"));
    let dropped = ("other".to_owned(), TaskState::TaskDropped);
    assert_eq!(node.acknowledge_all(), [dropped]);
    node.crash();
    node.reregister();
    node.told(kill("t"));
    assert_eq!(node.acknowledge_all(), [finished]);
}

#[test]
fn tasks_the_master_believes_in_are_reconciled() {
    let mut node = Node::registered();
    node.told(run_task(task("known")));
    node.crash();
    node.join();
    let status = |id: &str| TaskStatus {
        task_id: id.into(),
        ..TaskStatus::default()
    };
    node.told(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        reconciliations: vec![ReconcileTasksMessage {
            framework_id: "f".into(),
            statuses: vec![status("known"), status("never came")],
            framework: None,
        }],
        connection: None,
    });
    let states = node.acknowledge_all();
    assert_eq!(states, [("never came".to_owned(), TaskState::TaskLost)]);
}

/// Connections broke: the kill came on a newer one than the launch.
#[test]
fn a_launch_behind_its_kill_is_for_nobody() {
    let mut node = Node::registered();
    node.told(KillTaskMessage {
        framework_id: "f".into(),
        task_id: "t".into(),
        kill_policy: None,
    });
    node.told(run_task(task("t")));
    assert!(node.launched.is_empty());
    let lost = ("t".to_owned(), TaskState::TaskLost);
    assert_eq!(node.acknowledge_all().first(), Some(&lost));
    node.pass(Duration::from_mins(2));
    node.told(run_task(task("t")));
    assert_eq!(node.launched.len(), 1);
}

/// Also when all the agent has is in use.
#[test]
fn a_copy_of_an_order_changes_nothing() {
    let mut node = Node::registered();
    let mut order = run_task(task("t"));
    order.task.resources = vec![scalar_resource("cpus", 4.0)];
    node.told(order.clone());
    let container = node.launched[0].clone();
    node.told(order.clone());
    node.runs(&container);
    node.told(order.clone());
    assert_eq!(node.launched.len(), 1);
    let states = node.acknowledge_all();
    let states: Vec<TaskState> = states.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskRunning]);
    node.ends(&container, 0);
    node.told(order);
    let finished = ("t".to_owned(), TaskState::TaskFinished);
    assert_eq!(node.acknowledge_all(), [finished]);
    assert_eq!(node.launched.len(), 1);
    assert_eq!(node.agent.tasks().count(), 0);
    // All of it is free again.
    let mut other = run_task(task("other"));
    other.task.resources = vec![scalar_resource("cpus", 4.0)];
    node.told(other);
    assert_eq!(node.launched.len(), 2);
}

#[test]
fn a_task_that_has_ended_is_reconciled_with_its_end() {
    let mut node = Node::registered();
    node.told(run_task(task("t")));
    let container = node.launched[0].clone();
    node.runs(&container);
    node.ends(&container, 0);
    let first = node.acknowledge_all();
    assert_eq!(first.last().unwrap().1, TaskState::TaskFinished);
    // The last is of a launch that never came, of a task that has the name of one before.
    for (believed, told) in [
        (TaskState::TaskRunning, TaskState::TaskFinished),
        (TaskState::TaskStaging, TaskState::TaskLost),
    ] {
        let status = TaskStatus {
            task_id: "t".into(),
            state: believed.into(),
            ..TaskStatus::default()
        };
        node.told(SlaveReregisteredMessage {
            agent_id: "a1".into(),
            reconciliations: vec![ReconcileTasksMessage {
                framework_id: "f".into(),
                statuses: vec![status],
                framework: None,
            }],
            connection: None,
        });
        assert_eq!(node.acknowledge_all(), [("t".to_owned(), told)]);
    }
}

#[test]
fn tasks_without_checkpoints_do_not_come_back() {
    let mut node = Node::registered();
    let message = RunTaskMessage {
        framework: framework(false),
        ..run_task(task("t"))
    };
    node.told(message);
    node.crash();
    assert_eq!(node.agent.tasks().count(), 0);
    assert!(
        node.running.is_empty(),
        "the containerizer was told of nothing to keep"
    );
}

#[test]
fn a_framework_that_is_shut_down_leaves_nothing() {
    let mut node = Node::registered();
    node.told(run_task(task("t")));
    let container = node.launched[0].clone();
    node.runs(&container);
    node.told(ShutdownFrameworkMessage {
        framework_id: "f".into(),
    });
    node.ends(&container, 15);
    assert!(!node.agent.has_framework(&"f".into()));
    node.to_master.clear();
    node.pass(Duration::from_mins(30));
    assert!(node.updates().is_empty());
}

#[test]
fn draining_kills_and_says_why() {
    let mut node = Node::registered();
    node.told(run_task(task("t")));
    let container = node.launched[0].clone();
    node.runs(&container);
    node.acknowledge_all();
    node.told(DrainSlaveMessage {
        config: DrainConfig::default(),
    });
    node.ends(&container, 15);
    let update = node.updates().remove(0);
    assert_eq!(update.status.state(), TaskState::TaskKilled);
    assert_eq!(update.status.reason(), Reason::AgentDraining);
}

#[test]
fn what_uses_a_reservation_that_never_arrived_is_dropped() {
    let mut node = Node::registered();
    let mut reserved = scalar_resource("cpus", 1.0);
    reserved.reservations.push(dynamic_reservation("db", None));
    let mut wanting = task("wanting");
    wanting.resources.push(reserved);
    node.told(run_task(wanting));
    let update = node.updates().remove(0);
    assert_eq!(update.status.state(), TaskState::TaskLost);
    assert_eq!(update.status.reason(), Reason::ResourcesUnknown);
    assert!(node.launched.is_empty());
}

/// What chance may do to a node.
#[derive(Debug, Clone)]
enum Chance {
    Run,
    RunGroup(u8),
    Kill(u8),
    Launched(u8),
    Ends(u8, bool),
    Acknowledge,
    /// Dies, having done this many of the writes of its last input.
    Crash,
    CrashDuring(u8, u8),
    Pass(u16),
}

fn chances() -> impl Strategy<Value = Vec<Chance>> {
    let chance = prop_oneof![
        3 => Just(Chance::Run),
        1 => (1..4_u8).prop_map(Chance::RunGroup),
        2 => any::<u8>().prop_map(Chance::Kill),
        5 => any::<u8>().prop_map(Chance::Launched),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(n, ok)| Chance::Ends(n, ok)),
        3 => Just(Chance::Acknowledge),
        1 => Just(Chance::Crash),
        2 => (any::<u8>(), 0..4_u8).prop_map(|(n, writes)| Chance::CrashDuring(n, writes)),
        2 => (0..20_000_u16).prop_map(Chance::Pass),
    ];
    proptest::collection::vec(chance, 0..40)
}

impl Node {
    fn reregister(&mut self) {
        self.join();
        self.told(SlaveReregisteredMessage {
            agent_id: "a1".into(),
            ..Default::default()
        });
    }

    fn pick(&self, number: u8) -> Option<ContainerId> {
        let all: Vec<_> = self.running.iter().collect();
        (!all.is_empty()).then(|| all[usize::from(number) % all.len()].clone())
    }

    /// Ends a container and what is nested in it, innermost first.
    fn ends_with_nested(&mut self, id: &ContainerId, status: i32) {
        let nested: Vec<_> = self
            .running
            .iter()
            .filter(|other| other.parent.as_deref() == Some(id))
            .cloned()
            .collect();
        for nested in nested {
            self.ends(&nested, 9);
        }
        self.ends(id, status);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Tasks of a checkpointing framework, an agent that dies at any write: no container is
    /// launched twice (see `carry_out`), each task the agent wrote down has exactly one terminal
    /// state that the scheduler sees, and in the end nothing is left.
    #[test]
    fn crashes_lose_nothing(chances in chances()) {
        let mut node = Node::registered();
        let mut tasks = 0_u32;
        let mut seen: BTreeMap<String, Vec<TaskState>> = BTreeMap::new();
        let note = |seen: &mut BTreeMap<String, Vec<TaskState>>, states: Vec<(String, TaskState)>| {
            for (task, state) in states {
                seen.entry(task).or_default().push(state);
            }
        };
        for chance in chances {
            match chance {
                Chance::Run => {
                    node.told(run_task(task(&format!("t{tasks}"))));
                    tasks += 1;
                }
                Chance::RunGroup(count) => {
                    let ids: Vec<_> = (0..count).map(|_| { tasks += 1; format!("t{}", tasks - 1) }).collect();
                    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
                    node.told(run_group(&ids));
                }
                Chance::Kill(number) if tasks > 0 => node.told(KillTaskMessage {
                    framework_id: "f".into(),
                    task_id: format!("t{}", u32::from(number) % tasks).into(),
                    kill_policy: None,
                }),
                Chance::Launched(number) => if let Some(id) = node.pick(number) {
                    node.runs(&id);
                },
                Chance::Ends(number, ok) => if let Some(id) = node.pick(number) {
                    node.ends_with_nested(&id, i32::from(!ok) << 8);
                },
                Chance::Acknowledge => {
                    let states = node.acknowledge_all();
                    note(&mut seen, states);
                }
                Chance::Crash => {
                    node.to_master.clear();
                    node.crash();
                    node.reregister();
                }
                Chance::CrashDuring(number, writes) => {
                    if number % 2 == 0 {
                        let message = run_task(task(&format!("t{tasks}"))).into();
                        tasks += 1;
                        node.agent.handle(node.now, Input::Message { from: MASTER.to_owned(), message });
                    } else if let Some(id) = node.pick(number / 2) {
                        node.running.remove(&id);
                        let termination = ContainerTermination::exited(0);
                        node.ended.insert(id.clone(), termination.clone());
                        node.agent.handle(node.now, Input::Ended(id, termination));
                    }
                    node.carry_out(Some(writes.into()));
                    node.to_master.clear();
                    node.crash();
                    node.reregister();
                }
                Chance::Pass(millis) => {
                    node.pass(Duration::from_millis(millis.into()));
                    node.ping();
                }
                Chance::Kill(_) => {}
            }
        }
        // Everything that runs is told to run, then ends; everything is acknowledged.
        for _ in 0..(tasks + 5) {
            for id in node.running.clone() {
                node.runs(&id);
            }
            if let Some(id) = node.running.iter().next_back().cloned() {
                node.ends_with_nested(&id, 0);
            }
            node.pass(Duration::from_secs(30));
            node.ping();
            let states = node.acknowledge_all();
            note(&mut seen, states);
        }
        prop_assert_eq!(node.agent.tasks().count(), 0);
        for (task, states) in &seen {
            let terminal: BTreeSet<_> =
                states.iter().filter(|state| is_terminal(**state)).map(TaskState::as_str_name).collect();
            // A kill of a task that the agent never heard of, or has forgotten, says it is lost.
            let terminal: Vec<_> = terminal.into_iter().filter(|s| *s != "TASK_LOST").collect();
            prop_assert!(terminal.len() <= 1, "{} went through {:?}", task, states);
        }
        let state = Store::open(node.work_dir.path()).unwrap().read("boot").unwrap();
        prop_assert!(state.containers().is_empty());
    }
}

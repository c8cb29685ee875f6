//! An original agent's work directory, written as it would, and taken over.

use std::os::unix::fs::symlink;

use dcos_proto::internal::{StatusUpdate, StatusUpdateRecord, status_update_record};
use dcos_proto::mesos::{
    AgentInfo, ContainerId, ExecutorInfo, FrameworkInfo, Resource, Task, TaskState, TaskStatus,
};
use prost::Message as _;

use super::*;
use crate::checkpoint::{Adopted, Store};

/// A work directory as Mesos 1.11 leaves it.
struct Original {
    root: tempfile::TempDir,
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    for message in messages {
        let length = u32::try_from(message.len()).unwrap();
        all.extend(length.to_le_bytes());
        all.extend(message);
    }
    all
}

fn update(state: TaskState, uuid: u8) -> StatusUpdateRecord {
    StatusUpdateRecord {
        r#type: status_update_record::Type::Update.into(),
        update: Some(StatusUpdate {
            framework_id: "F".into(),
            executor_id: Some("e".into()),
            uuid: Some(vec![uuid; 16]),
            status: TaskStatus {
                task_id: "t".into(),
                state: state.into(),
                ..TaskStatus::default()
            },
            ..StatusUpdate::default()
        }),
        uuid: None,
    }
}

impl Original {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let this = Self { root };
        let info = AgentInfo {
            hostname: "node".to_owned(),
            id: Some("S0".into()),
            ..AgentInfo::default()
        };
        this.write("meta/boot_id", b"boot");
        this.write(
            "meta/slaves/S0/slave.info",
            &framed(&[info.encode_to_vec()]),
        );
        // Absolute, and to where the directory was before somebody moved it.
        symlink(
            "/gone/meta/slaves/S0",
            this.path().join("meta/slaves/latest"),
        )
        .unwrap();
        let framework = FrameworkInfo {
            id: Some("F".into()),
            user: "root".to_owned(),
            checkpoint: Some(true),
            ..FrameworkInfo::default()
        };
        let below = "meta/slaves/S0/frameworks/F";
        this.write(
            &format!("{below}/framework.info"),
            &framed(&[framework.encode_to_vec()]),
        );
        this.write(&format!("{below}/framework.pid"), b"@0.0.0.0:0");
        this
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn write(&self, path: &str, contents: &[u8]) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// An executor that runs in container `c2`, after one that ended in `c1`.
    fn with_executor(self, info: ExecutorInfo) -> Self {
        let below = "meta/slaves/S0/frameworks/F/executors/e";
        let info = ExecutorInfo {
            executor_id: "e".into(),
            framework_id: Some("F".into()),
            ..info
        };
        self.write(
            &format!("{below}/executor.info"),
            &framed(&[info.encode_to_vec()]),
        );
        self.write(
            &format!("{below}/executor_generated_for_command_task"),
            b"1",
        );
        self.write(&format!("{below}/runs/c1/executor.sentinel"), b"");
        let run = format!("{below}/runs/c2");
        self.write(&format!("{run}/pids/forked.pid"), b"4711");
        self.write(
            &format!("{run}/pids/libprocess.pid"),
            b"executor(1)@127.0.0.1:4712",
        );
        let task = Task {
            name: "t".to_owned(),
            task_id: "t".into(),
            framework_id: "F".into(),
            agent_id: "S0".into(),
            resources: vec![Resource {
                role: Some("r".to_owned()),
                ..dcos_core::resources::scalar_resource("cpus", 1.0)
            }],
            ..Task::default()
        };
        self.write(
            &format!("{run}/tasks/t/task.info"),
            &framed(&[task.encode_to_vec()]),
        );
        let mut log = framed(&[update(TaskState::TaskRunning, 1).encode_to_vec()]);
        // One more was being written when the agent died.
        log.extend([9, 0, 0, 0, 1]);
        self.write(&format!("{run}/tasks/t/task.updates"), &log);
        let latest = self.path().join(below).join("runs/latest");
        symlink("/gone/runs/c2", latest).unwrap();
        self
    }

    fn found(&self) -> Takeover {
        Takeover::find(self.path()).unwrap().unwrap()
    }
}

#[test]
fn an_originals_checkpoints_become_ours() {
    let original = Original::new().with_executor(ExecutorInfo::default());
    let found = original.found();
    assert_eq!((found.obstacles.len(), found.live()), (0, 1));
    found.carry_out(original.path()).unwrap();

    let state = Store::open(original.path()).unwrap().read("boot").unwrap();
    assert_eq!(state.agent.as_ref().unwrap().hostname, "node");
    assert!(!state.rebooted);
    let framework = state.frameworks.values().next().unwrap();
    assert_eq!(framework.pid, None);
    let [executor] = &framework.executors[..] else {
        panic!("{framework:?}")
    };
    let ended: Vec<_> = executor
        .runs
        .iter()
        .map(|run| run.ended.is_some())
        .collect();
    assert_eq!(ended, [true, false]);
    let run = &executor.runs[1];
    let expected = Adopted {
        pid: 4711,
        generated: true,
    };
    assert_eq!(run.adopted, Some(expected));
    assert_eq!(run.pid.as_deref(), Some("executor(1)@127.0.0.1:4712"));
    let task = &run.tasks[0];
    assert_eq!(task.checkpoint.task.resources[0].reservations.len(), 1);
    assert_eq!(task.updates, [update(TaskState::TaskRunning, 1)]);
    assert_eq!(state.adopted(), [(ContainerId::root("c2"), 4711)].into());

    // It is ours now, and the original's are beside it.
    assert!(Takeover::find(original.path()).unwrap().is_none());
    assert!(
        original
            .path()
            .join("meta.mesos/slaves/S0/slave.info")
            .exists()
    );
    assert!(!original.path().join(STAGING).exists());
}

#[test]
fn a_takeover_that_was_broken_off_is_completed() {
    let original = Original::new().with_executor(ExecutorInfo::default());
    // Before the exchange: what was written is thrown away.
    original.write("meta.taking-over/meta/slaves/half", b"");
    complete(original.path()).unwrap();
    original.found().carry_out(original.path()).unwrap();
    // Between the two renames of the exchange.
    fs::create_dir(original.path().join(STAGING)).unwrap();
    let staged = original.path().join(STAGING).join("meta");
    fs::rename(original.path().join("meta"), staged).unwrap();
    complete(original.path()).unwrap();
    let state = Store::open(original.path()).unwrap().read("boot").unwrap();
    assert_eq!(state.containers().len(), 1);
}

#[test]
fn what_would_be_lost_is_refused_and_nothing_changes() {
    let pod = ExecutorInfo {
        r#type: Some(Type::Default.into()),
        ..ExecutorInfo::default()
    };
    let docker = ExecutorInfo {
        container: Some(ContainerInfo {
            r#type: container_info::Type::Docker.into(),
            ..ContainerInfo::default()
        }),
        ..ExecutorInfo::default()
    };
    for (info, text) in [(pod, "task groups"), (docker, "Docker")] {
        let original = Original::new().with_executor(info);
        let found = original.found();
        assert!(found.obstacles[0].contains(text), "{:?}", found.obstacles);
        assert!(matches!(
            found.carry_out(original.path()),
            Err(CheckpointError::Refused { .. })
        ));
        assert!(original.path().join("meta/slaves/S0/slave.info").exists());
        assert!(!original.path().join(STAGING).exists());
    }
    let original = Original::new();
    original.write("meta/slaves/S0/operations/u/operation.updates", b"x");
    original.write("meta/resources/resources_and_operations.target", b"x");
    assert_eq!(original.found().obstacles.len(), 2);
}

#[test]
fn damage_is_told_with_its_place() {
    let original = Original::new().with_executor(ExecutorInfo::default());
    let path = "meta/slaves/S0/frameworks/F/executors/e/executor.info";
    original.write(path, b"\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff");
    let error = Takeover::find(original.path()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Damaged { path, .. } if path.ends_with("executor.info"))
    );
}

#[test]
fn neither_a_new_directory_nor_ours_is_an_originals() {
    let root = tempfile::tempdir().unwrap();
    assert!(Takeover::find(root.path()).unwrap().is_none());
    let mut store = Store::open(root.path()).unwrap();
    store.read("boot").unwrap();
    let info = AgentInfo {
        id: Some("S1".into()),
        ..AgentInfo::default()
    };
    store.apply(&[Write::Agent(info)]).unwrap();
    assert!(Takeover::find(root.path()).unwrap().is_none());
}

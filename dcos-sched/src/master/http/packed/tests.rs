//! Whatever a task has, its text is the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_proto::json::{Dialect, append};
use dcos_proto::mesos::{self, KillPolicy, Label, Labels, Resource, TaskStatus, resource};

use super::super::views;
use super::*;

fn plain() -> mesos::Task {
    let mut resources = Resources::parse("cpus:0.1;mem:64;disk:16.125;cpus:0.25").unwrap();
    resources.allocate("a/b");
    let label = |at: usize| Label {
        key: format!("key-{at}"),
        value: at.is_multiple_of(2).then(|| format!("\"value\" {at}")),
    };
    let labels = Labels {
        labels: (0..3).map(label).collect(),
    };
    mesos::Task {
        name: "a name\n".to_owned(),
        task_id: "t.1".into(),
        framework_id: "f-0001".into(),
        agent_id: "a-S1".into(),
        state: TaskState::TaskRunning.into(),
        resources: resources.to_messages(),
        statuses: vec![
            TaskStatus {
                task_id: "t.1".into(),
                state: TaskState::TaskStarting.into(),
                timestamp: Some(1_700_000_000.125),
                ..TaskStatus::default()
            },
            TaskStatus {
                task_id: "t.1".into(),
                state: TaskState::TaskRunning.into(),
                container_status: Some(ContainerStatus {
                    executor_pid: Some(7),
                    ..ContainerStatus::default()
                }),
                healthy: Some(false),
                check_status: Some(CheckStatusInfo::default()),
                labels: Some(labels.clone()),
                uuid: Some(vec![1; 16]),
                ..TaskStatus::default()
            },
        ],
        status_update_uuid: Some(vec![2; 16]),
        labels: Some(labels),
        user: Some("root".to_owned()),
        kill_policy: Some(KillPolicy::default()),
        ..mesos::Task::default()
    }
}

/// Whether it was written from its bytes.
fn check(task: &mesos::Task) -> bool {
    let bytes = task.encode_to_vec();
    let record = TaskRecord::packed(&bytes, task, Arc::new(task.agent_id.clone()));
    let (mut straight, mut read) = (b"before".to_vec(), b"before".to_vec());
    super::task(&mut straight, &record);
    json::task(&mut read, &record.read());
    assert_eq!(
        String::from_utf8(straight).unwrap(),
        String::from_utf8(read).unwrap()
    );
    let (mut straight, mut read) = (b"before".to_vec(), b"before".to_vec());
    answer::task(&mut straight, &record);
    append(&mut read, &views::task(&record), Dialect::V1);
    assert_eq!(
        String::from_utf8(straight).unwrap(),
        String::from_utf8(read).unwrap()
    );
    let parsed = Task::parse(&bytes);
    parsed.is_some_and(|task| task.write(&mut Vec::new(), record.state()).is_some())
}

#[test]
fn most_tasks_are_written_from_their_bytes() {
    let changes: [fn(&mut mesos::Task); 9] = [
        |_| {},
        |task| task.executor_id = Some("e".into()),
        |task| task.resources.clear(),
        |task| task.resources[0].allocation_info = None,
        |task| task.resources[0].role = Some("kept".to_owned()),
        |task| {
            task.resources.iter_mut().for_each(|one| {
                one.scalar = Some(value::Scalar { value: 0.0 });
            })
        },
        |task| task.statuses.clear(),
        |task| task.labels = None,
        |task| task.user = None,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut task = plain();
        change(&mut task);
        assert!(check(&task), "{at}");
    }
}

#[test]
fn what_else_a_task_may_have_is_written_too() {
    let ports = || {
        Resources::parse("ports:[1-3];gpus:1")
            .unwrap()
            .to_messages()
    };
    let changes: [fn(&mut mesos::Task, Vec<Resource>); 8] = [
        |task, ports| task.resources.extend(ports),
        |task, _| task.resources[0].name = "other".to_owned(),
        |task, _| task.resources[0].revocable = Some(resource::RevocableInfo {}),
        |task, _| task.resources[0].scalar = Some(value::Scalar { value: -1.0 }),
        |task, _| {
            task.limits = BTreeMap::from([("mem".to_owned(), value::Scalar { value: 1.5 })]);
        },
        |task, _| task.discovery = Some(Box::default()),
        |task, _| task.health_check = Some(Box::default()),
        |task, _| task.statuses[0].state = 99,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut task = plain();
        change(&mut task, ports());
        assert!(!check(&task), "{at}");
    }
    let mut nothing = mesos::Task::default();
    assert!(check(&nothing));
    nothing.resources = vec![Resource::default()];
    assert!(!check(&nothing));
}

#[test]
fn an_answer_is_the_same_whatever_a_status_has() {
    let changes: [fn(&mut mesos::Task); 9] = [
        |task| task.status_update_state = Some(TaskState::TaskStarting.into()),
        |task| task.status_update_uuid = None,
        |task| task.labels = Some(Labels::default()),
        |task| task.statuses[1].data = Some(b"data".to_vec()),
        |task| task.statuses[1].message = Some("a\nmessage".to_owned()),
        |task| task.statuses[0].timestamp = Some(f64::INFINITY),
        |task| {
            task.statuses[1].source = Some(1);
            task.statuses[1].reason = Some(1);
            task.statuses[1].agent_id = Some("a".into());
            task.statuses[1].executor_id = Some("e".into());
        },
        |task| task.statuses[1].reason = Some(9999),
        |task| task.statuses[1].limitation = Some(mesos::TaskResourceLimitation::default()),
    ];
    for change in changes {
        let mut task = plain();
        change(&mut task);
        check(&task);
    }
}

#[test]
fn most_answers_are_written_from_bytes() {
    let task = plain();
    let bytes = task.encode_to_vec();
    let record = TaskRecord::packed(&bytes, &task, Arc::new(task.agent_id.clone()));
    assert!(answer::write(&mut Vec::new(), &bytes, &record).is_some());
    // The state twice: what is merged is read first.
    let merged = [&*bytes, &mesos::Task::default().encode_to_vec()].concat();
    assert!(answer::write(&mut Vec::new(), &merged, &record).is_none());
}

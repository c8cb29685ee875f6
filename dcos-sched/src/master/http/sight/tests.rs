use dcos_proto::master::event::{FrameworkAdded, FrameworkRemoved, TaskAdded, TaskUpdated};
use dcos_proto::mesos::{TaskState, TaskStatus};
use dcos_proto::{master::response::get_frameworks::Framework, mesos::TaskId};
use dcos_security::Acls;

use super::*;

/// What a guest sees who may see the tasks of `nobody`.
fn guest() -> Sight {
    let rules = r#"{"view_tasks": [
        {"principals": {"values": ["guest"]}, "users": {"values": ["nobody"]}},
        {"principals": {"values": ["guest"]}, "users": {"type": "NONE"}}]}"#;
    let authorizer: Arc<dyn Authorizer> = Arc::new(rules.parse::<Acls>().unwrap());
    Sight::of(&authorizer, Some(&Principal::new("guest")))
}

fn framework() -> FrameworkInfo {
    FrameworkInfo {
        id: Some("f".into()),
        user: "root".to_owned(),
        ..FrameworkInfo::default()
    }
}

fn task(name: &str, user: &str) -> Task {
    Task {
        task_id: TaskId::from(name),
        framework_id: "f".into(),
        user: Some(user.to_owned()),
        state: TaskState::TaskRunning.into(),
        ..Task::default()
    }
}

fn of(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind.into()),
        ..Event::default()
    }
}

fn subscribed() -> Event {
    let framework = Framework {
        framework_info: framework(),
        ..Framework::default()
    };
    Event {
        framework_added: Some(FrameworkAdded { framework }),
        ..of(event::Type::FrameworkAdded)
    }
}

fn added(task: &Task) -> Event {
    Event {
        task_added: Some(TaskAdded { task: task.clone() }),
        ..of(event::Type::TaskAdded)
    }
}

fn ended(task: &Task) -> Event {
    let updated = TaskUpdated {
        framework_id: task.framework_id.clone(),
        status: TaskStatus {
            task_id: task.task_id.clone(),
            ..TaskStatus::default()
        },
        state: TaskState::TaskFinished.into(),
    };
    Event {
        task_updated: Some(updated),
        ..of(event::Type::TaskUpdated)
    }
}

fn shown(sight: &Sight, event: &Event, task: Option<&Task>) -> bool {
    !matches!(sight.event(event, task), Shown::Hidden)
}

fn remembered(sight: &Sight) -> usize {
    sight.limited.as_ref().unwrap().heard().len()
}

#[test]
fn nothing_is_remembered_of_hidden_tasks_that_come_and_go() {
    let sight = guest();
    assert!(shown(&sight, &subscribed(), None));
    for number in 0..100 {
        let (hidden, seen) = (format!("hidden-{number}"), format!("seen-{number}"));
        for (task, expected) in [
            (task(&hidden, "root"), false),
            (task(&seen, "nobody"), true),
        ] {
            assert_eq!(shown(&sight, &added(&task), None), expected);
            // Told twice: an end is told again if it is another one.
            for _ in 0..2 {
                assert_eq!(shown(&sight, &ended(&task), Some(&task)), expected);
            }
        }
    }
    assert_eq!(remembered(&sight), 1, "the framework only");
    let removed = Event {
        framework_removed: Some(FrameworkRemoved {
            framework_info: framework(),
        }),
        ..of(event::Type::FrameworkRemoved)
    };
    assert!(shown(&sight, &removed, None));
    assert_eq!(remembered(&sight), 0);
}

#[test]
fn of_tasks_and_frameworks_nobody_knows_nothing_is_told() {
    let sight = guest();
    let seen = task("seen", "nobody");
    assert!(!shown(&sight, &added(&seen), None), "whose is it?");
    assert!(shown(&sight, &subscribed(), None));
    assert!(shown(&sight, &added(&seen), None));
    assert!(!shown(&sight, &ended(&seen), None), "which one is it?");
}

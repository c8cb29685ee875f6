//! Critical issues the last release of Mesos left open, tried here: `docs/mesos-regressions.md`
//! has the whole list. Each test is named after its issue.

use std::time::Duration;

use dcos_proto::internal::UnregisterSlaveMessage;
use dcos_proto::mesos::{FrameworkInfo, OperationId, Task, TaskState};
use dcos_proto::scheduler::{Call, call};

use super::{Input, World, framework, partition_aware};

const PID: &str = "slave(1)@10.0.0.1:5051";
const ALL: &str = "cpus:4;mem:1024";

#[test]
fn mesos_10194_a_role_may_lose_its_last_framework_while_its_tasks_run() {
    let mut world = World::new();
    let role = |name: &str| FrameworkInfo {
        role: Some(name.to_owned()),
        ..framework("one")
    };
    let one = world.subscribe(role("a"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    // The framework comes back in another role; nobody is in the old one but its task.
    let two = world.subscribe(FrameworkInfo {
        id: Some(one.id.clone()),
        ..role("b")
    });
    world.check();
    let uuid = world.update(PID, &agent, &two, "t", TaskState::TaskFinished);
    world.acknowledge(&two, &agent, "t", uuid);
    world.pass(Duration::from_secs(10));
    world.check();
    world.handle(Input::Exited {
        pid: PID.to_owned(),
    });
    world.check();
}

#[test]
fn mesos_10146_a_task_may_end_while_its_framework_is_away() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64"), ("u", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    world.handle(Input::StreamClosed {
        stream_id: one.stream.clone(),
    });
    world.update(PID, &agent, &one, "t", TaskState::TaskFailed);
    world.check();
    let message = UnregisterSlaveMessage {
        agent_id: agent.clone(),
    };
    world.send(PID, &message);
    assert!(world.master.agents.is_empty());
    world.check();
    let one = world.subscribe(FrameworkInfo {
        id: Some(one.id),
        ..framework("one")
    });
    assert_eq!(
        world
            .reconcile(&one, &[("u", Some(&agent))])
            .last()
            .unwrap(),
        "u:TASK_LOST/REASON_RECONCILIATION"
    );
}

#[test]
fn mesos_10011_feedback_about_an_agent_that_is_no_more_is_answered() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.send(
        PID,
        &UnregisterSlaveMessage {
            agent_id: agent.clone(),
        },
    );
    let operation = call::reconcile_operations::Operation {
        operation_id: OperationId::from("o"),
        agent_id: Some(agent),
        resource_provider_id: None,
    };
    world.call(
        &one,
        Call {
            r#type: Some(call::Type::ReconcileOperations.into()),
            reconcile_operations: Some(call::ReconcileOperations {
                operations: vec![operation],
            }),
            ..Call::default()
        },
    );
    let seen = world.seen(&one);
    assert!(
        seen.contains(&"UPDATE_OPERATION_STATUS".to_owned()),
        "{seen:?}"
    );
}

#[test]
fn mesos_7911_tasks_lost_with_a_connection_are_found_again() {
    let mut world = World::new();
    let one = world.subscribe(FrameworkInfo {
        checkpoint: Some(false),
        ..framework("one")
    });
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    let task = Task::clone(&world.master.frameworks[&one.id].tasks[&"t".into()]);
    let info = world.master.frameworks[&one.id].info.clone();
    world.take(&one);
    // Mesos 1.11 declares it lost at once, and so do we; but only the connection broke.
    world.handle(Input::Exited {
        pid: PID.to_owned(),
    });
    assert!(
        world
            .seen(&one)
            .contains(&"t:TASK_LOST/REASON_SLAVE_DISCONNECTED".to_owned())
            || world.master.frameworks[&one.id].tasks.is_empty()
    );
    world.reregister(PID, &agent, ALL, vec![task], vec![info]);
    let seen = world.seen(&one);
    assert!(
        seen.iter()
            .any(|event| event.starts_with("t:TASK_RUNNING/")),
        "{seen:?}"
    );
    assert_eq!(world.master.frameworks[&one.id].tasks.len(), 1);
    world.check();
    for offer in world.offers(&one) {
        let cpus = offer.resources.iter().find(|it| it.name == "cpus");
        let cpus = cpus.and_then(|it| it.scalar.as_ref()).unwrap().value;
        assert!(cpus < 3.5, "what the task uses is not offered");
    }
    world.check();
}

#[test]
fn mesos_7566_frameworks_and_agents_go_in_any_order() {
    for order in 0..4 {
        let mut world = World::new();
        let one = world.subscribe(framework("one"));
        let two = world.subscribe(framework("two"));
        let agent = world.agent(PID, ALL);
        world.launch(&one, &[("t", "cpus:1;mem:64")]);
        let teardown = |world: &mut World, id: &super::Subscribed| {
            world.call(
                id,
                Call {
                    r#type: Some(call::Type::Teardown.into()),
                    ..Call::default()
                },
            );
        };
        let unregister = UnregisterSlaveMessage {
            agent_id: agent.clone(),
        };
        if order % 2 == 0 {
            teardown(&mut world, &one);
            world.send(PID, &unregister);
        } else {
            world.send(PID, &unregister);
            teardown(&mut world, &one);
        }
        if order < 2 {
            world.agent("slave(1)@10.0.0.2:5051", ALL);
        }
        teardown(&mut world, &two);
        world.pass(Duration::from_secs(2));
        world.check();
        assert!(world.master.frameworks.is_empty());
    }
}

#[test]
fn a_launch_that_is_sent_again_is_not_undone() {
    let mut world = World::new();
    let one = world.subscribe(partition_aware(framework("one")));
    let agent = world.agent(PID, ALL);
    let offer = world.offers(&one).remove(0);
    let task = super::task("t", &agent, "cpus:1;mem:64");
    world.accept(&one, &offer, vec![task.clone()]);
    world.take(&one);
    world.accept(&one, &offer, vec![task.clone()]);
    let seen = world.seen(&one);
    assert!(
        seen.iter().all(|event| !event.starts_with("t:")),
        "{seen:?}"
    );
    // One that was never launched is refused.
    let other = super::task("u", &agent, "cpus:1;mem:64");
    world.accept(&one, &offer, vec![other]);
    assert!(
        world
            .seen(&one)
            .contains(&"u:TASK_DROPPED/REASON_INVALID_OFFERS".to_owned())
    );
}

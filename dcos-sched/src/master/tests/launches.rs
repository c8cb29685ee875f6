//! From an offer to a task and back.

use std::time::Duration;

use dcos_proto::internal::{KillTaskMessage, RunTaskMessage, StatusUpdateAcknowledgementMessage};
use dcos_proto::mesos::{OperationId, TaskState, offer};
use dcos_proto::scheduler::{Call, call};

use super::{World, framework, partition_aware, task};

const PID: &str = "slave(1)@10.0.0.1:5051";

#[test]
fn a_task_runs_from_offer_to_acknowledged_end() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, "cpus:4;mem:1024");
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    let runs: Vec<RunTaskMessage> = world.received(PID);
    assert_eq!(runs[0].task.task_id, "t".into());
    let role = runs[0].task.resources[0]
        .allocation_info
        .as_ref()
        .and_then(|info| info.role.as_deref());
    assert_eq!(
        role,
        Some("*"),
        "the agent is told the role, which the framework did not say"
    );
    let uuid = world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    assert_eq!(world.seen(&one), ["t:TASK_RUNNING"]);
    world.acknowledge(&one, &agent, "t", uuid);
    let uuid = world.update(PID, &agent, &one, "t", TaskState::TaskFinished);
    let acks: Vec<StatusUpdateAcknowledgementMessage> = world.received(PID);
    assert_eq!(acks.len(), 1);
    assert!(
        world.master.agents[&agent].used.is_empty(),
        "its resources are free at once"
    );
    assert_eq!(
        world.master.frameworks[&one.id].tasks.len(),
        1,
        "but it is known until acknowledged"
    );
    world.acknowledge(&one, &agent, "t", uuid);
    assert!(world.master.frameworks[&one.id].tasks.is_empty());
    assert_eq!(world.master.frameworks[&one.id].completed_tasks.len(), 1);
    world.check();
}

#[test]
fn what_is_not_used_of_an_offer_is_offered_again_after_the_filter() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    world.agent(PID, "cpus:4;mem:1024");
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.pass(Duration::from_secs(4));
    assert!(
        !world.seen(&one).contains(&"OFFERS".to_owned()),
        "refused for 5 s"
    );
    let offers = world.offers(&one);
    let cpus = offers[0]
        .resources
        .iter()
        .find(|resource| resource.name == "cpus")
        .unwrap();
    assert!((cpus.scalar.as_ref().unwrap().value - 3.0).abs() < 1e-9);
    assert!(
        cpus.allocation_info.is_none(),
        "a framework with one role does not see it"
    );
    assert_eq!(
        cpus.role.as_deref(),
        Some("*"),
        "nor the refined form of reservations"
    );
}

#[test]
fn bad_tasks_fail_alone() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, "cpus:4;mem:1024");
    let offer = world.offers(&one).remove(0);
    let mut nothing = task("nothing", &agent, "cpus:1");
    nothing.resources.clear();
    let mut both = task("both", &agent, "cpus:1");
    both.command = None;
    let tasks = vec![
        task("a/b", &agent, "cpus:1"),
        task("elsewhere", &"x".into(), "cpus:1"),
        nothing,
        both,
        task("much", &agent, "cpus:5"),
        task("good", &agent, "cpus:1;mem:64"),
        task("good", &agent, "cpus:1;mem:64"),
    ];
    world.accept(&one, &offer, tasks);
    let expected = ["a/b", "elsewhere", "nothing", "both", "much", "good"]
        .map(|id| format!("{id}:TASK_ERROR/REASON_TASK_INVALID"));
    assert_eq!(world.seen(&one), expected);
    let runs: Vec<RunTaskMessage> = world.received(PID);
    assert_eq!(runs.len(), 1);
    world.check();
}

#[test]
fn an_offer_is_good_once() {
    for (info, state) in [
        (framework("one"), "TASK_LOST"),
        (partition_aware(framework("two")), "TASK_DROPPED"),
    ] {
        let mut world = World::new();
        let one = world.subscribe(info);
        let agent = world.agent(PID, "cpus:4;mem:1024");
        let offer = world.offers(&one).remove(0);
        world.accept(&one, &offer, vec![task("a", &agent, "cpus:1;mem:64")]);
        world.accept(&one, &offer, vec![task("b", &agent, "cpus:1;mem:64")]);
        assert_eq!(
            world.seen(&one),
            [format!("b:{state}/REASON_INVALID_OFFERS")]
        );
        world.check();
    }
}

#[test]
fn an_operation_this_master_does_not_know_is_answered_if_asked() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    world.agent(PID, "cpus:4;mem:1024");
    let offer = world.offers(&one).remove(0);
    let reserve = offer::Operation {
        r#type: Some(offer::operation::Type::Reserve.into()),
        id: Some(OperationId::from("op")),
        reserve: Some(offer::operation::Reserve::default()),
        ..offer::Operation::default()
    };
    world.call(
        &one,
        Call {
            r#type: Some(call::Type::Accept.into()),
            accept: Some(call::Accept {
                offer_ids: vec![offer.id],
                operations: vec![reserve],
                filters: None,
            }),
            ..Call::default()
        },
    );
    let events = world.take(&one);
    let status = events[0].update_operation_status.clone().unwrap().status;
    assert_eq!(status.operation_id, Some("op".into()));
    assert_eq!(world.offers(&one).len(), 1, "nothing is lost by it");
}

#[test]
fn kills_reach_the_agent_or_are_answered() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, "cpus:4;mem:1024");
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    let mut kill = |task: &str| {
        world.call(
            &one,
            Call {
                r#type: Some(call::Type::Kill.into()),
                kill: Some(call::Kill {
                    task_id: task.into(),
                    agent_id: Some(agent.clone()),
                    kill_policy: None,
                }),
                ..Call::default()
            },
        );
        let kills: Vec<KillTaskMessage> = world.received(PID);
        (kills.len(), world.seen(&one))
    };
    assert_eq!(kill("t"), (1, vec![]));
    assert_eq!(
        kill("x"),
        (0, vec!["x:TASK_LOST/REASON_RECONCILIATION".to_owned()])
    );
}

#[test]
fn offers_expire_if_they_are_told_to() {
    let mut world = World::with(std::collections::BTreeMap::new(), 1, |settings| {
        settings.offer_timeout = Some(Duration::from_secs(3));
    });
    let one = world.subscribe(framework("one"));
    world.agent(PID, "cpus:4;mem:1024");
    world.pass(Duration::from_secs(4));
    let seen = world.seen(&one);
    assert_eq!(seen[..3], ["SUBSCRIBED", "OFFERS", "RESCIND"]);
    world.check();
}

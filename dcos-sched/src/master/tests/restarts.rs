//! What a new master knows of what a former one did.

use std::time::Duration;

use dcos_proto::internal::ShutdownFrameworkMessage;
use dcos_proto::mesos::{FrameworkInfo, Task, TaskState};
use dcos_proto::scheduler::{Call, call};

use super::super::{Input, Link};
use super::{World, framework};

const PID: &str = "slave(1)@10.0.0.1:5051";
const ALL: &str = "cpus:4;mem:1024";

#[test]
fn agents_and_frameworks_find_everything_again() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    let task = Task::clone(&world.master.frameworks[&one.id].tasks[&"t".into()]);
    let info = world.master.frameworks[&one.id].info.clone();

    let mut world = World::with(world.store, 2, |_| {});
    assert_eq!(world.master.frameworks[&one.id].link, Link::Recovered);
    assert!(world.master.recovered_agents.contains_key(&agent));
    let one = world.subscribe(FrameworkInfo {
        id: Some(one.id),
        ..framework("one")
    });
    world.take(&one);
    assert!(
        world.reconcile(&one, &[("t", None)]).is_empty(),
        "not before the agent is back"
    );
    world.reregister(PID, &agent, ALL, vec![task], vec![info]);
    assert!(world.master.recovered_agents.is_empty());
    assert_eq!(
        world.reconcile(&one, &[]),
        ["t:TASK_RUNNING/REASON_RECONCILIATION"]
    );
    let offers = world.offers(&one);
    let cpus = offers[0]
        .resources
        .iter()
        .find(|resource| resource.name == "cpus")
        .unwrap();
    assert!(
        (cpus.scalar.as_ref().unwrap().value - 3.0).abs() < 1e-9,
        "what the task uses is not offered"
    );
    world.check();
}

#[test]
fn agents_that_do_not_come_back_are_unreachable() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let mut world = World::with(world.store, 2, |_| {});
    world.pass(Duration::from_secs(601));
    assert!(world.master.recovered_agents.is_empty());
    assert!(world.master.unreachable.contains_key(&agent));
    let world = World::with(world.store, 3, |_| {});
    assert!(world.master.unreachable.contains_key(&agent));
}

#[test]
fn frameworks_that_do_not_come_back_are_given_up() {
    let mut world = World::new();
    let one = world.subscribe(FrameworkInfo {
        failover_timeout: Some(3600.0),
        ..framework("one")
    });
    let mut world = World::with(world.store, 2, |_| {});
    world.pass(Duration::from_secs(3599));
    assert!(world.master.frameworks.contains_key(&one.id));
    world.pass(Duration::from_secs(2));
    assert!(!world.master.frameworks.contains_key(&one.id));
    let kept: Vec<&String> = world.store.keys().collect();
    assert_eq!(kept, [&format!("mesos/ended/{}", one.id)]);
}

fn teardown() -> Call {
    Call {
        r#type: Some(call::Type::Teardown.into()),
        ..Call::default()
    }
}

/// A framework torn down while its agent was away: the next master must not take the agent's word for it.
#[test]
fn what_was_torn_down_does_not_run_on_under_the_next_master() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    let task = Task::clone(&world.master.frameworks[&one.id].tasks[&"t".into()]);
    let info = world.master.frameworks[&one.id].info.clone();
    world.handle(Input::Exited {
        pid: PID.to_owned(),
    });
    world.call(&one, teardown());

    let mut world = World::with(world.store, 2, |_| {});
    assert!(world.master.frameworks.is_empty());
    world.reregister(PID, &agent, ALL, vec![task], vec![info]);
    assert!(world.master.frameworks.is_empty());
    assert!(world.master.agent(&agent).unwrap().used.is_empty());
    let told: Vec<ShutdownFrameworkMessage> = world.received(PID);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].framework_id, one.id);

    // Its scheduler, if it missed the end, is told as well.
    let stream = world.try_subscribe(FrameworkInfo {
        id: Some(one.id),
        ..framework("one")
    });
    let events = format!("{:?}", world.events[&stream]);
    assert!(events.contains("Framework has been removed"), "{events}");
    world.check();
}

#[test]
fn endings_are_forgotten_after_a_while() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    world.call(&one, teardown());
    assert!(world.master.is_ended(&one.id) && world.store.len() == 1);
    world.pass(Duration::from_hours(15 * 24));
    assert!(world.store.is_empty());
    assert!(world.master.ended.is_empty());
}

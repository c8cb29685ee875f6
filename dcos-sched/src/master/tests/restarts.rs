//! What a new master knows of what a former one did.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::internal::{PongSlaveMessage, ShutdownFrameworkMessage};
use dcos_proto::mesos::{FrameworkInfo, Task, TaskState};
use dcos_proto::scheduler::{Call, call};

use super::super::{Input, Link, Settings, Snapshot};
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

/// A master that knew four agents, of which `back` come back to the next, which may give up `limit` of them.
fn back_of_four(back: usize, limit: f64) -> World {
    let mut world = World::new();
    let pids: Vec<String> = (1..=4)
        .map(|host| format!("slave(1)@10.0.0.{host}:5051"))
        .collect();
    let agents: Vec<_> = pids.iter().map(|pid| world.agent(pid, ALL)).collect();
    let mut world = World::with(world.store, 2, |settings| {
        settings.recovery_removal_limit = limit;
    });
    for (pid, agent) in pids.iter().zip(&agents).take(back) {
        world.reregister(pid, agent, ALL, Vec::new(), Vec::new());
        world.send(pid, &PongSlaveMessage {});
    }
    for _ in 0..61 {
        world.pass(Duration::from_secs(10));
        for pid in pids.iter().take(back) {
            world.send(pid, &PongSlaveMessage {});
        }
    }
    world
}

#[test]
fn a_master_that_misses_too_many_agents_ends_and_gives_none_up() {
    for (back, limit, ends) in [
        (4, 0.0, false),
        (3, 0.0, true),
        (2, 0.5, false),
        (1, 0.5, true),
        (0, 1.0, false),
    ] {
        let world = back_of_four(back, limit);
        assert_eq!(world.stopped.is_some(), ends, "{back} of 4, {limit}");
        let lost = if ends { 0 } else { 4 - back };
        assert_eq!(world.master.unreachable.len(), lost, "{back} of 4, {limit}");
        let written = world.store.keys().filter(|key| key.contains("/agents/"));
        assert_eq!(written.count(), 4 - lost, "{back} of 4, {limit}");
    }
    let reason = back_of_four(1, 0.5).stopped.unwrap();
    assert!(
        reason.contains("3 of 4 agents") && reason.contains("limit is 50%"),
        "{reason}"
    );
}

#[test]
fn a_registry_without_agents_misses_none() {
    let mut world = World::with(std::collections::BTreeMap::new(), 1, |settings| {
        settings.recovery_removal_limit = 0.0;
    });
    world.pass(Duration::from_secs(700));
    assert_eq!(world.stopped, None);
}

#[test]
fn a_master_that_stood_by_says_since_when() {
    let since = Time::from_secs(1);
    let change = |settings: &mut Settings| settings.process_start = Some(since);
    let world = World::with(BTreeMap::new(), 1, change);
    let snapshot = Snapshot::of(&world.master);
    assert_eq!(snapshot.process_start(), since);
    assert_eq!(snapshot.started, world.now);
    let at_once = Snapshot::of(&World::new().master);
    assert_eq!(at_once.process_start(), at_once.started);
}

//! Agents that go away and come back.

use std::time::Duration;

use dcos_proto::internal::{
    ExecutorToFrameworkMessage, ExitedExecutorMessage, KillTaskMessage, PingSlaveMessage,
    PongSlaveMessage, RegisterSlaveMessage, ReregisterSlaveMessage, ShutdownFrameworkMessage,
    SlaveRegisteredMessage, SlaveReregisteredMessage, UnregisterSlaveMessage,
};
use dcos_proto::mesos::{AgentInfo, ExecutorInfo, FrameworkInfo, Task, TaskState};
use dcos_proto::scheduler::{Call, call};

use super::super::Input;
use super::{World, framework, partition_aware};

const PID: &str = "slave(1)@10.0.0.1:5051";
const ALL: &str = "cpus:4;mem:1024";

fn exited(world: &mut World) {
    world.handle(Input::Exited {
        pid: PID.to_owned(),
    });
}

fn running(world: &World, framework: &super::Subscribed, task: &str) -> Task {
    Task::clone(&world.master.frameworks[&framework.id].tasks[&task.into()])
}

#[test]
fn an_agent_is_told_how_long_the_master_waits_for_it() {
    let mut world = World::new();
    world.send(
        PID,
        &dcos_proto::internal::RegisterSlaveMessage {
            agent: super::agent_info(ALL),
            version: Some("1.11.0".to_owned()),
            ..Default::default()
        },
    );
    let answers: Vec<SlaveRegisteredMessage> = world.received(PID);
    let seconds = answers[0]
        .connection
        .and_then(|connection| connection.total_ping_timeout_seconds);
    assert_eq!(seconds, Some(75.0));
    assert!(
        world.store.contains_key("mesos/agents/m1-S0"),
        "admitted only once it is written"
    );
}

#[test]
fn pings_keep_an_agent_and_silence_loses_it() {
    let mut world = World::new();
    let one = world.subscribe(partition_aware(framework("one")));
    let old = world.subscribe(framework("old"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    for _ in 0..10 {
        world.pass(Duration::from_secs(15));
        let pings: Vec<PingSlaveMessage> = world.received(PID);
        assert!(!pings.is_empty());
        world.send(PID, &PongSlaveMessage {});
    }
    assert!(world.master.agents.contains_key(&agent));
    world.take(&one);
    world.take(&old);
    world.pass(Duration::from_secs(91));
    let seen = world.seen(&one);
    assert!(
        seen.contains(&"t:TASK_UNREACHABLE/REASON_AGENT_REMOVED".to_owned()),
        "{seen:?}"
    );
    assert_eq!(seen.last().map(String::as_str), Some("FAILURE"));
    assert_eq!(world.seen(&old).last().map(String::as_str), Some("FAILURE"));
    assert!(world.store.contains_key("mesos/unreachable/m1-S0"));
    assert_eq!(
        world.reconcile(&one, &[("t", Some(&agent)), ("u", None)]),
        [
            "t:TASK_UNREACHABLE/REASON_RECONCILIATION",
            "u:TASK_UNKNOWN/REASON_RECONCILIATION"
        ]
    );
    assert_eq!(
        world.reconcile(&old, &[("x", Some(&agent))]),
        ["x:TASK_LOST/REASON_RECONCILIATION"]
    );
}

#[test]
fn an_unreachable_agent_brings_its_tasks_back() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    let task = running(&world, &one, "t");
    let info = world.master.frameworks[&one.id].info.clone();
    world.pass(Duration::from_secs(100));
    assert!(
        world
            .seen(&one)
            .contains(&"t:TASK_LOST/REASON_AGENT_REMOVED".to_owned())
    );
    // Under the names that dashboards of the original know.
    let ends = &world.master.counters.ends_by_reason;
    assert_eq!(
        ends["master/task_lost/source_master/reason_slave_removed"],
        1
    );
    world.reregister(PID, &agent, ALL, vec![task], vec![info]);
    let back: Vec<SlaveReregisteredMessage> = world.received(PID);
    assert_eq!(back.len(), 1);
    let seen = world.seen(&one);
    assert!(
        seen.contains(&"t:TASK_RUNNING/REASON_AGENT_REREGISTERED".to_owned()),
        "{seen:?}"
    );
    assert!(
        world.master.unreachable.is_empty() && !world.store.contains_key("mesos/unreachable/m1-S0")
    );
    assert!(
        world.master.frameworks[&one.id]
            .unreachable_tasks
            .is_empty()
    );
    world.check();
}

#[test]
fn a_short_break_loses_only_what_is_not_checkpointed() {
    let mut world = World::new();
    let safe = world.subscribe(framework("safe"));
    let mut info = framework("fleeting");
    info.checkpoint = Some(false);
    let agent = world.agent(PID, ALL);
    world.launch(&safe, &[("a", "cpus:1;mem:64")]);
    let fleeting = world.subscribe(info);
    world.launch(&fleeting, &[("b", "cpus:1;mem:64")]);
    world.take(&safe);
    world.seen(&fleeting);
    exited(&mut world);
    assert!(
        world
            .seen(&fleeting)
            .contains(&"b:TASK_LOST/REASON_AGENT_DISCONNECTED".to_owned())
    );
    let task = running(&world, &safe, "a");
    world.call(
        &safe,
        Call {
            r#type: Some(call::Type::Kill.into()),
            kill: Some(call::Kill {
                task_id: "a".into(),
                ..call::Kill::default()
            }),
            ..Call::default()
        },
    );
    let none: Vec<KillTaskMessage> = world.received(PID);
    assert!(none.is_empty(), "nobody is there");
    world.reregister(PID, &agent, ALL, vec![task], Vec::new());
    let kills: Vec<KillTaskMessage> = world.received(PID);
    assert_eq!(kills.len(), 1, "the kill is sent again");
    assert!(world.master.agents[&agent].active);
    world.check();
}

#[test]
fn an_agent_must_account_for_tasks_it_did_not_list() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    exited(&mut world);
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    let back: Vec<SlaveReregisteredMessage> = world.received(PID);
    let asked = &back[0].reconciliations[0];
    assert_eq!(
        (
            asked.framework_id.clone(),
            asked.statuses[0].task_id.clone()
        ),
        (one.id.clone(), "t".into())
    );
    assert_eq!(
        world.master.frameworks[&one.id].tasks.len(),
        1,
        "a launch may be under way"
    );
}

#[test]
fn leaving_for_good_loses_tasks_whoever_asks() {
    let mut world = World::new();
    let one = world.subscribe(partition_aware(framework("one")));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.take(&one);
    world.send(
        PID,
        &UnregisterSlaveMessage {
            agent_id: agent.clone(),
        },
    );
    assert_eq!(
        world.seen(&one),
        ["t:TASK_LOST/REASON_AGENT_REMOVED", "FAILURE"]
    );
    assert!(world.store.keys().all(|key| !key.contains("agents")));
}

#[test]
fn a_new_agent_at_the_same_address_replaces_the_old() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let old = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.take(&one);
    exited(&mut world);
    let new = world.agent(PID, ALL);
    assert_ne!(old, new);
    assert_eq!(world.master.agents.len(), 1);
    assert!(
        world
            .seen(&one)
            .contains(&"t:TASK_LOST/REASON_AGENT_REMOVED".to_owned())
    );
}

#[test]
fn tasks_of_a_framework_that_is_gone_are_shut_down() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    let task = running(&world, &one, "t");
    let info = world.master.frameworks[&one.id].info.clone();
    exited(&mut world);
    world.pass(Duration::from_secs(700));
    assert!(!world.master.agents.contains_key(&agent));
    world.call(
        &one,
        Call {
            r#type: Some(call::Type::Teardown.into()),
            ..Call::default()
        },
    );
    world.reregister(PID, &agent, ALL, vec![task], vec![info]);
    let told: Vec<ShutdownFrameworkMessage> = world.received(PID);
    assert_eq!(told[0].framework_id, one.id);
    assert!(world.master.frameworks.is_empty());
}

/// The first answer got lost, and a task that was sent after it: the agent is asked what it has.
#[test]
fn an_agent_that_registers_again_is_asked_what_it_has() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    assert_eq!(world.agent(PID, ALL), agent);
    let asked: Vec<PingSlaveMessage> = world.received(PID);
    assert!(asked.is_empty(), "there is nothing to ask for");

    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    assert_eq!(world.agent(PID, ALL), agent);
    let asked: Vec<PingSlaveMessage> = world.received(PID);
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].connected);

    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    let answers: Vec<SlaveReregisteredMessage> = world.received(PID);
    let missed = &answers[0].reconciliations[0].statuses;
    assert_eq!(missed[0].task_id, "t".into());
    world.check();
}

/// What an original master would not take in, either.
#[test]
fn agents_that_make_no_sense_are_not_heard() {
    let mut world = World::new();
    let agent = |id: Option<&str>, resources: &str| AgentInfo {
        id: id.map(Into::into),
        ..super::agent_info(resources)
    };
    let mut negative = agent(None, ALL);
    for resource in &mut negative.resources {
        resource.scalar = resource.scalar.map(|mut scalar| {
            scalar.value = -scalar.value;
            scalar
        });
    }
    let new = |agent: AgentInfo, version: Option<&str>| RegisterSlaveMessage {
        agent,
        version: version.map(ToOwned::to_owned),
        ..RegisterSlaveMessage::default()
    };
    for message in [
        new(negative, Some("1.11.0")),
        new(agent(Some("a/b"), ALL), Some("1.11.0")),
        new(agent(None, ALL), Some("0.28.2")),
        new(agent(None, ALL), Some("none")),
        new(agent(None, ALL), None),
    ] {
        world.send(PID, &message);
    }
    let task = |framework: &str, agent: &str| Task {
        name: "t".to_owned(),
        task_id: "t".into(),
        framework_id: framework.into(),
        agent_id: agent.into(),
        state: TaskState::TaskRunning.into(),
        resources: super::agent_info("cpus:1").resources,
        ..Task::default()
    };
    let info = FrameworkInfo {
        id: Some("f".into()),
        ..framework("f")
    };
    let executor = |framework: &str| ExecutorInfo {
        executor_id: "e".into(),
        framework_id: Some(framework.into()),
        ..ExecutorInfo::default()
    };
    let back = || ReregisterSlaveMessage {
        agent: agent(Some("a"), ALL),
        version: Some("1.11.0".to_owned()),
        frameworks: vec![info.clone()],
        tasks: vec![task("f", "a")],
        executor_infos: vec![executor("f")],
        ..ReregisterSlaveMessage::default()
    };
    let bad: [fn(&mut ReregisterSlaveMessage); 8] = [
        |message| message.agent.id = Some("a/../b".into()),
        |message| message.version = Some("0.20.0".to_owned()),
        |message| message.frameworks.clear(),
        |message| message.frameworks.extend(message.frameworks.clone()),
        |message| message.frameworks[0].failover_timeout = Some(f64::NAN),
        |message| message.tasks[0].agent_id = "another".into(),
        |message| message.tasks[0].resources[0].name.clear(),
        |message| {
            message
                .executor_infos
                .extend(message.executor_infos.clone())
        },
    ];
    for (at, spoil) in bad.into_iter().enumerate() {
        let mut message = back();
        spoil(&mut message);
        world.send(PID, &message);
        assert!(world.master.agents.is_empty(), "{at}");
    }
    assert_eq!(world.master.counters.refused_agents, 5 + 8);
    assert!(world.sent.is_empty() && world.store.is_empty());
    world.send(PID, &back());
    assert_eq!(world.master.agents.len(), 1);
}

#[test]
fn nobody_hears_of_executors_that_are_in_no_books() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.seen(&one);
    let exited = ExitedExecutorMessage {
        agent_id: agent.clone(),
        framework_id: one.id.clone(),
        executor_id: "e".into(),
        status: 9,
    };
    world.send(PID, &exited);
    let says = |agent: &str| ExecutorToFrameworkMessage {
        agent_id: agent.into(),
        framework_id: one.id.clone(),
        executor_id: "e".into(),
        data: vec![1],
    };
    world.send(PID, &says("removed"));
    assert!(world.seen(&one).is_empty());
    world.send(PID, &says(&agent.value));
    assert_eq!(world.seen(&one), ["MESSAGE"]);
}

//! Agents that are drained, deactivated, brought back, marked gone.

use std::time::Duration;

use dcos_proto::internal as messages;
use dcos_proto::master::Call;
use dcos_proto::master::call::{self, Type};
use dcos_proto::mesos::{AgentId, DrainState, Task, TaskState};
use dcos_store::{Entry, Revision, Snapshot};

use super::super::{Reply, registry};
use super::{World, framework, partition_aware};

const PID: &str = "slave(1)@10.0.0.1:5051";
const ALL: &str = "cpus:4;mem:1024";

fn drain(agent: &AgentId, mark_gone: bool) -> Call {
    Call {
        r#type: Some(Type::DrainAgent.into()),
        drain_agent: Some(call::DrainAgent {
            agent_id: agent.clone(),
            max_grace_period: Some(dcos_proto::mesos::Duration {
                seconds: Some(7),
                nanos: None,
            }),
            mark_gone: Some(mark_gone),
        }),
        ..Call::default()
    }
}

fn deactivate(agent: &AgentId) -> Call {
    Call {
        r#type: Some(Type::DeactivateAgent.into()),
        deactivate_agent: Some(call::DeactivateAgent {
            agent_id: agent.clone(),
        }),
        ..Call::default()
    }
}

fn reactivate(agent: &AgentId) -> Call {
    Call {
        r#type: Some(Type::ReactivateAgent.into()),
        reactivate_agent: Some(call::ReactivateAgent {
            agent_id: agent.clone(),
        }),
        ..Call::default()
    }
}

fn mark_gone(agent: &AgentId) -> Call {
    Call {
        r#type: Some(Type::MarkAgentGone.into()),
        mark_agent_gone: Some(call::MarkAgentGone {
            agent_id: agent.clone(),
        }),
        ..Call::default()
    }
}

fn refused(status: u16, text: &str) -> Reply {
    Reply::refused(status, text)
}

#[test]
fn a_drain_ends_when_the_last_task_is_acknowledged() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    world.offers(&one);
    assert_eq!(world.order(drain(&agent, false)), Reply::Done);
    assert_eq!(world.seen(&one), ["RESCIND"]);
    let told = world.received::<messages::DrainSlaveMessage>(PID);
    let grace = told[0].config.max_grace_period.unwrap();
    assert_eq!(grace.nanoseconds, 7_000_000_000);
    assert_eq!(
        world.order(reactivate(&agent)),
        refused(400, "Agent is still in the DRAINING state")
    );
    assert!(world.offers(&one).is_empty());
    let uuid = world.update(PID, &agent, &one, "t", TaskState::TaskKilled);
    assert!(world.master.standing.is_draining(&agent));
    world.acknowledge(&one, &agent, "t", uuid);
    assert_eq!(
        world.master.standing.draining[&agent].state(),
        DrainState::Drained
    );
    assert!(world.offers(&one).is_empty());
    assert_eq!(world.order(reactivate(&agent)), Reply::Done);
    assert_eq!(world.offers(&one).len(), 1);
    world.check();
}

#[test]
fn a_drain_is_known_to_the_next_master() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    let task = Task::clone(&world.master.frameworks[&one.id].tasks[&"t".into()]);
    let info = world.master.frameworks[&one.id].info.clone();
    world.order(drain(&agent, false));
    let mut world = world.fail_over(2);
    assert!(world.master.standing.is_draining(&agent));
    world.reregister(PID, &agent, ALL, vec![task], vec![info.clone()]);
    assert_eq!(world.received::<messages::DrainSlaveMessage>(PID).len(), 1);
    assert!(!world.master.agents[&agent].active);
    let one = world.subscribe(info);
    let uuid = world.update(PID, &agent, &one, "t", TaskState::TaskKilled);
    world.acknowledge(&one, &agent, "t", uuid);
    let world = world.fail_over(3);
    assert_eq!(
        world.master.standing.draining[&agent].state(),
        DrainState::Drained
    );
    assert!(world.master.standing.deactivated.contains(&agent));
}

#[test]
fn an_unreachable_agent_is_drained_when_it_returns() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    world.pass(Duration::from_secs(120));
    assert!(world.master.unreachable.contains_key(&agent));
    assert_eq!(world.order(drain(&agent, false)), Reply::Done);
    let mut world = world.fail_over(2);
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    assert_eq!(world.received::<messages::DrainSlaveMessage>(PID).len(), 1);
    assert_eq!(
        world.master.standing.draining[&agent].state(),
        DrainState::Drained
    );
}

#[test]
fn an_empty_agent_is_drained_at_once_and_may_be_gone() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    assert_eq!(world.order(drain(&agent, true)), Reply::Done);
    assert!(world.master.gone.contains_key(&agent));
    assert!(world.master.agents.is_empty());
    assert_eq!(world.received::<messages::ShutdownMessage>(PID).len(), 1);
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    assert_eq!(world.received::<messages::ShutdownMessage>(PID).len(), 1);
    let mut world = world.fail_over(2);
    assert!(world.master.gone.contains_key(&agent));
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    assert_eq!(world.received::<messages::ShutdownMessage>(PID).len(), 1);
    assert_eq!(
        world.order(drain(&agent, false)),
        refused(400, "Unknown agent")
    );
    assert_eq!(world.order(mark_gone(&agent)), Reply::Done);
}

#[test]
fn what_ran_on_a_gone_agent_is_gone() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let aware = world.subscribe(partition_aware(framework("aware")));
    world.launch(&aware, &[("a", "cpus:1;mem:64")]);
    let plain = world.subscribe(framework("plain"));
    world.launch(&plain, &[("b", "cpus:1;mem:64")]);
    world.take(&aware);
    assert_eq!(world.order(mark_gone(&agent)), Reply::Done);
    let told = |seen: Vec<String>| {
        seen.into_iter()
            .find(|event| event.contains("TASK"))
            .unwrap()
    };
    assert_eq!(
        told(world.seen(&aware)),
        "a:TASK_GONE_BY_OPERATOR/REASON_SLAVE_REMOVED_BY_OPERATOR".replace("SLAVE", "AGENT")
    );
    assert_eq!(told(world.seen(&plain)), "b:TASK_LOST/REASON_AGENT_REMOVED");
    assert_eq!(
        world.order(mark_gone(&"other".into())),
        refused(404, "Agent 'other' not found")
    );
    world.check();
}

#[test]
fn what_could_not_be_reached_is_gone_too() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let one = world.subscribe(partition_aware(framework("one")));
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.pass(Duration::from_secs(120));
    world.take(&one);
    assert_eq!(world.order(mark_gone(&agent)), Reply::Done);
    assert_eq!(
        world.seen(&one),
        ["t:TASK_GONE_BY_OPERATOR/REASON_AGENT_REMOVED_BY_OPERATOR"]
    );
    let known = &world.master.frameworks[&one.id];
    assert!(known.unreachable_tasks.is_empty());
    assert_eq!(known.completed_tasks.len(), 1);
}

#[test]
fn a_deactivated_agent_runs_on_without_offers() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    assert_eq!(
        world.order(reactivate(&agent)),
        refused(400, "Agent is not deactivated")
    );
    assert_eq!(
        world.order(deactivate(&"x".into())),
        refused(400, "Unknown agent")
    );
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    assert_eq!(world.order(deactivate(&agent)), Reply::Done);
    assert!(world.offers(&one).is_empty());
    world.handle(super::Input::Exited {
        pid: PID.to_owned(),
    });
    let task = Task::clone(&world.master.frameworks[&one.id].tasks[&"t".into()]);
    let info = world.master.frameworks[&one.id].info.clone();
    world.reregister(PID, &agent, ALL, vec![task.clone()], vec![info.clone()]);
    assert!(!world.master.agents[&agent].active);
    assert!(world.offers(&one).is_empty());

    let mut world = world.fail_over(2);
    world.reregister(PID, &agent, ALL, vec![task], vec![info.clone()]);
    assert!(!world.master.agents[&agent].active);
    let one = world.subscribe(info);
    assert!(world.offers(&one).is_empty());
    assert_eq!(world.order(reactivate(&agent)), Reply::Done);
    assert_eq!(world.offers(&one).len(), 1);
    assert!(
        world
            .received::<messages::DrainSlaveMessage>(PID)
            .is_empty()
    );
}

#[test]
fn agents_are_given_up_no_faster_than_is_allowed() {
    let store = std::collections::BTreeMap::new();
    let mut world = World::with(store, 1, |settings| {
        settings.agent_removal_rate = Some((1, Duration::from_mins(10)));
    });
    for host in 1..4 {
        world.agent(&format!("slave(1)@10.0.0.{host}:5051"), ALL);
    }
    world.pass(Duration::from_secs(300));
    assert_eq!(world.master.agents.len(), 2, "one is given up at once");
    let answering = world.master.agents.keys().next().unwrap().clone();
    let pid = world.master.agents[&answering].pid.clone();
    world.send(&pid, &messages::PongSlaveMessage {});
    world.pass(Duration::from_secs(600));
    assert_eq!(world.master.counters.slave_unreachable_canceled, 1);
    assert_eq!(world.master.unreachable.len(), 2);
    world.pass(Duration::from_secs(600));
    assert!(world.master.agents.is_empty());
}

#[test]
fn what_an_order_needs_is_demanded_of_the_next_master() {
    let mut world = World::new();
    let agent = world.agent(PID, "cpus:1;mem:64");
    let demands = |world: &World| {
        let keys = world.store.keys();
        let keys = keys.filter_map(|key| key.strip_prefix("mesos/minimum_capabilities/"));
        keys.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(demands(&world), [""; 0]);
    assert_eq!(world.order(deactivate(&agent)), Reply::Done);
    assert_eq!(demands(&world), ["AGENT_DRAINING"]);
    let snapshot = |keys: &[&str]| Snapshot {
        revision: Revision(1),
        entries: keys
            .iter()
            .map(|key| Entry {
                key: format!("mesos/minimum_capabilities/{key}").as_str().into(),
                value: bytes::Bytes::new(),
                revision: Revision(1),
            })
            .collect(),
    };
    let known = snapshot(&["AGENT_DRAINING", "QUOTA_V2"]);
    assert_eq!(registry::lacking(&known), [""; 0]);
    let newer = snapshot(&["AGENT_DRAINING", "TIME_TRAVEL"]);
    assert_eq!(registry::lacking(&newer), ["TIME_TRAVEL"]);
}

//! Schedulers that speak the v0 driver protocol.

use dcos_proto::internal::{
    DeactivateFrameworkMessage, FrameworkErrorMessage, FrameworkRegisteredMessage,
    FrameworkReregisteredMessage, KillTaskMessage, LaunchTasksMessage, LostSlaveMessage,
    RegisterFrameworkMessage, ReregisterFrameworkMessage, RescindResourceOfferMessage,
    ResourceOffersMessage, RunTaskMessage, StatusUpdateMessage, UnregisterSlaveMessage,
};
use dcos_proto::mesos::{FrameworkId, FrameworkInfo, TaskState};
use dcos_proto::scheduler::{Call, call};
use prost::Message as _;

use super::super::{Input, Link, Packet};
use super::{Subscribed, World, framework, task};

const PID: &str = "slave(1)@10.0.0.1:5051";
const DRIVER: &str = "scheduler-1@10.0.0.9:40000";
const ALL: &str = "cpus:4;mem:1024";

fn subscribe(world: &mut World, pid: &str, info: FrameworkInfo) {
    let call = Call {
        framework_id: info.id.clone(),
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe {
            framework_info: info,
            ..call::Subscribe::default()
        }),
        ..Call::default()
    };
    world.send(pid, &call);
}

/// SUBSCRIBE with the field that only drivers send; what it says of the framework comes in one piece.
#[derive(Clone, PartialEq, prost::Message)]
struct Forced {
    #[prost(message, optional, tag = "1")]
    framework_id: Option<FrameworkId>,
    #[prost(int32, optional, tag = "2")]
    kind: Option<i32>,
    #[prost(message, optional, tag = "3")]
    subscribe: Option<ForcedSubscribe>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ForcedSubscribe {
    #[prost(message, optional, tag = "1")]
    framework_info: Option<FrameworkInfo>,
    #[prost(bool, optional, tag = "2")]
    force: Option<bool>,
}

/// A scheduler that was started again subscribes for a framework that there is.
fn take_over(world: &mut World, pid: &str, id: &FrameworkId) {
    let info = FrameworkInfo {
        id: Some(id.clone()),
        ..framework("v0")
    };
    let call = Forced {
        framework_id: Some(id.clone()),
        kind: Some(call::Type::Subscribe.into()),
        subscribe: Some(ForcedSubscribe {
            framework_info: Some(info),
            force: Some(true),
        }),
    };
    world.handle(Input::Message {
        from: pid.to_owned(),
        message: Packet {
            name: "mesos.scheduler.Call".to_owned(),
            body: call.encode_to_vec().into(),
        },
    });
}

fn teardown(id: &FrameworkId) -> Call {
    Call {
        framework_id: Some(id.clone()),
        r#type: Some(call::Type::Teardown.into()),
        ..Call::default()
    }
}

fn errors(world: &mut World, pid: &str) -> Vec<String> {
    let errors: Vec<FrameworkErrorMessage> = world.received(pid);
    errors.into_iter().map(|error| error.message).collect()
}

fn driver(world: &mut World) -> Subscribed {
    subscribe(world, DRIVER, framework("v0"));
    let registered: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    Subscribed {
        id: registered[0].framework_id.clone(),
        stream: String::new(),
    }
}

#[test]
fn a_driver_runs_a_task_with_messages_alone() {
    let mut world = World::new();
    let one = driver(&mut world);
    let agent = world.agent(PID, ALL);
    world.pass(std::time::Duration::from_secs(2));
    let offered: Vec<ResourceOffersMessage> = world.received(DRIVER);
    assert_eq!(offered[0].pids, [PID]);
    let launch = LaunchTasksMessage {
        framework_id: one.id.clone(),
        tasks: vec![task("t", &agent, "cpus:1;mem:64")],
        offer_ids: vec![offered[0].offers[0].id.clone()],
        ..LaunchTasksMessage::default()
    };
    world.send(DRIVER, &launch);
    let runs: Vec<RunTaskMessage> = world.received(PID);
    assert_eq!(
        runs[0].pid.as_deref(),
        Some(DRIVER),
        "executors may speak to it directly"
    );
    let uuid = world.update(PID, &agent, &one, "t", TaskState::TaskFinished);
    let updates: Vec<StatusUpdateMessage> = world.received(DRIVER);
    assert_eq!(
        (updates[0].update.uuid.as_ref(), updates[0].pid.as_deref()),
        (Some(&uuid), Some(PID))
    );
    let acknowledge = Call {
        framework_id: Some(one.id.clone()),
        r#type: Some(call::Type::Acknowledge.into()),
        acknowledge: Some(call::Acknowledge {
            agent_id: agent,
            task_id: "t".into(),
            uuid,
        }),
        ..Call::default()
    };
    world.send(DRIVER, &acknowledge);
    assert!(world.master.frameworks[&one.id].tasks.is_empty());
    world.check();
}

#[test]
fn what_the_master_says_has_nobody_to_acknowledge_to() {
    let mut world = World::new();
    let one = driver(&mut world);
    let kill = KillTaskMessage {
        framework_id: one.id.clone(),
        task_id: "x".into(),
        kill_policy: None,
    };
    world.send(DRIVER, &kill);
    let updates: Vec<StatusUpdateMessage> = world.received(DRIVER);
    assert_eq!(updates[0].update.status.state(), TaskState::TaskLost);
    assert_eq!((&updates[0].update.uuid, &updates[0].pid), (&None, &None));
}

#[test]
fn a_driver_that_exits_has_its_timeout_to_come_back() {
    let mut world = World::new();
    let one = driver(&mut world);
    world.handle(Input::Exited {
        pid: DRIVER.to_owned(),
    });
    assert_eq!(world.master.frameworks[&one.id].link, Link::Disconnected);
    let other = "scheduler-2@10.0.0.9:40001";
    take_over(&mut world, other, &one.id);
    let back: Vec<FrameworkRegisteredMessage> = world.received(other);
    assert_eq!(back[0].framework_id, one.id);
    // Calls of the former driver are nobody's any more.
    world.send(DRIVER, &teardown(&one.id));
    assert!(world.master.frameworks.contains_key(&one.id));
    world.send(other, &teardown(&one.id));
    assert!(world.master.frameworks.is_empty());
}

#[test]
fn a_driver_whose_connection_broke_is_told_until_it_comes_back() {
    let mut world = World::new();
    let one = driver(&mut world);
    world.handle(Input::Exited {
        pid: DRIVER.to_owned(),
    });
    assert_eq!(errors(&mut world, DRIVER), ["Framework disconnected"]);
    // It may have missed that: its side of the connection may stand.
    world.send(DRIVER, &teardown(&one.id));
    assert_eq!(errors(&mut world, DRIVER), ["Framework disconnected"]);
    assert!(world.master.frameworks.contains_key(&one.id));
    world.send("somebody@10.0.0.8:1", &teardown(&one.id));
    assert!(errors(&mut world, "somebody@10.0.0.8:1").is_empty());
    let info = FrameworkInfo {
        id: Some(one.id.clone()),
        ..framework("v0")
    };
    subscribe(&mut world, DRIVER, info);
    let back: Vec<FrameworkReregisteredMessage> = world.received(DRIVER);
    assert_eq!(back.len(), 1);
    world.send(DRIVER, &teardown(&one.id));
    assert!(world.master.frameworks.is_empty());
}

#[test]
fn a_driver_that_did_not_hear_of_its_id_gets_no_second_one() {
    let mut world = World::new();
    let one = driver(&mut world);
    let info = framework("v0");
    for again in [DRIVER, DRIVER] {
        subscribe(&mut world, again, info.clone());
        world.send(
            again,
            &RegisterFrameworkMessage {
                framework: info.clone(),
            },
        );
        let told: Vec<FrameworkRegisteredMessage> = world.received(again);
        let ids: Vec<&FrameworkId> = told.iter().map(|told| &told.framework_id).collect();
        assert_eq!(ids, [&one.id, &one.id]);
    }
    // Also after its connection broke.
    world.handle(Input::Exited {
        pid: DRIVER.to_owned(),
    });
    subscribe(&mut world, DRIVER, info);
    let told: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    assert_eq!(told[0].framework_id, one.id);
    assert!(world.master.frameworks[&one.id].active);
    assert_eq!(world.master.frameworks.len(), 1);
    // A process of another name that got its address is another framework.
    world.handle(Input::Exited {
        pid: DRIVER.to_owned(),
    });
    let stranger = FrameworkInfo {
        name: "stranger".to_owned(),
        ..framework("v0")
    };
    subscribe(&mut world, DRIVER, stranger);
    let told: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    assert_ne!(told[0].framework_id, one.id);
    assert_eq!(world.master.frameworks.len(), 2);
    assert!(!world.master.frameworks[&one.id].active);
}

#[test]
fn a_driver_speaks_for_one_framework_only() {
    let mut world = World::new();
    driver(&mut world);
    let other = FrameworkInfo {
        id: Some("another".into()),
        ..framework("v0")
    };
    subscribe(&mut world, DRIVER, other);
    assert_eq!(world.master.frameworks.len(), 1);
}

#[test]
fn a_scheduler_that_was_cut_off_does_not_take_its_framework_back() {
    let mut world = World::new();
    let one = driver(&mut world);
    let (second, third) = ("scheduler-2@10.0.0.8:4", "scheduler-3@10.0.0.7:4");
    take_over(&mut world, second, &one.id);
    assert_eq!(errors(&mut world, DRIVER), ["Framework failed over"]);
    let back: Vec<FrameworkRegisteredMessage> = world.received(second);
    assert_eq!(back[0].framework_id, one.id);
    let info = FrameworkInfo {
        id: Some(one.id.clone()),
        ..framework("v0")
    };
    subscribe(&mut world, DRIVER, info.clone());
    assert_eq!(errors(&mut world, DRIVER), ["Framework failed over"]);
    assert!(errors(&mut world, second).is_empty());
    let older = |failover| ReregisterFrameworkMessage {
        framework: info.clone(),
        failover,
    };
    world.send(DRIVER, &older(false));
    assert_eq!(errors(&mut world, DRIVER), ["Framework failed over"]);
    // Whoever has it repeats itself and is registered again, not ended.
    take_over(&mut world, second, &one.id);
    assert!(errors(&mut world, second).is_empty());
    let again: Vec<FrameworkRegisteredMessage> = world.received(second);
    assert_eq!(again.len(), 1);
    world.send(third, &older(true));
    assert_eq!(errors(&mut world, second), ["Framework failed over"]);
    let link = Link::Pid(third.to_owned());
    assert_eq!(world.master.frameworks[&one.id].link, link);
}

#[test]
fn a_driver_that_asks_again_hears_that_it_is_known() {
    let mut world = World::new();
    let one = driver(&mut world);
    world.agent(PID, ALL);
    world.pass(std::time::Duration::from_secs(2));
    let offered: Vec<ResourceOffersMessage> = world.received(DRIVER);
    let info = || FrameworkInfo {
        id: Some(one.id.clone()),
        ..framework("v0")
    };
    subscribe(&mut world, DRIVER, info());
    let rescinded: Vec<RescindResourceOfferMessage> = world.received(DRIVER);
    assert_eq!(rescinded[0].offer_id, offered[0].offers[0].id);
    let back: Vec<FrameworkReregisteredMessage> = world.received(DRIVER);
    assert_eq!(back.len(), 1);
    // After a restart of the master it is as good as new, for all the master knows.
    let mut world = World::with(world.store, 2, |_| {});
    subscribe(&mut world, DRIVER, info());
    let registered: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    assert_eq!(registered[0].framework_id, one.id);
}

#[test]
fn refusals_and_losses_reach_drivers_in_their_messages() {
    let mut world = World::new();
    let named = FrameworkInfo {
        id: Some("mine".into()),
        ..framework("v0")
    };
    world.send(DRIVER, &RegisterFrameworkMessage { framework: named });
    let errors: Vec<FrameworkErrorMessage> = world.received(DRIVER);
    assert_eq!(errors[0].message, "Registering with 'id' already set");
    let unnamed = ReregisterFrameworkMessage {
        framework: framework("v0"),
        failover: false,
    };
    world.send(DRIVER, &unnamed);
    let errors: Vec<FrameworkErrorMessage> = world.received(DRIVER);
    assert_eq!(errors[0].message, "Re-registering without an 'id'");
    driver(&mut world);
    let agent = world.agent(PID, ALL);
    world.send(
        PID,
        &UnregisterSlaveMessage {
            agent_id: agent.clone(),
        },
    );
    let lost: Vec<LostSlaveMessage> = world.received(DRIVER);
    assert_eq!(lost[0].agent_id, agent);
}

#[test]
fn a_stopped_driver_gets_no_offers_and_keeps_its_tasks() {
    let mut world = World::new();
    let one = driver(&mut world);
    let stop = |framework_id: &FrameworkId| DeactivateFrameworkMessage {
        framework_id: framework_id.clone(),
    };
    world.send("somebody@10.0.0.8:1", &stop(&one.id));
    assert!(
        world.master.frameworks[&one.id].active,
        "only itself may do that"
    );
    world.send(DRIVER, &stop(&one.id));
    world.agent(PID, ALL);
    world.pass(std::time::Duration::from_secs(5));
    let offered: Vec<ResourceOffersMessage> = world.received(DRIVER);
    assert!(offered.is_empty());
}

#[test]
fn messages_that_cannot_be_read_change_nothing() {
    let mut world = World::new();
    for name in [
        "mesos.scheduler.Call",
        "mesos.internal.RegisterSlaveMessage",
        "mesos.internal.Nonsense",
    ] {
        for body in [&b""[..], b"\x08", b"\xff\xff\xff\xff", &[0; 64]] {
            world.handle(Input::Message {
                from: DRIVER.to_owned(),
                message: Packet {
                    name: name.to_owned(),
                    body: bytes::Bytes::copy_from_slice(body),
                },
            });
        }
    }
    assert!(world.master.frameworks.is_empty() && world.master.agents.is_empty());
}

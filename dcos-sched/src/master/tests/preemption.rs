//! Room for the more important.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_proto::internal::KillTaskMessage;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{FrameworkInfo, Request, TaskState};
use dcos_proto::scheduler::{Call, call};

use super::{World, framework};
use crate::allocator::Config;

const PID: &str = "slave(1)@10.0.0.1:5051";

fn in_role(name: &str, role: &str) -> FrameworkInfo {
    FrameworkInfo {
        role: Some(role.to_owned()),
        ..framework(name)
    }
}

#[test]
fn a_task_makes_room_and_says_why() {
    let config = Config {
        preempt_after: Some(Duration::from_secs(10)),
        hoarding: None,
        priorities: [("prod".to_owned(), 1)].into(),
        ..Config::default()
    };
    let mut world = World::sharing(config, BTreeMap::new(), 1, |_| {});
    let batch = world.subscribe(in_role("batch", "batch"));
    let agent = world.agent(PID, "cpus:4;mem:1024");
    world.launch(
        &batch,
        &[("old", "cpus:2;mem:64"), ("young", "cpus:2;mem:64")],
    );
    world.update(PID, &agent, &batch, "old", TaskState::TaskRunning);
    world.pass(Duration::from_secs(1));
    world.update(PID, &agent, &batch, "young", TaskState::TaskRunning);
    let prod = world.subscribe(in_role("prod", "prod"));
    let request = call::Request {
        requests: vec![Request {
            agent_id: None,
            resources: Resources::parse("cpus:1").unwrap().to_messages(),
        }],
    };
    world.call(
        &prod,
        Call {
            r#type: Some(call::Type::Request.into()),
            request: Some(request),
            ..Call::default()
        },
    );
    world.pass(Duration::from_secs(9));
    assert!(world.received::<KillTaskMessage>(PID).is_empty());
    world.pass(Duration::from_secs(2));
    let kills: Vec<KillTaskMessage> = world.received(PID);
    assert_eq!(kills.len(), 1, "one task is enough");
    assert_eq!(kills[0].task_id, "young".into());

    world.take(&batch);
    world.update(PID, &agent, &batch, "young", TaskState::TaskKilled);
    let events = world.take(&batch);
    let status = events
        .iter()
        .find_map(|event| event.update.clone())
        .unwrap()
        .status;
    assert_eq!(status.reason(), Reason::ContainerPreempted);
    assert_eq!(status.message.as_deref(), Some("Preempted by role prod"));
    world.pass(Duration::from_secs(1));
    let offered = world.offers(&prod);
    let cpus: f64 = offered
        .iter()
        .filter_map(|offer| Resources::from(&offer.resources).cpus())
        .sum();
    assert!(
        (cpus - 2.0).abs() < 1e-9,
        "the room is for whom it was made: {cpus}"
    );
    world.check();
}

//! A document that is sent while it is written is the one that is written whole.

use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_proto::mesos::{AgentId, Task, TaskState};
use dcos_security::{Acls, Authorizer, Principal};
use dcos_wire::flow;
use futures::FutureExt as _;

use super::*;
use crate::master::tests::{Subscribed, World, framework};

const DOCUMENTS: [Document; 9] = [
    Document::State,
    Document::Summary,
    Document::Agents,
    Document::Frameworks,
    Document::Answer(Part::State, MediaType::Json),
    Document::Answer(Part::Tasks, MediaType::Json),
    Document::Answer(Part::Executors, MediaType::Json),
    Document::Answer(Part::Frameworks, MediaType::Json),
    Document::Answer(Part::Agents, MediaType::Json),
];

/// A cluster with more tasks than a page holds.
fn world() -> (World, Subscribed, AgentId) {
    let mut world = World::new();
    let mut one = world.subscribe(framework("one"));
    world.subscribe(framework("two"));
    let agent = world.agent("agent@1", "cpus:1000;mem:100000");
    world.agent("agent@2", "cpus:1");
    let mut info = framework("one");
    info.id = Some(one.id.clone());
    let task = |at: u32| {
        let mut resources = Resources::parse("cpus:0.1;mem:1").unwrap();
        resources.allocate("*");
        Task {
            name: format!("name \"{at}\""),
            task_id: format!("t{at}").as_str().into(),
            framework_id: one.id.clone(),
            agent_id: agent.clone(),
            state: TaskState::TaskRunning.into(),
            resources: resources.to_messages(),
            ..Task::default()
        }
    };
    let tasks = (0..300).map(task).collect();
    world.reregister(
        "agent@1",
        &agent,
        "cpus:1000;mem:100000",
        tasks,
        vec![info.clone()],
    );
    one.stream = world.try_subscribe(info);
    world.update("agent@1", &agent, &one, "t7", TaskState::TaskFinished);
    (world, one, agent)
}

fn flowing(document: Document, from: &Writer<'_>, pieces: &mut Pieces) -> bytes::Bytes {
    let (writer, flow) = flow(Duration::ZERO);
    document.flow(writer, from, pieces);
    let read = flow.into_bytes().now_or_never();
    read.expect("it is written").expect("to its end")
}

/// Reads everything, whole and as it flows, with what is kept of earlier readers.
fn compare(world: &World, sight: &Sight, kept: &mut Pieces) {
    let (snapshot, config) = (Snapshot::of(&world.master), Config::default());
    let from = Writer {
        snapshot: &snapshot,
        config: &config,
        sight,
    };
    for document in DOCUMENTS {
        assert!(document.can_flow());
        let whole = document.write(&from, &mut Pieces::default()).to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert!(json.is_object());
        // Nothing is kept yet, it is worth keeping, and it is kept.
        for round in 0..3 {
            let flowing = flowing(document, &from, kept);
            assert!(flowing == whole, "{document:?} {round}");
        }
        let shared = document.write(&from, kept).to_bytes();
        assert!(shared == whole, "{document:?}");
    }
}

#[test]
fn what_flows_is_what_is_written_whole() {
    let (mut world, one, agent) = world();
    let mut kept = Pieces::default();
    compare(&world, &Sight::all(), &mut kept);
    world.update("agent@1", &agent, &one, "t100", TaskState::TaskKilled);
    compare(&world, &Sight::all(), &mut kept);
    compare(&World::new(), &Sight::all(), &mut kept);
}

#[test]
fn whoever_may_see_a_part_is_sent_that_part() {
    let (world, ..) = world();
    let rules = r#"{"view_tasks": [
        {"principals": {"values": ["guest"]}, "users": {"type": "NONE"}}]}"#;
    let authorizer: Arc<dyn Authorizer> = Arc::new(rules.parse::<Acls>().unwrap());
    let sight = Sight::of(&authorizer, Some(&Principal::new("guest")));
    assert!(!sight.is_whole());
    compare(&world, &sight, &mut Pieces::default());
}

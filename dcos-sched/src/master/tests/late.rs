//! What waited in a connection of before, and comes behind what was said later.

use dcos_core::resources::scalar_resource;
use dcos_proto::internal as messages;
use dcos_proto::mesos::{
    AgentId, Operation, OperationState, OperationStatus, TaskState, agent_info,
};
use dcos_proto::scheduler::{Call, call};

use super::operations::{
    ALL, PID, accept, agent, applied, feedback, launch, named, operate, owner, reserve, reserved,
    tell, total, uuid,
};
use super::{Input, World, framework};

/// An agent comes back, in the life that has this version, with nothing that was made on it.
fn return_of(world: &World, agent: &AgentId, version: u8) -> messages::ReregisterSlaveMessage {
    messages::ReregisterSlaveMessage {
        agent: dcos_proto::mesos::AgentInfo {
            id: Some(agent.clone()),
            ..super::agent_info(ALL)
        },
        version: Some("1.11.0".to_owned()),
        agent_capabilities: world.master.agents[agent].capabilities.clone(),
        resource_version_uuid: Some(uuid(version)),
        ..messages::ReregisterSlaveMessage::default()
    }
}

/// What an agent says when it is admitted.
fn update_of(
    agent: &AgentId,
    version: u8,
    operations: Vec<Operation>,
) -> messages::UpdateSlaveMessage {
    messages::UpdateSlaveMessage {
        agent_id: agent.clone(),
        update_oversubscribed_resources: Some(false),
        operations: Some(messages::update_slave_message::Operations { operations }),
        resource_version_uuid: Some(uuid(version)),
        ..messages::UpdateSlaveMessage::default()
    }
}

#[test]
fn a_late_copy_of_a_registration_undoes_nothing() {
    let mut world = World::new();
    let agent = agent(&mut world);
    operate(&mut world, &agent, reserve(vec![reserved("cpus", 1.0)]));
    let (late, anew) = (return_of(&world, &agent, 7), return_of(&world, &agent, 8));
    // It was sent before the reservation came there, and says nothing of it.
    world.send(PID, &late);
    assert!(total(&world, &agent).contains_message(&reserved("cpus", 1.0)));
    // An agent that started anew knows better.
    world.send(PID, &anew);
    assert!(!total(&world, &agent).contains_message(&reserved("cpus", 1.0)));
}

/// A copy of a registration comes when the connection has broken: the agent is no other one.
#[test]
fn a_late_copy_of_the_first_registration_replaces_nobody() {
    let mut world = World::new();
    let first = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let resources = vec![scalar_resource("cpus", 1.0)];
    accept(
        &mut world,
        &framework,
        &[&offer],
        vec![launch("t", &first, resources)],
    );
    world.handle(Input::Exited { pid: PID.into() });
    assert_eq!(agent(&mut world), first);
    assert_eq!(world.master.agents[&first].tasks.len(), 1);
    let asked: Vec<messages::PingSlaveMessage> = world.received(PID);
    assert!(asked.iter().any(|ping| !ping.connected));
}

/// Sent away again, an agent that restarted would lose what it is ordered meanwhile. What its earlier life said does not count.
#[test]
fn an_agent_that_returns_in_another_life_stays() {
    let mut world = World::new();
    let agent = agent(&mut world);
    world.handle(Input::Exited { pid: PID.into() });
    let _: Vec<messages::PingSlaveMessage> = world.received(PID);
    let anew = messages::ReregisterSlaveMessage {
        checkpointed_resources: vec![reserved("cpus", 1.0)],
        ..return_of(&world, &agent, 9)
    };
    world.send(PID, &anew);
    let pings: Vec<messages::PingSlaveMessage> = world.received(PID);
    assert!(pings.iter().all(|ping| ping.connected), "{pings:?}");
    let operation = Operation {
        uuid: uuid(1),
        ..Operation::default()
    };
    world.send(PID, &update_of(&agent, 8, vec![operation]));
    assert!(world.master.agents[&agent].operations.is_empty());
    assert!(total(&world, &agent).contains_message(&reserved("cpus", 1.0)));
    world.check();
}

#[test]
fn an_operation_that_was_acknowledged_does_not_come_back() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let operation = named("one", reserve(vec![reserved("cpus", 1.0)]));
    accept(&mut world, &framework, &[&offer], vec![operation]);
    let message = applied(&mut world).remove(0);
    tell(
        &mut world,
        &agent,
        &message,
        OperationState::OperationFinished,
        1,
    );
    let listed = Operation {
        latest_status: OperationStatus {
            state: OperationState::OperationFinished.into(),
            uuid: Some(uuid(1)),
            ..OperationStatus::default()
        },
        ..world.master.agents[&agent].operations[&message.operation_uuid.value]
            .operation
            .clone()
    };
    let acknowledge = call::AcknowledgeOperationStatus {
        agent_id: Some(agent.clone()),
        resource_provider_id: None,
        uuid: vec![1; 16],
        operation_id: "one".into(),
    };
    let acknowledge = Call {
        r#type: Some(call::Type::AcknowledgeOperationStatus.into()),
        acknowledge_operation_status: Some(acknowledge),
        ..Call::default()
    };
    world.call(&framework, acknowledge);
    let acknowledged = |world: &mut World| {
        let all: Vec<messages::AcknowledgeOperationStatusMessage> = world.received(PID);
        all.len()
    };
    assert_eq!(acknowledged(&mut world), 1);
    feedback(&mut world, &framework);
    // A list of before comes late; or the acknowledgement was lost, and the agent still lists and tells it.
    world.send(PID, &update_of(&agent, 7, vec![listed]));
    assert!(world.master.agents[&agent].operations.is_empty());
    assert_eq!(acknowledged(&mut world), 1);
    tell(
        &mut world,
        &agent,
        &message,
        OperationState::OperationFinished,
        1,
    );
    assert_eq!(acknowledged(&mut world), 1);
    assert!(feedback(&mut world, &framework).is_empty());
}

/// An agent was replaced by an older program, which will not ask for the acknowledgement.
#[test]
fn what_ended_goes_with_the_program_that_told_it() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    for (id, state) in [
        ("ended", OperationState::OperationFinished),
        ("begun", OperationState::OperationPending),
    ] {
        let offer = world.offers(&framework).remove(0);
        let operation = named(id, reserve(vec![reserved("cpus", 1.0)]));
        accept(&mut world, &framework, &[&offer], vec![operation]);
        let message = applied(&mut world).remove(0);
        if state != OperationState::OperationPending {
            tell(&mut world, &agent, &message, state, 1);
        }
    }
    assert_eq!(world.master.agents[&agent].operations.len(), 2);
    world.handle(Input::Exited { pid: PID.into() });
    let mut older = return_of(&world, &agent, 9);
    let feedback = agent_info::capability::Type::AgentOperationFeedback;
    older
        .agent_capabilities
        .retain(|known| known.r#type() != feedback);
    world.send(PID, &older);
    let left = &world.master.agents[&agent].operations;
    let left: Vec<_> = left
        .values()
        .map(|left| left.operation.info.id.clone())
        .collect();
    assert_eq!(left, [Some("begun".into())]);
    assert_eq!(world.master.frameworks[&framework.id].operations.len(), 1);
}

#[test]
fn an_update_behind_the_end_does_not_keep_a_task() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    let starting = world.update(PID, &agent, &one, "t", TaskState::TaskStarting);
    world.acknowledge(&one, &agent, "t", starting);
    let killed = world.update(PID, &agent, &one, "t", TaskState::TaskKilled);
    world.update(PID, &agent, &one, "t", TaskState::TaskStarting);
    assert_eq!(
        world
            .reconcile(&one, &[("t", Some(&agent))])
            .last()
            .unwrap(),
        "t:TASK_KILLED/REASON_RECONCILIATION"
    );
    world.acknowledge(&one, &agent, "t", killed);
    assert!(world.master.frameworks[&one.id].tasks.is_empty());
    world.check();
}

/// Its framework is away and acknowledges nothing: readers learn the end from what the agent adds to the older update.
#[test]
fn readers_hear_of_an_end_that_comes_with_an_older_update() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    world.published.clear();
    let update = messages::StatusUpdate {
        framework_id: one.id.clone(),
        agent_id: Some(agent.clone()),
        status: dcos_proto::mesos::TaskStatus {
            task_id: "t".into(),
            state: TaskState::TaskRunning.into(),
            ..Default::default()
        },
        uuid: Some(vec![
            u8::try_from(i32::from(TaskState::TaskRunning)).unwrap();
            16
        ]),
        latest_state: Some(TaskState::TaskFinished.into()),
        ..messages::StatusUpdate::default()
    };
    let again = messages::StatusUpdateMessage {
        update,
        pid: Some(PID.to_owned()),
    };
    for told in [1, 1] {
        world.send(PID, &again);
        let updates = world.published.iter();
        let updates = updates.filter_map(|event| event.task_updated.as_ref());
        let ends = updates.filter(|updated| updated.state() == TaskState::TaskFinished);
        assert_eq!(ends.count(), told);
    }
}

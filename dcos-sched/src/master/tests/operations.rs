//! Reservations and volumes: by frameworks, by operators, and when agents disagree.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::resources::convert::dynamic_reservation;
use dcos_core::resources::{ResourceExt, Resources, scalar_resource};
use dcos_proto::internal as messages;
use dcos_proto::mesos::offer::{Operation as Info, operation as kinds};
use dcos_proto::mesos::resource::disk_info::Persistence;
use dcos_proto::mesos::resource::{DiskInfo, SharedInfo};
use dcos_proto::mesos::{
    AgentId, FrameworkInfo, Offer, OperationState, OperationStatus, Resource, TaskInfo, TaskState,
    Uuid, Volume, agent_info, framework_info, volume,
};
use dcos_proto::scheduler::{Call, call};
use proptest::prelude::*;

use super::super::{Input, Reply};
use super::{Subscribed, World, framework, task};

pub(super) const PID: &str = "slave(1)@10.0.0.1:5051";
pub(super) const ALL: &str = "cpus:4;mem:1024;disk:1000;ports:[1-9]";

fn capability(kind: agent_info::capability::Type) -> agent_info::Capability {
    agent_info::Capability {
        r#type: Some(kind.into()),
    }
}

/// An agent that knows operations.
pub(super) fn agent(world: &mut World) -> AgentId {
    use agent_info::capability::Type;
    let all = [
        Type::MultiRole,
        Type::HierarchicalRole,
        Type::ReservationRefinement,
        Type::ResourceProvider,
        Type::ResizeVolume,
        Type::AgentOperationFeedback,
    ];
    world.send(
        PID,
        &messages::RegisterSlaveMessage {
            agent: super::agent_info(ALL),
            version: Some("1.11.0".to_owned()),
            agent_capabilities: all.map(capability).to_vec(),
            resource_version_uuid: Some(uuid(7)),
            ..messages::RegisterSlaveMessage::default()
        },
    );
    let answers: Vec<messages::SlaveRegisteredMessage> = world.received(PID);
    answers[0].agent_id.clone()
}

pub(super) fn uuid(number: u8) -> Uuid {
    Uuid {
        value: vec![number; 16],
    }
}

pub(super) fn owner() -> FrameworkInfo {
    let mut info = framework("db");
    info.principal = Some("ops".to_owned());
    info.role = Some("db".to_owned());
    info.capabilities.extend(
        [
            framework_info::capability::Type::ReservationRefinement,
            framework_info::capability::Type::SharedResources,
        ]
        .map(|kind| framework_info::Capability {
            r#type: Some(kind.into()),
        }),
    );
    info
}

pub(super) fn reserved(name: &str, amount: f64) -> Resource {
    let mut resource = scalar_resource(name, amount);
    let reservation = dynamic_reservation("db", Some("ops".to_owned()));
    resource.reservations.push(reservation);
    resource
}

fn on_disk(amount: f64, id: &str) -> Resource {
    let mut disk = reserved("disk", amount);
    disk.disk = Some(Box::new(DiskInfo {
        persistence: Some(Persistence {
            id: id.to_owned(),
            principal: Some("ops".to_owned()),
        }),
        volume: Some(Volume {
            container_path: "data".to_owned(),
            mode: volume::Mode::Rw.into(),
            ..Volume::default()
        }),
        source: None,
    }));
    disk
}

fn info(kind: kinds::Type) -> Info {
    Info {
        r#type: Some(kind.into()),
        ..Info::default()
    }
}

pub(super) fn reserve(resources: Vec<Resource>) -> Info {
    let source = Vec::new();
    Info {
        reserve: Some(kinds::Reserve { resources, source }),
        ..info(kinds::Type::Reserve)
    }
}

fn unreserve(resources: Vec<Resource>) -> Info {
    Info {
        unreserve: Some(kinds::Unreserve { resources }),
        ..info(kinds::Type::Unreserve)
    }
}

fn create(volumes: Vec<Resource>) -> Info {
    Info {
        create: Some(kinds::Create { volumes }),
        ..info(kinds::Type::Create)
    }
}

fn destroy(volumes: Vec<Resource>) -> Info {
    Info {
        destroy: Some(kinds::Destroy { volumes }),
        ..info(kinds::Type::Destroy)
    }
}

pub(super) fn launch(id: &str, agent: &AgentId, resources: Vec<Resource>) -> Info {
    let task = TaskInfo {
        resources,
        ..task(id, agent, "cpus:1")
    };
    Info {
        launch: Some(kinds::Launch {
            task_infos: vec![task],
        }),
        ..info(kinds::Type::Launch)
    }
}

pub(super) fn named(id: &str, operation: Info) -> Info {
    Info {
        id: Some(id.into()),
        ..operation
    }
}

pub(super) fn accept(
    world: &mut World,
    framework: &Subscribed,
    offers: &[&Offer],
    operations: Vec<Info>,
) {
    let call = Call {
        r#type: Some(call::Type::Accept.into()),
        accept: Some(call::Accept {
            offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
            operations,
            filters: None,
        }),
        ..Call::default()
    };
    world.call(framework, call);
}

pub(super) fn applied(world: &mut World) -> Vec<messages::ApplyOperationMessage> {
    world.received(PID)
}

/// The agent says how an operation went.
pub(super) fn tell(
    world: &mut World,
    agent: &AgentId,
    message: &messages::ApplyOperationMessage,
    state: OperationState,
    number: u8,
) {
    world.send(
        PID,
        &messages::UpdateOperationStatusMessage {
            framework_id: message.framework_id.clone(),
            agent_id: Some(agent.clone()),
            status: OperationStatus {
                operation_id: message.operation_info.id.clone(),
                state: state.into(),
                uuid: Some(uuid(number)),
                agent_id: Some(agent.clone()),
                ..OperationStatus::default()
            },
            latest_status: None,
            operation_uuid: Some(message.operation_uuid.clone()),
        },
    );
}

pub(super) fn feedback(
    world: &mut World,
    framework: &Subscribed,
) -> Vec<(String, OperationState, String)> {
    let events = world.take(framework);
    events
        .into_iter()
        .filter_map(|event| event.update_operation_status)
        .map(|update| {
            let status = update.status;
            (
                status
                    .operation_id
                    .clone()
                    .map(|id| id.value)
                    .unwrap_or_default(),
                status.state(),
                status.message.unwrap_or_default(),
            )
        })
        .collect()
}

pub(super) fn total(world: &World, agent: &AgentId) -> Resources {
    world.master.agents[agent].total.clone()
}

/// What is offered right now.
fn offered(world: &World) -> Resources {
    let mut all = Resources::new();
    for offer in world.master.offers.values() {
        all += &Resources::from(&offer.resources).unallocated();
    }
    all
}

pub(super) fn operate(world: &mut World, agent: &AgentId, operation: Info) -> Reply {
    let reply = world.master.operate_on(None, agent, operation);
    world.handle(Input::Tick);
    reply
}

#[test]
fn a_task_uses_what_the_operations_before_it_made() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let volume = on_disk(100.0, "v");
    let used = vec![reserved("cpus", 1.0), volume.clone()];
    accept(
        &mut world,
        &framework,
        &[&offer],
        vec![
            reserve(vec![reserved("cpus", 2.0), reserved("disk", 100.0)]),
            create(vec![volume.clone()]),
            launch("t", &agent, used),
        ],
    );
    let sent = applied(&mut world);
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].resource_version_uuid.uuid, uuid(7));
    let run: Vec<messages::RunTaskMessage> = world.received(PID);
    assert_eq!(run.len(), 1, "{:?}", world.seen(&framework));
    let has = total(&world, &agent);
    assert_eq!(has.reserved("db").cpus(), Some(2.0));
    assert!(has.contains_message(&volume));
    assert_eq!(
        has.scalar_quantities(),
        Resources::parse(ALL).unwrap().scalar_quantities()
    );
    // What was made and not used comes back in the next offer, at once.
    world.pass(Duration::from_millis(100));
    let events = world.take(&framework);
    let offers = events.into_iter().filter_map(|event| event.offers);
    let next: Vec<Offer> = offers.flat_map(|offers| offers.offers).collect();
    let offered = Resources::from(&next[0].resources);
    assert_eq!(offered.reserved("db").cpus(), Some(1.0));
    for (number, message) in sent.iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        let state = OperationState::OperationFinished;
        tell(&mut world, &agent, message, state, number);
    }
    // Nobody asked for feedback: the master acknowledges.
    let acks: Vec<messages::AcknowledgeOperationStatusMessage> = world.received(PID);
    assert_eq!(acks.len(), 2);
    assert!(world.master.agents[&agent].operations.is_empty());
}

#[test]
fn feedback_is_told_until_the_framework_acknowledges() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let operation = named("one", reserve(vec![reserved("cpus", 1.0)]));
    accept(&mut world, &framework, &[&offer], vec![operation]);
    let message = applied(&mut world).remove(0);
    let state = OperationState::OperationFinished;
    tell(&mut world, &agent, &message, state, 1);
    tell(&mut world, &agent, &message, state, 1);
    let told = feedback(&mut world, &framework);
    assert_eq!(told.len(), 2);
    assert_eq!((&*told[0].0, told[0].1), ("one", state));
    assert_eq!(world.master.agents[&agent].operations.len(), 1);

    let ask = |world: &mut World, operations| {
        let call = Call {
            r#type: Some(call::Type::ReconcileOperations.into()),
            reconcile_operations: Some(call::ReconcileOperations { operations }),
            ..Call::default()
        };
        world.call(&framework, call);
        feedback(world, &framework)
    };
    assert_eq!(ask(&mut world, Vec::new()).len(), 1);
    let acknowledge = Call {
        r#type: Some(call::Type::AcknowledgeOperationStatus.into()),
        acknowledge_operation_status: Some(call::AcknowledgeOperationStatus {
            agent_id: Some(agent.clone()),
            resource_provider_id: None,
            uuid: vec![1; 16],
            operation_id: "one".into(),
        }),
        ..Call::default()
    };
    world.call(&framework, acknowledge);
    let acks: Vec<messages::AcknowledgeOperationStatusMessage> = world.received(PID);
    assert_eq!(acks[0].operation_uuid, message.operation_uuid);
    assert!(world.master.agents[&agent].operations.is_empty());
    let unknown = |agent: Option<AgentId>| call::reconcile_operations::Operation {
        operation_id: "one".into(),
        agent_id: agent,
        resource_provider_id: None,
    };
    let told = ask(
        &mut world,
        vec![
            unknown(Some(agent)),
            unknown(Some("other".into())),
            unknown(None),
        ],
    );
    let texts: Vec<_> = told.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Reconciliation: Operation is unknown",
            "Reconciliation: Both operation and agent are unknown",
            "Reconciliation: Operation is unknown and no 'agent_id' was provided",
        ]
    );
}

#[test]
fn what_is_wrong_is_told_in_the_originals_words() {
    let check = |operations: Vec<Info>, expected: &str| {
        let mut world = World::new();
        let agent = agent(&mut world);
        let framework = world.subscribe(owner());
        let offer = world.offers(&framework).remove(0);
        let mut operations = operations;
        let last = operations.pop().unwrap();
        operations.push(named("op", last));
        accept(&mut world, &framework, &[&offer], operations);
        let told = feedback(&mut world, &framework);
        assert_eq!(told.len(), 1, "{expected}");
        assert_eq!(told[0].1, OperationState::OperationError);
        let text = told[0].2.replace(&agent.value, "<agent>");
        assert!(text.starts_with(expected), "{text}\nis not\n{expected}");
    };
    let unreserved = scalar_resource("cpus", 1.0);
    check(
        vec![reserve(vec![unreserved])],
        "Resource cpus(allocated: db):1 is not dynamically reserved; on agent <agent> at slave(1)@10.0.0.1:5051 (",
    );
    let mut nobodys = reserved("cpus", 1.0);
    nobodys.reservations[0].principal = None;
    check(
        vec![reserve(vec![nobodys])],
        "A reserve operation was attempted by principal 'ops', but there is a reserved resource in the request with no principal set",
    );
    let mut other = reserved("cpus", 1.0);
    other.reservations[0].role = Some("web".to_owned());
    check(
        vec![reserve(vec![other])],
        "A reserve operation was attempted for a resource with role 'web', but the resource was allocated to role 'db'",
    );
    check(
        vec![reserve(vec![reserved("cpus", 100.0)])],
        "cpus(allocated: db):4; ",
    );
    check(
        vec![create(vec![reserved("disk", 1.0)])],
        "Not a persistent volume: Resource disk(allocated: db)(reservations: [(DYNAMIC,db,ops)]):1 does not have DiskInfo",
    );
    check(
        vec![destroy(vec![on_disk(1.0, "v")])],
        "Persistent volumes not found",
    );
    check(
        vec![
            reserve(vec![reserved("disk", 1.0)]),
            create(vec![on_disk(1.0, "v")]),
            unreserve(vec![on_disk(1.0, "v")]),
        ],
        "A dynamically reserved persistent volume disk(allocated: db)",
    );
    check(
        vec![Info {
            reserve: None,
            ..reserve(Vec::new())
        }],
        "Operation attempted with invalid resources: A RESERVE offer operation must have the Offer.Operation.reserve field set.",
    );
    check(
        vec![
            reserve(vec![reserved("disk", 2.0)]),
            create(vec![on_disk(1.0, "v")]),
            create(vec![on_disk(1.0, "v")]),
        ],
        "Persistence ID 'v' is not unique",
    );
}

#[test]
fn an_older_agent_is_told_all_it_has_to_keep() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let named = named("op", reserve(vec![reserved("cpus", 1.0)]));
    accept(
        &mut world,
        &framework,
        &[&offer],
        vec![named, reserve(vec![reserved("cpus", 2.0)])],
    );
    let kept: Vec<messages::CheckpointResourcesMessage> = world.received(PID);
    assert_eq!(kept.len(), 1);
    assert_eq!(Resources::from(&kept[0].resources).cpus(), Some(2.0));
    let told = feedback(&mut world, &framework);
    assert!(
        told[0]
            .2
            .contains("does not have the required RESOURCE_PROVIDER capability")
    );
    // It comes back without having heard of it, and is told again.
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    assert_eq!(total(&world, &agent).reserved("db").cpus(), Some(2.0));
    let kept: Vec<messages::CheckpointResourcesMessage> = world.received(PID);
    assert_eq!(Resources::from(&kept[0].resources).cpus(), Some(2.0));
}

#[test]
fn bookings_the_agent_did_not_carry_out_are_taken_back() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let before = total(&world, &agent);
    accept(
        &mut world,
        &framework,
        &[&offer],
        vec![
            reserve(vec![reserved("disk", 10.0)]),
            named("volume", create(vec![on_disk(10.0, "v")])),
        ],
    );
    let sent = applied(&mut world);
    assert_ne!(total(&world, &agent), before);
    // The first fails; what stands on it has to go first.
    let failed = OperationState::OperationFailed;
    tell(&mut world, &agent, &sent[0], failed, 1);
    assert_ne!(total(&world, &agent), before);
    tell(&mut world, &agent, &sent[1], failed, 2);
    assert_eq!(total(&world, &agent), before);
    world.pass(Duration::from_secs(6));
    assert_eq!(offered(&world), before);
}

/// A task uses what an operation was to set free: the booking is taken back when the task ends.
#[test]
fn bookings_that_are_used_are_taken_back_later() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    operate(&mut world, &agent, reserve(vec![reserved("cpus", 4.0)]));
    let before = total(&world, &agent);
    let kept = applied(&mut world).remove(0);
    tell(
        &mut world,
        &agent,
        &kept,
        OperationState::OperationFinished,
        1,
    );
    world.pass(Duration::from_secs(6));
    let offers = world.offers(&framework);
    let offers: Vec<&Offer> = offers.iter().collect();
    accept(
        &mut world,
        &framework,
        &offers,
        vec![
            unreserve(vec![reserved("cpus", 4.0)]),
            launch("t", &agent, vec![scalar_resource("cpus", 1.0)]),
        ],
    );
    let sent = applied(&mut world).remove(0);
    let failed = OperationState::OperationFailed;
    tell(&mut world, &agent, &sent, failed, 2);
    assert_ne!(total(&world, &agent), before, "the task runs");
    let uuid = world.update(PID, &agent, &framework, "t", TaskState::TaskFinished);
    world.acknowledge(&framework, &agent, "t", uuid);
    assert_eq!(total(&world, &agent), before);
    world.pass(Duration::from_secs(6));
    assert_eq!(offered(&world), before);
}

#[test]
fn operations_that_never_arrived_are_asked_for_and_dropped() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let operation = named("lost", reserve(vec![reserved("cpus", 1.0)]));
    accept(&mut world, &framework, &[&offer], vec![operation]);
    let sent = applied(&mut world).remove(0);
    world.handle(Input::Exited { pid: PID.into() });
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    assert!(total(&world, &agent).reserved("db").is_empty());
    world.send(
        PID,
        &messages::UpdateSlaveMessage {
            agent_id: agent.clone(),
            update_oversubscribed_resources: Some(false),
            operations: Some(messages::update_slave_message::Operations::default()),
            ..messages::UpdateSlaveMessage::default()
        },
    );
    let asked: Vec<messages::ReconcileOperationsMessage> = world.received(PID);
    let uuid = asked[0].operations[0].operation_uuid.clone();
    assert_eq!(uuid, Some(sent.operation_uuid.clone()));
    world.take(&framework);
    world.send(
        PID,
        &messages::UpdateOperationStatusMessage {
            agent_id: Some(agent.clone()),
            status: OperationStatus {
                state: OperationState::OperationDropped.into(),
                ..OperationStatus::default()
            },
            operation_uuid: uuid,
            ..messages::UpdateOperationStatusMessage::default()
        },
    );
    let told = feedback(&mut world, &framework);
    assert_eq!(
        (&*told[0].0, told[0].1),
        ("lost", OperationState::OperationDropped)
    );
    assert!(world.master.agents[&agent].operations.is_empty());
    assert!(total(&world, &agent).reserved("db").is_empty());
}

#[test]
fn operators_take_what_is_offered_but_not_what_is_used() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    accept(
        &mut world,
        &framework,
        &[&offer],
        vec![launch("t", &agent, vec![scalar_resource("cpus", 1.0)])],
    );
    world.offers(&framework);
    let refused = operate(&mut world, &agent, reserve(vec![reserved("cpus", 4.0)]));
    let Reply::Refused { status, text } = refused else {
        panic!("it was {refused:?}");
    };
    assert_eq!(status, 409);
    assert!(
        text.contains("cpus:3") && text.ends_with(" does not contain cpus:4"),
        "{text}"
    );
    world.offers(&framework);
    let done = operate(&mut world, &agent, reserve(vec![reserved("cpus", 3.0)]));
    assert_eq!(done, Reply::Accepted);
    assert_eq!(world.seen(&framework)[0], "RESCIND");
    assert_eq!(applied(&mut world)[0].framework_id, None);
    assert_eq!(total(&world, &agent).reserved("db").cpus(), Some(3.0));
    world.pass(Duration::from_secs(6));
    assert_eq!(offered(&world).reserved("db").cpus(), Some(3.0));
    let wrong = operate(&mut world, &agent, destroy(vec![on_disk(1.0, "v")]));
    assert_eq!(
        wrong,
        Reply::refused(
            400,
            "Invalid DESTROY operation: Persistent volumes not found"
        )
    );
    let nobody = operate(
        &mut world,
        &"x".into(),
        reserve(vec![reserved("cpus", 1.0)]),
    );
    assert_eq!(
        nobody,
        Reply::refused(400, "No agent found with specified ID")
    );
}

#[test]
fn a_shared_volume_is_used_by_many_and_destroyed_by_none_of_them() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let mut volume = on_disk(10.0, "v");
    volume.shared = Some(SharedInfo {});
    let with = |cpus: f64| vec![scalar_resource("cpus", cpus), volume.clone()];
    accept(
        &mut world,
        &framework,
        &[&offer],
        vec![
            reserve(vec![reserved("disk", 10.0)]),
            create(vec![volume.clone()]),
            launch("a", &agent, with(1.0)),
            launch("b", &agent, with(1.0)),
        ],
    );
    let run: Vec<messages::RunTaskMessage> = world.received(PID);
    assert_eq!(run.len(), 2, "{:?}", world.seen(&framework));
    let used = world.master.agents[&agent].used_total().unallocated();
    assert_eq!(used.count(&volume), 2);
    assert_eq!(total(&world, &agent).count(&volume), 1);
    let refused = operate(&mut world, &agent, destroy(vec![volume.clone()]));
    assert_eq!(
        refused,
        Reply::refused(400, "Invalid DESTROY operation: Persistent volumes in use")
    );
    for task in ["a", "b"] {
        world.update(PID, &agent, &framework, task, TaskState::TaskFinished);
    }
    world.pass(Duration::from_secs(6));
    assert!(offered(&world).count(&volume) > 0);
    assert_eq!(
        operate(&mut world, &agent, destroy(vec![volume])),
        Reply::Accepted
    );
    assert!(
        !total(&world, &agent)
            .iter()
            .any(ResourceExt::is_persistent_volume)
    );
}

#[test]
fn lost_agents_take_their_operations_with_them() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    let offer = world.offers(&framework).remove(0);
    let operation = named("one", reserve(vec![reserved("cpus", 1.0)]));
    accept(&mut world, &framework, &[&offer], vec![operation]);
    world.pass(Duration::from_secs(100));
    let told = feedback(&mut world, &framework);
    assert_eq!(
        told,
        [(
            "one".to_owned(),
            OperationState::OperationUnreachable,
            "Agent was marked unreachable".to_owned()
        )]
    );
    assert!(world.master.frameworks[&framework.id].operations.is_empty());
    assert!(!world.master.agents.contains_key(&agent));
}

/// What may happen to reservations and volumes.
#[derive(Debug, Clone)]
enum Step {
    Accept(Vec<(u8, u8)>),
    Operate(u8, u8),
    Answer { which: usize, state: u8 },
    Finish(usize),
    Restart,
    Pass(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = || (0..6_u8, 1..4_u8);
    let step = prop_oneof![
        4 => proptest::collection::vec(change(), 1..5).prop_map(Step::Accept),
        2 => change().prop_map(|(kind, amount)| Step::Operate(kind, amount)),
        3 => (0..8_usize, 0..5_u8).prop_map(|(which, state)| Step::Answer { which, state }),
        2 => (0..8_usize).prop_map(Step::Finish),
        1 => Just(Step::Restart),
        2 => (1..20_u8).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..40)
}

fn change(kind: u8, amount: u8, agent: &AgentId, next: &mut u32) -> Info {
    let size = f64::from(amount);
    let id = format!("v{amount}");
    match kind {
        0 => reserve(vec![reserved("cpus", size), reserved("disk", size)]),
        1 => unreserve(vec![reserved("disk", size)]),
        2 => create(vec![on_disk(size, &id)]),
        3 => destroy(vec![on_disk(size, &id)]),
        4 => {
            *next += 1;
            let used = vec![scalar_resource("mem", 32.0), on_disk(size, &id)];
            launch(&format!("t{next}"), agent, used)
        }
        _ => {
            *next += 1;
            let used = vec![reserved("cpus", size)];
            launch(&format!("t{next}"), agent, used)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However operations, tasks, failures and restarts of the agent follow each other: amounts
    /// stay what they are, nothing is offered or used beyond the total, and what nobody uses is
    /// offered in the end.
    #[test]
    fn totals_are_conserved(steps in steps()) {
        let mut world = World::with(BTreeMap::new(), 1, |settings| {
            settings.agent_ping_timeout = Duration::from_hours(1);
        });
        let agent = agent(&mut world);
        let framework = world.subscribe(owner());
        let amounts = Resources::parse(ALL).unwrap().scalar_quantities();
        let (mut sent, mut next) = (Vec::new(), 0_u32);
        let mut offers: BTreeMap<String, Offer> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Accept(changes) => {
                    let held: Vec<&Offer> = offers.values().collect();
                    if !held.is_empty() {
                        let operations = changes
                            .into_iter()
                            .map(|(kind, amount)| change(kind, amount, &agent, &mut next))
                            .collect();
                        accept(&mut world, &framework, &held, operations);
                    }
                }
                Step::Operate(kind, amount) if kind < 4 => {
                    operate(&mut world, &agent, change(kind, amount, &agent, &mut next));
                }
                Step::Operate(..) => {}
                Step::Answer { which, state } => {
                    sent.extend(applied(&mut world));
                    if which < sent.len() {
                        let message = sent.remove(which);
                        let state = if state == 0 {
                            OperationState::OperationFailed
                        } else {
                            OperationState::OperationFinished
                        };
                        tell(&mut world, &agent, &message, state, 9);
                    }
                }
                Step::Finish(which) => {
                    let tasks: Vec<_> = world.master.frameworks[&framework.id]
                        .tasks
                        .keys()
                        .cloned()
                        .collect();
                    if let Some(task) = tasks.get(which) {
                        world.update(PID, &agent, &framework, &task.value, TaskState::TaskFinished);
                    }
                }
                Step::Restart => {
                    // With nothing running, the agent may come back with whatever it has kept.
                    if world.master.agents[&agent].tasks.is_empty() {
                        world.handle(Input::Exited { pid: PID.into() });
                        world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
                        sent.clear();
                    }
                }
                Step::Pass(secs) => world.pass(Duration::from_secs(secs.into())),
            }
            offers = world
                .master
                .offers
                .values()
                .map(|offer| (offer.id.value.clone(), (**offer).clone()))
                .collect();
            let place = &world.master.agents[&agent];
            prop_assert_eq!(&place.total.scalar_quantities(), &amounts);
            let mut held = place.used_total().unallocated();
            for offer in offers.values() {
                held += &Resources::from(&offer.resources).unallocated();
            }
            if place.undone.is_empty() {
                prop_assert!(place.total.contains(&held), "{} lacks {}", place.total, held);
            }
        }
        // In the end all that nobody uses is offered.
        world.pass(Duration::from_secs(30));
        let place = &world.master.agents[&agent];
        let mut held = place.used_total().unallocated();
        for offer in world.master.offers.values() {
            held += &Resources::from(&offer.resources).unallocated();
        }
        if place.undone.is_empty() {
            prop_assert_eq!(&held, &place.total);
        }
    }
}

/// An operation got lost, and a task that stands on it did not: what the task uses is not there.
#[test]
fn what_is_used_beyond_what_is_there_is_not_offered_when_it_is_set_free() {
    let mut world = World::new();
    let agent = agent(&mut world);
    let framework = world.subscribe(owner());
    operate(&mut world, &agent, reserve(vec![reserved("cpus", 4.0)]));
    world.pass(Duration::from_secs(6));
    let offers = world.offers(&framework);
    let offers: Vec<&Offer> = offers.iter().collect();
    accept(
        &mut world,
        &framework,
        &offers,
        vec![
            unreserve(vec![reserved("cpus", 4.0)]),
            launch("t", &agent, vec![scalar_resource("cpus", 1.0)]),
        ],
    );
    world.handle(Input::Exited { pid: PID.into() });
    let anew = messages::ReregisterSlaveMessage {
        agent: dcos_proto::mesos::AgentInfo {
            id: Some(agent.clone()),
            ..super::agent_info(ALL)
        },
        version: Some("1.11.0".to_owned()),
        tasks: world.master.frameworks[&framework.id]
            .tasks
            .values()
            .map(|task| dcos_proto::mesos::Task::clone(task))
            .collect(),
        checkpointed_resources: vec![reserved("cpus", 4.0)],
        frameworks: vec![world.master.frameworks[&framework.id].info.clone()],
        agent_capabilities: world.master.agents[&agent].capabilities.clone(),
        resource_version_uuid: Some(uuid(8)),
        ..messages::ReregisterSlaveMessage::default()
    };
    world.send(PID, &anew);
    operate(&mut world, &agent, unreserve(vec![reserved("cpus", 1.0)]));
    world.pass(Duration::from_secs(6));
    let free = offered(&world);
    assert_eq!(free.cpus(), Some(3.0), "{free}");
    assert_eq!(free.reserved("db").cpus(), Some(3.0));
}

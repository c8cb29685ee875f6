//! Task groups, roles, and changes of mind.

use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_proto::internal::{ExitedExecutorMessage, RunTaskGroupMessage, UpdateFrameworkMessage};
use dcos_proto::mesos::{
    AgentId, ContainerInfo, ExecutorInfo, FrameworkInfo, LinuxInfo, Offer, TaskGroupInfo, TaskInfo,
    container_info, executor_info, framework_info, offer,
};
use dcos_proto::scheduler::{Call, call};

use super::super::Reply;
use super::{Subscribed, World, framework, task};

const PID: &str = "slave(1)@10.0.0.1:5051";
const ALL: &str = "cpus:4;mem:1024;disk:1024";

fn executor(resources: &str) -> ExecutorInfo {
    ExecutorInfo {
        executor_id: "e".into(),
        r#type: Some(executor_info::Type::Default.into()),
        resources: Resources::parse(resources).unwrap().to_messages(),
        ..ExecutorInfo::default()
    }
}

fn launch_group(
    world: &mut World,
    framework: &Subscribed,
    offer: &Offer,
    executor: ExecutorInfo,
    tasks: &[(&str, &str)],
) {
    let tasks = tasks
        .iter()
        .map(|(id, resources)| task(id, &offer.agent_id, resources));
    launch(world, framework, offer, executor, tasks.collect());
}

fn launch(
    world: &mut World,
    framework: &Subscribed,
    offer: &Offer,
    executor: ExecutorInfo,
    tasks: Vec<TaskInfo>,
) {
    let group = offer::operation::LaunchGroup {
        executor,
        task_group: TaskGroupInfo { tasks },
    };
    let operation = offer::Operation {
        r#type: Some(offer::operation::Type::LaunchGroup.into()),
        launch_group: Some(group),
        ..offer::Operation::default()
    };
    world.call(
        framework,
        Call {
            r#type: Some(call::Type::Accept.into()),
            accept: Some(call::Accept {
                offer_ids: vec![offer.id.clone()],
                operations: vec![operation],
                filters: None,
            }),
            ..Call::default()
        },
    );
}

fn multi_role(roles: &[&str]) -> FrameworkInfo {
    FrameworkInfo {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        capabilities: vec![framework_info::Capability {
            r#type: Some(framework_info::capability::Type::MultiRole.into()),
        }],
        ..framework("roles")
    }
}

fn used_cpus(world: &World, agent: &AgentId) -> f64 {
    world.master.agents[agent]
        .used_total()
        .cpus()
        .unwrap_or(0.0)
}

#[test]
fn a_group_starts_its_executor_once() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    let offer = world.offers(&one).remove(0);
    let own = "cpus:0.5;mem:32;disk:32";
    launch_group(
        &mut world,
        &one,
        &offer,
        executor(own),
        &[("a", "cpus:1;mem:64"), ("b", "cpus:1;mem:64")],
    );
    let runs: Vec<RunTaskGroupMessage> = world.received(PID);
    assert_eq!(
        (runs[0].task_group.tasks.len(), runs[0].launch_executor),
        (2, Some(true))
    );
    assert!((used_cpus(&world, &agent) - 2.5).abs() < 1e-9);
    let offer = world.offers(&one).remove(0);
    assert_eq!(offer.executor_ids, ["e".into()]);
    launch_group(
        &mut world,
        &one,
        &offer,
        executor(own),
        &[("c", "cpus:1;mem:64")],
    );
    let runs: Vec<RunTaskGroupMessage> = world.received(PID);
    assert_eq!(runs[0].launch_executor, Some(false));
    assert!((used_cpus(&world, &agent) - 3.5).abs() < 1e-9);
    world.send(
        PID,
        &ExitedExecutorMessage {
            agent_id: agent.clone(),
            framework_id: one.id.clone(),
            executor_id: "e".into(),
            status: 9,
        },
    );
    assert!(
        (used_cpus(&world, &agent) - 3.0).abs() < 1e-9,
        "its tasks' ends come from the agent"
    );
    let failure = world.take(&one).pop().unwrap().failure.unwrap();
    assert_eq!(
        (failure.executor_id, failure.status),
        (Some("e".into()), Some(9))
    );
    world.check();
}

#[test]
fn a_group_fails_as_one() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    world.agent(PID, ALL);
    let mut check = |executor: ExecutorInfo, tasks: &[(&str, &str)]| {
        let offer = world.offers(&one).remove(0);
        launch_group(&mut world, &one, &offer, executor, tasks);
        let expected: Vec<String> = tasks
            .iter()
            .map(|(id, _)| format!("{id}:TASK_ERROR/REASON_TASK_GROUP_INVALID"))
            .collect();
        assert_eq!(world.seen(&one), expected);
        let runs: Vec<RunTaskGroupMessage> = world.received(PID);
        assert!(runs.is_empty());
        world.check();
    };
    let good = "cpus:0.5;mem:32;disk:32";
    check(
        executor(good),
        &[("a", "cpus:1;mem:64"), ("b", "cpus:9;mem:64")],
    );
    check(
        executor(good),
        &[("a", "cpus:1;mem:64"), ("a", "cpus:1;mem:64")],
    );
    check(executor("cpus:0.5;mem:32"), &[("a", "cpus:1;mem:64")]);
    check(
        executor("cpus:0.5;mem:8;disk:32"),
        &[("a", "cpus:1;mem:64")],
    );
    let untyped = ExecutorInfo {
        r#type: None,
        ..executor(good)
    };
    check(untyped, &[("a", "cpus:1;mem:64")]);
}

#[test]
fn all_tasks_of_an_executor_share_its_cgroups_or_none_does() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, ALL);
    let member = |id: &str, shares: Option<bool>| {
        let container = ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            linux_info: Some(LinuxInfo {
                share_cgroups: shares,
                ..LinuxInfo::default()
            }),
            ..ContainerInfo::default()
        };
        TaskInfo {
            container: Some(container),
            ..task(id, &agent, "cpus:0.1;mem:32")
        }
    };
    let launch = |world: &mut World, name: &str, tasks: Vec<TaskInfo>| {
        let offer = world.offers(&one).remove(0);
        let executor = ExecutorInfo {
            executor_id: name.into(),
            ..executor("cpus:0.1;mem:32;disk:32")
        };
        launch(world, &one, &offer, executor, tasks);
        let seen = world.seen(&one);
        let is_refused = seen
            .iter()
            .any(|update| update.contains("TASK_GROUP_INVALID"));
        let runs: Vec<RunTaskGroupMessage> = world.received(PID);
        assert_eq!(runs.len(), usize::from(!is_refused), "{seen:?}");
        is_refused
    };
    let mixed = vec![member("a", Some(false)), member("b", None)];
    assert!(launch(&mut world, "e", mixed), "in one group");
    assert!(!launch(&mut world, "e", vec![member("c", Some(false))]));
    assert!(
        launch(&mut world, "e", vec![member("d", Some(true))]),
        "later"
    );
    assert!(
        launch(&mut world, "e", vec![member("e", None)]),
        "it is the default"
    );
    assert!(!launch(&mut world, "e", vec![member("f", Some(false))]));
    assert!(!launch(&mut world, "other", vec![member("g", Some(true))]));
    world.check();
}

#[test]
fn each_offer_belongs_to_a_role_and_suppressed_ones_get_none() {
    let mut world = World::new();
    let one = world.subscribe(multi_role(&["a", "b"]));
    world.agent(PID, ALL);
    let offer = world.offers(&one).remove(0);
    let role = offer
        .allocation_info
        .clone()
        .and_then(|allocation| allocation.role);
    assert!(role.is_some_and(|role| role == "a" || role == "b"));
    assert!(
        offer
            .resources
            .iter()
            .all(|resource| resource.allocation_info.is_some())
    );
    let roles = |roles: &[&str]| {
        roles
            .iter()
            .map(|role| (*role).to_owned())
            .collect::<Vec<_>>()
    };
    let change = |world: &mut World, call: Call| {
        world.call(&one, call);
    };
    change(
        &mut world,
        Call {
            r#type: Some(call::Type::Suppress.into()),
            suppress: Some(call::Suppress { roles: roles(&[]) }),
            ..Call::default()
        },
    );
    change(
        &mut world,
        Call {
            r#type: Some(call::Type::Decline.into()),
            decline: Some(call::Decline {
                offer_ids: vec![offer.id],
                filters: None,
            }),
            ..Call::default()
        },
    );
    assert!(world.offers(&one).is_empty());
    change(
        &mut world,
        Call {
            r#type: Some(call::Type::Revive.into()),
            revive: Some(call::Revive {
                roles: roles(&["b"]),
            }),
            ..Call::default()
        },
    );
    let offer = world.offers(&one).remove(0);
    assert_eq!(
        offer
            .allocation_info
            .and_then(|allocation| allocation.role)
            .as_deref(),
        Some("b")
    );
}

#[test]
fn a_framework_changes_without_subscribing_again() {
    let mut world = World::new();
    let one = world.subscribe(multi_role(&["a"]));
    let agent = world.agent(PID, ALL);
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    let offers = world.offers(&one);
    assert_eq!(offers.len(), 1);
    let update = |info: FrameworkInfo| Call {
        framework_id: Some(one.id.clone()),
        r#type: Some(call::Type::UpdateFramework.into()),
        update_framework: Some(call::UpdateFramework {
            framework_info: FrameworkInfo {
                id: Some(one.id.clone()),
                ..info
            },
            ..call::UpdateFramework::default()
        }),
        ..Call::default()
    };
    let stream = one.stream.clone();
    let reply = world.call_on(Some(&stream), update(multi_role(&["b"])));
    assert_eq!(reply, Reply::Done);
    assert_eq!(
        world.seen(&one)[0],
        "RESCIND",
        "offers for a role it left are taken back"
    );
    let told: Vec<UpdateFrameworkMessage> = world.received(PID);
    assert_eq!(told[0].framework_info.clone().unwrap().roles, ["b"]);
    assert!(
        (used_cpus(&world, &agent) - 1.0).abs() < 1e-9,
        "its tasks stay"
    );
    let root = FrameworkInfo {
        user: "root".to_owned(),
        ..multi_role(&["b"])
    };
    let Reply::Refused { status, text } = world.call_on(Some(&stream), update(root)) else {
        panic!("it is refused");
    };
    assert!(
        status == 400 && text.contains("'FrameworkInfo.user' is unsupported"),
        "{text}"
    );
    world.pass(Duration::from_secs(1));
    world.check();
}

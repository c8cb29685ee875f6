//! Whatever happens, in whichever order: nothing is given twice, nothing is forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_proto::master as operator;
use dcos_proto::mesos::{AgentId, FrameworkInfo, Task, TaskState};
use dcos_proto::scheduler::{Call, call};
use proptest::prelude::*;

use super::super::{Input, TaskRecord};
use super::{Subscribed, World, framework, task};

const ALL: &str = "cpus:4;mem:1024";

#[derive(Debug, Clone)]
enum Step {
    Subscribe(usize),
    Disconnect(usize),
    Agent(usize),
    AgentExits(usize),
    AgentReturns(usize),
    Launch { framework: usize, cpus: u8 },
    Update { task: usize, state: usize },
    Decline(usize),
    Kill(usize),
    Teardown(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_usize).prop_map(Step::Subscribe),
        (0..3_usize).prop_map(Step::Disconnect),
        (0..3_usize).prop_map(Step::Agent),
        (0..3_usize).prop_map(Step::AgentExits),
        (0..3_usize).prop_map(Step::AgentReturns),
        (0..3_usize, 1..6_u8).prop_map(|(framework, cpus)| Step::Launch { framework, cpus }),
        (0..20_usize, 0..4_usize).prop_map(|(task, state)| Step::Update { task, state }),
        (0..3_usize).prop_map(Step::Decline),
        (0..20_usize).prop_map(Step::Kill),
        (0..3_usize).prop_map(Step::Teardown),
        (1..90_u64).prop_map(Step::Pass),
    ]
}

#[derive(Default)]
struct Model {
    frameworks: BTreeMap<usize, Subscribed>,
    agents: BTreeMap<usize, AgentId>,
    tasks: Vec<(usize, String)>,
}

fn pid(agent: usize) -> String {
    format!("slave(1)@10.0.0.{}:5051", agent + 1)
}

fn apply(world: &mut World, model: &mut Model, step: &Step) {
    match step {
        Step::Subscribe(index) => {
            let id = model.frameworks.get(index).map(|known| known.id.clone());
            let id = id.filter(|id| world.master.frameworks.contains_key(id));
            let info = FrameworkInfo {
                id,
                checkpoint: Some(index % 2 == 0),
                ..framework("any")
            };
            let subscribed = world.subscribe(info);
            model.frameworks.insert(*index, subscribed);
        }
        Step::Disconnect(index) => {
            if let Some(known) = model.frameworks.get(index) {
                let stream_id = known.stream.clone();
                world.handle(Input::StreamClosed { stream_id });
            }
        }
        Step::Agent(index) => {
            let id = world.agent(&pid(*index), ALL);
            model.agents.insert(*index, id);
        }
        Step::AgentExits(index) => world.handle(Input::Exited { pid: pid(*index) }),
        Step::AgentReturns(index) => {
            if let Some(id) = model.agents.get(index).cloned() {
                let mine = |task: &&TaskRecord| task.agent_id == id;
                let known = world.master.frameworks.values();
                let tasks = known
                    .clone()
                    .flat_map(|framework| {
                        framework.tasks.values().chain(&framework.unreachable_tasks)
                    })
                    .filter(mine)
                    .map(|task| {
                        let mut task = Task::clone(task);
                        if task.state() == TaskState::TaskUnreachable
                            || task.state() == TaskState::TaskLost
                        {
                            task.state = TaskState::TaskRunning.into();
                        }
                        task
                    });
                let (tasks, infos) = (
                    tasks.collect(),
                    known.map(|framework| framework.info.clone()).collect(),
                );
                world.reregister(&pid(*index), &id, ALL, tasks, infos);
            }
        }
        Step::Launch { framework, cpus } => {
            let Some(known) = model.frameworks.get(framework).cloned() else {
                return;
            };
            let Some(offer) = world
                .master
                .frameworks
                .get(&known.id)
                .filter(|known| known.active)
                .and_then(|known| {
                    known
                        .offers
                        .first()
                        .and_then(|id| world.master.offers.get(id))
                        .cloned()
                })
            else {
                return;
            };
            let name = format!("t{}", model.tasks.len());
            let resources = format!("cpus:{cpus};mem:64");
            world.accept(
                &known,
                &offer,
                vec![task(&name, &offer.agent_id, &resources)],
            );
            model.tasks.push((*framework, name));
        }
        Step::Update { task, state } => {
            let Some((framework, name)) = model.tasks.get(*task).cloned() else {
                return;
            };
            let known = model.frameworks[&framework].clone();
            let Some(record) = world.master.task(&known.id, &name.as_str().into()).cloned() else {
                return;
            };
            let states = [
                TaskState::TaskStarting,
                TaskState::TaskRunning,
                TaskState::TaskFinished,
                TaskState::TaskFailed,
            ];
            let agent = record.agent_id.clone();
            let Some(from) = world
                .master
                .agents
                .get(&agent)
                .map(|agent| agent.pid.clone())
            else {
                return;
            };
            let uuid = world.update(&from, &agent, &known, &name, states[*state]);
            if world.master.frameworks[&known.id].active {
                world.acknowledge(&known, &agent, &name, uuid);
            }
        }
        Step::Decline(index) => decline(world, model, *index),
        Step::Kill(index) => {
            let Some((framework, name)) = model.tasks.get(*index).cloned() else {
                return;
            };
            let known = model.frameworks[&framework].clone();
            if world
                .master
                .frameworks
                .get(&known.id)
                .is_some_and(|known| known.active)
            {
                let kill = call::Kill {
                    task_id: name.into(),
                    ..call::Kill::default()
                };
                world.call(
                    &known,
                    Call {
                        r#type: Some(call::Type::Kill.into()),
                        kill: Some(kill),
                        ..Call::default()
                    },
                );
            }
        }
        Step::Teardown(index) => {
            if let Some(known) = model.frameworks.get(index) {
                let framework_id = known.id.clone();
                world.order(operator::Call {
                    r#type: Some(operator::call::Type::Teardown.into()),
                    teardown: Some(operator::call::Teardown { framework_id }),
                    ..operator::Call::default()
                });
            }
        }
        Step::Pass(seconds) => world.pass(Duration::from_secs(*seconds)),
    }
}

fn decline(world: &mut World, model: &Model, index: usize) {
    let Some(known) = model.frameworks.get(&index).cloned() else {
        return;
    };
    let Some(record) = world
        .master
        .frameworks
        .get(&known.id)
        .filter(|known| known.active)
    else {
        return;
    };
    let offer_ids = record.offers.iter().cloned().collect();
    world.call(
        &known,
        Call {
            r#type: Some(call::Type::Decline.into()),
            decline: Some(call::Decline {
                offer_ids,
                filters: None,
            }),
            ..Call::default()
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_books_are_always_right(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let mut model = Model::default();
        for step in &steps {
            apply(&mut world, &mut model, step);
            world.check();
        }
        // Eventually everything that no task holds is offered to somebody who listens.
        for agent in world.master.agents.keys().cloned().collect::<Vec<_>>() {
            let pid = world.master.agents[&agent].pid.clone();
            world.send(&pid, &dcos_proto::internal::PongSlaveMessage {});
        }
        let listener = world.subscribe(framework("listener"));
        for index in 0..3 {
            decline(&mut world, &model, index);
        }
        world.pass(Duration::from_secs(8));
        world.check();
        let free = world.master.agents.values().filter(|agent| agent.active && agent.used.is_empty());
        for agent in free {
            prop_assert!(!agent.offers.is_empty(), "{} is offered to nobody, {:?}", agent.id(), listener.id);
        }
    }
}

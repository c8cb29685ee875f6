//! Calls to the master; who sends one adds the framework's id.

use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{AgentId, Filters, OfferId, Resource, TaskId, TaskInfo, TaskStatus};
use dcos_proto::scheduler::{Call, call};
use dcos_sched::sdk::operations;

use crate::instance::Instance;
use crate::model::App;
use crate::task::{self, Surroundings};

fn call(kind: call::Type, fill: impl FnOnce(&mut Call)) -> Call {
    let mut call = Call {
        r#type: Some(kind as i32),
        ..Call::default()
    };
    fill(&mut call);
    call
}

fn filters(refuse_seconds: f64) -> Filters {
    Filters {
        refuse_seconds: Some(refuse_seconds),
    }
}

/// Launches a task.
pub fn launch(task: TaskInfo) -> Operation {
    operations::launch(vec![task])
}

/// Launches what `instance` of `spec` consists of, with these resources.
pub fn launch_instance(
    spec: &App,
    instance: &Instance,
    resources: Vec<Resource>,
    surroundings: &Surroundings,
) -> Operation {
    match spec.pod.as_deref() {
        None => launch(task::build(spec, instance, resources, surroundings)),
        Some(pod) => {
            let (executor, tasks) = task::build_pod(spec, pod, instance, resources, surroundings);
            operations::launch_group(executor, tasks)
        }
    }
}

/// Does all of `operations` with an offer, in their order; what is left of it is refused for a while.
pub fn accept(offer: OfferId, operations: Vec<Operation>, refuse_seconds: f64) -> Call {
    let mut together: Vec<Operation> = Vec::new();
    let mut left = operations.len();
    for mut operation in operations {
        left -= 1;
        // Launches that follow each other are one.
        let last = together.last_mut().and_then(|last| last.launch.as_mut());
        match (last, operation.launch.take()) {
            (Some(last), Some(next)) => last.task_infos.extend(next.task_infos),
            (_, launch) => {
                operation.launch = launch;
                if let Some(first) = &mut operation.launch {
                    first.task_infos.reserve(left);
                }
                together.push(operation);
            }
        }
    }
    let accept = call::Accept {
        offer_ids: vec![offer],
        operations: together,
        filters: Some(filters(refuse_seconds)),
    };
    call(call::Type::Accept, |call| call.accept = Some(accept))
}

/// Has no use for offers, nor for their like for a while.
pub fn decline(offers: Vec<OfferId>, refuse_seconds: f64) -> Call {
    let decline = call::Decline {
        offer_ids: offers,
        filters: Some(filters(refuse_seconds)),
    };
    call(call::Type::Decline, |call| call.decline = Some(decline))
}

/// Kills a task.
pub fn kill(task: TaskId, agent: Option<AgentId>) -> Call {
    let kill = call::Kill {
        task_id: task,
        agent_id: agent,
        ..call::Kill::default()
    };
    call(call::Type::Kill, |call| call.kill = Some(kill))
}

/// Kills whatever runs of an instance.
pub fn kill_instance(instance: &Instance) -> Vec<Call> {
    let agent = AgentId::from(instance.agent.id.as_str());
    let tasks = instance.live_tasks();
    tasks
        .map(|task| kill(TaskId::from(task), Some(agent.clone())))
        .collect()
}

/// Confirms a status update; `None` if it wants no confirmation.
pub fn acknowledge(status: &TaskStatus) -> Option<Call> {
    let acknowledge = call::Acknowledge {
        agent_id: status.agent_id.clone()?,
        task_id: status.task_id.clone(),
        uuid: status.uuid.clone()?,
    };
    Some(call(call::Type::Acknowledge, |call| {
        call.acknowledge = Some(acknowledge);
    }))
}

/// Asks how the tasks of `instances` are; without any, how all tasks are that the master knows.
pub fn reconcile<'a>(instances: impl Iterator<Item = &'a Instance>) -> Call {
    let tasks = instances
        .flat_map(|instance| {
            instance.live_tasks().map(|task| call::reconcile::Task {
                task_id: TaskId::from(task),
                agent_id: Some(AgentId::from(instance.agent.id.as_str())),
            })
        })
        .collect();
    call(call::Type::Reconcile, |call| {
        call.reconcile = Some(call::Reconcile { tasks });
    })
}

/// Asks for offers, refused ones included.
pub fn revive() -> Call {
    call(call::Type::Revive, |call| {
        call.revive = Some(call::Revive::default());
    })
}

/// Asks for no more offers.
pub fn suppress() -> Call {
    call(call::Type::Suppress, |call| {
        call.suppress = Some(call::Suppress::default());
    })
}

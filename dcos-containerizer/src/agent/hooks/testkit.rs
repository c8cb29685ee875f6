//! The promises of [`AgentHooks`] as functions.
//!
//! ```
//! use dcos_containerizer::agent::{AgentHooks, hooks::testkit};
//!
//! #[derive(Debug)]
//! struct Nothing;
//!
//! impl AgentHooks for Nothing {}
//!
//! testkit::all(&Nothing);
//! ```

use dcos_core::resources::scalar_resource;
use dcos_proto::mesos::value::{Scalar, Text};
use dcos_proto::mesos::{
    AgentInfo, Attribute, CommandInfo, Environment, ExecutorInfo, FrameworkInfo, Label, Labels,
    Resource, TaskInfo, TaskState, TaskStatus, environment, value,
};

use super::AgentHooks;

/// Runs every promise.
///
/// # Panics
/// If one is broken.
pub fn all(hooks: &dyn AgentHooks) {
    odd_messages_are_borne(hooks);
    the_same_question_gets_the_same_answer(hooks);
    resources_can_be_offered(hooks);
    attributes_have_names(hooks);
    variables_have_names(hooks);
}

/// Messages a hook may meet: from next to nothing to all that frameworks say.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The agent.
    pub agent: AgentInfo,
    /// A framework on it.
    pub framework: FrameworkInfo,
    /// Its executor.
    pub executor: ExecutorInfo,
    /// A task of that.
    pub task: TaskInfo,
    /// What is told of the task.
    pub status: TaskStatus,
}

/// One with empty messages, and one with full ones.
pub fn samples() -> [Sample; 2] {
    [Sample::default(), full()]
}

fn full() -> Sample {
    let labels = Some(Labels {
        labels: [("a", Some("1")), ("a", None), ("", Some("=\0"))]
            .map(|(key, value)| Label {
                key: key.to_owned(),
                value: value.map(ToOwned::to_owned),
            })
            .into(),
    });
    let command = Some(CommandInfo {
        value: Some("sleep 1".to_owned()),
        environment: Some(Environment {
            variables: vec![environment::Variable {
                name: "PATH".to_owned(),
                value: Some("/own".to_owned()),
                ..environment::Variable::default()
            }],
        }),
        ..CommandInfo::default()
    });
    let resources = vec![scalar_resource("cpus", 2.0), scalar_resource("mem", 512.0)];
    Sample {
        agent: AgentInfo {
            hostname: "node".to_owned(),
            id: Some("a1".into()),
            resources: resources.clone(),
            attributes: vec![Attribute {
                name: "rack".to_owned(),
                r#type: value::Type::Text.into(),
                text: Some(Text {
                    value: "r1".to_owned(),
                }),
                ..Attribute::default()
            }],
            ..AgentInfo::default()
        },
        framework: FrameworkInfo {
            id: Some("f".into()),
            name: "kit".to_owned(),
            user: "nobody".to_owned(),
            labels: labels.clone(),
            ..FrameworkInfo::default()
        },
        executor: ExecutorInfo {
            executor_id: "e".into(),
            framework_id: Some("f".into()),
            command: command.clone(),
            resources: resources.clone(),
            labels: labels.clone(),
            ..ExecutorInfo::default()
        },
        task: TaskInfo {
            name: "task".to_owned(),
            task_id: "t".into(),
            agent_id: "a1".into(),
            command,
            resources,
            labels: labels.clone(),
            ..TaskInfo::default()
        },
        status: TaskStatus {
            task_id: "t".into(),
            state: TaskState::TaskRunning.into(),
            labels,
            ..TaskStatus::default()
        },
    }
}

/// Promise 4.
///
/// # Panics
/// If the hook does.
pub fn odd_messages_are_borne(hooks: &dyn AgentHooks) {
    for sample in samples() {
        drop(answers(hooks, &sample));
        hooks.executor_removed(&sample.framework, &sample.executor);
    }
}

/// Promise 2, also after an executor is gone.
///
/// # Panics
/// If it is broken.
pub fn the_same_question_gets_the_same_answer(hooks: &dyn AgentHooks) {
    for sample in samples() {
        let before = answers(hooks, &sample);
        hooks.executor_removed(&sample.framework, &sample.executor);
        assert_eq!(answers(hooks, &sample), before, "an answer changed");
    }
}

/// Each resource has a name and an amount, and is not allocated to anybody yet.
///
/// # Panics
/// If one is not so.
pub fn resources_can_be_offered(hooks: &dyn AgentHooks) {
    let amount = |scalar: &Scalar| scalar.value.is_finite() && scalar.value >= 0.0;
    let fits = |resource: &Resource| {
        let is_allocated = resource.allocation_info.is_some();
        !resource.name.is_empty() && !is_allocated && resource.scalar.as_ref().is_none_or(amount)
    };
    for sample in samples() {
        for resource in hooks.resources(&sample.agent).into_iter().flatten() {
            assert!(fits(&resource), "it can't be offered: {resource:?}");
        }
    }
}

/// Each attribute can be named in a constraint.
///
/// # Panics
/// If one has no name.
pub fn attributes_have_names(hooks: &dyn AgentHooks) {
    for sample in samples() {
        for attribute in hooks.attributes(&sample.agent).into_iter().flatten() {
            assert!(!attribute.name.is_empty(), "no name: {attribute:?}");
        }
    }
}

/// Each variable can be one of a process.
///
/// # Panics
/// If a name or a value cannot be.
pub fn variables_have_names(hooks: &dyn AgentHooks) {
    for sample in samples() {
        let environment = hooks.executor_environment(&sample.executor);
        for variable in environment.into_iter().flat_map(|all| all.variables) {
            let name = &variable.name;
            assert!(
                !name.is_empty() && !name.contains(['=', '\0']),
                "no name of a variable: {name:?}"
            );
            let value = variable.value();
            assert!(!value.contains('\0'), "no value of a variable: {value:?}");
        }
    }
}

/// All a hook says about one sample.
fn answers(hooks: &dyn AgentHooks, sample: &Sample) -> impl PartialEq + std::fmt::Debug + use<> {
    let Sample {
        agent,
        framework,
        executor,
        task,
        status,
    } = sample;
    let id = framework.id.clone().unwrap_or_default();
    (
        hooks.resources(agent),
        hooks.attributes(agent),
        hooks.task_labels(task, executor, framework, agent),
        hooks.executor_environment(executor),
        hooks.task_status(&id, status),
    )
}

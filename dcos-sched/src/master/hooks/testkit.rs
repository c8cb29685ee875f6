//! The promises of [`MasterHooks`] as functions.
//!
//! ```
//! use dcos_sched::master::{MasterHooks, hooks::testkit};
//!
//! #[derive(Debug)]
//! struct Nothing;
//!
//! impl MasterHooks for Nothing {}
//!
//! testkit::all(&Nothing);
//! ```

use dcos_core::resources::{Resources, scalar_resource};
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{
    AgentInfo, CommandInfo, FrameworkInfo, Label, Labels, Resource, TaskInfo,
    resource::AllocationInfo,
};

use super::MasterHooks;

/// Runs every promise.
///
/// # Panics
/// If one is broken.
pub fn all(hooks: &dyn MasterHooks) {
    odd_messages_are_borne(hooks);
    the_same_question_gets_the_same_answer(hooks);
    resources_can_be_checked(hooks);
}

/// Messages a hook may meet.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// An agent.
    pub agent: AgentInfo,
    /// What it has in all.
    pub total: Resources,
    /// A framework that launches something there.
    pub framework: FrameworkInfo,
    /// The task.
    pub task: TaskInfo,
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
    let given = |name: &str, amount: f64| Resource {
        allocation_info: Some(AllocationInfo {
            role: Some("web".to_owned()),
        }),
        ..scalar_resource(name, amount)
    };
    let total = vec![scalar_resource("cpus", 8.0), scalar_resource("mem", 4096.0)];
    Sample {
        total: Resources::from(&total),
        agent: AgentInfo {
            hostname: "node".to_owned(),
            id: Some("a1".into()),
            resources: total,
            ..AgentInfo::default()
        },
        framework: FrameworkInfo {
            id: Some("f".into()),
            name: "kit".to_owned(),
            user: "nobody".to_owned(),
            roles: vec!["web".to_owned()],
            labels: labels.clone(),
            ..FrameworkInfo::default()
        },
        task: TaskInfo {
            name: "task".to_owned(),
            task_id: "t".into(),
            agent_id: "a1".into(),
            command: Some(CommandInfo {
                value: Some("sleep 1".to_owned()),
                ..CommandInfo::default()
            }),
            resources: vec![given("cpus", 2.0), given("mem", 512.0)],
            labels,
            ..TaskInfo::default()
        },
    }
}

/// Nothing that frameworks and agents say makes the hook panic, which would end the master.
///
/// # Panics
/// If the hook does.
pub fn odd_messages_are_borne(hooks: &dyn MasterHooks) {
    for sample in samples() {
        drop(answers(hooks, &sample));
        hooks.agent_lost(&sample.agent);
    }
}

/// Promise 2, also after an agent is lost.
///
/// # Panics
/// If it is broken.
pub fn the_same_question_gets_the_same_answer(hooks: &dyn MasterHooks) {
    for sample in samples() {
        let before = answers(hooks, &sample);
        hooks.agent_lost(&sample.agent);
        assert_eq!(answers(hooks, &sample), before, "an answer changed");
    }
}

/// Each resource has a name and an amount, and those of a task that were allocated to a role still are: without, the
/// master refuses them.
///
/// # Panics
/// If one is not so.
pub fn resources_can_be_checked(hooks: &dyn MasterHooks) {
    let amount = |scalar: &Scalar| scalar.value.is_finite() && scalar.value >= 0.0;
    for sample in samples() {
        let allocated = sample.task.resources.iter();
        let allocated = allocated.map(|resource| resource.allocation_info.is_some());
        let allocated = allocated.min().unwrap_or(false);
        let given = hooks.task_resources(&sample.task, &sample.total);
        for resource in given.into_iter().flatten() {
            let kept = resource.allocation_info.is_some() == allocated;
            let sound = !resource.name.is_empty() && resource.scalar.as_ref().is_none_or(amount);
            assert!(kept && sound, "the master refuses {resource:?}");
        }
    }
}

/// All a hook says about one sample.
fn answers(hooks: &dyn MasterHooks, sample: &Sample) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        hooks.task_resources(&sample.task, &sample.total),
        hooks.task_labels(&sample.task, &sample.framework, &sample.agent),
    )
}

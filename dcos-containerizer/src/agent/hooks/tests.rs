//! The kit bites, and hooks see what those before them left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use dcos_core::resources::scalar_resource;
use dcos_proto::mesos::{Label, environment, resource::AllocationInfo};

use super::*;

/// Breaks one promise.
#[derive(Debug)]
enum Broken {
    Fickle(AtomicUsize),
    Fragile,
    Allocated,
    Nameless,
    NamelessVariable,
}

fn labels(key: &str) -> Labels {
    Labels {
        labels: vec![Label {
            key: key.to_owned(),
            value: None,
        }],
    }
}

fn variable(name: &str, value: &str) -> environment::Variable {
    environment::Variable {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..environment::Variable::default()
    }
}

impl AgentHooks for Broken {
    fn resources(&self, _: &AgentInfo) -> Option<Vec<Resource>> {
        let mut resource = scalar_resource("cpus", 1.0);
        resource.allocation_info = Some(AllocationInfo::default());
        matches!(self, Self::Allocated).then(|| vec![resource])
    }

    fn attributes(&self, _: &AgentInfo) -> Option<Vec<Attribute>> {
        matches!(self, Self::Nameless).then(|| vec![Attribute::default()])
    }

    fn executor_environment(&self, _: &ExecutorInfo) -> Option<Environment> {
        matches!(self, Self::NamelessVariable).then(|| Environment {
            variables: vec![variable("A=B", "c")],
        })
    }

    fn task_status(&self, _: &FrameworkId, status: &TaskStatus) -> StatusChange {
        let labels = match self {
            Self::Fickle(asked) => Some(labels(&asked.fetch_add(1, Ordering::Relaxed).to_string())),
            Self::Fragile => {
                assert!(status.labels.is_some());
                None
            }
            _ => None,
        };
        StatusChange {
            labels,
            ..StatusChange::default()
        }
    }
}

#[test]
fn the_kit_rejects_whoever_breaks_a_promise() {
    for broken in [
        Broken::Fickle(AtomicUsize::new(0)),
        Broken::Fragile,
        Broken::Allocated,
        Broken::Nameless,
        Broken::NamelessVariable,
    ] {
        let tried = catch_unwind(AssertUnwindSafe(|| testkit::all(&broken)));
        assert!(tried.is_err(), "{broken:?} passes");
    }
}

/// Adds its name to whatever it is shown.
#[derive(Debug)]
struct Signs(&'static str);

impl AgentHooks for Signs {
    fn resources(&self, agent: &AgentInfo) -> Option<Vec<Resource>> {
        let mut all = agent.resources.clone();
        all.push(scalar_resource(self.0, 1.0));
        Some(all)
    }

    fn attributes(&self, agent: &AgentInfo) -> Option<Vec<Attribute>> {
        let mut all = agent.attributes.clone();
        all.push(Attribute {
            name: format!("{} of {}", self.0, agent.resources.len()),
            ..Attribute::default()
        });
        Some(all)
    }

    fn executor_environment(&self, executor: &ExecutorInfo) -> Option<Environment> {
        let command = executor.command.clone().unwrap_or_default();
        let mut all = command.environment.unwrap_or_default();
        let so_far = all.variables.last().map_or("", |last| last.value());
        all.variables
            .push(variable("SIGNED", &format!("{so_far}{}", self.0)));
        Some(all)
    }

    fn task_status(&self, _: &FrameworkId, status: &TaskStatus) -> StatusChange {
        let mut all = status.labels.clone().unwrap_or_default();
        all.labels.extend(labels(self.0).labels);
        StatusChange {
            labels: Some(all),
            ..StatusChange::default()
        }
    }
}

#[test]
fn each_hook_sees_what_those_before_it_left() {
    let hooks: Hooks = ["one", "two"]
        .map(|name| Arc::new(Signs(name)) as Arc<dyn AgentHooks>)
        .into_iter()
        .collect();
    testkit::all(&Signs("one"));
    let mut agent = AgentInfo::default();
    hooks.decorate_agent(&mut agent);
    let named = agent.resources.iter().map(|resource| &*resource.name);
    assert_eq!(named.collect::<Vec<_>>(), ["one", "two"]);
    let named = agent.attributes.iter().map(|attribute| &*attribute.name);
    assert_eq!(named.collect::<Vec<_>>(), ["one of 2", "two of 2"]);
    let variables = hooks.environment(&ExecutorInfo::default());
    assert_eq!(variables["SIGNED"], "onetwo");
    let mut status = TaskStatus::default();
    hooks.decorate_status(&"f".into(), &mut status);
    let labels = status.labels.unwrap_or_default().labels;
    let keys = labels.iter().map(|label| &*label.key);
    assert_eq!(keys.collect::<Vec<_>>(), ["one", "two"]);
}

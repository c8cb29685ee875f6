//! What hooks add to launches, and what they hear.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_proto::internal::RunTaskMessage;
use dcos_proto::mesos::{AgentInfo, FrameworkInfo, Label, Labels, Resource, TaskInfo, TaskState};

use super::super::MasterHooks;
use super::super::hooks::testkit;
use super::{World, framework};

const PID: &str = "slave(1)@10.0.0.1:5051";

/// Doubles memory, adds a label, remembers losses.
#[derive(Debug, Default)]
struct Curious {
    name: &'static str,
    lost: Mutex<Vec<String>>,
}

impl MasterHooks for Curious {
    fn task_resources(&self, task: &TaskInfo, total: &Resources) -> Option<Vec<Resource>> {
        let _ = total;
        let mut resources = task.resources.clone();
        for resource in resources
            .iter_mut()
            .filter(|resource| resource.name == "mem")
        {
            if let Some(scalar) = &mut resource.scalar {
                scalar.value *= 2.0;
            }
        }
        Some(resources)
    }

    fn task_labels(
        &self,
        task: &TaskInfo,
        framework: &FrameworkInfo,
        agent: &AgentInfo,
    ) -> Option<Labels> {
        let mut labels = task.labels.clone().unwrap_or_default();
        labels.labels.push(Label {
            key: self.name.to_owned(),
            value: Some(format!("{} on {}", framework.name, agent.hostname)),
        });
        Some(labels)
    }

    fn agent_lost(&self, agent: &AgentInfo) {
        let mut lost = self.lost.lock().expect("no test panics with it");
        lost.push(agent.hostname.clone());
    }
}

/// Breaks one promise of hooks.
#[derive(Debug)]
enum Broken {
    Fickle(AtomicU64),
    Fragile,
    Unallocated,
}

impl MasterHooks for Broken {
    fn task_resources(&self, task: &TaskInfo, _: &Resources) -> Option<Vec<Resource>> {
        let mut resources = task.resources.clone();
        for resource in &mut resources {
            resource.allocation_info = None;
        }
        matches!(self, Self::Unallocated).then_some(resources)
    }

    fn task_labels(&self, task: &TaskInfo, _: &FrameworkInfo, _: &AgentInfo) -> Option<Labels> {
        match self {
            Self::Fickle(asked) => {
                let key = asked.fetch_add(1, Ordering::Relaxed).to_string();
                let label = Label { key, value: None };
                Some(Labels {
                    labels: vec![label],
                })
            }
            Self::Fragile => task
                .labels
                .clone()
                .map(Some)
                .expect("all tasks have labels"),
            Self::Unallocated => None,
        }
    }
}

#[test]
fn the_kit_rejects_whoever_breaks_a_promise() {
    for broken in [
        Broken::Fickle(AtomicU64::new(0)),
        Broken::Fragile,
        Broken::Unallocated,
    ] {
        let tried = catch_unwind(AssertUnwindSafe(|| testkit::all(&broken)));
        assert!(tried.is_err(), "{broken:?} passes");
    }
    testkit::all(&Curious::default());
}

#[test]
fn hooks_shape_launches_and_hear_of_lost_agents() {
    let named = |name| {
        Arc::new(Curious {
            name,
            ..Curious::default()
        })
    };
    let (first, second) = (named("first"), named("second"));
    let hooks: Vec<Arc<dyn MasterHooks>> = vec![first.clone(), second.clone()];
    let mut world = World::with(BTreeMap::new(), 1, |settings| settings.hooks = hooks);
    let agent = world.agent(PID, "cpus:4;mem:1024");
    let one = world.subscribe(framework("one"));
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    let mut runs: Vec<RunTaskMessage> = world.received(PID);
    let run = runs.pop().expect("the task is sent");
    let labels = run.task.labels.expect("hooks gave some").labels;
    let keys: Vec<&str> = labels.iter().map(|label| &*label.key).collect();
    assert_eq!(keys, ["first", "second"]);
    let hostname = &world.master.agents[&agent].info.hostname;
    let expected = format!("one on {hostname}");
    assert_eq!(labels[0].value.as_deref(), Some(&*expected));
    // Each doubled what it saw, and the books know.
    let task = &world.master.frameworks[&one.id].tasks[&"t".into()];
    assert_eq!(Resources::from(&task.resources).mem(), Some(256.0));
    assert_eq!(task.labels, None);

    // What a hook gives is no gift: there is not as much.
    world.launch(&one, &[("large", "cpus:1;mem:512")]);
    let events = world.take(&one);
    let updates = events.iter().filter_map(|event| event.update.as_ref());
    let states: Vec<TaskState> = updates.map(|update| update.status.state()).collect();
    assert_eq!(states, [TaskState::TaskError]);

    world.pass(Duration::from_secs(200));
    for hook in [first, second] {
        assert_eq!(hook.lost.lock().expect("nobody panicked").len(), 1);
    }
}

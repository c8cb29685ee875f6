//! What hooks change of tasks that run, and what they hear.

use std::sync::{Arc, Mutex};

use super::*;

/// Labels tasks and statuses, gives executors a variable, remembers who left.
#[derive(Debug, Default)]
struct Curious {
    left: Mutex<Vec<String>>,
}

fn labelled(text: String) -> Labels {
    let label = Label {
        key: "hook".to_owned(),
        value: Some(text),
    };
    Labels {
        labels: vec![label],
    }
}

impl AgentHooks for Curious {
    fn task_labels(
        &self,
        task: &TaskInfo,
        executor: &ExecutorInfo,
        framework: &FrameworkInfo,
        agent: &AgentInfo,
    ) -> Option<Labels> {
        let (executor, framework) = (&executor.executor_id, &framework.name);
        let (task, node) = (&task.task_id, &agent.hostname);
        let text = format!("{task} {executor} {framework} {node}");
        Some(labelled(text))
    }

    fn executor_environment(&self, executor: &ExecutorInfo) -> Option<Environment> {
        let own = |name: &str, value: String| environment::Variable {
            name: name.to_owned(),
            value: Some(value),
            ..environment::Variable::default()
        };
        let variables = vec![
            own("WHO", executor.executor_id.value.clone()),
            own("OWN", "the hook's".to_owned()),
        ];
        Some(Environment { variables })
    }

    fn task_status(&self, framework: &FrameworkId, status: &TaskStatus) -> StatusChange {
        StatusChange {
            labels: Some(labelled(format!(
                "{framework} {}",
                status.state().as_str_name()
            ))),
            ..StatusChange::default()
        }
    }

    fn executor_removed(&self, _: &FrameworkInfo, executor: &ExecutorInfo) {
        let mut left = self.left.lock().unwrap();
        left.push(executor.executor_id.value.clone());
    }
}

fn value(labels: Option<&Labels>) -> String {
    labels.unwrap().labels[0].value().to_owned()
}

#[test]
fn tasks_and_statuses_are_decorated_and_ends_are_told() {
    let curious = Arc::new(Curious::default());
    let mut node = Node::registered();
    node.agent.settings.hooks.push(curious.clone());
    let mut message = run_task(task("t"));
    message.framework.name = "hooked".to_owned();
    let variable = environment::Variable {
        name: "OWN".to_owned(),
        value: Some("the task's".to_owned()),
        ..environment::Variable::default()
    };
    let command = message.task.command.as_mut().unwrap();
    command.environment = Some(Environment {
        variables: vec![variable],
    });
    node.told(message);
    let key = node.agent.executors().next().unwrap().key();
    let executor = node.agent.executor(&key).unwrap();
    let config = node.agent.executor_container(executor);
    assert_eq!(config.environment["WHO"], "t");
    assert_eq!(config.environment["OWN"], "the task's");
    let info = &executor.tasks[&"t".into()].info;
    assert_eq!(value(info.labels.as_ref()), "t t hooked node");

    let container = node.launched[0].clone();
    node.runs(&container);
    let mut seen = Vec::new();
    loop {
        let updates = node.updates();
        if updates.is_empty() {
            break;
        }
        for update in updates {
            seen.push(value(update.status.labels.as_ref()));
            node.acknowledge(&update);
        }
    }
    assert_eq!(seen, ["f TASK_STARTING", "f TASK_RUNNING"]);
    assert!(curious.left.lock().unwrap().is_empty());

    // What is written down is what was sent.
    node.crash();
    node.agent.settings.hooks.push(curious.clone());
    let executor = node.agent.executor(&key).unwrap();
    let info = &executor.tasks[&"t".into()].info;
    assert_eq!(value(info.labels.as_ref()), "t t hooked node");
    node.join();
    node.told(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        ..SlaveReregisteredMessage::default()
    });
    node.ends(&container, 0);
    for update in node.updates() {
        assert_eq!(value(update.status.labels.as_ref()), "f TASK_FINISHED");
        node.acknowledge(&update);
    }
    assert_eq!(*curious.left.lock().unwrap(), ["t"]);
}

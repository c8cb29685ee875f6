//! Issues that Mesos 1.11 left open; the table is `dcos-sched/docs/mesos-regressions.md`.

use super::*;

/// An agent that has run many tasks of one framework remembers as many after a restart as before: a bound for each
/// framework, not all there ever were.
#[test]
fn mesos_6285_what_has_ended_takes_no_more_memory_after_a_restart() {
    let mut node = Node::registered();
    let most = 3;
    node.agent.settings.max_completed_executors_per_framework = most;
    node.told(run_task(task("stays")));
    let stays = node.launched[0].clone();
    node.runs(&stays);
    node.acknowledge_all();
    for number in 0..20 {
        node.told(run_task(task(&format!("t{number}"))));
        let container = node.launched.last().unwrap().clone();
        node.runs(&container);
        node.acknowledge_all();
        node.ends(&container, 0);
        node.acknowledge_all();
    }
    let known = |node: &Node| {
        let view = node.agent.view();
        let framework = view.frameworks.first().unwrap();
        (
            framework.executors.len(),
            framework.completed_executors.len(),
        )
    };
    assert_eq!(known(&node), (1, most));
    node.crash_with(|settings| settings.max_completed_executors_per_framework = most);
    assert_eq!(known(&node), (1, most));
}

/// Whatever a restarted agent does about a Docker command task, until it ends, its container keeps the limits that it was
/// made with. (Those of an executor of the user's own follow its tasks, which shows that it would be seen.)
#[test]
fn mesos_8840_a_docker_command_task_keeps_its_limits_over_a_restart() {
    let mut node = Node::registered();
    let image = ContainerInfo {
        r#type: container_info::Type::Docker.into(),
        docker: Some(container_info::DockerInfo {
            image: "alpine".to_owned(),
            ..container_info::DockerInfo::default()
        }),
        ..ContainerInfo::default()
    };
    node.told(run_task(TaskInfo {
        container: Some(image),
        ..task("in-docker")
    }));
    let container = node.launched[0].clone();
    node.runs(&container);
    node.acknowledge_all();
    node.crash();
    node.join();
    node.runs(&container);
    node.told(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        ..SlaveReregisteredMessage::default()
    });
    node.acknowledge_all();
    node.pass(Duration::from_secs(10));
    assert!(node.running.contains(&container) && node.resized.is_empty());
    node.ends(&container, 0);
    assert_eq!(
        node.acknowledge_all(),
        [("in-docker".to_owned(), TaskState::TaskFinished)]
    );
    assert!(node.resized.is_empty(), "{:?}", node.resized);

    node.told(custom_task("one"));
    node.told(custom_task("two"));
    assert_eq!(node.resized, node.launched[1..]);
}

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

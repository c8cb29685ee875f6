//! As whom tasks may run is asked here too, not of the master only.

use std::sync::Arc;

use dcos_security::Acls;

use super::*;

/// An agent on which `ops` may run tasks as `www` only, and others as anybody.
fn guarded() -> Node {
    let rules = r#"{"run_tasks": [
        {"principals": {"values": ["ops"]}, "users": {"values": ["www"]}},
        {"principals": {"values": ["ops"]}, "users": {"type": "NONE"}}]}"#;
    let mut node = Node::registered();
    let acls: Acls = rules.parse().unwrap();
    node.agent.settings.authorizer = Some(Arc::new(acls));
    node
}

fn run_as(user: &str, principal: Option<&str>) -> RunTaskMessage {
    let mut message = run_task(task("t"));
    message.framework.principal = principal.map(ToOwned::to_owned);
    message.framework.user = "www".to_owned();
    message.task.command.as_mut().unwrap().user = Some(user.to_owned());
    message
}

/// What the master was told of tasks.
fn told(node: &mut Node) -> Vec<(TaskState, Reason, String)> {
    let all = std::mem::take(&mut node.to_master).into_iter();
    all.filter_map(|message| match message {
        ToMaster::Update(message) => {
            let status = message.update.status;
            let text = status.message().to_owned();
            Some((status.state(), status.reason(), text))
        }
        _ => None,
    })
    .collect()
}

#[test]
fn a_task_of_a_forbidden_user_is_refused() {
    let mut node = guarded();
    node.told(run_as("root", Some("ops")));
    let (state, reason, text) = told(&mut node).remove(0);
    assert_eq!(
        (state, reason),
        (TaskState::TaskError, Reason::TaskUnauthorized)
    );
    assert!(text.contains("under user 'root'"), "{text}");
    assert!(node.launched.is_empty());
    for (user, principal) in [("www", Some("ops")), ("root", Some("dev")), ("root", None)] {
        let mut node = guarded();
        node.told(run_as(user, principal));
        assert_eq!(node.launched.len(), 1, "{user} {principal:?}");
    }
}

#[test]
fn one_forbidden_task_forbids_its_group() {
    let mut node = guarded();
    let mut message = run_group(&["a", "b"]);
    message.framework.principal = Some("ops".to_owned());
    message.framework.user = "www".to_owned();
    let last = message.task_group.tasks.last_mut().unwrap();
    last.command.as_mut().unwrap().user = Some("root".to_owned());
    node.told(message);
    let reasons: Vec<_> = told(&mut node).into_iter().map(|told| told.1).collect();
    assert_eq!(reasons, [Reason::TaskGroupUnauthorized; 2]);
    assert!(node.launched.is_empty());
}

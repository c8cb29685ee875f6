//! Estimates reach the master; who is preempted hears why.

use super::*;
use crate::oversubscription::QosCorrection;
use dcos_core::resources::scalar_resource;
use dcos_proto::mesos::framework_info::{Capability, capability};
use dcos_proto::mesos::resource::RevocableInfo;

fn revocable(cpus: f64) -> Resource {
    Resource {
        revocable: Some(RevocableInfo {}),
        ..scalar_resource("cpus", cpus)
    }
}

/// What the master was told can be lent, oldest first.
fn estimates(node: &mut Node) -> Vec<f64> {
    let all = std::mem::take(&mut node.to_master).into_iter();
    all.filter_map(|message| match message {
        // Operations are told in the same words.
        ToMaster::UpdateAgent(message) if message.update_oversubscribed_resources == Some(true) => {
            let resources = message.oversubscribed_resources;
            assert!(resources.iter().all(|r| r.revocable.is_some()));
            assert!(resources.iter().all(|r| r.allocation_info.is_none()));
            Some(
                resources
                    .iter()
                    .map(|r| r.scalar.unwrap_or_default().value)
                    .sum(),
            )
        }
        _ => None,
    })
    .collect()
}

fn lent_task(id: &str) -> TaskInfo {
    let mut task = task(id);
    task.resources = vec![Resource {
        allocation_info: Some(resource::AllocationInfo {
            role: Some("r".to_owned()),
        }),
        ..revocable(2.0)
    }];
    task
}

#[test]
fn what_is_lent_and_what_can_be_lent_is_told_once() {
    let mut node = Node::registered();
    node.handle(Input::Oversubscribable(vec![revocable(4.0)]));
    node.handle(Input::Oversubscribable(vec![revocable(4.0)]));
    assert_eq!(estimates(&mut node), [4.0]);
    // A task takes half: the estimator finds less, the sum is the same.
    node.told(run_task(lent_task("t")));
    node.handle(Input::Oversubscribable(vec![revocable(2.0)]));
    assert!(estimates(&mut node).is_empty());
    node.handle(Input::Oversubscribable(vec![]));
    assert_eq!(estimates(&mut node), [2.0]);
}

#[test]
fn a_master_that_knows_nothing_is_told_again() {
    let mut node = Node::registered();
    node.handle(Input::Oversubscribable(vec![revocable(4.0)]));
    node.to_master.clear();
    node.handle(Input::Disconnected(MASTER.to_owned()));
    node.handle(Input::Oversubscribable(vec![revocable(3.0)]));
    assert!(estimates(&mut node).is_empty());
    node.pass(Duration::from_secs(3));
    node.told(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        ..SlaveReregisteredMessage::default()
    });
    assert_eq!(estimates(&mut node), [3.0]);
}

#[test]
fn a_preempted_task_is_gone_or_lost() {
    for (aware, expected) in [(false, TaskState::TaskLost), (true, TaskState::TaskGone)] {
        let mut node = Node::registered();
        let mut message = run_task(lent_task("t"));
        if aware {
            message.framework.capabilities.push(Capability {
                r#type: Some(capability::Type::PartitionAware.into()),
            });
        }
        node.told(message);
        let container = node.launched.last().cloned().unwrap();
        node.handle(Input::Launched(
            container.clone(),
            ContainerStatus::default(),
        ));
        let kill = |container: Option<ContainerId>| {
            Input::Correct(QosCorrection::Kill {
                framework: "f".into(),
                executor: "t".into(),
                container,
            })
        };
        // Another run of it is meant.
        node.handle(kill(Some(ContainerId::root("another"))));
        assert!(!node.destroyed.contains(&container));
        node.handle(kill(Some(container.clone())));
        node.handle(kill(None));
        assert!(node.destroyed.contains(&container));
        node.handle(Input::Ended(container, ContainerTermination::exited(9)));
        let mut last = None;
        loop {
            let updates = node.updates();
            if updates.is_empty() {
                break;
            }
            for update in updates {
                last = Some((update.status.state(), update.status.reason()));
                node.acknowledge(&update);
            }
        }
        assert_eq!(last, Some((expected, Reason::ContainerPreempted)));
    }
}

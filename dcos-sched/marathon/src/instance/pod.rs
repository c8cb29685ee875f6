//! The containers of a pod's instance, and how the instance is if they are so.

use dcos_proto::mesos::TaskStatus;
use serde::{Deserialize, Serialize};

use super::{Condition, Instance, InstanceId, brief, known_addresses};
use crate::Timestamp;
use crate::model::{App, Pod};

/// As many networks of a container as are remembered.
const MOST_NETWORKS: usize = 16;

/// How one container of a pod is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTask {
    /// The container's name.
    pub name: String,
    /// The name of its task.
    pub id: String,
    /// How it is.
    pub condition: Condition,
    /// Since when it is like that.
    pub since: Timestamp,
    /// When it began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Whether it passes its check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// The networks it is on, and its addresses there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Joined>,
    /// How it ended, in the executor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A network a container is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The container's addresses there.
    pub addresses: Vec<String>,
}

/// The tasks of a new instance; none if `app` is not a pod.
pub(super) fn tasks(id: &InstanceId, incarnation: u32, app: &App, now: Timestamp) -> Vec<PodTask> {
    let containers = app.pod.iter().flat_map(|pod| &pod.containers);
    containers
        .map(|container| PodTask {
            name: container.name.clone(),
            id: id.container_task(&container.name, incarnation),
            condition: Condition::Provisioned,
            since: now,
            started_at: None,
            healthy: None,
            networks: Vec::new(),
            message: None,
        })
        .collect()
}

impl Instance {
    /// Takes in what is said of one container; the condition of the whole instance follows.
    pub(crate) fn note_task(
        &mut self,
        now: Timestamp,
        status: &TaskStatus,
        condition: Condition,
    ) -> Condition {
        let id = &status.task_id.value;
        // What is said of a container that somebody saw end is old news, or the same in other words.
        let goes_on = |task: &&mut PodTask| task.id == *id && !task.condition.is_final();
        if let Some(task) = self.tasks.iter_mut().find(goes_on) {
            if task.condition != condition && !condition.precedes(task.condition) {
                (task.condition, task.since) = (condition, now);
            }
            if condition == Condition::Running {
                task.started_at.get_or_insert(now);
            }
            if let Some(networks) = networks(status) {
                task.networks = networks;
            }
            task.healthy = status.healthy.or(task.healthy);
            if condition.is_terminal() {
                task.message = status.message.as_deref().map(brief);
            }
        }
        together(&self.tasks.iter().map(|task| task.condition))
    }

    /// Whether all containers with a check pass it; unknown until each was heard of.
    pub fn pod_health(&self, pod: &Pod) -> Option<bool> {
        let checked = self.tasks.iter().filter(|task| {
            let container = pod.container(&task.name);
            container.is_some_and(|container| container.health_check.is_some())
        });
        let mut all = Some(true);
        for task in checked {
            match task.healthy {
                Some(false) => return Some(false),
                None => all = None,
                Some(true) => {}
            }
        }
        all
    }
}

/// How an instance is whose containers are so. It is over once all are; while some still are, those that failed mean
/// that the others are being ended.
fn together(conditions: &(impl Iterator<Item = Condition> + Clone)) -> Condition {
    const OVER: [Condition; 7] = [
        Condition::Error,
        Condition::Failed,
        Condition::Gone,
        Condition::Dropped,
        Condition::Unknown,
        Condition::Finished,
        Condition::Killed,
    ];
    const ALIVE: [Condition; 6] = [
        Condition::Unreachable,
        Condition::Killing,
        Condition::Provisioned,
        Condition::Staging,
        Condition::Starting,
        Condition::Running,
    ];
    let first = |order: &[Condition]| {
        order
            .iter()
            .copied()
            .find(|condition| conditions.clone().any(|each| each == *condition))
    };
    let Some(alive) = first(&ALIVE) else {
        return first(&OVER).unwrap_or(Condition::Unknown);
    };
    let ending = conditions
        .clone()
        .any(|each| each.is_terminal() && each != Condition::Finished);
    if ending && alive != Condition::Unreachable {
        Condition::Killing
    } else {
        alive
    }
}

fn networks(status: &TaskStatus) -> Option<Vec<Joined>> {
    let networks = &status.container_status.as_ref()?.network_infos;
    let joined = networks.iter().take(MOST_NETWORKS).map(|network| Joined {
        name: network.name.as_deref().map(brief),
        addresses: known_addresses(network.ip_addresses.iter()),
    });
    Some(joined.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_stays_so_whatever_is_repeated() {
        use dcos_proto::mesos::{TaskId, TaskState};
        let app = serde_json::from_value(serde_json::json!({"id": "/a", "cmd": "run"})).unwrap();
        let (id, at) = (
            InstanceId::from("a.instance-1".to_owned()),
            Timestamp::from_millis(1),
        );
        let mut one =
            Instance::launched(id, &app, crate::instance::Agent::default(), Vec::new(), at);
        one.tasks = vec![PodTask {
            name: "c".to_owned(),
            id: "c".to_owned(),
            condition: Condition::Running,
            since: at,
            started_at: None,
            healthy: None,
            networks: Vec::new(),
            message: None,
        }];
        let mut says = |state: TaskState, message: &str, millis| {
            let status = TaskStatus {
                task_id: TaskId::from("c"),
                state: state as i32,
                message: Some(message.to_owned()),
                ..TaskStatus::default()
            };
            let condition = Condition::of(&status);
            one.note_task(Timestamp::from_millis(millis), &status, condition);
            one.tasks.clone()
        };
        // Nobody knew of it for a while.
        says(TaskState::TaskLost, "lost", 2);
        let over = says(TaskState::TaskKilled, "killed", 3);
        assert_eq!(over[0].condition, Condition::Killed);
        for again in [
            TaskState::TaskKilling,
            TaskState::TaskKilled,
            TaskState::TaskGone,
        ] {
            assert_eq!(says(again, "Reconciliation", 4), over);
        }
    }

    #[test]
    fn the_least_far_container_speaks_for_all() {
        use Condition::*;
        let cases: [(&[Condition], Condition); 9] = [
            (&[Running, Running], Running),
            (&[Running, Staging], Staging),
            (&[Starting, Running], Starting),
            (&[Running, Finished], Running),
            (&[Running, Failed], Killing),
            (&[Killed, Failed], Failed),
            (&[Finished, Killed], Finished),
            (&[Finished, Finished], Finished),
            (&[Unreachable, Failed], Unreachable),
        ];
        for (conditions, expected) in cases {
            assert_eq!(
                together(&conditions.iter().copied()),
                expected,
                "{conditions:?}"
            );
        }
    }
}

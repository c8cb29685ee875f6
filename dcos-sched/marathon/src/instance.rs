//! One running copy of an app, and how task states move it.

mod condition;
mod id;
mod pod;
mod reservation;

use std::collections::BTreeMap;
use std::net::IpAddr;

use dcos_proto::mesos::network_info::IpAddress;
use dcos_proto::mesos::{CheckStatusInfo, TaskStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::health::Health;
use crate::model::{App, UnreachableStrategy};
use crate::{PathId, Timestamp};

pub use condition::Condition;
pub use id::{InstanceId, task_instance};
pub use pod::{Joined, PodTask};
pub use reservation::{LocalVolume, Reservation};

/// One running copy of an app; the row of the store, and what readers see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// The app it is a copy of.
    pub app: PathId,
    /// The version of the app it was launched with.
    pub version: Timestamp,
    /// The configuration of the app it was launched with.
    pub config_version: Timestamp,
    /// The role whose resources it uses.
    pub role: String,
    /// What shall become of it.
    pub goal: Goal,
    /// Where it runs.
    pub agent: Agent,
    /// The name of its task.
    pub task_id: String,
    /// How it is.
    pub condition: Condition,
    /// Since when it is like that.
    pub since: Timestamp,
    /// When it was launched.
    pub staged_at: Timestamp,
    /// When its task began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The host's ports it got, one for each port of the app; `None` where it needs none.
    #[serde(default)]
    pub ports: Vec<Option<u16>>,
    /// Addresses of its own.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Its health as the executor reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Whether users want its task killed, whatever takes its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kill: bool,
    /// How it is treated when its agent is out of reach.
    #[serde(default)]
    pub unreachable_strategy: UnreachableStrategy,
    /// What checks found, by their place in the app; not kept, since checking again tells.
    #[serde(skip)]
    pub health: Vec<Health>,
    /// Whether the readiness check passed; not kept either.
    #[serde(skip)]
    pub ready: Option<ReadinessResult>,
    /// What the task's own check reported last, as shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_result: Option<Value>,
    /// How each container is, if it is one of a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<PodTask>,
    /// What is kept for it on its agent, whether it runs or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    /// The version of the tree it was launched under: the order of launches and changes, which clocks do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Timestamp>,
}

/// What shall become of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// It runs.
    Running,
    /// It has no task, but keeps what is reserved for it.
    Stopped,
    /// It goes.
    Decommissioned,
}

/// Where an instance runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// The agent's id.
    pub id: String,
    /// Its host.
    pub host: String,
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its attributes, as constraints see them.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Agent {
    /// The value a constraint's field has here.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "hostname" | "@hostname" => Some(&self.host),
            "@region" => self.region.as_deref(),
            "@zone" => self.zone.as_deref(),
            attribute => self.attributes.get(attribute).map(String::as_str),
        }
    }
}

/// The last answer to a readiness check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadinessResult {
    /// The check.
    pub name: String,
    /// Whether the answer means ready.
    pub ready: bool,
    /// Status, content type and body, if they are to be shown.
    pub last_response: Option<(u16, String, String)>,
}

impl Instance {
    /// A copy of `app` that is launched now, at `agent`.
    pub fn launched(
        id: InstanceId,
        app: &App,
        agent: Agent,
        ports: Vec<Option<u16>>,
        now: Timestamp,
    ) -> Self {
        Self::launched_again(id, 1, app, agent, ports, now)
    }

    /// The same for the `incarnation`th time, on what is kept for it.
    pub(crate) fn launched_again(
        id: InstanceId,
        incarnation: u32,
        app: &App,
        agent: Agent,
        ports: Vec<Option<u16>>,
        now: Timestamp,
    ) -> Self {
        let tasks = pod::tasks(&id, incarnation, app, now);
        Self {
            task_id: tasks
                .first()
                .map_or_else(|| id.task(incarnation), |task| task.id.clone()),
            id,
            app: app.id.clone(),
            version: app.version,
            config_version: app.config_version(),
            role: app.role.clone(),
            goal: Goal::Running,
            agent,
            condition: Condition::Provisioned,
            since: now,
            staged_at: now,
            started_at: None,
            ports,
            addresses: Vec::new(),
            healthy: None,
            kill: false,
            unreachable_strategy: app.unreachable_strategy,
            health: Vec::new(),
            ready: None,
            check_result: None,
            tasks,
            reservation: None,
            tree: None,
        }
    }

    /// The version of the tree it was launched under; where nobody noted that, the moment.
    pub fn launched_under(&self) -> Timestamp {
        self.tree.unwrap_or(self.staged_at)
    }

    /// What is read at `now` was written by another clock, which may have been fast: no moment lies ahead. What is waited
    /// for since such a moment would be waited for until this clock has come to it.
    pub fn told_at(&mut self, now: Timestamp) {
        if self.staged_at > now {
            self.tree.get_or_insert(self.staged_at);
        }
        let own = [&mut self.since, &mut self.staged_at];
        let of_tasks = self.tasks.iter_mut();
        let of_tasks = of_tasks.flat_map(|task| [Some(&mut task.since), task.started_at.as_mut()]);
        let all = own.into_iter().chain(self.started_at.as_mut());
        for moment in all.chain(of_tasks.flatten()) {
            *moment = now.min(*moment);
        }
    }

    /// Takes in what a status tells of the instance, which is in `condition` now.
    pub(crate) fn note(&mut self, now: Timestamp, status: &TaskStatus, condition: Condition) {
        let same_loss = condition == Condition::Unreachable && self.condition.is_unreachable();
        // What is said of one container says so; several together may go back, as when the one that was killed is over.
        let is_old = self.tasks.is_empty() && condition.precedes(self.condition);
        if condition != self.condition && !same_loss && !is_old {
            (self.condition, self.since) = (condition, now);
        }
        if condition == Condition::Running {
            self.started_at.get_or_insert(now);
        }
        let agent = status.agent_id.as_ref();
        if let Some(agent) = agent.filter(|agent| !agent.value.is_empty()) {
            self.agent.id.clone_from(&agent.value);
        }
        self.note_details(status);
    }

    /// Takes in what a status tells beside how the task is: addresses, and what its own check found.
    pub(crate) fn note_details(&mut self, status: &TaskStatus) {
        if let Some(found) = addresses(status) {
            self.addresses = found;
        }
        if let Some(check) = &status.check_status {
            self.check_result = check_result(check);
        }
    }

    /// Its addresses as tasks and events show them.
    pub(crate) fn shown_addresses(&self) -> Vec<Value> {
        let shown = |address: &String| {
            let protocol = if address.contains(':') {
                "IPv6"
            } else {
                "IPv4"
            };
            json!({"ipAddress": address, "protocol": protocol})
        };
        self.addresses.iter().map(shown).collect()
    }

    /// Whether it is not as it was `before`, as far as listeners to statuses are told (what Marathon 1.11's
    /// `Task.updatedHealthOrState` compares, and addresses).
    pub(crate) fn tells_more_than(&self, before: &Self) -> bool {
        self.condition != before.condition
            || self.healthy != before.healthy
            || self.check_result != before.check_result
            || self.addresses != before.addresses
            || self.tasks != before.tasks
    }

    /// The names of its tasks that are not over.
    pub fn live_tasks(&self) -> impl Iterator<Item = &str> {
        let alone = (self.tasks.is_empty() && self.condition != Condition::Reserved)
            .then_some(self.task_id.as_str());
        let of_pod = self
            .tasks
            .iter()
            .filter(|task| !task.condition.is_terminal());
        alone.into_iter().chain(of_pod.map(|task| task.id.as_str()))
    }

    /// Whether `task` is, or was last, a task of this instance.
    pub fn has_task(&self, task: &str) -> bool {
        self.task_id == task || self.tasks.iter().any(|known| known.id == task)
    }

    /// Whether it counts as one of the app's instances.
    pub fn is_active(&self) -> bool {
        self.condition.is_active()
    }

    /// Whether its task is meant to go.
    pub fn is_leaving(&self) -> bool {
        self.goal != Goal::Running
    }

    /// The ports of the host it occupies.
    pub fn host_ports(&self) -> Vec<u16> {
        self.ports.iter().copied().flatten().collect()
    }
}

fn addresses(status: &TaskStatus) -> Option<Vec<String>> {
    let networks = &status.container_status.as_ref()?.network_infos;
    Some(known_addresses(
        networks.iter().flat_map(|network| &network.ip_addresses),
    ))
}

/// What an executor says is bounded before it is stored: a row that the store can't take would end the service, and
/// the same again when states are compared with the master's.
const MOST_ADDRESSES: usize = 64;
const LONGEST_TEXT: usize = 16 << 10;

/// The addresses among what an executor calls so.
pub(crate) fn known_addresses<'a>(told: impl Iterator<Item = &'a IpAddress>) -> Vec<String> {
    told.filter_map(|address| address.ip_address.clone())
        .filter(|address| address.parse::<IpAddr>().is_ok())
        .take(MOST_ADDRESSES)
        .collect()
}

/// As much of a text of an executor as is remembered.
pub(crate) fn brief(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned()
}

fn check_result(status: &CheckStatusInfo) -> Option<Value> {
    if let Some(http) = &status.http {
        return Some(json!({"http": {"statusCode": http.status_code}}));
    }
    if let Some(tcp) = &status.tcp {
        return Some(json!({"tcp": {"succeeded": tcp.succeeded}}));
    }
    let command = status.command.as_ref()?;
    Some(json!({"command": {"exitCode": command.exit_code}}))
}

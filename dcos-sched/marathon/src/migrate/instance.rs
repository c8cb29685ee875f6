//! Instances of the original: documents, with statuses and attributes of agents as encoded messages in them.
//!
//! Source: Marathon 1.11 `state/Instance.scala`, `core/instance/{Instance,Reservation}.scala`, `core/task/Task.scala`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dcos_proto::mesos::{Attribute, TaskStatus};
use serde::Deserialize;
use serde_json::Value;

use crate::instance::{
    Agent, Condition, Goal, Instance, InstanceId, LocalVolume, Reservation, task_instance,
};
use crate::matching::attribute_text;
use crate::model::App;
use crate::{PathId, Timestamp};

/// An instance as the original keeps it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    instance_id: Id,
    #[serde(default)]
    agent_info: Option<AgentInfo>,
    #[serde(default)]
    tasks_map: BTreeMap<String, Task>,
    run_spec_version: Timestamp,
    state: State,
    #[serde(default)]
    reservation: Option<Kept>,
    #[serde(default)]
    role: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Id {
    id_string: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgentInfo {
    host: String,
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    attributes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task_id: String,
    status: Status,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    staged_at: Timestamp,
    #[serde(default)]
    started_at: Option<Timestamp>,
    #[serde(default, rename = "mesosStatus")]
    from_mesos: Option<String>,
    condition: Value,
    #[serde(default)]
    network_info: Option<NetworkInfo>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkInfo {
    #[serde(default)]
    host_ports: Vec<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    condition: Value,
    since: Timestamp,
    #[serde(default)]
    active_since: Option<Timestamp>,
    #[serde(default)]
    healthy: Option<bool>,
    goal: Goal,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    #[serde(default)]
    volume_ids: Vec<VolumeId>,
    state: KeptState,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeId {
    run_spec_id: PathId,
    container_path: String,
    uuid: String,
}

#[derive(Debug, Deserialize)]
struct KeptState {
    name: String,
}

/// How an instance or a task is: a word, or in older documents an object with one; `None` for one that has never
/// been launched.
fn condition(value: &Value) -> Option<Condition> {
    use Condition::{
        Dropped, Error, Failed, Finished, Gone, Killed, Killing, Provisioned, Running, Staging,
        Starting, Unreachable, UnreachableInactive,
    };
    let word = value.as_str().or_else(|| value["str"].as_str());
    let word = word.unwrap_or_default().to_lowercase();
    Some(match word.as_str() {
        "scheduled" => return None,
        "provisioned" => Provisioned,
        "staging" => Staging,
        "starting" => Starting,
        "running" => Running,
        "killing" => Killing,
        "unreachable" => Unreachable,
        "unreachableinactive" => UnreachableInactive,
        "error" => Error,
        "failed" => Failed,
        "finished" => Finished,
        "killed" => Killed,
        "gone" => Gone,
        "dropped" => Dropped,
        _ => Condition::Unknown,
    })
}

impl Stored {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    pub(super) fn id(&self) -> InstanceId {
        InstanceId::from(self.instance_id.id_string.clone())
    }

    pub(super) fn version(&self) -> Timestamp {
        self.run_spec_version
    }

    /// Whether something of it is on an agent: a task, or what is reserved.
    pub(super) fn is_somewhere(&self) -> bool {
        let alive = |condition: Condition| !condition.is_terminal();
        condition(&self.state.condition).is_some_and(alive) || self.reservation.is_some()
    }

    pub(super) fn has_volumes(&self) -> bool {
        let kept = self.reservation.as_ref();
        kept.is_some_and(|kept| !kept.volume_ids.is_empty())
    }

    /// The instance, launched with `spec`; `None` if there is nothing of it anywhere.
    pub(super) fn instance(&self, spec: &App) -> Result<Option<Instance>, String> {
        if !self.is_somewhere() {
            return Ok(None);
        }
        let id = self.id();
        let stranger = |task: &&Task| task_instance(&task.task_id).as_ref() != Some(&id);
        if let Some(task) = self.tasks_map.values().find(stranger) {
            return Err(format!("task {} has a name of another kind", task.task_id));
        }
        let agent = self.agent()?;
        let newest = self.newest();
        let staged = newest.map_or(self.state.since, |task| task.status.staged_at);
        let ports = self.ports(spec);
        let mut instance = Instance::launched(id, spec, agent, ports, staged);
        instance.version = self.run_spec_version;
        instance.config_version = self.config_version(spec);
        instance.role = self.role.clone().unwrap_or_else(|| spec.role.clone());
        instance.goal = self.state.goal;
        instance.since = self.state.since;
        if let Some(task) = newest {
            instance.task_id.clone_from(&task.task_id);
        }
        instance.started_at = self.state.active_since;
        instance.healthy = self.state.healthy;
        self.take_statuses(&mut instance)?;
        let now = condition(&self.state.condition).filter(|now| !now.is_terminal());
        instance.condition = now.unwrap_or(Condition::Reserved);
        instance.reservation = self.reservation.as_ref().map(|kept| Reservation {
            incarnation: newest.map_or(0, |task| incarnation(&task.task_id)),
            confirmed: kept.state.name != "new",
            over: false,
            volumes: kept.volume_ids.iter().map(VolumeId::volume).collect(),
        });
        if instance.condition == Condition::Reserved {
            (instance.started_at, instance.healthy) = (None, None);
            instance.addresses.clear();
        }
        Ok(Some(instance))
    }

    /// Since when its configuration holds. The original drops old versions whatever runs of them, so that `spec` may be
    /// a later one: of an app all versions since the last change of its configuration have the same. For pods nothing
    /// is noted that would tell.
    fn config_version(&self, spec: &App) -> Timestamp {
        let (own, since) = (self.run_spec_version, spec.config_version());
        let same = !spec.is_pod() && since <= own && own <= spec.version;
        if same || own == spec.version {
            since
        } else {
            own
        }
    }

    /// Its task; that of the last life, if it had several.
    fn newest(&self) -> Option<&Task> {
        let tasks = self.tasks_map.values();
        tasks.max_by_key(|task| incarnation(&task.task_id))
    }

    fn agent(&self) -> Result<Agent, String> {
        let Some(info) = &self.agent_info else {
            return Err("no agent is noted".to_owned());
        };
        let mut attributes = BTreeMap::new();
        for text in &info.attributes {
            let attribute: Attribute = message(text)?;
            if let Some(value) = attribute_text(&attribute) {
                attributes.insert(attribute.name, value);
            }
        }
        Ok(Agent {
            id: info.agent_id.clone().unwrap_or_default(),
            host: info.host.clone(),
            region: info.region.clone(),
            zone: info.zone.clone(),
            attributes,
        })
    }

    /// The ports it got, in their places: what is noted are those of the host only.
    fn ports(&self, spec: &App) -> Vec<Option<u16>> {
        let noted = |task: Option<&Task>| {
            let info = task.and_then(|task| task.status.network_info.as_ref());
            let ports = info.map(|info| info.host_ports.clone());
            ports.unwrap_or_default().into_iter()
        };
        let Some(pod) = &spec.pod else {
            let mut noted = noted(self.newest());
            let mappings = spec.port_mappings();
            if mappings.is_empty() {
                return noted.map(Some).collect();
            }
            let mappings = mappings.iter();
            return mappings
                .map(|mapping| mapping.host_port.and_then(|_| noted.next()))
                .collect();
        };
        let mut ports = Vec::new();
        for container in &pod.containers {
            let mut noted = noted(self.task_of(&container.name));
            let endpoints = container.endpoints.iter();
            ports.extend(endpoints.map(|one| one.host_port.and_then(|_| noted.next())));
        }
        ports
    }

    /// The task of a container of a pod.
    fn task_of(&self, container: &str) -> Option<&Task> {
        let own = format!("{}.{container}.", self.instance_id.id_string);
        let of_container = |task: &&Task| format!("{}.", task.task_id).starts_with(&own);
        let tasks = self.tasks_map.values().filter(of_container);
        tasks.max_by_key(|task| incarnation(&task.task_id))
    }

    fn take_statuses(&self, instance: &mut Instance) -> Result<(), String> {
        if instance.tasks.is_empty() {
            let task = self.newest();
            if let Some(text) = task.and_then(|task| task.status.from_mesos.as_ref()) {
                instance.note_details(&message(text)?);
            }
            return Ok(());
        }
        for container in instance.tasks.clone() {
            let Some(task) = self.task_of(&container.name) else {
                continue;
            };
            let places = instance.tasks.iter_mut();
            for place in places.filter(|place| place.name == container.name) {
                place.id.clone_from(&task.task_id);
            }
            let status = task.status.from_mesos.as_deref().map(message::<TaskStatus>);
            let status = status.transpose()?.unwrap_or_default();
            let status = TaskStatus {
                task_id: task.task_id.clone().into(),
                ..status
            };
            let now = condition(&task.status.condition).unwrap_or(Condition::Provisioned);
            let since = task.status.started_at.unwrap_or(task.status.staged_at);
            instance.note_task(since, &status, now);
        }
        Ok(())
    }
}

impl VolumeId {
    fn volume(&self) -> LocalVolume {
        let Self {
            run_spec_id,
            container_path,
            uuid,
        } = self;
        LocalVolume {
            container_path: container_path.clone(),
            uuid: uuid.clone(),
            persistence_id: format!("{}#{container_path}#{uuid}", run_spec_id.safe()),
        }
    }
}

/// Which life of its instance a task is.
fn incarnation(task: &str) -> u32 {
    let last = task.rsplit('.').next();
    last.and_then(|number| number.parse().ok()).unwrap_or(1)
}

fn message<T: prost::Message + Default>(text: &str) -> Result<T, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    T::decode(bytes.as_slice()).map_err(|error| error.to_string())
}

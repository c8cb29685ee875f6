//! [`Snapshot`]: what names are made from, and how it is read from a master's state.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use dcos_proto::master::response;
use dcos_proto::mesos;

use crate::vip::{self, Claim, TaskKey, VipTable};

/// What runs where, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Where the leading master is reached; without one there is nothing new to publish.
    pub leader: Option<SocketAddr>,
    /// All masters, in an order that does not change when the leader does.
    pub masters: Vec<IpAddr>,
    /// The registered agents.
    pub agents: Vec<Agent>,
    /// The registered frameworks.
    pub frameworks: Vec<Framework>,
    /// The running tasks.
    pub tasks: Vec<Task>,
    /// The virtual addresses tasks claim, by task.
    pub claims: Vec<(TaskKey, Vec<Claim>)>,
    /// The agents the leader has only read of, by id: they have not come back to it yet, and it has not given them
    /// up. What runs there it can't tell; see [`Snapshot::after`].
    pub awaited: BTreeSet<String>,
}

/// A working node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Where it is reached.
    pub ip: IpAddr,
    /// Its port there.
    pub port: u16,
}

impl Agent {
    /// The agent `id` at `ip:port`.
    pub fn new(id: impl Into<String>, ip: IpAddr, port: u16) -> Self {
        Self {
            id: id.into(),
            ip,
            port,
        }
    }
}

/// A framework and where its scheduler is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framework {
    /// Its name.
    pub name: String,
    /// The address of its scheduler, if known.
    pub ip: Option<IpAddr>,
    /// The name of its host, if that has to be looked up to know the address.
    pub host: Option<String>,
    /// The port of its driver. Schedulers that speak HTTP have none; the port of their user interface counts, if it
    /// says one.
    pub port: Option<u16>,
}

impl Framework {
    /// What is known of a framework: what it says of itself, and where its driver is, if it has one.
    pub fn new(info: &mesos::FrameworkInfo, driver: Option<SocketAddr>) -> Self {
        let host = info.hostname.as_deref().filter(|host| !host.is_empty());
        let named = host.and_then(|host| host.parse().ok());
        let ip = driver.map(|driver| driver.ip()).or(named);
        let interface = info.webui_url.as_deref().and_then(explicit_port);
        Self {
            name: info.name.clone(),
            ip,
            host: host.filter(|_| ip.is_none()).map(str::to_owned),
            port: driver.map(|driver| driver.port()).or(interface),
        }
    }
}

/// The port that a URL names.
fn explicit_port(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rsplit_once(':')?.1.parse().ok()
}

/// A running task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of its framework.
    pub framework: String,
    /// The id of its agent.
    pub agent_id: String,
    /// The addresses of its container, from `NetworkInfo`; without any it has the agent's.
    pub container_ips: Vec<IpAddr>,
    /// The addresses that status labels of old Docker containerizers tell.
    pub docker_ips: Vec<IpAddr>,
    /// The addresses that status labels of old Mesos containerizers tell.
    pub mesos_ips: Vec<IpAddr>,
    /// Whether ports of the agent are mapped into the container.
    pub port_mapped: bool,
    /// The ports among its resources.
    pub ports: Vec<u16>,
    /// How it wants to be found.
    pub discovery: Option<Discovery>,
}

impl Task {
    /// A task on its agent's network, without ports.
    pub fn new(
        id: impl Into<String>,
        name: impl Into<String>,
        framework: impl Into<String>,
        agent_id: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            framework: framework.into(),
            agent_id: agent_id.into(),
            container_ips: Vec::new(),
            docker_ips: Vec::new(),
            mesos_ips: Vec::new(),
            port_mapped: false,
            ports: Vec::new(),
            discovery: None,
        }
    }

    /// What it is called in DNS: the discovery name if it has one.
    pub fn service_name(&self) -> &str {
        self.discovery
            .as_ref()
            .map_or(&self.name, |discovery| &discovery.name)
    }
}

/// How a task wants to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Under this name.
    pub name: String,
    /// At these ports.
    pub ports: Vec<Port>,
    /// What it says of itself: `environment=`, `location=` and `version=`, as far as it does.
    pub about: Vec<String>,
}

/// A port a task offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Its name, or nothing.
    pub name: String,
    /// `tcp` or `udp`; nothing means both.
    pub protocol: String,
}

/// Where the containerizers of Mesos before 0.25 told addresses.
const DOCKER_LABEL: &str = "Docker.NetworkSettings.IPAddress";
const MESOS_LABEL: &str = "MesosContainerizer.NetworkSettings.IPAddress";

impl Snapshot {
    /// Reads what a master answers to `GET_STATE`.
    ///
    /// What cannot be understood (an agent without a usable address, a port above 65535) is left
    /// out: names of the others must not depend on it. Host names are not looked up.
    pub fn read(
        state: &response::GetState,
        leader: Option<SocketAddr>,
        masters: Vec<IpAddr>,
    ) -> Self {
        let frameworks = state
            .get_frameworks
            .iter()
            .flat_map(|frameworks| &frameworks.frameworks);
        let agents = state.get_agents.iter().flat_map(|agents| &agents.agents);
        let tasks = state.get_tasks.iter().flat_map(|tasks| &tasks.tasks);
        Self::collect(
            leader,
            masters,
            agents.filter_map(|agent| {
                let address = agent.pid.as_deref().and_then(pid_address)?;
                let id = agent.agent_info.id.as_ref()?;
                Some(Agent::new(&*id.value, address.ip(), address.port()))
            }),
            frameworks.map(|framework| (&framework.framework_info, None)),
            tasks,
        )
        .awaiting(state.get_agents.iter().flat_map(|agents| {
            let recovered = agents.recovered_agents.iter();
            recovered.filter_map(|info| Some(info.id.as_ref()?.value.clone()))
        }))
    }

    /// The same, and these agents are [awaited](Self::awaited).
    #[must_use]
    pub fn awaiting(mut self, agents: impl IntoIterator<Item = String>) -> Self {
        self.awaited.extend(agents);
        self
    }

    /// The same with what `former`, published before, said of the agents that are awaited: after a failover names
    /// stay until their agents are back or given up. A framework that is not back yet keeps its own name as long as
    /// there is any such agent.
    ///
    /// No clock is asked: how long a leader awaits agents is its own affair (`--agent_reregister_timeout`).
    #[must_use]
    pub fn after(mut self, former: &Self) -> Self {
        if self.awaited.is_empty() {
            return self;
        }
        let there: BTreeSet<&str> = self.agents.iter().map(|agent| &*agent.id).collect();
        let absent = |id: &str| self.awaited.contains(id) && !there.contains(id);
        let agents: Vec<Agent> = former
            .agents
            .iter()
            .filter(|agent| absent(&agent.id))
            .cloned()
            .collect();
        let tasks: Vec<Task> = former
            .tasks
            .iter()
            .filter(|task| absent(&task.agent_id))
            .cloned()
            .collect();
        let named: BTreeSet<&str> = self
            .frameworks
            .iter()
            .map(|framework| &*framework.name)
            .collect();
        let frameworks = former
            .frameworks
            .iter()
            .filter(|framework| !named.contains(&*framework.name));
        let frameworks: Vec<Framework> = frameworks.cloned().collect();
        let ips: BTreeSet<IpAddr> = agents.iter().map(|agent| agent.ip).collect();
        let told: BTreeSet<&TaskKey> = self.claims.iter().map(|(task, _)| task).collect();
        let claims = former.claims.iter().filter(|(task, claims)| {
            !told.contains(task)
                && claims
                    .iter()
                    .any(|claim| ips.contains(&claim.backend.agent))
        });
        let claims: Vec<_> = claims.cloned().collect();
        self.agents.extend(agents);
        self.tasks.extend(tasks);
        self.frameworks.extend(frameworks);
        self.claims.extend(claims);
        self
    }

    /// Whether what is not in here is not there: a master leads, and each agent it awaits has been heard of before.
    /// Otherwise tasks may run that nobody has told of.
    pub fn is_whole(&self) -> bool {
        let there: BTreeSet<&str> = self.agents.iter().map(|agent| &*agent.id).collect();
        let mut awaited = self.awaited.iter();
        self.leader.is_some() && awaited.all(|id| there.contains(id.as_str()))
    }

    /// The virtual addresses, as every node has them. Addresses of nodes are reserved.
    pub fn vips(&self) -> VipTable {
        let leader = self.leader.iter().map(SocketAddr::ip);
        let mut table = VipTable::new(leader.chain(self.masters.iter().copied()));
        for agent in &self.agents {
            table.reserve(agent.ip);
        }
        for (task, claims) in &self.claims {
            table.set(task.clone(), claims.clone());
        }
        table
    }

    /// Puts together a snapshot from a master's own types. Beside a framework stands where its driver is, which the
    /// operator API does not tell.
    pub fn collect<'a>(
        leader: Option<SocketAddr>,
        masters: Vec<IpAddr>,
        agents: impl IntoIterator<Item = Agent>,
        frameworks: impl IntoIterator<Item = (&'a mesos::FrameworkInfo, Option<SocketAddr>)>,
        tasks: impl IntoIterator<Item: Borrow<mesos::Task>>,
    ) -> Self {
        let agents: Vec<Agent> = agents.into_iter().collect();
        let places: BTreeMap<&str, IpAddr> = agents
            .iter()
            .map(|agent| (agent.id.as_str(), agent.ip))
            .collect();
        let mut names = BTreeMap::new();
        let mut read = Vec::new();
        for (info, driver) in frameworks {
            if let Some(id) = &info.id {
                names.insert(id.value.as_str(), info.name.as_str());
            }
            read.push(Framework::new(info, driver));
        }
        let (mut running, mut claims) = (Vec::new(), Vec::new());
        for task in tasks {
            let task: &mesos::Task = task.borrow();
            let Some(framework) = names.get(task.framework_id.value.as_str()) else {
                continue;
            };
            if task.state() == mesos::TaskState::TaskRunning {
                running.push(read_task(task, framework));
            }
            if let Some(agent) = places.get(task.agent_id.value.as_str())
                && vip::declares(task)
            {
                let claimed = vip::claims(task, framework, *agent);
                let id = (task.framework_id.value.clone(), task.task_id.value.clone());
                claims.push((id, claimed));
            }
        }
        Self {
            leader,
            masters,
            tasks: running,
            frameworks: read,
            claims,
            agents,
            awaited: BTreeSet::new(),
        }
    }
}

/// The address in a libprocess id such as `slave(1)@10.0.0.7:5051`.
fn pid_address(pid: &str) -> Option<SocketAddr> {
    pid.split_once('@')?.1.parse().ok()
}

fn read_task(task: &mesos::Task, framework: &str) -> Task {
    // A master does not promise the order of statuses.
    let running = task
        .statuses
        .iter()
        .filter(|status| status.state() == mesos::TaskState::TaskRunning)
        .max_by(|one, other| one.timestamp().total_cmp(&other.timestamp()));
    let infos: Vec<&mesos::NetworkInfo> = running
        .and_then(|status| status.container_status.as_ref())
        .map(|status| status.network_infos.iter().collect())
        .unwrap_or_default();
    let labelled = |key: &str| {
        let labels = running.and_then(|status| status.labels.as_ref());
        let labels = labels
            .map(|labels| labels.labels.as_slice())
            .unwrap_or_default();
        let of_key = labels.iter().filter(|label| label.key == key);
        of_key
            .filter_map(|label| label.value.as_deref()?.parse().ok())
            .collect()
    };
    Task {
        container_ips: infos
            .iter()
            .flat_map(|info| &info.ip_addresses)
            .filter_map(|address| address.ip_address.as_deref()?.parse().ok())
            .collect(),
        docker_ips: labelled(DOCKER_LABEL),
        mesos_ips: labelled(MESOS_LABEL),
        port_mapped: has_port_mappings(task, &infos),
        ports: task
            .resources
            .iter()
            .filter(|resource| resource.name == "ports")
            .flat_map(ports)
            .collect(),
        discovery: task.discovery.as_deref().and_then(read_discovery),
        ..Task::new(
            &*task.task_id.value,
            &*task.name,
            framework,
            &*task.agent_id.value,
        )
    }
}

fn has_port_mappings(task: &mesos::Task, infos: &[&mesos::NetworkInfo]) -> bool {
    let container = task.container.as_ref();
    let docker = container.and_then(|container| container.docker.as_ref());
    let wanted = container
        .map(|container| container.network_infos.as_slice())
        .unwrap_or_default();
    docker.is_some_and(|docker| !docker.port_mappings.is_empty())
        || wanted
            .iter()
            .chain(infos.iter().copied())
            .any(|info| !info.port_mappings.is_empty())
}

fn ports(resource: &mesos::Resource) -> impl Iterator<Item = u16> {
    let ranges = resource.ranges.iter().flat_map(|ranges| &ranges.range);
    ranges
        .flat_map(|range| range.begin.min(65_536)..=range.end.min(65_535))
        .filter_map(|port| u16::try_from(port).ok())
}

fn read_discovery(discovery: &mesos::DiscoveryInfo) -> Option<Discovery> {
    // As in Mesos-DNS, a discovery without a name is none.
    let name = discovery.name.clone().filter(|name| !name.is_empty())?;
    let ports = discovery
        .ports
        .iter()
        .flat_map(|ports| &ports.ports)
        .filter_map(|port| {
            Some(Port {
                number: u16::try_from(port.number).ok()?,
                name: port.name.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_default(),
            })
        });
    let about = [
        ("environment", &discovery.environment),
        ("location", &discovery.location),
        ("version", &discovery.version),
    ];
    let about = about
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
    Some(Discovery {
        name,
        ports: ports.collect(),
        about: about.collect(),
    })
}

#[cfg(test)]
mod tests {
    use dcos_proto::json::{self, Dialect};

    use super::*;

    #[test]
    fn a_masters_state_is_read() {
        let state = r#"{
          "get_agents": {"agents": [
            {"agent_info": {"id": {"value": "a-S0"}, "hostname": "h"}, "active": true,
             "version": "1.11.0", "pid": "slave(1)@10.0.1.1:5051"},
            {"agent_info": {"id": {"value": "a-S1"}, "hostname": "h"}, "active": true,
             "version": "1.11.0", "pid": "nonsense"}]},
          "get_frameworks": {"frameworks": [
            {"framework_info": {"id": {"value": "f"}, "user": "root", "name": "marathon",
             "hostname": "10.0.0.1"}, "active": true, "connected": true, "recovered": false}]},
          "get_tasks": {"tasks": [
            {"name": "web", "task_id": {"value": "web.1"}, "framework_id": {"value": "f"},
             "agent_id": {"value": "a-S0"}, "state": "TASK_RUNNING",
             "resources": [{"name": "ports", "type": "RANGES",
               "ranges": {"range": [{"begin": 31000, "end": 31001}, {"begin": 70000, "end": 80000}]}}],
             "discovery": {"visibility": "CLUSTER", "name": "web", "version": "1.2",
               "ports": {"ports": [{"number": 80, "name": "http", "protocol": "tcp"}]}},
             "statuses": [
               {"task_id": {"value": "web.1"}, "state": "TASK_RUNNING", "timestamp": 2.0,
                "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": "9.0.0.5"}]}]}},
               {"task_id": {"value": "web.1"}, "state": "TASK_RUNNING", "timestamp": 1.0,
                "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": "9.0.0.4"}]}]}}]},
            {"name": "new", "task_id": {"value": "new.1"}, "framework_id": {"value": "f"},
             "agent_id": {"value": "a-S0"}, "state": "TASK_STAGING"}]}}"#;
        let state: response::GetState = json::from_slice(state.as_bytes(), Dialect::V1).unwrap();
        let snapshot = Snapshot::read(&state, None, Vec::new());
        let task = Task {
            container_ips: vec!["9.0.0.5".parse().unwrap()],
            ports: vec![31_000, 31_001],
            discovery: Some(Discovery {
                name: "web".into(),
                ports: vec![Port {
                    number: 80,
                    name: "http".into(),
                    protocol: "tcp".into(),
                }],
                about: vec!["version=1.2".into()],
            }),
            ..Task::new("web.1", "web", "marathon", "a-S0")
        };
        let ip = Some("10.0.0.1".parse().unwrap());
        assert_eq!(
            snapshot,
            Snapshot {
                agents: vec![Agent::new("a-S0", "10.0.1.1".parse().unwrap(), 5051)],
                frameworks: vec![Framework {
                    name: "marathon".into(),
                    ip,
                    host: None,
                    port: None
                }],
                tasks: vec![task],
                ..Snapshot::default()
            }
        );
    }

    #[test]
    fn a_framework_is_where_its_driver_is_or_else_where_it_says() {
        let driver = "10.0.0.9:15101".parse().ok();
        for (hostname, webui, driver, found) in [
            ("10.0.0.1", "", None, "10.0.0.1 - -"),
            ("m1.example", "", None, "- m1.example -"),
            (
                "m1.example",
                "http://m1.example:8080/ui",
                driver,
                "10.0.0.9 - 15101",
            ),
            (
                "fd00::1",
                "https://[fd00::1]:8443?a=b:1",
                None,
                "fd00::1 - 8443",
            ),
            ("", "http://m1.example/", None, "- - -"),
        ] {
            let info = mesos::FrameworkInfo {
                hostname: Some(hostname.to_owned()),
                webui_url: Some(webui.to_owned()),
                ..mesos::FrameworkInfo::default()
            };
            let framework = Framework::new(&info, driver);
            let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let (ip, port) = (framework.ip, framework.port);
            let told = [
                or(ip.map(|ip| ip.to_string())),
                or(framework.host),
                or(port.map(|port| port.to_string())),
            ];
            assert_eq!(told.join(" "), found, "{hostname} {webui}");
        }
    }
}

//! What ports a task has, put together from the three places that speak of them.
//!
//! Source: dcos-net `dcos_net_mesos_listener:handle_task_ports`.

use dcos_proto::mesos;

use super::Protocol;

/// A port of a task: inside its container, on its node, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskPort {
    pub(super) protocol: Protocol,
    /// In the container.
    pub(super) inner: Option<u16>,
    /// On the node.
    pub(super) outer: Option<u16>,
    /// The values of its VIP labels.
    pub(super) vips: Vec<String>,
}

impl TaskPort {
    fn is(&self, other: &Self) -> bool {
        let same = |one: Option<u16>, other| one.is_some() && one == other;
        self.protocol == other.protocol
            && (same(self.inner, other.inner) || same(self.outer, other.outer))
    }

    fn merge(&mut self, other: Self) {
        self.inner = other.inner.or(self.inner);
        self.outer = other.outer.or(self.outer);
        self.vips.extend(other.vips);
        self.vips.sort_unstable();
        self.vips.dedup();
    }
}

/// All ports of `task`, whose newest status tells of `infos`.
pub(super) fn ports(task: &mesos::Task, infos: &[mesos::NetworkInfo]) -> Vec<TaskPort> {
    let mut all: Vec<TaskPort> = discovered(task).collect();
    for port in mapped(task, infos).into_iter().chain(labelled(task)) {
        let same = all.iter_mut().find(|known| known.is(&port));
        match same {
            Some(known) => known.merge(port),
            None => all.push(port),
        }
    }
    all
}

/// The values of VIP labels of the ports a task wants to be found at.
pub(super) fn has_vip_labels(task: &mesos::Task) -> bool {
    discovery_ports(task).any(|port| vips(port.labels.as_ref()).next().is_some())
        || labels(task.labels.as_ref()).any(|(key, _)| port_index(key).is_some())
}

fn discovery_ports(task: &mesos::Task) -> impl Iterator<Item = &mesos::Port> {
    let ports = task
        .discovery
        .as_ref()
        .and_then(|found| found.ports.as_ref());
    ports.into_iter().flat_map(|ports| &ports.ports)
}

/// The ports of its discovery information, `network-scope` saying on which side they are.
fn discovered(task: &mesos::Task) -> impl Iterator<Item = TaskPort> {
    discovery_ports(task).flat_map(|port| {
        let number = u16::try_from(port.number).ok().filter(|number| *number > 0);
        let labels_of = || labels(port.labels.as_ref());
        let on_host = labels_of().any(|label| label == ("network-scope", "host"));
        let protocols = match port.protocol.as_deref() {
            None | Some("") => "tcp",
            Some(named) => named,
        };
        let one = move |protocol| {
            let number = number?;
            Some(TaskPort {
                protocol,
                inner: (!on_host).then_some(number),
                outer: on_host.then_some(number),
                vips: vips(port.labels.as_ref()).map(str::to_owned).collect(),
            })
        };
        protocols.split(',').filter_map(protocol).filter_map(one)
    })
}

/// The ports of the node that lead into its container.
fn mapped(task: &mesos::Task, infos: &[mesos::NetworkInfo]) -> Vec<TaskPort> {
    let make = |name: Option<&str>, inner: u32, outer: u32| {
        Some(TaskPort {
            protocol: protocol(name.unwrap_or("tcp"))?,
            inner: Some(u16::try_from(inner).ok()?),
            outer: Some(u16::try_from(outer).ok()?),
            vips: Vec::new(),
        })
    };
    let container = task.container.as_ref();
    if is_docker(task) {
        let docker = container.and_then(|container| container.docker.as_ref());
        let mappings = docker.into_iter().flat_map(|docker| &docker.port_mappings);
        let mappings = mappings.filter_map(|mapping| {
            make(
                mapping.protocol.as_deref(),
                mapping.container_port,
                mapping.host_port,
            )
        });
        return mappings.collect();
    }
    let wanted = container.map(|container| container.network_infos.as_slice());
    // Those of a pod are its executor's, and only a status tells them.
    let infos = wanted.filter(|infos| !infos.is_empty()).unwrap_or(infos);
    let mappings = infos.iter().flat_map(|info| &info.port_mappings);
    let mappings = mappings.filter_map(|mapping| {
        make(
            mapping.protocol.as_deref(),
            mapping.container_port,
            mapping.host_port,
        )
    });
    mappings.collect()
}

/// Whether the Docker Engine runs it.
pub(super) fn is_docker(task: &mesos::Task) -> bool {
    let container = task.container.as_ref();
    container.is_some_and(|container| container.r#type() == mesos::container_info::Type::Docker)
}

/// The ports that labels of the task itself name by their place among its resources.
fn labelled(task: &mesos::Task) -> Vec<TaskPort> {
    let ranges = task
        .resources
        .iter()
        .filter(|resource| resource.name == "ports");
    let ranges = ranges.flat_map(|resource| &resource.ranges);
    let ranges = ranges.flat_map(|ranges| &ranges.range);
    let port_at = |index: usize| {
        let mut ports = ranges
            .clone()
            .flat_map(|range| range.begin..=range.end.min(65_535));
        ports.nth(index).and_then(|port| u16::try_from(port).ok())
    };
    let port = |(key, value): (&str, &str)| {
        let (protocol, vip) = ["tcp://", "udp://"].into_iter().find_map(|scheme| {
            let vip = value.strip_prefix(scheme)?;
            Some((protocol(&scheme[..3])?, vip))
        })?;
        Some(TaskPort {
            protocol,
            inner: None,
            outer: Some(port_at(port_index(key)?)?),
            vips: vec![vip.to_owned()],
        })
    };
    labels(task.labels.as_ref()).filter_map(port).collect()
}

/// The number at the end of `VIP_PORT3`.
fn port_index(key: &str) -> Option<usize> {
    let prefix = key.get(..8)?;
    let index = prefix.eq_ignore_ascii_case("vip_port").then(|| &key[8..])?;
    // More ports than there are would be looked for in vain.
    index.parse().ok().filter(|index| *index < 65_536)
}

fn vips(of: Option<&mesos::Labels>) -> impl Iterator<Item = &str> {
    let named = |key: &str| key.starts_with("VIP") || key.starts_with("vip");
    labels(of).filter_map(move |(key, value)| named(key).then_some(value))
}

fn labels(of: Option<&mesos::Labels>) -> impl Iterator<Item = (&str, &str)> {
    let labels = of.into_iter().flat_map(|labels| &labels.labels);
    labels.filter_map(|label| Some((label.key.as_str(), label.value.as_deref()?)))
}

fn protocol(name: &str) -> Option<Protocol> {
    let all = [Protocol::Tcp, Protocol::Udp];
    all.into_iter()
        .find(|protocol| protocol.as_str().eq_ignore_ascii_case(name.trim()))
}

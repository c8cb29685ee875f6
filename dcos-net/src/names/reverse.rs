//! The names of addresses: what `in-addr.arpa` and `ip6.arpa` have of masters, agents, containers and virtual addresses.
//!
//! Neither Mesos-DNS nor dcos-dns has any. All other addresses are somebody else's to name, in the same zones: questions
//! for those are forwarded.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::directory;
use crate::vip::VipTable;
use crate::{Snapshot, Zone};

pub(super) fn publish(snapshot: &Snapshot, mesos: &Zone, table: &VipTable) -> [Zone; 2] {
    let mut pointers = Pointers([
        directory::zone("in-addr.arpa.").scattered(),
        directory::zone("ip6.arpa.").scattered(),
    ]);
    let mut nodes = BTreeMap::new();
    for agent in &snapshot.agents {
        nodes.insert(agent.ip, format!("slave.{}", mesos.origin()));
    }
    for number in 0.. {
        let name = format!("master{number}.{}", mesos.origin());
        let found = mesos.find(&name).and_then(|found| found.records());
        let Some(records) = found else { break };
        let ips = records.a.iter().copied().map(IpAddr::from);
        for ip in ips.chain(records.aaaa.iter().copied().map(IpAddr::from)) {
            nodes.insert(ip, name.clone());
        }
    }
    containers(&mut pointers, snapshot, &nodes);
    for (ip, name) in &nodes {
        pointers.add(*ip, name);
    }
    for (name, addresses) in table.names() {
        let ips = addresses.v4.map(IpAddr::from).into_iter();
        for ip in ips.chain(addresses.v6.map(IpAddr::from)) {
            pointers.add(ip, &directory::of_vip(name));
        }
    }
    pointers.0
}

/// Those of containers. An address that containers of several nodes have is of a bridge that each node has for itself, and
/// says nothing of which of them is meant.
fn containers(pointers: &mut Pointers, snapshot: &Snapshot, nodes: &BTreeMap<IpAddr, String>) {
    let mut places: BTreeMap<IpAddr, Option<&str>> = BTreeMap::new();
    let own = |ip: &&IpAddr| !nodes.contains_key(ip);
    for task in &snapshot.tasks {
        let agent = task.agent_id.as_str();
        for ip in task.container_ips.iter().filter(own) {
            let place = places.entry(*ip).or_insert(Some(agent));
            *place = place.filter(|place| *place == agent);
        }
    }
    for task in &snapshot.tasks {
        let Some(name) = directory::of_container(task) else {
            continue;
        };
        for ip in &task.container_ips {
            if let Some(Some(_)) = places.get(ip) {
                pointers.add(*ip, &name);
            }
        }
    }
}

struct Pointers([Zone; 2]);

impl Pointers {
    /// Adds one, but for what every host has for itself: there a cluster on one machine would name each machine's loopback.
    fn add(&mut self, ip: IpAddr, name: &str) {
        if ip.is_loopback() || ip.is_unspecified() {
            return;
        }
        let [v4, v6] = &mut self.0;
        let zone = if ip.is_ipv4() { v4 } else { v6 };
        zone.add_pointer(ip, name);
    }
}

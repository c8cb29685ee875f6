//! The names of addresses that the cluster gives out: what `in-addr.arpa` and `ip6.arpa` have of containers in its networks
//! and of virtual addresses.
//!
//! Neither Mesos-DNS nor dcos-dns has any. All other addresses, those of masters and agents first of all, are somebody
//! else's to name, in the same zones: questions for those are forwarded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Config, directory};
use crate::vip::VipTable;
use crate::{Snapshot, Zone, reverse};

pub(super) fn publish(snapshot: &Snapshot, config: &Config, table: &VipTable) -> [Zone; 2] {
    let of_others = config.zones_of_others.iter();
    let mut pointers = Pointers {
        zones: ["in-addr.arpa.", "ip6.arpa."].map(|origin| directory::zone(origin).scattered()),
        of_others: of_others
            .map(|zone| format!(".{}.", zone.trim_matches('.').to_ascii_lowercase()))
            .collect(),
    };
    containers(&mut pointers, snapshot, config);
    for (name, addresses) in table.names() {
        let ips = addresses.v4.map(IpAddr::from).into_iter();
        for ip in ips.chain(addresses.v6.map(IpAddr::from)) {
            pointers.add(ip, &directory::of_vip(name));
        }
    }
    pointers.zones
}

/// Those of containers. An executor tells of its containers' addresses what it likes: one that containers of several
/// nodes are said to have, or a node has, says nothing of which of them is meant.
fn containers(pointers: &mut Pointers, snapshot: &Snapshot, config: &Config) {
    let leader = snapshot.leader.map(|leader| leader.ip());
    let agents = snapshot.agents.iter().map(|agent| agent.ip);
    let masters = snapshot.masters.iter().copied();
    let nodes: BTreeSet<IpAddr> = agents.chain(masters).chain(leader).collect();
    let networks = &config.reverse_networks;
    let own = |ip: &&IpAddr| {
        networks.iter().any(|network| network.contains(**ip)) && !nodes.contains(*ip)
    };
    let mut places: BTreeMap<IpAddr, Option<&str>> = BTreeMap::new();
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

struct Pointers {
    /// Of IPv4 and IPv6.
    zones: [Zone; 2],
    /// Zones that others answer for, with dots at both ends.
    of_others: Vec<String>,
}

impl Pointers {
    fn add(&mut self, ip: IpAddr, name: &str) {
        let is_below = |zone: &String| format!(".{}", reverse(ip)).ends_with(zone);
        if self.of_others.iter().any(is_below) {
            return;
        }
        let [v4, v6] = &mut self.zones;
        let zone = if ip.is_ipv4() { v4 } else { v6 };
        zone.add_pointer(ip, name);
    }
}

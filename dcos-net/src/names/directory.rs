//! The zones dcos-dns keeps itself: `thisdcos.directory`, `spartan` and `zk`.
//!
//! Source: dcos-net `dcos_dns_mesos`, `dcos_dns_zk_record_server`, `dcos_l4lb_lashup_vip_listener`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::vip::VipTable;
use crate::{Snapshot, Soa, Task, Zone, label};

/// Seconds for which these names may be remembered.
const TTL: u32 = 5;

/// What names of nodes and tasks end with.
const DOMAIN: &str = "dcos.thisdcos.directory.";

/// Where dcos-dns listens on every node of DC/OS.
const SPARTAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

pub(super) fn publish(snapshot: &Snapshot, mesos: &Zone, table: &VipTable) -> Vec<Zone> {
    let mut directory = zone("thisdcos.directory.").partial(!snapshot.is_whole());
    masters(&mut directory, snapshot);
    tasks(&mut directory, snapshot);
    vips(&mut directory, table);
    directory.add_copy_of(mesos, "mesos.thisdcos.directory.");

    let mut spartan = zone("spartan.");
    spartan.add_address("ready.spartan.", Ipv4Addr::LOCALHOST.into());
    spartan.add_address("ns.spartan.", SPARTAN.into());

    // Five names however many masters there are, so that a connection string never changes.
    let mut zk = zone("zk.").partial(snapshot.masters.is_empty());
    let mut masters = snapshot.masters.clone();
    masters.sort_unstable();
    masters.dedup();
    for (number, ip) in (1..=5).zip(masters.iter().cycle()) {
        zk.add_address(&format!("zk-{number}.zk."), *ip);
    }
    vec![directory, spartan, zk]
}

pub(super) fn zone(origin: &str) -> Zone {
    let soa = Soa {
        mname: "ns.spartan.".to_owned(),
        rname: "support.mesosphere.com.".to_owned(),
        refresh: 60,
        retry: 180,
        expire: 86_400,
        minimum: 1,
    };
    Zone::new(origin, soa, TTL)
}

fn masters(zone: &mut Zone, snapshot: &Snapshot) {
    let leader = snapshot.leader.map(|leader| leader.ip());
    if let Some(ip) = leader {
        zone.add_address("leader.dcos.thisdcos.directory.", ip);
    }
    for ip in snapshot.masters.iter().copied().chain(leader) {
        zone.add_address("master.dcos.thisdcos.directory.", ip);
    }
}

fn tasks(zone: &mut Zone, snapshot: &Snapshot) {
    let agents: BTreeMap<&str, IpAddr> = snapshot
        .agents
        .iter()
        .map(|agent| (agent.id.as_str(), agent.ip))
        .collect();
    for task in &snapshot.tasks {
        let Some(agent) = agents.get(task.agent_id.as_str()) else {
            continue;
        };
        let Some(name) = below(task) else {
            continue;
        };
        let mut add = |kind: &str, ips: &[IpAddr]| {
            let name = format!("{name}.{kind}.{DOMAIN}");
            for ip in ips {
                zone.add_address(&name, *ip);
            }
        };
        let agent = [*agent];
        let own = if task.container_ips.is_empty() {
            &agent
        } else {
            task.container_ips.as_slice()
        };
        add("agentip", &agent);
        add("containerip", own);
        add("autoip", if reached_at_agent(task) { &agent } else { own });
    }
}

/// What names of a task begin with.
fn below(task: &Task) -> Option<String> {
    let name = label::directory(task.service_name());
    let framework = label::directory(&task.framework);
    (!name.is_empty() && !framework.is_empty()).then(|| format!("{name}.{framework}"))
}

/// The name of a task's own addresses.
pub(super) fn of_container(task: &Task) -> Option<String> {
    Some(format!("{}.containerip.{DOMAIN}", below(task)?))
}

/// The name of a virtual address.
pub(super) fn of_vip(name: &str) -> String {
    format!("{name}.l4lb.thisdcos.directory.")
}

/// The names of virtual addresses.
fn vips(zone: &mut Zone, table: &VipTable) {
    for (name, addresses) in table.names() {
        let name = of_vip(name);
        let ips = addresses.v4.map(IpAddr::from);
        for ip in ips.into_iter().chain(addresses.v6.map(IpAddr::from)) {
            zone.add_address(&name, ip);
        }
    }
}

fn reached_at_agent(task: &Task) -> bool {
    task.port_mapped || task.container_ips.is_empty()
}

//! What outlives the containers of a local cluster in this machine's network: a bridge, its rules, and mapped ports.
//!
//! CNI plugins leave a bridge to the next container, and an agent that was killed could not take back what its containers had.
//! Rules that name a container of the cluster are the cluster's. Bridge, table and chain have one name for all agents of a
//! machine: they go where nobody else can need them, and stay, which is told, where that is not certain.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use dcos_netlink::{
    DUMP, Messages, Passage, PassageError, Porter, Protocol, Socket, attribute, nft, remove_link,
};

/// The bridge of `container/bridge`.
const BRIDGE: &str = "ucr-br0";
/// The table of ports that lead to containers.
const TABLE: &str = "ip dcos_ports";
/// The chain by which what comes from and goes to the bridge passes a closed firewall.
const PASSAGE: &str = "DCOS-BRIDGE";
/// How long the kernel may take to forget the ends of links whose containers are gone.
const SETTLING: Duration = Duration::from_secs(2);

/// Whether the bridge is there.
///
/// # Errors
/// The kernel does not say.
pub(super) fn is_there() -> anyhow::Result<bool> {
    Ok(bridge(&links()?).is_some())
}

/// A link of this machine. (`/sys` may show those of another network namespace.)
struct Link {
    index: [u8; 4],
    name: String,
    /// The bridge it is connected with.
    bridge: Option<Vec<u8>>,
}

fn links() -> anyhow::Result<Vec<Link>> {
    let mut request = Messages::new();
    // `RTM_GETLINK`, `ifinfomsg`
    request.begin(18, DUMP, &[0; 16]).end();
    let mut links = Vec::new();
    let asked = Socket::open_to_ask(Protocol::Route)?.ask(&request, |link| {
        let index = link.get(4..8).and_then(|bytes| bytes.try_into().ok());
        let (Some(index), Some(attributes)) = (index, link.get(16..)) else {
            return;
        };
        // `IFLA_IFNAME`, `IFLA_MASTER`
        let name = attribute(attributes, 3).unwrap_or_default();
        let name = String::from_utf8_lossy(name)
            .trim_end_matches('\0')
            .to_owned();
        let bridge = attribute(attributes, 10).map(<[u8]>::to_vec);
        links.push(Link {
            index,
            name,
            bridge,
        });
    });
    asked.context("asking the kernel for this machine's links")?;
    Ok(links)
}

fn bridge(links: &[Link]) -> Option<&Link> {
    links.iter().find(|link| link.name == BRIDGE)
}

/// Who had which address of the bridge, as `host-local` notes it: a file for each address, with the container's id in it.
#[derive(Debug, Default)]
pub(super) struct Leases {
    containers: BTreeSet<String>,
    addresses: BTreeSet<Ipv4Addr>,
}

impl Leases {
    /// Those that the agents of the cluster in `dir` gave out and did not take back.
    pub(super) fn read(dir: &Path) -> Self {
        let below = |folders: Vec<PathBuf>| -> Vec<PathBuf> {
            let entries = folders.iter().filter_map(|folder| folder.read_dir().ok());
            let entries = entries.flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        };
        let agents = below(vec![dir.to_owned()]).into_iter();
        let networks = agents.map(|agent| agent.join("run/cni/networks"));
        let mut leases = Self::default();
        for file in below(below(networks.collect())) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let (Ok(address), Ok(text)) = (name.parse(), std::fs::read_to_string(&file)) else {
                continue;
            };
            leases.addresses.insert(address);
            let container = text.lines().next().map(str::trim);
            let named = container.filter(|container| !container.is_empty());
            leases.containers.extend(named.map(str::to_owned));
        }
        leases
    }
}

/// Takes away the rules of a cluster's containers, once they are gone.
///
/// # Errors
/// That they could not be taken away.
pub(super) fn sweep_rules(leases: &Leases) -> anyhow::Result<()> {
    let order =
        said("iptables-save", &["-t", "nat"]).and_then(|saved| without(&saved, &leases.containers));
    order.map_or(Ok(()), |order| restore(&order))
}

/// Takes away what led to a cluster's containers, once they are gone; `found` says that the bridge was there before the cluster.
/// Tells what stays, and why.
///
/// # Errors
/// That something could not be taken away.
pub(super) fn sweep(leases: &Leases, found: bool) -> anyhow::Result<Vec<String>> {
    let ports = said("nft", &["-nn", "list", "table", "ip", "dcos_ports"]);
    if !is_there()? && ports.is_none() {
        return Ok(Vec::new());
    }
    let stays = |why: String| {
        Ok(vec![format!(
            "the bridge {BRIDGE} and mapped ports stay: {why}"
        )])
    };
    if found {
        return stays("the bridge was there before this cluster".to_owned());
    }
    if let Some(pid) = another_agent() {
        return stays(format!(
            "an agent of this machine (process {pid}) may use them"
        ));
    }
    if let Some(link) = in_use()? {
        return stays(format!("{link} is connected with it"));
    }
    let strangers = ports
        .as_deref()
        .map(|ports| others(ports, &leases.addresses));
    if let Some(stranger) = strangers.and_then(|found| found.into_iter().next()) {
        return stays(format!(
            "a port leads to {stranger}, which is none of this cluster"
        ));
    }
    // An agent that begins now has the chain, or waits for it.
    let mut porter = Porter::new();
    match porter.claim(PASSAGE) {
        Err(taken @ PassageError::Taken { .. }) => return stays(taken.to_string()),
        claimed => claimed?,
    }
    if is_there()? {
        let mut socket = Socket::open(Protocol::Route).context("opening netlink")?;
        remove_link(&mut socket, BRIDGE).with_context(|| format!("removing {BRIDGE}"))?;
    }
    if ports.is_some() {
        nft(&format!("delete table {TABLE}\n"))?;
    }
    // Whoever may not ask has opened nothing.
    for chain in Porter::standing(&[PASSAGE]).0 {
        porter.keep(&Passage::closed(chain))?;
    }
    Ok(Vec::new())
}

/// What a program says, if it is there and does what it is asked for.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// Carries out an order of `iptables-restore`, all of it or nothing.
fn restore(order: &str) -> anyhow::Result<()> {
    let mut child = Command::new("iptables-restore")
        .args(["--wait=10", "--noflush"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running `iptables-restore`")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(order.as_bytes()).ok();
    }
    let output = child.wait_with_output().context("`iptables-restore`")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`iptables-restore`: {}",
        words.trim()
    );
    Ok(())
}

/// The order that takes the rules of these containers out of what `iptables-save` said, and the chains made for them; nothing
/// if there are none. The plugins `bridge` and `portmap` write the container's id into a comment.
fn without(saved: &str, containers: &BTreeSet<String>) -> Option<String> {
    let is_ours = |rule: &&str| {
        containers
            .iter()
            .any(|id| rule.contains(&format!("\"{id}\\\"")))
    };
    let rules = saved.lines().filter_map(|line| line.strip_prefix("-A "));
    let (mut chains, mut order) = (BTreeSet::new(), "*nat\n".to_owned());
    for rule in rules.filter(is_ours) {
        let chain = rule.split(' ').next().unwrap_or_default();
        let leads_to = rule.rsplit_once(" -j ").map_or("", |(_, chain)| chain);
        if !is_of_one(chain) {
            let _ = writeln!(order, "-D {rule}");
        }
        chains.extend([chain, leads_to].into_iter().filter(|one| is_of_one(one)));
    }
    for chain in &chains {
        let _ = writeln!(order, "-F {chain}\n-X {chain}");
    }
    let is_change = order.lines().count() > 1;
    is_change.then(|| order + "COMMIT\n")
}

/// Whether a chain is one container's: `CNI-` and a hash by `bridge`, `CNI-DN-` and one by `portmap`. All share the others,
/// as `CNI-HOSTPORT-DNAT`.
fn is_of_one(chain: &str) -> bool {
    let hash = chain.strip_prefix("CNI-");
    let hash = hash.map(|hash| hash.strip_prefix("DN-").unwrap_or(hash));
    hash.is_some_and(|hash| !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The addresses of others to which ports lead, in what `nft` lists: `6 . 31000 : 172.31.254.2 . 80`.
fn others(listing: &str, own: &BTreeSet<Ipv4Addr>) -> Vec<Ipv4Addr> {
    let words = listing.split(|c: char| c.is_whitespace() || ",{}=".contains(c));
    let addresses = words.filter_map(|word| word.parse().ok());
    addresses.filter(|address| !own.contains(address)).collect()
}

/// An agent of this machine, which has the same network. Those of the cluster have ended by now.
fn another_agent() -> Option<u32> {
    let network = |process: &Path| std::fs::read_link(process.join("ns/net")).ok();
    let own = network(Path::new("/proc/self"));
    let processes = Path::new("/proc").read_dir().ok()?.flatten();
    let mut agents = processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let is_agent = matches!(name.trim(), "dcos-agent" | "mesos-agent" | "mesos-slave");
        (is_agent && network(&entry.path()) == own).then_some(pid)
    });
    agents.next()
}

/// A link of the bridge that stays.
fn in_use() -> anyhow::Result<Option<String>> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let links = links()?;
        let bridge = bridge(&links).map(|bridge| &bridge.index[..]);
        let mut of_it = links
            .iter()
            .filter(|link| link.bridge.is_some() && link.bridge.as_deref() == bridge);
        let found = of_it.next().map(|link| link.name.clone());
        if found.is_none() || Instant::now() > deadline {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_containers_go_with_their_chains_and_others_stay() {
        let saved = r#"*nat
:POSTROUTING ACCEPT [0:0]
:CNI-aa - [0:0]
:CNI-bb - [0:0]
-A POSTROUTING -s 172.31.254.2/32 -m comment --comment "name: \"mesos-bridge\" id: \"one\"" -j CNI-aa
-A POSTROUTING -s 172.31.254.3/32 -m comment --comment "name: \"mesos-bridge\" id: \"one-more\"" -j CNI-bb
-A CNI-aa -d 172.31.254.0/24 -m comment --comment "name: \"mesos-bridge\" id: \"one\"" -j ACCEPT
-A CNI-bb -d 172.31.254.0/24 -m comment --comment "name: \"mesos-bridge\" id: \"one-more\"" -j ACCEPT
COMMIT
"#;
        let order = |id: &str| without(saved, &BTreeSet::from([id.to_owned()]));
        let expected = r#"*nat
-D POSTROUTING -s 172.31.254.2/32 -m comment --comment "name: \"mesos-bridge\" id: \"one\"" -j CNI-aa
-F CNI-aa
-X CNI-aa
COMMIT
"#;
        assert_eq!(order("one").as_deref(), Some(expected));
        let shared = r#"*nat
-A CNI-DN-cc -p tcp -m tcp --dport 80 -j DNAT --to-destination 172.31.254.2:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"x\" id: \"one\"" -m multiport --dports 80 -j CNI-DN-cc
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"x\" id: \"other\"" -m multiport --dports 81 -j CNI-DN-dd
"#;
        let expected_of_shared = r#"*nat
-D CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"x\" id: \"one\"" -m multiport --dports 80 -j CNI-DN-cc
-F CNI-DN-cc
-X CNI-DN-cc
COMMIT
"#;
        let own = BTreeSet::from(["one".to_owned()]);
        assert_eq!(without(shared, &own).as_deref(), Some(expected_of_shared));
        assert_eq!(order("two"), None);
        assert_eq!(without(saved, &BTreeSet::new()), None);
    }

    #[test]
    fn leases_and_ports_tell_whose_containers_are() {
        let dir = tempfile::tempdir().unwrap();
        let network = dir.path().join("agent-0/run/cni/networks/mesos-bridge");
        std::fs::create_dir_all(&network).unwrap();
        std::fs::write(network.join("172.31.254.2"), "one\r\neth0").unwrap();
        std::fs::write(network.join("last_reserved_ip.0"), "172.31.254.2").unwrap();
        std::fs::write(network.join("lock"), "").unwrap();
        let leases = Leases::read(dir.path());
        let own = Ipv4Addr::new(172, 31, 254, 2);
        assert_eq!(leases.addresses, BTreeSet::from([own]));
        assert_eq!(leases.containers, BTreeSet::from(["one".to_owned()]));
        let listing = "table ip dcos_ports {\n map A {\n type inet_proto . inet_service : ipv4_addr . inet_service\n \
            elements = { 6 . 31000 : 172.31.254.2 . 80,\n 6 . 31001 : 172.31.254.9 . 80 }\n }\n \
            chain A-output { type nat hook output priority -100; policy accept;\n \
            ip daddr != 127.0.0.0/8 fib daddr type local }\n}";
        assert_eq!(
            others(listing, &leases.addresses),
            [Ipv4Addr::new(172, 31, 254, 9)]
        );
    }
}

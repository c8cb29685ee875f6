//! [`Network`]: hosts with addresses of their own, made of network namespaces on a bridge.
//!
//! Everything is inside the namespaces of the process that calls ([`inside`] is how to start one), so nothing is left
//! behind, however it ends.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::servers::Place;

/// Set for a process that [`inside`] makes.
const INSIDE: &str = "DRILL_INSIDE";

/// Where we are, ourselves, on the network of the hosts.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 254);

/// Whether this process has namespaces of its own already.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A command that runs this program with a network, mounts and process numbers of its own. When it ends, or whoever
/// waits for it, the kernel ends all that it started; so it has to be spawned by a thread that stays.
///
/// # Errors
/// This program has no path.
pub fn inside() -> anyhow::Result<Command> {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "--mount",
            "--pid",
        ])
        .args(["--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .env(INSIDE, "1");
    Ok(command)
}

/// Why there can be no network here, if there can't.
pub fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("hosts are network namespaces, which take root");
    }
    let there = |path: &str| Path::new(path).exists();
    if !(there("/usr/bin/nsenter")
        && there("/usr/bin/setpriv")
        && (there("/usr/sbin/ip") || there("/sbin/ip")))
    {
        return Some("Debian's packages iproute2 and util-linux are not installed");
    }
    let made = Command::new("unshare")
        .args([
            "--net", "ip", "link", "add", "name", "br0", "type", "bridge",
        ])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return Some("this kernel has no network namespaces, or no bridges");
    }
    None
}

/// Hosts on a bridge at which we are, too.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Place>,
}

impl Network {
    /// A network with hosts of these names and the last parts of their addresses.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(hosts: &[(String, u8)]) -> anyhow::Result<Self> {
        std::fs::create_dir_all("/run/netns")?;
        run("mount -t tmpfs tmpfs /run/netns")?;
        run("ip link set lo up")?;
        run("ip link add name br0 type bridge forward_delay 0")?;
        run(&format!("ip addr add {OUTSIDE}/24 dev br0"))?;
        run("ip link set br0 up")?;
        let mut network = Self { hosts: Vec::new() };
        for (name, number) in hosts {
            network.add(name, *number)?;
        }
        Ok(network)
    }

    /// Adds a host; one that was removed comes back as a machine that was switched on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add(&mut self, name: &str, number: u8) -> anyhow::Result<()> {
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add name to-{name} type veth peer name eth0 netns {name}"),
            format!("ip link set to-{name} master br0 up"),
            format!("ip -n {name} link set lo up"),
            format!("ip -n {name} addr add 10.99.0.{number}/24 dev eth0"),
            format!("ip -n {name} link set eth0 up"),
            format!("ip -n {name} route add default via {OUTSIDE}"),
        ] {
            run(&line)?;
        }
        self.hosts.push(Place {
            ip: IpAddr::V4(Ipv4Addr::new(10, 99, 0, number)),
            host: Some(name.to_owned()),
        });
        Ok(())
    }

    /// Takes a host away, with all that its kernel knew. Who runs there has to be killed before.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.hosts
            .retain(|place| place.host.as_deref() != Some(name));
        run(&format!("ip link del to-{name}"))?;
        run(&format!("ip netns del {name}"))
    }

    /// The host of that name.
    ///
    /// # Panics
    /// There is none.
    pub fn host(&self, name: &str) -> Place {
        let place = self
            .hosts
            .iter()
            .find(|place| place.host.as_deref() == Some(name));
        place.expect("the network has this host").clone()
    }

    /// Pulls the cable of a host.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut(&self, name: &str) -> anyhow::Result<()> {
        run(&format!("ip link set to-{name} down"))
    }

    /// Puts it back.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mend(&self, name: &str) -> anyhow::Result<()> {
        run(&format!("ip link set to-{name} up"))
    }

    /// Lets nothing pass any more between a host and any of others.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn part(&self, name: &str, from: &[String]) -> anyhow::Result<()> {
        let own = self.host(name).ip;
        let others: Vec<String> = from
            .iter()
            .map(|name| self.host(name).ip.to_string())
            .collect();
        let others = others.join(", ");
        let rules = format!(
            "table bridge parted {{\nchain forward {{\ntype filter hook forward priority 0\n\
             ip saddr {own} ip daddr {{ {others} }} drop\nip daddr {own} ip saddr {{ {others} }} drop\n}}\n}}\n"
        );
        let done = Command::new("nft")
            .arg(rules)
            .output()
            .context("running nft")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "nft: {}", said.trim());
        Ok(())
    }

    /// Lets everything pass again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn rejoin(&self) -> anyhow::Result<()> {
        run("nft delete table bridge parted")
    }
}

/// Runs a program; its words are separated by spaces.
///
/// # Errors
/// What it said, if it failed.
fn run(line: &str) -> anyhow::Result<()> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let done = Command::new(program)
        .args(words)
        .output()
        .with_context(|| line.to_owned())?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{line}: {}", said.trim());
    Ok(())
}

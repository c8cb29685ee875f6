//! Hosts made of network namespaces: one network between them, and containers in them.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// So many hosts on one switch, with the addresses 10.72.0.1 and up. Gone when dropped.
pub(crate) struct Hosts {
    prefix: String,
    names: Vec<String>,
}

/// The address of a host.
pub(crate) fn ip(host: usize) -> IpAddr {
    let number = u8::try_from(host + 1).unwrap();
    Ipv4Addr::new(10, 72, 0, number).into()
}

/// Why no such hosts can be made here.
pub(crate) fn missing() -> Option<&'static str> {
    let run = |program: &str| Command::new(program).arg("-V").output().is_ok();
    if !rustix::process::geteuid().is_root() {
        Some("network namespaces take root")
    } else if !run("ip") || !run("bridge") || !run("nft") {
        Some("there is no `ip`, no `bridge` or no `nft`")
    } else {
        None
    }
}

impl Hosts {
    pub(crate) fn new(count: usize) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut hosts = Self {
            prefix: format!("ovl{}x{number}", id()),
            names: Vec::new(),
        };
        let switch = hosts.add("switch");
        run(&format!("ip -n {switch} link add name s0 type bridge"));
        run(&format!("ip -n {switch} link set s0 up"));
        for host in 0..count {
            let own = hosts.add(&format!("h{host}"));
            for command in [
                format!("ip link add h{host} netns {switch} type veth peer name eth0 netns {own}"),
                format!("ip -n {switch} link set h{host} master s0 up"),
                format!("ip -n {own} addr add {}/24 dev eth0", ip(host)),
                format!("ip -n {own} link set eth0 up"),
                format!(
                    "ip netns exec {own} sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
                ),
            ] {
                run(&command);
            }
        }
        hosts
    }

    fn add(&mut self, host: &str) -> String {
        let name = format!("{}{host}", self.prefix);
        run(&format!("ip netns add {name}"));
        run(&format!("ip -n {name} link set lo up"));
        self.names.push(name.clone());
        name
    }

    pub(crate) fn name(&self, host: usize) -> String {
        format!("{}h{host}", self.prefix)
    }

    /// A container on a host, behind a bridge as the CNI plugin makes it; `address` is one of the
    /// bridge's network, whose first address is the bridge's.
    pub(crate) fn container(
        &mut self,
        host: usize,
        bridge: &str,
        gateway: &str,
        address: &str,
        mtu: u32,
    ) -> String {
        let on = self.name(host);
        let own = self.add(&format!("c{host}"));
        let via = gateway.split_once('/').unwrap().0;
        for command in [
            format!("ip -n {on} link add name {bridge} mtu {mtu} type bridge"),
            format!("ip -n {on} addr add {gateway} dev {bridge} "),
            format!("ip -n {on} link set {bridge} up"),
            format!("ip link add c{host} netns {on} type veth peer name eth0 netns {own}"),
            format!("ip -n {on} link set c{host} mtu {mtu} master {bridge} up"),
            format!("ip -n {own} addr add {address} dev eth0"),
            format!("ip -n {own} link set eth0 mtu {mtu} up"),
            format!("ip -n {own} route add default via {via}"),
        ] {
            run(command.trim());
        }
        own
    }

    /// Runs something on a host, in a thread of its own.
    pub(crate) fn on<T: Send>(&self, host: usize, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.name(host), work)
    }
}

/// Runs something in a namespace, in a thread of its own.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = std::fs::File::open(format!("/var/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            use std::os::fd::AsFd as _;
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).unwrap();
            work()
        });
        inside.join().unwrap()
    })
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            run(&format!("ip netns del {name}"));
        }
    }
}

/// What a command says; it must not fail.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

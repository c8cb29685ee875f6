//! The data path in real network namespaces: who is reached, and what the kernel holds.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod hosts;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_overlay::{
    AgentNetwork, Allocation, Dataplane as _, Entry, Kernel, NetworkConfig, Own, Step, Tunnels,
    Wishes,
};
use hosts::{Hosts, inside, ip, missing, run};

/// The hosts, or why there are none.
macro_rules! hosts {
    ($count:expr) => {
        match missing() {
            Some(why) => {
                eprintln!("skipped: {why}");
                return;
            }
            None => Hosts::new($count),
        }
    };
}

/// What so many agents have.
fn allocated(count: usize) -> (NetworkConfig, Allocation) {
    let config = NetworkConfig::default();
    let mut allocation = Allocation::default();
    for host in 0..count {
        allocation
            .register(&config, ip(host), Wishes::ALL, None)
            .unwrap();
    }
    (config, allocation)
}

fn own(config: &NetworkConfig, network: &AgentNetwork) -> Own {
    let all = config
        .enabled()
        .flat_map(|overlay| overlay.subnet.into_iter().chain(overlay.subnet6));
    Own {
        vtep: network.vtep,
        mtu: 1450,
        parts: network.parts().collect(),
        overlays: all.collect(),
    }
}

fn tunnels(config: &NetworkConfig, allocation: &Allocation, host: usize) -> Tunnels {
    let peers = allocation
        .agents()
        .iter()
        .filter(|(agent, _)| **agent != ip(host));
    Tunnels::to(peers, config.enabled().filter_map(|overlay| overlay.subnet))
}

/// A host's kernel with everything in it.
fn joined(hosts: &Hosts, config: &NetworkConfig, allocation: &Allocation, host: usize) -> Kernel {
    hosts.on(host, || {
        let mut kernel = Kernel::open().unwrap();
        assert_eq!(kernel.mtu_below(ip(host)).unwrap(), 1500);
        let own = own(config, &allocation.agents()[&ip(host)]);
        assert!(kernel.establish(&own).unwrap());
        kernel
            .reconcile(&tunnels(config, allocation, host))
            .unwrap();
        kernel
    })
}

const PATIENCE: Duration = Duration::from_secs(20);

/// The address a server at `to` sees of whoever asks from `namespace`.
fn seen_from(namespace: &str, to: SocketAddr) -> IpAddr {
    let text = inside(namespace, || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    text.parse().unwrap()
}

/// Tells whoever connects which address it has, as long as the process lives.
fn serve(namespace: &str, port: u16) {
    let listener = inside(namespace, || TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut client, address)) = listener.accept() {
            let _ = write!(client, "{}", address.ip().to_canonical());
        }
    });
}

fn socket(namespace: &str, address: SocketAddr) -> UdpSocket {
    let socket = inside(namespace, || UdpSocket::bind(address).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// How much of a datagram of so many bytes comes back from `to`, in `there`.
fn echoed(namespace: &str, there: &str, to: SocketAddr, length: usize) -> usize {
    let (echo, asking) = (socket(there, to), socket(namespace, at("0.0.0.0", 0)));
    let mut buffer = vec![7; 2 * length];
    asking.send_to(&buffer[..length], to).unwrap();
    let (read, from) = echo.recv_from(&mut buffer).unwrap();
    echo.send_to(&buffer[..read], from).unwrap();
    asking.recv(&mut buffer).unwrap()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

#[test]
fn containers_of_two_hosts_reach_each_other_and_everybody_else() {
    let mut hosts = hosts!(2);
    let (config, allocation) = allocated(2);
    // Hosts that look where packets come from.
    for (host, of) in [(0, "all"), (1, "default")] {
        let name = hosts.name(host);
        run(&format!(
            "ip netns exec {name} sysctl -qw net.ipv4.conf.{of}.rp_filter=1"
        ));
    }
    let kernels: Vec<Kernel> = (0..2)
        .map(|host| joined(&hosts, &config, &allocation, host))
        .collect();
    let one = hosts.container(0, "m-dcos", "9.0.0.1/25", "9.0.0.2/25", 1420);
    let two = hosts.container(1, "m-dcos", "9.0.1.1/25", "9.0.1.2/25", 1420);
    let (first, second) = (hosts.name(0), hosts.name(1));
    for namespace in [&one, &two, &first, &second] {
        serve(namespace, 8000);
    }
    let ip_of = |text: &str| text.parse::<IpAddr>().unwrap();
    // Containers see each other as they are.
    assert_eq!(seen_from(&one, at("9.0.1.2", 8000)), ip_of("9.0.0.2"));
    assert_eq!(seen_from(&two, at("9.0.0.2", 8000)), ip_of("9.0.1.2"));
    // A node is seen as its tunnel end.
    assert_eq!(seen_from(&first, at("9.0.1.2", 8000)), ip_of("44.128.0.1"));
    // What leaves the overlay is sent as the node; to another node, through its tunnel end.
    assert_eq!(seen_from(&one, at("10.72.0.2", 8000)), ip_of("44.128.0.1"));
    assert_eq!(seen_from(&one, at("10.72.0.1", 8000)), ip_of("9.0.0.2"));
    // Large packets as well.
    assert_eq!(echoed(&one, &two, at("9.0.1.2", 9000), 1392), 1392);
    // IPv6: the tunnel ends.
    assert_eq!(seen_from(&first, at("fd01:a::2", 8000)), ip_of("fd01:a::1"));
    for host in [&first, &second] {
        // What is said within is tracked, the packets of the tunnel are not.
        let tracked = run(&format!("ip netns exec {host} cat /proc/net/nf_conntrack"));
        assert!(tracked.contains("dport=8000"), "{tracked}");
        assert!(!tracked.contains("dport=64000"), "{tracked}");
    }
    for (host, kernel) in kernels.into_iter().enumerate() {
        hosts.on(host, || kernel.remove().unwrap());
        assert_eq!(
            run(&format!(
                "ip -n {} route show table all 9.0.0.0/8 via 44.128.0.1",
                hosts.name(host)
            )),
            ""
        );
        assert!(!run(&format!("ip -n {} rule", hosts.name(host))).contains("lookup 42"));
        assert_eq!(
            run(&format!(
                "ip netns exec {} nft list tables",
                hosts.name(host)
            )),
            ""
        );
    }
}

/// What a server by datagrams at `to`, in `there`, sees of whoever asks `through` an address and from a port; the answer has to come back.
fn datagram_from(
    (namespace, port): (&str, u16),
    through: SocketAddr,
    (there, to): (&str, SocketAddr),
) -> SocketAddr {
    let socket = |namespace: &str, address: SocketAddr| {
        let socket = inside(namespace, || UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let (server, asking) = (socket(there, to), socket(namespace, at("0.0.0.0", port)));
    let mut buffer = [7; 64];
    asking.send_to(&buffer, through).unwrap();
    let (read, seen) = server.recv_from(&mut buffer).unwrap();
    server.send_to(&buffer[..read], seen).unwrap();
    let (_, answered) = asking.recv_from(&mut buffer).expect("an answer");
    assert_eq!(answered, through);
    seen
}

/// It is a port like any other for whoever does not speak VXLAN 1024 with this host.
#[test]
fn the_tunnels_port_is_translated_for_everybody_else() {
    let mut hosts = hosts!(2);
    let (config, allocation) = allocated(1);
    let _kernel = joined(&hosts, &config, &allocation, 0);
    let one = hosts.container(0, "m-dcos", "9.0.0.1/25", "9.0.0.2/25", 1420);
    let (host, outside) = (hosts.name(0), hosts.name(1));
    let nft = |rule: &str| run(&format!("ip netns exec {host} nft {rule}"));
    nft("add table ip vips");
    for hook in ["prerouting", "output"] {
        nft(&format!(
            "add chain ip vips {hook} {{ type nat hook {hook} priority -100 ; }}"
        ));
        nft(&format!(
            "add rule ip vips {hook} ip daddr 11.1.1.1 udp dport 64000 dnat to 10.72.0.2:5300"
        ));
    }
    nft("add rule ip vips prerouting ip daddr 10.72.0.1 udp dport 5301 dnat to 9.0.0.2:5301");
    let node = ip(0);
    // Whoever asks from that port, is asked at it, or is behind it.
    let to = at("10.72.0.2", 5300);
    assert_eq!(datagram_from((&one, 64000), to, (&outside, to)).ip(), node);
    let to = at("10.72.0.2", 64000);
    assert_eq!(datagram_from((&one, 63999), to, (&outside, to)).ip(), node);
    let (vip, to) = (at("11.1.1.1", 64000), at("10.72.0.2", 5300));
    run(&format!("ip -n {host} route add 11.1.1.1 via 10.72.0.2"));
    assert_eq!(datagram_from((&one, 5302), vip, (&outside, to)).ip(), node);
    assert_eq!(datagram_from((&host, 5303), vip, (&outside, to)).ip(), node);
    // A published port, asked from that one.
    let (published, to) = (at("10.72.0.1", 5301), at("9.0.0.2", 5301));
    let seen = datagram_from((&outside, 64000), published, (&one, to));
    assert_eq!(seen, at("10.72.0.2", 64000));
    // The tunnel of a node behind this one: what leaves is translated.
    let header = [8, 0, 0, 0, 0, 4, 0, 0];
    let to = at("10.72.0.2", 64000);
    let server = inside(&outside, || UdpSocket::bind(to).unwrap());
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let asking = inside(&one, || UdpSocket::bind("0.0.0.0:5304").unwrap());
    asking.send_to(&header, to).unwrap();
    assert_eq!(server.recv_from(&mut [0; 64]).unwrap().1.ip(), node);
}

#[test]
fn it_is_laid_out_as_in_the_original() {
    let hosts = hosts!(1);
    let (config, allocation) = allocated(2);
    let _kernel = joined(&hosts, &config, &allocation, 0);
    let name = hosts.name(0);
    let told = |command: &str| {
        let text = run(&command.replace("HOST", &name));
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let link = told("ip -n HOST -d link show vtep1024");
    for part in [
        "mtu 1450",
        "70:b3:d5:80:00:01",
        "vxlan id 1024",
        "dstport 64000",
        "noudpcsum",
    ] {
        assert!(link.contains(part), "{part}: {link}");
    }
    assert!(!link.contains("nolearning"), "{link}");
    let addresses = told("ip -n HOST addr show vtep1024");
    assert!(
        addresses.contains("inet 44.128.0.1/20") && addresses.contains("inet6 fd01:a::1/64"),
        "{addresses}"
    );
    let neighbours = told("ip -n HOST neigh show dev vtep1024");
    assert!(
        neighbours.contains("44.128.0.2 lladdr 70:b3:d5:80:00:02 PERMANENT"),
        "{neighbours}"
    );
    assert!(
        neighbours.contains("fd01:a::2 lladdr 70:b3:d5:80:00:02 PERMANENT"),
        "{neighbours}"
    );
    let forwards = told("bridge -n HOST fdb show dev vtep1024");
    assert!(
        forwards.contains("70:b3:d5:80:00:02 dst 10.72.0.2 self permanent"),
        "{forwards}"
    );
    let routes = told("ip -n HOST route show 9.0.1.0/24");
    assert!(
        routes.starts_with("9.0.1.0/24 via 44.128.0.2 dev vtep1024"),
        "{routes}"
    );
    let routes = told("ip -n HOST -6 route show fd01:b:0:0:1::/80");
    assert!(
        routes.starts_with("fd01:b:0:0:1::/80 via fd01:a::2 dev vtep1024"),
        "{routes}"
    );
    let routes = told("ip -n HOST route show table 42");
    assert!(
        routes.starts_with("10.72.0.2 via 44.128.0.2 dev vtep1024"),
        "{routes}"
    );
    let rules = told("ip -n HOST rule");
    assert!(rules.contains("from 9.0.0.0/8 lookup 42"), "{rules}");
}

/// Everything netlink tells of a host's network that could flap.
fn dump(host: &str) -> String {
    [
        "-d link show vtep1024",
        "addr show vtep1024",
        "neigh show dev vtep1024",
        "route show table all",
        "-6 route show table all",
        "rule",
    ]
    .map(|what| run(&format!("ip -n {host} {what}")))
    .join("\n")
        + &run(&format!("bridge -n {host} fdb show dev vtep1024"))
}

#[test]
fn what_is_right_is_not_touched() {
    let hosts = hosts!(1);
    let (config, allocation) = allocated(20);
    let kernel = joined(&hosts, &config, &allocation, 0);
    let name = hosts.name(0);
    let before = dump(&name);
    // A process ends, another begins: nothing is to be done, and the kernel tells of no change.
    drop(kernel);
    let mut monitor = std::process::Command::new("ip")
        .args([
            "-n", &name, "monitor", "link", "address", "route", "neigh", "rule",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = monitor.stdout.take().unwrap();
    let mut kernel = hosts.on(0, || {
        let mut kernel = Kernel::open().unwrap();
        let own = own(&config, &allocation.agents()[&ip(0)]);
        assert!(!kernel.establish(&own).unwrap());
        kernel
    });
    let wanted = tunnels(&config, &allocation, 0);
    assert_eq!(kernel.reconcile(&wanted).unwrap(), 0);
    assert_eq!(kernel.found().unwrap(), wanted);
    assert_eq!(dump(&name), before);
    // A change of ours ends what the monitor has to tell of.
    run(&format!("ip -n {name} link add name mark type bridge"));
    let mut text = String::new();
    let mut piece = [0; 4096];
    while !text.contains("mark") {
        let read = told.read(&mut piece).unwrap();
        assert!(read > 0, "the monitor ended: {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    assert!(
        !text.contains("vtep1024") && !text.contains("44.128"),
        "{text}"
    );
}

#[test]
fn whatever_others_did_is_put_right() {
    let hosts = hosts!(1);
    let (config, allocation) = allocated(12);
    let mut kernel = joined(&hosts, &config, &allocation, 0);
    let name = hosts.name(0);
    let wanted = tunnels(&config, &allocation, 0);
    let harm = [
        "ip -n HOST link set vtep1024 down",
        "ip -n HOST link set vtep1024 mtu 1400",
        "ip -n HOST link set vtep1024 address 02:00:00:00:00:01",
        "ip -n HOST link del vtep1024",
        "ip -n HOST addr flush dev vtep1024 scope global",
        "ip -n HOST addr add 44.128.9.9/20 dev vtep1024",
        "ip -n HOST neigh flush dev vtep1024 nud permanent",
        "ip -n HOST neigh replace 44.128.0.5 lladdr 70:b3:d5:80:00:09 dev vtep1024 nud permanent",
        "bridge -n HOST fdb del 70:b3:d5:80:00:03 dev vtep1024 self",
        "bridge -n HOST fdb replace 70:b3:d5:80:00:04 dst 10.72.0.99 dev vtep1024 self permanent",
        "bridge -n HOST fdb add 02:00:00:00:00:07 dst 10.72.0.98 dev vtep1024 self permanent",
        "ip -n HOST route del 9.0.2.0/24",
        "ip -n HOST route replace 9.0.3.0/24 via 44.128.0.9 dev vtep1024 proto static",
        "ip -n HOST route flush table 42",
        "ip -n HOST rule del from 9.0.0.0/8 lookup 42",
        "ip -n HOST -6 route del fd01:b:0:0:3::/80",
    ];
    let mut random = Seed::new(6).stream("harm");
    for round in 0..60 {
        for _ in 0..=round % 3 {
            let command = random.pick(&harm).unwrap().replace("HOST", &name);
            let mut words = command.split(' ');
            // Some are not possible any more after others.
            let program = words.next().unwrap();
            std::process::Command::new(program)
                .args(words)
                .output()
                .unwrap();
        }
        hosts.on(0, || {
            kernel
                .establish(&own(&config, &allocation.agents()[&ip(0)]))
                .unwrap();
            kernel.reconcile(&wanted).unwrap();
        });
        assert_eq!(kernel.found().unwrap(), wanted, "round {round}");
        assert_eq!(kernel.reconcile(&wanted).unwrap(), 0, "round {round}");
    }
    let routes = run(&format!("ip -n {name} route show table main"));
    assert!(routes.contains("44.128.0.0/20 dev vtep1024"), "{routes}");
}

#[test]
fn an_address_that_others_gave_another_network_is_put_right() {
    let hosts = hosts!(1);
    let (config, allocation) = allocated(1);
    let mut kernel = joined(&hosts, &config, &allocation, 0);
    let name = hosts.name(0);
    for command in [
        "addr del fd01:a::1/64 dev vtep1024",
        "addr add fd01:a::1/112 dev vtep1024 nodad",
        "addr del 44.128.0.1/20 dev vtep1024",
        "addr add 44.128.0.1/24 dev vtep1024",
    ] {
        run(&format!("ip -n {name} {command}"));
    }
    let own = own(&config, &allocation.agents()[&ip(0)]);
    assert!(hosts.on(0, || kernel.establish(&own)).unwrap());
    let addresses = run(&format!(
        "ip -n {name} -o addr show dev vtep1024 scope global"
    ));
    for (address, is_there) in [
        ("fd01:a::1/64", true),
        ("fd01:a::1/112", false),
        ("44.128.0.1/20", true),
        ("44.128.0.1/24", false),
    ] {
        assert_eq!(addresses.contains(address), is_there, "{addresses}");
    }
    assert!(!hosts.on(0, || kernel.establish(&own)).unwrap());
}

#[test]
fn rules_that_others_took_away_are_made_again() {
    let hosts = hosts!(1);
    let (config, allocation) = allocated(2);
    let mut kernel = joined(&hosts, &config, &allocation, 0);
    let own = own(&config, &allocation.agents()[&ip(0)]);
    let inside = format!("ip netns exec {} nft", hosts.name(0));
    let list = || run(&format!("{inside} list table inet dcos-overlay"));
    let before = list();
    assert!(before.contains("masquerade"), "{before}");
    for harm in [
        "delete table inet dcos-overlay",
        "flush table inet dcos-overlay",
        "flush chain inet dcos-overlay postrouting",
        "add rule inet dcos-overlay postrouting drop",
    ] {
        run(&format!("{inside} {harm}"));
        assert!(hosts.on(0, || kernel.establish(&own).unwrap()), "{harm}");
        assert_eq!(list(), before, "{harm}");
        assert!(!hosts.on(0, || kernel.establish(&own).unwrap()), "{harm}");
    }
}

#[test]
fn a_peer_that_is_refused_keeps_no_other_away() {
    let hosts = hosts!(1);
    let (config, mut allocation) = allocated(2);
    let mut kernel = joined(&hosts, &config, &allocation, 0);
    // Nothing leads to its tunnel end.
    let (part, nowhere) = ("9.200.0.0/24".parse().unwrap(), [203, 0, 113, 9].into());
    let mut steps = vec![Step::Put(Entry::Route(part, nowhere))];
    // More than are sent at once.
    for host in 2..82 {
        let network = allocation.register(&config, ip(host), Wishes::ALL, None);
        steps.extend(Tunnels::change(ip(host), None, Some(network.unwrap())));
    }
    let refused = kernel.apply(&steps).unwrap_err().to_string();
    assert!(refused.contains("9.200.0.0"), "{refused}");
    assert_eq!(kernel.found().unwrap(), tunnels(&config, &allocation, 0));
}

#[test]
fn agents_come_and_go_by_a_handful_of_messages() {
    let hosts = hosts!(1);
    let (config, mut allocation) = allocated(5);
    let mut kernel = joined(&hosts, &config, &allocation, 0);
    let newcomer = ip(5);
    let network = allocation
        .register(&config, newcomer, Wishes::ALL, None)
        .unwrap()
        .clone();
    let steps = Tunnels::change(newcomer, None, Some(&network));
    // IPv4: neighbour, forward, route, way to the node; IPv6: neighbour and route.
    assert_eq!(steps.len(), 6);
    // Of a master, which has no containers, there is no route; of IPv4 alone that leaves three.
    let bare = Wishes {
        subnets: false,
        mesos_bridge: false,
        docker_bridge: false,
    };
    let mut others = Allocation::default();
    let master = others.register(&config, ip(9), bare, None).unwrap();
    let steps_of_a_master = Tunnels::change(ip(9), None, Some(master));
    let v4 = steps_of_a_master.iter().filter(|step| {
        let (Step::Put(entry) | Step::Take(entry)) = step;
        !entry.is_v6()
    });
    assert_eq!(v4.count(), 3);
    kernel.apply(&steps).unwrap();
    // Once more does no harm.
    kernel.apply(&steps).unwrap();
    assert_eq!(kernel.found().unwrap(), tunnels(&config, &allocation, 0));
    let back = Tunnels::change(newcomer, Some(&network), None);
    kernel.apply(&back).unwrap();
    kernel.apply(&back).unwrap();
    allocation.remove(newcomer);
    assert_eq!(kernel.found().unwrap(), tunnels(&config, &allocation, 0));
}

/// What the fourth entry of a peer is for: no network between nodes lets the addresses of containers pass.
#[test]
fn who_speaks_from_its_nodes_address_is_answered_through_the_tunnel() {
    let mut hosts = hosts!(2);
    let (config, allocation) = allocated(2);
    let (first, second) = (hosts.name(0), hosts.name(1));
    run(&format!(
        "ip netns exec {first} sysctl -qw net.ipv4.conf.all.rp_filter=1"
    ));
    let _kernel = joined(&hosts, &config, &allocation, 0);
    let mut kernel = joined(&hosts, &config, &allocation, 1);
    let there = hosts.container(1, "m-dcos", "9.0.1.1/25", "9.0.1.2/25", 1420);
    let (asking, answering) = (
        socket(&first, at("10.72.0.1", 0)),
        socket(&there, at("9.0.1.2", 9000)),
    );
    let mut buffer = [0; 8];
    // Answers are sent as long as it may be that one comes.
    let mut is_answered = |patience: Duration| {
        asking.set_read_timeout(Some(patience)).unwrap();
        asking.send_to(b"?", at("9.0.1.2", 9000)).unwrap();
        let (_, from) = answering.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip(), ip(0));
        answering.send_to(b"!", from).unwrap();
        asking.recv(&mut buffer).is_ok()
    };
    assert!(is_answered(PATIENCE));
    let way = Entry::Agent(ip(0), allocation.agents()[&ip(0)].vtep.ip.ip());
    kernel.apply(&[Step::Take(way)]).unwrap();
    assert!(
        !is_answered(Duration::from_secs(2)),
        "{second} has another way"
    );
    kernel.apply(&[Step::Put(way)]).unwrap();
    assert!(is_answered(PATIENCE));
}

#[test]
fn two_processes_do_not_undo_each_others_work() {
    let hosts = hosts!(1);
    hosts.on(0, || {
        let first = Kernel::open().unwrap();
        let second = Kernel::open().unwrap_err();
        assert!(second.to_string().contains("another process"), "{second}");
        drop(first);
        Kernel::open().unwrap();
    });
}

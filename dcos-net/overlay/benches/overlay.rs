//! What overlays cost: telling a kernel of all peers beside bare netlink, one peer coming, and
//! packets through the tunnel beside a VXLAN made by hand. In network namespaces of its own; takes
//! root.
//!
//! `cargo bench -p dcos-overlay -- --peers 1000`
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../tests/kernel/hosts.rs"]
mod hosts;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bench::{Table, argument, spent, timed};
use dcos_netlink::{CREATE, Messages, Protocol, REPLACE, Socket};
use dcos_overlay::{Allocation, Dataplane as _, Kernel, NetworkConfig, Own, Tunnels, Wishes};
use hosts::{Hosts, inside, ip, missing, run};

const ROUNDS: usize = 7;

/// DC/OS's own, of IPv4 alone: four entries a peer.
fn config() -> NetworkConfig {
    let config = NetworkConfig::default();
    NetworkConfig {
        vtep_subnet6: None,
        overlays: vec![config.overlays[0].clone()],
        ..config
    }
}

/// Agents that are nowhere, from 10.100.0.1 on.
fn allocated(peers: u32) -> Allocation {
    let mut allocation = Allocation::default();
    for peer in 0..peers {
        let agent = IpAddr::from(Ipv4Addr::from_bits(0x0a64_0001 + peer));
        allocation
            .register(&config(), agent, Wishes::ALL, None)
            .unwrap();
    }
    allocation
}

fn own(allocation: &Allocation, agent: IpAddr) -> Own {
    let network = &allocation.agents()[&agent];
    Own {
        vtep: network.vtep,
        mtu: 1450,
        parts: network.parts().collect(),
        overlays: config().overlays[0].subnet.into_iter().collect(),
    }
}

fn main() {
    if let Some(why) = missing() {
        #[expect(clippy::print_stdout, reason = "says why nothing was measured")]
        {
            println!("skipped: {why}");
        }
        return;
    }
    peers(argument("--peers").unwrap_or(1000));
    packets();
}

/// All peers into an empty kernel, a look at them, and one that comes and goes.
fn peers(count: u32) {
    let mut allocation = allocated(count);
    let hosts = Hosts::new(1);
    allocation
        .register(&config(), ip(0), Wishes::ALL, None)
        .unwrap();
    let own = own(&allocation, ip(0));
    let others = || {
        allocation
            .agents()
            .iter()
            .filter(|(agent, _)| **agent != ip(0))
    };
    let all = Tunnels::to(others(), None);
    let (mut bare, mut ours, mut looks, mut ones) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        hosts.on(0, || {
            let mut kernel = Kernel::open().unwrap();
            kernel.establish(&own).unwrap();
            bare.push(by_hand(others().map(|(agent, network)| {
                let part = network.parts().next().unwrap();
                (*agent, network.vtep.ip.ip(), network.vtep.mac.0, part.ip())
            })));
            kernel.remove().unwrap();

            let mut kernel = Kernel::open().unwrap();
            kernel.establish(&own).unwrap();
            ours.push(timed(|| kernel.reconcile(&all).unwrap()).1);
            looks.push(timed(|| assert_eq!(kernel.reconcile(&all).unwrap(), 0)).1);
            let (agent, network) = others().next_back().unwrap();
            for _ in 0..20 {
                let gone = Tunnels::change(*agent, Some(network), None);
                let back = Tunnels::change(*agent, None, Some(network));
                kernel.apply(&gone).unwrap();
                ones.push(timed(|| kernel.apply(&back).unwrap()).1 * 1000.0);
            }
            kernel.remove().unwrap();
        });
    }
    let mut table = Table::new(format!("{count} peers into the kernel of one host"), "ms");
    table.limit("bare netlink, 300 messages a send, the same entries", bare);
    table.row("compare, and put what is missing", ours);
    table.row("compare, nothing to do", looks);
    table.print();
    let mut table = Table::new(format!("one more peer beside {count}"), "us");
    table.row("its four entries", ones);
    table.print();
}

/// What adds a message to others.
type Write = Box<dyn Fn(&mut Messages)>;

/// The same entries, by messages that are ready before the clock runs.
fn by_hand(peers: impl Iterator<Item = (IpAddr, IpAddr, [u8; 6], IpAddr)>) -> f64 {
    let index: u32 = std::fs::read_to_string("/sys/class/net/vtep1024/ifindex")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(index_by_ip);
    let v4 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => unreachable!("all are of IPv4"),
    };
    let mut writes: Vec<Write> = Vec::new();
    for (agent, end, mac, part) in peers {
        let (agent, end, part, link) = (v4(agent), v4(end), v4(part), index.to_ne_bytes());
        let neighbour = move |family: u8, flags: u8| {
            let [a, b, c, d] = link;
            [family, 0, 0, 0, a, b, c, d, 0x80, 0, flags, 0]
        };
        let flags = CREATE | REPLACE;
        writes.push(Box::new(move |all| {
            all.begin(28, flags, &neighbour(2, 0))
                .put(1, &end)
                .put(2, &mac)
                .end();
        }));
        writes.push(Box::new(move |all| {
            all.begin(28, flags, &neighbour(7, 2))
                .put(2, &mac)
                .put(1, &agent)
                .end();
        }));
        for (to, length, table) in [(part, 24, 254), (agent, 32, 42)] {
            writes.push(Box::new(move |all| {
                let header = [2, length, 0, 0, table, 4, 0, 1, 0, 0, 0, 0];
                all.begin(24, flags, &header)
                    .put(1, &to)
                    .put(5, &end)
                    .put(4, &link)
                    .end();
            }));
        }
    }
    let batches: Vec<Messages> = writes
        .chunks(300)
        .map(|some| {
            let mut messages = Messages::new();
            for write in some {
                write(&mut messages);
            }
            messages.acknowledge_last();
            messages
        })
        .collect();
    let mut socket = Socket::open(Protocol::Route).unwrap();
    timed(|| {
        for batch in &batches {
            assert_eq!(socket.transact(batch, batch.last()).unwrap(), []);
        }
    })
    .1
}

/// `/sys` may show another network namespace than this thread's.
fn index_by_ip() -> u32 {
    let text = run("ip -o link show vtep1024");
    text.split(':').next().unwrap().parse().unwrap()
}

/// Two hosts with a container each, through our tunnel and through one that `ip` made, which masquerades what leaves the overlay, or
/// does not.
fn packets() {
    let mut ours = Hosts::new(2);
    let mut allocation = Allocation::default();
    for host in 0..2 {
        allocation
            .register(&config(), ip(host), Wishes::ALL, None)
            .unwrap();
    }
    for host in 0..2 {
        ours.on(host, || {
            let mut kernel = Kernel::open().unwrap();
            kernel.establish(&own(&allocation, ip(host))).unwrap();
            let others = allocation
                .agents()
                .iter()
                .filter(|(agent, _)| **agent != ip(host));
            let rules = config().overlays[0].subnet;
            kernel.reconcile(&Tunnels::to(others, rules)).unwrap();
        });
    }
    let (mut plain, mut masquerading) = (made_by_ip(false), made_by_ip(true));
    let pair = |hosts: &mut Hosts| {
        [0, 1].map(|host| {
            let (gateway, address) = (format!("9.0.{host}.1/25"), format!("9.0.{host}.2/25"));
            hosts.container(host, "m-dcos", &gateway, &address, 1420)
        })
    };
    let pairs = [&mut plain, &mut masquerading, &mut ours].map(pair);
    for [_, server] in &pairs {
        serve(server);
    }
    let (mut streams, mut answers) = ([(); 3].map(|()| Vec::new()), [(); 3].map(|()| Vec::new()));
    for round in 0..ROUNDS * 3 {
        // Whoever goes first changes from round to round.
        for turn in 0..3 {
            let one = (round + turn) % 3;
            streams[one].push(stream(&pairs[one][0]));
            answers[one].push(questions(&pairs[one][0]));
        }
    }
    for (topic, units, rows) in [
        (
            "one stream between containers of two hosts",
            ["Gbit/s", "Gbit/s of a processor"],
            streams,
        ),
        (
            "questions and answers of one byte",
            ["1/s", "1/s of a processor"],
            answers,
        ),
    ] {
        for (which, unit) in units.into_iter().enumerate() {
            let figures = |both: &Vec<[f64; 2]>| both.iter().map(|both| both[which]).collect();
            let [plain, masquerading, ours] = rows.each_ref().map(figures);
            let mut table = Table::new(topic, unit);
            table.limit("VXLAN made by `ip`, which masquerades", masquerading);
            table.row("ours, which does", ours);
            table.row("VXLAN made by `ip` alone", plain);
            table.print();
        }
    }
}

/// Two hosts with a tunnel that our code has no part in.
fn made_by_ip(masquerades: bool) -> Hosts {
    let hosts = Hosts::new(2);
    for host in 0..2 {
        let (name, other) = (hosts.name(host), 1 - host);
        let (mac, far) = (
            format!("70:b3:d5:80:00:0{}", host + 1),
            format!("70:b3:d5:80:00:0{}", other + 1),
        );
        for command in [
            "link add vtep1024 mtu 1450 type vxlan id 1024 dstport 64000 noudpcsum".to_owned(),
            format!("link set vtep1024 address {mac} up"),
            format!("addr add 44.128.0.{}/20 dev vtep1024", host + 1),
            format!(
                "neigh add 44.128.0.{} lladdr {far} dev vtep1024 nud permanent",
                other + 1
            ),
            format!(
                "route add 9.0.{other}.0/24 via 44.128.0.{} dev vtep1024",
                other + 1
            ),
        ] {
            run(&format!("ip -n {name} {command}"));
        }
        run(&format!(
            "bridge -n {name} fdb add {far} dev vtep1024 dst {} self permanent",
            ip(other)
        ));
        if masquerades {
            let nft = format!("ip netns exec {name} nft");
            run(&format!("{nft} add table ip by-hand"));
            run(&format!(
                "{nft} add chain ip by-hand out {{ type nat hook postrouting priority 100 ; }}"
            ));
            run(&format!(
                "{nft} add rule ip by-hand out ip saddr 9.0.{host}.0/24 ip daddr != 9.0.0.0/8 masquerade"
            ));
        }
    }
    hosts
}

/// Answers each byte on one port; takes whatever comes on another.
fn serve(namespace: &str) {
    let (sink, echo) = inside(namespace, || {
        (
            TcpListener::bind("0.0.0.0:5001").unwrap(),
            TcpListener::bind("0.0.0.0:5002").unwrap(),
        )
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        while let Ok((mut client, _)) = sink.accept() {
            while client.read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = echo.accept() {
            client.set_nodelay(true).unwrap();
            let mut byte = [0];
            while client.read_exact(&mut byte).is_ok() && client.write_all(&byte).is_ok() {}
        }
    });
}

const FOR: Duration = Duration::from_secs(1);

fn connect(namespace: &str, port: u16) -> TcpStream {
    let stream = inside(namespace, || {
        TcpStream::connect(SocketAddr::from(([9, 0, 1, 2], port)))
    });
    let stream = stream.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// In a second, and in one of a processor: what it would be with nobody else on the machine.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
fn stream(namespace: &str) -> [f64; 2] {
    let mut stream = connect(namespace, 5001);
    let (begin, before) = (Instant::now(), spent());
    let (buffer, mut sent) = (vec![7; 1 << 17], 0_u64);
    while begin.elapsed() < FOR {
        stream.write_all(&buffer).unwrap();
        sent += 1 << 17;
    }
    [begin.elapsed().as_secs_f64(), spent() - before].map(|time| sent as f64 * 8.0 / 1e9 / time)
}

fn questions(namespace: &str) -> [f64; 2] {
    let mut stream = connect(namespace, 5002);
    let (begin, before, mut count) = (Instant::now(), spent(), 0_u32);
    let mut byte = [0];
    while begin.elapsed() < FOR {
        stream.write_all(&byte).unwrap();
        stream.read_exact(&mut byte).unwrap();
        count += 1;
    }
    [begin.elapsed().as_secs_f64(), spent() - before].map(|time| f64::from(count) / time)
}

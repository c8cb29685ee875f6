//! What virtual addresses cost: filling the kernel's maps, one change, and connections, each beside
//! a peer or the same without us. In network namespaces of its own; takes root.
//!
//! `cargo bench -p dcos-l4lb -- --vips 10000`
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../tests/kernel/hosts.rs"]
mod hosts;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench::{Table, argument, timed};
use dcos_l4lb::{
    Balancer, Config, Connections, Dataplane, DataplaneError, Kernel, Repairs, Services, WAITING,
};
use dcos_net::vip::{Change, Protocol, Service};
use dcos_netlink::{CREATE, Messages, Protocol as Family, Socket};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::Event;
use dcos_wire::Told;
use hosts::{Hosts, Talk, ask, ask_by_datagram, ip, missing};
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 5;

fn service(number: u32) -> Service {
    let ip = std::net::Ipv4Addr::from_bits(0x0b00_0000 + number);
    Service {
        protocol: Protocol::Tcp,
        address: SocketAddr::new(ip.into(), 80),
    }
}

/// Every VIP has the same three backends.
fn backends() -> Vec<SocketAddr> {
    (8000..8003)
        .map(|port| SocketAddr::new(ip("b", true), port))
        .collect()
}

fn main() {
    if let Some(why) = missing() {
        #[expect(clippy::print_stdout, reason = "says why nothing was measured")]
        {
            println!("skipped: {why}");
        }
        return;
    }
    // What tests use and a bench does not.
    let _ = ask_by_datagram;
    let vips: u32 = argument("--vips").unwrap_or(10_000);
    let hosts = Hosts::new();
    for port in 8000..8003 {
        hosts.serve("b", port, "B");
    }
    let all: Services = (1..=vips)
        .map(|number| (service(number), backends()))
        .collect();
    fill(&hosts, &all);
    let mut kernel = hosts.on("node", Kernel::open).unwrap();
    kernel.reconcile(&all, true).unwrap();
    change(&hosts, &mut kernel);
    connections(&hosts, vips);
    drop(kernel);
    events(hosts.on("node", Kernel::open).unwrap(), vips);
    hosts.on("node", Kernel::open).unwrap().remove().unwrap();
}

/// All VIPs into empty maps, and a look at all of them.
fn fill(hosts: &Hosts, all: &Services) {
    let (mut ours, mut looks, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut kernel = hosts.on("node", Kernel::open).unwrap();
        ours.push(timed(|| kernel.reconcile(all, true).unwrap()).1);
        looks.push(timed(|| kernel.reconcile(all, true).unwrap()).1);
        hosts.on("node", || kernel.remove()).unwrap();

        let kernel = hosts.on("node", Kernel::open).unwrap();
        let text = elements(all);
        peer.push(hosts.on("node", || timed(|| nft(&text)).1));
        hosts.on("node", || kernel.remove()).unwrap();
    }
    let mut table = Table::new(
        format!("{} VIPs x 3 backends into the kernel", all.len()),
        "ms",
    );
    table.limit("nft -f, the same elements", peer);
    table.row("fill", ours);
    table.row("compare with the kernel, nothing to do", looks);
    table.print();
}

fn elements(all: &Services) -> String {
    let (mut vips, mut places) = (String::new(), String::new());
    for (service, backends) in all {
        let (ip, port) = (service.address.ip(), service.address.port());
        let _ = write!(vips, "tcp . {ip} . {port} : dc05:{:x},", backends.len());
        for (lot, backend) in backends.iter().enumerate() {
            let (to, at) = (backend.ip(), backend.port());
            let _ = write!(places, "tcp . {ip} . {port} . {lot} : {to} . {at},");
        }
    }
    format!(
        "add element inet dcos-l4lb lots4 {{ {vips} }}\nadd element inet dcos-l4lb backends4 {{ {places} }}\n"
    )
}

fn nft(text: &str) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    nft.stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(nft.wait().unwrap().success());
}

/// One VIP loses a backend and gets it back, beside nothing but the kernel's part of that.
fn change(hosts: &Hosts, kernel: &mut Kernel) {
    let (service, three) = (service(7), backends());
    let (mut lost, mut came, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_lost, mut bare_came) = (Vec::new(), Vec::new());
    let mut socket = hosts
        .on("node", || Socket::open(Family::Netfilter))
        .unwrap();
    for round in 0..1000 {
        let now = if round % 2 == 0 { &three[..2] } else { &three };
        let changes = [(service, Some(now.to_vec()))];
        let begun = Instant::now();
        kernel.apply(&changes).unwrap();
        let changed = begun.elapsed().as_secs_f64() * 1e6;
        if round % 2 == 0 {
            lost.push(changed);
            // Changes one by one, not the storm that costs one look at what is tracked.
            kernel.wait_until_forgotten();
            forgotten.push(begun.elapsed().as_secs_f64() * 1e6);
        } else {
            came.push(changed);
        }
    }
    // With three of them again: the same elements, in messages that are written beforehand.
    for round in 0..1000 {
        let comes = round % 2 == 1;
        let batch = raw(service, three[2], comes);
        let last = batch.last() - 1;
        let (failures, took) = timed(|| socket.transact(&batch, last).unwrap());
        assert!(failures.is_empty(), "{failures:?}");
        if comes {
            &mut bare_came
        } else {
            &mut bare_lost
        }
        .push(took * 1000.0);
    }
    let ip = service.address.ip();
    let texts = [2, 3].map(|lots| {
        format!(
            "delete element inet dcos-l4lb lots4 {{ tcp . {ip} . 80 }}\nadd element inet dcos-l4lb lots4 {{ tcp . {ip} . 80 : dc05:{lots} }}\n"
        )
    });
    let peer = hosts.on("node", || {
        let one = |round: usize| timed(|| nft(&texts[round % 2])).1 * 1000.0;
        (0..ROUNDS * 2).map(one).collect()
    });
    let mut table = Table::new("one VIP changed: a backend comes", "us");
    table.limit("the same elements, bare netlink", bare_came);
    table.row("in effect", came);
    table.row("nft -f, one element", peer);
    table.print();
    let mut table = Table::new("one VIP changed: a backend goes", "us");
    table.limit("the same elements, bare netlink", bare_lost);
    table.row("in effect", lost);
    table.row("flows to it are forgotten", forgotten);
    table.print();
}

/// The transaction by which a service has its third backend, or two only.
fn raw(service: Service, third: SocketAddr, comes: bool) -> Messages {
    let place = |address: SocketAddr| {
        let std::net::IpAddr::V4(ip) = address.ip() else {
            unreachable!("the bench has IPv4 only")
        };
        [&ip.octets()[..], &address.port().to_be_bytes(), &[0; 2]].concat()
    };
    let key = [&[6, 0, 0, 0][..], &place(service.address)].concat();
    let lot = [&key[..], &2_u32.to_ne_bytes()].concat();
    let lots = |count: u32| (0xdc05_0000 + count).to_ne_bytes();
    let (before, after) = if comes { (2, 3) } else { (3, 2) };
    let (add, delete) = (0xa0c, 0xa0e);
    let backend = if comes { (add, CREATE) } else { (delete, 0) };
    let mut batch = Messages::new();
    batch.begin(0x10, 0, &[0, 0, 0, 10]).end();
    for (kind, flags, map, key, value) in [
        (delete, 0, "lots4", &key, &lots(before)[..]),
        (backend.0, backend.1, "backends4", &lot, &place(third)),
        (add, CREATE, "lots4", &key, &lots(after)),
    ] {
        let message = batch.begin(kind, flags, &[1, 0, 0, 0]);
        message.text(1, "dcos-l4lb").text(2, map);
        message.open(3).open(1).open(1).put(1, key).close();
        if kind == add {
            message.open(2).put(1, value).close();
        }
        message.close().close().end();
    }
    batch.acknowledge_last();
    batch.begin(0x11, 0, &[0, 0, 0, 10]).end();
    batch
}

/// A data path that says when it is through with a change.
struct Watched {
    kernel: Kernel,
    done: std::sync::mpsc::Sender<Instant>,
}

impl Dataplane for Watched {
    fn reconcile(&mut self, services: &Services, strict: bool) -> Result<Repairs, DataplaneError> {
        let repaired = self.kernel.reconcile(services, strict);
        self.done.send(Instant::now()).unwrap();
        repaired
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), DataplaneError> {
        let applied = self.kernel.apply(changes);
        self.done.send(Instant::now()).unwrap();
        applied
    }

    fn withdraw(&mut self, addresses: &[std::net::IpAddr]) -> Result<(), DataplaneError> {
        self.kernel.withdraw(addresses)
    }

    fn is_untouched(&mut self) -> Result<bool, DataplaneError> {
        self.kernel.is_untouched()
    }

    fn connections(&mut self) -> Result<Connections, DataplaneError> {
        self.kernel.connections()
    }
}

/// From what the master tells to what the kernel does, through the loop of an agent.
fn events(kernel: Kernel, vips: u32) {
    let task = |number: u32| {
        let (app, port) = (number / 3, 10_000 + number % 3);
        format!(
            r#"{{"name": "a{app}", "task_id": {{"value": "t{number}"}}, "framework_id": {{"value": "f"}},
            "agent_id": {{"value": "S0"}}, "state": "TASK_RUNNING", "discovery": {{"visibility": "CLUSTER",
            "ports": {{"ports": [{{"number": {port}, "protocol": "tcp",
            "labels": {{"labels": [{{"key": "VIP_0", "value": "/a{app}:80"}}]}}}}]}}}}}}"#
        )
    };
    let tasks: Vec<String> = (0..vips * 3).map(task).collect();
    let subscribed = format!(
        r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{"get_agents": {{"agents": [{{"agent_info":
        {{"id": {{"value": "S0"}}, "hostname": "h"}}, "active": true, "version": "1", "pid": "slave(1)@10.0.0.7:5051"}}]}},
        "get_frameworks": {{"frameworks": [{{"framework_info": {{"id": {{"value": "f"}}, "user": "root",
        "name": "marathon"}}, "active": true, "connected": true, "recovered": false}}]}},
        "get_tasks": {{"tasks": [{}]}}}}}}}}"#,
        tasks.join(",")
    );
    let event = |text: &str| {
        let event: Event = json::from_slice(text.as_bytes(), Dialect::V1).unwrap();
        Told::Event(event.into())
    };
    let healthy = |healthy: bool| {
        event(&format!(
            r#"{{"type": "TASK_UPDATED", "task_updated": {{"framework_id": {{"value": "f"}}, "state": "TASK_RUNNING",
            "status": {{"task_id": {{"value": "t22"}}, "state": "TASK_RUNNING", "timestamp": 1.0,
            "healthy": {healthy}}}}}}}"#
        ))
    };
    let (tell, told) = tokio::sync::mpsc::channel(WAITING);
    let (done, changed) = std::sync::mpsc::channel();
    let config = Config {
        told,
        own: Vec::new(),
        reserved: None,
        unreachable: None,
    };
    let balancer = Balancer::new(config, Watched { kernel, done });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let stop = CancellationToken::new();
    let running = runtime.spawn(balancer.run(stop.clone()));
    tell.blocking_send(event(&subscribed)).unwrap();
    changed.recv().unwrap();
    let (mut goes, mut comes) = (Vec::new(), Vec::new());
    for round in 0..1000 {
        let is_healthy = round % 2 == 1;
        let event = healthy(is_healthy);
        let begun = Instant::now();
        tell.blocking_send(event).unwrap();
        let took = (changed.recv().unwrap() - begun).as_secs_f64() * 1e6;
        if is_healthy { &mut comes } else { &mut goes }.push(took);
        // As changes come: one by one.
        std::thread::sleep(Duration::from_millis(2));
    }
    stop.cancel();
    runtime.block_on(running).unwrap();
    let mut table = Table::new(format!("what the master tells of one of {vips} VIPs"), "us");
    table.published("the goal", 1000.0);
    table.row("a backend comes: in effect", comes);
    table.row("a backend goes: in effect", goes);
    table.print();
}

/// Connections a second through the node: connect, one byte each way, close.
fn connections(hosts: &Hosts, vips: u32) {
    let (mut direct, mut balanced) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let straight = SocketAddr::new(ip("b", true), 8000);
        direct.push(rate(hosts, &|_| straight));
        balanced.push(rate(hosts, &|number| service(number % vips + 1).address));
    }
    let mut table = Table::new(
        format!("connections through the node, of {vips} VIPs"),
        "1/s",
    );
    table.limit("straight to a backend", direct);
    table.row("to a VIP", balanced);
    table.print();
}

fn rate(hosts: &Hosts, to: &(dyn Fn(u32) -> SocketAddr + Sync)) -> f64 {
    const FOR: Duration = Duration::from_secs(2);
    let begin = Instant::now();
    let done: u32 = std::thread::scope(|scope| {
        let client = |first: u32| {
            hosts.on("a", || {
                let mut done = 0;
                while begin.elapsed() < FOR {
                    let to = to(first.wrapping_add(done).wrapping_mul(2_654_435_761));
                    let answer = Talk::open(to).and_then(|mut talk| talk.ask());
                    assert_eq!(answer.unwrap_or_default(), "B", "{}", ask(to));
                    done += 1;
                }
                done
            })
        };
        let clients: Vec<_> = (0..4)
            .map(|first| scope.spawn(move || client(first << 16)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    f64::from(done) / begin.elapsed().as_secs_f64()
}

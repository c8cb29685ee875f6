//! What virtual addresses cost: filling the kernel's maps, one change, and connections, each beside
//! a peer or the same without us. In network namespaces of its own; takes root.
//!
//! `cargo bench -p dcos-l4lb -- --vips 10000`
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../tests/kernel/hosts.rs"]
mod hosts;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bench::{Table, argument, spent, timed};
use dcos_l4lb::{
    Balancer, Config, DataPath, Dataplane, DataplaneError, Kernel, Reader, Repairs, Services,
    WAITING,
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
    let _ = (ask_by_datagram, ask, Talk::open);
    let vips: u32 = argument("--vips").unwrap_or(10_000);
    let hosts = Hosts::new();
    for port in 8000..8003 {
        hosts.serve("b", port, "B");
    }
    let all: Services = (1..=vips)
        .map(|number| (service(number), backends()))
        .collect();
    let paths: Vec<DataPath> = [DataPath::Nftables, DataPath::Ebpf]
        .into_iter()
        .filter(|path| hosts.on("node", || Kernel::open(*path)).is_ok())
        .collect();
    fill(&hosts, &all, &paths);
    for path in &paths {
        let mut kernel = open(&hosts, *path);
        kernel.reconcile(&all, true).unwrap();
        change(&hosts, &mut kernel, *path);
    }
    let streams = streams(&hosts);
    connections(&hosts, vips, &all, &paths, streams);
    for path in &paths {
        events(open(&hosts, *path), vips, *path);
    }
    open(&hosts, DataPath::Nftables).remove().unwrap();
}

fn name(path: DataPath) -> &'static str {
    match path {
        DataPath::Nftables => "nftables",
        _ => "eBPF at connect()",
    }
}

fn open(hosts: &Hosts, path: DataPath) -> Kernel {
    hosts.on("node", || Kernel::open(path)).unwrap()
}

/// All VIPs into empty maps, and a look at all of them.
fn fill(hosts: &Hosts, all: &Services, paths: &[DataPath]) {
    let mut peer = Vec::new();
    let mut ours: Vec<_> = paths.iter().map(|_| (Vec::new(), Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (path, (fills, looks)) in paths.iter().zip(&mut ours) {
            let mut kernel = open(hosts, *path);
            fills.push(timed(|| kernel.reconcile(all, true).unwrap()).1);
            looks.push(timed(|| kernel.reconcile(all, true).unwrap()).1);
            hosts.on("node", || kernel.remove()).unwrap();
        }

        let kernel = open(hosts, DataPath::Nftables);
        let text = elements(all);
        peer.push(hosts.on("node", || timed(|| nft(&text)).1));
        hosts.on("node", || kernel.remove()).unwrap();
    }
    let mut table = Table::new(
        format!("{} VIPs x 3 backends into the kernel", all.len()),
        "ms",
    );
    table.limit("nft -f, the same elements", peer);
    for (path, (fills, looks)) in paths.iter().zip(ours) {
        let and = match path {
            DataPath::Nftables => "",
            _ => ", and eBPF's",
        };
        table.row(format!("fill{and}"), fills);
        table.row(format!("compare, nothing to do{and}"), looks);
    }
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
fn change(hosts: &Hosts, kernel: &mut Kernel, path: DataPath) {
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
    let mut table = Table::new(
        format!("one VIP changed ({}): a backend comes", name(path)),
        "us",
    );
    table.limit("the same elements, bare netlink", bare_came);
    table.row("in effect", came);
    table.row("nft -f, one element", peer);
    table.print();
    let mut table = Table::new(
        format!("one VIP changed ({}): a backend goes", name(path)),
        "us",
    );
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

    fn adopt(&mut self, services: &BTreeSet<Service>) -> Result<Services, DataplaneError> {
        self.kernel.adopt(services)
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

    fn reader(&mut self) -> Result<Box<dyn Reader>, DataplaneError> {
        self.kernel.reader()
    }
}

/// From what the master tells to what the kernel does, through the loop of an agent.
fn events(kernel: Kernel, vips: u32, path: DataPath) {
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
        memory: None,
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
    let mut table = Table::new(
        format!(
            "what the master tells of one of {vips} VIPs ({})",
            name(path)
        ),
        "us",
    );
    table.published("the goal", 1000.0);
    table.row("a backend comes: in effect", comes);
    table.row("a backend goes: in effect", goes);
    table.print();
}

/// A VIP of its own, whose backend takes whatever it is sent, and that backend.
fn streams(hosts: &Hosts) -> (Service, SocketAddr) {
    let at = SocketAddr::new(ip("b", true), 9000);
    let listener = hosts.on("b", || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let mut buffer = vec![0; 256 << 10];
            while client.read(&mut buffer).is_ok_and(|read| read > 0) {}
            let _ = client.write_all(b".");
        }
    });
    let address = SocketAddr::new([11, 255, 0, 1].into(), 90);
    let protocol = Protocol::Tcp;
    (Service { protocol, address }, at)
}

/// Connections (connect, one byte each way, reset) and what one of them carries, from the node itself and from a
/// container through it, straight and to VIPs: in a second, and in a second of a processor, which is what the rate would be with
/// nobody else on the machine and all of its processors busy.
fn connections(
    hosts: &Hosts,
    vips: u32,
    all: &Services,
    paths: &[DataPath],
    (stream, sink): (Service, SocketAddr),
) {
    let mut all = all.clone();
    all.insert(stream, vec![sink]);
    let straight = |number: u32| backends()[(number % 3) as usize];
    let to_vip = |number: u32| service(number % vips + 1).address;
    // From the node and from a container: straight, and by each data path.
    let mut rates = [(); 2].map(|()| vec![Vec::new(); 1 + paths.len()]);
    let mut carried = rates.clone();
    let from = ["node", "a"];
    for _ in 0..ROUNDS {
        for (from, (rates, carried)) in from.iter().zip(rates.iter_mut().zip(&mut carried)) {
            rates[0].push(rate(hosts, from, &straight));
            carried[0].push(throughput(hosts, from, sink));
        }
        for (number, path) in paths.iter().enumerate() {
            let mut kernel = open(hosts, *path);
            kernel.reconcile(&all, true).unwrap();
            for (from, (rates, carried)) in from.iter().zip(rates.iter_mut().zip(&mut carried)) {
                rates[number + 1].push(rate(hosts, from, &to_vip));
                carried[number + 1].push(throughput(hosts, from, stream.address));
            }
        }
    }
    for (of, units, tables) in [
        ("connections", ["1/s", "1/s of a processor"], rates),
        ("a stream", ["Gbit/s", "Gbit/s of a processor"], carried),
    ] {
        for (from, rows) in ["the node itself", "a container"].iter().zip(tables) {
            for (which, unit) in units.iter().enumerate() {
                let mut table = Table::new(format!("{of} from {from}, of {vips} VIPs"), *unit);
                let names = paths.iter().map(|path| format!("to VIPs, {}", name(*path)));
                let mut rows = rows
                    .iter()
                    .map(|row| row.iter().map(|both| both[which]).collect());
                table.limit("straight to backends", rows.next().unwrap_or_default());
                for (name, row) in names.zip(rows) {
                    table.row(name, row);
                }
                table.print();
            }
        }
    }
}

/// Connections in a second, and in one of a processor.
fn rate(hosts: &Hosts, from: &str, to: &(dyn Fn(u32) -> SocketAddr + Sync)) -> [f64; 2] {
    const FOR: Duration = Duration::from_secs(2);
    let (begin, before) = (Instant::now(), spent());
    let done: u32 = std::thread::scope(|scope| {
        let client = |first: u32| {
            hosts.on(from, || {
                let mut done = 0;
                while begin.elapsed() < FOR {
                    let mut stream = TcpStream::connect(to(first
                        .wrapping_add(done)
                        .wrapping_mul(2_654_435_761)))
                    .unwrap();
                    let mut answer = [0];
                    stream.write_all(b"?").unwrap();
                    stream.read_exact(&mut answer).unwrap();
                    // A port is free again at once.
                    let reset = Some(Duration::ZERO);
                    rustix::net::sockopt::set_socket_linger(&stream, reset).unwrap();
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
    [begin.elapsed().as_secs_f64(), spent() - before].map(|time| f64::from(done) / time)
}

/// What one connection carries in a second, and in one of a processor, in Gbit.
fn throughput(hosts: &Hosts, from: &str, to: SocketAddr) -> [f64; 2] {
    hosts.on(from, || {
        let mut stream = TcpStream::connect(to).unwrap();
        let (begin, before) = (Instant::now(), spent());
        let (chunk, mut sent) = (vec![0; 128 << 10], 0.0);
        while begin.elapsed() < Duration::from_secs(1) {
            stream.write_all(&chunk).unwrap();
            sent += 128.0 * 1024.0 * 8.0;
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // All of it is there.
        stream.read_exact(&mut [0]).unwrap();
        [begin.elapsed().as_secs_f64(), spent() - before].map(|time| sent / time / 1e9)
    })
}

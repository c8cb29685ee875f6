//! Backends that die without anybody telling: the node finds out by connections to them.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dcos_l4lb::{Balancer, Config, DataPath, Failures, View, WAITING};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::Event;
use dcos_wire::Told;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::hosts::{Hosts, ask, ip};
use super::{answers, at, nft, open, set};

/// Where the tasks are reached.
pub(super) const VIP: ([u8; 4], u16) = ([10, 77, 1, 2], 80);

/// A node that balances and looks what becomes of it. It ends when dropped.
pub(super) struct Node {
    pub(super) view: View,
    told: mpsc::Sender<Told>,
    runtime: tokio::runtime::Runtime,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Of these tasks, each of which listens on a port of its host.
    pub(super) fn start(hosts: &Hosts, path: DataPath, tasks: &[(&str, u16)]) -> Self {
        let kernel = open(hosts, path);
        let watcher = hosts.on("node", || kernel.watcher()).unwrap();
        let watcher = watcher.trying_within(std::time::Duration::ZERO);
        let (tell, told) = mpsc::channel(WAITING);
        let config = Config {
            told,
            own: vec![ip("node", true)],
            reserved: None,
            unreachable: None,
            memory: None,
        };
        let mut balancer = Balancer::new(config, kernel);
        let failures = hosts
            .on("node", || watcher.start(&balancer.view()))
            .unwrap();
        balancer.avoid(failures);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (view, stop) = (balancer.view(), CancellationToken::new());
        let running = Some(runtime.spawn(balancer.run(stop.clone())));
        let node = Self {
            view,
            told: tell,
            runtime,
            stop,
            running,
        };
        node.tell(&subscribed(tasks));
        node.wait("VIPs", |view| !view.list().is_empty());
        node
    }

    fn tell(&self, event: &str) {
        let event: Event = json::from_slice(event.as_bytes(), Dialect::V1).unwrap();
        self.told.blocking_send(Told::Event(event.into())).unwrap();
    }

    pub(super) fn wait(&self, what: &str, is_so: impl Fn(&View) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.view) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{what}: {:?}",
                self.view.failures()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            let _ = self.runtime.block_on(running);
        }
    }
}

/// What a master tells first.
fn subscribed(tasks: &[(&str, u16)]) -> String {
    let all = tasks.iter().enumerate();
    let agents = all.clone().map(|(number, (host, _))| {
        let at = ip(host, true);
        format!(
            r#"{{"agent_info": {{"id": {{"value": "S{number}"}}, "hostname": "{host}"}}, "active": true, "version": "1",
            "pid": "slave(1)@{at}:5051"}}"#
        )
    });
    let tasks = all.map(|(number, (_, port))| {
        let (ip, vip) = VIP;
        let vip = SocketAddr::from((ip, vip));
        format!(
            r#"{{"name": "web", "task_id": {{"value": "t{number}"}}, "framework_id": {{"value": "f"}},
            "agent_id": {{"value": "S{number}"}}, "state": "TASK_RUNNING", "discovery": {{"visibility": "CLUSTER",
            "ports": {{"ports": [{{"number": {port}, "protocol": "tcp",
            "labels": {{"labels": [{{"key": "VIP_0", "value": "{vip}"}}]}}}}]}}}}}}"#
        )
    });
    let (agents, tasks): (Vec<_>, Vec<_>) = (agents.collect(), tasks.collect());
    format!(
        r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{"get_agents": {{"agents": [{}]}},
        "get_frameworks": {{"frameworks": [{{"framework_info": {{"id": {{"value": "f"}}, "user": "root",
        "name": "marathon"}}, "active": true, "connected": true, "recovered": false}}]}},
        "get_tasks": {{"tasks": [{}]}}}}}}}}"#,
        agents.join(","),
        tasks.join(",")
    )
}

/// Clients of the node that ask one after the other, as long as something is done.
fn with_clients<T>(hosts: &Hosts, count: usize, work: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                hosts.on("node", || {
                    while !is_done.load(Ordering::Relaxed) {
                        let patience = Duration::from_secs(5);
                        drop(TcpStream::connect_timeout(&VIP.into(), patience));
                        std::thread::sleep(Duration::from_millis(50));
                    }
                });
            });
        }
        let _done = Done(&is_done);
        work()
    })
}

/// Says so when dropped, by a panic as well.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn a_backend_that_dies_is_avoided_and_comes_back(path: DataPath) {
    let hosts = super::hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    let both = [("a", 8000), ("b", 8000)];
    let node = Node::start(&hosts, path, &both);
    let (vip, dying) = (VIP.into(), at("a", true, 8000));
    assert_eq!(answers(&hosts, "node", vip), set(&["A", "B"]));
    let is_avoided = |view: &View| view.failures().avoided.contains(&dying);
    // Whom the node never reached it does not avoid.
    node.wait("both reached", |view| view.failures().reached == 2);
    for how in ["drop", "reject with tcp reset"] {
        let table = super::SILENT.replace("drop", how);
        let stopped = with_clients(&hosts, 3, || {
            nft(&hosts, "a", &table);
            let begun = Instant::now();
            node.wait("avoided", is_avoided);
            begun.elapsed()
        });
        node.wait("led elsewhere", |view| {
            let listed = view.list();
            listed.iter().any(|vip| vip.avoided.contains(&dying))
        });
        // Whoever comes once the kernel knows is led elsewhere, who waited as well, and nobody is led back while it is dead.
        let led_elsewhere = |_: &View| answers(&hosts, "node", vip) == set(&["B"]);
        node.wait("only the other one", led_elsewhere);
        assert_eq!(answers(&hosts, "node", vip), set(&["B"]), "{how}");
        let failures = node.view.failures();
        assert!(failures.counts[&dying] > 0, "{failures:?}");
        // The other one restarts: the only one has all connections, and is known to be dead all the same.
        node.tell(&subscribed(&both[..1]));
        let known = failures.counts[&dying];
        with_clients(&hosts, 3, || {
            node.wait("failures of the only one", |view| {
                let counts = view.failures().counts;
                counts.get(&dying).is_some_and(|now| *now > known)
            });
        });
        assert!(is_avoided(&node.view), "{how}");
        node.tell(&subscribed(&both));
        node.wait("reached again", |view| view.failures().reached == 2);
        assert!(is_avoided(&node.view), "{how}");
        node.wait("the other one alone again", led_elsewhere);
        assert_eq!(answers(&hosts, "node", vip), set(&["B"]), "{how}");
        nft(&hosts, "a", "delete table inet gone");
        let begun = Instant::now();
        node.wait("given connections again", |view| !is_avoided(view));
        let back = begun.elapsed();
        eprintln!(
            "{path:?}, {how}: no connections after {stopped:?}, some again {back:?} after it is back"
        );
        let answers = || answers(&hosts, "node", vip);
        node.wait("answers of both", |_| answers() == set(&["A", "B"]));
    }
    // The last one is avoided by nobody.
    let refusing = super::SILENT.replace("drop", "reject with tcp reset");
    for host in ["a", "b"] {
        nft(&hosts, host, &refusing);
    }
    with_clients(&hosts, 3, || {
        node.wait("both avoided", |view| view.failures().avoided.len() == 2);
    });
    node.wait("both in use", |view| {
        view.list().iter().all(|vip| vip.avoided.is_empty())
    });
    nft(&hosts, "b", "delete table inet gone");
    node.wait("the one that is back", |_| {
        hosts.on("node", || ask(vip)) == "B"
    });
}

pub(super) fn a_backend_that_hears_only_some_is_not_avoided(path: DataPath) {
    let hosts = super::hosts_of!(path);
    hosts.serve("b", 8000, "B");
    let slow = at("a", true, 8000);
    let listener = hosts.on("a", || TcpListener::bind(slow)).unwrap();
    // One waits for being taken in, and whoever else asks meanwhile is not heard.
    rustix::net::listen(&listener, 0).unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::sleep(Duration::from_millis(300));
            drop(client);
        }
    });
    let node = Node::start(&hosts, path, &[("a", 8000), ("b", 8000)]);
    // Its backlog has room for a trial until there are clients.
    node.wait("both reached", |view| view.failures().reached == 2);
    let mut seen: BTreeSet<SocketAddr> = BTreeSet::new();
    with_clients(&hosts, 24, || {
        let begun = Instant::now();
        let mut failed = Failures::default();
        // Until clients have waited in vain for long, and a verdict was due often enough.
        while begun.elapsed() < Duration::from_secs(25) || !failed.counts.contains_key(&slow) {
            failed = node.view.failures();
            seen.extend(&failed.avoided);
            assert!(begun.elapsed() < Duration::from_secs(120), "nobody waits");
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{path:?}: {} were not heard", failed.counts[&slow]);
    });
    assert!(seen.is_empty(), "{seen:?}");
}

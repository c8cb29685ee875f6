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
use dcos_l4lb::{Dataplane as _, Kernel, Services};
use dcos_net::vip::{Protocol, Service};
use hosts::{Hosts, Talk, ask, ask_by_datagram, ip, missing};

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
    kernel.remove().ok();
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
        let _ = write!(vips, "tcp . {ip} . {port} : goto to4-{},", backends.len());
        for (lot, backend) in backends.iter().enumerate() {
            let (to, at) = (backend.ip(), backend.port());
            let _ = write!(places, "tcp . {ip} . {port} . {lot} : {to} . {at},");
        }
    }
    format!(
        "add element inet dcos-l4lb vips4 {{ {vips} }}\nadd element inet dcos-l4lb backends4 {{ {places} }}\n"
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

/// One VIP loses a backend and gets it back.
fn change(hosts: &Hosts, kernel: &mut Kernel) {
    let (service, three) = (service(7), backends());
    let (mut lost, mut came, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
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
    let ip = service.address.ip();
    let texts = [
        format!(
            "delete element inet dcos-l4lb vips4 {{ tcp . {ip} . 80 }}\nadd element inet dcos-l4lb vips4 {{ tcp . {ip} . 80 : goto to4-2 }}\n"
        ),
        format!(
            "delete element inet dcos-l4lb vips4 {{ tcp . {ip} . 80 }}\nadd element inet dcos-l4lb vips4 {{ tcp . {ip} . 80 : goto to4-3 }}\n"
        ),
    ];
    let peer = hosts.on("node", || {
        let one = |round: usize| timed(|| nft(&texts[round % 2])).1 * 1000.0;
        (0..ROUNDS * 2).map(one).collect()
    });
    let mut table = Table::new("one VIP changed", "us");
    table.limit("nft -f, one element", peer);
    table.row("a backend comes: in effect", came);
    table.row("a backend goes: in effect", lost);
    table.row("a backend goes: flows to it are forgotten", forgotten);
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

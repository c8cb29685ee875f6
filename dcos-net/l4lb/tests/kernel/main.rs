//! The data path in real network namespaces: who is reached, from where, and what the kernel holds.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod failing;
mod hosts;
mod restart;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use dcos_l4lb::{Connections, DataPath, Dataplane as _, DataplaneError, Kernel, Services};
use dcos_net::vip::{Protocol, Service};
use dcos_netlink::{Changes, Lock, Passage, PassageError, Porter};
use failing::{
    a_backend_that_dies_is_avoided_and_comes_back, a_backend_that_hears_only_some_is_not_avoided,
};
use hosts::{Hosts, Talk, ask, ask_by_datagram, ip, missing};
use restart::what_an_earlier_process_left_can_be_gone_on_with;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// The hosts, or why there are none.
macro_rules! hosts_of {
    ($path:ident) => {
        match $crate::missing().map_or_else(|| $crate::with_path($path), |why| Err(why.to_owned()))
        {
            Ok(hosts) => hosts,
            Err(why) => {
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}

use hosts_of;

/// The hosts, if this kernel has that data path.
fn with_path(path: DataPath) -> Result<Hosts, String> {
    let hosts = Hosts::new();
    if path == DataPath::Ebpf {
        match hosts.on("node", || Kernel::open(path)) {
            Ok(kernel) => kernel.remove().unwrap(),
            Err(DataplaneError::Connect { source }) => return Err(source.to_string()),
            Err(error) => panic!("{error}"),
        }
    }
    Ok(hosts)
}

fn open(hosts: &Hosts, path: DataPath) -> Kernel {
    hosts.on("node", || Kernel::open(path)).unwrap()
}

/// All of these, of either data path: what they promise is the same.
macro_rules! of_each_path {
    ($($test:ident),* $(,)?) => {
        mod nftables {
            $(#[test]
            fn $test() {
                super::$test(dcos_l4lb::DataPath::Nftables);
            })*
        }
        mod ebpf {
            $(#[test]
            fn $test() {
                super::$test(dcos_l4lb::DataPath::Ebpf);
            })*
        }
    };
}

of_each_path!(
    connections_from_everywhere_are_spread_over_all_backends,
    connections_that_stand_do_not_notice_changes,
    new_connections_work_at_every_moment_of_a_change,
    what_an_earlier_process_left_at_a_masters_address_goes,
    no_address_of_the_node_itself_is_a_virtual_one,
    connections_nobody_answered_begin_again_when_their_backend_goes,
    datagrams_choose_anew_when_their_backend_goes,
    what_was_sent_before_there_was_a_vip_finds_it,
    datagrams_leave_what_an_earlier_process_had_no_time_to_forget,
    after_a_storm_of_changes_no_datagram_goes_to_a_backend_that_left,
    datagrams_find_back_from_a_server_on_every_address_of_the_node,
    a_new_process_takes_over_what_the_last_one_left,
    what_an_earlier_process_left_can_be_gone_on_with,
    a_table_of_earlier_releases_is_taken_over,
    balanced_connections_pass_a_firewall_as_dockers_and_nothing_else_does,
    a_node_without_a_default_route_reaches_virtual_addresses,
    after_any_changes_the_kernel_holds_what_it_should,
    a_backend_that_dies_is_avoided_and_comes_back,
    a_backend_that_hears_only_some_is_not_avoided,
);

fn vip(v4: bool, protocol: Protocol, port: u16) -> Service {
    let address = if v4 { "11.1.1.1" } else { "fd01:c::1" };
    Service {
        protocol,
        address: SocketAddr::new(address.parse().unwrap(), port),
    }
}

fn at(host: &str, v4: bool, port: u16) -> SocketAddr {
    SocketAddr::new(ip(host, v4), port)
}

/// The names of those who answer 60 connections.
fn answers(hosts: &Hosts, from: &str, to: SocketAddr) -> BTreeSet<String> {
    hosts.on(from, || (0..60).map(|_| ask(to)).collect())
}

fn counted(hosts: &Hosts, kernel: &mut Kernel) -> Connections {
    let mut reader = hosts.on("node", || kernel.reader()).unwrap();
    reader.connections().unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn connections_from_everywhere_are_spread_over_all_backends(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    hosts.serve("node", 8000, "N");
    let mut kernel = open(&hosts, path);
    for v4 in [true, false] {
        let service = vip(v4, Protocol::Tcp, 80);
        let backends = ["a", "b", "node"].map(|host| at(host, v4, 8000)).to_vec();
        kernel.apply(&[(service, Some(backends.clone()))]).unwrap();
        // The node itself, a container, and one that is a backend as well: itself included.
        for from in ["node", "a", "b"] {
            let found = answers(&hosts, from, service.address);
            assert_eq!(found, set(&["A", "B", "N"]), "from {from}, IPv4: {v4}");
        }
        let counted = counted(&hosts, &mut kernel);
        let of_vip: u64 = backends
            .iter()
            .map(|backend| counted[&(service, *backend)])
            .sum();
        assert_eq!(of_vip, 180);

        kernel.apply(&[(service, Some(Vec::new()))]).unwrap();
        for from in ["node", "a"] {
            let refused = hosts.on(from, || ask(service.address));
            assert_eq!(refused, "ConnectionRefused", "from {from}, IPv4: {v4}");
        }
    }
    kernel.remove().unwrap();
}

fn connections_that_stand_do_not_notice_changes(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    let mut kernel = open(&hosts, path);
    let service = vip(true, Protocol::Tcp, 80);
    let (a, b) = (at("a", true, 8000), at("b", true, 8000));
    kernel.apply(&[(service, Some(vec![a]))]).unwrap();
    let mut talks: Vec<(&str, Talk)> = ["node", "b"]
        .into_iter()
        .map(|from| {
            (
                from,
                hosts.on(from, || Talk::open(service.address).unwrap()),
            )
        })
        .collect();
    for now in [Some(vec![a, b]), Some(vec![b]), Some(Vec::new()), None] {
        kernel.apply(&[(service, now.clone())]).unwrap();
        for (from, talk) in &mut talks {
            assert_eq!(talk.ask().unwrap(), "A", "from {from}, with {now:?}");
        }
        if now == Some(vec![b]) {
            assert_eq!(answers(&hosts, "node", service.address), set(&["B"]));
        }
    }
}

fn new_connections_work_at_every_moment_of_a_change(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    let mut kernel = open(&hosts, path);
    let service = vip(true, Protocol::Tcp, 80);
    let (a, b) = (at("a", true, 8000), at("b", true, 8000));
    let ways = [vec![a], vec![a, b], vec![b]];
    kernel.apply(&[(service, Some(ways[0].clone()))]).unwrap();
    let hosts = &hosts;
    std::thread::scope(|scope| {
        let asking = scope.spawn(move || {
            hosts.on("node", || {
                let answer = || ask(service.address);
                (0..300).map(|_| answer()).collect::<BTreeSet<String>>()
            })
        });
        let mut changes = 0;
        while !asking.is_finished() {
            changes += 1;
            let way = &ways[changes % ways.len()];
            kernel.apply(&[(service, Some(way.clone()))]).unwrap();
        }
        let found = asking.join().unwrap();
        assert!(
            found.is_subset(&set(&["A", "B"])),
            "{found:?} in {changes} changes"
        );
    });
}

fn what_an_earlier_process_left_at_a_masters_address_goes(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    let mut kernel = open(&hosts, path);
    let (stays, goes) = (vip(true, Protocol::Tcp, 80), vip(false, Protocol::Tcp, 80));
    let backends = |v4| Some(vec![at("a", v4, 8000)]);
    let changes = [(stays, backends(true)), (goes, backends(false))];
    kernel.apply(&changes).unwrap();
    drop(kernel);
    let mut kernel = open(&hosts, path);
    assert_eq!(hosts.on("node", || ask(goes.address)), "A");
    kernel.withdraw(&[goes.address.ip()]).unwrap();
    assert_ne!(hosts.on("node", || ask(goes.address)), "A");
    assert_eq!(hosts.on("node", || ask(stays.address)), "A");
    // Nothing is left that would have to be put right.
    let services = Services::from([(stays, vec![at("a", true, 8000)])]);
    let repairs = kernel.reconcile(&services, true).unwrap();
    assert_eq!(repairs, dcos_l4lb::Repairs::default());
    kernel.remove().unwrap();
}

fn no_address_of_the_node_itself_is_a_virtual_one(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("node", 8000, "N");
    let mut kernel = open(&hosts, path);
    for v4 in [true, false] {
        let second = if v4 { "10.71.2.1" } else { "fd71:2::1" };
        let second = SocketAddr::new(second.parse().unwrap(), 8000);
        for address in [at("node", v4, 8000), second] {
            let service = Service {
                protocol: Protocol::Tcp,
                address,
            };
            let backends = vec![at("a", v4, 8000)];
            kernel.apply(&[(service, Some(backends))]).unwrap();
        }
        for from in ["node", "a", "b"] {
            let own = hosts.on(from, || ask(at("node", v4, 8000)));
            assert_eq!(own, "N", "from {from}, IPv4: {v4}");
            // Nobody listens at the other one.
            let refused = hosts.on(from, || ask(second));
            assert_eq!(refused, "ConnectionRefused", "from {from}, IPv4: {v4}");
        }
    }
    kernel.remove().unwrap();
}

fn connections_nobody_answered_begin_again_when_their_backend_goes(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("b", 8000, "B");
    // A host that is gone says nothing.
    nft(&hosts, "a", SILENT);
    let mut kernel = open(&hosts, path);
    let hosts = &hosts;
    for v4 in [true, false] {
        let service = vip(v4, Protocol::Tcp, 80);
        let (gone, there) = (at("a", v4, 8000), at("b", v4, 8000));
        kernel.apply(&[(service, Some(vec![gone]))]).unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(move || hosts.on("node", || ask(service.address)));
            while counted(hosts, &mut kernel)[&(service, gone)] == 0 {
                std::thread::yield_now();
            }
            kernel.apply(&[(service, Some(vec![there]))]).unwrap();
            // What chose at connect() cannot choose anew: who waits is told so, instead of waiting for minutes.
            let expected = match path {
                DataPath::Ebpf => "ConnectionAborted",
                _ => "B",
            };
            assert_eq!(asking.join().unwrap(), expected, "IPv4: {v4}");
            assert_eq!(hosts.on("node", || ask(service.address)), "B");
        });
    }
    kernel.remove().unwrap();
}

/// A host that hears no connections.
const SILENT: &str = "table inet gone {\nchain silent {\ntype filter hook input priority 0\ntcp dport 8000 drop\n}\n}";

/// The way out, from which nobody answers either.
const NOWHERE: &str = "table inet out {\nchain silent {\ntype filter hook prerouting priority -400\nip daddr 11.1.1.1 drop\n}\n}";

fn nft(hosts: &Hosts, host: &str, rules: &str) {
    hosts.on(host, || {
        let done = std::process::Command::new("nft").arg(rules).status();
        assert!(done.unwrap().success());
    });
}

#[test]
fn who_is_answered_by_a_backend_after_that_left_is_served() {
    let path = DataPath::Ebpf;
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    let mut kernel = open(&hosts, path);
    let hosts = &hosts;
    for v4 in [true, false] {
        let service = vip(v4, Protocol::Tcp, 80);
        let leaving = at("a", v4, 8000);
        kernel.apply(&[(service, Some(vec![leaving]))]).unwrap();
        nft(hosts, "a", SILENT);
        std::thread::scope(|scope| {
            let asking = scope.spawn(move || hosts.on("node", || ask(service.address)));
            while counted(hosts, &mut kernel)[&(service, leaving)] == 0 {
                std::thread::yield_now();
            }
            kernel.apply(&[(service, Some(Vec::new()))]).unwrap();
            // Whoever waits in vain has been looked for, and this one may be answered yet: its packet was lost.
            kernel.wait_until_forgotten();
            nft(hosts, "a", "delete table inet gone");
            assert_eq!(asking.join().unwrap(), "A", "IPv4: {v4}");
        });
    }
    kernel.remove().unwrap();
}

fn datagrams_choose_anew_when_their_backend_goes(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    let mut kernel = open(&hosts, path);
    for v4 in [true, false] {
        let service = vip(v4, Protocol::Udp, 53);
        let (a, b) = (at("a", v4, 8000), at("b", v4, 8000));
        for from in ["node", "b"] {
            kernel.apply(&[(service, Some(vec![a]))]).unwrap();
            let own = SocketAddr::new(if v4 { [0; 4].into() } else { [0_u16; 8].into() }, 0);
            let socket = hosts.on(from, || UdpSocket::bind(own).unwrap());
            assert_eq!(ask_by_datagram(&socket, service.address), "A");
            kernel.apply(&[(service, Some(vec![a, b]))]).unwrap();
            assert_eq!(ask_by_datagram(&socket, service.address), "A", "it stays");
            kernel.apply(&[(service, Some(vec![b]))]).unwrap();
            kernel.wait_until_forgotten();
            assert_eq!(
                ask_by_datagram(&socket, service.address),
                "B",
                "from {from}"
            );
        }
    }
}

fn what_was_sent_before_there_was_a_vip_finds_it(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("b", 8000, "B");
    nft(&hosts, "a", NOWHERE);
    let mut kernel = open(&hosts, path);
    // Of IPv6 nothing leaves the node: it is refused, and the kernel does not keep it in mind.
    let (datagrams, connections) = (vip(true, Protocol::Udp, 53), vip(true, Protocol::Tcp, 80));
    let b = at("b", true, 8000);
    for from in ["node", "b"] {
        // Both go out of the node, where nobody answers.
        let socket = hosts.on(from, || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.send_to(b"?", datagrams.address).unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| hosts.on(from, || ask(connections.address)));
            std::thread::sleep(Duration::from_millis(200));
            let come = [datagrams, connections].map(|service| (service, Some(vec![b])));
            kernel.apply(&come).unwrap();
            kernel.wait_until_forgotten();
            let answer = ask_by_datagram(&socket, datagrams.address);
            assert_eq!(answer, "B", "from {from}");
            assert_eq!(asking.join().unwrap(), "B", "from {from}");
        });
        let go = [datagrams, connections].map(|service| (service, None));
        kernel.apply(&go).unwrap();
        kernel.wait_until_forgotten();
    }
    kernel.remove().unwrap();
}

fn datagrams_leave_what_an_earlier_process_had_no_time_to_forget(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    let service = vip(true, Protocol::Udp, 53);
    let (a, b) = (at("a", true, 8000), at("b", true, 8000));
    let mut kernel = open(&hosts, path);
    kernel.apply(&[(service, Some(vec![a]))]).unwrap();
    let socket = hosts.on("node", || UdpSocket::bind("0.0.0.0:0").unwrap());
    assert_eq!(ask_by_datagram(&socket, service.address), "A");
    drop(kernel);
    // What a process does that is killed right after a change: the maps lead elsewhere, the flows do not know.
    let key = format!("udp . {} . 53 . 0", service.address.ip());
    let place = |to: SocketAddr| format!("{} . {}", to.ip(), to.port());
    let (old, new) = (place(a), place(b));
    let text = format!(
        "delete element inet dcos-l4lb backends4 {{ {key} : {old} }}\n\
         add element inet dcos-l4lb backends4 {{ {key} : {new} }}\n"
    );
    hosts.on("node", || {
        let done = std::process::Command::new("nft")
            .arg(text)
            .status()
            .unwrap();
        assert!(done.success());
    });
    assert_eq!(ask_by_datagram(&socket, service.address), "A");
    let mut kernel = open(&hosts, path);
    let services = Services::from([(service, vec![b])]);
    let repairs = kernel.reconcile(&services, true).unwrap();
    assert_eq!((repairs.services, repairs.strangers), (0, 0));
    kernel.wait_until_forgotten();
    assert_eq!(ask_by_datagram(&socket, service.address), "B");
    kernel.remove().unwrap();
}

fn after_a_storm_of_changes_no_datagram_goes_to_a_backend_that_left(path: DataPath) {
    let hosts = hosts_of!(path);
    let names = ["a", "b", "node"];
    for (host, name) in names.into_iter().zip(["A", "B", "N"]) {
        hosts.serve(host, 8000, name);
    }
    let mut kernel = open(&hosts, path);
    let mut dice = Dice(11);
    let services: Vec<(bool, Service)> = (0..8)
        .map(|number| {
            (
                number % 2 == 0,
                vip(number % 2 == 0, Protocol::Udp, 60 + number),
            )
        })
        .collect();
    let clients: Vec<(UdpSocket, usize)> = (0..32)
        .map(|client| {
            let number = client % services.len();
            let own = SocketAddr::new(
                if services[number].0 {
                    [0; 4].into()
                } else {
                    [0_u16; 8].into()
                },
                0,
            );
            (hosts.on("node", || UdpSocket::bind(own).unwrap()), number)
        })
        .collect();
    for _ in 0..5 {
        let mut now = vec![BTreeSet::new(); services.len()];
        for step in 0..40 {
            // All of them first, so that each client has somebody to leave.
            let number = if step < 8 {
                step
            } else {
                usize::try_from(dice.below(8)).unwrap()
            };
            let (v4, service) = services[number];
            let some = 1 + dice.below(7);
            let chosen = names
                .into_iter()
                .enumerate()
                .filter(|(place, _)| some >> place & 1 == 1);
            let chosen: Vec<&str> = chosen.map(|(_, name)| name).collect();
            let backends = chosen.iter().map(|host| at(host, v4, 8000)).collect();
            kernel.apply(&[(service, Some(backends))]).unwrap();
            now[number] = chosen.iter().map(|host| host[..1].to_uppercase()).collect();
            let (socket, number) = &clients[usize::try_from(dice.below(32)).unwrap()];
            if !now[*number].is_empty() {
                // Whoever answers: a flow is there.
                let _ = ask_by_datagram(socket, services[*number].1.address);
            }
        }
        kernel.wait_until_forgotten();
        for (socket, number) in &clients {
            let answer = ask_by_datagram(socket, services[*number].1.address);
            assert!(
                now[*number].contains(&answer),
                "{answer} is none of {:?}",
                now[*number]
            );
        }
    }
    kernel.remove().unwrap();
}

fn datagrams_find_back_from_a_server_on_every_address_of_the_node(path: DataPath) {
    let hosts = hosts_of!(path);
    let mut kernel = open(&hosts, path);
    for v4 in [true, false] {
        let any = |port| SocketAddr::new(if v4 { [0; 4].into() } else { [0_u16; 8].into() }, port);
        let port = if v4 { 8004 } else { 8006 };
        let server = hosts.on("node", || UdpSocket::bind(any(port)).unwrap());
        std::thread::spawn(move || {
            let mut question = [0; 16];
            while let Ok((_, client)) = server.recv_from(&mut question) {
                let _ = server.send_to(b"N", client);
            }
        });
        let service = vip(v4, Protocol::Udp, 53);
        let backend = at("node", v4, port);
        kernel.apply(&[(service, Some(vec![backend]))]).unwrap();
        // The backend's address is on the network of `a`; the node answers `b` from another one.
        for from in ["node", "a", "b"] {
            let socket = hosts.on(from, || UdpSocket::bind(any(0)).unwrap());
            let answer = ask_by_datagram(&socket, service.address);
            assert_eq!(answer, "N", "from {from}, IPv4: {v4}");
        }
    }
    kernel.remove().unwrap();
}

fn a_new_process_takes_over_what_the_last_one_left(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    let service = vip(true, Protocol::Tcp, 80);
    let other = vip(true, Protocol::Tcp, 81);
    let a = vec![at("a", true, 8000)];
    let mut kernel = open(&hosts, path);
    let services = Services::from([(service, a.clone()), (other, a.clone())]);
    assert_eq!(kernel.reconcile(&services, true).unwrap().services, 2);
    drop(kernel);
    assert_eq!(hosts.on("node", || ask(service.address)), "A");

    let mut kernel = open(&hosts, path);
    assert_eq!(hosts.on("node", || ask(service.address)), "A");
    let known = Services::from([(service, a.clone())]);
    // What it does not know yet stays while it may only not have been told.
    let repairs = kernel.reconcile(&known, false).unwrap();
    assert_eq!((repairs.services, repairs.strangers), (0, 0));
    assert_eq!(hosts.on("node", || ask(other.address)), "A");
    let repairs = kernel.reconcile(&known, true).unwrap();
    assert_eq!((repairs.services, repairs.strangers), (0, 2));
    assert_eq!(kernel.reconcile(&known, true).unwrap().strangers, 0);

    // Somebody else's hand.
    assert!(kernel.is_untouched().unwrap());
    hosts.on("node", || {
        let all = "flush ruleset".to_owned();
        let done = std::process::Command::new("nft").arg(all).status().unwrap();
        assert!(done.success());
    });
    assert!(!kernel.is_untouched().unwrap());
    assert!(kernel.apply(&[(other, Some(a.clone()))]).is_err());
    assert_eq!(
        hosts
            .on("node", || kernel.reconcile(&known, true))
            .unwrap()
            .services,
        1
    );
    assert_eq!(hosts.on("node", || ask(service.address)), "A");
    assert!(kernel.is_untouched().unwrap());
}

fn a_table_of_earlier_releases_is_taken_over(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    // As it was: elements that lead to chains, and a rule that looks for them.
    let former = "table inet dcos-l4lb {\n\
        chain to4-1 {\n}\n\
        map vips4 {\ntypeof meta l4proto . ip daddr . th dport : verdict\n\
        elements = {\ntcp . 11.1.1.1 . 80 : goto to4-1\n}\n}\n\
        chain output {\ntype nat hook output priority -110\n\
        meta l4proto { tcp, udp } meta l4proto . ip daddr . th dport vmap @vips4\n}\n}\n";
    let nft = |arguments: &[&str]| {
        let done = std::process::Command::new("nft").args(arguments).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    hosts.on("node", || nft(&[former]));
    let mut kernel = open(&hosts, path);
    let service = vip(true, Protocol::Tcp, 80);
    let services = Services::from([(service, vec![at("a", true, 8000)])]);
    let repairs = kernel.reconcile(&services, true).unwrap();
    assert_eq!((repairs.services, repairs.strangers), (1, 0));
    assert_eq!(hosts.on("node", || ask(service.address)), "A");
    let now = hosts.on("node", || nft(&["list", "table", "inet", "dcos-l4lb"]));
    assert!(!now.contains("vips4"), "{now}");
    // What nft says it also reads: operators save rules and load them again.
    hosts.on("node", || {
        nft(&["flush", "ruleset"]);
        nft(&[&now]);
    });
    assert_eq!(hosts.on("node", || ask(service.address)), "A");
    kernel.remove().unwrap();
}

/// Whether nobody answers a connection, and nobody refuses it: two attempts of the kernel are waited for.
fn is_dropped(to: SocketAddr) -> bool {
    let opened = TcpStream::connect_timeout(&to, Duration::from_secs(2));
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// Makes the rules of a host as Docker leaves them, or says why that is not possible here.
fn close_as_docker(hosts: &Hosts, host: &str) -> Result<(), String> {
    hosts.on(host, || {
        for family in ["iptables", "ip6tables"] {
            for rule in [
                "-P FORWARD DROP",
                "-N DOCKER-USER",
                "-A FORWARD -j DOCKER-USER",
                "-A DOCKER-USER -j RETURN",
            ] {
                let done = std::process::Command::new(family)
                    .args(rule.split(' '))
                    .output()
                    .map_err(|error| format!("running {family}: {error}"))?;
                if !done.status.success() {
                    return Err(String::from_utf8_lossy(&done.stderr).into_owned());
                }
            }
        }
        Ok(())
    })
}

fn balanced_connections_pass_a_firewall_as_dockers_and_nothing_else_does(path: DataPath) {
    let hosts = hosts_of!(path);
    if let Err(why) = close_as_docker(&hosts, "node") {
        eprintln!("skipped: {why}");
        return;
    }
    hosts.serve("b", 8000, "B");
    let mut kernel = open(&hosts, path);
    let (mut porter, mut changes) = (Porter::new(), hosts.on("node", Changes::open).unwrap());
    let passage = dcos_l4lb::passage();
    let listing = || {
        hosts.on("node", || {
            let told = |family| {
                let told = std::process::Command::new(family).arg("-S").output();
                String::from_utf8(told.unwrap().stdout).unwrap()
            };
            told("iptables") + &told("ip6tables")
        })
    };
    let closed = listing();
    assert!(hosts.on("node", || porter.keep(&passage)).unwrap());
    assert!(!hosts.on("node", || porter.keep(&passage)).unwrap());
    assert!(changes.concern("filter").unwrap());
    let open = listing();
    for v4 in [true, false] {
        let service = vip(v4, Protocol::Tcp, 80);
        let datagrams = vip(v4, Protocol::Udp, 53);
        let backend = vec![at("b", v4, 8000)];
        kernel
            .apply(&[(service, Some(backend.clone())), (datagrams, Some(backend))])
            .unwrap();
        // Several packets each way: of a connection only the first is looked up.
        let talked = hosts.on("a", || {
            let mut talk = Talk::open(service.address)?;
            (0..5).map(|_| talk.ask()).collect::<Result<String, _>>()
        });
        assert_eq!(talked.unwrap(), "BBBBB", "IPv4: {v4}");
        let any = SocketAddr::new(if v4 { [0; 4].into() } else { [0_u16; 8].into() }, 0);
        let socket = hosts.on("a", || UdpSocket::bind(any).unwrap());
        for _ in 0..3 {
            assert_eq!(ask_by_datagram(&socket, datagrams.address), "B");
        }
        assert!(
            hosts.on("a", || is_dropped(at("b", v4, 8000))),
            "only what is balanced passes, IPv4: {v4}"
        );
    }

    // Somebody flushes all; then Docker comes back.
    assert!(!changes.concern("filter").unwrap(), "VIPs are no rules");
    let flush = |family: &str| {
        let done = std::process::Command::new(family).arg("-F").status();
        assert!(done.unwrap().success());
    };
    hosts.on("node", || flush("iptables"));
    assert!(changes.concern("filter").unwrap());
    assert!(!changes.concern("mangle").unwrap());
    let again = vip(true, Protocol::Tcp, 80).address;
    assert!(hosts.on("a", || is_dropped(again)));
    // Meanwhile Docker's chain is there, and nobody calls it.
    assert!(hosts.on("node", || porter.keep(&passage)).unwrap());
    assert_eq!(hosts.on("a", || ask(again)), "B");
    hosts.on("node", || {
        for rule in ["-A FORWARD -j DOCKER-USER", "-A DOCKER-USER -j RETURN"] {
            let docker = std::process::Command::new("iptables")
                .args(rule.split(' '))
                .status();
            assert!(docker.unwrap().success());
        }
        assert!(porter.keep(&passage).unwrap());
    });
    assert_eq!(hosts.on("a", || ask(again)), "B");
    assert_eq!(listing(), open);
    // What an operator refuses later, or Docker as between its networks, stays refused.
    let filter = |rule: &str| {
        let done = std::process::Command::new("iptables")
            .args(rule.split(' '))
            .status();
        assert!(done.unwrap().success());
    };
    for (operator, moves) in [("-A FORWARD", true), ("-I FORWARD 2", false)] {
        hosts.on("node", || filter(&format!("{operator} -o to-b -j DROP")));
        assert_eq!(hosts.on("node", || porter.keep(&passage)).unwrap(), moves);
        assert!(hosts.on("a", || is_dropped(again)), "{operator}");
        hosts.on("node", || filter("-D FORWARD -o to-b -j DROP"));
        assert_eq!(hosts.on("a", || ask(again)), "B");
    }
    assert_eq!(listing(), open);
    // One who starts anew finds what the last left, and another process leaves it to who has it.
    let other = hosts.on("node", || {
        Porter::new().keep(&Passage::closed(passage.chain))
    });
    assert!(
        matches!(other, Err(PassageError::Taken { .. })),
        "{other:?}"
    );
    // Nobody is in the way of one that finds nothing to close.
    hosts.on("node", || {
        let _begins = Lock::take("dcos-passage-DCOS-NONE").unwrap();
        let (standing, failures) = Porter::standing(&["DCOS-NONE", passage.chain]);
        assert_eq!((standing, failures.len()), (vec![passage.chain], 0));
        let none = Passage::closed("DCOS-NONE");
        assert!(!Porter::new().keep(&none).unwrap());
    });
    drop(porter);
    let mut porter = Porter::new();
    hosts.on("node", || porter.keep(&passage)).unwrap();
    assert_eq!(listing(), open);
    let gone = Passage::closed(passage.chain);
    assert!(hosts.on("node", || porter.keep(&gone)).unwrap());
    assert_eq!(listing(), closed);
    assert!(hosts.on("a", || is_dropped(again)));
    kernel.remove().unwrap();
}

fn a_node_without_a_default_route_reaches_virtual_addresses(path: DataPath) {
    let hosts = hosts_of!(path);
    hosts.on("node", || {
        for family in ["-4", "-6"] {
            let arguments = [family, "route", "del", "default"];
            let done = std::process::Command::new("ip").args(arguments).status();
            assert!(done.unwrap().success());
        }
    });
    hosts.serve("b", 8000, "B");
    let services = [true, false].map(|v4| (vip(v4, Protocol::Tcp, 80), at("b", v4, 8000)));
    for (service, _) in services {
        let way = hosts.on("node", || ask(service.address));
        assert_eq!(way, "NetworkUnreachable", "nobody made a way yet");
    }
    let mut kernel = open(&hosts, path);
    for (service, backend) in services {
        kernel.apply(&[(service, Some(vec![backend]))]).unwrap();
        for from in ["node", "a"] {
            let answer = hosts.on(from, || ask(service.address));
            assert_eq!(answer, "B", "from {from}: {service}");
            // Nobody's address of the same network is refused, and nobody waits.
            let other = match service.address.ip() {
                std::net::IpAddr::V4(_) => "11.9.9.9:80",
                std::net::IpAddr::V6(_) => "[fd01:c::9]:80",
            };
            let refused = hosts.on(from, || ask(other.parse().unwrap()));
            assert_eq!(refused, "ConnectionRefused", "from {from}: {other}");
        }
    }
    // Who has another way to these addresses, by whichever rule, goes it.
    let ip = |arguments: &str| {
        let done = std::process::Command::new("ip")
            .args(arguments.split(' '))
            .status();
        assert!(done.unwrap().success(), "ip {arguments}");
    };
    let real: SocketAddr = "11.9.9.9:80".parse().unwrap();
    let listener = hosts.on("b", || {
        ip("addr add 11.9.9.9/32 dev lo");
        std::net::TcpListener::bind(real).unwrap()
    });
    hosts.on("node", || {
        // Answers come from where the node itself has no way to yet.
        for of in ["all", "to-b"] {
            let name = format!("net.ipv4.conf.{of}.rp_filter=0");
            let done = std::process::Command::new("sysctl")
                .args(["-qw", &name])
                .status();
            assert!(done.unwrap().success());
        }
        ip("route add 11.9.0.0/16 via 10.71.2.2 table 100");
        ip("rule add iif to-a lookup 100");
    });
    let connected = |from| {
        let patience = Duration::from_secs(20);
        hosts.on(from, || TcpStream::connect_timeout(&real, patience))
    };
    connected("a").unwrap();
    hosts.on("node", || ip("route add 11.9.0.0/16 via 10.71.2.2"));
    connected("node").unwrap();
    drop(listener);
    // Somebody takes it away.
    hosts.on("node", || {
        let gone = std::process::Command::new("ip")
            .args(["link", "del", "dcos-vip"])
            .status();
        assert!(gone.unwrap().success());
    });
    let (service, _) = services[1];
    // Only packets need a way.
    let answer = match path {
        DataPath::Ebpf => "B",
        _ => "NetworkUnreachable",
    };
    assert_eq!(hosts.on("node", || ask(service.address)), answer);
    hosts.on("node", || kernel.is_untouched()).unwrap();
    for (service, _) in services {
        assert_eq!(hosts.on("node", || ask(service.address)), "B");
    }
    kernel.remove().unwrap();
    assert_eq!(
        hosts.on("node", || ask(service.address)),
        "NetworkUnreachable"
    );
}

/// Takes all rules of the node away, so that nothing is left but what happens at `connect()`.
fn flush(hosts: &Hosts) {
    hosts.on("node", || {
        let done = std::process::Command::new("nft")
            .args(["flush", "ruleset"])
            .status();
        assert!(done.unwrap().success());
    });
}

#[test]
fn at_connect_nothing_is_left_for_packets() {
    let path = DataPath::Ebpf;
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    hosts.serve("b", 8000, "B");
    let mut kernel = open(&hosts, path);
    let mut services = Services::new();
    for v4 in [true, false] {
        let backends = ["a", "b"].map(|host| at(host, v4, 8000)).to_vec();
        services.insert(vip(v4, Protocol::Tcp, 80), backends);
    }
    kernel.reconcile(&services, true).unwrap();
    flush(&hosts);
    for (host, arguments) in [
        ("node", "-4 route del default"),
        ("node", "-6 route del default"),
        ("node", "link del dcos-vip"),
        ("a", "-4 route del default"),
        ("a", "-6 route del default"),
    ] {
        let arguments = arguments.split(' ');
        hosts.on(host, || {
            let done = std::process::Command::new("ip").args(arguments).status();
            assert!(done.unwrap().success());
        });
    }
    let none = "NetworkUnreachable";
    for (service, backends) in &services {
        assert_eq!(answers(&hosts, "node", service.address), set(&["A", "B"]));
        // Who asks for the other end is told of the one that was asked for, in the words of the socket's own family.
        let other = |to: SocketAddr| {
            hosts.on("node", || {
                TcpStream::connect(to).unwrap().peer_addr().unwrap()
            })
        };
        assert_eq!(other(service.address), service.address);
        let backend = backends[0];
        assert_eq!(other(backend), backend);
        // Containers have a network of their own: theirs are packets.
        assert_eq!(answers(&hosts, "a", service.address), set(&[none]));
    }
    // A socket of IPv6 that connects to IPv4.
    let mapped = match vip(true, Protocol::Tcp, 80).address.ip() {
        std::net::IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), 80),
        std::net::IpAddr::V6(_) => unreachable!("IPv4 was asked for"),
    };
    assert_eq!(answers(&hosts, "node", mapped), set(&["A", "B"]));
    let other = hosts.on("node", || TcpStream::connect(mapped).unwrap().peer_addr());
    assert_eq!(other.unwrap(), mapped);
    // The kernel goes on asking nobody once the process is gone.
    drop(kernel);
    for service in services.keys() {
        assert_eq!(hosts.on("node", || ask(service.address)), none);
    }
}

#[test]
fn where_the_kernel_does_not_let_us_nftables_does_it() {
    let path = DataPath::Nftables;
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    let opened = |path| {
        hosts.on("node", move || {
            // As in a container that was given the network only.
            let mut sets = capabilities(None).unwrap();
            let refused = CapabilitySet::BPF | CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON;
            sets.effective.remove(refused);
            set_capabilities(None, sets).unwrap();
            Kernel::open(path)
        })
    };
    let refused = opened(DataPath::Ebpf).unwrap_err();
    assert!(
        matches!(refused, DataplaneError::Connect { .. }),
        "{refused}"
    );
    let mut kernel = opened(DataPath::Auto).unwrap();
    let service = vip(true, Protocol::Tcp, 80);
    kernel
        .apply(&[(service, Some(vec![at("a", true, 8000)]))])
        .unwrap();
    assert_eq!(hosts.on("node", || ask(service.address)), "A");
    kernel.remove().unwrap();
}

#[test]
fn what_becomes_an_address_of_the_node_is_left_to_it() {
    let path = DataPath::Ebpf;
    let hosts = hosts_of!(path);
    hosts.serve("a", 8000, "A");
    let mut kernel = open(&hosts, path);
    let service = vip(true, Protocol::Tcp, 8000);
    let backends = vec![at("a", true, 8000)];
    kernel.apply(&[(service, Some(backends))]).unwrap();
    assert_eq!(hosts.on("node", || ask(service.address)), "A");
    let ip = |what: &str| {
        hosts.on("node", || {
            let arguments = ["addr", what, "11.1.1.1/32", "dev", "lo"];
            let done = std::process::Command::new("ip").args(arguments).status();
            assert!(done.unwrap().success());
        });
    };
    ip("add");
    hosts.on("node", || kernel.is_untouched()).unwrap();
    assert_eq!(
        hosts.on("node", || ask(service.address)),
        "ConnectionRefused"
    );
    ip("del");
    hosts.on("node", || kernel.is_untouched()).unwrap();
    flush(&hosts);
    assert_eq!(hosts.on("node", || ask(service.address)), "A");
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn after_any_changes_the_kernel_holds_what_it_should(path: DataPath) {
    let hosts = hosts_of!(path);
    let mut kernel = open(&hosts, path);
    let (mut dice, mut services) = (Dice(7), Services::new());
    for _ in 0..20 {
        let mut changes = Vec::new();
        for port in 1..=8 {
            let protocol = if dice.below(2) == 0 {
                Protocol::Tcp
            } else {
                Protocol::Udp
            };
            let v4 = dice.below(2) == 0;
            let service = vip(v4, protocol, port);
            let count = match dice.below(16) {
                0 => dice.below(400),
                1 => 0,
                _ => dice.below(6),
            };
            let backend = |dice: &mut Dice| {
                let port = u16::try_from(dice.below(2000)).unwrap();
                at("a", v4, port)
            };
            let backends: BTreeSet<SocketAddr> = (0..count).map(|_| backend(&mut dice)).collect();
            let now = (dice.below(5) > 0).then(|| backends.into_iter().collect::<Vec<_>>());
            match &now {
                Some(now) => services.insert(service, now.clone()),
                None => services.remove(&service),
            };
            changes.push((service, now));
        }
        kernel.apply(&changes).unwrap();
        let repairs = kernel.reconcile(&services, true).unwrap();
        assert_eq!((repairs.services, repairs.strangers), (0, 0));
    }
    // The same without having followed: whatever was there, it becomes what it should be.
    for strict in [false, true] {
        let mut fresh = Services::new();
        for port in 1..=8 {
            fresh.insert(vip(true, Protocol::Tcp, port), vec![at("b", true, port)]);
        }
        kernel.reconcile(&fresh, strict).unwrap();
        let repairs = kernel.reconcile(&fresh, strict).unwrap();
        assert_eq!((repairs.services, repairs.strangers), (0, 0));
    }
}

//! The names of a small cluster, written out as Mesos-DNS and dcos-dns would have them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dcos_net::names::{Config, IpSource, Published, publish};
use dcos_net::vip::{Backend, Claim, Host, Key, Protocol, TaskKey};
use dcos_net::{Agent, Discovery, Framework, Port, Snapshot, Task, Zone};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn cluster() -> Snapshot {
    let port = |number, name: &str, protocol: &str| Port {
        number,
        name: name.to_owned(),
        protocol: protocol.to_owned(),
    };
    Snapshot {
        leader: Some("10.0.0.2:5050".parse().expect("an address")),
        masters: vec![ip("10.0.0.1"), ip("10.0.0.2")],
        agents: vec![
            Agent::new("20201120-000001-1-S0", ip("10.0.1.1"), 5051),
            Agent::new("20201120-000001-1-S1", ip("10.0.1.2"), 5051),
        ],
        frameworks: vec![
            Framework {
                name: "marathon".into(),
                ip: Some(ip("10.0.0.1")),
                host: None,
                port: Some(40000),
            },
            Framework {
                name: "kafka.dev".into(),
                ip: None,
                host: None,
                port: None,
            },
        ],
        tasks: vec![
            Task {
                ports: vec![31000],
                discovery: Some(Discovery {
                    name: "web.prod".into(),
                    ports: vec![port(8080, "http", "tcp"), port(53, "", "")],
                    about: vec![
                        "version=3".into(),
                        "location=".to_owned() + &"x".repeat(250),
                    ],
                }),
                container_ips: vec![ip("9.0.0.5"), ip("fd01::5")],
                ..Task::new("web.1", "web.prod", "marathon", "20201120-000001-1-S0")
            },
            Task {
                ports: vec![9092],
                ..Task::new("b.1", "Broker_0", "kafka.dev", "20201120-000001-1-S1")
            },
            Task::new("lost.1", "lost", "marathon", "unknown"),
        ],
        claims: vec![
            claim("web.marathon", "10.0.1.1:31000"),
            claim("broker.kafka.dev", "[fd01::5]:9092"),
        ],
        ..Snapshot::default()
    }
}

/// A task behind a virtual address, with the address as its id.
fn claim(name: &str, backend: &str) -> (TaskKey, Vec<Claim>) {
    let address: SocketAddr = backend.parse().expect("an address");
    let claim = Claim {
        key: Key {
            protocol: Protocol::Tcp,
            host: Host::Named(name.into()),
            port: 80,
        },
        backend: Backend {
            agent: address.ip(),
            address,
            inside: None,
            open: true,
        },
    };
    (("f".into(), backend.into()), vec![claim])
}

/// A leader that has just read of both agents; `back` of them came back to it, with what they run.
fn failed_over(back: &[&str]) -> Snapshot {
    let former = cluster();
    let is_back = |id: &str| back.contains(&id);
    let all = former.agents.iter().map(|agent| agent.id.clone());
    Snapshot {
        leader: Some("10.0.0.1:5050".parse().expect("an address")),
        masters: former.masters.clone(),
        agents: former
            .agents
            .iter()
            .filter(|agent| is_back(&agent.id))
            .cloned()
            .collect(),
        ..Snapshot::default()
    }
    .awaiting(all.filter(|id| !is_back(id)))
}

fn addresses(published: &Published, name: &str) -> Vec<String> {
    let records = published
        .find(name)
        .and_then(|found| found.records().cloned());
    records
        .unwrap_or_default()
        .a
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn names_outlive_a_failover_until_their_agent_is_back_or_given_up() {
    let (s0, s1) = ("20201120-000001-1-S0", "20201120-000001-1-S1");
    let mut former = cluster();
    former.claims.push(claim("db.marathon", "10.0.1.2:31001"));
    let web = "web-prod.marathon.mesos.";
    let broker = "broker-0.kafka.dev.mesos.";
    let vips = [
        "web.marathon.l4lb.thisdcos.directory.",
        "db.marathon.l4lb.thisdcos.directory.",
    ];
    let found = |snapshot: &Snapshot| {
        let published = publish(snapshot, &Config::default());
        [
            web,
            broker,
            "marathon.mesos.",
            "leader.mesos.",
            vips[0],
            vips[1],
        ]
        .map(|name| addresses(&published, name).len() == 1)
    };
    let one = failed_over(&[]).after(&former);
    assert_eq!(found(&one), [true; 6]);
    assert_eq!(
        addresses(&publish(&one, &Config::default()), "leader.mesos."),
        ["10.0.0.1"]
    );

    // Again and again, also over a second failover.
    let two = failed_over(&[]).after(&one);
    assert_eq!(two, one);

    // Back, and nothing runs there any more: it is the word of the agent that counts.
    let three = failed_over(&[s0]).after(&two);
    assert_eq!(found(&three), [false, true, true, true, false, true]);
    let agents: Vec<_> = three.agents.iter().map(|agent| &*agent.id).collect();
    assert_eq!(agents, [s0, s1]);

    // Given up: neither back nor awaited.
    let mut given_up = failed_over(&[s0]);
    given_up.awaited.clear();
    assert_eq!(
        found(&given_up.after(&three)),
        [false, false, false, true, false, false]
    );
}

/// What is not found, and may be there all the same.
fn undeniable(snapshot: &Snapshot) -> Vec<&'static str> {
    let published = publish(snapshot, &Config::default());
    let all = [
        "no.mesos.",
        "no.l4lb.thisdcos.directory.",
        "no.zk.",
        "no.spartan.",
    ];
    let is_open = |name: &&str| {
        let found = published.find(name).expect("it is in a zone of ours");
        assert!(!found.exists(), "{name}");
        found.zone.is_partial()
    };
    all.into_iter().filter(is_open).collect()
}

#[test]
fn nothing_is_denied_while_an_agent_is_awaited_of_which_nobody_knows_what_runs_there() {
    let tasks = ["no.mesos.", "no.l4lb.thisdcos.directory."];
    let former = cluster();
    assert!(undeniable(&former).is_empty());
    // Who was there before knows what ran; who has just been started does not.
    assert!(undeniable(&failed_over(&[]).after(&former)).is_empty());
    assert_eq!(
        undeniable(&failed_over(&[]).after(&Snapshot::default())),
        tasks
    );
    let s0 = "20201120-000001-1-S0";
    let half = failed_over(&[s0]).after(&Snapshot::default());
    assert_eq!(undeniable(&half), tasks);
    assert_eq!(undeniable(&failed_over(&[]).after(&half)), tasks);
    let mut given_up = failed_over(&[s0]);
    given_up.awaited.clear();
    assert!(undeniable(&given_up.after(&half)).is_empty());
}

#[test]
fn masters_have_names_before_one_of_them_leads() {
    let masters = Snapshot {
        masters: vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
        ..Snapshot::default()
    };
    let published = publish(&masters, &Config::default());
    for (name, expected) in [
        ("master.mesos.", &["10.0.0.1", "10.0.0.2"][..]),
        ("master1.mesos.", &["10.0.0.2"]),
        ("master.dcos.thisdcos.directory.", &["10.0.0.1", "10.0.0.2"]),
        ("zk-3.zk.", &["10.0.0.1"]),
        ("ready.spartan.", &["127.0.0.1"]),
        ("leader.mesos.", &[]),
    ] {
        assert_eq!(addresses(&published, name), expected, "{name}");
    }
    assert_eq!(
        undeniable(&masters),
        ["no.mesos.", "no.l4lb.thisdcos.directory."]
    );
    assert_eq!(undeniable(&Snapshot::default()).len(), 3);
}

#[test]
fn virtual_addresses_have_names_under_all_their_zones() {
    let published = publish(&cluster(), &Config::default());
    for zone in [
        "l4lb.thisdcos.directory.",
        "dclb.thisdcos.directory.",
        "l4lb.thisdcos.global.",
    ] {
        let of = |name: &str| {
            let found = published
                .find(&format!("{name}.{zone}"))
                .expect("a zone of ours");
            found.records().cloned().unwrap_or_default()
        };
        let web = of("web.marathon");
        assert_eq!(
            web.a,
            ["11.225.37.143".parse::<Ipv4Addr>().expect("an address")],
            "{zone}"
        );
        assert!(web.aaaa.is_empty());
        let broker = of("broker.kafka.dev");
        assert!(broker.a.is_empty());
        assert_eq!(broker.aaaa.len(), 1);
        let elsewhere = published.find(&format!("no.marathon.{zone}"));
        assert!(!elsewhere.expect("a zone of ours").exists());
    }
    assert!(
        published
            .find("web.marathon.l4lb.otherdcos.global.")
            .is_none()
    );
}

/// Every record of a zone, a line each.
fn text(zone: &Zone) -> Vec<String> {
    let lines = zone.names().flat_map(|(name, records)| {
        let a = records.a.iter().map(move |ip| format!("{name} A {ip}"));
        let aaaa = records
            .aaaa
            .iter()
            .map(move |ip| format!("{name} AAAA {ip}"));
        let srv = records
            .srv
            .iter()
            .map(move |srv| format!("{name} SRV {} {}", srv.port, srv.target));
        a.chain(aaaa).chain(srv)
    });
    lines.collect()
}

fn check(zone: &Zone, expected: &str) {
    let expected: Vec<&str> = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let found = text(zone);
    let missing: Vec<_> = expected
        .iter()
        .filter(|line| !found.iter().any(|found| found == *line))
        .collect();
    let extra: Vec<_> = found
        .iter()
        .filter(|line| !expected.contains(&line.as_str()))
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:#?}, extra {extra:#?}"
    );
}

fn published() -> Published {
    publish(&cluster(), &Config::default())
}

#[test]
fn no_framework_takes_the_names_of_nodes() {
    let mut cluster = cluster();
    for name in [
        "leader", "Master", "master1", "slave", "ns1", "/", "masters", "x.leader",
    ] {
        cluster.frameworks.push(Framework {
            name: name.to_owned(),
            ip: Some(ip("10.6.6.6")),
            host: None,
            port: Some(1),
        });
    }
    let mesos = publish(&cluster, &Config::default()).mesos;
    let taken = mesos
        .names()
        .filter(|(_, records)| records.a.iter().any(|a| a.octets() == [10, 6, 6, 6]));
    let taken: Vec<&str> = taken.map(|(name, _)| name).collect();
    assert_eq!(taken, ["masters.mesos.", "x.leader.mesos."]);
}

#[test]
fn the_mesos_zone_is_that_of_mesos_dns() {
    check(
        &published().mesos,
        "
        _framework._tcp.marathon.mesos. SRV 40000 marathon.mesos.
        _leader._tcp.mesos. SRV 5050 leader.mesos.
        _leader._udp.mesos. SRV 5050 leader.mesos.
        _slave._tcp.mesos. SRV 5051 slave.mesos.
        leader.mesos. A 10.0.0.2
        marathon.mesos. A 10.0.0.1
        master.mesos. A 10.0.0.1
        master.mesos. A 10.0.0.2
        master0.mesos. A 10.0.0.1
        master1.mesos. A 10.0.0.2
        ns1.mesos. A 10.0.0.1
        ns1.mesos. A 10.0.0.2
        slave.mesos. A 10.0.1.1
        slave.mesos. A 10.0.1.2

        broker-0.kafka.dev.mesos. A 10.0.1.2
        broker-0.kafka.dev.slave.mesos. A 10.0.1.2
        broker-0-spfid-s1.kafka.dev.mesos. A 10.0.1.2
        broker-0-spfid-s1.kafka.dev.slave.mesos. A 10.0.1.2
        _broker-0._tcp.kafka.dev.mesos. SRV 9092 broker-0-spfid-s1.kafka.dev.slave.mesos.
        _broker-0._udp.kafka.dev.mesos. SRV 9092 broker-0-spfid-s1.kafka.dev.slave.mesos.
        _broker-0._tcp.kafka.dev.slave.mesos. SRV 9092 broker-0-spfid-s1.kafka.dev.slave.mesos.
        _broker-0._udp.kafka.dev.slave.mesos. SRV 9092 broker-0-spfid-s1.kafka.dev.slave.mesos.

        web.prod.marathon.mesos. A 10.0.1.1
        web.prod.marathon.slave.mesos. A 10.0.1.1
        web.prod-e844k-s0.marathon.mesos. A 10.0.1.1
        web.prod-e844k-s0.marathon.slave.mesos. A 10.0.1.1
        _web.prod._tcp.marathon.slave.mesos. SRV 31000 web.prod-e844k-s0.marathon.slave.mesos.
        _web.prod._udp.marathon.slave.mesos. SRV 31000 web.prod-e844k-s0.marathon.slave.mesos.
        _web.prod._tcp.marathon.mesos. SRV 8080 web.prod-e844k-s0.marathon.mesos.
        _http._web.prod._tcp.marathon.mesos. SRV 8080 web.prod-e844k-s0.marathon.mesos.
        _web.prod._tcp.marathon.mesos. SRV 53 web.prod-e844k-s0.marathon.mesos.
        _web.prod._udp.marathon.mesos. SRV 53 web.prod-e844k-s0.marathon.mesos.

        web-prod.marathon.mesos. A 10.0.1.1
        web-prod.marathon.slave.mesos. A 10.0.1.1
        web-prod-e844k-s0.marathon.mesos. A 10.0.1.1
        web-prod-e844k-s0.marathon.slave.mesos. A 10.0.1.1
        _web-prod._tcp.marathon.slave.mesos. SRV 31000 web-prod-e844k-s0.marathon.slave.mesos.
        _web-prod._udp.marathon.slave.mesos. SRV 31000 web-prod-e844k-s0.marathon.slave.mesos.
        _web-prod._tcp.marathon.mesos. SRV 8080 web-prod-e844k-s0.marathon.mesos.
        _http._web-prod._tcp.marathon.mesos. SRV 8080 web-prod-e844k-s0.marathon.mesos.
        _web-prod._tcp.marathon.mesos. SRV 53 web-prod-e844k-s0.marathon.mesos.
        _web-prod._udp.marathon.mesos. SRV 53 web-prod-e844k-s0.marathon.mesos.
        ",
    );
}

#[test]
fn sources_of_addresses_are_tried_in_order() {
    let config = Config {
        ip_sources: vec![IpSource::NetInfo, IpSource::Host],
        ..Config::default()
    };
    let published = publish(&cluster(), &config);
    let addresses = |name: &str| {
        let records = published.find(name).unwrap().records().unwrap().clone();
        (records.a, records.aaaa)
    };
    let (a, aaaa) = addresses("web-prod.marathon.mesos.");
    assert_eq!(
        (a[0].to_string(), aaaa[0].to_string()),
        ("9.0.0.5".into(), "fd01::5".into())
    );
    assert_eq!(
        addresses("broker-0.kafka.dev.mesos.").0[0].to_string(),
        "10.0.1.2"
    );
}

#[test]
fn the_directory_tells_agent_container_and_best_addresses() {
    let published = published();
    let lines: Vec<String> = text(&published.others[0]);
    let of = |part: &str| -> Vec<&String> {
        lines
            .iter()
            .filter(|line| line.contains(part) && line.contains(".dcos."))
            .collect()
    };
    let web = |kind: &str| format!("web-prod.marathon.{kind}.dcos.thisdcos.directory.");
    assert_eq!(
        of(&web("agentip")),
        [&format!("{} A 10.0.1.1", web("agentip"))]
    );
    for kind in ["containerip", "autoip"] {
        let expected = [
            format!("{} A 9.0.0.5", web(kind)),
            format!("{} AAAA fd01::5", web(kind)),
        ];
        assert_eq!(of(&web(kind)), expected.iter().collect::<Vec<_>>());
    }
    let broker = "broker-0.kafka-dev.autoip.dcos.thisdcos.directory.";
    assert_eq!(of(broker), [&format!("{broker} A 10.0.1.2")]);
    assert_eq!(
        of("leader.dcos."),
        [&"leader.dcos.thisdcos.directory. A 10.0.0.2".to_owned()]
    );
    assert!(
        lines.contains(&"leader.mesos.thisdcos.directory. A 10.0.0.2".to_owned()),
        "{lines:#?}"
    );

    let mut mapped = cluster();
    mapped.tasks[0].port_mapped = true;
    let mapped = publish(&mapped, &Config::default());
    let found = mapped.find(&web("autoip")).unwrap();
    assert_eq!(found.records().unwrap().a[0].to_string(), "10.0.1.1");
}

#[test]
fn five_names_lead_to_the_masters() {
    let published = published();
    let zk: Vec<String> = text(&published.others[2]);
    let expected = [
        "1 A 10.0.0.1",
        "2 A 10.0.0.2",
        "3 A 10.0.0.1",
        "4 A 10.0.0.2",
        "5 A 10.0.0.1",
    ];
    let expected = expected.map(|line| format!("zk-{}", line.replacen(' ', ".zk. ", 1)));
    assert_eq!(zk, expected);
}

#[test]
fn a_leader_off_the_list_gets_the_next_number() {
    let mut snapshot = cluster();
    snapshot.masters = vec![ip("10.0.0.8"), ip("10.0.0.9")];
    let published = publish(&snapshot, &Config::default());
    let master = |name: &str| published.find(name).unwrap().records().unwrap().a[0].to_string();
    assert_eq!(master("master0.mesos."), "10.0.0.8");
    assert_eq!(master("master2.mesos."), "10.0.0.2");
}

#[test]
fn each_task_is_enumerated_with_its_records() {
    let enumeration = published().enumeration;
    let kafka = &enumeration[0];
    assert_eq!((kafka.name.as_str(), kafka.tasks.len()), ("kafka.dev", 1));
    let (task, first) = (&kafka.tasks[0], &kafka.tasks[0].records[0]);
    assert_eq!(
        (task.name.as_str(), task.id.as_str(), task.records.len()),
        ("Broker_0", "b.1", 8)
    );
    assert_eq!(
        (first.name.as_str(), first.rtype),
        ("broker-0.kafka.dev.mesos.", "A")
    );
    assert_eq!(
        enumeration[1].tasks.len(),
        1,
        "a task on an unknown agent has no names"
    );
}

/// What the name of an address leads to, if there is any.
fn names_of(published: &Published, address: &str) -> Option<Vec<String>> {
    let found = published.find(&dcos_net::reverse(ip(address)))?;
    found.records().map(|records| records.ptr.clone())
}

/// The names of a cluster whose containers have these addresses, each by the name of its task.
fn with_containers(containers: &[(&str, &str)], config: &Config) -> Published {
    let mut cluster = cluster();
    let agents = cluster.agents.clone();
    let tasks = containers.iter().zip(agents.iter().cycle());
    cluster
        .tasks
        .extend(tasks.map(|((id, address), agent)| Task {
            container_ips: vec![ip(address)],
            ..Task::new(*id, *id, "marathon", &*agent.id)
        }));
    publish(&cluster, config)
}

#[test]
fn addresses_the_cluster_gives_out_have_names_that_lead_back_to_them() {
    let containers = [
        ("far", "9.0.7.7"),
        ("other", "9.0.8.8"),
        ("six", "fd01:b::7"),
    ];
    let published = with_containers(&containers, &Config::default());
    for (name, address) in containers {
        let name = format!("{name}.marathon.containerip.dcos.thisdcos.directory.");
        assert_eq!(names_of(&published, address), Some(vec![name.clone()]));
        let records = published.find(&name).unwrap().records().unwrap();
        let v4 = records.a.iter().map(|ip| IpAddr::from(*ip));
        let mut back = v4.chain(records.aaaa.iter().map(|ip| IpAddr::from(*ip)));
        assert!(back.any(|back| back == ip(address)), "{name}");
    }
    let vip = "web.marathon.l4lb.thisdcos.directory.";
    let address = &addresses(&published, vip)[0];
    assert_eq!(names_of(&published, address), Some(vec![vip.to_owned()]));
}

#[test]
fn addresses_of_others_have_no_names_whatever_containers_are_said_to_have() {
    // Of a bridge that each node has for itself, a node's, of the world, of the host itself; and one that two nodes claim.
    let containers = [
        ("near", "172.31.254.2"),
        ("host", "10.0.1.1"),
        ("claim", "8.8.8.8"),
        ("alone", "127.0.0.1"),
        ("one", "9.0.7.7"),
        ("two", "9.0.7.7"),
    ];
    let published = with_containers(&containers, &Config::default());
    let nodes = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2"];
    for address in containers.map(|(_, address)| address).iter().chain(&nodes) {
        assert_eq!(names_of(&published, address), None, "{address}");
    }
}

#[test]
fn an_operator_says_which_addresses_have_names_and_which_are_others_to_name() {
    let containers = [
        ("far", "9.0.7.7"),
        ("deep", "10.8.1.1"),
        ("host", "10.0.1.1"),
    ];
    let config = Config {
        reverse_networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..Config::default()
    };
    let published = with_containers(&containers, &config);
    assert!(names_of(&published, "10.8.1.1").is_some());
    assert_eq!(names_of(&published, "9.0.7.7"), None);
    assert_eq!(names_of(&published, "10.0.1.1"), None, "an agent's");
    for (zone, is_here) in [
        ("8.10.in-addr.arpa", false),
        ("10.In-Addr.ARPA.", false),
        ("0.in-addr.arpa", true),
        ("ip6.arpa", true),
    ] {
        let config = Config {
            zones_of_others: vec![zone.to_owned()],
            ..config.clone()
        };
        let published = with_containers(&containers, &config);
        let names = names_of(&published, "10.8.1.1");
        assert_eq!(names.is_some(), is_here, "beside {zone}");
    }
}

#[test]
fn texts_tell_which_task_a_name_is_and_none_is_too_long() {
    let published = published();
    let records = published
        .find("web-prod.marathon.mesos.")
        .unwrap()
        .records();
    let texts = &records.unwrap().txt;
    assert_eq!(texts.len(), 1, "one task");
    assert!(
        texts[0].iter().any(|text| text.starts_with("task=web")),
        "{texts:?}"
    );
    assert!(texts[0].contains(&"version=3".to_owned()), "{texts:?}");
    assert!(texts[0].iter().all(|text| text.len() < 200), "{texts:?}");
}

//! A server on loopback, asked by `dig` (Debian's `bind9-dnsutils`) and over HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it skips"
)]

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dcos_dns::{Config, Server, Upstream};
use dcos_net::{Agent, Discovery, Framework, Port, Snapshot, Task, names};
use dcos_wire::Client;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

fn cluster() -> Snapshot {
    let port = Port {
        number: 8080,
        name: "http".into(),
        protocol: "tcp".into(),
    };
    let mut tasks = vec![Task {
        ports: vec![31000],
        discovery: Some(Discovery {
            name: "web.prod".into(),
            ports: vec![port],
            about: Vec::new(),
        }),
        container_ips: vec!["9.0.0.5".parse().unwrap(), "fd01::5".parse().unwrap()],
        ..Task::new("web.1", "web.prod", "marathon", "a-S0")
    }];
    tasks.extend((0..120).map(|number| Task {
        ports: vec![32_000 + number],
        ..Task::new(format!("many.{number}"), "many", "marathon", "a-S0")
    }));
    Snapshot {
        leader: Some("10.0.0.1:5050".parse().unwrap()),
        masters: vec!["10.0.0.1".parse().unwrap()],
        agents: vec![Agent::new("a-S0", "10.0.1.1".parse().unwrap(), 5051)],
        frameworks: vec![Framework {
            name: "marathon".into(),
            ip: None,
            host: None,
            port: None,
        }],
        tasks,
        ..Snapshot::default()
    }
}

/// A running server, stopped when dropped.
struct Running {
    dns: SocketAddr,
    http: Option<SocketAddr>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    _stop: DropGuard,
}

async fn start(snapshot: Snapshot, config: Config) -> Running {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = Config {
        listen: vec![any],
        http: config.http.map(|_| any),
        ..config
    };
    let server = Server::bind(config).await.unwrap();
    let (dns, http) = (server.addresses()[0], server.http_address());
    let (snapshots, latest) = watch::channel(Arc::new(snapshot));
    let stop = CancellationToken::new();
    tokio::spawn(server.run(latest, stop.clone()));
    Running {
        dns,
        http,
        snapshots,
        _stop: stop.drop_guard(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_listens_at_more_addresses_once_it_may() {
    if !has_dig() {
        return;
    }
    let port = quiet_port();
    let at = |last: u8| SocketAddr::new([127, 0, 0, last].into(), port);
    let first = at(1);
    let server = Server::bind(Config {
        listen: vec![first],
        http: None,
        ..Config::default()
    });
    let server = server.await.unwrap();
    let doors = server.doors();
    let (_snapshots, latest) = watch::channel(Arc::new(cluster()));
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(latest, stop.clone()));
    assert!(dig_ready(first, "leader.mesos").await.contains("10.0.0.1"));
    // Another program has one of them: then it listens at none.
    let taken = UdpSocket::bind(at(3)).await.unwrap();
    let refused = doors.open(&[at(2), at(3)]).await.unwrap_err();
    assert_eq!(refused.address, at(3));
    drop(taken);
    doors.open(&[at(2), at(3)]).await.unwrap();
    for (last, how) in [(1, ""), (2, ""), (3, "+tcp"), (3, "")] {
        let found = dig(at(last), &format!("leader.mesos +short {how}")).await;
        assert_eq!(found, "10.0.0.1\n", "{last} {how}");
    }
    // It leaves them all when it ends.
    stop.cancel();
    running.await.unwrap();
    for last in 1..=3 {
        UdpSocket::bind(at(last)).await.unwrap();
        tokio::net::TcpListener::bind(at(last)).await.unwrap();
    }
    doors.open(&[at(2)]).await.unwrap();
    UdpSocket::bind(at(2)).await.unwrap();
}

/// A port that nobody has, and that the kernel gives to nobody who asks from somewhere, at any address.
fn quiet_port() -> u16 {
    let mut ports = (0..).map(|tried: u16| {
        let random = RandomState::new().hash_one(tried) % 10_000;
        10_000 + u16::try_from(random).unwrap()
    });
    let is_free = |port: &u16| std::net::UdpSocket::bind(("0.0.0.0", *port)).is_ok();
    ports.find(is_free).unwrap()
}

/// What `dig` prints, without the lines that differ from run to run.
async fn dig(server: SocketAddr, arguments: &str) -> String {
    let mut command = Command::new("dig");
    command
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string()]);
    command
        .args(["+tries=1", "+time=8", "+nocookie"])
        .args(arguments.split_whitespace());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// As [`dig`], but asks again while the server has not published yet.
async fn dig_ready(server: SocketAddr, arguments: &str) -> String {
    let begin = Instant::now();
    loop {
        let found = dig(server, arguments).await;
        if !found.contains("SERVFAIL") || begin.elapsed() > Duration::from_secs(20) {
            return found;
        }
    }
}

fn has_dig() -> bool {
    let found = Command::new("dig").arg("-v").output().is_ok();
    if !found {
        println!("skipped: `dig` is not installed (bind9-dnsutils)");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_finds_the_names_of_a_cluster() {
    if !has_dig() {
        return;
    }
    let running = start(cluster(), Config::default()).await;
    assert!(
        dig_ready(running.dns, "leader.mesos")
            .await
            .contains("10.0.0.1")
    );
    for (asked, expected) in [
        ("leader.mesos +short", "10.0.0.1\n"),
        ("master0.mesos +short", "10.0.0.1\n"),
        ("slave.mesos +short", "10.0.1.1\n"),
        ("web.prod.marathon.mesos +short", "10.0.1.1\n"),
        ("web-prod.marathon.mesos +short", "10.0.1.1\n"),
        (
            "web-prod.marathon.containerip.dcos.thisdcos.directory +short",
            "9.0.0.5\n",
        ),
        (
            "web-prod.marathon.autoip.dcos.thisdcos.directory AAAA +short",
            "fd01::5\n",
        ),
        ("_leader._tcp.mesos SRV +short", "0 1 5050 leader.mesos.\n"),
        (
            "_http._web-prod._tcp.marathon.mesos SRV +short",
            "0 1 8080 web-prod-e844k-s0.marathon.mesos.\n",
        ),
        (
            "_web-prod._udp.marathon.slave.mesos SRV +short",
            "0 1 31000 web-prod-e844k-s0.marathon.slave.mesos.\n",
        ),
        ("ready.spartan +short", "127.0.0.1\n"),
        ("zk-5.zk +short", "10.0.0.1\n"),
        ("leader.mesos +tcp +short", "10.0.0.1\n"),
        ("leader.mesos +noedns +short", "10.0.0.1\n"),
        ("mesos NS +short", "ns1.mesos.\n"),
    ] {
        assert_eq!(dig(running.dns, asked).await, expected, "{asked}");
    }
    for (asked, expected) in [
        ("leader.mesos +nostats", "60\tIN\tA\t10.0.0.1"),
        ("leader.mesos +nostats", "flags: qr aa rd ra;"),
        ("ready.spartan +nostats", "5\tIN\tA\t127.0.0.1"),
        (
            "_web-prod._tcp.marathon.mesos SRV +nostats",
            "web-prod-e844k-s0.marathon.mesos. 60 IN\tA\t10.0.1.1",
        ),
        ("nobody.mesos +nostats", "status: NXDOMAIN"),
        ("nobody.mesos +nostats", "SOA\tns1.mesos. root.ns1.mesos."),
        ("leader.mesos AAAA +nostats", "status: NOERROR"),
        ("example.org +nostats", "status: REFUSED"),
        ("leader.mesos +edns=1 +noednsneg", "status: BADVERS"),
    ] {
        let found = dig(running.dns, asked).await;
        assert!(
            found.contains(expected),
            "{asked}: expected {expected:?} in {found}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_cut_and_whole_over_tcp() {
    if !has_dig() {
        return;
    }
    let running = start(cluster(), Config::default()).await;
    dig_ready(running.dns, "leader.mesos").await;
    let many = "_many._tcp.marathon.mesos SRV";
    let cut = dig(running.dns, &format!("{many} +ignore")).await;
    assert!(cut.contains(" tc "), "{cut}");
    let whole = dig(running.dns, &format!("{many} +short")).await;
    assert_eq!(
        whole
            .lines()
            .filter(|line| line.starts_with("0 1 32"))
            .count(),
        120,
        "{whole}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_are_asked_of_resolvers_even_if_some_are_silent() {
    if !has_dig() {
        return;
    }
    let named = |domain: &str| Config {
        names: names::Config {
            domain: domain.into(),
            ..names::Config::default()
        },
        http: None,
        ..Config::default()
    };
    let upstream = start(cluster(), named("corp")).await;
    let special = start(cluster(), named("special")).await;
    assert!(
        dig_ready(upstream.dns, "leader.corp")
            .await
            .contains("10.0.0.1")
    );
    assert!(
        dig_ready(special.dns, "leader.special")
            .await
            .contains("10.0.0.1")
    );
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();

    let running = start(
        cluster(),
        Config {
            upstream: Upstream::Named(vec![silent.local_addr().unwrap(), upstream.dns]),
            zone_resolvers: [("Special.".into(), vec![special.dns])].into(),
            timeout: Duration::from_millis(600),
            http: None,
            ..Config::default()
        },
    )
    .await;
    for (asked, expected) in [
        ("leader.corp", "10.0.0.1"),
        ("leader.corp +tcp", "10.0.0.1"),
        ("nobody.corp", "NXDOMAIN"),
        ("leader.special", "10.0.0.1"),
        ("_many._tcp.marathon.corp SRV +short", "0 1 32119 "),
    ] {
        let found = dig(running.dns, asked).await;
        assert!(
            found.contains(expected),
            "{asked}: expected {expected:?} in {found}"
        );
    }

    let alone = start(
        cluster(),
        Config {
            upstream: Upstream::Named(vec![silent.local_addr().unwrap()]),
            zone_resolvers: [("9.In-Addr.arpa".into(), vec![silent.local_addr().unwrap()])].into(),
            timeout: Duration::from_millis(300),
            http: None,
            ..Config::default()
        },
    )
    .await;
    let found = dig(alone.dns, "leader.corp").await;
    assert!(found.contains("SERVFAIL"), "{found}");
    // Addresses are those to name who are named for their zone.
    let found = dig(running.dns, "-x 9.0.0.5").await;
    assert!(found.contains("\tPTR\tweb-prod.marathon."), "{found}");
    dig_ready(alone.dns, "leader.mesos").await;
    let found = dig(alone.dns, "-x 9.0.0.5").await;
    assert!(found.contains("SERVFAIL"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_resolv_conf_counts_without_a_restart() {
    if !has_dig() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let config = Config {
        upstream: Upstream::File(file.clone()),
        http: None,
        ..Config::default()
    };
    let running = start(cluster(), config).await;
    let found = dig(running.dns, "leader.corp").await;
    assert!(found.contains("REFUSED"), "nobody is named yet: {found}");
    // Nobody answers there, which is another answer.
    std::fs::write(&file, "nameserver 127.0.0.254\n").unwrap();
    until_it_says(running.dns, "SERVFAIL").await;
    // Replaced, as most who write it do.
    let beside = folder.path().join("beside");
    std::fs::write(&beside, "# nobody\n").unwrap();
    std::fs::rename(beside, &file).unwrap();
    until_it_says(running.dns, "REFUSED").await;
}

/// Asks about a name of others until that is the answer.
async fn until_it_says(server: SocketAddr, code: &str) {
    let begin = Instant::now();
    loop {
        let found = dig(server, "leader.corp").await;
        if found.contains(code) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{found}");
    }
}

/// A query for the addresses of `x.corp`, with this id.
fn query(id: u16) -> Vec<u8> {
    let head = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    [&head[..], b"\x01x\x04corp\x00\x00\x01\x00\x01"].concat()
}

/// A server that asks `resolver` about all other names, and gives up after that long.
async fn asking(resolver: SocketAddr, timeout: Duration) -> Running {
    let config = Config {
        upstream: Upstream::Named(vec![resolver]),
        timeout,
        http: None,
        ..Config::default()
    };
    start(cluster(), config).await
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut packet = vec![0; 512];
    let receiving = socket.recv_from(&mut packet);
    let limit = Duration::from_secs(60);
    let (length, from) = tokio::time::timeout(limit, receiving)
        .await
        .unwrap()
        .unwrap();
    packet.truncate(length);
    (packet, from)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_what_is_asked_already_waits_for_that_answer() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let running = asking(upstream.local_addr().unwrap(), Duration::from_secs(60)).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(&query(1), running.dns).await.unwrap();
    let (asked, from) = received(&upstream).await;
    client.send_to(&query(2), running.dns).await.unwrap();
    // In other letters it is another question: once it is here, the one before has been taken in.
    let mut other = query(3);
    other[13] = b'X';
    client.send_to(&other, running.dns).await.unwrap();
    let (next, _) = received(&upstream).await;
    assert_eq!(next[13], b'X', "the same question was asked again");

    let mut answer = asked;
    answer[2] |= 0x80;
    upstream.send_to(&answer, from).await.unwrap();
    let mut ids = [received(&client).await.0[1], received(&client).await.0[1]];
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_not_asked_again_while_it_is_good() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let running = asking(upstream.local_addr().unwrap(), Duration::from_secs(60)).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // `x.corp` has 192.0.2.1 for an hour.
    let record = [
        0xC0, 12, 0, 1, 0, 1, 0, 0, 0x0E, 0x10, 0, 4, 192, 0, 2, 1_u8,
    ];
    client.send_to(&query(1), running.dns).await.unwrap();
    let (asked, from) = received(&upstream).await;
    let mut answer = [&asked[..], &record[..]].concat();
    (answer[2], answer[7]) = (0x81, 1);
    upstream.send_to(&answer, from).await.unwrap();
    let first = received(&client).await.0;
    assert_eq!(first[2..], answer[2..]);

    client.send_to(&query(2), running.dns).await.unwrap();
    let (second, _) = received(&client).await;
    assert_eq!(second[..2], [0, 2]);
    assert_eq!(second[2..30], first[2..30], "up to how long it is good");
    assert_eq!(second[second.len() - 4..], [192, 0, 2, 1]);
    // In other letters it is another question, and the next that others are asked.
    let mut other = query(3);
    other[13] = b'X';
    client.send_to(&other, running.dns).await.unwrap();
    assert_eq!(received(&upstream).await.0[13], b'X');
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_is_told_while_no_more_may_be_asked() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        upstream: Upstream::Named(vec![upstream.local_addr().unwrap()]),
        timeout: Duration::from_secs(60),
        max_forwards: 1,
        http: None,
        ..Config::default()
    };
    let running = start(cluster(), config).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(&query(1), running.dns).await.unwrap();
    let (mut answer, from) = received(&upstream).await;
    // One address, for a minute.
    (answer[2], answer[7]) = (answer[2] | 0x80, 1);
    answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07");
    upstream.send_to(&answer, from).await.unwrap();
    received(&client).await;

    let mut other = query(2);
    other[13] = b'X';
    loop {
        // The first one's place may not be free yet.
        client.send_to(&other, running.dns).await.unwrap();
        tokio::select! {
            _ = received(&upstream) => break,
            (refused, _) = received(&client) => assert_eq!(refused[3] & 0x0F, 2, "SERVFAIL"),
        }
    }
    client.send_to(&query(3), running.dns).await.unwrap();
    let (known, _) = received(&client).await;
    assert_eq!((known[1], known[3] & 0x0F, known[7]), (3, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_zone_takes_no_room_that_other_names_need() {
    let (dead, alive) = (
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    );
    let config = Config {
        upstream: Upstream::Named(vec![alive.local_addr().unwrap()]),
        zone_resolvers: BTreeMap::from([("corp".to_owned(), vec![dead.local_addr().unwrap()])]),
        timeout: Duration::from_secs(60),
        max_forwards: 4,
        ..Config::default()
    };
    let running = start(cluster(), config).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // Three of the four are for whoever comes; who asks what is asked already takes none.
    for number in 0..6 {
        let mut query = query(number);
        query[13] = [b'a', b'b', b'c'][usize::from(number % 3)];
        client.send_to(&query, running.dns).await.unwrap();
    }
    for _ in 0..3 {
        received(&dead).await;
    }
    let mut beyond = query(7);
    beyond[13] = b'd';
    client.send_to(&beyond, running.dns).await.unwrap();
    let (refused, _) = received(&client).await;
    assert_eq!((refused[1], refused[3] & 0x0F), (7, 2), "SERVFAIL");
    let mut other = query(8);
    other[15] = b'd';
    client.send_to(&other, running.dns).await.unwrap();
    let (mut answer, from) = received(&alive).await;
    answer[2] |= 0x80;
    alive.send_to(&answer, from).await.unwrap();
    assert_eq!(received(&client).await.0[1], 8);
    let http = running.http.unwrap();
    let (client, url) = (Client::new(), format!("http://{http}/v1/metrics/dns"));
    let metrics = client.get(&url).await.unwrap().text().await.unwrap();
    for line in [
        r#"forwarder_turned_away_total{zone="corp."} 1"#,
        r#"forwarder_turned_away_total{zone="."} 0"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_for_other_names_has_those_of_the_cluster() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = Config {
        upstream: Upstream::Named(vec![upstream.local_addr().unwrap()]),
        allow: Some(vec!["127.0.0.2/32".parse().unwrap()]),
        max_connections_per_host: 1,
        http: None,
        ..Config::default()
    };
    let running = start(cluster(), config).await;
    let (stranger, friend) = (
        UdpSocket::bind("127.0.0.3:0").await.unwrap(),
        UdpSocket::bind("127.0.0.2:0").await.unwrap(),
    );
    let host = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(&query(1), running.dns).await.unwrap();
    let (refused, _) = received(&stranger).await;
    assert_eq!((refused[1], refused[3] & 0x0F), (1, 5), "REFUSED");
    let connect = || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.3:0".parse().unwrap()).unwrap();
        socket.connect(running.dns)
    };
    let mut tcp = connect().await.unwrap();
    let asked = query(2);
    let length = u16::try_from(asked.len()).unwrap().to_be_bytes();
    tcp.write_all(&[&length, &asked[..]].concat())
        .await
        .unwrap();
    let mut refused = [0; 6];
    tcp.read_exact(&mut refused).await.unwrap();
    assert_eq!((refused[3], refused[5] & 0x0F), (2, 5), "REFUSED");
    // One connection is all it has.
    let mut second = connect().await.unwrap();
    assert!(!matches!(second.read(&mut [0]).await, Ok(1..)));
    let begin = b"\x06leader\x05mesos\x00\x00\x01\x00\x01";
    let own = [&query(3)[..12], begin].concat();
    let answer = loop {
        stranger.send_to(&own, running.dns).await.unwrap();
        let (answer, _) = received(&stranger).await;
        // SERVFAIL before names are there.
        if answer[3] & 0x0F != 2 {
            break answer;
        }
    };
    assert_eq!((answer[1], answer[3] & 0x0F, answer[7]), (3, 0, 1));
    // Nobody was asked for the stranger: what comes first is the friend's.
    friend.send_to(&query(4), running.dns).await.unwrap();
    let (mut answer, from) = received(&upstream).await;
    answer[2] |= 0x80;
    upstream.send_to(&answer, from).await.unwrap();
    assert_eq!(received(&friend).await.0[1], 4);
    // Who asks from where the server listens is of its own host.
    let mut another = query(5);
    another[13] = b'X';
    host.send_to(&another, running.dns).await.unwrap();
    let (mut answer, from) = received(&upstream).await;
    answer[2] |= 0x80;
    upstream.send_to(&answer, from).await.unwrap();
    assert_eq!(received(&host).await.0[1], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_answers_what_is_out_of_date_is_told_and_nobody_is_pressed() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let running = asking(upstream.local_addr().unwrap(), Duration::from_secs(60)).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(&query(1), running.dns).await.unwrap();
    let (mut answer, from) = received(&upstream).await;
    // One address, for a second.
    (answer[2], answer[7]) = (answer[2] | 0x80, 1);
    answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x0a\x00\x00\x07");
    upstream.send_to(&answer, from).await.unwrap();
    received(&client).await;

    // As soon as it is asked again the resolver is silent.
    let mut number = 1;
    let stale = loop {
        number += 1;
        client.send_to(&query(number), running.dns).await.unwrap();
        let (known, _) = received(&client).await;
        assert_eq!((known[3] & 0x0F, known[7]), (0, 1));
        let ttl = known.len() - 7;
        if known[ttl] == 30 {
            break known;
        }
        assert!(known[ttl] <= 1, "{known:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(stale[stale.len() - 4..], [10, 0, 0, 7]);
    let (_, _) = received(&upstream).await;
    for number in 100..110_u16 {
        client.send_to(&query(number), running.dns).await.unwrap();
        let (known, _) = received(&client).await;
        let expected = [&number.to_be_bytes(), &stale[2..]].concat();
        assert_eq!(known, expected);
    }
    let pressed = upstream.try_recv_from(&mut [0; 512]);
    assert_eq!(pressed.unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_goes_round_a_circle_of_servers_once() {
    let tap = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (soon, late) = (Duration::from_secs(1), Duration::from_secs(60));
    let one = asking(tap.local_addr().unwrap(), soon).await;
    let other = asking(one.dns, late).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.send_to(&query(7), one.dns).await.unwrap();
    let onward = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut rounds = 0;
    let answer = loop {
        tokio::select! {
            (packet, _) = received(&tap) => {
                rounds += 1;
                assert_eq!(rounds, 1, "it goes round and round");
                onward.send_to(&packet, other.dns).await.unwrap();
            }
            (answer, _) = received(&client) => break answer,
        }
    };
    assert_eq!((answer[1], answer[3] & 0x0F), (7, 2), "SERVFAIL");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_follow_the_cluster_and_survive_its_leader() {
    if !has_dig() {
        return;
    }
    let running = start(
        Snapshot::default(),
        Config {
            http: None,
            ..Config::default()
        },
    )
    .await;
    assert!(dig(running.dns, "leader.mesos").await.contains("SERVFAIL"));
    // Who is to lead must be found first.
    running.snapshots.send_replace(Arc::new(Snapshot {
        masters: vec!["10.0.0.1".parse().unwrap()],
        ..Snapshot::default()
    }));
    let found = dig_ready(running.dns, "zk-1.zk").await;
    assert!(found.contains("10.0.0.1"), "{found}");
    let found = dig(running.dns, "web-prod.marathon.mesos").await;
    assert!(found.contains("SERVFAIL"), "{found}");
    running.snapshots.send_replace(Arc::new(cluster()));
    assert!(
        dig_ready(running.dns, "web-prod.marathon.mesos")
            .await
            .contains("10.0.1.1")
    );

    running.snapshots.send_replace(Arc::new(Snapshot {
        leader: None,
        ..Snapshot::default()
    }));
    let next = Snapshot {
        leader: Some("10.0.0.2:5050".parse().unwrap()),
        ..cluster()
    };
    assert!(
        dig(running.dns, "web-prod.marathon.mesos")
            .await
            .contains("10.0.1.1")
    );
    running.snapshots.send_replace(Arc::new(next));
    let begin = Instant::now();
    while dig(running.dns, "leader.mesos +short").await != "10.0.0.2\n" {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "the new leader is not named"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_frameworks_are_looked_up() {
    if !has_dig() {
        return;
    }
    let mut snapshot = cluster();
    snapshot.frameworks[0].host = Some("localhost".to_owned());
    snapshot.frameworks.push(Framework {
        name: "lost".to_owned(),
        ip: None,
        host: Some("host.invalid".to_owned()),
        port: None,
    });
    let running = start(snapshot, Config::default()).await;
    assert!(
        dig_ready(running.dns, "leader.mesos")
            .await
            .contains("10.0.0.1")
    );
    let begin = Instant::now();
    while dig(running.dns, "marathon.mesos +short").await != "127.0.0.1\n" {
        assert!(begin.elapsed() < Duration::from_secs(20), "it is not named");
    }
    assert_eq!(dig(running.dns, "lost.mesos +short").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_api_is_that_of_mesos_dns() {
    let running = start(Snapshot::default(), Config::default()).await;
    let (client, http) = (Client::new(), running.http.unwrap());
    let get = async |path: &str| {
        let answer = client.get(&format!("http://{http}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for path in ["/v1/hosts/x.mesos", "/v1/services/_x._tcp.marathon.mesos"] {
        let (status, text) = get(path).await;
        assert_eq!(status, 503, "{path}: nobody leads yet");
        assert!(text.contains("no master leads yet"), "{text}");
    }
    running.snapshots.send_replace(Arc::new(cluster()));
    let begin = Instant::now();
    while get("/v1/hosts/leader.mesos").await.0 != 200 {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "nothing is published"
        );
    }
    let ask = async |path: &str| -> Value {
        let (status, text) = get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(ask("/v1/version").await["Service"], "Mesos-DNS");
    assert_eq!(
        ask("/v1/hosts/Leader.mesos").await,
        json!([{"host": "leader.mesos.", "ip": "10.0.0.1"}])
    );
    assert_eq!(
        ask("/v1/hosts/nobody.mesos").await,
        json!([{"host": "", "ip": ""}])
    );
    assert_eq!(
        ask("/v1/services/_web-prod._tcp.marathon.mesos").await,
        json!([{
            "service": "_web-prod._tcp.marathon.mesos",
            "host": "web-prod-e844k-s0.marathon.mesos.",
            "ip": "10.0.1.1",
            "port": "8080",
        }])
    );
    let none = json!([{"service": "", "host": "", "ip": "", "port": ""}]);
    assert_eq!(ask("/v1/services/_nobody._tcp.marathon.mesos").await, none);
    let all = ask("/v1/records").await;
    let of = |name: &str| {
        let all = all.as_array().unwrap().iter();
        let records = all.filter(|record| record["name"] == name);
        records
            .map(|record| json!([record["rtype"], record["host"]]))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("ready.spartan."), [json!(["A", "127.0.0.1"])]);
    assert_eq!(
        of("web-prod.marathon.containerip.dcos.thisdcos.directory."),
        [json!(["A", "9.0.0.5"]), json!(["AAAA", "fd01::5"])]
    );
    assert_eq!(
        of("_many._tcp.marathon.mesos.").len(),
        120,
        "in several pieces"
    );
    let (_, metrics) = get("/v1/metrics/dns").await;
    assert!(
        metrics.contains("zone_records{zone=\"zk.\"} 5\n"),
        "{metrics}"
    );
    let axfr = ask("/v1/axfr").await;
    assert_eq!(axfr["Records"]["As"]["leader.mesos."], json!(["10.0.0.1"]));
    assert_eq!(
        (&axfr["Domain"], &axfr["TTL"]),
        (&json!("mesos"), &json!(60))
    );
    let framework = &ask("/v1/enumerate").await["frameworks"][0];
    assert_eq!(
        (&framework["name"], &framework["tasks"][0]["id"]),
        (&json!("marathon"), &json!("web.1"))
    );
    assert_eq!(framework["tasks"][0]["records"][0]["rtype"], "A");
    assert_eq!(
        ask("/v1/config").await["IPSources"],
        json!(["host", "netinfo"])
    );
    assert_eq!(get("/v1/hosts/leader.mesos/ports").await.0, 501);
}

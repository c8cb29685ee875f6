//! Packets at a name server: none breaks it, what it sends back is a message that fits, and what is answered without a
//! message being made of the question is what would be answered otherwise. What resolvers say: none breaks what is remembered.
#![no_main]

use std::sync::LazyLock;

use dcos_dns::testkit::{Names, check_answer};
use dcos_net::names::{Config, IpSource};
use dcos_net::{Agent, Discovery, Port, Snapshot, Task};
use libfuzzer_sys::fuzz_target;

/// Clusters with few names and many, and one that nothing is known of yet.
static CLUSTERS: LazyLock<Vec<Names>> = LazyLock::new(|| {
    let mut clusters = vec![Names::publish(&Snapshot::default(), &Config::default())];
    clusters.extend([1, 40].map(cluster));
    clusters
});

fn cluster(tasks: u8) -> Names {
    let port = |number| Port {
        number,
        name: "http".to_owned(),
        protocol: "tcp".to_owned(),
    };
    let task = |number: u8| Task {
        container_ips: vec![
            [9, 0, 1, number].into(),
            [0xfd01, 0xb, 0, 0, 0, 0, 0, u16::from(number)].into(),
        ],
        ports: vec![31_000, 31_001 + u16::from(number)],
        discovery: (number % 3 == 0).then(|| Discovery {
            name: "db".to_owned(),
            ports: vec![port(80), port(u16::from(number))],
            about: Vec::new(),
        }),
        ..Task::new(format!("db.{number}"), "db", "marathon", "a-S0")
    };
    let snapshot = Snapshot {
        leader: Some(([10, 0, 0, 1], 5050).into()),
        agents: vec![Agent::new("a-S0", [10, 0, 1, 1].into(), 5051)],
        tasks: (0..tasks).map(task).collect(),
        ..Snapshot::default()
    };
    let config = Config {
        ip_sources: vec![IpSource::NetInfo],
        ..Config::default()
    };
    Names::publish(&snapshot, &config)
}

/// What is often asked, so that names are found sooner than by chance.
const ASKED: [&[u8]; 6] = [
    b"\x02db\x08marathon\x05mesos\0",
    b"\x03_db\x04_tcp\x08marathon\x05mesos\0",
    b"\x06leader\x05mesos\0",
    b"\x05_http\x03_db\x04_tcp\x08marathon\x05mesos\0",
    b"\x04none\x09thisdcos\x06global\0",
    b"\x011\x011\x010\x019\x07in-addr\x04arpa\0",
];

/// A question as nearly all are, and what bytes want other in it: places, and what stands there.
fn usual(bytes: &[u8]) -> Option<Vec<u8>> {
    let [name, kind, flags, edns, high, low, changes @ ..] = bytes else {
        return None;
    };
    let name = ASKED[usize::from(*name) % ASKED.len()];
    let kind = [1, 28, 33, 12, 16, 255][usize::from(*kind) % 6];
    let has_edns = edns & 1;
    let head = [
        *low,
        *high,
        flags & 1,
        flags & 0x30,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        has_edns,
    ];
    let mut packet = [&head, name, &[0, kind, 0, 1]].concat();
    if has_edns == 1 {
        packet.extend([0, 0, 41, *high, *low, 0, 0, edns & 0x80, 0, 0, 0]);
    }
    for change in changes.chunks_exact(2) {
        let place = usize::from(change[0]) % packet.len();
        packet[place] = change[1];
    }
    Some(packet)
}

/// A question for others, and answers of records that begin as most do.
fn said(bytes: &[u8]) {
    const QUESTION: &[u8] = b"\x07\x07\x01\0\0\x01\0\0\0\0\0\0\x01x\x04corp\0\0\x01\0\x01";
    check_answer(QUESTION, bytes);
    let [code, answers, authorities, more, records @ ..] = bytes else {
        return;
    };
    let mut answer = QUESTION.to_vec();
    answer[2] |= 0x80;
    answer[3] = code & 0x0F;
    for (place, count) in [(7, answers), (9, authorities), (11, more)] {
        answer[place] = count & 3;
    }
    check_answer(QUESTION, &[&answer[..], records].concat());
    // Of its kind, for how long, and its data.
    for record in records.chunks(24) {
        let [kind, low, high, data @ ..] = record else {
            continue;
        };
        let kind = [1, 2, 5, 6, 16, 28, 41, 250][usize::from(*kind) % 8];
        let length = u8::try_from(data.len()).unwrap_or_default();
        answer.extend([0xC0, 12, 0, kind, 0, 1, 0, *high, 0, *low, 0, length]);
        answer.extend(data);
    }
    check_answer(QUESTION, &answer);
}

fuzz_target!(|bytes: &[u8]| {
    let [which, external, rest @ ..] = bytes else {
        return;
    };
    said(rest);
    let names = &CLUSTERS[usize::from(*which) % CLUSTERS.len()];
    let external = external & 1 == 1;
    names.check(rest, external);
    if let Some(packet) = usual(rest) {
        names.check(&packet, external);
    }
    // The same header and what follows it, about a name that there may be.
    if let Some((head, tail)) = rest.split_at_checked(12) {
        for name in ASKED {
            names.check(&[head, name, tail].concat(), external);
        }
    }
});

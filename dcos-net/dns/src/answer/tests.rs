use std::net::IpAddr;

use dcos_net::names::{Config, publish};
use dcos_net::{Agent, Snapshot, Task};
use hickory_proto::op::{Message, Metadata};

use super::*;

const RULES: Rules = Rules {
    external: true,
    set_truncate_bit: true,
};

/// A cluster with one task `web` that has `ports` ports.
fn served(ports: u16) -> Served {
    let snapshot = Snapshot {
        leader: Some("10.0.0.1:5050".parse().unwrap()),
        agents: vec![Agent::new("a-S0", "10.0.1.1".parse().unwrap(), 5051)],
        tasks: vec![Task {
            ports: (0..ports).map(|port| 31_000 + port).collect(),
            container_ips: vec![[9, 0, 1, 1].into()],
            ..Task::new("web.1", "web", "marathon", "a-S0")
        }],
        ..Snapshot::default()
    };
    Served {
        names: publish(&snapshot, &Config::default()),
        serial: 7,
        led: true,
        took: std::time::Duration::ZERO,
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    query
}

fn answer(query: &Message, served: &Served, tcp: bool) -> Message {
    match judge(&query.to_vec().unwrap(), served, RULES, tcp) {
        Verdict::Answer(answer) => Message::from_vec(&answer).unwrap(),
        other => panic!("expected an answer: {other:?}"),
    }
}

/// The outcome in a line: code, flags, and how many records each section has.
fn outcome(name: &str, kind: RecordType) -> String {
    let reply = answer(&query(name, kind), &served(2), false);
    let Metadata {
        response_code,
        authoritative,
        truncation,
        ..
    } = reply.metadata;
    let flags = format!(
        "{}{}",
        if authoritative { " aa" } else { "" },
        if truncation { " tc" } else { "" }
    );
    let counts = [
        reply.answers.len(),
        reply.authorities.len(),
        reply.additionals.len(),
    ];
    format!("{response_code:?}{flags} {counts:?}")
}

#[test]
fn each_kind_of_question_is_answered() {
    for (name, kind, expected) in [
        ("web.marathon.mesos.", RecordType::A, "NoError aa [1, 0, 0]"),
        ("WEB.Marathon.MESOS.", RecordType::A, "NoError aa [1, 0, 0]"),
        (
            "web.marathon.mesos.",
            RecordType::AAAA,
            "NoError aa [0, 1, 0]",
        ),
        (
            "web.marathon.mesos.",
            RecordType::ANY,
            "NoError aa [2, 0, 0]",
        ),
        (
            "web.marathon.mesos.",
            RecordType::TXT,
            "NoError aa [1, 0, 0]",
        ),
        (
            "1.1.0.9.in-addr.arpa.",
            RecordType::PTR,
            "NoError aa [1, 0, 0]",
        ),
        (
            "1.1.0.9.in-addr.arpa.",
            RecordType::A,
            "NoError aa [0, 1, 0]",
        ),
        ("marathon.mesos.", RecordType::A, "NoError aa [0, 1, 0]"),
        (
            "nobody.marathon.mesos.",
            RecordType::A,
            "NXDomain aa [0, 1, 0]",
        ),
        (
            "nobody.marathon.mesos.",
            RecordType::SRV,
            "NXDomain aa [0, 1, 0]",
        ),
        (
            "_web._tcp.marathon.mesos.",
            RecordType::SRV,
            "NoError aa [2, 0, 1]",
        ),
        (
            "_web._tcp.*.marathon.mesos.",
            RecordType::SRV,
            "NoError aa [2, 0, 1]",
        ),
        ("mesos.", RecordType::SOA, "NoError aa [1, 0, 0]"),
        ("mesos.", RecordType::NS, "NoError aa [1, 0, 1]"),
        ("leader.mesos.", RecordType::SOA, "NoError aa [0, 1, 0]"),
        ("mesos.", RecordType::AXFR, "Refused [0, 0, 0]"),
        ("ready.spartan.", RecordType::A, "NoError aa [1, 0, 0]"),
    ] {
        assert_eq!(outcome(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn other_names_are_forwarded_or_refused() {
    let other = query("Example.ORG.", RecordType::A).to_vec().unwrap();
    match judge(&other, &served(0), RULES, false) {
        Verdict::Forward { name, .. } => assert_eq!(name, "example.org."),
        unexpected => panic!("expected to forward: {unexpected:?}"),
    }
    let address = query("1.1.0.10.in-addr.arpa.", RecordType::PTR);
    let verdict = judge(&address.to_vec().unwrap(), &served(0), RULES, false);
    assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
    let rules = Rules {
        external: false,
        ..RULES
    };
    let Verdict::Answer(refused) = judge(&other, &served(0), rules, false) else {
        panic!("expected a refusal");
    };
    assert_eq!(
        Message::from_vec(&refused).unwrap().metadata.response_code,
        ResponseCode::Refused
    );
}

#[test]
fn before_the_first_snapshot_names_are_neither_there_nor_not() {
    let served = Served::nothing(&Config::default());
    let reply = answer(&query("web.marathon.mesos.", RecordType::A), &served, false);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn answers_that_do_not_fit_are_cut_and_say_so() {
    let served = served(100);
    let mut query = query("_web._tcp.marathon.mesos.", RecordType::SRV);
    let reply = answer(&query, &served, false);
    assert!(reply.metadata.truncation && !reply.answers.is_empty() && reply.additionals.is_empty());
    assert!(reply.to_vec().unwrap().len() <= 512);

    let mut edns = Edns::new();
    edns.set_max_payload(2048);
    query.set_edns(edns);
    let larger = answer(&query, &served, false);
    assert!(larger.metadata.truncation && larger.answers.len() > reply.answers.len());
    assert_eq!(
        larger.edns.as_ref().map(Edns::max_payload),
        Some(EDNS_PAYLOAD)
    );

    let whole = answer(&query, &served, true);
    assert_eq!(
        (whole.answers.len(), whole.metadata.truncation),
        (100, false)
    );
    let quiet = Rules {
        set_truncate_bit: false,
        ..RULES
    };
    let Verdict::Answer(quiet) = judge(&query.to_vec().unwrap(), &served, quiet, false) else {
        panic!("expected an answer");
    };
    assert!(!Message::from_vec(&quiet).unwrap().metadata.truncation);
}

#[test]
fn each_query_gets_another_first_answer() {
    let served = served(3);
    let mut first = std::collections::BTreeSet::new();
    let mut query = query("_web._tcp.marathon.mesos.", RecordType::SRV);
    for id in 0..3 {
        query.metadata.id = id;
        let reply = answer(&query, &served, false);
        first.insert(reply.answers[0].to_string());
    }
    assert_eq!(first.len(), 3, "{first:?}");
}

#[test]
fn what_is_no_query_gets_the_right_word_or_none() {
    let served = served(0);
    let code = |packet: &[u8]| match judge(packet, &served, RULES, false) {
        Verdict::Answer(answer) => Some(Message::from_vec(&answer).unwrap().metadata.response_code),
        Verdict::Forward { .. } => panic!("forwarded"),
        Verdict::Ignore => None,
    };
    let whole = query("leader.mesos.", RecordType::A);
    let bytes = whole.to_vec().unwrap();
    assert_eq!(code(&bytes[..11]), None, "shorter than a header");
    assert_eq!(code(&bytes[..20]), Some(ResponseCode::FormErr));
    let mut none = whole.clone();
    none.queries.clear();
    assert_eq!(code(&none.to_vec().unwrap()), Some(ResponseCode::FormErr));
    let mut update = whole.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update.to_vec().unwrap()), Some(ResponseCode::NotImp));
    let mut chaos = whole.clone();
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos.to_vec().unwrap()), Some(ResponseCode::Refused));
    let mut newer = whole.clone();
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    // 16 means BADVERS here and BADSIG elsewhere; hickory reads the latter.
    assert_eq!(code(&newer.to_vec().unwrap()), Some(ResponseCode::BADSIG));
    let mut response = whole;
    response.metadata.message_type = MessageType::Response;
    assert_eq!(code(&response.to_vec().unwrap()), None);
}

proptest::proptest! {
    #[test]
    fn no_packet_breaks_it(packet: Vec<u8>, tcp: bool) {
        judge(&packet, &served(1), RULES, tcp);
    }

    #[test]
    fn no_damaged_query_breaks_it(place in 0_usize..40, byte: u8) {
        let mut packet = query("_web._tcp.marathon.mesos.", RecordType::SRV).to_vec().unwrap();
        let place = place % packet.len();
        packet[place] = byte;
        judge(&packet, &served(1), RULES, false);
    }
}

/// Of several tasks under one name, some with addresses of their own.
fn crowded(tasks: u8) -> Served {
    let task = |number: u8| Task {
        container_ips: vec![
            [9, 0, 1, number].into(),
            [0xfd01, 0, 0, 0, 0, 0, 0, u16::from(number)].into(),
        ],
        ports: vec![31_000, 31_001 + u16::from(number)],
        ..Task::new(format!("db.{number}"), "db", "marathon", "a-S0")
    };
    of_tasks((0..tasks).map(task).collect())
}

/// Of these tasks, with the addresses of their containers.
fn of_tasks(tasks: Vec<Task>) -> Served {
    let snapshot = Snapshot {
        leader: Some("10.0.0.1:5050".parse().unwrap()),
        agents: vec![Agent::new("a-S0", "10.0.1.1".parse().unwrap(), 5051)],
        tasks,
        ..Snapshot::default()
    };
    let config = Config {
        ip_sources: vec![dcos_net::names::IpSource::NetInfo],
        ..Config::default()
    };
    Served {
        names: publish(&snapshot, &config),
        serial: 7,
        led: true,
        took: std::time::Duration::ZERO,
    }
}

/// Whether it is answered without a message being made; what is answered otherwise says the same.
fn is_plain(packet: &[u8], served: &Served, rules: Rules) -> bool {
    crate::testkit::check(packet, served, rules)
}

#[test]
fn plain_questions_are_answered_alike() {
    let plain = |query: &Message, tasks| is_plain(&query.to_vec().unwrap(), &crowded(tasks), RULES);
    for (name, kind, expected) in [
        ("db.marathon.mesos.", RecordType::A, true),
        ("DB.Marathon.mesos.", RecordType::AAAA, true),
        ("db.marathon.mesos.", RecordType::SRV, true),
        ("_db._tcp.marathon.mesos.", RecordType::SRV, true),
        ("_Leader._tcp.mesos.", RecordType::SRV, true),
        ("db.*.marathon.mesos.", RecordType::A, false),
        ("none.marathon.mesos.", RecordType::A, true),
        ("none.Mesos.", RecordType::SRV, true),
        ("marathon.mesos.", RecordType::A, true),
        ("mesos.", RecordType::A, true),
        ("mesos.", RecordType::SOA, false),
        ("leader.mesos.", RecordType::A, true),
        ("leader.mesos.", RecordType::AAAA, true),
        ("none.thisdcos.global.", RecordType::A, true),
        ("zk-6.zk.", RecordType::A, false),
        ("1.1.0.9.in-addr.arpa.", RecordType::A, true),
        ("1.1.0.10.in-addr.arpa.", RecordType::A, false),
        (
            "db.marathon.autoip.dcos.thisdcos.global.",
            RecordType::A,
            true,
        ),
        ("example.org.", RecordType::A, false),
    ] {
        assert_eq!(plain(&query(name, kind), 3), expected, "{name} {kind}");
    }
    let mut many = query("db.marathon.mesos.", RecordType::A);
    assert!(!plain(&many, 100), "it is cut");
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    many.set_edns(edns);
    for id in 0..7 {
        many.metadata.id = id;
        assert!(plain(&many, 100));
    }
}

#[test]
fn of_a_name_with_thousands_of_addresses_only_those_are_packed_that_may_fit() {
    let task = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Task {
            container_ips: vec![[9, 0, high, low].into()],
            ports: vec![31_000],
            ..Task::new(format!("db.{number}"), "db", "marathon", "a-S0")
        }
    };
    let served = of_tasks((0..5000).map(task).collect());
    let mut seen = std::collections::BTreeSet::new();
    for (name, kind) in [
        ("db.marathon.mesos.", RecordType::A),
        ("db.marathon.mesos.", RecordType::ANY),
        ("_db._tcp.marathon.mesos.", RecordType::SRV),
    ] {
        for limit in [512, MAX_UDP] {
            for id in [0, 4999, 5000, u16::MAX] {
                let mut query = query(name, kind);
                query.metadata.id = id;
                let (mut reply, question) = (reply_to(&query), &query.queries[0]);
                let found = served.names.find(name).unwrap();
                fill(&mut reply, question, name, found, &served, limit);
                let most = usize::from(limit) / SHORTEST;
                assert_eq!(reply.answers.len(), most + 1, "{name} {kind}");
                assert!(reply.additionals.is_empty());
                seen.insert(reply.answers[0].to_string());
                let packed = Message::from_vec(&encode(reply, limit, true)).unwrap();
                assert!(packed.metadata.truncation && packed.answers.len() > 8);
            }
        }
        let mut room = Vec::new();
        let packet = query(name, kind).to_vec().unwrap();
        assert!(!plain::answer(&packet, &served, RULES, &mut room));
        assert!(room.len() <= 512, "it is given up at once: {}", room.len());
        let whole = answer(&query(name, kind), &served, true);
        assert!(whole.answers.len() > 1000 || whole.metadata.truncation);
    }
    assert!(
        seen.len() > 6,
        "each question gets another first answer: {seen:?}"
    );
}

#[test]
fn more_addresses_than_an_answer_counts_are_not_plain() {
    let ips = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let v6 = [0xfd01, 0, 0, 0, 0, 0, 0, number];
        [IpAddr::from([9, 0, high, low]), IpAddr::from(v6)]
    };
    let port = dcos_net::Port {
        number: 80,
        name: String::new(),
        protocol: "tcp".to_owned(),
    };
    let discovery = dcos_net::Discovery {
        name: "db".to_owned(),
        ports: vec![port],
        about: Vec::new(),
    };
    let task = |number| Task {
        container_ips: (0..4096).flat_map(ips).collect(),
        discovery: Some(discovery.clone()),
        ..Task::new(format!("db.{number}"), "db", "marathon", "a-S0")
    };
    // Of nine targets with 8192 addresses each.
    let served = of_tasks((0..9).map(task).collect());
    let query = query("_db._tcp.marathon.mesos.", RecordType::SRV);
    assert!(!is_plain(&query.to_vec().unwrap(), &served, RULES));
}

proptest::proptest! {
    #[test]
    fn what_is_plain_is_judged_alike(
        id: u16, flags: u8, more_flags: u8, four in 0_u8..4, payload: u16, edns_flags: u8, tasks in 0_u8..60,
        place in 0_usize..60, byte: u8, damaged: bool, external: bool, rare: bool,
    ) {
        let name = ["db.marathon.mesos.", "_Db._tcp.Marathon.Mesos.", "leader.mesos.", "none.thisdcos.global."];
        let name = name[usize::from(four)];
        let kind = [RecordType::A, RecordType::AAAA, RecordType::SRV][usize::from(id % 3)];
        let mut packet = query(name, kind).to_vec().unwrap();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        // Most flags make it another kind of packet.
        let (common, more) = if rare { (0xFF, 0xFF) } else { (1, 0x30) };
        (packet[2], packet[3]) = (flags & common, more_flags & more);
        if payload & 1 == 0 {
            let [high, low] = payload.to_be_bytes();
            packet[11] = 1;
            packet.extend([0, 0, 41, high, low, 0, 0, edns_flags & if rare { 0xFF } else { 0x80 }, 0, 0, 0]);
        }
        if damaged {
            let place = place % packet.len();
            packet[place] = byte;
        }
        let rules = Rules { external, ..RULES };
        is_plain(&packet, &crowded(tasks), rules);
    }

    #[test]
    fn no_packet_is_taken_for_a_plain_one(packet: Vec<u8>) {
        is_plain(&packet, &served(1), RULES);
    }
}

//! Properties of the table of virtual addresses, against a slow and obvious model.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dcos_net::vip::{
    Addresses, Backend, Claim, Host, Key, Protocol, Refusal, Service, TaskKey, VipTable,
};
use proptest::prelude::*;

/// So few addresses that names stand in each other's way.
fn narrow() -> (Addresses, Addresses) {
    let v4 = |last| IpAddr::from(Ipv4Addr::new(11, 0, 0, last));
    let v6 = |last| IpAddr::from(Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, last));
    (
        Addresses::between(v4(0), v4(9)),
        Addresses::between(v6(0), v6(9)),
    )
}

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn table() -> VipTable {
    let (v4, v6) = narrow();
    VipTable::with_addresses([OWN.into()], v4, v6)
}

fn backend() -> impl Strategy<Value = Backend> {
    (
        1..4_u8,
        1..4_u16,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(agent, port, mapped, open, v6)| {
            let agent = IpAddr::from(Ipv4Addr::new(10, 0, 0, agent));
            let ip = if v6 {
                Ipv6Addr::LOCALHOST.into()
            } else {
                agent
            };
            let inside = (mapped && !v6).then(|| ([172, 31, 254, 2], port).into());
            Backend {
                agent,
                address: SocketAddr::new(ip, port),
                inside,
                open,
            }
        })
}

fn claim() -> impl Strategy<Value = Claim> {
    let host = prop_oneof![
        4 => (0..8_u8).prop_map(|name| Host::Named(format!("n{name}.marathon"))),
        1 => (8..14_u8).prop_map(|last| Host::Address(Ipv4Addr::new(11, 0, 0, last).into())),
    ];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    (host, protocol, 1..3_u16, backend())
        .prop_filter("families differ", |(host, .., backend)| {
            matches!(host, Host::Named(_)) || backend.address.is_ipv4()
        })
        .prop_map(|(host, protocol, port, backend)| Claim {
            key: Key {
                protocol,
                host,
                port,
            },
            backend,
        })
}

/// A task, and what it claims from now on.
fn step() -> impl Strategy<Value = (TaskKey, Vec<Claim>)> {
    let task = (0..6_u8).prop_map(|task| ("f".to_owned(), format!("t{task}")));
    (task, prop::collection::vec(claim(), 0..3))
}

/// The nodes that nobody reaches.
fn nodes() -> impl Strategy<Value = BTreeSet<IpAddr>> {
    let node = (1..4_u8).prop_map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
    prop::collection::btree_set(node, 0..3)
}

/// Where connections fail.
fn places() -> impl Strategy<Value = BTreeSet<SocketAddr>> {
    let place = (1..4_u8, 1..4_u16).prop_map(|(last, port)| ([10, 0, 0, last], port).into());
    prop::collection::btree_set(place, 0..4)
}

/// What the table must say, put together from scratch.
fn model(
    claims: &BTreeMap<TaskKey, Vec<Claim>>,
    unreachable: &BTreeSet<IpAddr>,
    avoided: &BTreeSet<SocketAddr>,
) -> BTreeMap<Service, Vec<SocketAddr>> {
    let (mut v4, mut v6) = narrow();
    let all = || claims.values().flatten();
    for claim in all() {
        if let Host::Named(name) = &claim.key.host {
            let family = if claim.backend.address.is_ipv4() {
                &mut v4
            } else {
                &mut v6
            };
            family.insert(name);
        }
    }
    let mut services: BTreeMap<Service, BTreeSet<(SocketAddr, bool)>> = BTreeMap::new();
    for Claim { key, backend } in all() {
        let ip = match &key.host {
            Host::Address(ip) => (*ip >= IpAddr::from([11, 0, 0, 10])).then_some(*ip),
            Host::Named(name) if backend.address.is_ipv4() => v4.get(name),
            Host::Named(name) => v6.get(name),
        };
        let Some(ip) = ip else { continue };
        let service = Service {
            protocol: key.protocol,
            address: SocketAddr::new(ip, key.port),
        };
        let backends = services.entry(service).or_default();
        if backend.open {
            let inside = backend
                .inside
                .filter(|_| backend.agent == IpAddr::from(OWN));
            let is_reached = !unreachable.contains(&backend.agent);
            backends.insert((inside.unwrap_or(backend.address), is_reached));
        }
    }
    services
        .into_iter()
        .map(|(service, backends)| {
            let some_are = backends.iter().any(|(_, is_reached)| *is_reached);
            let given = backends.iter();
            let given = given.filter(|(_, is_reached)| *is_reached || !some_are);
            let given: BTreeSet<SocketAddr> = given.map(|(address, _)| *address).collect();
            let is_tcp = service.protocol == Protocol::Tcp;
            let mut left = given.len() / 2;
            let fails = given.iter().filter(|place| avoided.contains(place));
            if !is_tcp || fails.count() == given.len() {
                left = 0;
            }
            let works = given.into_iter().filter(|place| {
                let is_out = left > 0 && avoided.contains(place);
                left -= usize::from(is_out);
                !is_out
            });
            (service, works.collect())
        })
        .collect()
}

proptest! {
    #[test]
    fn changes_lead_where_the_model_is(
        steps in prop::collection::vec((step(), prop::option::of(nodes()), prop::option::of(places()), any::<bool>()), 0..40),
    ) {
        let (mut table, mut claims) = (table(), BTreeMap::new());
        let mut followed: BTreeMap<Service, Vec<SocketAddr>> = BTreeMap::new();
        let (mut unreachable, mut avoided) = (BTreeSet::new(), BTreeSet::new());
        let end = (("f".to_owned(), "t9".to_owned()), Vec::new());
        for ((task, claimed), nodes, places, look) in steps.into_iter().chain([(end, None, None, true)]) {
            if let Some(places) = places {
                table.set_avoided(places.clone());
                avoided = places;
            }
            if let Some(nodes) = nodes {
                table.set_unreachable(nodes.clone());
                unreachable = nodes;
            }
            table.set(task.clone(), claimed.clone());
            claims.insert(task, claimed);
            if !look {
                continue;
            }
            for (service, backends) in table.take_changes() {
                let before = match backends.clone() {
                    Some(backends) => followed.insert(service, backends),
                    None => followed.remove(&service),
                };
                prop_assert_ne!(before, backends, "what is told must be new: {}", service);
            }
            prop_assert_eq!(&followed, &model(&claims, &unreachable, &avoided));
            prop_assert_eq!(table.told(), &followed);
            let given_by = |least: usize| -> BTreeSet<SocketAddr> {
                followed.iter()
                    .filter(|(service, given)| service.protocol == Protocol::Tcp && given.len() >= least)
                    .flat_map(|(_, given)| given.iter().copied()).collect()
            };
            prop_assert!(given_by(1).is_subset(&table.connected()));
            prop_assert!(given_by(2).is_subset(&table.replaceable()));
            prop_assert!(table.replaceable().is_subset(&table.connected()));
            // Whoever claims what can't be had is told of, and who is avoided.
            for listed in table.list() {
                for backend in &listed.backends {
                    let is_here = backend.agent == IpAddr::from(OWN);
                    let place = backend.inside.filter(|_| is_here).unwrap_or(backend.address);
                    let given = listed.addresses.iter().filter_map(|ip| followed.get(&Service {
                        protocol: listed.protocol,
                        address: SocketAddr::new(*ip, listed.port),
                    })).flatten();
                    let is_given = given.into_iter().any(|given| *given == place);
                    prop_assert!(!(is_given && listed.avoided.contains(&backend.address) && listed.backends.len() == 1));
                    if backend.open && !is_given && listed.protocol == Protocol::Tcp && avoided.contains(&place) {
                        prop_assert!(listed.avoided.contains(&backend.address));
                    }
                }
                let Host::Address(_) = listed.host else { continue };
                let key = Key { protocol: listed.protocol, host: listed.host, port: listed.port };
                prop_assert_eq!(table.refused().get(&key).copied(), listed.refused);
            }
        }
        prop_assert!(table.take_changes().is_empty());
    }

    #[test]
    fn addresses_depend_on_the_set_of_names_alone(
        names in prop::collection::vec((0..12_u8, any::<bool>()), 0..40),
    ) {
        let (mut lived, mut set) = (narrow().0, BTreeSet::new());
        for (name, there) in names {
            let name = format!("n{name}");
            let before: BTreeMap<String, IpAddr> = owned(&lived);
            let moved = if there { lived.insert(&name) } else { lived.remove(&name) };
            if there { set.insert(name.clone()); } else { set.remove(&name); }
            let after = owned(&lived);
            for (other, ip) in before {
                let stays = after.get(&other) == Some(&ip);
                prop_assert!(stays || other == name || moved.contains(&other));
            }
        }
        let mut fresh = narrow().0;
        for name in set.iter().rev() {
            fresh.insert(name);
        }
        prop_assert_eq!(owned(&lived), owned(&fresh));
        let distinct: BTreeSet<IpAddr> = fresh.iter().map(|(_, ip)| ip).collect();
        prop_assert_eq!(distinct.len(), fresh.iter().count());
        prop_assert_eq!(distinct.len(), set.len().min(10));
    }
}

fn owned(addresses: &Addresses) -> BTreeMap<String, IpAddr> {
    addresses
        .iter()
        .map(|(name, ip)| (name.to_owned(), ip))
        .collect()
}

fn place(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 31_000).into()
}

/// A blip of the node's own link has many fail at once: no service loses more than half of its backends to that.
#[test]
fn of_a_service_one_half_is_avoided_at_most() {
    let mut table = table();
    for last in 2..7 {
        let claim = Claim {
            key: Key {
                protocol: Protocol::Tcp,
                host: Host::Named("web.marathon".into()),
                port: 80,
            },
            backend: Backend {
                agent: place(last).ip(),
                address: place(last),
                inside: None,
                open: true,
            },
        };
        table.set(("f".into(), last.to_string()), vec![claim]);
    }
    for (failing, given) in [
        (2..2, 5),
        (2..3, 4),
        (3..5, 3),
        (3..6, 3),
        (2..6, 3),
        (2..7, 5),
    ] {
        table.set_avoided(failing.clone().map(place).collect());
        table.take_changes();
        let told: Vec<_> = table.told().values().map(Vec::len).collect();
        assert_eq!(told, [given], "{failing:?}");
    }
}

/// What happens to a table part of whose services an earlier one led elsewhere.
#[derive(Clone, Debug)]
enum Step {
    Set(TaskKey, Vec<Claim>),
    Unreachable(BTreeSet<IpAddr>),
    Avoided(BTreeSet<SocketAddr>),
    Reserve(u8),
    Adopt(BTreeMap<Service, Vec<SocketAddr>>),
    Forget,
    Look,
}

fn found() -> impl Strategy<Value = BTreeMap<Service, Vec<SocketAddr>>> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let service = (protocol, 0..14_u8, 1..3_u16).prop_map(|(protocol, last, port)| Service {
        protocol,
        address: ([11, 0, 0, last], port).into(),
    });
    let places = places().prop_map(|places| places.into_iter().collect());
    prop::collection::btree_map(service, places, 0..4)
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => step().prop_map(|(task, claims)| Step::Set(task, claims)),
        1 => nodes().prop_map(Step::Unreachable),
        1 => places().prop_map(Step::Avoided),
        1 => (8..14_u8).prop_map(Step::Reserve),
        2 => found().prop_map(Step::Adopt),
        1 => Just(Step::Forget),
        3 => Just(Step::Look),
    ]
}

fn go(table: &mut VipTable, step: Step) {
    match step {
        Step::Set(task, claims) => table.set(task, claims),
        Step::Unreachable(nodes) => table.set_unreachable(nodes),
        Step::Avoided(places) => table.set_avoided(places),
        Step::Reserve(last) => table.reserve([11, 0, 0, last].into()),
        Step::Adopt(found) => table.adopt(found),
        Step::Forget => table.forget(),
        Step::Look => {}
    }
}

proptest! {
    #[test]
    fn what_was_found_counts_the_same_whenever_it_is_told(steps in prop::collection::vec(any_step(), 0..30)) {
        let mut looking = table();
        let mut followed: BTreeMap<Service, Vec<SocketAddr>> = BTreeMap::new();
        for (so_far, step) in steps.iter().enumerate() {
            go(&mut looking, step.clone());
            if !matches!(step, Step::Look) {
                continue;
            }
            let revision = looking.revision();
            let changes = looking.take_changes();
            prop_assert!(changes.is_empty() || looking.revision() != revision);
            for (service, backends) in changes {
                match backends {
                    Some(backends) => followed.insert(service, backends),
                    None => followed.remove(&service),
                };
            }
            prop_assert_eq!(looking.told(), &followed);
            let mut once = table();
            steps[..so_far].iter().for_each(|step| go(&mut once, step.clone()));
            once.take_changes();
            prop_assert_eq!(once.told(), &followed);
            let given = |least: usize| -> BTreeSet<SocketAddr> {
                let given = followed.iter().filter(|(service, given)| service.protocol == Protocol::Tcp && given.len() >= least);
                given.flat_map(|(_, given)| given.iter().copied()).collect()
            };
            prop_assert!(given(1).is_subset(&looking.connected()));
            prop_assert!(given(2).is_subset(&looking.replaceable()));
        }
    }
}

/// Three backends that are claimed, of which [`found`](VipTable::adopt) was what is given: where their service leads, and what
/// is listed.
#[derive(Debug)]
struct Found {
    table: VipTable,
    service: Service,
}

impl Found {
    fn new(protocol: Protocol, found: &[u8]) -> Self {
        let mut table = table();
        let address = SocketAddr::from(([12, 0, 0, 1], 80));
        for last in 2..5 {
            let claim = Claim {
                key: Key {
                    protocol,
                    host: Host::Address(address.ip()),
                    port: address.port(),
                },
                backend: Backend {
                    agent: place(last).ip(),
                    address: place(last),
                    inside: None,
                    open: true,
                },
            };
            table.set(("f".into(), last.to_string()), vec![claim]);
        }
        let service = Service { protocol, address };
        table.adopt([(service, found.iter().copied().map(place).collect())].into());
        Self { table, service }
    }

    fn leads_to(&mut self, expected: &[u8]) {
        self.table.take_changes();
        let told = &self.table.told()[&self.service];
        let expected: Vec<_> = expected.iter().copied().map(place).collect();
        assert_eq!(told, &expected);
    }

    fn fail(&mut self, lasts: &[u8]) {
        self.table
            .set_avoided(lasts.iter().copied().map(place).collect());
    }

    fn cut_off(&mut self, lasts: &[u8]) {
        let nodes = lasts.iter().map(|last| place(*last).ip()).collect();
        self.table.set_unreachable(nodes);
    }
}

#[test]
fn a_service_that_was_found_leads_to_nobody_dead_while_a_living_one_is_known() {
    let mut one = Found::new(Protocol::Tcp, &[2]);
    one.leads_to(&[2]);
    // Those that were avoided, or not reached, when it was left are back.
    one.fail(&[2]);
    one.leads_to(&[3, 4]);
    one.fail(&[2, 3]);
    one.leads_to(&[3, 4]);
    one.fail(&[2, 3, 4]);
    one.leads_to(&[2]);
    one.cut_off(&[2]);
    one.leads_to(&[3, 4]);
    one.cut_off(&[2, 3, 4]);
    one.leads_to(&[2]);
    one.cut_off(&[]);
    one.fail(&[]);
    one.leads_to(&[2]);
    one.table.forget();
    one.leads_to(&[2, 3, 4]);
    // Of datagrams nobody knows, and where all are closed nobody is to be asked.
    let mut datagrams = Found::new(Protocol::Udp, &[2]);
    datagrams.fail(&[2]);
    datagrams.leads_to(&[2]);
    let mut closed = Found::new(Protocol::Tcp, &[]);
    closed.leads_to(&[]);
}

#[test]
fn a_list_shows_what_was_found() {
    let mut found = Found::new(Protocol::Tcp, &[2, 9]);
    found.table.take_changes();
    let open = |table: &VipTable| -> Vec<SocketAddr> {
        let listed = table.list().flat_map(|vip| vip.backends);
        let open = listed.filter(|backend| backend.open);
        open.map(|backend| backend.address).collect()
    };
    assert_eq!(open(&found.table), [2, 9].map(place));
    // Only who is a backend can be found dead.
    assert!(found.table.connected().contains(&place(9)));
    found.fail(&[2]);
    found.leads_to(&[9]);
    let avoided = found.table.list().map(|vip| vip.avoided);
    assert_eq!(avoided.collect::<Vec<_>>(), [[place(2)].into()]);
    found.table.forget();
    found.table.take_changes();
    assert_eq!(open(&found.table), [2, 3, 4].map(place));
}

#[test]
fn a_list_shows_closed_backends_as_well() {
    let mut table = table();
    let backend = |last, open| Backend {
        agent: Ipv4Addr::new(10, 0, 0, last).into(),
        address: ([10, 0, 0, last], 31_000).into(),
        inside: None,
        open,
    };
    for (task, open) in [(2, true), (3, false)] {
        let claim = Claim {
            key: Key {
                protocol: Protocol::Tcp,
                host: Host::Named("web.marathon".into()),
                port: 80,
            },
            backend: backend(task, open),
        };
        table.set(("f".into(), task.to_string()), vec![claim]);
    }
    let listed: Vec<_> = table.list().collect();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].backends, [backend(2, true), backend(3, false)]);
    let ip = table.names()["web.marathon"].v4.unwrap();
    assert_eq!(listed[0].addresses, [IpAddr::from(ip)]);
    table.take_changes();
    let open: Vec<_> = table.told().values().flatten().collect();
    assert_eq!(open, [&SocketAddr::from(([10, 0, 0, 2], 31_000))]);
}

/// What `table` does with somebody behind `host`, and whether it refuses that one.
fn claimed_at(table: &mut VipTable, host: &str) -> (usize, bool) {
    let key = Key {
        protocol: Protocol::Tcp,
        host: Host::Address(host.parse().expect("an address")),
        port: 5050,
    };
    let local: IpAddr = if host.contains(':') {
        Ipv6Addr::LOCALHOST.into()
    } else {
        [10, 0, 0, 9].into()
    };
    let claim = Claim {
        key: key.clone(),
        backend: Backend {
            agent: [10, 0, 0, 9].into(),
            address: SocketAddr::new(local, 31_000),
            inside: None,
            open: true,
        },
    };
    table.set(("f".into(), host.into()), vec![claim]);
    let changes = table.take_changes().len();
    (changes, table.refused().contains_key(&key))
}

#[test]
fn nobody_has_what_is_for_names_by_choosing_their_addresses() {
    let mut table = table();
    let name = Claim {
        key: Key {
            protocol: Protocol::Tcp,
            host: Host::Named("web.marathon".into()),
            port: 5050,
        },
        backend: Backend {
            agent: [10, 0, 0, 2].into(),
            address: ([10, 0, 0, 2], 31_000).into(),
            inside: None,
            open: true,
        },
    };
    let web = || ("f".to_owned(), "web".to_owned());
    table.set(web(), vec![name]);
    table.take_changes();
    let ip = table.names()["web.marathon"].v4.expect("an address");
    assert_eq!(claimed_at(&mut table, &ip.to_string()), (0, true));
    let to: Vec<_> = table.told().values().collect();
    assert_eq!(to, [&[SocketAddr::from(([10, 0, 0, 2], 31_000))]]);
    let listed: Vec<_> = table.list().collect();
    let shown = String::from_utf8(dcos_net::vip::document(&listed)).expect("JSON");
    let chosen = format!(
        r#"{{"vip":"{ip}:5050","protocol":"tcp","backend":[{{"ip":"10.0.0.9","port":31000}}],"refused":"{}"}}"#,
        Refusal::OfNames
    );
    assert!(shown.contains(&chosen), "{shown}");
    assert_eq!(shown.matches("refused").count(), 1, "{shown}");
    // Nor while it is nobody's: a name that comes later would take it away.
    table.set(web(), Vec::new());
    table.take_changes();
    assert!(table.told().is_empty());
    assert_eq!(table.refused().len(), 1);
    let mut wide = VipTable::new([]);
    for refused in ["11.0.0.0", "11.255.255.254", "fd01:c::7", "::ffff:11.1.2.3"] {
        assert_eq!(claimed_at(&mut wide, refused), (0, true), "{refused}");
    }
    assert!(wide.refused().values().all(|why| *why == Refusal::OfNames));
    for had in ["10.255.255.255", "12.0.0.0", "fd01:c:0:1::"] {
        assert_eq!(claimed_at(&mut wide, had), (1, false), "{had}");
    }
}

#[test]
fn addresses_of_nodes_and_of_nobody_are_no_vips() {
    let mut table = table();
    for refused in [
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "198.51.100.1",
        "10.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "fd01:d::1",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(claimed_at(&mut table, refused), (0, true), "{refused}");
    }
    for had in ["10.1.2.3", "1.2.3.4", "192.168.7.7", "11.0.0.77", "fd00::7"] {
        assert_eq!(claimed_at(&mut table, had), (1, false), "{had}");
    }
    let shown = table
        .list()
        .find(|vip| vip.host == Host::Address(OWN.into()));
    assert_eq!(shown.map(|vip| vip.addresses), Some(Vec::new()));
}

#[test]
fn a_vip_ends_where_a_node_comes_and_is_back_when_the_last_one_went() {
    let (mut table, node) = (table(), IpAddr::from([10, 1, 2, 3]));
    assert_eq!(claimed_at(&mut table, "10.1.2.3"), (1, false));
    table.reserve(node);
    let changes = table.take_changes();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1, None);
    assert_eq!(table.refused().len(), 1);
    // Two agents at one address.
    table.reserve(node);
    table.release(node);
    assert_eq!(table.take_changes(), []);
    table.release(node);
    assert!(matches!(&table.take_changes()[..], [(_, Some(backends))] if backends.len() == 1));
    assert!(table.refused().is_empty());
    table.release(node);
}

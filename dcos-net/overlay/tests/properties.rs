//! What holds whatever agents and operators do: addresses never collide, what was given stays.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use dcos_overlay::{
    AgentNetwork, Allocation, NetworkConfig, OverlayInfo, Step, Subnet, Tunnels, Wishes,
};
use proptest::prelude::*;

/// What happens to an allocation.
#[derive(Clone, Debug)]
enum Event {
    Register(u8, Wishes),
    /// With the network it had before, which the master forgot.
    Return(u8),
    Remove(u8),
    /// The master's flags change.
    Configure(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let wishes = (any::<bool>(), any::<bool>(), any::<bool>());
    let wishes = wishes.prop_map(|(subnets, mesos_bridge, docker_bridge)| Wishes {
        subnets,
        mesos_bridge,
        docker_bridge,
    });
    prop_oneof![
        6 => (0..20_u8, wishes).prop_map(|(agent, wishes)| Event::Register(agent, wishes)),
        2 => (0..20_u8).prop_map(Event::Return),
        2 => (0..20_u8).prop_map(Event::Remove),
        1 => (0..4_usize).prop_map(Event::Configure),
    ]
}

fn ip(agent: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, agent).into()
}

fn overlay(name: &str, subnet: &str, prefix: u8) -> OverlayInfo {
    OverlayInfo {
        name: name.to_owned(),
        subnet: subnet.parse().ok(),
        prefix: Some(prefix),
        subnet6: None,
        prefix6: None,
        enabled: true,
    }
}

/// Small ones, so that they are used up; the same name with other networks and sizes.
fn configs() -> [NetworkConfig; 4] {
    let with = |vteps: &str, overlays: Vec<OverlayInfo>| {
        let config = NetworkConfig {
            vtep_subnet: vteps.parse().unwrap(),
            overlays,
            ..NetworkConfig::default()
        };
        assert_eq!(config.mistakes(), []);
        config
    };
    let six = NetworkConfig::default().overlays[1].clone();
    [
        with(
            "44.128.0.0/28",
            vec![overlay("dcos", "9.0.0.0/20", 24), six],
        ),
        with(
            "44.128.0.0/24",
            vec![
                overlay("dcos", "9.0.0.0/20", 26),
                overlay("more", "9.1.0.0/24", 28),
            ],
        ),
        with("44.128.0.0/24", vec![overlay("dcos", "9.2.0.0/16", 24)]),
        with("44.129.0.0/28", vec![]),
    ]
}

/// No address is in two places.
fn check_apart(agents: &BTreeMap<IpAddr, AgentNetwork>) {
    let ends = agents
        .values()
        .flat_map(|agent| [Some(agent.vtep.ip.ip()), agent.vtep.ip6.map(|ip| ip.ip())]);
    let mut ends: Vec<IpAddr> = ends.flatten().collect();
    let mut macs: Vec<_> = agents.values().map(|agent| agent.vtep.mac).collect();
    let mut parts: Vec<Subnet> = agents.values().flat_map(AgentNetwork::parts).collect();
    let (count, hardware) = (ends.len(), macs.len());
    ends.sort();
    ends.dedup();
    macs.sort();
    macs.dedup();
    assert_eq!(
        (ends.len(), macs.len()),
        (count, hardware),
        "two tunnel ends are the same"
    );
    parts.sort();
    for (place, part) in parts.iter().enumerate() {
        let other = parts[place + 1..].iter().find(|other| other.overlaps(part));
        assert_eq!(other, None, "overlaps {part}");
    }
}

/// Each bridge is in its agent's part, and apart from the other.
fn check_bridges(network: &AgentNetwork) {
    for part in network.overlays.values() {
        let mesos = part.mesos_bridge.as_ref().and_then(|bridge| bridge.ip);
        let docker = part.docker_bridge.as_ref().and_then(|bridge| bridge.ip);
        for half in [mesos, docker].into_iter().flatten() {
            assert!(part.subnet.is_some_and(|part| part.holds(&half)), "{half}");
        }
        assert!(
            !mesos
                .zip(docker)
                .is_some_and(|(one, other)| one.overlaps(&other))
        );
    }
}

proptest! {
    #[test]
    fn addresses_never_collide_and_stay(events in prop::collection::vec(event(), 1..120)) {
        let configs = configs();
        let mut config = &configs[0];
        let mut allocation = Allocation::default();
        let mut former: BTreeMap<u8, AgentNetwork> = BTreeMap::new();
        for event in events {
            let before = allocation.agents().clone();
            match event {
                Event::Register(agent, wishes) => {
                    let given = allocation.register(config, ip(agent), wishes, None).cloned();
                    if let Ok(given) = given {
                        check_bridges(&given);
                        prop_assert!(config.vtep_subnet.contains(given.vtep.ip.ip()));
                        if wishes.subnets {
                            for overlay in config.enabled() {
                                let part = given.overlays[&overlay.name].subnet;
                                prop_assert!(overlay.subnet.is_none_or(|whole| whole.holds(&part.unwrap())));
                            }
                        }
                        // Registering again changes nothing.
                        let again = allocation.register(config, ip(agent), wishes, None);
                        prop_assert_eq!(again, Ok(&given));
                        former.insert(agent, given);
                    } else {
                        prop_assert_eq!(&before, allocation.agents());
                    }
                }
                Event::Return(agent) => {
                    let had = former.get(&agent).cloned();
                    let forgotten = !before.contains_key(&ip(agent));
                    let given = allocation.register(config, ip(agent), Wishes::ALL, had.as_ref()).cloned();
                    if let (Ok(given), Some(had), true) = (given, had, forgotten) {
                        // It keeps its tunnel end unless somebody has it, or none could have it.
                        // Under other settings the same address stands in a network of another size.
                        let ends = |network: &AgentNetwork| (network.vtep.ip.ip(), network.vtep.ip6.map(|ip| ip.ip()));
                        let taken = before.values().map(ends).any(|other| other.0 == ends(&had).0 || other.1 == ends(&had).1);
                        let possible = had.vtep.ip.network() == config.vtep_subnet;
                        prop_assert!(taken || !possible || given.vtep == had.vtep);
                    }
                }
                Event::Remove(agent) => {
                    prop_assert_eq!(allocation.remove(ip(agent)), before.contains_key(&ip(agent)));
                }
                Event::Configure(number) => config = &configs[number],
            }
            check_apart(allocation.agents());
            // What others have is theirs, whatever one does.
            for (agent, network) in &before {
                let about = match event {
                    Event::Register(agent, _) | Event::Return(agent) | Event::Remove(agent) => ip(agent),
                    Event::Configure(_) => [0, 0, 0, 0].into(),
                };
                if *agent != about {
                    prop_assert_eq!(allocation.agents().get(agent), Some(network));
                }
            }
        }
    }

    /// Steps lead from anywhere to anywhere, take nothing that is right, and never take before they put.
    #[test]
    fn steps_lead_where_they_should(
        some in prop::collection::btree_set(0..40_u8, 0..20),
        others in prop::collection::btree_set(0..40_u8, 0..20),
        moved in prop::collection::btree_set(0..40_u8, 0..5),
    ) {
        let config = NetworkConfig::default();
        let mut allocation = Allocation::default();
        let mut second = Allocation::default();
        for agent in 0..40 {
            allocation.register(&config, ip(agent), Wishes::ALL, None).unwrap();
            if !moved.contains(&agent) {
                second.register(&config, ip(agent), Wishes::ALL, allocation.agents().get(&ip(agent))).unwrap();
            }
        }
        for agent in &moved {
            second.register(&config, ip(*agent), Wishes::ALL, None).unwrap();
        }
        let of = |all: &Allocation, agents: &std::collections::BTreeSet<u8>| {
            let those = agents.iter().map(|agent| ip(*agent));
            let those: Vec<_> = those.filter_map(|ip| all.agents().get_key_value(&ip)).map(|(ip, network)| (*ip, network.clone())).collect();
            Tunnels::to(those.iter().map(|(ip, network)| (ip, network)), config.overlays.iter().filter_map(|overlay| overlay.subnet))
        };
        let (found, wanted) = (of(&allocation, &some), of(&second, &others));
        let steps = found.steps_to(&wanted);
        let right: Vec<_> = found.entries().filter(|entry| wanted.entries().any(|other| other == *entry)).collect();
        let mut taking = false;
        let mut now = found.clone();
        for step in &steps {
            let (Step::Put(entry) | Step::Take(entry)) = step;
            prop_assert!(!right.contains(&entry));
            taking |= matches!(step, Step::Take(_));
            prop_assert!(!taking || matches!(step, Step::Take(_)));
            now.take_in(*step);
        }
        prop_assert_eq!(&now, &wanted);
        prop_assert!(wanted.steps_to(&wanted).is_empty());
    }
}

#[test]
fn a_peer_costs_the_same_however_many_there_are() {
    let config = NetworkConfig {
        overlays: vec![NetworkConfig::default().overlays[0].clone()],
        vtep_subnet6: None,
        ..NetworkConfig::default()
    };
    let mut allocation = Allocation::default();
    let network = allocation
        .register(&config, ip(7), Wishes::ALL, None)
        .unwrap();
    let steps = Tunnels::change(ip(7), None, Some(network));
    // Neighbour, forward, route, and the way to the agent itself.
    assert_eq!(steps.len(), 4);
    let back = Tunnels::change(ip(7), Some(network), None);
    assert_eq!(back.len(), 4);
    assert_eq!(Tunnels::change(ip(7), Some(network), Some(network)), []);
}

#[test]
fn what_is_used_up_is_said() {
    let config = &configs()[1];
    let mut allocation = Allocation::default();
    // 9.1.0.0/24 has sixteen parts of 28 bits.
    for agent in 0..16 {
        allocation
            .register(config, ip(agent), Wishes::ALL, None)
            .unwrap();
    }
    let error = allocation
        .register(config, ip(99), Wishes::ALL, None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no address or part of 9.1.0.0/24 is left for 10.0.0.99"
    );
    assert!(allocation.remove(ip(3)));
    allocation
        .register(config, ip(99), Wishes::ALL, None)
        .unwrap();
}

#[test]
fn a_network_of_tunnel_ends_may_change_its_size() {
    let narrow = NetworkConfig::default();
    let wide = NetworkConfig {
        vtep_subnet: "44.128.0.0/16".parse().unwrap(),
        ..NetworkConfig::default()
    };
    let mut allocation = Allocation::default();
    let mut end = |config: &NetworkConfig, agent| {
        let network = allocation.register(config, ip(agent), Wishes::ALL, None);
        network.unwrap().vtep.ip.to_string()
    };
    assert_eq!(end(&narrow, 1), "44.128.0.1/20");
    assert_eq!(end(&wide, 2), "44.128.0.2/16");
    assert_eq!(end(&wide, 1), "44.128.0.1/16");
    assert_eq!(end(&narrow, 3), "44.128.0.3/20");
}

//! Apps against offers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn app(document: &Value) -> App {
    let mut full = json!({"id": "/a", "cmd": "run", "role": "*", "networks": [{"mode": "host"}]});
    full.as_object_mut()
        .unwrap()
        .extend(document.as_object().unwrap().clone());
    serde_json::from_value(full).unwrap()
}

fn scalar(name: &str, value: f64) -> Resource {
    Resource {
        name: name.into(),
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    }
}

fn ports(ranges: &[(u64, u64)]) -> Resource {
    let range = ranges.iter().map(|(begin, end)| value::Range {
        begin: *begin,
        end: *end,
    });
    Resource {
        name: "ports".into(),
        r#type: value::Type::Ranges as i32,
        ranges: Some(value::Ranges {
            range: range.collect(),
        }),
        ..Resource::default()
    }
}

fn supply() -> Supply {
    Supply::new(&[
        scalar("cpus", 2.0),
        scalar("mem", 256.0),
        ports(&[(31000, 31009)]),
    ])
}

fn site(host: &str, rack: Option<&str>) -> Site {
    let rack = rack.map(|rack| ("rack".to_owned(), rack.to_owned()));
    Site {
        agent: Agent {
            id: format!("agent-{host}"),
            host: host.into(),
            attributes: rack.into_iter().collect(),
            ..Agent::default()
        },
        role: "*".into(),
        maintenance: false,
        has_gpus: false,
        gpu_scheduling: GpuScheduling::Restricted,
        home_region: None,
    }
}

fn try_match(
    app: &App,
    site: &Site,
    supply: &Supply,
    taken: &[Site],
) -> Result<Match, Vec<Reason>> {
    let placed = Placed::of(app, taken.iter().map(|site| &site.agent));
    matches(app, site, supply, &placed, &mut Seed::new(7))
        .map_err(|reasons| reasons.iter().collect())
}

#[test]
fn every_missing_resource_is_named() {
    let app = app(
        &json!({"cpus": 3, "mem": 512, "disk": 1, "portDefinitions": [{"port": 80}],
        "requirePorts": true}),
    );
    assert_eq!(
        try_match(&app, &site("h", None), &supply(), &[]).unwrap_err(),
        [
            Reason::InsufficientCpus,
            Reason::InsufficientMemory,
            Reason::InsufficientDisk,
            Reason::InsufficientPorts
        ]
    );
}

#[test]
fn what_is_taken_is_gone() {
    let app = app(&json!({"cpus": 0.7, "mem": 64, "portDefinitions": [{}, {}, {}]}));
    let mut supply = supply();
    let mut seen = BTreeSet::new();
    let mut rounds = 0;
    while let Ok(found) = try_match(&app, &site("h", None), &supply, &[]) {
        supply.take(&found.resources);
        for port in found.ports.iter().flatten() {
            assert!(
                (31000..=31009).contains(port) && seen.insert(*port),
                "{port}"
            );
        }
        rounds += 1;
    }
    assert_eq!(rounds, 2, "2 cpus hold 0.7 twice");
    assert_eq!(seen.len(), 6);
}

#[test]
fn required_ports_are_those_and_no_others() {
    let app = app(&json!({"cpus": 0.1, "mem": 1, "requirePorts": true,
            "portDefinitions": [{"port": 31005}, {"port": 0}]}));
    let found = try_match(&app, &site("h", None), &supply(), &[]).unwrap();
    assert_eq!(found.ports[0], Some(31005));
    assert!(found.ports[1].is_some_and(|port| port != 31005));
}

#[test]
fn port_mappings_without_a_host_port_need_none() {
    let app = app(
        &json!({"cpus": 0.1, "mem": 1, "networks": [{"mode": "container", "name": "n"}],
        "container": {"type": "MESOS", "portMappings": [{"containerPort": 80},
            {"containerPort": 81, "hostPort": 0}, {"containerPort": 82, "hostPort": 31003}]}}),
    );
    let found = try_match(&app, &site("h", None), &supply(), &[]).unwrap();
    assert_eq!((found.ports[0], found.ports[2]), (None, Some(31003)));
    assert!(found.ports[1].is_some());
}

#[test]
fn own_role_first_then_the_common_pool() {
    let app = app(&json!({"cpus": 1.5, "mem": 0, "role": "web"}));
    let mut reserved = scalar("cpus", 1.0);
    reserved.role = Some("web".into());
    let supply = Supply::new(&[scalar("cpus", 1.0), reserved]);
    let site = Site {
        role: "web".into(),
        ..site("h", None)
    };
    let found = try_match(&app, &site, &supply, &[]).unwrap();
    let parts: Vec<_> = found
        .resources
        .iter()
        .map(|part| (part.role.clone(), part.scalar.as_ref().unwrap().value))
        .collect();
    assert_eq!(parts, [(Some("web".into()), 1.0), (None, 0.5)]);
    let other = Site {
        role: "ops".into(),
        ..site
    };
    assert_eq!(
        try_match(&app, &other, &supply, &[]).unwrap_err(),
        [Reason::UnfulfilledRole]
    );
}

#[test]
fn the_seven_operators() {
    let (a, b) = (site("a", Some("r1")), site("b", Some("r2")));
    let bare = site("c", None);
    let table: [(Value, &Site, Vec<Site>, bool); 21] = [
        (json!(["hostname", "UNIQUE"]), &a, vec![b.clone()], true),
        (json!(["hostname", "UNIQUE"]), &a, vec![a.clone()], false),
        (json!(["rack", "CLUSTER", "r1"]), &a, vec![], true),
        (json!(["rack", "CLUSTER", "r1"]), &b, vec![], false),
        (json!(["rack", "CLUSTER"]), &b, vec![], true),
        (json!(["rack", "CLUSTER"]), &b, vec![a.clone()], false),
        (json!(["rack", "LIKE", "r[0-9]"]), &a, vec![], true),
        (json!(["rack", "LIKE", "r"]), &a, vec![], false),
        (json!(["rack", "LIKE", ".*"]), &bare, vec![], false),
        (json!(["rack", "UNLIKE", "r1"]), &a, vec![], false),
        (json!(["rack", "UNLIKE", "r1"]), &b, vec![], true),
        (json!(["rack", "UNLIKE", "r1"]), &bare, vec![], true),
        (json!(["rack", "MAX_PER", "2"]), &a, vec![a.clone()], true),
        (
            json!(["rack", "MAX_PER", "2"]),
            &a,
            vec![a.clone(), a.clone()],
            false,
        ),
        (json!(["rack", "IS", "r1"]), &a, vec![], true),
        (json!(["rack", "IS", "r1"]), &b, vec![], false),
        (json!(["@hostname", "is", "a"]), &a, vec![], true),
        (json!(["rack", "GROUP_BY"]), &a, vec![a.clone()], true),
        (
            json!(["rack", "GROUP_BY"]),
            &a,
            vec![a.clone(), a.clone(), b.clone()],
            false,
        ),
        (
            json!(["rack", "GROUP_BY", "2"]),
            &a,
            vec![a.clone(), a.clone()],
            false,
        ),
        (
            json!(["rack", "GROUP_BY", "2"]),
            &b,
            vec![a.clone(), a.clone()],
            true,
        ),
    ];
    for (constraint, site, taken, expected) in table {
        let app = app(&json!({"cpus": 0.1, "mem": 1, "instances": 4, "constraints": [constraint]}));
        let found = try_match(&app, site, &supply(), &taken);
        assert_eq!(found.is_ok(), expected, "{constraint} {taken:?}");
    }
}

#[test]
fn attributes_are_compared_in_mesos_notation() {
    for (value, text) in [(1.0, "1"), (0.5, "0.5"), (1.2345, "1.234"), (10.0, "10")] {
        assert_eq!(scalar_text(value), text);
    }
}

#[test]
fn groups_fill_evenly_whatever_order_offers_come_in() {
    let racks = ["r1", "r2", "r3"];
    for (value, instances) in [
        (Some("3"), 7_usize),
        (Some("3"), 9),
        (Some("3"), 2),
        (None, 9),
    ] {
        for number in 0..20 {
            let mut seed = Seed::new(number);
            let mut constraint = json!(["rack", "GROUP_BY"]);
            constraint
                .as_array_mut()
                .unwrap()
                .extend(value.map(|value| json!(value)));
            let app = app(&json!({"cpus": 0.1, "mem": 1, "instances": instances,
                "constraints": [constraint]}));
            let mut placed: Vec<Site> = Vec::new();
            for _ in 0..2000 {
                let rack = seed.pick(&racks).copied();
                let site = site("host", rack);
                if placed.len() < instances && try_match(&app, &site, &supply(), &placed).is_ok() {
                    placed.push(site);
                }
            }
            assert_eq!(placed.len(), instances, "{value:?} {number}");
            let count = |rack: &&str| {
                placed
                    .iter()
                    .filter(|site| site.agent.field("rack") == Some(rack))
                    .count()
            };
            let counts: Vec<_> = racks.iter().map(count).collect();
            let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
            assert!(value.is_none() || most - least <= 1, "{value:?} {counts:?}");
        }
    }
}

proptest! {
    /// What is found missing without taking anything is what cannot be taken.
    #[test]
    fn what_is_said_to_suffice_can_be_taken(
        ranges in prop::collection::vec((0_u64..20, 0_u64..6), 0..4),
        amounts in prop::collection::vec((0_u8..3, 0_u32..30), 0..4),
        wishes in prop::collection::vec(0_u16..30, 0..6),
        wanted in 0_u32..60,
        number in any::<u64>(),
    ) {
        // Ranges do not overlap, as in offers.
        let mut next = 0;
        let ranges: Vec<_> = ranges.iter().map(|(gap, length)| {
            let begin = next + gap;
            next = begin + length + 1;
            (begin, begin + length)
        }).collect();
        let half = ranges.len() / 2;
        let mut reserved = ports(&ranges[half..]);
        reserved.role = Some("web".into());
        let cpus = amounts.iter().map(|(role, tenths)| {
            let role = ["*", "web", "other"][usize::from(*role)];
            let mut cpus = scalar("cpus", f64::from(*tenths) / 10.0);
            cpus.role = Some(role.into());
            cpus
        });
        let all: Vec<_> = cpus.chain([ports(&ranges[..half]), reserved]).collect();
        let supply = Supply::new(&all);
        let definitions: Vec<_> = wishes.iter().map(|port| json!({"port": port})).collect();
        let app = app(&json!({"role": "web", "portDefinitions": definitions, "requirePorts": true}));
        let wanted = f64::from(wanted) / 10.0;
        for roles in [&["web", "*"][..], &["*"], &[]] {
            let taken = ports::assign(&app, &supply, roles, &mut Seed::new(number));
            prop_assert_eq!(ports::suffice(&app, &supply, roles), taken.is_some());
            let taken = supply.scalar("cpus", wanted, roles);
            prop_assert_eq!(supply.has("cpus", wanted, roles), taken.is_some());
        }
    }
}

#[test]
fn services_without_gpus_leave_those_to_others_unless_somebody_says_otherwise() {
    use GpuScheduling::{Restricted, Unrestricted};
    for (site_says, label, gpus, suits) in [
        (Restricted, None, 0, false),
        (Restricted, Some("unrestricted"), 0, true),
        (Restricted, Some("whatever"), 0, false),
        (Restricted, None, 1, true),
        (Unrestricted, None, 0, true),
        (Unrestricted, Some("restricted"), 0, false),
    ] {
        let labels = label.map(|label| json!({"GPU_SCHEDULING_BEHAVIOR": label}));
        let app = app(&json!({"gpus": gpus, "labels": labels.unwrap_or(json!({}))}));
        let site = Site {
            has_gpus: true,
            gpu_scheduling: site_says,
            ..site("host", None)
        };
        let mut resources = supply().into_resources();
        resources.push(scalar("gpus", 2.0));
        let found = try_match(&app, &site, &Supply::new(&resources), &[]);
        assert_eq!(
            found.is_ok(),
            suits,
            "{site_says:?} {label:?} {gpus}: {found:?}"
        );
        if let Err(reasons) = found {
            assert_eq!(reasons, [Reason::DeclinedScarceResources]);
        }
    }
}

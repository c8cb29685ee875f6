//! Quota and weights: what is refused, stored, taken back, and remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_proto::master::Call;
use dcos_proto::master::call::{self, Type};
use dcos_proto::mesos::value::Scalar;
use dcos_proto::mesos::{FrameworkInfo, WeightInfo};
use dcos_proto::quota::{QuotaConfig, QuotaRequest};

use super::super::{Input, Reply};
use super::{World, framework};
use crate::allocator::Config;

const PID: &str = "slave(1)@10.0.0.1:5051";
const ALL: &str = "cpus:4;mem:1024";

fn config(role: &str, guarantees: &str, limits: &str) -> QuotaConfig {
    let amounts = |text: &str| {
        let pairs = text.split(';').filter_map(|pair| pair.split_once(':'));
        pairs
            .map(|(name, value)| {
                let value = value.parse().unwrap();
                (name.to_owned(), Scalar { value })
            })
            .collect()
    };
    QuotaConfig {
        role: role.to_owned(),
        guarantees: amounts(guarantees),
        limits: amounts(limits),
    }
}

fn update(configs: &[(&str, &str, &str)], force: bool) -> Call {
    let configs = configs.iter();
    let quota_configs = configs.map(|(role, guarantees, limits)| config(role, guarantees, limits));
    Call {
        r#type: Some(Type::UpdateQuota.into()),
        update_quota: Some(call::UpdateQuota {
            force: Some(force),
            quota_configs: quota_configs.collect(),
        }),
        ..Call::default()
    }
}

fn weights(weights: &[(&str, f64)]) -> Call {
    let infos = weights.iter().map(|(role, weight)| WeightInfo {
        role: Some((*role).to_owned()),
        weight: *weight,
    });
    Call {
        r#type: Some(Type::UpdateWeights.into()),
        update_weights: Some(call::UpdateWeights {
            weight_infos: infos.collect(),
        }),
        ..Call::default()
    }
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Refused { status, text } => format!("{status} {text}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_quota_is_checked_whole() {
    let mut world = World::new();
    world.agent(PID, ALL);
    let mut check =
        |configs: &[(&str, &str, &str)], force| refusal(world.order(update(configs, force)));
    assert_eq!(
        check(&[("a/b", "", "cpus:1")], true),
        "400 Updating quota on nested role 'a/b' is not supported yet"
    );
    assert_eq!(
        check(&[("a", "cpus:2", "cpus:1")], true),
        "400 Invalid QuotaConfig: 'QuotaConfig.guarantees' { cpus: 2 } is not contained within the 'QuotaConfig.limits' { cpus: 1 }"
    );
    assert_eq!(
        check(&[("a", "cpus:-1", "")], true),
        "400 Invalid QuotaConfig: Invalid guarantee configuration {'cpus': -1}: Negative values not supported"
    );
    assert_eq!(
        check(&[("a", "mem:2e12", "")], true),
        "400 Invalid QuotaConfig: Invalid 'QuotaConfig.guarantees': {'mem': 2000000000000} is invalid: values greater than 1 exabyte (1099511627776) are not supported"
    );
    assert_eq!(
        check(&[("a", "cpus:3", ""), ("b", "cpus:2", "")], false),
        "400 Invalid QuotaConfig: total quota guarantees 'cpus:5' exceed cluster capacity 'cpus:4; mem:1024' (use 'force' flag to bypass this check)"
    );
    assert_eq!(
        check(&[("a", "cpus:3", ""), ("b", "cpus:2", "")], true),
        "Done"
    );
    assert_eq!(world.master.standing.quotas.len(), 2);
}

#[test]
fn a_limit_is_kept_and_survives_the_master() {
    let mut world = World::new();
    world.agent(PID, ALL);
    assert_eq!(
        world.order(update(&[("*", "", "cpus:1;mem:128")], false)),
        Reply::Done
    );
    let one = world.subscribe(framework("one"));
    let offers = world.offers(&one);
    let offered = |resources: &[dcos_proto::mesos::Resource]| {
        let resources = Resources::from(&resources.to_vec());
        (resources.cpus(), resources.mem())
    };
    assert_eq!(offered(&offers[0].resources), (Some(1.0), Some(128.0)));

    let mut world = world.fail_over(2);
    assert!(world.master.standing.quotas.contains_key("*"));
    let one = world.subscribe(dcos_proto::mesos::FrameworkInfo {
        id: Some(one.id),
        ..framework("one")
    });
    world.agent("slave(1)@10.0.0.2:5051", ALL);
    let offers = world.offers(&one);
    assert_eq!(offered(&offers[0].resources), (Some(1.0), Some(128.0)));
    assert_eq!(world.order(update(&[("*", "", "")], false)), Reply::Done);
    assert!(world.master.standing.quotas.is_empty());
    assert!(!world.store.keys().any(|key| key.contains("quota")));
}

#[test]
fn a_limit_below_what_is_used_needs_force_and_kills_nothing() {
    let mut world = World::new();
    world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    world.launch(&one, &[("t", "cpus:2;mem:64")]);
    let text = refusal(world.order(update(&[("*", "", "cpus:1")], false)));
    assert_eq!(
        text,
        "400 Invalid QuotaConfig: Role '*' is already consuming 'cpus:2; mem:64'; this is more than the requested limits 'cpus:1' (use 'force' flag to bypass this check)"
    );
    world.offers(&one);
    assert_eq!(
        world.order(update(&[("*", "", "cpus:1")], true)),
        Reply::Done
    );
    assert_eq!(world.seen(&one), ["RESCIND"]);
    assert!(
        world.offers(&one).is_empty(),
        "there is no more for the role"
    );
    assert_eq!(world.master.frameworks[&one.id].tasks.len(), 1);
    world.check();
}

#[test]
fn a_guarantee_takes_offers_back_from_others() {
    let mut world = World::new();
    world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    assert_eq!(world.offers(&one).len(), 1);
    assert_eq!(
        world.order(update(&[("vip", "cpus:1", "")], false)),
        Reply::Done
    );
    assert_eq!(world.seen(&one)[0], "RESCIND");
}

#[test]
fn what_one_role_made_room_for_counts_for_the_next() {
    let mut world = World::new();
    world.agent(PID, ALL);
    world.agent("slave(1)@10.0.0.2:5051", ALL);
    let one = world.subscribe(framework("one"));
    assert_eq!(world.offers(&one).len(), 2);
    let configs = [("vip", "cpus:4", ""), ("*", "", "cpus:4")];
    assert_eq!(world.order(update(&configs, false)), Reply::Done);
    let seen = world.seen(&one);
    let rescinded = seen.iter().filter(|event| **event == "RESCIND").count();
    assert_eq!(rescinded, 1, "{seen:?}");
}

#[test]
fn the_older_way_sets_a_guarantee_that_is_a_limit() {
    let mut world = World::new();
    world.agent(PID, ALL);
    let set = |amounts: &str, force| Call {
        r#type: Some(Type::SetQuota.into()),
        set_quota: Some(call::SetQuota {
            quota_request: QuotaRequest {
                force: Some(force),
                role: Some("a".to_owned()),
                guarantee: Resources::parse(amounts).unwrap().to_messages(),
            },
        }),
        ..Call::default()
    };
    let remove = || Call {
        r#type: Some(Type::RemoveQuota.into()),
        remove_quota: Some(call::RemoveQuota {
            role: "a".to_owned(),
        }),
        ..Call::default()
    };
    assert_eq!(
        refusal(world.order(remove())),
        "400 Failed to remove quota: Role 'a' has no quota set"
    );
    assert_eq!(
        refusal(world.order(set("cpus:5", false))),
        "409 Quota guarantees overcommit the cluster (use 'force' to bypass this check): Total quota guarantees 'cpus:5' exceed cluster capacity 'cpus:4; mem:1024'"
    );
    assert_eq!(
        refusal(world.order(set("", false))),
        "400 Failed to validate set quota request: QuotaInfo with empty 'guarantee'"
    );
    assert_eq!(world.order(set("cpus:5", true)), Reply::Done);
    assert_eq!(
        refusal(world.order(set("cpus:1", false))),
        "400 Failed to validate set quota request: Cannot set quota for role 'a' which already has quota"
    );
    let quota = &world.master.standing.quotas["a"];
    assert_eq!(quota.limits.len(), 1);
    assert_eq!(quota.guarantees.to_string(), "cpus:5");
    assert_eq!(world.order(remove()), Reply::Done);
    assert!(world.master.standing.quotas.is_empty());
}

#[test]
fn weights_are_checked_stored_and_take_offers_back() {
    let mut world = World::new();
    world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    world.offers(&one);
    assert_eq!(
        refusal(world.order(weights(&[("a", 2.0), ("b", 0.0)]))),
        "400 Failed to validate update weights request JSON for role 'b': Invalid weight '0': Weights must be positive"
    );
    assert!(world.master.standing.weights.is_empty());
    assert_eq!(world.order(weights(&[("idle", 2.0)])), Reply::Done);
    assert!(world.seen(&one).is_empty(), "nobody uses the role");
    assert_eq!(world.order(weights(&[("*", 3.0)])), Reply::Done);
    assert_eq!(world.seen(&one)[0], "RESCIND");
    let world = world.fail_over(2);
    let stored: Vec<_> = world.master.standing.weights.iter().collect();
    assert_eq!(
        stored,
        [(&"*".to_owned(), &3.0), (&"idle".to_owned(), &2.0)]
    );
}

fn prioritize(world: &mut World, principal: Option<&str>, named: &[(&str, i32)]) -> Reply {
    let named = named.iter();
    world.handle(Input::Priorities {
        request: 9_000,
        principal: principal.map(ToOwned::to_owned),
        priorities: named
            .map(|(role, number)| ((*role).to_owned(), *number))
            .collect(),
    });
    world.replies.remove(&9_000).unwrap()
}

fn with_role(name: &str, role: &str) -> FrameworkInfo {
    FrameworkInfo {
        role: Some(role.to_owned()),
        ..framework(name)
    }
}

#[test]
fn priorities_are_checked_stored_and_decide_at_once() {
    let mut world = World::new();
    let low = world.subscribe(with_role("low", "eng/low"));
    world.agent(PID, ALL);
    assert!(!world.offers(&low).is_empty());
    let high = world.subscribe(with_role("high", "ops"));
    assert!(world.offers(&high).is_empty(), "there is nothing left");
    for (named, told) in [
        (&[("ops", 1), ("a b", 1)][..], "400 Invalid role 'a b'"),
        (&[("", 1)], "400 Invalid role ''"),
    ] {
        let refused = refusal(prioritize(&mut world, None, named));
        assert!(refused.starts_with(told), "{refused}");
        assert!(world.master.standing.priorities.is_empty());
    }
    assert_eq!(prioritize(&mut world, None, &[("idle", 7)]), Reply::Done);
    assert!(world.seen(&low).is_empty(), "nobody uses the role");
    // What is above a role counts for it as well.
    assert_eq!(prioritize(&mut world, None, &[("eng", -1)]), Reply::Done);
    assert_eq!(world.seen(&low)[0], "RESCIND");
    assert_eq!(prioritize(&mut world, None, &[("eng", -1)]), Reply::Done);
    assert!(world.seen(&low).is_empty(), "it was so already");
    world.pass(Duration::from_secs(1));
    assert!(
        !world.offers(&high).is_empty(),
        "who comes first is offered all"
    );
    assert!(world.seen(&low).is_empty());
    let world = world.fail_over(2);
    let stored: Vec<_> = world.master.standing.priorities.iter().collect();
    assert_eq!(stored, [(&"eng".to_owned(), &-1), (&"idle".to_owned(), &7)]);
}

#[test]
fn whoever_may_not_update_a_weight_may_not_update_a_priority() {
    let rules = r#"{"update_weights": [
        {"principals": {"values": ["ops"]}, "roles": {"values": ["web"]}},
        {"principals": {"type": "NONE"}, "roles": {"type": "ANY"}}]}"#;
    let acls: dcos_security::Acls = rules.parse().unwrap();
    let mut world = World::with(BTreeMap::new(), 1, |settings| {
        settings.security.authorizer = std::sync::Arc::new(acls);
    });
    for (principal, role, allowed) in [
        (Some("ops"), " web ", true),
        (Some("ops"), "db", false),
        (Some("dev"), "web", false),
        (None, "web", false),
    ] {
        let reply = prioritize(&mut world, principal, &[(role, 2)]);
        let forbidden = matches!(reply, Reply::Refused { status: 403, .. });
        assert_eq!(forbidden, !allowed, "{principal:?} {role:?}: {reply:?}");
    }
    assert_eq!(world.master.standing.priorities.len(), 1);
    assert_eq!(world.master.standing.priorities["web"], 2);
}

/// A standby that was started with another flag changes nothing when it leads.
#[test]
fn priorities_of_the_command_line_seed_an_empty_registry_only() {
    let master = |store, number, priorities: &[(&str, i32)]| {
        let named = priorities.iter();
        let priorities: BTreeMap<String, i32> = named
            .map(|(role, number)| ((*role).to_owned(), *number))
            .collect();
        // As a master makes both of its flag.
        let config = Config {
            priorities: priorities.clone(),
            ..Config::default()
        };
        World::sharing(config, store, number, |settings| {
            settings.priorities = priorities
        })
    };
    let first = |mut world: World| {
        let (eng, ops) = (
            world.subscribe(with_role("eng", "eng")),
            world.subscribe(with_role("ops", "ops")),
        );
        world.agent(PID, ALL);
        world.pass(Duration::from_secs(1));
        let offered = [&eng, &ops].map(|one| !world.offers(one).is_empty());
        (offered, world.store)
    };
    let (offered, store) = first(master(BTreeMap::new(), 1, &[("ops", 1)]));
    assert_eq!(offered, [false, true]);
    let (offered, _) = first(master(store.clone(), 2, &[("eng", 9), ("ops", -9)]));
    assert_eq!(offered, [false, true], "the registry says ops");
    let mut changed = master(store, 2, &[]);
    assert_eq!(
        prioritize(&mut changed, None, &[("ops", 0), ("eng", 1)]),
        Reply::Done
    );
    let (offered, _) = first(master(changed.store, 3, &[("ops", 1)]));
    assert_eq!(offered, [true, false], "and then eng");
}

#[test]
fn weights_of_the_command_line_seed_an_empty_registry_only() {
    let seed = |weight| {
        move |settings: &mut super::Settings| {
            settings.weights.insert("a".to_owned(), weight);
        }
    };
    let world = World::with(BTreeMap::new(), 1, seed(2.0));
    assert_eq!(world.master.standing.weights["a"].to_string(), "2");
    let world = World::with(world.store, 2, seed(5.0));
    assert_eq!(world.master.standing.weights["a"].to_string(), "2");
}

//! What becomes of random clusters in the end. What never happens in them, the kit's ledger sees.

use proptest::prelude::*;

use super::*;
use crate::allocator::testkit::{Ledger, quota};

/// Cpus of the agents, cpus guaranteed to three roles, and how many frameworks each has.
fn clusters() -> impl Strategy<Value = (Vec<u32>, [u32; 3], [usize; 3])> {
    let agents = prop::collection::vec(1..8_u32, 1..12);
    (agents, [0..6_u32, 0..6, 0..6], [0..3_usize, 0..3, 0..3])
}

fn cluster(allocator: &mut dyn Allocator, agents: &[u32]) {
    for (at, cpus) in agents.iter().enumerate() {
        let resources = format!("cpus:{cpus};mem:{}", cpus * 64);
        let spec = agent(&format!("agent-{at}"), &resources);
        allocator.handle(Time::from_secs(1), Event::AddAgent(spec));
    }
}

fn cpus_by_role(grants: &[Grant]) -> BTreeMap<String, f64> {
    let mut cpus = BTreeMap::new();
    for grant in grants {
        *cpus.entry(grant.role.clone()).or_default() += grant.resources.cpus().unwrap_or_default();
    }
    cpus
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Guarantees that fit into the cluster are met, those of roles without frameworks are kept
    /// free, and nothing else is.
    #[test]
    fn guarantees_are_met((agents, guarantees, frameworks) in clusters(), seed: u64, late: bool) {
        let total: u32 = agents.iter().sum();
        let promised: u32 = guarantees.iter().sum();
        prop_assume!(promised <= total);
        let config = Config { hoarding: None, ..Config::default() };
        let mut allocator = HierarchicalDrf::new(config, &Seed::new(seed));
        let now = Time::from_secs(1);
        let quotas = guarantees.iter().enumerate().map(|(role, cpus)| {
            (format!("role-{role}"), quota(&format!("cpus:{cpus};mem:{}", cpus * 64), ""))
        });
        allocator.handle(now, Event::Quotas(quotas.collect()));
        allocator.handle(now, Event::AddFramework(framework("greedy", &["other"])));
        cluster(&mut allocator, &agents);
        let mut grants = if late { allocator.poll(now).grants } else { Vec::new() };
        for (role, count) in frameworks.iter().enumerate() {
            for number in 0..*count {
                let spec = framework(&format!("fw-{role}-{number}"), &[&format!("role-{role}")]);
                allocator.handle(now, Event::AddFramework(spec));
            }
        }
        for second in 2..4 {
            grants.extend(allocator.poll(Time::from_secs(second)).grants);
        }
        let cpus = cpus_by_role(&grants);
        let mut kept = 0.0;
        for (role, guarantee) in guarantees.iter().enumerate() {
            let has = cpus.get(&format!("role-{role}")).copied().unwrap_or_default();
            if frameworks[role] == 0 {
                kept += f64::from(*guarantee);
            } else {
                prop_assert!(has >= f64::from(*guarantee), "role-{role}: {has} of {guarantee}");
            }
        }
        let granted: f64 = cpus.values().sum();
        prop_assert!((f64::from(total) - granted - kept).abs() < 1e-6, "{granted} granted, {kept} kept");
    }

    /// No role gets more than its limit, and all it may have.
    #[test]
    fn limits_are_used_up((agents, limits, frameworks) in clusters(), seed: u64) {
        let config = Config { hoarding: None, ..Config::default() };
        let mut allocator = HierarchicalDrf::new(config, &Seed::new(seed));
        let now = Time::from_secs(1);
        let quotas = limits.iter().enumerate().map(|(role, cpus)| {
            (format!("role-{role}"), quota("", &format!("cpus:{cpus}")))
        });
        let mut quotas: BTreeMap<_, _> = quotas.collect();
        for (role, limit) in limits.iter().enumerate() {
            // Zero is a limit, too; as a quantity it would be none.
            let amount = dcos_core::resources::Scalar::from_f64(f64::from(*limit));
            if let Some(quota) = quotas.get_mut(&format!("role-{role}")) {
                quota.limits.insert("cpus".to_owned(), amount);
            }
        }
        allocator.handle(now, Event::Quotas(quotas));
        for (role, count) in frameworks.iter().enumerate() {
            for number in 0..*count {
                let role = if number == 0 { format!("role-{role}") } else { format!("role-{role}/sub") };
                let spec = framework(&format!("fw-{role}-{number}"), &[&role]);
                allocator.handle(now, Event::AddFramework(spec));
            }
        }
        cluster(&mut allocator, &agents);
        let mut grants = allocator.poll(now).grants;
        grants.extend(allocator.poll(Time::from_secs(2)).grants);
        let mut cpus: BTreeMap<String, f64> = BTreeMap::new();
        for (role, amount) in cpus_by_role(&grants) {
            *cpus.entry(dcos_core::roles::top_level(&role).to_owned()).or_default() += amount;
        }
        let mut wanted = 0.0;
        for (role, limit) in limits.iter().enumerate().filter(|(role, _)| frameworks[*role] > 0) {
            wanted += f64::from(*limit);
            let has = cpus.get(&format!("role-{role}")).copied().unwrap_or_default();
            prop_assert!(has <= f64::from(*limit) + 1e-6, "role-{role}: {has} of {limit}");
        }
        let total: u32 = agents.iter().sum();
        let granted: f64 = cpus.values().sum();
        prop_assert!((granted - wanted.min(f64::from(total))).abs() < 1e-6, "{granted} granted");
    }

    /// Everybody who takes part gets something, however much the others hold on to offers.
    #[test]
    fn nobody_starves(agents in prop::collection::vec(1..8_u32, 2..12), count in 1..8_usize, seed: u64) {
        let mut allocator = HierarchicalDrf::new(Config::default(), &Seed::new(seed));
        cluster(&mut allocator, &agents);
        let mut patience = Seed::new(seed).stream("patience");
        let mut open: Vec<Grant> = Vec::new();
        let mut served = std::collections::BTreeSet::new();
        for at in 0..count {
            let spec = framework(&format!("fw-{at}"), &[if at % 2 == 0 { "a" } else { "b/c" }]);
            allocator.handle(Time::from_secs(1), Event::AddFramework(spec));
        }
        for second in 2..200 {
            let now = Time::from_secs(second);
            let grants = allocator.poll(now).grants;
            served.extend(grants.iter().map(|grant| grant.framework.clone()));
            open.extend(grants);
            let (kept, declined): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|_| patience.chance(0.5));
            open = kept;
            for grant in declined {
                allocator.handle(now, Event::Recover {
                    framework: grant.framework,
                    agent: grant.agent,
                    resources: grant.resources,
                    refuse: Some(Duration::from_secs(5)),
                });
            }
        }
        prop_assert_eq!(served.len(), count);
    }
}

#[test]
fn random_orders_keep_the_promises() {
    for number in 0..5 {
        let config = Config {
            role_order: Order::Random,
            framework_order: Order::Random,
            ..Config::default()
        };
        let mut ledger = Ledger::new(drf(config), Seed::new(number));
        for _ in 0..1000 {
            ledger.step();
        }
    }
}

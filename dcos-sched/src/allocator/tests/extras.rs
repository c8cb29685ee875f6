//! What the default has beyond the contract: unanswered offers, priorities, room for wishes,
//! other orders.

use super::*;
use crate::allocator::sorter::{Client, DominantShare, Sorter};
use crate::allocator::testkit::quota;

fn at(second: u64) -> Time {
    Time::from_secs(second)
}

fn agents(allocator: &mut dyn Allocator, count: usize, resources: &str) {
    for number in 0..count {
        let spec = agent(&format!("agent-{number:02}"), resources);
        allocator.handle(at(1), Event::AddAgent(spec));
    }
}

fn count(grants: &[Grant], framework: &str) -> usize {
    let own = |grant: &&Grant| grant.framework.value == framework;
    grants.iter().filter(own).count()
}

fn answer(allocator: &mut dyn Allocator, now: Time, grant: &Grant, refuse: Option<Duration>) {
    let (framework, agent) = (grant.framework.clone(), grant.agent.clone());
    allocator.handle(
        now,
        Event::Answered {
            framework: framework.clone(),
            agent: agent.clone(),
            resources: grant.resources.clone(),
        },
    );
    if let Some(refuse) = refuse {
        allocator.handle(
            now,
            Event::Recover {
                framework,
                agent,
                resources: grant.resources.clone(),
                refuse: Some(refuse),
            },
        );
    }
}

#[test]
fn whoever_is_alone_sees_everything() {
    let mut allocator = drf(Config::default());
    agents(&mut *allocator, 50, "cpus:1;mem:64");
    allocator.handle(at(1), Event::AddFramework(framework("f", &["a"])));
    assert_eq!(allocator.poll(at(1)).grants.len(), 50);
}

#[test]
fn unanswered_offers_are_limited_while_others_wait() {
    let mut allocator = drf(Config::default());
    agents(&mut *allocator, 50, "cpus:1;mem:64");
    allocator.handle(at(1), Event::AddFramework(framework("f", &["a"])));
    allocator.handle(at(1), Event::AddFramework(framework("g", &["b"])));
    let first = allocator.poll(at(1)).grants;
    assert_eq!(
        (count(&first, "f"), count(&first, "g")),
        (5, 5),
        "a tenth each"
    );
    let told = allocator.explain(at(2), &FrameworkId::from("f"), "a");
    let is_told = |not: &NonOffer| matches!(not.reason, Reason::Hoarding { .. });
    assert_eq!(told.iter().filter(|not| is_told(not)).count(), 40);

    // `f` uses what it has, and may hold as much more; `g` says what it wants.
    for grant in first.iter().filter(|grant| grant.framework.value == "f") {
        answer(&mut *allocator, at(2), grant, None);
    }
    let wish = Event::Wish {
        framework: FrameworkId::from("g"),
        pieces: vec!["cpus:2;mem:128".parse().unwrap(); 5],
    };
    allocator.handle(at(2), wish);
    let second = allocator.poll(at(3)).grants;
    assert_eq!((count(&second, "f"), count(&second, "g")), (10, 10));

    // Nobody else waits any more.
    let suppress = Event::Suppress {
        framework: FrameworkId::from("g"),
        roles: vec![],
    };
    allocator.handle(at(4), suppress);
    assert_eq!(count(&allocator.poll(at(4)).grants, "f"), 20);
}

#[test]
fn declining_is_no_use() {
    let mut allocator = drf(Config::default());
    agents(&mut *allocator, 50, "cpus:1;mem:64");
    allocator.handle(at(1), Event::AddFramework(framework("f", &["a"])));
    allocator.handle(at(1), Event::AddFramework(framework("g", &["b"])));
    for second in 1..40 {
        let grants = allocator.poll(at(second)).grants;
        assert!(count(&grants, "f") <= 5, "{grants:?}");
        for grant in &grants {
            answer(
                &mut *allocator,
                at(second),
                grant,
                Some(Duration::from_mins(1)),
            );
        }
    }
}

#[test]
fn what_was_used_lately_is_forgotten_after_a_while() {
    let mut allocator = drf(Config::default());
    agents(&mut *allocator, 50, "cpus:1;mem:64");
    allocator.handle(at(1), Event::AddFramework(framework("f", &["a"])));
    let grants = allocator.poll(at(1)).grants;
    for grant in grants.iter().take(20) {
        answer(&mut *allocator, at(2), grant, None);
    }
    for grant in grants.iter().skip(20) {
        answer(&mut *allocator, at(2), grant, Some(Duration::ZERO));
    }
    allocator.handle(at(3), Event::AddFramework(framework("g", &["b"])));
    // Twenty tasks end; offers are declined as they come.
    for grant in grants.iter().take(20) {
        answer(&mut *allocator, at(3), grant, Some(Duration::ZERO));
    }
    let mut most = |from: u64| {
        let grants: Vec<_> = (from..from + 4)
            .flat_map(|second| allocator.poll(at(second)).grants)
            .collect();
        for grant in &grants {
            answer(&mut *allocator, at(from + 4), grant, Some(Duration::ZERO));
        }
        count(&grants, "f")
    };
    assert_eq!(
        most(4),
        25,
        "twenty were in use, and a tenth is for everybody"
    );
    assert_eq!(most(2000), 5);
}

#[test]
fn priority_comes_before_shares() {
    let config = Config {
        hoarding: None,
        ..Config::default()
    };
    let mut allocator = drf(config);
    agents(&mut *allocator, 10, "cpus:1;mem:64");
    for (id, role) in [("f", "a"), ("g", "b"), ("h", "c")] {
        allocator.handle(at(1), Event::AddFramework(framework(id, &[role])));
    }
    allocator.handle(at(1), Event::Priorities([("b".to_owned(), 1)].into()));
    let told = allocator.explain(at(1), &FrameworkId::from("f"), "a");
    let outranked = Reason::Outranked {
        roles: vec!["b".into()],
    };
    assert_eq!(told[0].reason, outranked);
    let grants = allocator.poll(at(1)).grants;
    assert_eq!(count(&grants, "g"), 10);
    // Guarantees come before priorities.
    let quotas = Event::Quotas([("a".to_owned(), quota("cpus:3", ""))].into());
    allocator.handle(at(2), quotas);
    for grant in &grants {
        answer(&mut *allocator, at(2), grant, Some(Duration::ZERO));
    }
    let grants = allocator.poll(at(4)).grants;
    assert_eq!((count(&grants, "f"), count(&grants, "g")), (3, 7));
}

#[test]
fn the_less_important_make_room() {
    let config = Config {
        hoarding: None,
        preempt_after: Some(Duration::from_secs(30)),
        priorities: [("prod".to_owned(), 10), ("batch/low".to_owned(), -1)].into(),
        ..Config::default()
    };
    let mut allocator = drf(config);
    agents(&mut *allocator, 3, "cpus:4;mem:64");
    for (id, role) in [("low", "batch/low"), ("high", "batch/high"), ("web", "web")] {
        allocator.handle(at(1), Event::AddFramework(framework(id, &[role])));
    }
    let grants = allocator.poll(at(1)).grants;
    assert_eq!(grants.len(), 3);
    for grant in &grants {
        answer(&mut *allocator, at(1), grant, None);
    }
    allocator.handle(at(2), Event::AddFramework(framework("prod", &["prod"])));
    assert!(
        allocator.poll(at(100)).preemptions.is_empty(),
        "nobody said what it wants"
    );
    let wish = |pieces: &[&str]| Event::Wish {
        framework: FrameworkId::from("prod"),
        pieces: pieces.iter().map(|piece| piece.parse().unwrap()).collect(),
    };
    allocator.handle(at(100), wish(&["cpus:5", "cpus:1"]));
    assert!(
        allocator.poll(at(129)).preemptions.is_empty(),
        "patience comes first"
    );
    assert_eq!(allocator.next_deadline(), Some(at(130)));
    assert!(
        allocator.poll(at(130)).preemptions.is_empty(),
        "no agent has 5 cpus"
    );
    allocator.handle(at(200), wish(&["cpus:1.5"]));
    let preemptions = allocator.poll(at(230)).preemptions;
    let [preemption] = &*preemptions else {
        panic!("one agent suffices: {preemptions:?}")
    };
    assert_eq!(preemption.resources, "cpus:1.5".parse().unwrap());
    assert_eq!(
        (&*preemption.to.value, &*preemption.to_role),
        ("prod", "prod")
    );

    // The victim's task ends, the wish comes true, and nobody has to go any more.
    let victim = grants
        .iter()
        .find(|grant| grant.agent == preemption.agent)
        .unwrap();
    allocator.handle(
        at(231),
        Event::Recover {
            framework: victim.framework.clone(),
            agent: victim.agent.clone(),
            resources: victim.resources.clone(),
            refuse: None,
        },
    );
    let grants = allocator.poll(at(232)).grants;
    assert_eq!(count(&grants, "prod"), 1, "the more important comes first");
    answer(&mut *allocator, at(233), &grants[0], None);
    for second in (240..400).step_by(10) {
        assert!(allocator.poll(at(second)).preemptions.is_empty());
    }
}

#[test]
fn chance_is_another_order() {
    let config = Config {
        hoarding: None,
        role_order: "random".parse().unwrap(),
        framework_order: Order::Random,
        weights: [("a".to_owned(), 3.0)].into(),
        ..Config::default()
    };
    testkit::all(&|kit| {
        let config = Config {
            role_order: Order::Random,
            framework_order: Order::Random,
            ..kit
        };
        drf(config)
    });
    let mut allocator = drf(config);
    for (id, role) in [("f", "a"), ("g", "b")] {
        allocator.handle(at(1), Event::AddFramework(framework(id, &[role])));
    }
    agents(&mut *allocator, 1000, "cpus:1;mem:64");
    let first = count(&allocator.poll(at(1)).grants, "f");
    assert!((700..800).contains(&first), "three of four: {first}");
}

#[test]
fn sorters_can_be_anything() {
    /// Whoever has the longest name comes first.
    #[derive(Debug)]
    struct Longest;

    impl Sorter for Longest {
        #[expect(clippy::cast_precision_loss, reason = "names are short")]
        fn rank(&mut self, client: &Client<'_>) -> f64 {
            -(client.name.len() as f64)
        }
    }
    let config = Config {
        hoarding: None,
        ..Config::default()
    };
    let seed = Seed::new(1);
    let (roles, frameworks) = (Box::new(DominantShare), Box::new(Longest));
    let mut allocator = HierarchicalDrf::with_sorters(config, &seed, roles, frameworks);
    for id in ["short", "longer", "longest"] {
        allocator.handle(at(1), Event::AddFramework(framework(id, &["a"])));
    }
    agents(&mut allocator, 3, "cpus:1;mem:64");
    assert_eq!(count(&allocator.poll(at(1)).grants, "longest"), 3);
}

/// A leader with quotas waits for agents, but not for ever.
#[test]
fn recovery_is_awaited() {
    let with_quota = || {
        let mut allocator = drf(Config::default());
        let quotas = [("g".to_owned(), quota("cpus:4", ""))].into();
        allocator.handle(at(1), Event::Quotas(quotas));
        allocator.handle(at(1), Event::AwaitAgents { known: 10 });
        allocator.handle(at(1), Event::AddFramework(framework("f", &["g"])));
        allocator
    };
    let mut allocator = with_quota();
    agents(&mut *allocator, 7, "cpus:1");
    assert!(allocator.poll(at(2)).is_empty());
    let told = allocator.explain(at(2), &FrameworkId::from("f"), "g");
    assert_eq!(told[0].reason, Reason::Paused);
    agents(&mut *allocator, 8, "cpus:1");
    assert_eq!(allocator.poll(at(3)).grants.len(), 8);

    let mut allocator = with_quota();
    agents(&mut *allocator, 1, "cpus:1");
    assert_eq!(allocator.next_deadline(), Some(at(601)));
    assert_eq!(allocator.poll(at(601)).grants.len(), 1, "but not for ever");
}

#[test]
fn figures_are_kept() {
    let mut allocator = drf(Config::default());
    let quotas = [("a".to_owned(), quota("cpus:1", "cpus:3"))].into();
    allocator.handle(at(1), Event::Quotas(quotas));
    allocator.handle(at(1), Event::AddFramework(framework("f", &["a/b"])));
    allocator.handle(
        at(1),
        Event::AddAgent(agent("x", "cpus:3;cpus(a):1;mem:64")),
    );
    let grants = allocator.poll(at(1)).grants;
    let metrics = allocator.metrics();
    assert_eq!(metrics.total.to_string(), "cpus:4; mem:64");
    assert_eq!(metrics.held.to_string(), "cpus:3; mem:64");
    assert_eq!(metrics.roles["a"].consumed.to_string(), "cpus:3; mem:64");
    assert!((metrics.roles["a/b"].share - 1.0).abs() < 1e-9);
    answer(
        &mut *allocator,
        at(2),
        &grants[0],
        Some(Duration::from_hours(1)),
    );
    let metrics = allocator.metrics();
    assert_eq!(metrics.roles["a/b"].refusals, 1);
    assert_eq!(metrics.roles["a"].consumed.to_string(), "cpus:1");
    assert!(metrics.held.is_empty());
}

#[test]
fn what_is_no_longer_there_does_not_come_back() {
    let mut allocator = drf(Config::default());
    let kept = "cpus(a):1;cpus:3;mem:64";
    agents(&mut *allocator, 1, kept);
    allocator.handle(at(1), Event::AddFramework(framework("f", &["a"])));
    let grants = allocator.poll(at(1)).grants;
    assert_eq!(grants.len(), 1);
    // The agent restarted without the reservation: tasks that were to use it never came there.
    answer(&mut *allocator, at(2), &grants[0], None);
    let bare = Event::UpdateAgent(agent("agent-00", "cpus:4;mem:64"));
    allocator.handle(at(3), bare);
    answer(&mut *allocator, at(4), &grants[0], Some(Duration::ZERO));
    let grants = allocator.poll(at(20)).grants;
    let granted: Vec<Resources> = grants.iter().map(|it| it.resources.unallocated()).collect();
    assert_eq!(granted, [Resources::parse("cpus:4;mem:64").unwrap()]);
}

#[test]
fn sorters_keep_the_promises_and_the_kit_notices_who_does_not() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::allocator::sorter::Random;
    use crate::allocator::testkit;

    /// Ranks by what others of its kind were asked.
    #[derive(Debug)]
    struct Moody(Arc<AtomicU32>);

    impl Sorter for Moody {
        fn rank(&mut self, _: &Client<'_>) -> f64 {
            self.0.fetch_add(1, Ordering::Relaxed).into()
        }
    }

    testkit::sorter(&|| Box::new(DominantShare));
    testkit::sorter(&|| Box::new(Random::new(&Seed::new(3))));
    let asked = Arc::new(AtomicU32::new(0));
    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        testkit::the_same_questions_have_the_same_answers(&|| Box::new(Moody(Arc::clone(&asked))));
    }));
    assert!(tried.is_err(), "the moody one passes");
}

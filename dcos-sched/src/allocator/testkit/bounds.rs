//! The promises about quotas, maintenance and operations on what nobody holds.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_core::resources::{Resources, Scalar};
use dcos_proto::mesos::resource::{ReservationInfo, reservation_info};
use dcos_proto::mesos::{AgentId, FrameworkId, TimeInfo, Unavailability};

use super::{Bench, Make, agent, framework};
use crate::allocator::{Event, NotFree, Quota, Reason};

/// A quota with guarantees and limits as quantities are written.
///
/// # Panics
/// If they are not.
pub fn quota(guarantees: &str, limits: &str) -> Quota {
    let parse = |text: &str| -> dcos_core::resources::Quantities {
        text.parse().expect("the kit's quotas are well formed")
    };
    Quota {
        guarantees: parse(guarantees),
        limits: parse(limits)
            .iter()
            .map(|(name, amount)| (name.to_owned(), amount))
            .collect(),
    }
}

fn quotas(role: &str, quota: Quota) -> Event {
    Event::Quotas(BTreeMap::from([(role.to_owned(), quota)]))
}

/// Promise 9, its first half.
pub fn limits_are_kept(make: Make<'_>) {
    let mut bench = Bench::new(
        make,
        [
            quotas("a", quota("", "cpus:3")),
            Event::AddFramework(framework("f", &["a", "a/b"])),
            Event::AddAgent(agent("x", "cpus:4;mem:64;ports:[1-2]")),
        ],
    );
    let grants = bench.run(Duration::from_secs(1));
    let cpus = |grants: &[crate::allocator::Grant]| {
        let all = grants.iter().map(|grant| grant.resources.scalar("cpus"));
        all.flatten()
            .fold(Scalar::ZERO, std::ops::Add::add)
            .as_f64()
    };
    assert!(
        (cpus(&grants) - 3.0).abs() < 1e-9,
        "cut to the limit: {grants:?}"
    );
    let all: Resources = grants.iter().fold(Resources::new(), |mut all, grant| {
        all += grant.resources.unallocated();
        all
    });
    assert_eq!(all.ports().len(), 2, "ports are never cut");
    assert_eq!(all.mem(), Some(64.0), "what has no limit is not cut");
    bench.tell(Event::AddAgent(agent("y", "cpus:4")));
    assert!(bench.soon().is_empty(), "granted beyond the limit");
    let told = bench
        .allocator
        .explain(bench.now, &FrameworkId::from("f"), "a/b");
    let reason = &told
        .iter()
        .find(|told| told.agent.value == "y")
        .expect("y is told of")
        .reason;
    assert_eq!(
        *reason,
        Reason::QuotaReached {
            role: "a".into(),
            names: vec!["cpus".into()]
        }
    );
    bench.tell(quotas("a", quota("", "cpus:5")));
    let more = bench.run(Duration::from_secs(1));
    assert!(
        (cpus(&more) - 2.0).abs() < 1e-9,
        "up to the new limit: {more:?}"
    );
    bench.tell(quotas("a", Quota::default()));
    let rest = bench.run(Duration::from_secs(1));
    assert!(
        (cpus(&rest) - 3.0).abs() < 1e-9,
        "without a limit all is granted: {rest:?}"
    );
}

/// Promise 9: reservations count, held or not, and once.
pub fn reservations_count_towards_limits(make: Make<'_>) {
    let mut bench = Bench::new(
        make,
        [
            quotas("a", quota("", "cpus:3")),
            Event::AddFramework(framework("f", &["a"])),
            Event::AddAgent(agent("reserved", "cpus(a):2")),
            Event::AddAgent(agent("x", "cpus:4")),
        ],
    );
    let mut grants = bench.soon();
    grants.sort();
    assert_eq!(grants.len(), 2, "{grants:?}");
    assert!(
        grants[0].starts_with("f/a reserved "),
        "what is reserved is granted: {grants:?}"
    );
    assert_eq!(grants[1], "f/a x cpus:1");
    bench.tell(Event::RemoveAgent(AgentId::from("reserved")));
    bench.tell(Event::AddAgent(agent("y", "cpus:4")));
    let more: f64 = bench
        .run(Duration::from_secs(1))
        .iter()
        .filter_map(|grant| grant.resources.cpus())
        .sum();
    assert!(
        (more - 2.0).abs() < 1e-9,
        "a reservation that is gone counts no more: {more}"
    );
}

/// Promise 9, its second half.
pub fn guarantees_are_kept_free(make: Make<'_>) {
    let mut bench = Bench::new(
        make,
        [
            quotas("g", quota("cpus:4", "")),
            Event::AddFramework(framework("f", &["a"])),
            Event::AddAgent(agent("x", "cpus:3")),
            Event::AddAgent(agent("y", "cpus:3")),
        ],
    );
    let granted: f64 = bench
        .run(Duration::from_secs(1))
        .iter()
        .filter_map(|grant| grant.resources.cpus())
        .sum();
    assert!(
        (granted - 2.0).abs() < 1e-9,
        "4 of 6 cpus are kept free, 2 granted: {granted}"
    );
    let told = bench
        .allocator
        .explain(bench.now, &FrameworkId::from("f"), "a");
    let kept = Reason::Headroom {
        roles: vec!["g".into()],
    };
    assert!(told.iter().any(|told| told.reason == kept), "{told:?}");
    bench.tell(Event::AddFramework(framework("late", &["g/sub"])));
    let promised: f64 = bench
        .run(Duration::from_secs(1))
        .iter()
        .filter(|grant| grant.role == "g/sub")
        .filter_map(|grant| grant.resources.cpus())
        .sum();
    assert!(
        (promised - 4.0).abs() < 1e-9,
        "what was promised is there: {promised}"
    );
}

/// Promise 10.
pub fn holders_are_asked_to_leave(make: Make<'_>) {
    let mut bench = Bench::new(
        make,
        [
            Event::AddFramework(framework("f", &["a"])),
            Event::AddFramework(framework("idle", &["b"])),
            Event::Suppress {
                framework: FrameworkId::from("idle"),
                roles: vec![],
            },
            Event::AddAgent(agent("x", "cpus:1")),
        ],
    );
    assert_eq!(bench.soon().len(), 1);
    let set = |start: Option<i64>| Event::Unavailability {
        agent: AgentId::from("x"),
        unavailability: start.map(|nanoseconds| Unavailability {
            start: TimeInfo { nanoseconds },
            duration: None,
        }),
    };
    let answer = |seconds: Option<u64>| Event::AnsweredInverse {
        framework: FrameworkId::from("f"),
        agent: AgentId::from("x"),
        refuse: seconds.map(Duration::from_secs),
    };
    let asked = |bench: &mut Bench, span: u64| {
        let decisions = bench.decide(Duration::from_secs(span));
        let names = decisions.inverse.iter();
        names
            .map(|inverse| inverse.framework.value.clone())
            .collect::<Vec<_>>()
    };
    bench.tell(set(Some(1)));
    assert_eq!(
        asked(&mut bench, 60),
        ["f"],
        "only who holds something is asked, and once"
    );
    bench.tell(answer(Some(5)));
    assert!(
        asked(&mut bench, 4).is_empty(),
        "asked in spite of the answer"
    );
    assert_eq!(
        asked(&mut bench, 60),
        ["f"],
        "asked again when the refusal has run out"
    );
    bench.tell(answer(Some(3600)));
    bench.tell(set(Some(2)));
    assert_eq!(
        asked(&mut bench, 60),
        ["f"],
        "other times are another question"
    );
    bench.tell(set(None));
    bench.tell(answer(None));
    assert!(
        asked(&mut bench, 60).is_empty(),
        "nothing is planned any more"
    );
}

/// Promise 11.
pub fn what_is_free_can_be_converted(make: Make<'_>) {
    let mut bench = Bench::new(
        make,
        [
            Event::AddFramework(framework("f", &["a"])),
            Event::AddAgent(agent("x", "cpus:4")),
        ],
    );
    let grants = bench.run(Duration::from_secs(1));
    let [grant] = &*grants else {
        panic!("expected one grant, got {grants:?}")
    };
    let plain = Resources::parse("cpus:1").expect("it is well formed");
    let mut reservation = ReservationInfo {
        role: Some("b".to_owned()),
        ..ReservationInfo::default()
    };
    reservation.set_type(reservation_info::Type::Dynamic);
    let reserved = plain
        .push_reservation(&reservation)
        .expect("it can be reserved");
    let (now, on) = (bench.now, AgentId::from("x"));
    let refused = bench.allocator.convert_free(now, &on, &plain, &reserved);
    assert!(matches!(refused, Err(NotFree::Held { .. })), "{refused:?}");
    let nowhere = AgentId::from("?");
    let refused = bench
        .allocator
        .convert_free(now, &nowhere, &plain, &reserved);
    assert_eq!(refused, Err(NotFree::UnknownAgent(nowhere)));

    bench.give_back(grant, None);
    let now = bench.now;
    bench
        .allocator
        .convert_free(now, &on, &plain, &reserved)
        .expect("all is free");
    assert_eq!(
        bench.soon(),
        ["f/a x cpus:3"],
        "what is reserved is not for others"
    );
    bench.tell(Event::AddFramework(framework("g", &["b"])));
    assert_eq!(bench.soon().len(), 1, "but for those it is reserved for");
}

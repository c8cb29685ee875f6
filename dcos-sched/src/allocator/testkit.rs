//! What every [`Allocator`] must pass: one function a promise, named after it.
//!
//! ```
//! use dcos_sched::allocator::{FirstCome, testkit};
//!
//! testkit::all(&|config| Box::new(FirstCome::new(config)));
//! ```
//!
//! Each function panics with what was expected if the promise is broken.

mod bounds;
mod ledger;
mod order;

use std::collections::BTreeSet;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_proto::scheduler::attribute_constraint::predicate::TextEquals;
use dcos_proto::scheduler::attribute_constraint::selector::PseudoattributeType;
use dcos_proto::scheduler::attribute_constraint::{Predicate, Selector};
use dcos_proto::scheduler::offer_constraints::RoleConstraints;
use dcos_proto::scheduler::offer_constraints::role_constraints::Group;
use dcos_proto::scheduler::{AttributeConstraint, OfferConstraints};

use super::{
    AgentSpec, Allocator, Capabilities, Config, Constraints, Decisions, Event, FrameworkSpec,
    Grant, Reason,
};
pub use bounds::{
    guarantees_are_kept_free, holders_are_asked_to_leave, limits_are_kept, quota,
    reservations_count_towards_limits, what_is_free_can_be_converted,
};
pub use ledger::Ledger;
pub use order::{MakeSorter, sorter, the_same_questions_have_the_same_answers};

/// Makes an allocator to be tested.
pub type Make<'a> = &'a dyn Fn(Config) -> Box<dyn Allocator>;

/// Runs everything below.
pub fn all(make: Make<'_>) {
    nothing_is_granted_twice(make);
    grants_carry_their_role(make);
    the_unwilling_get_nothing(make);
    the_incapable_get_nothing(make);
    constraints_are_kept(make);
    refusals_hide_what_was_refused(make);
    reviving_forgets_refusals(make);
    what_is_free_and_wanted_is_granted(make);
    minimums_are_kept(make);
    strangers_change_nothing(make);
    repetition_gives_the_same(make);
    reasons_are_told(make);
    limits_are_kept(make);
    reservations_count_towards_limits(make);
    guarantees_are_kept_free(make);
    holders_are_asked_to_leave(make);
    what_is_free_can_be_converted(make);
}

/// An agent with unreserved `resources` that understands everything.
pub fn agent(id: &str, resources: &str) -> AgentSpec {
    AgentSpec {
        id: AgentId::from(id),
        hostname: format!("{id}.example"),
        total: Resources::parse(resources).expect("the kit's resources are well formed"),
        multi_role: true,
        hierarchical_role: true,
        ..AgentSpec::default()
    }
}

/// A framework in `roles` with every capability but the one for graphics processors.
pub fn framework(id: &str, roles: &[&str]) -> FrameworkSpec {
    FrameworkSpec {
        id: FrameworkId::from(id),
        roles: roles.iter().map(ToString::to_string).collect(),
        capabilities: Capabilities {
            revocable: true,
            gpu: false,
            shared: true,
            multi_role: true,
            refinement: true,
            region_aware: true,
        },
        ..FrameworkSpec::default()
    }
}

/// An allocator with its time.
struct Bench {
    allocator: Box<dyn Allocator>,
    now: Time,
}

impl Bench {
    fn new(make: Make<'_>, events: impl IntoIterator<Item = Event>) -> Self {
        let mut bench = Self {
            allocator: make(Config::default()),
            now: Time::from_secs(1000),
        };
        for event in events {
            bench.tell(event);
        }
        bench
    }

    fn tell(&mut self, event: Event) {
        self.allocator.handle(self.now, event);
    }

    /// Polls at every deadline within `span`; shows the grants as `framework/role agent what`.
    fn run(&mut self, span: Duration) -> Vec<Grant> {
        self.decide(span).grants
    }

    /// All that is decided within `span`.
    fn decide(&mut self, span: Duration) -> Decisions {
        let end = self.now + span;
        let mut all = Decisions::default();
        while let Some(deadline) = self.allocator.next_deadline() {
            if deadline > end {
                break;
            }
            self.now = self.now.max(deadline);
            let decisions = self.allocator.poll(self.now);
            all.grants.extend(decisions.grants);
            all.inverse.extend(decisions.inverse);
            all.preemptions.extend(decisions.preemptions);
            if self.allocator.next_deadline() == Some(self.now) {
                self.now += Duration::from_millis(1);
            }
        }
        self.now = end;
        all
    }

    fn soon(&mut self) -> Vec<String> {
        self.run(Duration::from_millis(500))
            .iter()
            .map(show)
            .collect()
    }

    fn give_back(&mut self, grant: &Grant, refuse: Option<Duration>) {
        self.tell(Event::Recover {
            framework: grant.framework.clone(),
            agent: grant.agent.clone(),
            resources: grant.resources.clone(),
            refuse,
        });
    }
}

fn show(grant: &Grant) -> String {
    format!(
        "{}/{} {} {}",
        grant.framework,
        grant.role,
        grant.agent,
        grant.resources.unallocated()
    )
}

fn two_frameworks() -> [Event; 3] {
    [
        Event::AddFramework(framework("f1", &["a"])),
        Event::AddFramework(framework("f2", &["b"])),
        Event::AddAgent(agent("x", "cpus:4;mem:64")),
    ]
}

/// Promises 1 to 3 under 2,000 random events from each of ten seeds.
pub fn nothing_is_granted_twice(make: Make<'_>) {
    for number in 0..10 {
        let mut ledger = Ledger::new(make(Config::default()), Seed::new(number));
        for _ in 0..2000 {
            ledger.step();
        }
    }
}

/// Promise 2.
pub fn grants_carry_their_role(make: Make<'_>) {
    let events = [
        Event::AddFramework(framework("f", &["eng/dev"])),
        Event::AddAgent(agent(
            "x",
            "cpus(eng):1;cpus(eng/dev):2;cpus(ops):4;cpus:8;mem:64",
        )),
    ];
    let grants = Bench::new(make, events).run(Duration::from_secs(1));
    assert_eq!(grants.len(), 1, "one agent makes one grant: {grants:?}");
    let allocations = grants[0].resources.allocations();
    assert_eq!(allocations.keys().collect::<Vec<_>>(), ["eng/dev"]);
    assert_eq!(
        grants[0].resources.cpus(),
        Some(11.0),
        "{}",
        grants[0].resources
    );
}

/// Promise 3.
pub fn the_unwilling_get_nothing(make: Make<'_>) {
    let id = || FrameworkId::from("f");
    let on = || AgentId::from("x");
    let suppress = |roles: &[&str]| Event::Suppress {
        framework: id(),
        roles: roles.iter().map(ToString::to_string).collect(),
    };
    let revive = || Event::Revive {
        framework: id(),
        roles: vec![],
    };
    let nobody = Event::Whitelist(Some(BTreeSet::new()));
    for (block, lift) in [
        (suppress(&[]), revive()),
        (suppress(&["a"]), revive()),
        (
            Event::DeactivateFramework(id()),
            Event::ActivateFramework(id()),
        ),
        (
            Event::RemoveFramework(id()),
            Event::AddFramework(framework("f", &["a"])),
        ),
        (Event::DeactivateAgent(on()), Event::ActivateAgent(on())),
        (
            Event::RemoveAgent(on()),
            Event::AddAgent(agent("x", "cpus:4;mem:64")),
        ),
        (nobody, Event::Whitelist(None)),
        (Event::Pause, Event::Resume),
    ] {
        let mut bench = Bench::new(
            make,
            [
                Event::AddFramework(framework("f", &["a"])),
                Event::AddAgent(agent("x", "cpus:4;mem:64")),
                block.clone(),
            ],
        );
        assert!(bench.soon().is_empty(), "granted in spite of {block:?}");
        bench.tell(lift.clone());
        assert_eq!(
            bench.soon(),
            ["f/a x cpus:4; mem:64"],
            "not granted after {lift:?}"
        );
    }
}

/// Promise 4.
pub fn the_incapable_get_nothing(make: Make<'_>) {
    let plain = || Capabilities {
        multi_role: true,
        ..Capabilities::default()
    };
    let gets = |capabilities: Capabilities, role: &str, agent: AgentSpec| {
        let mut spec = framework("f", &[role]);
        spec.capabilities = capabilities;
        !Bench::new(make, [Event::AddFramework(spec), Event::AddAgent(agent)])
            .soon()
            .is_empty()
    };
    let with = || agent("x", "cpus:4;mem:64;gpus:1");
    assert!(!gets(plain(), "a", with()), "gpus need GPU_RESOURCES");
    assert!(gets(
        Capabilities {
            gpu: true,
            ..plain()
        },
        "a",
        with()
    ));
    let far = || AgentSpec {
        remote: true,
        ..agent("x", "cpus:4")
    };
    assert!(
        !gets(plain(), "a", far()),
        "other regions need REGION_AWARE"
    );
    assert!(gets(
        Capabilities {
            region_aware: true,
            ..plain()
        },
        "a",
        far()
    ));
    let old = || AgentSpec {
        multi_role: false,
        ..agent("x", "cpus:4")
    };
    assert!(
        !gets(plain(), "a", old()),
        "MULTI_ROLE frameworks need agents that know it"
    );
    assert!(gets(Capabilities::default(), "a", old()));
    let flat = AgentSpec {
        hierarchical_role: false,
        ..agent("x", "cpus:4")
    };
    assert!(
        !gets(plain(), "a/b", flat),
        "hierarchical roles need agents that know them"
    );
}

/// Promise 4, what the framework itself does not want.
pub fn constraints_are_kept(make: Make<'_>) {
    let on_host = |name: &str| {
        let condition = AttributeConstraint {
            selector: Selector {
                pseudoattribute_type: Some(PseudoattributeType::Hostname.into()),
                ..Selector::default()
            },
            predicate: Predicate {
                text_equals: Some(TextEquals {
                    value: name.to_owned(),
                }),
                ..Predicate::default()
            },
        };
        let group = Group {
            attribute_constraints: vec![condition],
        };
        let role = RoleConstraints {
            groups: vec![group],
        };
        let all = OfferConstraints {
            role_constraints: [("a".to_owned(), role)].into(),
        };
        let mut spec = framework("f", &["a"]);
        spec.constraints = Constraints::compile(&all).expect("the kit's constraints are right");
        spec
    };
    let mut bench = Bench::new(
        make,
        [
            Event::AddFramework(on_host("y.example")),
            Event::AddAgent(agent("x", "cpus:1")),
            Event::AddAgent(agent("y", "cpus:1")),
        ],
    );
    assert_eq!(bench.soon(), ["f/a y cpus:1"]);
    let told = bench
        .allocator
        .explain(bench.now, &FrameworkId::from("f"), "a");
    assert_eq!(told[0].reason, Reason::Constrained);
    bench.tell(Event::UpdateFramework(on_host("x.example")));
    assert_eq!(bench.soon(), ["f/a x cpus:1"], "constraints can be changed");
}

/// Promise 5, the refusing half.
pub fn refusals_hide_what_was_refused(make: Make<'_>) {
    let mut bench = Bench::new(
        make,
        [
            Event::AddFramework(framework("f", &["a"])),
            Event::AddAgent(agent("x", "cpus:4;mem:64")),
        ],
    );
    let grants = bench.run(Duration::from_secs(1));
    let [grant] = &*grants else {
        panic!("expected one grant, got {grants:?}")
    };
    bench.give_back(grant, Some(Duration::from_secs(5)));
    assert!(
        bench.run(Duration::from_millis(4900)).is_empty(),
        "granted what was refused"
    );
    let again = bench.run(Duration::from_secs(2));
    assert_eq!(again.len(), 1, "the refusal ran out");

    bench.give_back(&again[0], Some(Duration::ZERO));
    assert!(
        bench.run(Duration::from_millis(900)).is_empty(),
        "refusals last an interval at least"
    );
    assert_eq!(bench.run(Duration::from_secs(1)).len(), 1);
    bench.tell(Event::RemoveAgent(AgentId::from("x")));
    bench.tell(Event::AddAgent(agent("x", "cpus:4;mem:64")));
    let grants = bench.run(Duration::from_secs(1));
    bench.give_back(&grants[0], Some(Duration::from_hours(1)));
    bench.tell(Event::UpdateAgent(agent("x", "cpus:5;mem:64")));
    assert_eq!(
        bench.soon(),
        ["f/a x cpus:5; mem:64"],
        "more than was refused is granted"
    );
}

/// Promise 5, the forgetting half.
pub fn reviving_forgets_refusals(make: Make<'_>) {
    let id = || FrameworkId::from("f");
    for forget in [
        Event::Revive {
            framework: id(),
            roles: vec![],
        },
        Event::Revive {
            framework: id(),
            roles: vec!["a".into()],
        },
        Event::AddFramework(framework("f", &["a"])),
        Event::AddAgent(agent("x", "cpus:4;mem:64")),
    ] {
        let mut bench = Bench::new(
            make,
            [
                Event::AddFramework(framework("f", &["a"])),
                Event::AddAgent(agent("x", "cpus:4;mem:64")),
            ],
        );
        let grants = bench.run(Duration::from_secs(1));
        bench.give_back(&grants[0], Some(Duration::from_hours(1)));
        assert!(bench.soon().is_empty());
        bench.tell(forget.clone());
        assert_eq!(bench.soon().len(), 1, "remembered in spite of {forget:?}");
    }
}

/// Promise 6.
pub fn what_is_free_and_wanted_is_granted(make: Make<'_>) {
    let mut bench = Bench::new(make, two_frameworks());
    let grants = bench.run(Duration::from_secs(1));
    let [grant] = &*grants else {
        panic!("expected one grant, got {grants:?}")
    };
    assert!(
        bench.run(Duration::from_mins(1)).is_empty(),
        "nothing is left to grant"
    );
    bench.give_back(grant, Some(Duration::from_hours(1)));
    let grants = bench.run(Duration::from_secs(1));
    let [other] = &*grants else {
        panic!("the other framework is next, got {grants:?}")
    };
    assert_ne!(other.framework, grant.framework);
    bench.give_back(other, None);
    assert_eq!(
        bench.run(Duration::from_secs(1)).len(),
        1,
        "what ends is granted again"
    );
    assert_eq!(bench.run(Duration::from_hours(2)).len(), 0);
}

/// Promise 6, its exception.
pub fn minimums_are_kept(make: Make<'_>) {
    let mut bench = Bench::new(
        make,
        [
            Event::AddFramework(framework("f", &["a"])),
            Event::AddAgent(agent("little", "cpus:0.005;mem:31;disk:1000")),
            Event::AddAgent(agent("mem", "mem:32")),
        ],
    );
    assert_eq!(bench.soon(), ["f/a mem mem:32"]);
    let mut spec = framework("f", &["a"]);
    spec.minimums.insert(
        "a".into(),
        vec!["disk:500".parse().expect("it is a quantity")],
    );
    bench.tell(Event::UpdateFramework(spec));
    assert_eq!(
        bench.soon().len(),
        1,
        "frameworks may set their own minimum"
    );
}

/// Promise 7.
pub fn strangers_change_nothing(make: Make<'_>) {
    let mut bench = Bench::new(make, two_frameworks());
    let before = bench.run(Duration::from_secs(1));
    let (who, place) = (FrameworkId::from("?"), AgentId::from("?"));
    let resources = before[0].resources.clone();
    for event in [
        Event::UpdateFramework(framework("?", &["a"])),
        Event::ActivateFramework(who.clone()),
        Event::DeactivateFramework(who.clone()),
        Event::RemoveFramework(who.clone()),
        Event::UpdateAgent(agent("?", "cpus:1")),
        Event::ActivateAgent(place.clone()),
        Event::DeactivateAgent(place.clone()),
        Event::RemoveAgent(place.clone()),
        Event::Suppress {
            framework: who.clone(),
            roles: vec![],
        },
        Event::Revive {
            framework: who.clone(),
            roles: vec![],
        },
        Event::Recover {
            framework: who.clone(),
            agent: AgentId::from("x"),
            resources: resources.clone(),
            refuse: None,
        },
        Event::Recover {
            framework: before[0].framework.clone(),
            agent: place,
            resources,
            refuse: None,
        },
    ] {
        bench.tell(event.clone());
        assert!(bench.soon().is_empty(), "granted after {event:?}");
    }
    assert!(bench.allocator.explain(bench.now, &who, "a").is_empty());
}

/// Promise 8.
pub fn repetition_gives_the_same(make: Make<'_>) {
    let history = || {
        let mut ledger = Ledger::new(make(Config::default()), Seed::new(77));
        (0..1000)
            .flat_map(|_| ledger.step())
            .map(|grant| show(&grant))
            .collect::<Vec<_>>()
    };
    let (one, other) = (history(), history());
    assert!(!one.is_empty());
    let differs = one.iter().zip(&other).find(|(one, other)| one != other);
    assert!(one == other, "two runs differ: {differs:?}");
}

/// Each non-offer has its reason.
pub fn reasons_are_told(make: Make<'_>) {
    let reason = |events: Vec<Event>| {
        let mut bench = Bench::new(make, events);
        bench.run(Duration::from_secs(1));
        let told = bench
            .allocator
            .explain(bench.now, &FrameworkId::from("f"), "a");
        assert_eq!(told.len(), 1, "one reason an agent: {told:?}");
        told[0].reason.clone()
    };
    let f = || Event::AddFramework(framework("f", &["a"]));
    let x = |resources: &str| Event::AddAgent(agent("x", resources));
    let id = || FrameworkId::from("f");
    assert_eq!(
        reason(vec![f(), Event::DeactivateFramework(id()), x("cpus:1")]),
        Reason::FrameworkInactive
    );
    assert_eq!(
        reason(vec![
            Event::AddFramework(framework("f", &["b"])),
            x("cpus:1")
        ]),
        Reason::NotSubscribed
    );
    assert_eq!(
        reason(vec![
            f(),
            Event::Suppress {
                framework: id(),
                roles: vec![]
            },
            x("cpus:1")
        ]),
        Reason::Suppressed
    );
    assert_eq!(
        reason(vec![
            f(),
            x("cpus:1"),
            Event::DeactivateAgent(AgentId::from("x"))
        ]),
        Reason::AgentInactive
    );
    assert_eq!(
        reason(vec![
            f(),
            Event::Whitelist(Some(BTreeSet::new())),
            x("cpus:1")
        ]),
        Reason::NotWhitelisted
    );
    assert_eq!(reason(vec![f(), Event::Pause, x("cpus:1")]), Reason::Paused);
    assert_eq!(reason(vec![f(), x("cpus:1;gpus:1")]), Reason::GpuAgent);
    assert_eq!(reason(vec![f(), x("cpus:0.001")]), Reason::BelowMinimum);
    assert_eq!(
        reason(vec![f(), x("cpus(b):1")]),
        Reason::Reserved {
            roles: vec!["b".into()]
        }
    );
    assert_eq!(
        reason(vec![f(), x("cpus:1")]),
        Reason::Held { by: vec![id()] }
    );

    let mut bench = Bench::new(make, [f(), x("cpus:1")]);
    let grants = bench.run(Duration::from_secs(1));
    bench.give_back(&grants[0], Some(Duration::from_mins(1)));
    let until = bench.now + Duration::from_mins(1);
    bench.soon();
    let told = bench.allocator.explain(bench.now, &id(), "a");
    assert_eq!(told[0].reason, Reason::Filtered { until });
}

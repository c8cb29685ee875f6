//! The kit, over both implementations and over doubles that break one promise each; and what is
//! particular to fairness.

mod extras;
mod properties;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dcos_core::resources::{Quantities, Resources};
use dcos_core::seed::Seed;
use dcos_proto::mesos::AgentId;

use super::testkit::{self, Make, agent, framework};
use super::*;

fn drf(config: Config) -> Box<dyn Allocator> {
    Box::new(HierarchicalDrf::new(config, &Seed::new(1)))
}

#[test]
fn hierarchical_drf_passes_the_kit() {
    testkit::all(&drf);
}

#[test]
fn first_come_passes_the_kit() {
    testkit::all(&|config| Box::new(FirstCome::new(config)));
}

/// Breaks one promise and leaves the rest to a good allocator.
#[derive(Debug)]
struct Broken {
    inner: Box<dyn Allocator>,
    fault: Fault,
    polls: u64,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    GrantsTwice,
    ForgetsTheRole,
    IgnoresSuppression,
    ClaimsCapabilities,
    IgnoresConstraints,
    IgnoresRefusals,
    RemembersRefusals,
    Hoards,
    GrantsCrumbs,
    BelievesStrangers,
    IsFickle,
    TellsNothing,
    IgnoresLimits,
    IgnoresGuarantees,
    AsksNobody,
    ConvertsWhatIsHeld,
}

impl Allocator for Broken {
    fn handle(&mut self, now: Time, event: Event) {
        let event = match (self.fault, event) {
            (Fault::IgnoresSuppression, Event::Suppress { .. })
            | (Fault::RemembersRefusals, Event::Revive { .. }) => return,
            (Fault::ClaimsCapabilities, Event::AddFramework(mut spec)) => {
                spec.capabilities.gpu = true;
                Event::AddFramework(spec)
            }
            (Fault::IgnoresConstraints, Event::AddFramework(mut spec)) => {
                spec.constraints = Constraints::default();
                Event::AddFramework(spec)
            }
            (
                Fault::IgnoresRefusals,
                Event::Recover {
                    framework,
                    agent,
                    resources,
                    ..
                },
            ) => Event::Recover {
                framework,
                agent,
                resources,
                refuse: None,
            },
            (Fault::GrantsCrumbs, Event::AddFramework(mut spec)) => {
                let roles = spec.roles.iter().cloned();
                spec.minimums = roles.map(|role| (role, vec![])).collect();
                Event::AddFramework(spec)
            }
            (Fault::IgnoresLimits, Event::Quotas(mut quotas)) => {
                for quota in quotas.values_mut() {
                    quota.limits.clear();
                }
                Event::Quotas(quotas)
            }
            (Fault::IgnoresGuarantees, Event::Quotas(mut quotas)) => {
                for quota in quotas.values_mut() {
                    quota.guarantees = Quantities::default();
                }
                Event::Quotas(quotas)
            }
            (Fault::BelievesStrangers, Event::UpdateAgent(spec)) => Event::AddAgent(spec),
            (_, event) => event,
        };
        self.inner.handle(now, event);
    }

    fn convert_free(
        &mut self,
        now: Time,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree> {
        match self.fault {
            Fault::ConvertsWhatIsHeld => Ok(()),
            _ => self.inner.convert_free(now, agent, consumed, converted),
        }
    }

    fn poll(&mut self, now: Time) -> Decisions {
        self.polls += 1;
        let mut decisions = self.inner.poll(now);
        let grants = &mut decisions.grants;
        match self.fault {
            Fault::GrantsTwice => grants.extend(grants.clone()),
            Fault::ForgetsTheRole => {
                for grant in grants {
                    grant.resources = grant.resources.unallocated();
                }
            }
            Fault::Hoards if self.polls > 1 => grants.clear(),
            Fault::AsksNobody => decisions.inverse.clear(),
            _ => {}
        }
        decisions
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        match self.fault {
            Fault::TellsNothing => Vec::new(),
            _ => self.inner.explain(now, framework, role),
        }
    }
}

#[test]
fn the_kit_bites() {
    let faults: [(Fault, fn(Make<'_>)); 18] = [
        (Fault::GrantsTwice, testkit::nothing_is_granted_twice),
        (Fault::ForgetsTheRole, testkit::grants_carry_their_role),
        (
            Fault::IgnoresSuppression,
            testkit::the_unwilling_get_nothing,
        ),
        (
            Fault::ClaimsCapabilities,
            testkit::the_incapable_get_nothing,
        ),
        (Fault::IgnoresConstraints, testkit::constraints_are_kept),
        (
            Fault::IgnoresRefusals,
            testkit::refusals_hide_what_was_refused,
        ),
        (Fault::RemembersRefusals, testkit::reviving_forgets_refusals),
        (Fault::Hoards, testkit::what_is_free_and_wanted_is_granted),
        (Fault::GrantsCrumbs, testkit::minimums_are_kept),
        (Fault::BelievesStrangers, testkit::strangers_change_nothing),
        (Fault::IsFickle, testkit::repetition_gives_the_same),
        (Fault::TellsNothing, testkit::reasons_are_told),
        (Fault::IgnoresLimits, testkit::limits_are_kept),
        (Fault::IgnoresLimits, testkit::nothing_is_granted_twice),
        (
            Fault::IgnoresLimits,
            testkit::reservations_count_towards_limits,
        ),
        (Fault::IgnoresGuarantees, testkit::guarantees_are_kept_free),
        (Fault::AsksNobody, testkit::holders_are_asked_to_leave),
        (
            Fault::ConvertsWhatIsHeld,
            testkit::what_is_free_can_be_converted,
        ),
    ];
    for (fault, promise) in faults {
        let made = std::cell::Cell::new(0);
        let make = |config: Config| -> Box<dyn Allocator> {
            made.set(made.get() + 1);
            let seed = if matches!(fault, Fault::IsFickle) {
                made.get()
            } else {
                1
            };
            let inner = Box::new(HierarchicalDrf::new(config, &Seed::new(seed)));
            Box::new(Broken {
                inner,
                fault,
                polls: 0,
            })
        };
        let bitten = catch_unwind(AssertUnwindSafe(|| promise(&make))).is_err();
        assert!(bitten, "the kit lets {fault:?} pass");
    }
}

/// Each framework keeps what it gets; how many agents of one cpu each has in the end.
fn agents_by_framework(
    weights: &[(&str, f64)],
    frameworks: &[(&str, &str)],
    agents: usize,
) -> BTreeMap<String, u32> {
    let config = Config {
        weights: weights
            .iter()
            .map(|(role, weight)| ((*role).to_owned(), *weight))
            .collect(),
        hoarding: None,
        ..Config::default()
    };
    let mut allocator = drf(config);
    let now = Time::from_secs(1);
    for at in 0..agents {
        allocator.handle(
            now,
            Event::AddAgent(agent(&format!("agent-{at:03}"), "cpus:1;mem:64")),
        );
    }
    for (id, role) in frameworks {
        allocator.handle(now, Event::AddFramework(framework(id, &[role])));
    }
    let mut shares = BTreeMap::new();
    for grant in allocator.poll(now).grants {
        *shares.entry(grant.framework.value).or_default() += 1;
    }
    shares
}

#[test]
fn frameworks_and_roles_share_evenly() {
    let shares = agents_by_framework(&[], &[("f1", "a"), ("f2", "a"), ("f3", "b")], 100);
    assert_eq!(shares["f3"], 50);
    assert_eq!((shares["f1"], shares["f2"]), (25, 25));
}

#[test]
fn weights_tilt_the_balance() {
    let shares = agents_by_framework(&[("a", 3.0)], &[("f1", "a"), ("f2", "b")], 100);
    assert_eq!((shares["f1"], shares["f2"]), (75, 25));
}

#[test]
fn subroles_share_what_their_parent_gets() {
    let frameworks = [("f1", "eng/dev"), ("f2", "eng/ops"), ("f3", "sales")];
    let shares = agents_by_framework(&[("eng/dev", 4.0)], &frameworks, 100);
    assert_eq!(shares["f3"], 50);
    assert_eq!((shares["f1"], shares["f2"]), (40, 10));
}

#[test]
fn what_ran_before_counts() {
    let mut allocator = drf(Config::default());
    let now = Time::from_secs(1);
    let mut busy = agent("busy", "cpus:10;mem:640");
    let used = dcos_core::resources::Resources::parse("cpus:10;mem:640").unwrap();
    busy.used
        .insert(FrameworkId::from("f1"), used.allocated_to("a"));
    allocator.handle(now, Event::AddAgent(busy));
    allocator.handle(now, Event::AddFramework(framework("f1", &["a"])));
    allocator.handle(now, Event::AddFramework(framework("f2", &["b"])));
    assert!(allocator.poll(now).is_empty());
    allocator.handle(now, Event::AddAgent(agent("new", "cpus:1;mem:64")));
    let grants = allocator.poll(now + Duration::from_secs(1)).grants;
    assert_eq!(
        grants[0].framework.value, "f2",
        "the one that has nothing comes first"
    );
}

#[test]
fn nothing_happens_when_nothing_changes() {
    let mut allocator = drf(Config::default());
    let now = Time::from_secs(1);
    allocator.handle(now, Event::AddAgent(agent("x", "cpus:1")));
    allocator.handle(now, Event::AddFramework(framework("f", &["a"])));
    assert_eq!(allocator.poll(now).grants.len(), 1);
    assert_eq!(
        allocator.next_deadline(),
        None,
        "an idle allocator asks for no time"
    );
}

#[test]
fn rounds_keep_their_distance() {
    let config = Config::default();
    let gap = config.round_gap;
    let mut allocator = drf(config);
    let now = Time::from_secs(1);
    allocator.handle(now, Event::AddFramework(framework("f", &["a"])));
    allocator.handle(now, Event::AddAgent(agent("x", "cpus:1")));
    assert_eq!(allocator.poll(now).grants.len(), 1);
    allocator.handle(now, Event::AddAgent(agent("y", "cpus:1")));
    assert_eq!(allocator.next_deadline(), Some(now + gap));
    assert!(allocator.poll(now).is_empty());
    assert_eq!(
        allocator.poll(now + gap).grants[0].agent,
        AgentId::from("y")
    );
}

#[test]
fn refuse_seconds_are_tamed() {
    for (seconds, expected) in [
        (None, 5),
        (Some(-1.0), 5),
        (Some(f64::NAN), 5),
        (Some(60.0), 60),
        (Some(1e12), 31_536_000),
    ] {
        assert_eq!(
            Config::refuse(seconds),
            Duration::from_secs(expected),
            "{seconds:?}"
        );
    }
    assert_eq!(
        Config::parse_minimum("cpus:0.01|mem:32").unwrap(),
        Config::default().minimum
    );
}

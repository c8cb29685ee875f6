//! A slow, obvious account of who holds what, kept beside an allocator that is fed at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_core::resources::{Quantities, ResourceExt, Resources};
use dcos_core::roles;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::resource::{ReservationInfo, reservation_info};
use dcos_proto::mesos::{AgentId, FrameworkId, Resource};

use super::{agent, framework, quota};
use crate::allocator::{Allocator, Event, Grant, Quota};

const AGENTS: u64 = 6;
const FRAMEWORKS: u64 = 5;
const ROLES: [&str; 4] = ["*", "a", "a/b", "c"];
const SHAPES: [&str; 4] = [
    "cpus:4;mem:512;ports:[1-100]",
    "cpus:1;mem:64;cpus(a):2",
    "cpus(a):1;cpus(a/b):1;mem(c):64;mem:32",
    "cpus:0.001",
];

/// Feeds an allocator random events and checks each grant against its own account.
#[derive(Debug)]
pub struct Ledger {
    allocator: Box<dyn Allocator>,
    seed: Seed,
    now: Time,
    agents: BTreeMap<AgentId, Agent>,
    frameworks: BTreeMap<FrameworkId, Framework>,
    quotas: BTreeMap<String, Quota>,
}

#[derive(Debug)]
struct Agent {
    total: Resources,
    active: bool,
    held: BTreeMap<FrameworkId, Resources>,
}

#[derive(Debug)]
struct Framework {
    roles: BTreeSet<String>,
    suppressed: BTreeSet<String>,
    active: bool,
}

impl Ledger {
    /// An account beside `allocator`, with chances from `seed`.
    pub fn new(allocator: Box<dyn Allocator>, seed: Seed) -> Self {
        Self {
            allocator,
            seed,
            now: Time::from_secs(1000),
            agents: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            quotas: BTreeMap::new(),
        }
    }

    /// One random event, some time, and the grants that follow, all of them checked.
    ///
    /// # Panics
    /// If the allocator breaks one of its promises.
    pub fn step(&mut self) -> Vec<Grant> {
        self.event();
        self.now += Duration::from_millis(self.seed.range(0..400));
        let mut all = Vec::new();
        while self
            .allocator
            .next_deadline()
            .is_some_and(|deadline| deadline <= self.now)
        {
            let missing: BTreeMap<String, Quantities> = self
                .quotas
                .keys()
                .map(|role| (role.clone(), self.missing(role)))
                .collect();
            let grants = self.allocator.poll(self.now).grants;
            for grant in &grants {
                self.enter(grant);
            }
            self.check_quotas(&grants, &missing);
            all.extend(grants);
            if self
                .allocator
                .next_deadline()
                .is_some_and(|deadline| deadline <= self.now)
            {
                self.now += Duration::from_millis(100);
            }
        }
        all
    }

    fn tell(&mut self, event: Event) {
        self.allocator.handle(self.now, event);
    }

    fn event(&mut self) {
        let agent_id = AgentId::from(format!("agent-{}", self.seed.range(0..AGENTS)));
        let framework_id = FrameworkId::from(format!("fw-{}", self.seed.range(0..FRAMEWORKS)));
        match self.seed.range(0..30) {
            24..26 => self.set_quota(),
            26..28 => self.reserve_held(),
            28 => self.reserve_free(&agent_id),
            0..2 => self.add_agent(agent_id),
            2 => {
                self.agents.remove(&agent_id);
                self.tell(Event::RemoveAgent(agent_id));
            }
            3..5 => {
                let active = self.seed.chance(0.7);
                if let Some(agent) = self.agents.get_mut(&agent_id) {
                    agent.active = active;
                }
                self.tell(if active {
                    Event::ActivateAgent(agent_id)
                } else {
                    Event::DeactivateAgent(agent_id)
                });
            }
            5..7 => self.add_framework(&framework_id),
            7 => {
                self.frameworks.remove(&framework_id);
                for agent in self.agents.values_mut() {
                    agent.held.remove(&framework_id);
                }
                self.tell(Event::RemoveFramework(framework_id));
            }
            8..10 => {
                let active = self.seed.chance(0.7);
                if let Some(framework) = self.frameworks.get_mut(&framework_id) {
                    framework.active = active;
                }
                self.tell(if active {
                    Event::ActivateFramework(framework_id)
                } else {
                    Event::DeactivateFramework(framework_id)
                });
            }
            10 => self.suppress(framework_id),
            11..13 => {
                if let Some(framework) = self.frameworks.get_mut(&framework_id) {
                    framework.suppressed.clear();
                }
                self.tell(Event::Revive {
                    framework: framework_id,
                    roles: vec![],
                });
            }
            _ => self.give_back(),
        }
    }

    fn add_agent(&mut self, id: AgentId) {
        let shape = self.seed.pick(&SHAPES).expect("there are shapes");
        let mut spec = agent(&id.value, shape);
        // A third of the agents comes back with something still running on it.
        if self.seed.chance(0.3)
            && let Some(held) = self.agents.get(&id).map(|agent| agent.held.clone())
            && held
                .values()
                .all(|held| spec.total.contains(&held.unallocated()))
        {
            let mut sum = Resources::new();
            for held in held.values() {
                sum += held.unallocated();
            }
            if spec.total.contains(&sum) {
                spec.used = held;
            }
        }
        let entry = Agent {
            total: spec.total.clone(),
            active: true,
            held: spec.used.clone(),
        };
        self.agents.insert(id, entry);
        self.tell(Event::AddAgent(spec));
    }

    fn add_framework(&mut self, id: &FrameworkId) {
        let roles: Vec<&str> = ROLES
            .into_iter()
            .filter(|_| self.seed.chance(0.5))
            .collect();
        let spec = framework(&id.value, &roles);
        let entry = Framework {
            roles: spec.roles.clone(),
            suppressed: BTreeSet::new(),
            active: true,
        };
        self.frameworks.insert(id.clone(), entry);
        self.tell(Event::AddFramework(spec));
    }

    fn suppress(&mut self, id: FrameworkId) {
        let role = (*self.seed.pick(&ROLES).expect("there are roles")).to_owned();
        if let Some(framework) = self.frameworks.get_mut(&id) {
            framework.suppressed.insert(role.clone());
        }
        self.tell(Event::Suppress {
            framework: id,
            roles: vec![role],
        });
    }

    fn set_quota(&mut self) {
        let role = (*self.seed.pick(&["a", "c"]).expect("there are roles")).to_owned();
        let bounds = [
            ("", "cpus:2"),
            ("cpus:3;mem:64", ""),
            ("cpus:1", "cpus:4;mem:600"),
            ("", ""),
        ];
        let (guarantees, limits) = *self.seed.pick(&bounds).expect("there are bounds");
        let quota = quota(guarantees, limits);
        self.quotas.insert(role.clone(), quota.clone());
        self.tell(Event::Quotas(BTreeMap::from([(role, quota)])));
    }

    /// A framework reserves some of what it holds.
    fn reserve_held(&mut self) {
        let Some((agent_id, framework, part)) = self.pick_holding() else {
            return;
        };
        let role = part.allocations().into_keys().next().unwrap_or_default();
        let consumed = part.filter(|resource| resource.name == "cpus" && resource.is_unreserved());
        if consumed.is_empty() || role == roles::DEFAULT {
            return;
        }
        let converted = reserved(&consumed, &role);
        let agent = self.agents.get_mut(&agent_id).expect("it was listed");
        agent.total -= &consumed.unallocated();
        agent.total += &converted.unallocated();
        let held = agent.held.get_mut(&framework).expect("it was listed");
        *held -= &consumed;
        *held += &converted;
        self.tell(Event::Convert {
            framework,
            agent: agent_id,
            consumed,
            converted,
        });
    }

    /// An operator reserves what nobody holds, or tries to.
    fn reserve_free(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else {
            return;
        };
        let consumed = Resources::parse("cpus:1").expect("it is well formed");
        let converted = reserved(&consumed, "c");
        let is_free = agent.free().contains(&consumed);
        let answer = self
            .allocator
            .convert_free(self.now, id, &consumed, &converted);
        assert_eq!(
            answer.is_ok(),
            is_free,
            "{id} has {} free: {answer:?}",
            agent.free()
        );
        if is_free {
            agent.total -= &consumed;
            agent.total += &converted;
        }
    }

    /// What a top-level role lacks of its guarantee.
    fn missing(&self, role: &str) -> Quantities {
        let mut missing = self.quotas[role].guarantees.clone();
        missing.remove_all(&self.consumed(role));
        missing
    }

    /// All that is reserved for a top-level role, and what it holds of the rest.
    fn consumed(&self, role: &str) -> Quantities {
        let is_ours = |other: &str| roles::top_level(other) == role;
        let mut consumed = Quantities::default();
        for agent in self.agents.values() {
            let reserved = agent
                .total
                .filter(|resource| resource.reservation_role().is_some_and(is_ours));
            consumed.add_all(&reserved.scalar_quantities());
            for held in agent.held.values() {
                let held = held.filter(|resource| {
                    is_open(resource) && resource.allocation_role().is_some_and(is_ours)
                });
                consumed.add_all(&held.scalar_quantities());
            }
        }
        consumed
    }

    /// Limits are kept, and whoever got more than its guarantee left enough for those of others.
    fn check_quotas(&self, grants: &[Grant], missing: &BTreeMap<String, Quantities>) {
        let mut granted: BTreeMap<&str, Quantities> = BTreeMap::new();
        for grant in grants {
            let open = grant.resources.filter(is_open).scalar_quantities();
            let role = roles::top_level(&grant.role);
            granted.entry(role).or_default().add_all(&open);
        }
        let mut required = Quantities::default();
        for role in self.quotas.keys() {
            required.add_all(&self.missing(role));
        }
        let mut free = Quantities::default();
        for agent in self.agents.values() {
            free.add_all(&agent.free().filter(is_open).scalar_quantities());
        }
        for (role, amounts) in granted {
            let consumed = self.consumed(role);
            let limits = self.quotas.get(role).map(|quota| &quota.limits);
            let missing = missing.get(role).cloned().unwrap_or_default();
            for (name, amount) in amounts.iter() {
                if let Some(limit) = limits.and_then(|limits| limits.get(name)) {
                    assert!(
                        consumed.get(name) <= *limit,
                        "granted beyond the limit of {role}: {grants:?}"
                    );
                }
                if amount > missing.get(name) {
                    assert!(
                        free.get(name) >= required.get(name),
                        "granted {name} to {role} that is promised to others: {grants:?}"
                    );
                }
            }
        }
    }

    /// Something a framework holds somewhere for one role.
    fn pick_holding(&mut self) -> Option<(AgentId, FrameworkId, Resources)> {
        let holdings: Vec<(AgentId, FrameworkId)> = self
            .agents
            .iter()
            .flat_map(|(id, agent)| agent.held.keys().map(|holder| (id.clone(), holder.clone())))
            .collect();
        let (agent, framework) = self.seed.pick(&holdings)?.clone();
        let parts = self.agents[&agent].held[&framework].allocations();
        let parts: Vec<Resources> = parts.into_values().collect();
        let part = self.seed.pick(&parts)?.clone();
        Some((agent, framework, part))
    }

    /// A framework returns all, or one kind, of what it holds somewhere for one role.
    fn give_back(&mut self) {
        let Some((agent_id, framework, mut resources)) = self.pick_holding() else {
            return;
        };
        if self.seed.chance(0.3) {
            resources = resources.filter(|resource| resource.name == "cpus");
        }
        let held = self.agents.get_mut(&agent_id).expect("it was listed");
        let all = held.held.get_mut(&framework).expect("it was listed");
        *all -= &resources;
        if all.is_empty() {
            held.held.remove(&framework);
        }
        let refuse = self
            .seed
            .chance(0.5)
            .then(|| Duration::from_millis(self.seed.range(0..10_000)));
        self.tell(Event::Recover {
            framework,
            agent: agent_id,
            resources,
            refuse,
        });
    }

    /// Checks a grant and books it.
    fn enter(&mut self, grant: &Grant) {
        let framework = self
            .frameworks
            .get(&grant.framework)
            .unwrap_or_else(|| panic!("granted to a framework that is not there: {grant:?}"));
        assert!(
            framework.active,
            "granted to an inactive framework: {grant:?}"
        );
        assert!(
            framework.roles.contains(&grant.role),
            "granted to a foreign role: {grant:?}"
        );
        assert!(
            !framework.suppressed.contains(&grant.role),
            "granted in spite of suppression: {grant:?}"
        );
        let agent = self
            .agents
            .get_mut(&grant.agent)
            .unwrap_or_else(|| panic!("granted from an agent that is not there: {grant:?}"));
        assert!(agent.active, "granted from an inactive agent: {grant:?}");
        for resource in grant.resources.iter() {
            let info = resource.allocation_info.as_ref();
            assert_eq!(
                info.and_then(|info| info.role.as_deref()),
                Some(&*grant.role),
                "granted without its role: {grant:?}"
            );
        }
        for reserved in grant.resources.reservations().keys() {
            assert!(
                roles::may_use_reservation(&grant.role, reserved),
                "granted what is reserved for another role: {grant:?}"
            );
        }
        *agent.held.entry(grant.framework.clone()).or_default() += &grant.resources;
        let mut sum = Resources::new();
        for held in agent.held.values() {
            for part in held.allocations().into_values() {
                let part = part.unallocated();
                let mut rest = agent.total.clone();
                rest -= &sum;
                assert!(rest.contains(&part), "granted twice: {grant:?}");
                sum += part;
            }
        }
    }
}

impl Agent {
    /// What nobody holds.
    fn free(&self) -> Resources {
        let mut free = self.total.clone();
        for held in self
            .held
            .values()
            .flat_map(|held| held.allocations().into_values())
        {
            free -= &held.unallocated();
        }
        free
    }
}

/// Whether quotas count a resource only while it is held.
fn is_open(resource: &Resource) -> bool {
    resource.is_unreserved() && !resource.is_revocable()
}

fn reserved(resources: &Resources, role: &str) -> Resources {
    let mut reservation = ReservationInfo {
        role: Some(role.to_owned()),
        ..ReservationInfo::default()
    };
    reservation.set_type(reservation_info::Type::Dynamic);
    resources
        .push_reservation(&reservation)
        .expect("what is unreserved can be reserved")
}

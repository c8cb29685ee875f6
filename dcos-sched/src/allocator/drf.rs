//! The default allocator: hierarchical roles with weights, priorities and quotas, dominant
//! resource fairness among roles and among the frameworks of a role, whole agents to whoever
//! comes first.
//!
//! # How it decides
//! A round looks at the agents that changed, in random order, twice. First, roles that lack
//! something of their guarantee get what brings them closer to it. Then, on each agent, the active
//! framework with the smallest share that may have something gets all it may have: within its
//! role's limits, and without what must stay free for guarantees; then the next, until nothing is
//! left or nobody wants it.
//!
//! # How it stays fast
//! - Only what changed is looked at: an agent with new resources meets every framework, but a
//!   framework whose refusal ran out, or that revived, meets the agents alone. A round in which
//!   nothing changed does not happen.
//! - Shares and quotas are vectors of integers; the order is kept up to date grant by grant
//!   (`drf/tree.rs`), and roles that can take nothing more stand aside.
//! - Resource messages are copied only for what is granted.
//!
//! | file | owns |
//! |---|---|
//! | `drf/tree.rs` | the order of roles and frameworks |
//! | `drf/quotas.rs` | guarantees, limits, what roles consume, what must stay free |
//! | `drf/seat.rs` | one framework in one role: unanswered offers, wishes |
//! | `drf/agent.rs`, `drf/pool.rs` | one agent: free, held, refused |
//! | `drf/round.rs`, `drf/portion.rs` | one round; what one framework may have of one agent |
//! | `drf/frameworks.rs`, `drf/agents.rs`, `drf/holdings.rs` | events |
//! | `drf/maintenance.rs` | inverse offers |
//! | `drf/preemption.rs` | who makes room for whom |
//! | `drf/explain.rs` | the reasons for what is not granted |
//! | `drf/amounts.rs`, `drf/slab.rs`, `drf/alike.rs` | compact numbers and messages for the above |

mod agent;
mod agents;
mod alike;
mod amounts;
mod explain;
mod frameworks;
mod holdings;
mod maintenance;
mod pool;
mod portion;
mod preemption;
mod quotas;
mod round;
mod seat;
mod slab;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::{AgentId, FrameworkId};

use super::Allocator;
use super::sorter::Sorter;
use super::words::{Config, Decisions, Event, FrameworkSpec, Metrics, NonOffer, NotFree, Quota};
use agent::Agent;
use alike::Alike;
use amounts::{Amounts, Names};
use maintenance::Maintenance;
use quotas::Quotas;
use seat::Seats;
use slab::Slab;
use tree::Tree;

/// Hierarchical dominant resource fairness; see the [module](self)'s page.
#[derive(Debug)]
pub struct HierarchicalDrf {
    config: Config,
    seed: Seed,
    names: Names,
    alike: Alike,
    tree: Tree,
    quotas: Quotas,
    seats: Seats,
    frameworks: Slab<Framework>,
    framework_ids: BTreeMap<FrameworkId, usize>,
    agents: Slab<Agent>,
    agent_ids: BTreeMap<AgentId, usize>,
    maintenance: Maintenance,
    whitelist: Option<BTreeSet<String>>,
    paused: bool,
    /// How many agents have to be there before anything is granted, and until when that matters.
    awaiting: Option<(usize, Time)>,
    /// What the next round looks at.
    agenda: Agenda,
    /// When refusals run out: time, agent, leaf, the leaf's epoch.
    expiries: BTreeSet<(Time, usize, usize, u64)>,
    /// When a wish has waited long enough for others to make room: time, leaf.
    impatient: BTreeSet<(Time, usize)>,
    /// Agents of which something was kept back for guarantees.
    held_back: BTreeSet<usize>,
    /// The surplus at the end of the last round.
    last_surplus: Amounts,
    rounds: u64,
    last_round: Option<Time>,
    /// Ever growing; numbers the lives of leaves.
    epochs: u64,
    /// How many leaves have a minimum of their own.
    own_minimums: usize,
    /// How many frameworks want offers.
    wanting: usize,
}

/// What the next round looks at.
#[derive(Debug, Default)]
struct Agenda {
    /// Every agent meets every framework.
    everything: bool,
    /// These agents meet every framework; each is marked as queued.
    agents: Vec<usize>,
    /// These leaves meet every agent.
    leaves: BTreeSet<usize>,
    /// These leaves meet one agent.
    pairs: BTreeMap<usize, BTreeSet<usize>>,
}

impl Agenda {
    fn is_empty(&self) -> bool {
        !self.everything
            && self.agents.is_empty()
            && self.leaves.is_empty()
            && self.pairs.is_empty()
    }
}

#[derive(Debug)]
struct Framework {
    /// What we were told; empty if we only know of resources it holds.
    spec: FrameworkSpec,
    id: Arc<str>,
    known: bool,
    active: bool,
    /// Whether it takes part in any role.
    is_wanting: bool,
    /// Its leaf in each role it is subscribed to or holds something for.
    leaves: BTreeMap<String, usize>,
}

impl HierarchicalDrf {
    /// An allocator that follows `config` and takes its chances from `seed`.
    pub fn new(config: Config, seed: &Seed) -> Self {
        let roles = config.role_order.sorter(&seed.stream("role sorter"));
        let frameworks = config
            .framework_order
            .sorter(&seed.stream("framework sorter"));
        Self::with_sorters(config, seed, roles, frameworks)
    }

    /// An allocator that puts roles and frameworks in an order of your own; what `config` says of
    /// orders is not looked at.
    pub fn with_sorters(
        config: Config,
        seed: &Seed,
        roles: Box<dyn Sorter>,
        frameworks: Box<dyn Sorter>,
    ) -> Self {
        let mut names = Names::default();
        let unfair = config
            .unfair
            .iter()
            .map(|name| names.number(name))
            .collect();
        let minimum = config
            .minimum
            .iter()
            .map(|least| names.quantities(least))
            .collect();
        let (weights, priorities) = (config.weights.clone(), config.priorities.clone());
        let quotas = config.quotas.clone();
        let mut allocator = Self {
            tree: Tree::new(weights, priorities, unfair, [roles, frameworks]),
            quotas: Quotas::new(minimum),
            config,
            seed: seed.stream("allocator"),
            names,
            alike: Alike::default(),
            seats: Seats::default(),
            frameworks: Slab::default(),
            framework_ids: BTreeMap::new(),
            agents: Slab::default(),
            agent_ids: BTreeMap::new(),
            maintenance: Maintenance::default(),
            whitelist: None,
            paused: false,
            awaiting: None,
            agenda: Agenda::default(),
            expiries: BTreeSet::new(),
            impatient: BTreeSet::new(),
            held_back: BTreeSet::new(),
            last_surplus: Amounts::default(),
            rounds: 0,
            last_round: None,
            epochs: 0,
            own_minimums: 0,
            wanting: 0,
        };
        allocator.set_quotas(quotas);
        allocator
    }

    /// Sets or removes quotas, and lets those concerned meet the agents.
    fn set_quotas(&mut self, quotas: BTreeMap<String, Quota>) {
        for (role, quota) in quotas {
            let account = self.quotas.set(&mut self.names, &role, quota);
            self.follow_account(account);
            self.quotas.get_mut(account).is_limiting = false;
            self.agenda.leaves.extend(&self.quotas.get(account).leaves);
            self.quotas.forget_idle(account);
        }
        if !self.quotas.keep_free() {
            self.look_again_at_held_back();
        }
    }

    /// Lets the tree know what a role can take.
    fn follow_account(&mut self, account: usize) {
        let account = self.quotas.get(account);
        self.tree.set_lane(&account.role, account.lane);
    }

    fn look_again_at_held_back(&mut self) {
        for agent in std::mem::take(&mut self.held_back) {
            self.queue(agent);
        }
    }

    /// Lets an agent meet everyone in the next round.
    fn queue(&mut self, agent: usize) {
        if let Some(state) = self.agents.get_mut(agent)
            && !std::mem::replace(&mut state.is_queued, true)
        {
            self.agenda.agents.push(agent);
        }
    }

    /// When there are enough agents to go on, or nobody waits for them any more.
    fn stop_waiting(&mut self, now: Time) {
        if let Some((enough, until)) = self.awaiting
            && (self.agent_ids.len() >= enough || until.is_due(now))
        {
            self.awaiting = None;
            self.agenda.everything = true;
        }
    }

    fn await_agents(&mut self, now: Time, known: usize) {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of the cluster, rounded down as Mesos does"
        )]
        let enough = (known as f64 * self.config.recovery_factor) as usize;
        if self.quotas.are_bounded() && enough > self.agent_ids.len() {
            self.awaiting = Some((enough, now + self.config.recovery_timeout));
        }
    }
}

impl Allocator for HierarchicalDrf {
    fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::AddFramework(spec) => self.add_framework(spec),
            Event::UpdateFramework(spec) => self.update_framework(spec),
            Event::ActivateFramework(id) => self.set_framework_active(&id, true),
            Event::DeactivateFramework(id) => self.set_framework_active(&id, false),
            Event::RemoveFramework(id) => self.remove_framework(&id),
            Event::AddAgent(spec) => {
                self.add_agent(spec);
                self.stop_waiting(now);
            }
            Event::UpdateAgent(spec) => self.update_agent(spec),
            Event::ActivateAgent(id) => self.set_agent_active(&id, true),
            Event::DeactivateAgent(id) => self.set_agent_active(&id, false),
            Event::RemoveAgent(id) => self.remove_agent(&id),
            Event::Answered {
                framework,
                agent,
                resources,
            } => self.answered(now, &framework, &agent, &resources),
            Event::Recover {
                framework,
                agent,
                resources,
                refuse,
            } => self.recover(now, &framework, &agent, &resources, refuse),
            Event::Convert {
                framework,
                agent,
                consumed,
                converted,
            } => self.convert(&framework, &agent, &consumed, &converted),
            Event::Suppress { framework, roles } => self.suppress(&framework, roles),
            Event::Revive { framework, roles } => self.revive(&framework, &roles),
            Event::Wish { framework, pieces } => self.wish(now, &framework, &pieces),
            Event::Weights(weights) => self.tree.set_weights(weights),
            Event::Priorities(priorities) => self.tree.set_priorities(priorities),
            Event::Quotas(quotas) => self.set_quotas(quotas),
            Event::Unavailability {
                agent,
                unavailability,
            } => self.set_unavailability(&agent, unavailability),
            Event::AnsweredInverse {
                framework,
                agent,
                refuse,
            } => self.answered_inverse(now, &framework, &agent, refuse),
            Event::Whitelist(names) => {
                self.whitelist = names;
                self.agenda.everything = true;
            }
            Event::Pause => self.paused = true,
            Event::Resume => {
                self.paused = false;
                self.agenda.everything = true;
            }
            Event::AwaitAgents { known } => self.await_agents(now, known),
        }
    }

    fn convert_free(
        &mut self,
        _now: Time,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree> {
        self.exchange_free(agent, consumed, converted)
    }

    fn poll(&mut self, now: Time) -> Decisions {
        match self.next_deadline() {
            Some(deadline) if deadline.is_due(now) => self.round(now),
            _ => Decisions::default(),
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        if self.paused {
            return None;
        }
        if let Some((_, until)) = self.awaiting {
            return Some(until);
        }
        let expiry = self.expiries.first().map(|(until, ..)| *until);
        let impatience = self.impatient.first().map(|(due, _)| *due);
        let agenda = (!self.agenda.is_empty()).then_some(Time::EPOCH);
        let soonest = self
            .last_round
            .map_or(Time::EPOCH, |last| last + self.config.round_gap);
        let wanted = earliest(
            earliest(expiry, impatience),
            earliest(agenda, self.maintenance.due()),
        );
        wanted.map(|wanted| wanted.max(soonest))
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        self.reasons(now, framework, role)
    }

    fn metrics(&self) -> Metrics {
        self.measure()
    }
}

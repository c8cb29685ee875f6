//! One round of granting.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::ResourceExt;
use dcos_core::time::Time;

use super::super::words::{Decisions, Grant};
use super::portion::{Judge, No, Portion, Stage};
use super::tree::Lane;
use super::{Agenda, HierarchicalDrf};

/// Whom an agent meets in this round.
#[derive(Debug)]
enum Meets {
    Everyone,
    /// Those of the agenda that meet every agent.
    Guests,
    /// The same, and some more.
    These(BTreeSet<usize>),
}

/// An agent and whom it meets.
type Meeting = (usize, Meets);

/// One leaf in this many, or more: then it is cheaper to walk past all that are in order already
/// than to bring the leaves in order for each agent.
const MANY: usize = 16;

/// What was granted in this round.
#[derive(Debug, Default)]
struct Granted {
    grants: Vec<Grant>,
    /// Where the grants of the first stage are: what comes in the second joins them.
    promised: BTreeMap<(usize, usize), usize>,
}

impl HierarchicalDrf {
    /// Decides what is due.
    pub(super) fn round(&mut self, now: Time) -> Decisions {
        self.stop_waiting(now);
        if self.awaiting.is_some() {
            return Decisions::default();
        }
        self.rounds += 1;
        self.last_round = Some(now);
        self.expire(now);
        self.use_surplus();
        self.tree.refresh();
        let agenda = std::mem::take(&mut self.agenda);
        let mut guests = agenda.leaves.clone();
        let mut meetings = self.meetings(agenda);
        let mut granted = Granted::default();
        if self.quotas.are_waiting() {
            self.seed.shuffle(&mut meetings);
            for meeting in &meetings {
                self.meet(now, meeting, &mut guests, Stage::Promised, &mut granted);
            }
        }
        self.seed.shuffle(&mut meetings);
        granted.grants.reserve(meetings.len());
        guests.retain(|leaf| self.tree.is_active(*leaf) && !self.stands_back(now, *leaf));
        for meeting in &meetings {
            self.meet(now, meeting, &mut guests, Stage::Fair, &mut granted);
        }
        self.last_surplus = self.quotas.surplus();
        Decisions {
            grants: granted.grants,
            preemptions: self.preempt(now),
            inverse: self.ask_to_leave(now),
        }
    }

    /// Lets those whose refusals have run out meet the agent again.
    fn expire(&mut self, now: Time) {
        while let Some((until, agent, leaf, epoch)) = self.expiries.first().copied()
            && until.is_due(now)
        {
            self.expiries.pop_first();
            if let Some(state) = self.agents.get_mut(agent) {
                state.prune(now, leaf, Some(epoch));
                if self.tree.is_active(leaf) {
                    self.agenda.pairs.entry(agent).or_default().insert(leaf);
                }
            }
        }
    }

    /// Looks again at agents of which something was kept back, if less must be.
    fn use_surplus(&mut self) {
        if self.held_back.is_empty() {
            return;
        }
        let grown = self.quotas.surplus().beyond(&self.last_surplus);
        if grown.has_positive() || !self.quotas.keep_free() {
            self.look_again_at_held_back();
        }
    }

    pub(super) fn is_whitelisted(&self, agent: usize) -> bool {
        self.whitelist
            .as_ref()
            .is_none_or(|names| names.contains(&self.agents[agent].spec.hostname))
    }

    /// Whether anything of an agent could be worth an offer to anybody.
    fn is_open(&self, at: usize) -> bool {
        self.agents.get(at).is_some_and(|agent| {
            agent.active
                && !agent.pool.is_empty()
                && (!agent.pool.is_plain()
                    || self.own_minimums > 0
                    || self.quotas.are_worth_it(agent.pool.counts()))
        }) && self.is_whitelisted(at)
    }

    /// Who meets whom. Agents with nothing to give meet nobody.
    fn meetings(&mut self, agenda: Agenda) -> Vec<Meeting> {
        let mut queued = Vec::with_capacity(agenda.agents.len());
        for at in agenda.agents {
            // The agent may be gone, and another one may have its number.
            if let Some(agent) = self.agents.get_mut(at)
                && std::mem::take(&mut agent.is_queued)
            {
                queued.push(at);
            }
        }
        if agenda.everything {
            let all = self.agents.keys().filter(|at| self.is_open(*at));
            return all.map(|at| (at, Meets::Everyone)).collect();
        }
        let mut meetings: Vec<Meeting> = Vec::with_capacity(queued.len());
        let has_guests = agenda.leaves.iter().any(|leaf| self.tree.is_active(*leaf));
        if has_guests {
            let is_queued: BTreeSet<usize> = queued.iter().copied().collect();
            for at in self.agents.keys().filter(|at| self.is_open(*at)) {
                let meets = if is_queued.contains(&at) {
                    Meets::Everyone
                } else {
                    Meets::Guests
                };
                meetings.push((at, meets));
            }
        } else {
            let open = queued.into_iter().filter(|at| self.is_open(*at));
            meetings.extend(open.map(|at| (at, Meets::Everyone)));
        }
        if agenda.pairs.is_empty() {
            return meetings;
        }
        let mut place: BTreeMap<usize, usize> = meetings
            .iter()
            .enumerate()
            .map(|(place, (at, _))| (*at, place))
            .collect();
        for (at, mut leaves) in agenda.pairs {
            match place.get(&at) {
                Some(place) => match &mut meetings[*place].1 {
                    Meets::Everyone => {}
                    meets => {
                        leaves.extend(&agenda.leaves);
                        *meets = Meets::These(leaves);
                    }
                },
                None if self.is_open(at) => {
                    place.insert(at, meetings.len());
                    meetings.push((at, Meets::These(leaves)));
                }
                None => {}
            }
        }
        meetings
    }

    /// Grants what is left on one agent, framework after framework.
    fn meet(
        &mut self,
        now: Time,
        (at, meets): &Meeting,
        guests: &mut BTreeSet<usize>,
        stage: Stage,
        granted: &mut Granted,
    ) {
        let at = *at;
        if matches!(meets, Meets::Guests) && guests.is_empty() {
            return;
        }
        if self.agents[at].pool.is_empty() || stage == Stage::Fair && !self.has_surplus(at) {
            return;
        }
        let is_plain = self.agents[at].pool.is_plain() && self.own_minimums == 0;
        let lanes: &[Lane] = match stage {
            Stage::Promised => &[Lane::Promised],
            Stage::Fair if is_plain => &[Lane::Promised, Lane::Open],
            Stage::Fair => &[Lane::Promised, Lane::Open, Lane::Full],
        };
        let chosen = match meets {
            Meets::Everyone => None,
            Meets::Guests => Some(&*guests),
            Meets::These(leaves) => Some(leaves),
        };
        let takers = match chosen {
            None => self.serve(now, at, stage, Order::Walk(lanes, None)),
            Some(leaves) if leaves.len() * MANY > self.tree.active_leaves() => {
                self.serve(now, at, stage, Order::Walk(lanes, Some(leaves)))
            }
            Some(leaves) => {
                let sorted = self.tree.sorted(leaves.iter().copied());
                self.serve(now, at, stage, Order::These(sorted))
            }
        };
        for (leaf, portion) in takers {
            self.grant(at, leaf, &portion, stage, granted);
            // Who has to answer first need not be shown to all the other agents.
            if stage == Stage::Fair && guests.contains(&leaf) && self.stands_back(now, leaf) {
                guests.remove(&leaf);
            }
        }
    }

    /// Whether a leaf gets nothing more before it has answered offers; then that is noted.
    fn stands_back(&mut self, now: Time, leaf: usize) -> bool {
        let Some(hoarding) = self.config.hoarding.filter(|_| self.wanting > 1) else {
            return false;
        };
        let (allocated, totals) = (self.tree.allocated(leaf), self.tree.totals());
        let seat = &mut self.seats[leaf];
        let stands_back = seat.is_hoarding(now, hoarding, allocated, totals);
        seat.is_held_up |= stands_back;
        stands_back
    }

    /// Whether a plain agent has anything that need not stay free for guarantees.
    fn has_surplus(&mut self, at: usize) -> bool {
        let pool = &self.agents[at].pool;
        if !self.quotas.keep_free() || !pool.is_plain() || self.own_minimums > 0 {
            return true;
        }
        let mut counts = pool.counts().clone();
        counts.remove(pool.scalars());
        counts.add(&self.quotas.surplus_of(pool.scalars()));
        let is_enough = self.quotas.are_worth_it(&counts);
        if !is_enough {
            self.held_back.insert(at);
        }
        is_enough
    }

    /// Goes through leaves in order and lets each have what it may have. The order is that of
    /// before: shares change when the agent is done with.
    fn serve(
        &mut self,
        now: Time,
        at: usize,
        stage: Stage,
        order: Order<'_>,
    ) -> Vec<(usize, Portion)> {
        let Self {
            config,
            names,
            tree,
            frameworks,
            seats,
            quotas,
            agents,
            held_back,
            ..
        } = self;
        let agent = &mut agents[at];
        let mut takers = Vec::new();
        let walk;
        let mut these;
        let leaves: &mut dyn Iterator<Item = usize> = match order {
            Order::These(sorted) => {
                these = sorted.into_iter();
                &mut these
            }
            Order::Walk(lanes, chosen) => {
                walk = tree.walk(lanes);
                &mut walk.filter(move |leaf| chosen.is_none_or(|chosen| chosen.contains(leaf)))
            }
        };
        for leaf in leaves {
            if agent.pool.is_empty() {
                break;
            }
            let judge = Judge {
                config,
                now,
                round: self.rounds,
                names,
                tree,
                frameworks,
                seats,
                quotas,
                is_contended: self.wanting > 1,
            };
            let (cut, judged) = judge.portion(agent, leaf, stage);
            let seat = &mut seats[leaf];
            if cut.limit {
                quotas.get_mut(seat.account).is_limiting = true;
            }
            if cut.headroom {
                held_back.insert(at);
            }
            let portion = match judged {
                Ok(portion) => portion,
                Err(no) => {
                    seat.is_held_up |= no == No::HeldUp;
                    continue;
                }
            };
            let before = agent.pool.scalars().clone();
            match &portion {
                Portion::AllOpen => {
                    agent.pool.empty_open();
                    quotas.consume(seat.account, &before);
                }
                Portion::Part(part) => {
                    agent.pool.remove(names, &part.resources);
                    if part.resources.iter().any(ResourceExt::is_shared) {
                        agent.shared_in = self.rounds;
                    }
                    quotas.consume(seat.account, &part.open);
                }
            }
            quotas.change_free(agent.pool.scalars(), &before);
            takers.push((leaf, portion));
        }
        takers
    }

    /// Hands a portion out and charges for it.
    fn grant(
        &mut self,
        at: usize,
        leaf: usize,
        portion: &Portion,
        stage: Stage,
        granted: &mut Granted,
    ) {
        let role = self.tree.role(leaf).clone();
        let agent = &mut self.agents[at];
        let (resources, amounts) = match portion {
            Portion::AllOpen => agent
                .pool
                .dress(&mut self.alike, &role)
                .expect("it was taken out just now"),
            Portion::Part(part) => (
                part.resources.allocated_to(&role),
                self.names.scalars(&part.resources),
            ),
        };
        let seat = &mut self.seats[leaf];
        seat.note_use(
            self.last_round.unwrap_or(Time::EPOCH),
            self.config.hoarding,
            self.tree.allocated(leaf),
        );
        seat.unanswered.add(&amounts);
        self.tree.charge(leaf, &amounts);
        if self.quotas.are_bounded() {
            let account = self.quotas.get(seat.account);
            self.tree.set_lane(&account.role, account.lane);
        }
        agent.add_unanswered(leaf, &amounts);
        let held = agent.used.entry(seat.framework).or_default();
        let is_new = held
            .iter()
            .all(|other| other.allocation_role() != Some(&role));
        seat.holdings += usize::from(is_new);
        if held.is_empty() {
            held.clone_from(&resources);
        } else {
            *held += &resources;
        }
        self.maintenance.look_at(at);
        if let Some(earlier) = granted.promised.get(&(at, leaf)) {
            granted.grants[*earlier].resources += &resources;
            return;
        }
        if stage == Stage::Promised {
            granted.promised.insert((at, leaf), granted.grants.len());
        }
        granted.grants.push(Grant {
            framework: self.frameworks[seat.framework].spec.id.clone(),
            role: role.to_string(),
            agent: agent.spec.id.clone(),
            resources,
        });
    }
}

/// In which order leaves are served.
enum Order<'a> {
    /// As they stand in the tree, of top-level roles those in some lanes; all or some of them.
    Walk(&'a [Lane], Option<&'a BTreeSet<usize>>),
    /// This one.
    These(Vec<usize>),
}

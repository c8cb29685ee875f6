//! The reasons for what is not granted, and figures for operators.

use dcos_core::time::Time;
use dcos_proto::mesos::FrameworkId;

use super::super::rules;
use super::super::words::{Metrics, NonOffer, Reason, RoleMetrics};
use super::HierarchicalDrf;
use super::portion::{Judge, No, Stage};
use super::quotas::Cut;

impl HierarchicalDrf {
    /// One reason an agent, in order of agent ids.
    pub(super) fn reasons(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        let Some(at) = self.known_framework(framework) else {
            return Vec::new();
        };
        let general = self.general_reason(at, role);
        self.agent_ids
            .iter()
            .map(|(id, agent)| {
                let reason = general
                    .clone()
                    .unwrap_or_else(|| self.reason(now, at, *agent, role));
                NonOffer {
                    agent: id.clone(),
                    reason,
                }
            })
            .collect()
    }

    /// A reason that holds for every agent.
    fn general_reason(&self, framework: usize, role: &str) -> Option<Reason> {
        let framework = &self.frameworks[framework];
        if !framework.active {
            return Some(Reason::FrameworkInactive);
        }
        if !framework.spec.roles.contains(role) {
            return Some(Reason::NotSubscribed);
        }
        if framework.spec.suppressed.contains(role) {
            return Some(Reason::Suppressed);
        }
        None
    }

    fn judge(&self, now: Time) -> Judge<'_> {
        Judge {
            config: &self.config,
            now,
            round: 0,
            names: &self.names,
            tree: &self.tree,
            frameworks: &self.frameworks,
            seats: &self.seats,
            quotas: &self.quotas,
            is_contended: self.wanting > 1,
        }
    }

    fn reason(&self, now: Time, framework: usize, agent: usize, role: &str) -> Reason {
        let state = &self.agents[agent];
        if !state.active {
            return Reason::AgentInactive;
        }
        if !self.is_whitelisted(agent) {
            return Reason::NotWhitelisted;
        }
        let Some(&leaf) = self.frameworks[framework].leaves.get(role) else {
            return Reason::NotSubscribed;
        };
        let (cut, judged) = self.judge(now).portion(state, leaf, Stage::Fair);
        let is_barred = matches!(judged, Err(No::Barred | No::Constrained));
        // A bar outlasts the present holders, so it tells more than who they are.
        if state.pool.is_empty() && !is_barred {
            return Reason::Held {
                by: self.holders(agent),
            };
        }
        match judged {
            Err(no) => self.words(now, framework, agent, leaf, no, cut),
            Ok(_) if self.paused || self.awaiting.is_some() => Reason::Paused,
            Ok(_) => self.outranked(leaf).unwrap_or(Reason::Pending),
        }
    }

    fn words(
        &self,
        now: Time,
        framework: usize,
        agent: usize,
        leaf: usize,
        no: No,
        cut: Cut,
    ) -> Reason {
        let state = &self.agents[agent];
        let spec = &self.frameworks[framework].spec;
        let role = &**self.tree.role(leaf);
        match no {
            No::Barred => rules::barred(&self.config, state.traits, spec.capabilities, role)
                .unwrap_or(Reason::Pending),
            No::Constrained => Reason::Constrained,
            No::HeldUp => self.hoarding(now, leaf),
            No::Nothing if state.pool.suitable(role).is_empty() => Reason::Reserved {
                roles: state.pool.roles().map(ToOwned::to_owned).collect(),
            },
            No::Nothing => Reason::Incapable,
            No::TooLittle => Reason::BelowMinimum,
            No::Cut if cut.limit => {
                let account = self.quotas.get(self.seats[leaf].account);
                let names = account.exhausted();
                Reason::QuotaReached {
                    role: account.role.clone(),
                    names: names
                        .map(|number| self.names.name(number).to_owned())
                        .collect(),
                }
            }
            No::Cut => Reason::Headroom {
                roles: self.quotas.waiting_roles(),
            },
            No::Refused(until) => Reason::Filtered { until },
        }
    }

    fn hoarding(&self, now: Time, leaf: usize) -> Reason {
        let seat = &self.seats[leaf];
        let hoarding = self.config.hoarding.unwrap_or_default();
        let (allocated, totals) = (self.tree.allocated(leaf), self.tree.totals());
        let allowed = seat.allowed(now, hoarding, allocated, totals);
        Reason::Hoarding {
            unanswered: self.names.to_quantities(&seat.unanswered),
            allowed: self.names.to_quantities(&allowed),
        }
    }

    /// The roles that come before a leaf by priority.
    fn outranked(&self, leaf: usize) -> Option<Reason> {
        let all = [super::tree::Lane::Promised, super::tree::Lane::Open];
        let mut roles: Vec<String> = self
            .tree
            .walk(&all)
            .filter(|other| self.tree.outranks(*other, leaf))
            .map(|other| self.tree.role(other).to_string())
            .collect();
        roles.sort();
        roles.dedup();
        (!roles.is_empty()).then_some(Reason::Outranked { roles })
    }

    /// Who holds something on an agent, most cpus first.
    fn holders(&self, agent: usize) -> Vec<FrameworkId> {
        let mut holders: Vec<_> = self.agents[agent]
            .used
            .iter()
            .map(|(framework, held)| {
                let id = &self.frameworks[*framework].spec.id;
                (
                    std::cmp::Reverse(held.scalar("cpus").unwrap_or_default()),
                    id.clone(),
                )
            })
            .collect();
        holders.sort();
        holders.into_iter().map(|(_, id)| id).collect()
    }

    /// Figures as of now.
    pub(super) fn measure(&self) -> Metrics {
        let mut metrics = Metrics {
            rounds: self.rounds,
            total: self.names.to_quantities(self.tree.totals()),
            held: self.names.to_quantities(self.tree.held()),
            ..Metrics::default()
        };
        for (role, share) in self.tree.role_shares() {
            metrics.roles.entry(role.to_owned()).or_default().share = share;
        }
        for account in self.quotas.iter() {
            let role: &mut RoleMetrics = metrics.roles.entry(account.role.clone()).or_default();
            role.quota = account.quota.clone();
            role.consumed = self.names.to_quantities(&account.consumed);
        }
        for at in self.agents.keys() {
            for (leaf, refusals) in &self.agents[at].refusals {
                if self.tree.is_active(*leaf) {
                    let role = self.tree.role(*leaf).to_string();
                    metrics.roles.entry(role).or_default().refusals += refusals.len();
                }
            }
        }
        metrics
    }
}

//! Inverse offers: frameworks are asked to leave agents that will be unavailable.
//!
//! Each framework that holds something of such an agent is asked once, and again when it has
//! answered and what it refused for has run out. Source: Mesos 1.11 `generateInverseOffers`; rules
//! AL-13 and AG-15 of the conformance inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::{AgentId, FrameworkId, Unavailability};

use super::super::words::InverseGrant;
use super::HierarchicalDrf;

/// The agents that will be unavailable.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    windows: BTreeMap<usize, Window>,
    /// The agents of which somebody may have to be asked.
    look_at: BTreeSet<usize>,
    /// When somebody may be asked again: time, agent.
    expiries: BTreeSet<(Time, usize)>,
}

#[derive(Debug)]
struct Window {
    unavailability: Unavailability,
    /// Who was asked and has not answered.
    open: BTreeSet<usize>,
    /// Who does not want to be asked until when.
    hidden: BTreeMap<usize, Time>,
}

impl Maintenance {
    fn set(&mut self, agent: usize, unavailability: Option<Unavailability>) {
        self.remove(agent);
        if let Some(unavailability) = unavailability {
            let window = Window {
                unavailability,
                open: BTreeSet::new(),
                hidden: BTreeMap::new(),
            };
            self.windows.insert(agent, window);
            self.look_at.insert(agent);
        }
    }

    pub(super) fn remove(&mut self, agent: usize) {
        self.windows.remove(&agent);
        self.look_at.remove(&agent);
    }

    /// Somebody holds more of an agent.
    pub(super) fn look_at(&mut self, agent: usize) {
        if self.windows.contains_key(&agent) {
            self.look_at.insert(agent);
        }
    }

    /// Somebody came back.
    pub(super) fn look_at_all(&mut self) {
        self.look_at.extend(self.windows.keys());
    }

    /// Forgets what a framework was asked and answered.
    pub(super) fn forget(&mut self, framework: usize) {
        for window in self.windows.values_mut() {
            window.open.remove(&framework);
            window.hidden.remove(&framework);
        }
    }

    pub(super) fn due(&self) -> Option<Time> {
        let now = (!self.look_at.is_empty()).then_some(Time::EPOCH);
        earliest(now, self.expiries.first().map(|(until, _)| *until))
    }
}

impl HierarchicalDrf {
    pub(super) fn set_unavailability(
        &mut self,
        agent: &AgentId,
        unavailability: Option<Unavailability>,
    ) {
        if let Some(&at) = self.agent_ids.get(agent) {
            self.maintenance.set(at, unavailability);
        }
    }

    pub(super) fn answered_inverse(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        agent: &AgentId,
        refuse: Option<Duration>,
    ) {
        let (Some(at), Some(&on)) = (self.known_framework(framework), self.agent_ids.get(agent))
        else {
            return;
        };
        let Some(window) = self.maintenance.windows.get_mut(&on) else {
            return;
        };
        window.open.remove(&at);
        let until = now + refuse.unwrap_or_default().max(self.config.interval);
        window.hidden.insert(at, until);
        self.maintenance.expiries.insert((until, on));
    }

    /// Asks whoever has to be asked.
    pub(super) fn ask_to_leave(&mut self, now: Time) -> Vec<InverseGrant> {
        let maintenance = &mut self.maintenance;
        while let Some((until, agent)) = maintenance.expiries.first().copied()
            && until.is_due(now)
        {
            maintenance.expiries.pop_first();
            maintenance.look_at(agent);
        }
        let mut grants = Vec::new();
        for at in std::mem::take(&mut maintenance.look_at) {
            let (Some(window), Some(agent)) =
                (maintenance.windows.get_mut(&at), self.agents.get(at))
            else {
                continue;
            };
            window.hidden.retain(|_, until| !until.is_due(now));
            for holder in agent.used.keys() {
                let framework = &self.frameworks[*holder];
                let may_be_asked =
                    framework.known && framework.active && !window.hidden.contains_key(holder);
                if may_be_asked && window.open.insert(*holder) {
                    grants.push(InverseGrant {
                        framework: framework.spec.id.clone(),
                        agent: agent.spec.id.clone(),
                        unavailability: window.unavailability,
                    });
                }
            }
        }
        grants
    }
}

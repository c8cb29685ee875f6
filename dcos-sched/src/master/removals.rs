//! How fast agents may be declared unreachable (`--agent_removal_rate_limit`), and how many of them after a failover
//! (`--recovery_agent_removal_limit`).
//!
//! A network that fails makes every agent silent at once. With a limit they are given up one by
//! one, and those that answer meanwhile are not.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dcos_core::time::Time;
use dcos_core::units::format_duration;
use dcos_proto::mesos::AgentId;

use super::core::Timer;
use super::{Action, Master};

/// Why an agent is to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It does not answer pings.
    Silent,
    /// It disconnected and did not come back.
    Absent,
    /// A former master knew it, and it did not come back.
    Recovered,
}

/// Agents that are to be given up, first come first.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    waiting: BTreeMap<AgentId, Removal>,
    /// Those waiting in order, and some that no longer are.
    order: VecDeque<AgentId>,
    /// When the next one may be.
    next: Time,
}

impl Removals {
    /// The agent showed itself; whether it was to be given up.
    pub(crate) fn cancel(&mut self, id: &AgentId) -> bool {
        self.waiting.remove(id).is_some()
    }

    fn pop(&mut self) -> Option<(AgentId, Removal)> {
        while let Some(id) = self.order.pop_front() {
            if let Some(why) = self.waiting.remove(&id) {
                return Some((id, why));
            }
        }
        None
    }
}

impl Master {
    /// Agents of a former master had their time to come back. If too many did not, something larger is wrong than
    /// agents, and this master ends rather than giving them up (Mesos 1.11 `Master::recoveredSlavesTimeout`).
    pub(crate) fn recovery_ends(&mut self) {
        let (away, known) = (self.recovered_agents.len(), self.known_before);
        let count = |number| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let limit = self.settings.recovery_removal_limit;
        if known == 0 || count(away) / count(known) <= limit {
            return;
        }
        self.stopped = true;
        let timeout = format_duration(self.settings.agent_reregister_timeout);
        let reason = format!(
            "Post-recovery agent removal limit exceeded: {away} of {known} agents did not reregister within {timeout} \
             after master failover, and --recovery_agent_removal_limit is {}%",
            limit * 100.0
        );
        self.push(Action::Stop { reason });
    }

    /// Gives an agent up, now or as soon as the limit allows.
    pub(crate) fn schedule_removal(&mut self, id: &AgentId, why: Removal) {
        if self.removals.waiting.contains_key(id) {
            return;
        }
        self.counters.slave_unreachable_scheduled += 1;
        if self.settings.agent_removal_rate.is_none() {
            return self.give_up(id, why);
        }
        self.removals.waiting.insert(id.clone(), why);
        self.removals.order.push_back(id.clone());
        if self.removals.next.is_due(self.now) {
            self.remove_next_agent();
        } else {
            let wait = self.now.until(self.removals.next);
            self.at(wait, Timer::AgentRemoval);
        }
    }

    pub(crate) fn remove_next_agent(&mut self) {
        let Some((permits, period)) = self.settings.agent_removal_rate else {
            return;
        };
        if !self.removals.next.is_due(self.now) {
            return;
        }
        let Some((id, why)) = self.removals.pop() else {
            return;
        };
        let pause = (period / permits.max(1)).max(Duration::from_millis(1));
        self.removals.next = self.now + pause;
        if !self.removals.waiting.is_empty() {
            self.at(pause, Timer::AgentRemoval);
        }
        self.give_up(&id, why);
    }

    fn give_up(&mut self, id: &AgentId, why: Removal) {
        match why {
            Removal::Silent => {
                self.counters.slave_unreachable_completed += 1;
                self.mark_unreachable(id, "health check timed out");
            }
            Removal::Absent => {
                let timeout = format_duration(self.settings.agent_reregister_timeout);
                let text = format!("did not reregister within {timeout} after disconnecting");
                self.mark_unreachable(id, &text);
            }
            Removal::Recovered => self.give_up_recovered_agent(id),
        }
    }
}

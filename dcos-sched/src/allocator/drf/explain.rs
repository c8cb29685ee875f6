//! The reasons for what is not granted.

use dcos_core::time::Time;
use dcos_proto::mesos::FrameworkId;

use super::super::words::{NonOffer, Reason};
use super::HierarchicalDrf;

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

    fn reason(&self, now: Time, framework: usize, agent: usize, role: &str) -> Reason {
        let state = &self.agents[agent];
        if !state.active {
            return Reason::AgentInactive;
        }
        if self
            .whitelist
            .as_ref()
            .is_some_and(|names| !names.contains(&state.spec.hostname))
        {
            return Reason::NotWhitelisted;
        }
        let Some(leaf) = self.frameworks[framework].leaves.get(role) else {
            return Reason::NotSubscribed;
        };
        let judged = self.portion(now, agent, leaf.at);
        let is_barred = matches!(
            judged,
            Err(Reason::AgentSingleRole
                | Reason::AgentFlatRole
                | Reason::GpuAgent
                | Reason::RemoteAgent
                | Reason::Constrained)
        );
        // A bar outlasts the present holders, so it tells more than who they are.
        if state.available.is_empty() && !is_barred {
            return Reason::Held {
                by: self.holders(agent),
            };
        }
        match judged {
            Err(reason) => reason,
            Ok(_) if self.paused => Reason::Paused,
            Ok(_) => Reason::Pending,
        }
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
}

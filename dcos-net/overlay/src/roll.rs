//! [`Roll`]: who is in the overlays, and who is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use dcos_core::time::Time;

use crate::{AgentNetwork, Allocation, Exhausted, NetworkConfig, News, Peer, Registration, Report};

/// What a leading master knows: every agent's network, and which agents the others are told of.
///
/// Call [`register`](Self::register), [`report`](Self::report) and [`remove`](Self::remove) when
/// that is asked, and [`poll`](Self::poll) now and then; what `register` gave out has to be stored
/// before anybody is told. An agent is there from its registration until it was silent for
/// `patience`; one that went keeps what it has, and the others forget the way to it.
#[derive(Clone, Debug)]
pub struct Roll {
    config: NetworkConfig,
    allocation: Allocation,
    patience: Duration,
    present: BTreeMap<IpAddr, Standing>,
}

/// What is known of an agent that is there.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    heard: Time,
    /// What it said of itself last.
    pub(crate) report: Option<Report>,
}

/// What came of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// What the agent has.
    pub network: AgentNetwork,
    /// It has to be stored.
    pub is_new: bool,
    /// The others have to be told.
    pub is_news: bool,
}

impl Roll {
    /// What a former leader stored. All agents count as there, until they had time to say so.
    pub fn new(config: NetworkConfig, stored: Allocation, patience: Duration, now: Time) -> Self {
        let standing = Standing {
            heard: now,
            report: None,
        };
        let agents = stored.agents().keys();
        Self {
            present: agents.map(|agent| (*agent, standing.clone())).collect(),
            config,
            allocation: stored,
            patience,
        }
    }

    /// Takes an agent in.
    pub(crate) fn register(
        &mut self,
        now: Time,
        asked: &Registration,
    ) -> Result<Registered, Exhausted> {
        let before = self.allocation.agents().get(&asked.ip).cloned();
        let former = asked.former.as_ref();
        let given = self
            .allocation
            .register(&self.config, asked.ip, asked.wishes, former)?;
        let is_new = before.as_ref() != Some(given);
        let network = given.within(&self.config);
        let standing = Standing {
            heard: now,
            report: None,
        };
        let was_there = self.present.insert(asked.ip, standing).is_some();
        let was_the_same = before.is_some_and(|before| before.within(&self.config) == network);
        Ok(Registered {
            network,
            is_new,
            is_news: !was_there || !was_the_same,
        })
    }

    /// Hears from an agent; `false` if it is not there, and has to register.
    pub(crate) fn report(&mut self, now: Time, report: Report) -> bool {
        let standing = self.present.get_mut(&report.ip);
        standing.is_some_and(|standing| {
            standing.heard = now;
            standing.report = Some(report);
            true
        })
    }

    /// Takes back what an agent has; says whether it had anything.
    pub(crate) fn remove(&mut self, agent: IpAddr) -> bool {
        self.present.remove(&agent);
        self.allocation.remove(agent)
    }

    /// The agents that were silent too long: the others are to be told.
    pub(crate) fn poll(&mut self, now: Time) -> Vec<IpAddr> {
        let patience = self.patience;
        let silent = |standing: &Standing| (standing.heard + patience).is_due(now);
        let gone = self.present.iter().filter(|(_, standing)| silent(standing));
        let gone: Vec<IpAddr> = gone.map(|(agent, _)| *agent).collect();
        for agent in &gone {
            self.present.remove(agent);
        }
        gone
    }

    /// How often to poll, and to hear from agents: several times before one counts as gone.
    pub(crate) fn interval(&self) -> Duration {
        (self.patience / 4).clamp(Duration::from_millis(50), Duration::from_secs(30))
    }

    /// The first an agent is told.
    pub(crate) fn all_for(&self, agent: IpAddr) -> Option<News> {
        let own = self.allocation.agents().get(&agent)?.within(&self.config);
        let peers = self.present.keys().filter(|ip| **ip != agent);
        let peers = peers.filter_map(|ip| self.peer(*ip));
        Some(News::All {
            config: self.config.clone(),
            own,
            peers: peers.collect(),
            report_ms: u64::try_from(self.interval().as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// An agent, as the others are told of it.
    pub(crate) fn peer(&self, ip: IpAddr) -> Option<Peer> {
        let network = self.allocation.agents().get(&ip)?.within(&self.config);
        Some(Peer { ip, network })
    }

    /// The overlays there are.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// What every agent has.
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// How an agent is; `None` if it is not there.
    pub(crate) fn standing(&self, agent: IpAddr) -> Option<&Standing> {
        self.present.get(&agent)
    }

    /// Those who are there.
    pub fn present(&self) -> BTreeSet<IpAddr> {
        self.present.keys().copied().collect()
    }
}

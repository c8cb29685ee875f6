//! What readers see: everything at one moment, shared with the core until it changes.

use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_core::tree::Tree;
use dcos_proto::master::response::{get_agents, get_frameworks};
use dcos_proto::master::{self as operator, event};
use dcos_proto::mesos::{
    AgentId, AgentInfo, FrameworkId, InverseOffer, Offer, OfferId, Resource, TimeInfo,
};

use super::core::{Settings, time_info};
use super::metrics::Counters;
use super::{Agent, Framework, Link, Master, News, Standing};

/// The state of the master at one moment. What it holds is immutable; taking one costs some
/// pointers, however large the cluster is, and the core copies a part only when it changes it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When this was so.
    pub now: Time,
    /// When the master was elected, and began to lead.
    pub started: Time,
    /// Whether the registry has been read.
    pub recovered: bool,
    /// How the master is set up.
    pub settings: Settings,
    /// Frameworks that are not completed.
    pub frameworks: Tree<FrameworkId, Arc<Framework>>,
    /// Frameworks that are, oldest first.
    pub completed: Vec<Arc<Framework>>,
    /// Agents that are admitted.
    pub agents: Tree<AgentId, Arc<Agent>>,
    /// Agents a former master knew, until they come back.
    pub recovered_agents: Tree<AgentId, AgentInfo>,
    /// Agents that can't be reached, with when that was found.
    pub unreachable: Tree<AgentId, TimeInfo>,
    /// Offers nobody has answered.
    pub offers: Tree<OfferId, Arc<Offer>>,
    /// Inverse offers nobody has answered.
    pub inverse_offers: Tree<OfferId, Arc<InverseOffer>>,
    /// What operators have set.
    pub standing: Arc<Standing>,
    /// What was counted.
    pub counters: Counters,
}

impl Snapshot {
    pub(crate) fn of(master: &Master) -> Self {
        Self {
            now: master.now,
            started: master.started,
            recovered: master.recovered,
            settings: master.settings.clone(),
            frameworks: master.frameworks.clone(),
            completed: master.completed.iter().cloned().collect(),
            agents: master.agents.clone(),
            recovered_agents: master.recovered_agents.clone(),
            unreachable: master.unreachable.clone(),
            offers: master.offers.clone(),
            inverse_offers: master.inverse_offers.clone(),
            standing: Arc::clone(&master.standing),
            counters: master.counters.clone(),
        }
    }

    /// When the master's process started: it may have stood by for long before it led.
    pub fn process_start(&self) -> Time {
        self.settings.process_start.unwrap_or(self.started)
    }

    /// What a set of offers holds.
    pub fn offered<'a>(&self, offers: impl IntoIterator<Item = &'a OfferId>) -> Resources {
        offered(&self.offers, offers)
    }

    /// An agent as the operator API shows it.
    pub fn agent_view(&self, agent: &Agent) -> get_agents::Agent {
        agent_view(agent, &self.offers)
    }

    /// A framework as the operator API shows it.
    pub fn framework_view(&self, framework: &Framework) -> get_frameworks::Framework {
        framework_view(framework, &self.offers, &self.inverse_offers)
    }
}

fn offered<'a>(
    known: &Tree<OfferId, Arc<Offer>>,
    offers: impl IntoIterator<Item = &'a OfferId>,
) -> Resources {
    let mut total = Resources::default();
    for offer in offers.into_iter().filter_map(|id| known.get(id)) {
        total += &Resources::from(&offer.resources);
    }
    total
}

/// An agent as it is when it comes: nothing of it is offered.
pub(crate) fn agent_added(agent: &Agent) -> get_agents::Agent {
    agent_view(agent, &Tree::new())
}

fn agent_view(agent: &Agent, offers: &Tree<OfferId, Arc<Offer>>) -> get_agents::Agent {
    let mut info = agent.info.clone();
    info.resources = endpoint(info.resources);
    get_agents::Agent {
        agent_info: info,
        active: agent.active,
        version: agent.version.clone(),
        pid: Some(agent.pid.clone()),
        registered_time: Some(time_info(agent.registered)),
        reregistered_time: agent.reregistered.map(time_info),
        total_resources: endpoint(agent.total.to_messages()),
        allocated_resources: endpoint(agent.used_total().to_messages()),
        offered_resources: endpoint(offered(offers, &agent.offers).to_messages()),
        capabilities: agent.capabilities.clone(),
        resource_providers: Vec::new(),
        deactivated: Some(agent.deactivated),
        drain_info: agent.drain_info,
        estimated_drain_start_time: agent.drain_started.map(whole_seconds),
    }
}

/// Seconds are enough for when a drain began.
fn whole_seconds(time: Time) -> TimeInfo {
    time_info(Time::from_secs(time.as_secs()))
}

fn framework_view(
    framework: &Framework,
    offers: &Tree<OfferId, Arc<Offer>>,
    inverse_offers: &Tree<OfferId, Arc<InverseOffer>>,
) -> get_frameworks::Framework {
    let listed = framework.offers.iter().filter_map(|id| offers.get(id));
    get_frameworks::Framework {
        framework_info: framework.info.clone(),
        active: framework.active,
        connected: framework.link.is_connected(),
        recovered: framework.link == Link::Recovered,
        registered_time: Some(time_info(framework.registered)),
        reregistered_time: Some(time_info(framework.reregistered)),
        unregistered_time: framework.unregistered.map(time_info),
        offers: listed
            .map(|offer| {
                let mut offer = Offer::clone(offer);
                offer.resources = endpoint(offer.resources);
                offer
            })
            .collect(),
        inverse_offers: framework
            .inverse_offers
            .iter()
            .filter_map(|id| inverse_offers.get(id))
            .map(|offer| InverseOffer::clone(offer))
            .collect(),
        allocated_resources: endpoint(framework.used_total().to_messages()),
        offered_resources: endpoint(offered(offers, &framework.offers).to_messages()),
        offer_constraints: Some(framework.offer_constraints.clone().unwrap_or_default()),
    }
}

/// Resources with both the old and the new form of reservations, as endpoints show them.
pub(crate) fn endpoint(mut resources: Vec<Resource>) -> Vec<Resource> {
    resources
        .iter_mut()
        .for_each(dcos_core::resources::convert::to_endpoint);
    resources
}

impl Master {
    pub(crate) fn publish_agent_added(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        let news = News::AgentAdded(Arc::clone(agent));
        self.publish(news);
    }

    pub(crate) fn publish_framework_added(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        let framework = framework_view(framework, &self.offers, &self.inverse_offers);
        self.publish(operator::Event {
            r#type: Some(event::Type::FrameworkAdded.into()),
            framework_added: Some(event::FrameworkAdded { framework }),
            ..operator::Event::default()
        });
    }

    pub(crate) fn publish_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        let framework = framework_view(framework, &self.offers, &self.inverse_offers);
        self.publish(operator::Event {
            r#type: Some(event::Type::FrameworkUpdated.into()),
            framework_updated: Some(event::FrameworkUpdated { framework }),
            ..operator::Event::default()
        });
    }
}

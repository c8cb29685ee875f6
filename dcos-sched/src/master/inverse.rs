//! Inverse offers: resources asked back, because their agent will be away.
//!
//! The allocator says who is to be asked when; the answers are advisory and shown to operators.
//! Mesos 1.11 `Master::inverseOffer`, `acceptInverseOffers`, `declineInverseOffers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_proto::allocator::InverseOfferStatus;
use dcos_proto::allocator::inverse_offer_status::Status as Answer;
use dcos_proto::maintenance::{ClusterStatus, cluster_status::DrainingMachine};
use dcos_proto::mesos::machine_info::Mode;
use dcos_proto::mesos::{AgentId, Filters, FrameworkId, InverseOffer, OfferId};
use dcos_proto::scheduler::{Event, event};

use super::core::{Timer, time_info};
use super::frameworks::refusal;
use super::offers::agent_url;
use super::standing::MachineKey;
use super::{Master, Snapshot};
use crate::allocator::{Event as Allocation, InverseGrant};

impl Master {
    /// Asks frameworks for what they have on agents that will be away.
    pub(crate) fn offer_inversely(&mut self, grants: Vec<InverseGrant>) {
        let mut events: BTreeMap<FrameworkId, Vec<InverseOffer>> = BTreeMap::new();
        for grant in grants {
            let usable = self.agents.get(&grant.agent).is_some_and(|agent| {
                agent.active && agent.unavailability == Some(grant.unavailability)
            }) && self
                .frameworks
                .get(&grant.framework)
                .is_some_and(|framework| framework.active);
            if !usable {
                self.answered(&grant.framework, &grant.agent, None);
            } else if let Some(offer) = self.make_inverse_offer(&grant) {
                events.entry(grant.framework).or_default().push(offer);
            }
        }
        for (framework, inverse_offers) in events {
            let event = Event {
                r#type: Some(event::Type::InverseOffers.into()),
                inverse_offers: Some(event::InverseOffers { inverse_offers }),
                ..Event::default()
            };
            self.tell(&framework, event);
        }
    }

    fn make_inverse_offer(&mut self, grant: &InverseGrant) -> Option<InverseOffer> {
        let id = self.new_offer_id();
        let https = self.settings.https;
        let agent = self.agent_mut(&grant.agent)?;
        agent.inverse_offers.insert(id.clone());
        let url = agent_url(agent, https);
        let framework = self.framework_mut(&grant.framework)?;
        framework.inverse_offers.insert(id.clone());
        let offer = InverseOffer {
            id: id.clone(),
            url,
            framework_id: grant.framework.clone(),
            agent_id: Some(grant.agent.clone()),
            unavailability: grant.unavailability,
            resources: Vec::new(),
        };
        self.inverse_offers
            .insert(id.clone(), Arc::new(offer.clone()));
        if let Some(timeout) = self.settings.offer_timeout {
            self.at(timeout, Timer::InverseOfferExpires(id));
        }
        Some(offer)
    }

    /// Takes an inverse offer off the books; `None` if it is no longer good.
    fn take_inverse_offer(&mut self, id: &OfferId) -> Option<(FrameworkId, AgentId)> {
        let offer = self.inverse_offers.remove(id)?;
        let agent = offer.agent_id.clone().unwrap_or_default();
        if let Some(framework) = self.framework_mut(&offer.framework_id) {
            framework.inverse_offers.remove(id);
        }
        if let Some(agent) = self.agent_mut(&agent) {
            agent.inverse_offers.remove(id);
        }
        Some((offer.framework_id.clone(), agent))
    }

    fn answered(&mut self, framework: &FrameworkId, agent: &AgentId, filters: Option<&Filters>) {
        let event = Allocation::AnsweredInverse {
            framework: framework.clone(),
            agent: agent.clone(),
            refuse: filters.map(|filters| refusal(Some(filters))),
        };
        self.allocator.handle(self.now, event);
    }

    /// `ACCEPT_INVERSE_OFFERS` and `DECLINE_INVERSE_OFFERS`; those that are no longer good, or
    /// not the framework's, are ignored.
    pub(crate) fn answer_inverse_offers(
        &mut self,
        framework: &FrameworkId,
        ids: &[OfferId],
        filters: Option<&Filters>,
        answer: Answer,
    ) {
        let default = Filters::default();
        for id in ids {
            let own = self
                .inverse_offers
                .get(id)
                .is_some_and(|offer| offer.framework_id == *framework);
            let Some((framework, agent)) = own.then(|| self.take_inverse_offer(id)).flatten()
            else {
                continue;
            };
            let status = InverseOfferStatus {
                status: answer.into(),
                framework_id: framework.clone(),
                timestamp: time_info(self.now),
            };
            if let Some(agent) = self.agent_mut(&agent) {
                agent.inverse_answers.insert(framework.clone(), status);
            }
            self.answered(&framework, &agent, Some(filters.unwrap_or(&default)));
        }
    }

    /// Takes an inverse offer back and tells the framework.
    pub(crate) fn rescind_inverse_offer(&mut self, id: &OfferId) {
        let Some((framework, agent)) = self.take_inverse_offer(id) else {
            return;
        };
        let event = Event {
            r#type: Some(event::Type::RescindInverseOffer.into()),
            rescind_inverse_offer: Some(event::RescindInverseOffer {
                inverse_offer_id: id.clone(),
            }),
            ..Event::default()
        };
        self.tell(&framework, event);
        self.answered(&framework, &agent, None);
    }

    pub(crate) fn rescind_inverse_offers_on(&mut self, agent: &AgentId) {
        let known = self.agents.get(agent);
        let offers = known.map(|agent| agent.inverse_offers.clone());
        for offer in offers.unwrap_or_default() {
            self.rescind_inverse_offer(&offer);
        }
    }

    /// The framework can't hear of it, or begins anew.
    pub(crate) fn drop_inverse_offers(&mut self, framework: &FrameworkId) {
        let known = self.frameworks.get(framework);
        let offers = known.map(|framework| framework.inverse_offers.clone());
        for offer in offers.unwrap_or_default() {
            if let Some((framework, agent)) = self.take_inverse_offer(&offer) {
                self.answered(&framework, &agent, None);
            }
        }
    }
}

impl Snapshot {
    /// Which machines are to be maintained, with what frameworks said to that, and which are down.
    pub fn maintenance_status(&self) -> ClusterStatus {
        let mut answers: BTreeMap<MachineKey, Vec<InverseOfferStatus>> = BTreeMap::new();
        for agent in self.agents.values() {
            let machine = MachineKey::of_agent(&agent.info, &agent.pid);
            let own = agent.inverse_answers.values().cloned();
            answers.entry(machine).or_default().extend(own);
        }
        let mut status = ClusterStatus::default();
        for (key, machine) in &self.standing.machines {
            match machine.mode() {
                Mode::Draining => status.draining_machines.push(DrainingMachine {
                    id: machine.id.clone(),
                    statuses: answers.remove(key).unwrap_or_default(),
                }),
                Mode::Down => status.down_machines.push(machine.id.clone()),
                Mode::Up => {}
            }
        }
        status
    }
}

//! The life of an offer: made, accepted, declined, rescinded.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_proto::mesos::resource::AllocationInfo;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    Address, AgentId, Filters, FrameworkId, Offer, OfferId, OperationState, TaskInfo, TaskState,
    Url, offer,
};
use dcos_proto::scheduler::{Event, call, event};

use super::core::Timer;
use super::frameworks::refusal;
use super::operations::Holdings;
use super::tasks::{Status, update_event};
use super::{Agent, Master, convert};
use crate::allocator::{Event as Allocation, Grant};

impl Master {
    /// Turns grants into offers; those to one framework travel in one event.
    pub(crate) fn offer(&mut self, grants: Vec<Grant>) {
        let mut events: BTreeMap<FrameworkId, Vec<Offer>> = BTreeMap::new();
        for grant in grants {
            let usable = self
                .frameworks
                .get(&grant.framework)
                .is_some_and(|framework| framework.active)
                && self
                    .agents
                    .get(&grant.agent)
                    .is_some_and(|agent| agent.active);
            if !usable {
                self.give_back(&grant.framework, &grant.agent, &grant.resources);
                continue;
            }
            let Some(offer) = self.make_offer(&grant) else {
                continue;
            };
            events.entry(grant.framework).or_default().push(offer);
        }
        for (framework, offers) in events {
            let event = Event {
                r#type: Some(event::Type::Offers.into()),
                offers: Some(event::Offers { offers }),
                ..Event::default()
            };
            self.tell(&framework, event);
        }
    }

    /// Records an offer and returns it as the framework sees it.
    fn make_offer(&mut self, grant: &Grant) -> Option<Offer> {
        let id = self.new_offer_id();
        let https = self.settings.https;
        let agent = self.agent_mut(&grant.agent)?;
        agent.offers.insert(id.clone());
        let (info, url) = (agent.info.clone(), agent_url(agent, https));
        let unavailability = agent.unavailability;
        let framework = self.framework_mut(&grant.framework)?;
        framework.offers.insert(id.clone());
        framework.tally.offers_sent += 1;
        let executors = framework.executors.get(&grant.agent);
        let offer = Offer {
            id: id.clone(),
            framework_id: grant.framework.clone(),
            agent_id: grant.agent.clone(),
            hostname: info.hostname,
            resources: grant.resources.to_messages(),
            executor_ids: executors
                .into_iter()
                .flat_map(BTreeMap::keys)
                .cloned()
                .collect(),
            attributes: info.attributes,
            url,
            unavailability,
            allocation_info: Some(AllocationInfo {
                role: Some(grant.role.clone()),
            }),
            domain: info.domain,
        };
        let seen = convert::offer_for(&framework.info, &offer);
        self.offers.insert(id.clone(), Arc::new(offer));
        self.counters.offers_sent += 1;
        if let Some(timeout) = self.settings.offer_timeout {
            self.at(timeout, Timer::OfferExpires(id));
        }
        Some(seen)
    }

    /// Takes an offer off the books, leaving its resources held; `None` if it is no longer good.
    fn take_offer(&mut self, id: &OfferId) -> Option<Arc<Offer>> {
        let offer = self.offers.remove(id)?;
        if let Some(framework) = self.framework_mut(&offer.framework_id) {
            framework.offers.remove(id);
        }
        if let Some(agent) = self.agent_mut(&offer.agent_id) {
            agent.offers.remove(id);
        }
        let event = Allocation::Answered {
            framework: offer.framework_id.clone(),
            agent: offer.agent_id.clone(),
            resources: Resources::from(&offer.resources),
        };
        self.allocator.handle(self.now, event);
        Some(offer)
    }

    /// Returns resources that nobody refused.
    pub(crate) fn give_back(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
    ) {
        self.recover_resources(framework, agent, resources, None);
    }

    /// Returns resources to the allocator; with `filters` they were refused.
    pub(crate) fn recover_resources(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        resources: &Resources,
        filters: Option<&Filters>,
    ) {
        if resources.is_empty() {
            return;
        }
        let event = Allocation::Recover {
            framework: framework.clone(),
            agent: agent.clone(),
            resources: resources.clone(),
            refuse: filters.map(|filters| refusal(Some(filters))),
        };
        self.allocator.handle(self.now, event);
    }

    /// Takes an offer back and tells the framework.
    pub(crate) fn rescind(&mut self, id: &OfferId) {
        self.rescind_with(id, None);
    }

    fn rescind_with(&mut self, id: &OfferId, filters: Option<&Filters>) {
        let Some(offer) = self.take_offer(id) else {
            return;
        };
        let event = Event {
            r#type: Some(event::Type::Rescind.into()),
            rescind: Some(event::Rescind {
                offer_id: id.clone(),
            }),
            ..Event::default()
        };
        self.counters.offers_rescinded += 1;
        if let Some(framework) = self.framework_mut(&offer.framework_id) {
            framework.tally.offers_rescinded += 1;
        }
        self.tell(&offer.framework_id, event);
        let resources = Resources::from(&offer.resources);
        self.recover_resources(&offer.framework_id, &offer.agent_id, &resources, filters);
    }

    /// Nobody answered. It counts as declined, so that others see the resources first.
    pub(crate) fn offer_expires(&mut self, id: &OfferId) {
        self.rescind_with(id, Some(&Filters::default()));
    }

    /// Takes back all offers of a framework that can't hear of it.
    pub(crate) fn drop_offers(&mut self, framework: &FrameworkId) {
        let offers = self
            .frameworks
            .get(framework)
            .map(|framework| framework.offers.clone());
        for id in offers.unwrap_or_default() {
            if let Some(offer) = self.take_offer(&id) {
                self.give_back(
                    framework,
                    &offer.agent_id,
                    &Resources::from(&offer.resources),
                );
            }
        }
    }

    /// DECLINE; offers that are no longer good are ignored.
    pub(crate) fn decline(&mut self, framework: &FrameworkId, decline: &call::Decline) {
        self.counters.messages_decline_offers += 1;
        let filters = decline.filters.unwrap_or_default();
        for id in &decline.offer_ids {
            let own = self
                .offers
                .get(id)
                .is_some_and(|offer| offer.framework_id == *framework);
            if let Some(offer) = own.then(|| self.take_offer(id)).flatten() {
                self.counters.offers_declined += 1;
                if let Some(known) = self.framework_mut(framework) {
                    known.tally.offers_declined += 1;
                }
                let resources = Resources::from(&offer.resources);
                self.recover_resources(framework, &offer.agent_id, &resources, Some(&filters));
            }
        }
    }

    /// ACCEPT: carries out the operations on what the offers hold, and declines the rest.
    pub(crate) fn accept(&mut self, framework: &FrameworkId, accept: call::Accept) {
        let launches = accept
            .operations
            .iter()
            .any(|operation| operation.launch.is_some() || operation.launch_group.is_some());
        if launches {
            self.counters.messages_launch_tasks += 1;
        }
        let checked = self.check_offers(framework, &accept.offer_ids);
        let mut held = Resources::default();
        let mut place = None;
        for id in &accept.offer_ids {
            let own = self
                .offers
                .get(id)
                .is_some_and(|offer| offer.framework_id == *framework);
            let Some(offer) = own.then(|| self.take_offer(id)).flatten() else {
                continue;
            };
            if checked.is_ok() {
                held += &Resources::from(&offer.resources);
                place = Some((offer.agent_id.clone(), convert::role_of(&offer)));
            } else {
                let resources = Resources::from(&offer.resources);
                self.give_back(framework, &offer.agent_id, &resources);
            }
        }
        let (agent, role) = match (checked, place) {
            (Ok(()), Some(place)) => place,
            (Err(error), _) => {
                return self.refuse_operations(framework, &accept.operations, &error);
            }
            (Ok(()), None) => return,
        };
        let accepted = !accept.operations.is_empty();
        self.counters.offers_accepted += u64::from(accepted);
        self.counters.offers_declined += u64::from(!accepted);
        if let Some(known) = self.framework_mut(framework) {
            known.tally.offers_accepted += u64::from(accepted);
            known.tally.offers_declined += u64::from(!accepted);
        }
        let operations = self.sound_operations(framework, &agent, accept.operations, &role);
        let mut holdings = Holdings::new(held);
        for operation in operations {
            self.carry_out(framework, &agent, operation, &mut holdings);
        }
        let (made, declined) = holdings.settle();
        self.give_back(framework, &agent, &made);
        let filters = accept.filters.unwrap_or_default();
        self.recover_resources(framework, &agent, &declined, Some(&filters));
    }

    /// All offers must be good, of this framework, of one agent and of one role.
    fn check_offers(&self, framework: &FrameworkId, ids: &[OfferId]) -> Result<(), String> {
        if ids.is_empty() {
            return Err("No offers specified".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut first: Option<&Offer> = None;
        for id in ids {
            if !seen.insert(id) {
                return Err(format!("Duplicate offer {id} in offer list"));
            }
            let Some(offer) = self.offers.get(id) else {
                return Err(format!("Offer {id} is no longer valid"));
            };
            if offer.framework_id != *framework {
                return Err(format!(
                    "Offer {id} has invalid framework {} while framework {framework} is expected",
                    offer.framework_id
                ));
            }
            let first = *first.get_or_insert(offer);
            if convert::role_of(first) != convert::role_of(offer) {
                return Err(
                    "Aggregating offers allocated to different roles is not supported".to_owned(),
                );
            }
            if first.agent_id != offer.agent_id {
                return Err(format!(
                    "Aggregated offers must belong to one single agent. Offer {id} uses agent {} and agent {}",
                    offer.agent_id, first.agent_id
                ));
            }
        }
        Ok(())
    }

    /// The offers were not good: nothing is launched.
    fn refuse_operations(
        &mut self,
        framework: &FrameworkId,
        operations: &[offer::Operation],
        error: &str,
    ) {
        let Some(known) = self.frameworks.get(framework) else {
            return;
        };
        let state = known.state_or_lost(TaskState::TaskDropped);
        let known = Arc::clone(known);
        for operation in operations {
            let tasks = launched(operation);
            if tasks.is_empty() {
                self.refuse_operation(
                    framework,
                    operation,
                    OperationState::OperationError,
                    &format!("Operation attempted with invalid offers: {error}"),
                );
            }
            let message = format!("Task launched with invalid offers: {error}");
            // A client that sends a call again, because the answer got lost, does not undo it.
            let failed = tasks
                .into_iter()
                .filter(|task| !known.has_seen(&task.task_id));
            for task in failed {
                self.fail_launch(
                    framework,
                    task,
                    state,
                    Reason::InvalidOffers,
                    message.clone(),
                );
            }
        }
    }

    /// A task that was never launched gets its last, and only, update.
    pub(crate) fn fail_launch(
        &mut self,
        framework: &FrameworkId,
        task: &TaskInfo,
        state: TaskState,
        reason: Reason,
        message: String,
    ) {
        let executor = task.executor.as_ref().map(|executor| &executor.executor_id);
        let status = Status::master(state, reason, message);
        let status = status.of(&task.task_id, Some(&task.agent_id), executor, self.now);
        self.counters.count_end(&status);
        self.tell(framework, update_event(status));
    }
}

/// The tasks an operation launches.
pub(crate) fn launched(operation: &offer::Operation) -> Vec<&TaskInfo> {
    let single = operation
        .launch
        .iter()
        .flat_map(|launch| &launch.task_infos);
    let group = operation
        .launch_group
        .iter()
        .flat_map(|group| &group.task_group.tasks);
    single.chain(group).collect()
}

/// Where an agent's API is.
pub(crate) fn agent_url(agent: &Agent, https: bool) -> Option<Url> {
    let (process, address) = agent.pid.split_once('@')?;
    let (ip, port) = address.rsplit_once(':')?;
    Some(Url {
        scheme: if https { "https" } else { "http" }.to_owned(),
        address: Address {
            hostname: Some(agent.info.hostname.clone()),
            ip: Some(ip.to_owned()),
            port: port.parse().ok()?,
        },
        path: Some(format!("/{process}")),
        query: Vec::new(),
        fragment: None,
    })
}

//! Looks over an allocator's shoulder: keeps its own, simpler books, and compares each grant.
//!
//! What it finds wrong it says to whoever holds the other end of [`Complaint`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use dcos_core::resources::{Quantities, Resources, Scalar};
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_sched::allocator::{
    AgentSpec, Allocator, Decisions, Event, Grant, Metrics, NonOffer, NotFree, Preemption, Quota,
};

/// The first thing that was wrong, and who was told to make room.
#[derive(Debug, Clone, Default)]
pub(crate) struct Complaint(
    Arc<Mutex<Option<String>>>,
    Arc<Mutex<BTreeSet<FrameworkId>>>,
);

impl Complaint {
    fn say(&self, wrong: String) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.get_or_insert(wrong);
    }

    fn gives_way(&self, framework: FrameworkId) {
        let mut all = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(framework);
    }

    /// Whether tasks of a framework were to make room for more important ones.
    pub(crate) fn has_given_way(&self, framework: &FrameworkId) -> bool {
        let all = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        all.contains(framework)
    }

    pub(crate) fn take(&self) -> Option<String> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.take()
    }
}

#[derive(Debug, Default)]
struct Place {
    total: Resources,
    held: BTreeMap<FrameworkId, Resources>,
}

/// An allocator whose grants are checked.
#[derive(Debug)]
pub(crate) struct Auditor {
    inner: Box<dyn Allocator>,
    places: BTreeMap<AgentId, Place>,
    /// Agents that must not be offered.
    idle: BTreeSet<AgentId>,
    quotas: BTreeMap<String, Quota>,
    /// What is reserved for each top-level role and those below, wherever it is.
    reserved: BTreeMap<String, Quantities>,
    /// What each top-level role and those below hold of what is not reserved.
    held: BTreeMap<String, Quantities>,
    /// Of top-level roles, if they have any.
    priorities: BTreeMap<String, i32>,
    complaint: Complaint,
}

/// The role under which all quota is counted.
fn top(role: &str) -> &str {
    role.split('/').next().unwrap_or(role)
}

impl Auditor {
    pub(crate) fn new(
        inner: Box<dyn Allocator>,
        priorities: BTreeMap<String, i32>,
        complaint: Complaint,
    ) -> Self {
        Self {
            inner,
            places: BTreeMap::new(),
            idle: BTreeSet::new(),
            quotas: BTreeMap::new(),
            reserved: BTreeMap::new(),
            held: BTreeMap::new(),
            priorities,
            complaint,
        }
    }

    /// Only the less important give way.
    fn check_preemption(&mut self, preemption: &Preemption) {
        let priority = |role: &str| self.priorities.get(top(role)).copied().unwrap_or(0);
        let (role, to) = (&preemption.role, &preemption.to_role);
        if priority(role) >= priority(to) {
            self.complaint.say(format!(
                "{role} has to make room for {to}, which is not above it"
            ));
        }
        self.complaint.gives_way(preemption.framework.clone());
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::AddAgent(spec) => {
                self.remove(&spec.id);
                self.idle.remove(&spec.id);
                self.set_total(spec);
                for (framework, used) in &spec.used {
                    self.take(&spec.id, framework, used);
                }
            }
            Event::UpdateAgent(spec) => self.set_total(spec),
            Event::RemoveAgent(id) => self.remove(id),
            Event::ActivateAgent(id) => _ = self.idle.remove(id),
            Event::DeactivateAgent(id) => _ = self.idle.insert(id.clone()),
            Event::RemoveFramework(framework) => {
                let ids: Vec<AgentId> = self.places.keys().cloned().collect();
                for id in ids {
                    let place = self.places.get_mut(&id);
                    if let Some(held) = place.and_then(|place| place.held.remove(framework)) {
                        self.count(&held, false);
                    }
                }
            }
            Event::Recover {
                framework,
                agent,
                resources,
                ..
            } => self.give_back(agent, framework, resources),
            Event::Convert {
                framework,
                agent,
                consumed,
                converted,
            } => {
                if !consumed.is_empty() {
                    self.exchange(agent, &consumed.unallocated(), &converted.unallocated());
                }
                self.give_back(agent, framework, consumed);
                self.take(agent, framework, converted);
            }
            Event::Quotas(quotas) => self.quotas.extend(quotas.clone()),
            _ => {}
        }
    }

    fn set_total(&mut self, spec: &AgentSpec) {
        let place = self.places.entry(spec.id.clone()).or_default();
        let before = std::mem::replace(&mut place.total, spec.total.clone());
        self.count_reserved(&before, false);
        self.count_reserved(&spec.total, true);
    }

    fn exchange(&mut self, agent: &AgentId, consumed: &Resources, converted: &Resources) {
        let Some(place) = self.places.get_mut(agent) else {
            return;
        };
        let before = place.total.clone();
        place.total -= consumed;
        place.total += converted;
        let after = place.total.clone();
        self.count_reserved(&before, false);
        self.count_reserved(&after, true);
    }

    fn remove(&mut self, agent: &AgentId) {
        let Some(place) = self.places.remove(agent) else {
            return;
        };
        self.count_reserved(&place.total, false);
        for held in place.held.values() {
            self.count(held, false);
        }
    }

    fn take(&mut self, agent: &AgentId, framework: &FrameworkId, resources: &Resources) {
        if let Some(place) = self.places.get_mut(agent) {
            *place.held.entry(framework.clone()).or_default() += resources;
            self.count(resources, true);
        }
    }

    fn give_back(&mut self, agent: &AgentId, framework: &FrameworkId, resources: &Resources) {
        let place = self.places.get_mut(agent);
        let Some(held) = place.and_then(|place| place.held.get_mut(framework)) else {
            return;
        };
        *held -= resources;
        self.count(resources, false);
    }

    fn count(&mut self, resources: &Resources, more: bool) {
        for (role, resources) in resources.unreserved().allocations() {
            let sum = self.held.entry(top(&role).to_owned()).or_default();
            change(sum, &resources.scalar_quantities(), more);
        }
    }

    fn count_reserved(&mut self, total: &Resources, more: bool) {
        for (role, resources) in total.reservations() {
            let sum = self.reserved.entry(top(&role).to_owned()).or_default();
            change(sum, &resources.scalar_quantities(), more);
        }
    }

    fn check(&mut self, grant: &Grant) {
        let id = &grant.agent;
        let Some(place) = self.places.get(id) else {
            let wrong = format!("{} is offered, which is not there", grant.resources);
            return self.complaint.say(wrong);
        };
        if self.idle.contains(id) {
            let wrong = format!("{} of an inactive agent {id} are offered", grant.resources);
            return self.complaint.say(wrong);
        }
        let mut rest = place.total.unshared();
        for held in place.held.values() {
            rest -= &held.unallocated();
        }
        let granted = grant.resources.unallocated().unshared();
        if !rest.contains(&granted) {
            let wrong = format!("{granted} of {id} are offered beyond what is free: {rest}");
            return self.complaint.say(wrong);
        }
        self.take(id, &grant.framework, &grant.resources);
        let role = top(&grant.role);
        let Some(quota) = self.quotas.get(role) else {
            return;
        };
        let mut consumed = self.reserved.get(role).cloned().unwrap_or_default();
        if let Some(held) = self.held.get(role) {
            consumed.add_all(held);
        }
        let fresh = grant.resources.unreserved().scalar_quantities();
        for (name, limit) in &quota.limits {
            if fresh.get(name) > Scalar::default() && consumed.get(name) > *limit {
                self.complaint.say(format!(
                    "the quota of {role} is exceeded by an offer: {consumed} of {name}:{limit}"
                ));
            }
        }
    }
}

fn change(sum: &mut Quantities, by: &Quantities, more: bool) {
    if more {
        sum.add_all(by);
    } else {
        sum.remove_all(by);
    }
}

impl Allocator for Auditor {
    fn handle(&mut self, now: Time, event: Event) {
        self.note(&event);
        self.inner.handle(now, event);
    }

    fn convert_free(
        &mut self,
        now: Time,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree> {
        self.inner.convert_free(now, agent, consumed, converted)?;
        self.exchange(agent, consumed, converted);
        Ok(())
    }

    fn poll(&mut self, now: Time) -> Decisions {
        let decisions = self.inner.poll(now);
        for grant in &decisions.grants {
            self.check(grant);
        }
        for preemption in &decisions.preemptions {
            self.check_preemption(preemption);
        }
        decisions
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        self.inner.explain(now, framework, role)
    }

    fn metrics(&self) -> Metrics {
        self.inner.metrics()
    }
}

//! Answering offers: launching what suits, declining the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{Offer, Resource};

use super::Core;
use crate::Timestamp;
use crate::deployment::Plan;
use crate::engine::{Launcher, Subscription, answer, begin, calls};
use crate::event::Event;
use crate::instance::Instance;
use crate::matching::{Match, Placed, Site, Supply, matches, places};
use crate::model::App;
use crate::queue::LaunchQueue;
use crate::simulate::{Outcome, Wish, simulate};
use crate::task::Surroundings;
use crate::{Error, PathId};

impl Core {
    pub(super) fn offers(&mut self, now: Timestamp, offers: Vec<Offer>) {
        // What else arrived before may have changed what is to be launched.
        self.settle(now);
        self.counters.offers_incoming += offers.len() as u64;
        self.subscription.offered(offers.len());
        let config = Arc::clone(&self.config);
        let answered = answer(self, now, offers, &config);
        self.counters.offers_declined += answered.declined;
        self.counters.offers_used += answered.used;
        self.counters.tasks_launched += answered.launched;
        self.counters.spoken.said(&answered.calls);
        for call in answered.calls {
            self.send(call);
        }
    }

    /// Where the instances `plan` would launch would run, if `offers` were made; see [`simulate`].
    ///
    /// # Errors
    /// [`Error::Unprocessable`]: an app has persistent volumes, which the offers do not tell of.
    pub fn simulate(
        &self,
        now: Timestamp,
        plan: &Plan,
        mut offers: Vec<Offer>,
        seed: &mut Seed,
    ) -> Result<Outcome, Error> {
        let mut wishes = Vec::new();
        for spec in plan.affected().iter().filter_map(|id| plan.target.app(id)) {
            if spec.is_resident() {
                return Err(Error::Unprocessable(format!(
                    "{} has persistent volumes: where it would run cannot be simulated",
                    spec.id
                )));
            }
            let current = || places(spec, self.instances_of(&spec.id).map(AsRef::as_ref));
            let running = u32::try_from(current().count()).unwrap_or(u32::MAX);
            wishes.push(Wish {
                spec: Arc::clone(spec),
                count: spec.instances.saturating_sub(running),
                placed: Placed::of(spec, current()),
            });
        }
        offers.sort_by(|one, other| one.hostname.cmp(&other.hostname));
        let home = self.subscription.home_region();
        Ok(simulate(now, wishes, offers, home, &self.config, seed))
    }

    fn launch_matched(
        &mut self,
        now: Timestamp,
        spec: &Arc<App>,
        site: &Site,
        found: Match,
    ) -> Vec<Operation> {
        let surroundings = self.surroundings(spec);
        let (instance, launch) = begin(now, spec, site, found, &surroundings, &mut self.seed);
        self.launched(now, spec, instance);
        vec![launch]
    }

    /// Launches what `instance` consists of, with these resources.
    pub(super) fn launch_operation(
        &self,
        spec: &App,
        instance: &Instance,
        resources: Vec<Resource>,
    ) -> Operation {
        calls::launch_instance(spec, instance, resources, &self.surroundings(spec))
    }

    /// Notes a launch that is about to be sent.
    pub(super) fn launched(&mut self, now: Timestamp, spec: &App, mut instance: Instance) {
        instance.tree = Some(self.root.version);
        self.queue.launched(now, &spec.id);
        self.queue.backoff().advance(now, spec);
        self.batch
            .events
            .push(Event::instance_changed(now, &instance));
        self.put_instance(instance, true);
    }

    fn surroundings(&self, spec: &App) -> Surroundings {
        let group = spec
            .id
            .top_level()
            .and_then(|top| self.root.groups.get(&top));
        Surroundings {
            env_vars_prefix: self.config.env_vars_prefix.clone(),
            enforce_role: group.is_some_and(|group| group.enforce_role == Some(true)),
            mesos_bridge_name: self.config.mesos_bridge_name.clone(),
            framework: self.framework_id.as_ref().map(|id| id.value.clone()),
        }
    }

    /// Apps with instances to launch and the number of those, for tests and metrics.
    pub fn waiting(&self) -> BTreeMap<PathId, u32> {
        self.queue
            .entries()
            .map(|entry| (entry.spec.id.clone(), entry.count))
            .collect()
    }
}

impl Launcher for Core {
    fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    fn queue_mut(&mut self) -> &mut LaunchQueue {
        &mut self.queue
    }

    fn placed(&mut self, spec: &Arc<App>) -> Option<&Placed> {
        if spec.is_resident() {
            return None;
        }
        let of_app = self.instances.get(&spec.id);
        let all = || of_app.into_iter().flat_map(|of_app| of_app.values());
        Some(self.places.of(spec, || all().map(AsRef::as_ref)))
    }

    fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn launch(
        &mut self,
        now: Timestamp,
        id: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let entry = self.queue.entry_mut(id)?;
        let spec = Arc::clone(&entry.spec);
        if spec.is_resident() && site.role == spec.role {
            return self.launch_resident(now, &spec, site, supply, offer);
        }
        let of_app = self.instances.get(id);
        let all = || of_app.into_iter().flat_map(|of_app| of_app.values());
        let placed = self.places.of(&spec, || all().map(AsRef::as_ref));
        match matches(&spec, site, supply, placed, &mut self.seed) {
            Err(reasons) => {
                entry.refused(now, offer, reasons);
                None
            }
            Ok(found) => {
                supply.take(&found.resources);
                Some(self.launch_matched(now, &spec, site, found))
            }
        }
    }

    fn release(&mut self, now: Timestamp, offer: &Offer) -> Vec<Operation> {
        self.give_back(now, offer)
    }
}

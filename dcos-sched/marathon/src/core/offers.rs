//! Answering offers: launching what suits, declining the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_proto::mesos::Offer;
use dcos_proto::mesos::offer::Operation;
use dcos_sched::sdk::operations;

use super::Core;
use crate::Timestamp;
use crate::deployment::Plan;
use crate::engine::{Launcher, Subscription, answer, calls};
use crate::event::Event;
use crate::instance::{Instance, InstanceId};
use crate::matching::{Match, Placed, Site, Supply, matches};
use crate::model::App;
use crate::queue::LaunchQueue;
use crate::simulate::{Outcome, Wish, simulate};
use crate::task::{Surroundings, build, build_pod};
use crate::{Error, PathId};

impl Core {
    pub(super) fn offers(&mut self, now: Timestamp, offers: Vec<Offer>) {
        // What else arrived before may have changed what is to be launched.
        self.settle(now);
        self.counters.offers_incoming += offers.len() as u64;
        let config = Arc::clone(&self.config);
        let answered = answer(self, now, offers, &config);
        self.counters.offers_declined += answered.declined;
        self.counters.offers_used += answered.used;
        self.counters.tasks_launched += answered.launched;
        for call in answered.calls {
            self.send(call);
        }
    }

    /// Sees to it that it is known where the instances of `spec` are, if its constraints ask for that.
    fn know_places(&mut self, spec: &App) {
        let version = spec.config_version();
        let known = self.placed.get(&spec.id);
        if spec.constraints.is_empty() || known.is_some_and(|(known, _)| *known == version) {
            return;
        }
        let placed = Placed::of(spec, self.current(spec).map(|instance| &instance.agent));
        self.placed.insert(spec.id.clone(), (version, placed));
    }

    /// The active instances of the configuration `spec` has.
    fn current(&self, spec: &App) -> impl Iterator<Item = &Arc<Instance>> {
        let version = spec.config_version();
        self.instances_of(&spec.id)
            .filter(move |instance| instance.is_active() && instance.config_version >= version)
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
            let running = u32::try_from(self.current(spec).count()).unwrap_or(u32::MAX);
            wishes.push(Wish {
                spec: Arc::clone(spec),
                count: spec.instances.saturating_sub(running),
                placed: Placed::of(spec, self.current(spec).map(|instance| &instance.agent)),
            });
        }
        offers.sort_by(|one, other| one.hostname.cmp(&other.hostname));
        let home = self.subscription.home_region();
        Ok(simulate(now, wishes, offers, home, &self.config, seed))
    }

    /// Notes that an instance appears or goes, for [`Core::know_places`].
    pub(super) fn note_place(
        &mut self,
        app: &PathId,
        before: Option<&Arc<Instance>>,
        after: Option<&Instance>,
    ) {
        let counts = |instance: &Instance| instance.is_active();
        match (
            before.is_some_and(|before| counts(before)),
            after.filter(|after| counts(after)),
        ) {
            (false, Some(new)) => {
                if let Some((version, placed)) = self.placed.get_mut(app)
                    && new.config_version >= *version
                {
                    placed.add(&new.agent);
                }
            }
            // What is taken away is counted anew when somebody asks.
            (true, None) => {
                self.placed.remove(app);
            }
            _ => {}
        }
    }

    fn launch_matched(
        &mut self,
        now: Timestamp,
        spec: &Arc<App>,
        site: &Site,
        found: Match,
    ) -> Vec<Operation> {
        let id = InstanceId::new(&spec.id, &self.seed.uuid());
        let instance = Instance::launched(id, spec, site.agent.clone(), found.ports, now);
        let surroundings = self.surroundings(spec);
        let launch = match spec.pod.as_deref() {
            None => calls::launch(build(spec, &instance, found.resources, &surroundings)),
            Some(pod) => {
                let (executor, tasks) =
                    build_pod(spec, pod, &instance, found.resources, &surroundings);
                operations::launch_group(executor, tasks)
            }
        };
        self.launched(now, spec, instance);
        vec![launch]
    }

    /// Notes a launch that is about to be sent.
    pub(super) fn launched(&mut self, now: Timestamp, spec: &App, instance: Instance) {
        self.queue.launched(now, &spec.id);
        self.queue.backoff().advance(now, spec);
        self.batch
            .events
            .push(Event::instance_changed(now, &instance));
        self.put_instance(instance, true);
        if self.queue.entry(&spec.id).is_none() {
            self.placed.remove(&spec.id);
        }
    }

    pub(super) fn surroundings(&self, spec: &App) -> Surroundings {
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
        let spec = Arc::clone(&self.queue.entry(id)?.spec);
        if spec.is_resident() && site.role == spec.role {
            return self.launch_resident(now, &spec, site, supply, offer);
        }
        self.know_places(&spec);
        let nowhere = Placed::default();
        let placed = self.placed.get(id).map_or(&nowhere, |(_, placed)| placed);
        match matches(&spec, site, supply, placed, &mut self.seed) {
            Err(reasons) => {
                self.queue.refused(now, id, site, offer, reasons);
                None
            }
            Ok(found) => {
                supply.take(&found.resources);
                Some(self.launch_matched(now, &spec, site, found))
            }
        }
    }

    fn release(&mut self, offer: &Offer) -> Vec<Operation> {
        self.give_back(offer)
    }
}

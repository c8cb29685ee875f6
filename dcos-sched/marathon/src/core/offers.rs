//! Answering offers: launching what suits, declining the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{Offer, Resource};
use dcos_sched::sdk::operations;

use super::{Core, Instances};
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

    /// The active instances of the configuration `spec` has.
    fn current(&self, spec: &App) -> impl Iterator<Item = &Arc<Instance>> {
        current(self.instances.get(&spec.id), spec)
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

    /// Notes that an instance appears, goes or changes.
    pub(super) fn note_place(
        &mut self,
        app: &PathId,
        before: Option<&Arc<Instance>>,
        after: Option<&Instance>,
    ) {
        let Some((version, placed)) = self.placed.get_mut(app) else {
            return;
        };
        let counts = |one: &&Instance| one.is_active() && one.config_version >= *version;
        let before = before.map(AsRef::as_ref).filter(counts);
        let after = after.filter(counts);
        if before.map(|one| &one.agent) == after.map(|one| &one.agent) {
            return;
        }
        if let Some(before) = before {
            placed.remove(&before.agent);
        }
        if let Some(after) = after {
            placed.add(&after.agent);
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
        let launch = self.launch_operation(spec, &instance, found.resources);
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
        let surroundings = self.surroundings(spec);
        match spec.pod.as_deref() {
            None => calls::launch(build(spec, instance, resources, &surroundings)),
            Some(pod) => {
                let (executor, tasks) = build_pod(spec, pod, instance, resources, &surroundings);
                operations::launch_group(executor, tasks)
            }
        }
    }

    /// Notes a launch that is about to be sent.
    pub(super) fn launched(&mut self, now: Timestamp, spec: &App, instance: Instance) {
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

/// The active ones of the instances `of_app` that have the configuration of `spec`.
fn current<'a>(
    of_app: Option<&'a Arc<Instances>>,
    spec: &App,
) -> impl Iterator<Item = &'a Arc<Instance>> {
    let version = spec.config_version();
    let all = of_app.into_iter().flat_map(|of_app| of_app.values());
    all.filter(move |instance| instance.is_active() && instance.config_version >= version)
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
        let entry = self.queue.entry_mut(id)?;
        let spec = Arc::clone(&entry.spec);
        if spec.is_resident() && site.role == spec.role {
            return self.launch_resident(now, &spec, site, supply, offer);
        }
        let nowhere = Placed::default();
        let placed = if spec.constraints.is_empty() {
            &nowhere
        } else {
            let of_app = self.instances.get(id);
            let (known, placed) = self.placed.entry(id.clone()).or_insert_with(|| {
                let placed = Placed::of(&spec, current(of_app, &spec).map(|one| &one.agent));
                (spec.config_version(), placed)
            });
            if *known != spec.config_version() {
                *known = spec.config_version();
                *placed = Placed::of(&spec, current(of_app, &spec).map(|one| &one.agent));
            }
            &*placed
        };
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

    fn release(&mut self, offer: &Offer) -> Vec<Operation> {
        self.give_back(offer)
    }
}

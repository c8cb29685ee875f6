//! Answering offers: launching what waits.

use std::sync::Arc;

use dcos_marathon::engine::{Launcher, Subscription, answer, begin};
use dcos_marathon::matching::{Placed, Places, Site, Supply, matches};
use dcos_marathon::model::App;
use dcos_marathon::queue::LaunchQueue;
use dcos_marathon::task::Surroundings;
use dcos_marathon::{PathId, Timestamp};
use dcos_proto::mesos::Offer;
use dcos_proto::mesos::offer::Operation;

use super::{JobScheduler, rows};
use crate::model::{Run, RunKey};

impl JobScheduler {
    pub(super) fn offers(&mut self, now: Timestamp, offers: Vec<Offer>) {
        // What is due by now may use them.
        self.trigger_due(now);
        self.expire(now);
        self.counters.offers_incoming += offers.len() as u64;
        self.subscription.offered(offers.len());
        let config = Arc::clone(&self.config);
        let answered = answer(self, now, offers, &config.engine);
        self.places = Places::default();
        self.counters.offers_declined += answered.declined;
        self.counters.offers_used += answered.used;
        self.counters.launched += answered.launched;
        self.counters.spoken.said(&answered.calls);
        for call in answered.calls {
            self.send(call);
        }
    }
}

impl Launcher for JobScheduler {
    fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    fn queue_mut(&mut self) -> &mut LaunchQueue {
        &mut self.queue
    }

    fn placed(&mut self, spec: &Arc<App>) -> Option<&Placed> {
        // A run has one instance, which is not placed yet.
        Some(self.places.of(spec, std::iter::empty))
    }

    fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn launch(
        &mut self,
        now: Timestamp,
        spec: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let app = Arc::clone(&self.queue.entry(spec)?.spec);
        let key = RunKey::of(spec)?;
        let run = self.run(&key).cloned()?;
        let nowhere = self.places.of(&app, std::iter::empty);
        let found = match matches(&app, site, supply, nowhere, &mut self.seed) {
            Ok(found) => found,
            Err(reasons) => {
                self.queue.refused(now, spec, offer, reasons);
                return None;
            }
        };
        supply.take(&found.resources);
        let surroundings = Surroundings {
            env_vars_prefix: self.config.engine.env_vars_prefix.clone(),
            enforce_role: false,
            mesos_bridge_name: self.config.engine.mesos_bridge_name.clone(),
            framework: None,
        };
        let (mut instance, launch) = begin(now, &app, site, found, &surroundings, &mut self.seed);
        // As long as an operator likes; constraints of a run's only instance look at none that is placed.
        instance.agent.attributes.clear();
        let launched = Run {
            instance: Some(instance),
            ..(*run).clone()
        };
        if !rows::fits(&launched) {
            self.complete(now, (*run).clone(), false);
            return None;
        }
        self.queue.launched(now, spec);
        self.waiting.remove(&key);
        self.put_run(launched);
        Some(vec![launch])
    }
}

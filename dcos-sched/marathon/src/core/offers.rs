//! Answering offers: launching what suits, declining the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_proto::mesos::{Filters, Offer, OfferId, offer};
use dcos_proto::scheduler::call;

use super::Core;
use crate::PathId;
use crate::Timestamp;
use crate::event::Event;
use crate::instance::{Condition, Goal, Instance, InstanceId};
use crate::matching::{Match, Site, Supply, matches};
use crate::model::App;
use crate::task::{Surroundings, build};

impl Core {
    pub(super) fn offers(&mut self, now: Timestamp, offers: Vec<Offer>) {
        // What else arrived before may have changed what is to be launched.
        self.settle(now);
        self.counters.offers_incoming += offers.len() as u64;
        let mut declined: Vec<OfferId> = Vec::new();
        for offer in offers {
            let offer = Arc::new(offer);
            let tasks = self.fill(now, &offer);
            if tasks.is_empty() {
                self.counters.offers_declined += 1;
                declined.push(offer.id.clone());
                continue;
            }
            self.counters.offers_used += 1;
            self.counters.tasks_launched += tasks.len() as u64;
            let launch = offer::Operation {
                r#type: Some(offer::operation::Type::Launch as i32),
                launch: Some(offer::operation::Launch { task_infos: tasks }),
                ..offer::Operation::default()
            };
            // What is left comes back at once while there is still something to launch.
            let more = !self.queue.due(now).is_empty();
            let refuse = if more {
                0.0
            } else {
                self.config.decline_offer_duration.as_secs_f64()
            };
            let accept = call::Accept {
                offer_ids: vec![offer.id.clone()],
                operations: vec![launch],
                filters: Some(Filters {
                    refuse_seconds: Some(refuse),
                }),
            };
            self.call(call::Type::Accept, |call| call.accept = Some(accept));
        }
        if !declined.is_empty() {
            let refuse = self.config.decline_offer_duration.as_secs_f64();
            let decline = call::Decline {
                offer_ids: declined,
                filters: Some(Filters {
                    refuse_seconds: Some(refuse),
                }),
            };
            self.call(call::Type::Decline, |call| call.decline = Some(decline));
        }
    }

    /// Launches as many instances as one offer holds: in turn one of each app that waits.
    fn fill(&mut self, now: Timestamp, offer: &Arc<Offer>) -> Vec<dcos_proto::mesos::TaskInfo> {
        let site = self.site(offer, now);
        let mut supply = Supply::new(&offer.resources);
        let mut tasks = Vec::new();
        let mut waiting = self.queue.due(now);
        while !waiting.is_empty() && tasks.len() < self.config.max_instances_per_offer {
            waiting.retain(|app| {
                if tasks.len() >= self.config.max_instances_per_offer {
                    return false;
                }
                let task = self.launch_one(now, app, &site, &mut supply, offer);
                let launched = task.is_some();
                tasks.extend(task);
                launched && self.queue.entry(app).is_some()
            });
        }
        tasks
    }

    fn launch_one(
        &mut self,
        now: Timestamp,
        id: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<dcos_proto::mesos::TaskInfo> {
        let spec = Arc::clone(&self.queue.entry(id)?.spec);
        // Only constraints look at other instances.
        let placed: Vec<Arc<Instance>> = self
            .instances_of(id)
            .filter(|instance| {
                !spec.constraints.is_empty()
                    && instance.is_active()
                    && instance.config_version >= spec.config_version()
            })
            .cloned()
            .collect();
        let placed: Vec<&Instance> = placed.iter().map(AsRef::as_ref).collect();
        match matches(&spec, site, supply, &placed, &mut self.seed) {
            Err(reasons) => {
                self.queue.refused(now, id, site, offer, reasons);
                None
            }
            Ok(found) => {
                supply.take(&found.resources);
                Some(self.launch(now, &spec, site, found))
            }
        }
    }

    fn launch(
        &mut self,
        now: Timestamp,
        spec: &Arc<App>,
        site: &Site,
        found: Match,
    ) -> dcos_proto::mesos::TaskInfo {
        let id = InstanceId::new(&spec.id, &self.seed.uuid());
        let instance = Instance {
            task_id: id.task(1),
            id,
            app: spec.id.clone(),
            version: spec.version,
            config_version: spec.config_version(),
            role: spec.role.clone(),
            goal: Goal::Running,
            agent: site.agent.clone(),
            condition: Condition::Provisioned,
            since: now,
            staged_at: now,
            started_at: None,
            ports: found.ports,
            addresses: Vec::new(),
            healthy: None,
            unreachable_strategy: spec.unreachable_strategy,
            health: Vec::new(),
            ready: None,
            check_result: None,
        };
        let task = build(spec, &instance, found.resources, &self.surroundings(spec));
        self.queue.launched(now, &spec.id);
        self.queue.backoff().advance(now, spec);
        self.batch
            .events
            .push(Event::instance_changed(now, &instance));
        self.put_instance(instance, true);
        task
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

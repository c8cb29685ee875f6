//! Instances that keep resources and volumes beyond their tasks.
//!
//! A first launch reserves, creates volumes and launches in one go; the instance then stays, with a task or waiting
//! for one, until it is wiped or its app goes. Nobody says whether a reservation was made, so it counts as made once
//! an agent spoke of the task that was launched with it. What is labelled as ours and of no instance we know is given
//! back whenever it is offered, which makes good whatever was lost on the way. Nobody confirms that either, so it is asked for
//! until an offer of the agent shows that it came to pass. Reservations outlive a framework that
//! somebody ended, so what its ids before name is ours as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{Offer, Resource, TaskStatus, task_status};
use dcos_sched::sdk::operations;

use super::{Core, Row, rows};
use crate::instance::{Condition, Goal, Instance, InstanceId, LocalVolume, Reservation};
use crate::matching::resident::{self, Owner, comes_back, disks, is_volume, owner, without_volume};
use crate::matching::{Match, Placed, Reason, Reasons, Site, Supply, matches};
use crate::model::App;
use crate::{PathId, Timestamp};

/// How long offers are asked for to give something back that does not come; anew with each start.
const RELEASE: Duration = Duration::from_hours(24);
/// An offer that comes sooner after something was asked for may have been made before.
const SETTLED: Duration = Duration::from_mins(1);

impl Core {
    /// Launches an instance that waits for its reservation on this agent, else a new one if no other waits.
    pub(super) fn launch_resident(
        &mut self,
        now: Timestamp,
        spec: &Arc<App>,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let framework = self.framework_id.as_ref()?.value.clone();
        let own_ids = self.own_ids();
        let waiting: Vec<Arc<Instance>> = self
            .instances_of(&spec.id)
            .filter(|instance| {
                instance.condition == Condition::Reserved && instance.goal != Goal::Decommissioned
            })
            .cloned()
            .collect();
        let mut reasons = Reasons::from(Reason::NoCorrespondingReservationFound);
        let here = waiting.iter().filter(|one| one.agent.id == site.agent.id);
        for instance in here {
            let volumes = instance.reservation.as_ref().map(|kept| &kept.volumes);
            let volumes = volumes.map(Vec::as_slice).unwrap_or_default();
            let found = comes_back(
                spec,
                site,
                &offer.resources,
                &own_ids,
                &instance.id,
                volumes,
                &mut self.seed,
            );
            match found {
                Ok(found) => return Some(self.relaunch(now, spec, instance, site, found)),
                Err(why) => reasons = why,
            }
        }
        let count = self
            .queue
            .entry(&spec.id)
            .map_or(0, |entry| entry.count as usize);
        if waiting.len() < count {
            match self.find_new(spec, site, supply) {
                Ok((found, disks)) => {
                    supply.take(&found.resources);
                    supply.take(&disks);
                    return Some(self.launch_reserving(now, spec, site, found, &disks, &framework));
                }
                Err(why) => reasons = why,
            }
        }
        self.queue.refused(now, &spec.id, offer, reasons);
        None
    }

    fn find_new(
        &mut self,
        spec: &Arc<App>,
        site: &Site,
        supply: &Supply,
    ) -> Result<(Match, Vec<Resource>), Reasons> {
        let all = self.instances_of(&spec.id);
        let placed = Placed::of(spec, all.map(|instance| &instance.agent));
        let found = matches(spec, site, supply, &placed, &mut self.seed)?;
        let mut left = supply.clone();
        left.take(&found.resources);
        let wanted: Vec<_> = spec
            .persistent_volumes()
            .map(|(_, volume)| volume)
            .collect();
        let disks = disks(&wanted, &mut left);
        let disks = disks.ok_or(Reason::InsufficientDisk)?;
        Ok((found, disks))
    }

    fn launch_reserving(
        &mut self,
        now: Timestamp,
        spec: &Arc<App>,
        site: &Site,
        found: Match,
        disks: &[Resource],
        framework: &str,
    ) -> Vec<Operation> {
        let id = InstanceId::new(&spec.id, &self.seed.uuid());
        let config = Arc::clone(&self.config);
        let owner = Owner {
            framework,
            principal: config.principal.as_deref(),
            role: &spec.role,
            instance: &id,
        };
        let mut resources: Vec<Resource> = found
            .resources
            .iter()
            .map(|each| owner.reserve(each))
            .collect();
        let disks: Vec<Resource> = disks.iter().map(|each| owner.reserve(each)).collect();
        let reserved = resources.iter().chain(&disks).cloned().collect();
        let mut local = Vec::new();
        let mut volumes = Vec::new();
        for ((path, _), disk) in spec.persistent_volumes().zip(disks) {
            let uuid = self.seed.uuid();
            let persistence_id = format!("{}#{path}#{uuid}", spec.id.safe());
            let made = resident::volume(disk, &persistence_id, path, owner.principal);
            volumes.push(made);
            local.push(LocalVolume {
                container_path: path.to_owned(),
                uuid,
                persistence_id,
            });
        }
        resources.extend(volumes.iter().cloned());
        let mut instance =
            Instance::launched(id.clone(), spec, site.agent.clone(), found.ports, now);
        instance.reservation = Some(Reservation {
            incarnation: 1,
            confirmed: false,
            volumes: local,
        });
        let launch = self.launch_operation(spec, &instance, resources);
        self.launched(now, spec, instance);
        vec![
            operations::reserve(reserved),
            operations::create(volumes),
            launch,
        ]
    }

    /// Launches the next task on what is kept for `instance`.
    fn relaunch(
        &mut self,
        now: Timestamp,
        spec: &Arc<App>,
        instance: &Instance,
        site: &Site,
        found: Match,
    ) -> Vec<Operation> {
        let kept = instance.reservation.clone().unwrap_or_default();
        let incarnation = kept.incarnation + 1;
        let id = instance.id.clone();
        let agent = site.agent.clone();
        let mut next = Instance::launched_again(id, incarnation, spec, agent, found.ports, now);
        next.reservation = Some(Reservation {
            incarnation,
            ..kept
        });
        let launch = self.launch_operation(spec, &next, found.resources);
        self.launched(now, spec, next);
        vec![launch]
    }

    /// Keeps an instance whose task is over if something is kept for it; false if not. An agent that is `gone` for good
    /// has taken everything with it.
    pub(super) fn park(&mut self, now: Timestamp, instance: &Instance, gone: bool) -> bool {
        let Some(kept) = &instance.reservation else {
            return false;
        };
        if gone {
            return false;
        }
        if !kept.confirmed {
            let agent = instance.agent.id.clone();
            self.release_later(&instance.id, Some(agent));
            return false;
        }
        if instance.goal == Goal::Decommissioned {
            self.release_later(&instance.id, None);
            return false;
        }
        let parked = Instance {
            condition: Condition::Reserved,
            since: now,
            started_at: None,
            healthy: None,
            kill: false,
            health: Vec::new(),
            ready: None,
            check_result: None,
            addresses: Vec::new(),
            ..instance.clone()
        };
        self.kills.remove(&parked.id);
        self.put_instance(parked, true);
        true
    }

    /// Whoever speaks of an instance's task as of one that was started knows that its reservation was made.
    pub(super) fn confirm(instance: &mut Instance, status: &TaskStatus) {
        use Condition::{Failed, Finished, Killing, Running, Starting};
        let Some(kept) = &mut instance.reservation else {
            return;
        };
        let condition = Condition::of(status);
        let started = matches!(condition, Starting | Running | Killing | Finished | Failed);
        let from_master = status.source() == task_status::Source::Master;
        kept.confirmed |= started || (!from_master && !condition.is_lost());
    }

    /// Everything kept for what is left of an app that is gone is given back.
    pub(super) fn release_all(&mut self, app: &PathId) {
        let waiting: Vec<InstanceId> = self
            .instances_of(app)
            .filter(|instance| instance.condition == Condition::Reserved)
            .map(|instance| instance.id.clone())
            .collect();
        for id in waiting {
            self.release_later(&id, None);
            self.remove_instance(&id);
        }
    }

    /// What is kept for an instance is given back with the next offer of it. Where nobody knows whether anything is, the
    /// next offer of its `agent` tells.
    pub(super) fn release_later(&mut self, id: &InstanceId, agent: Option<String>) {
        self.batch.rows.push(rows::release(id, agent.as_ref()));
        self.releasing.insert(id.clone(), agent);
        self.subscription.want_offers();
    }

    /// Gives back what is labelled as ours and of no instance there is.
    pub(super) fn give_back(&mut self, now: Timestamp, offer: &Offer) -> Vec<Operation> {
        let own_ids = self.own_ids();
        let mut ownerless: BTreeMap<InstanceId, Vec<&Resource>> = BTreeMap::new();
        for resource in &offer.resources {
            if let Some(id) = owner(resource, &own_ids)
                && self
                    .instance(&id)
                    .is_none_or(|one| one.reservation.is_none())
            {
                ownerless.entry(id).or_default().push(resource);
            }
        }
        let (mut all, mut asked) = (Vec::new(), BTreeSet::new());
        for (id, resources) in ownerless {
            let volumes = resources.iter().filter(|resource| is_volume(resource));
            let volumes: Vec<Resource> = volumes.map(|resource| (*resource).clone()).collect();
            if !volumes.is_empty() {
                all.push(operations::destroy(volumes));
            }
            let plain = resources.into_iter().map(|resource| {
                if is_volume(resource) {
                    without_volume(resource)
                } else {
                    resource.clone()
                }
            });
            all.push(operations::unreserve(plain.collect()));
            asked.insert(id);
        }
        // Whether it came to pass tells a later offer, if there is nothing of it any more.
        let agent = &offer.agent_id.value;
        let settled = self.releasing.iter().filter(|(id, of)| {
            let left = self.releases.of(id).map_or(RELEASE, |at| at.since(now));
            let is_late = RELEASE.saturating_sub(left) >= SETTLED;
            of.as_ref() == Some(agent) && !asked.contains(id) && is_late
        });
        let settled: Vec<InstanceId> = settled.map(|(id, _)| id.clone()).collect();
        for id in settled {
            self.released(&id);
        }
        for id in asked {
            self.releases.set(&id, Some(now + RELEASE));
            self.release_later(&id, Some(agent.clone()));
        }
        all
    }

    /// What was kept may be gone, with its agent or by an operator's hand, and is never offered then. Should it be after all
    /// it is given back as ever, whenever there are offers again.
    pub(super) fn expire_releases(&mut self, now: Timestamp) {
        if self.releases.len() < self.releasing.len() {
            for id in self.releasing.keys() {
                let at = self.releases.of(id).unwrap_or(now + RELEASE);
                self.releases.set(id, Some(at));
            }
        }
        while let Some(id) = self.releases.pop(now) {
            self.released(&id);
        }
    }

    fn released(&mut self, id: &InstanceId) {
        self.releases.set(id, None);
        if self.releasing.remove(id).is_some() {
            self.batch.rows.push(Row::delete(rows::release_key(id)));
        }
    }
}

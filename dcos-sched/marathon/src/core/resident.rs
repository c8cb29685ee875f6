//! Instances that keep resources and volumes beyond their tasks.
//!
//! A first launch reserves, creates volumes and launches in one go; the instance then stays, with a task or waiting
//! for one, until it is wiped or its app goes. Nobody says whether a reservation was made, so it counts as made once
//! an agent spoke of the task that was launched with it. What is labelled as ours and of no instance we know is given
//! back whenever it is offered, which makes good whatever was lost on the way. Nobody confirms that either, so it is asked for
//! until an offer of the agent shows that it came to pass. Reservations outlive a framework that
//! somebody ended, so what its ids before name is ours as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{Offer, Resource, TaskStatus, task_status};
use dcos_sched::sdk::operations;
use serde::{Deserialize, Serialize};

use super::{Core, Row, rows};
use crate::instance::{Condition, Goal, Instance, InstanceId, LocalVolume, Reservation};
use crate::matching::resident::{self, Owner, comes_back, disks, is_volume, owner, without_volume};
use crate::matching::{Match, Placed, Reason, Reasons, Site, Supply, matches, role_of};
use crate::model::App;
use crate::{PathId, Timestamp};

/// How long offers are asked for to give something back; anew with each start.
const RELEASE: Duration = Duration::from_hours(24);
/// An offer that comes sooner after something was asked for may have been made before.
const SETTLED: Duration = Duration::from_mins(1);

/// Something that has to be given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Told")]
pub(crate) struct Release {
    /// The role it is reserved for: it is in offers to no other one. Releases of earlier versions do not say.
    role: Option<String>,
    /// The agent it is on, once that is known, or if it is in doubt whether there is anything.
    agent: Option<String>,
    /// When it was last asked for; begins anew with each start.
    #[serde(skip)]
    since: Option<Timestamp>,
}

/// What rows tell of it; in those of earlier versions it is the agent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Agent(Option<String>),
    Both {
        role: Option<String>,
        agent: Option<String>,
    },
}

impl From<Told> for Release {
    fn from(told: Told) -> Self {
        let (role, agent) = match told {
            Told::Agent(agent) => (None, agent),
            Told::Both { role, agent } => (role, agent),
        };
        Self {
            role,
            agent,
            since: None,
        }
    }
}

impl Release {
    /// The role it is reserved for.
    pub(super) fn role(&self) -> Option<&String> {
        self.role.as_ref()
    }
}

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
            over: false,
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
            over: false,
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
            self.release_later(instance, Some(agent));
            return false;
        }
        if instance.goal == Goal::Decommissioned {
            self.release_later(instance, None);
            return false;
        }
        let kept = Reservation {
            over: instance.condition.is_final(),
            ..kept.clone()
        };
        let parked = Instance {
            condition: Condition::Reserved,
            reservation: Some(kept),
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
        let waiting: Vec<_> = self
            .instances_of(app)
            .filter(|instance| instance.condition == Condition::Reserved)
            .cloned()
            .collect();
        for instance in waiting {
            self.release_later(&instance, None);
            self.remove_instance(&instance.id);
        }
    }

    /// What is kept for an instance is given back with the next offer of it. Where nobody knows whether anything is, the
    /// next offer of its `agent` tells.
    pub(super) fn release_later(&mut self, instance: &Instance, agent: Option<String>) {
        let role = Some(instance.role.clone());
        self.release(
            &instance.id,
            Release {
                role,
                agent,
                ..Release::default()
            },
        );
    }

    fn release(&mut self, id: &InstanceId, release: Release) {
        self.batch.rows.push(rows::release(id, &release));
        self.releasing.insert(id.clone(), release);
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
        let (mut all, mut asked) = (Vec::new(), BTreeMap::new());
        for (id, resources) in ownerless {
            let role = resources.first().map(|first| role_of(first).to_owned());
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
            asked.insert(id, role);
        }
        // Whether it came to pass tells a later offer to its role, if there is nothing of it any more.
        let agent = &offer.agent_id.value;
        let of = offer
            .allocation_info
            .as_ref()
            .and_then(|info| info.role.as_ref());
        let settled = self.releasing.iter().filter(|(id, release)| {
            let is_shown = release.role.is_none() || release.role.as_ref() == of;
            let is_late = release
                .since
                .is_some_and(|since| now.since(since) >= SETTLED);
            release.agent.as_ref() == Some(agent) && is_shown && is_late && !asked.contains_key(*id)
        });
        let settled: Vec<InstanceId> = settled.map(|(id, _)| id.clone()).collect();
        for id in settled {
            self.released(&id);
        }
        for (id, role) in asked {
            self.asked_back(now, &id, role, agent);
        }
        all
    }

    /// Something was asked for. Where that was in vain before, it gets neither more time nor more offers for it.
    fn asked_back(&mut self, now: Timestamp, id: &InstanceId, role: Option<String>, agent: &str) {
        let agent = Some(agent.to_owned());
        let known = self.releasing.get_mut(id);
        if let Some(known) = known.filter(|known| known.agent == agent) {
            known.since = Some(now);
        } else if !self.unreleased.contains(id) {
            let since = Some(now);
            self.release(id, Release { role, agent, since });
            let until = self.releases.of(id).unwrap_or(now + RELEASE);
            self.releases.set(id, Some(until));
        }
    }

    /// What was kept may be gone, with its agent or by an operator's hand, and is never offered then; or it is refused to be
    /// given back. It is asked for in passing from then on, whenever there are offers again.
    pub(super) fn expire_releases(&mut self, now: Timestamp) {
        if self.releases.len() < self.releasing.len() {
            for (id, release) in &mut self.releasing {
                release.since.get_or_insert(now);
                let at = self.releases.of(id).unwrap_or(now + RELEASE);
                self.releases.set(id, Some(at));
            }
        }
        while let Some(id) = self.releases.pop(now) {
            self.released(&id);
            self.unreleased.insert(id);
        }
    }

    fn released(&mut self, id: &InstanceId) {
        self.releases.set(id, None);
        if self.releasing.remove(id).is_some() {
            self.batch.rows.push(Row::delete(rows::release_key(id)));
        }
    }
}

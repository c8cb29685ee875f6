//! Ending instances: asking, asking again, and giving up those nobody can be asked about.

use std::collections::BTreeSet;
use std::sync::Arc;

use dcos_core::time::Time;

use super::{Core, Kill, Lives};
use crate::event::Event;
use crate::instance::{Condition, Goal, Instance, InstanceId};
use crate::model::UnreachableStrategy;
use crate::{PathId, Timestamp};

impl Core {
    /// Kills instances at a user's wish, even if this Marathon ends before it could; their app replaces them. Returns
    /// those there were.
    pub fn kill(&mut self, now: Time, ids: &BTreeSet<InstanceId>) -> Vec<Arc<Instance>> {
        let found: Vec<_> = ids
            .iter()
            .filter_map(|id| self.instance(id))
            .cloned()
            .collect();
        for instance in &found {
            if !instance.kill && instance.live_tasks().next().is_some() {
                let marked = Instance {
                    kill: true,
                    ..(**instance).clone()
                };
                self.put_instance(marked, true);
            }
            self.end_instance(now.into(), instance);
        }
        found
    }

    /// Kills instances at a user's wish and forgets them at once, whatever becomes of their tasks; what was reserved for
    /// them is given back, and volumes destroyed.
    pub fn wipe(&mut self, now: Time, ids: &BTreeSet<InstanceId>) -> Vec<Arc<Instance>> {
        let found: Vec<_> = ids
            .iter()
            .filter_map(|id| self.instance(id))
            .cloned()
            .collect();
        for instance in &found {
            self.kill_call(instance);
            if instance.reservation.is_some() {
                self.release_later(instance, None);
            }
            self.expunge(now.into(), instance);
        }
        found
    }

    /// Kills instances and lowers the number of wanted ones by as many.
    ///
    /// # Errors
    /// Those of [`Core::change`].
    pub fn kill_and_scale(
        &mut self,
        now: Time,
        kill: &Kill,
        force: bool,
    ) -> Result<Arc<crate::deployment::Plan>, crate::Error> {
        let leaving: Vec<(PathId, u32)> = kill
            .iter()
            .map(|(app, ids)| {
                let staying = |id: &&InstanceId| {
                    self.instance(id).is_some_and(|instance| {
                        instance.is_active()
                            && !instance.is_leaving()
                            && instance.condition != Condition::Killing
                    })
                };
                let count = ids.iter().filter(staying).count();
                (app.clone(), u32::try_from(count).unwrap_or(u32::MAX))
            })
            .collect();
        self.change(now, force, kill, |change| {
            let mut root = change.copy();
            for (app, count) in leaving {
                if let Some(app) = root.apps.get_mut(&app).map(Arc::make_mut) {
                    app.instances = app.instances.saturating_sub(count);
                    app.version_info = None;
                }
            }
            Ok(root)
        })
    }

    /// At which task named instances are, of those that something is kept for.
    pub(super) fn lives(&self, named: &Kill) -> Lives {
        let all = named.values().flatten();
        all.filter_map(|id| Some((id.clone(), self.life(id)?)))
            .collect()
    }

    fn life(&self, id: &InstanceId) -> Option<u32> {
        let kept = self.instance(id)?.reservation.as_ref()?;
        Some(kept.incarnation)
    }

    /// Of the instances that a deployment is to kill, those that are as they were named. What was launched since on what is
    /// kept for one is not.
    pub(super) fn still_named(
        &self,
        deployment: &str,
        named: &BTreeSet<InstanceId>,
    ) -> BTreeSet<InstanceId> {
        let lives = self.deployments.get(deployment).map(|it| &it.lives);
        let is_same = |id: &&InstanceId| {
            let life = lives.and_then(|lives| lives.get(*id));
            life.is_none_or(|life| self.life(id) == Some(*life))
        };
        named.iter().filter(is_same).cloned().collect()
    }

    /// Means an instance to go, for good.
    pub(super) fn decommission(&mut self, now: Timestamp, id: &InstanceId) {
        let Some(instance) = self.instance(id).cloned() else {
            return;
        };
        // What is kept for an instance goes with its app only.
        let stays = instance.reservation.is_some() && self.root.app(&instance.app).is_some();
        let goal = if stays {
            Goal::Stopped
        } else {
            Goal::Decommissioned
        };
        if instance.goal != goal {
            let leaving = Instance {
                goal,
                ..(*instance).clone()
            };
            self.put_instance(leaving, true);
        }
        self.end_instance(now, &instance);
    }

    /// Kills an instance that failed a check too often; its app replaces it.
    pub(super) fn end_unhealthy(&mut self, now: Timestamp, id: &InstanceId) {
        if let Some(instance) = self.instance(id).cloned() {
            self.end_instance(now, &instance);
        }
    }

    /// Forgets an instance of whose task nobody will say that it is over; who listens is told that it is, as of any other.
    pub(super) fn expunge(&mut self, now: Timestamp, instance: &Instance) {
        if instance.condition != Condition::Reserved {
            self.tell_given_up(now, instance);
        }
        self.remove_instance(&instance.id);
    }

    fn tell_given_up(&mut self, now: Timestamp, instance: &Instance) {
        let killed = Instance {
            condition: Condition::Killed,
            ..instance.clone()
        };
        self.batch
            .events
            .push(Event::instance_changed(now, &killed));
    }

    /// The kill is sent with the next batch, together with all others.
    fn end_instance(&mut self, now: Timestamp, instance: &Instance) {
        if instance.condition == Condition::Reserved {
            return;
        }
        if instance.condition.is_unreachable() && instance.reservation.is_some() {
            // It is waited for, and killed when it is back.
            self.kills.add(&instance.id);
            return;
        }
        if instance.condition.is_unreachable() {
            // Nobody there to ask; should it come back it is unknown, and killed for that.
            self.expunge(now, instance);
            return;
        }
        self.kills.add(&instance.id);
    }

    /// Sends kills that were not yet sent or not confirmed, as many as may be under way.
    pub(super) fn resend_kills(&mut self, now: Timestamp) {
        if !self.subscription.is_connected() {
            return;
        }
        for id in self.kills.take_due(now, &self.config) {
            match self.instance(&id).cloned() {
                Some(instance) => self.kill_call(&instance),
                None => self.kills.remove(&id),
            }
        }
    }

    pub(super) fn next_kill(&self) -> Option<Timestamp> {
        let connected = self.subscription.is_connected();
        connected.then(|| self.kills.next()).flatten()
    }

    /// Instances whose time is up: launches nobody confirms, and agents out of reach for too long.
    pub(super) fn expire_instances(&mut self, now: Timestamp) {
        while let Some(id) = self.deadlines.pop(now) {
            let Some(instance) = self.instance(&id).cloned() else {
                continue;
            };
            match instance.condition {
                Condition::Unreachable if replaced_but_kept(&instance, now) => {
                    let mut inactive = (*instance).clone();
                    inactive.condition = Condition::UnreachableInactive;
                    self.batch
                        .events
                        .push(Event::instance_changed(now, &inactive));
                    self.put_instance(inactive, true);
                }
                Condition::Unreachable | Condition::UnreachableInactive => {
                    self.expunge(now, &instance);
                }
                Condition::Provisioned => {
                    // The launch may be on its way still, so the task is killed as well.
                    self.kill_call(&instance);
                    if self.park(now, &instance, false) {
                        self.tell_given_up(now, &instance);
                    } else {
                        self.expunge(now, &instance);
                    }
                }
                _ => self.end_instance(now, &instance),
            }
        }
    }

    /// The connection is another one, or gone: launches are given up at other times.
    pub(super) fn renew_deadlines(&mut self) {
        let all = self.instances.values().flat_map(|of_app| of_app.values());
        let launching = all.filter(|instance| instance.condition.is_launching());
        let due: Vec<_> = launching
            .map(|instance| (instance.id.clone(), self.expiry(instance)))
            .collect();
        for (id, at) in due {
            self.deadlines.set(&id, at);
        }
    }

    /// When an instance that stays as it is will be given up.
    pub(super) fn expiry(&self, instance: &Instance) -> Option<Timestamp> {
        self.subscription.expiry(instance, &self.config)
    }
}

fn replaced_but_kept(instance: &Instance, now: Timestamp) -> bool {
    match instance.unreachable_strategy {
        UnreachableStrategy::Disabled(_) => false,
        UnreachableStrategy::Enabled(unreachable) => {
            now.since(instance.since).as_secs() < unreachable.expunge_after_seconds
        }
    }
}

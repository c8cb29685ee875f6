//! Comparing wanted and actual, and closing the gap.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::tally::is_lost;
use super::waiting::lack;
use super::{Core, Row, rows};
use crate::deployment::drive::{Decision, Drive, Fresh, Member, decide};
use crate::deployment::{Action, ActionKind, Plan};
use crate::event::Event;
use crate::instance::{Goal, Instance};
use crate::model::App;
use crate::{PathId, Timestamp};

impl Core {
    /// Goes on until nothing more follows from what is known.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while !self.dirty.is_empty() {
            let dirty = std::mem::take(&mut self.dirty);
            // What belongs to a deployment is seen to by it, even if it ends meanwhile.
            let (mut touched, mut deployed) = (Vec::new(), BTreeSet::new());
            for (id, running) in &self.deployments {
                let before = deployed.len();
                deployed.extend(dirty.intersection(running.plan.affected()).cloned());
                if deployed.len() > before {
                    touched.push(id.clone());
                }
            }
            for id in touched {
                self.advance(now, &id, &dirty);
            }
            for app in dirty.difference(&deployed) {
                self.hold(now, app);
            }
        }
        self.resend_kills(now);
        self.ask_for_offers(now);
    }

    /// Takes a deployment as far as it gets. Something happened to the apps in `dirty`; the others of a step are as they
    /// were when they were last looked at, so that a step costs what happens, however many apps it is for.
    fn advance(&mut self, now: Timestamp, id: &str, dirty: &BTreeSet<PathId>) {
        while let Some(running) = self.deployments.get_mut(id) {
            let (plan, step) = (Arc::clone(&running.plan), running.step);
            let known = running.open.take();
            let Some(actions) = plan.steps.get(step) else {
                self.finish(now, &plan);
                return;
            };
            let afresh = known.is_none();
            let mut open = known.unwrap_or_default();
            let apps = if afresh { plan.affected() } else { dirty };
            for app in apps {
                let Some(action) = plan.action(step, app) else {
                    continue;
                };
                if self.carry_out(now, &plan, action) {
                    open.remove(app);
                } else {
                    open.insert(app.clone());
                }
            }
            for app in apps {
                self.hold_other(now, &plan, step, app);
            }
            let done = open.is_empty();
            if let Some(running) = self.deployments.get_mut(id) {
                running.open = (!done).then_some(open);
                running.step += usize::from(done);
            }
            if !done {
                return;
            }
            self.batch
                .events
                .push(Event::step_success(now, &plan, actions));
            if let Some(next) = plan.steps.get(step + 1) {
                self.batch
                    .events
                    .push(Event::deployment_info(now, &plan, next));
            }
        }
    }

    fn finish(&mut self, now: Timestamp, plan: &Arc<Plan>) {
        self.deployments.remove(&plan.id);
        self.limits.set(&plan.id, None);
        self.batch
            .rows
            .push(Row::delete(rows::deployment_key(&plan.id)));
        for id in plan.affected() {
            self.places.forget(id);
            if plan.target.app(id).is_none() {
                self.batch.events.push(Event::app_terminated(now, id));
                self.queue.backoff().reset(id);
            }
        }
        self.batch.events.push(Event::deployment_success(now, plan));
        self.dirty.extend(plan.affected().iter().cloned());
    }

    /// An app of the plan that is not in the current step: one still to come keeps what it had, one done keeps what it got.
    /// One to come may have had its turn in an earlier life, when it was known that those before it are healthy: what it got
    /// then stays.
    fn hold_other(&mut self, now: Timestamp, plan: &Plan, step: usize, id: &PathId) {
        let turn = (0..plan.steps.len()).find(|at| {
            let action = plan.action(*at, id);
            action.is_some_and(|action| action.kind != ActionKind::Start)
        });
        match turn {
            Some(turn) if turn > step => {
                if let Some(keep) = plan.original.app(id) {
                    let there = u32::try_from(self.tally(id).staying).unwrap_or(u32::MAX);
                    self.scale(now, keep, keep.instances.max(there));
                }
            }
            Some(turn) if turn < step => {
                if let Some(keep) = plan.target.app(id) {
                    self.scale(now, keep, keep.instances);
                }
            }
            _ => {}
        }
    }

    /// Does what is to do next for an action; true if it is done.
    fn carry_out(&mut self, now: Timestamp, plan: &Plan, action: &Action) -> bool {
        let id = &action.app;
        match (&action.kind, plan.target.app(id)) {
            (ActionKind::Start, _) => true,
            (ActionKind::Scale { to, kill, fresh }, Some(spec)) => {
                let spec = Arc::clone(spec);
                // Taking back brings a definition that was in use before.
                let since = if spec.version == plan.version {
                    Timestamp::default()
                } else {
                    plan.version
                };
                let fresh = Fresh {
                    version: spec.version,
                    since,
                    count: *fresh,
                };
                self.drop_outdated(now, &spec);
                let kill = &self.still_named(&plan.id, kill);
                self.drive(
                    now,
                    id,
                    Drive::Scale {
                        spec: &spec,
                        to: *to,
                        kill,
                        fresh,
                    },
                    Some(&spec),
                )
            }
            (ActionKind::Restart, Some(spec)) => {
                let spec = Arc::clone(spec);
                self.drop_outdated(now, &spec);
                self.drive(now, id, Drive::Restart { spec: &spec }, Some(&spec))
            }
            _ => self.stop(now, id),
        }
    }

    /// Instances of another configuration that do not count, because their agents are out of reach, must not count again
    /// when these return: what takes their place is there already.
    pub(super) fn drop_outdated(&mut self, now: Timestamp, spec: &App) {
        if self.tally(&spec.id).lost == 0 {
            return;
        }
        let outdated: Vec<_> = self
            .instances_of(&spec.id)
            .filter(|instance| {
                is_lost(instance) && instance.config_version != spec.config_version()
            })
            .map(|instance| instance.id.clone())
            .collect();
        for instance in outdated {
            self.decommission(now, &instance);
        }
    }

    pub(super) fn stop(&mut self, now: Timestamp, id: &PathId) -> bool {
        self.queue.drop_app(id);
        let lost: Vec<_> = self
            .instances_of(id)
            .filter(|instance| instance.condition.is_unreachable())
            .cloned()
            .collect();
        for instance in lost {
            if instance.reservation.is_some() {
                self.release_later(&instance, None);
            }
            self.expunge(now, &instance);
        }
        self.release_all(id);
        // Those that were to come back, had the app been scaled up again.
        let stopped = self
            .instances_of(id)
            .filter(|instance| instance.goal == Goal::Stopped);
        let stopped: Vec<_> = stopped.map(|instance| instance.id.clone()).collect();
        for instance in stopped {
            self.decommission(now, &instance);
        }
        self.drive(now, id, Drive::Stop, None)
    }

    /// Keeps an app outside of any deployment at the number of instances that is wanted.
    fn hold(&mut self, now: Timestamp, id: &PathId) {
        match self.root.app(id).cloned() {
            Some(spec) => self.scale(now, &spec, spec.instances),
            None => _ = self.stop(now, id),
        }
    }

    /// Keeps an app at so many instances.
    fn scale(&mut self, now: Timestamp, spec: &Arc<App>, to: u32) {
        let drive = Drive::Scale {
            spec,
            to,
            kill: &BTreeSet::new(),
            fresh: Fresh::default(),
        };
        self.drive(now, &spec.id, drive, Some(spec));
    }

    fn drive(
        &mut self,
        now: Timestamp,
        id: &PathId,
        drive: Drive<'_>,
        spec: Option<&Arc<App>>,
    ) -> bool {
        let decision = match drive {
            Drive::Scale {
                to, kill, fresh, ..
            } if kill.is_empty() && self.fits(id, to) => {
                let filled = self.filled(id, to, fresh);
                debug_assert!(to > 64 || filled == decide(drive, &self.members(id)));
                filled
            }
            _ => decide(drive, &self.members(id)),
        };
        for instance in &decision.kill {
            self.decommission(now, instance);
        }
        if let Some(spec) = spec
            && self.queue.want(now, spec, decision.launch)
        {
            self.subscription.want_offers();
        }
        decision.done
    }

    fn members(&self, id: &PathId) -> Vec<Member> {
        self.instances_of(id)
            .filter(|instance| instance.is_active())
            .map(|instance| Member::of(instance, self.spec_of(instance)))
            .collect()
    }

    /// Whether scaling to `to` needs no victims.
    fn fits(&self, id: &PathId, to: u32) -> bool {
        self.tally(id).staying <= to as usize
    }

    /// What [`decide`] says when nobody has to go, without looking at each instance.
    fn filled(&mut self, id: &PathId, to: u32, fresh: Fresh) -> Decision {
        if fresh.count > 0 {
            self.watch(id, fresh);
        }
        let tally = self.tally(id);
        let staying = u32::try_from(tally.staying).unwrap_or(u32::MAX);
        Decision {
            kill: Vec::new(),
            launch: to.saturating_sub(staying),
            done: staying == to
                && tally.leaving == 0
                && fresh.is_reached(tally.own, tally.own_ready),
        }
    }

    /// Running, passing all checks, and admitted by the readiness check if there is one.
    pub(super) fn is_ready(&self, instance: &Instance) -> bool {
        lack(instance, self.spec_of(instance)).is_none()
    }

    /// The definition an instance was launched with.
    fn spec_of(&self, instance: &Instance) -> Option<&App> {
        let spec = self.history.spec(&instance.app, instance.version);
        spec.map(AsRef::as_ref)
    }

    pub(super) fn instances_of(&self, id: &PathId) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances
            .get(id)
            .into_iter()
            .flat_map(|instances| instances.values())
    }
}

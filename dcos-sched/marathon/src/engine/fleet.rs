//! Services and their instances, for an orchestrator with an idea of its own of which there shall be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{FrameworkId, Offer, TaskStatus};
use dcos_proto::scheduler::{Call, event};
use serde::Serialize;

use super::{
    Deadlines, Kills, Launcher, Machine, News, Registration, Subscription, answer, begin, calls,
};
use crate::config::Config;
use crate::core::{Batch, Input, RecoverError, Row};
use crate::deployment::drive::{Decision, Member};
use crate::event::Event;
use crate::health::executor_found;
use crate::instance::{Condition, Goal, Instance, InstanceId, task_instance};
use crate::matching::{Placed, Places, Site, Supply, matches};
use crate::model::{App, UnreachableStrategy};
use crate::normalize::{self, Rules};
use crate::queue::LaunchQueue;
use crate::task::Surroundings;
use crate::{Error, PathId, Timestamp};

/// The instances of one service.
type Instances = BTreeMap<InstanceId, Arc<Instance>>;

/// Keeps track of instances from their launches to their ends: takes in what the master says, launches what is queued where
/// constraints allow it, kills until that is confirmed, gives up what nobody hears of, and tells the rows by which all of
/// that survives its process.
///
/// A [`Director`] says what is to follow, with [`decide`] or otherwise; [`Directed`] by one it is a [`Machine`], which
/// [`serve`](crate::shell::serve) runs.
///
/// Services are apps and pods without persistent volumes, whose checks executors perform; [`Fleet::read`] refuses others.
/// Marathon itself is made of the same parts, but for this one: it has groups, versions, plans and volumes to see to.
///
/// ```
/// use std::sync::Arc;
///
/// use dcos_core::{seed::Seed, time::Time};
/// use dcos_marathon::deployment::drive::{Drive, decide};
/// use dcos_marathon::engine::Fleet;
/// use dcos_marathon::{Config, Timestamp};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Arc::new(Config::default());
/// let document = br#"{"id": "/web", "cmd": "serve", "instances": 2}"#;
/// let app = Fleet::read(&config, document)?;
/// let mut fleet = Fleet::recover(config, "mine/", Seed::new(1), [])?;
/// let app = fleet.version_of(Timestamp::from_millis(1), app);
/// fleet.take(Time::from_secs(1), |fleet, now| {
///     let decision = decide(Drive::Restart { spec: &app }, &fleet.members(&app.id));
///     assert_eq!((decision.launch, decision.done), (2, false));
///     fleet.apply(now, &app, &decision);
/// });
/// assert_eq!(fleet.queue().entry(&app.id).map(|entry| entry.count), Some(2));
/// # Ok(()) }
/// ```
///
/// [`decide`]: crate::deployment::drive::decide
#[derive(Debug)]
pub struct Fleet {
    config: Arc<Config>,
    prefix: &'static str,
    seed: Seed,
    framework_id: Option<String>,
    /// What instances were launched with, and how many of them.
    specs: BTreeMap<(PathId, Timestamp), (Arc<App>, usize)>,
    /// What each service was last to be, until it is stopped: delays are of a version, also while no instance of it lives.
    latest: BTreeMap<PathId, Arc<App>>,
    instances: BTreeMap<PathId, Arc<Instances>>,
    queue: LaunchQueue,
    kills: Kills,
    deadlines: Deadlines<InstanceId>,
    subscription: Subscription,
    places: Places,
    batch: Batch,
}

impl Fleet {
    /// Reads a service, as Marathon does, and completes it; [`Fleet::version_of`] gives it a version.
    ///
    /// # Errors
    /// Those of [`normalize::read_app`] and [`normalize::create`]; [`Error::Unprocessable`] for what a fleet does not see to, and
    /// for what the store would not take.
    pub fn read(config: &Config, document: &[u8]) -> Result<App, Error> {
        let role = &config.mesos_role;
        let rules = Rules {
            features: config.features.clone(),
            default_network_name: config.default_network_name.clone(),
            mesos_bridge_name: config.mesos_bridge_name.clone(),
            default_role: role.clone(),
            valid_roles: [role.clone()].into(),
        };
        let update = normalize::read_app(document)?;
        let app = normalize::create(update, &PathId::root(), &rules, Timestamp::default())?;
        let refused = |what: &str| {
            let id = &app.id;
            Err(Error::Unprocessable(format!("{id} has {what}")))
        };
        if app.is_resident() {
            return refused("persistent volumes, which nobody here would give back");
        }
        let checks = &app.health_checks;
        if !app.readiness_checks.is_empty() || checks.iter().any(|check| !check.protocol.is_mesos())
        {
            return refused("checks that its executor does not perform");
        }
        Row::put(String::new(), &app).check()?;
        Ok(app)
    }

    /// The version of `app` of which there are instances or which was applied last, or else a new one, later than those;
    /// the number of instances is no part of it.
    pub fn version_of(&self, now: Timestamp, app: App) -> Arc<App> {
        let known = || self.versions(&app.id).chain(self.latest.get(&app.id));
        let same = known().find(|spec| spec.same_config(&app));
        let last = known().map(|spec| spec.version).max();
        let (version, version_info) = match same {
            Some(known) => (known.version, known.version_info),
            None => (last.map_or(now, |last| now.max(last.next())), None),
        };
        Arc::new(App {
            version,
            version_info,
            ..app
        })
    }

    /// Whether there are instances with the configuration of `app`.
    pub fn runs(&self, app: &App) -> bool {
        self.versions(&app.id).any(|spec| spec.same_config(app))
    }

    fn versions(&self, app: &PathId) -> impl Iterator<Item = &Arc<App>> {
        let versions = self
            .specs
            .range((app.clone(), Timestamp::from_millis(i64::MIN))..);
        let app = app.clone();
        let own = versions.take_while(move |((id, _), _)| *id == app);
        own.map(|(_, (spec, _))| spec)
    }

    /// The services of which there are instances, or that were applied and not stopped since.
    pub fn services(&self) -> impl Iterator<Item = &PathId> {
        let all: BTreeSet<_> = self.instances.keys().chain(self.latest.keys()).collect();
        all.into_iter()
    }

    /// A fleet that knows what `rows` tell, all with `prefix`; none is a first start.
    ///
    /// # Errors
    /// [`RecoverError`]: nothing is guessed and nothing dropped.
    pub fn recover<'a>(
        config: Arc<Config>,
        prefix: &'static str,
        seed: Seed,
        rows: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, RecoverError> {
        let mut fleet = Self {
            config,
            prefix,
            seed,
            framework_id: None,
            specs: BTreeMap::new(),
            latest: BTreeMap::new(),
            instances: BTreeMap::new(),
            queue: LaunchQueue::default(),
            kills: Kills::default(),
            deadlines: Deadlines::default(),
            subscription: Subscription::default(),
            places: Places::default(),
            batch: Batch::default(),
        };
        let mut instances: Vec<Instance> = Vec::new();
        let mut registered = false;
        for (key, value) in rows {
            let rest = key.strip_prefix(prefix).unwrap_or_default();
            match rest.split_once('/').map_or(rest, |(kind, _)| kind) {
                "framework" => {
                    registered = true;
                    let id: String = RecoverError::read(key, value)?;
                    fleet.framework_id = Some(id).filter(|id| !id.is_empty());
                }
                "spec" => {
                    let spec: Arc<App> = Arc::new(RecoverError::read(key, value)?);
                    let name = (spec.id.clone(), spec.version);
                    fleet.specs.insert(name, (spec, 0));
                }
                "instance" => instances.push(RecoverError::read(key, value)?),
                _ => return Err(RecoverError::Unknown(key.to_owned())),
            }
        }
        if !registered && !instances.is_empty() {
            return Err(RecoverError::NoFramework);
        }
        for mut instance in instances {
            let Some(spec) = fleet.spec_of(&instance).cloned() else {
                return Err(RecoverError::Dangling(fleet.instance_key(&instance.id)));
            };
            // What its executor said of it still holds: it speaks up only when that changes.
            if let Some(healthy) = instance.healthy {
                let (at, cause) = (instance.since, "failed before this start");
                executor_found(&mut instance.health, &spec, at, healthy, cause);
            }
            if instance.is_leaving() {
                fleet.kills.add(&instance.id);
            }
            fleet.put(instance, &spec);
        }
        // What was read is there already.
        fleet.batch = Batch::default();
        Ok(fleet)
    }

    /// The instances of a service.
    pub fn instances(&self, app: &PathId) -> impl Iterator<Item = &Arc<Instance>> {
        let of_app = self.instances.get(app);
        of_app.into_iter().flat_map(|of_app| of_app.values())
    }

    /// What waits to be launched, and why it does.
    pub fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    /// What there is of a service, for [`decide`](crate::deployment::drive::decide).
    pub fn members(&self, app: &PathId) -> Vec<Member> {
        self.instances(app)
            .filter(|instance| instance.is_active())
            .map(|instance| Member::of(instance, self.spec_of(instance).map(AsRef::as_ref)))
            .collect()
    }

    /// Has instances killed, and as many of `spec` launched as the decision says.
    pub fn apply(&mut self, now: Timestamp, spec: &Arc<App>, decision: &Decision) {
        decision.kill.iter().for_each(|id| self.kill(id));
        self.latest.insert(spec.id.clone(), Arc::clone(spec));
        if self.queue.want(now, spec, decision.launch) {
            self.subscription.want_offers();
        }
    }

    /// Ends a service: nothing of it is launched, what there is of it killed, and its delays are forgotten.
    pub fn stop(&mut self, app: &PathId) {
        self.latest.remove(app);
        self.queue.drop_app(app);
        self.queue.backoff().reset(app);
        self.places.forget(app);
        // Of those that are given up as unreachable, too.
        let staying = self.instances(app).filter(|one| !one.is_leaving());
        let staying: Vec<_> = staying.map(|one| one.id.clone()).collect();
        for id in staying {
            self.kill(&id);
        }
    }

    /// Takes in what happened. What follows from it comes with [`Fleet::take`].
    pub fn handle(&mut self, now: Time, input: Input) {
        let now = Timestamp::from(now);
        match input {
            Input::Event(event) => self.event(now, *event),
            Input::Disconnected => {
                if self.subscription.end() {
                    self.renew_deadlines();
                }
            }
            Input::FrameworkEnded => {
                self.framework_id = None;
                self.put_framework("");
            }
            Input::Probed(_) | Input::Tick => {}
        }
    }

    /// What follows from everything taken in since the last time, from time passing, and from what is decided now.
    pub fn take(&mut self, now: Time, settle: impl FnOnce(&mut Self, Timestamp)) -> Batch {
        let now = Timestamp::from(now);
        self.expire(now);
        self.queue.backoff().sweep(now);
        settle(self, now);
        if self.subscription.is_connected() {
            for id in self.kills.take_due(now, &self.config) {
                match self.instance(&id).cloned() {
                    Some(instance) => self.send(calls::kill_instance(&instance)),
                    None => self.kills.remove(&id),
                }
            }
        }
        if self.subscription.reconciliation_is_due(now, &self.config) {
            self.reconcile(now);
        }
        let ask = self.subscription.ask(now, &self.queue, &self.config, false);
        self.send(ask);
        std::mem::take(&mut self.batch)
    }

    /// When time alone has consequences next.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let connected = self.subscription.is_connected();
        let moments = [
            self.subscription.next_deadline(&self.config),
            self.queue.next_due(Timestamp::from(now)),
            self.deadlines.next(),
            connected.then(|| self.kills.next()).flatten(),
        ];
        moments.into_iter().flatten().min().map(Time::from)
    }

    /// The picture of this moment.
    pub fn view(&self) -> FleetView {
        FleetView {
            framework_id: self.framework_id.clone(),
            roles: [self.config.mesos_role.clone()].into(),
            instances: self.instances.clone(),
        }
    }

    fn event(&mut self, now: Timestamp, event: dcos_proto::scheduler::Event) {
        match News::of(event) {
            Some(News::Subscribed(subscribed)) => self.subscribed(now, &subscribed),
            Some(News::Offers(offers)) => {
                let config = Arc::clone(&self.config);
                let answered = answer(self, now, offers, &config);
                self.send(answered.calls);
            }
            Some(News::Status(status)) => {
                self.status(now, &status);
                self.send(calls::acknowledge(&status));
            }
            Some(News::Refused(reason)) => self.batch.fatal = Some(reason),
            Some(News::Message(_)) | None => {}
        }
    }

    fn subscribed(&mut self, now: Timestamp, subscribed: &event::Subscribed) {
        let waits = !self.queue.is_empty();
        self.subscription.begin(now, subscribed, waits);
        let id = &subscribed.framework_id.value;
        if self.framework_id.as_ref() != Some(id) {
            self.framework_id = Some(id.clone());
            self.put_framework(id);
        }
        self.kills.forget_sent();
        self.read_at(now);
        self.renew_deadlines();
        self.reconcile(now);
    }

    /// What an earlier life wrote may be of another clock, see [`Instance::told_at`].
    fn read_at(&mut self, now: Timestamp) {
        let ahead = self.all().filter(|one| one.since > now);
        for one in ahead.cloned().collect::<Vec<_>>() {
            let mut told = (*one).clone();
            told.told_at(now);
            let at = self.subscription.expiry(&told, &self.config);
            self.deadlines.set(&told.id, at);
            let of_app = self.instances.entry(told.app.clone()).or_default();
            Arc::make_mut(of_app).insert(told.id.clone(), Arc::new(told));
        }
    }

    fn status(&mut self, now: Timestamp, status: &TaskStatus) {
        let condition = Condition::of(status);
        let id = task_instance(&status.task_id.value);
        let known = id.and_then(|id| self.instance(&id)).cloned();
        let Some(before) = known.filter(|one| one.has_task(&status.task_id.value)) else {
            // A task that is not ours, or not any more: if it runs, it must go.
            if !condition.is_terminal() && !condition.is_unreachable() {
                let kill = calls::kill(status.task_id.clone(), status.agent_id.clone());
                self.send([kill]);
            }
            return;
        };
        // A launch on its way is unknown to a master that is asked about it too early. A kill follows its launch on the
        // same way, so what is unknown to it then never got there.
        if condition == Condition::Unknown
            && before.condition == Condition::Provisioned
            && !self.kills.contains(&before.id)
        {
            return;
        }
        // Nobody is left to confirm a kill on an agent out of reach; should it come back it is unknown, and killed for that.
        if condition == Condition::Unreachable && before.is_leaving() {
            self.remove(&before.id);
            return;
        }
        let Some(spec) = self.spec_of(&before).cloned() else {
            return;
        };
        let mut next = (*before).clone();
        let condition = if next.tasks.is_empty() {
            condition
        } else {
            next.note_task(now, status, condition)
        };
        next.note(now, status, condition);
        if let Some(healthy) = status.healthy.filter(|_| next.tasks.is_empty()) {
            next.healthy = Some(healthy);
            let cause = status.message.as_deref().unwrap_or_default();
            executor_found(&mut next.health, &spec, now, healthy, cause);
        }
        let news = next.condition != before.condition;
        if news {
            let event = Event::instance_changed(now, &next);
            self.batch.events.push(event);
        }
        if condition.is_terminal() {
            if condition.backs_off() {
                self.queue.backoff().grow(now, &spec);
            }
            self.remove(&next.id);
            return;
        }
        if news && condition.is_under_way() && condition != Condition::Killing {
            self.queue.backoff().advance(now, &spec);
        }
        if next != *before {
            self.put(next, &spec);
        }
    }

    /// Instances whose time is up: launches nobody confirms, and agents out of reach for too long.
    fn expire(&mut self, now: Timestamp) {
        while let Some(id) = self.deadlines.pop(now) {
            let Some(instance) = self.instance(&id).cloned() else {
                continue;
            };
            let kept = match instance.unreachable_strategy {
                UnreachableStrategy::Disabled(_) => false,
                UnreachableStrategy::Enabled(unreachable) => {
                    now.since(instance.since).as_secs() < unreachable.expunge_after_seconds
                }
            };
            match (instance.condition, self.spec_of(&instance).cloned()) {
                (Condition::Unreachable, Some(spec)) if kept => {
                    let mut inactive = (*instance).clone();
                    inactive.condition = Condition::UnreachableInactive;
                    self.put(inactive, &spec);
                }
                (Condition::Unreachable | Condition::UnreachableInactive, _) => self.remove(&id),
                (Condition::Provisioned, _) => {
                    // The launch may be on its way still, so the task is killed as well.
                    self.send(calls::kill_instance(&instance));
                    self.remove(&id);
                }
                _ => {
                    self.kill(&id);
                    // Its kill is sent until it is confirmed, which has no end.
                    self.deadlines.set(&id, None);
                }
            }
        }
    }

    /// Has an instance killed, until it is gone.
    pub fn kill(&mut self, id: &InstanceId) {
        let Some(instance) = self.instance(id).cloned() else {
            return;
        };
        if instance.condition.is_unreachable() {
            self.remove(id);
            return;
        }
        self.kills.add(id);
        if let Some(spec) = self.spec_of(&instance).cloned() {
            let leaving = Instance {
                goal: Goal::Decommissioned,
                ..(*instance).clone()
            };
            self.put(leaving, &spec);
        }
    }

    fn put(&mut self, instance: Instance, spec: &Arc<App>) {
        let id = instance.id.clone();
        let row = Row::put(self.instance_key(&id), &instance);
        self.batch.rows.push(row);
        let at = self.subscription.expiry(&instance, &self.config);
        self.deadlines.set(&id, at);
        let before = self.instance(&id).cloned();
        self.places.note(before.as_deref(), Some(&instance));
        if before.is_none() {
            let name = (instance.app.clone(), instance.version);
            let (_, count) = self.specs.entry(name).or_insert_with(|| {
                let key = spec_key(self.prefix, spec);
                self.batch.rows.push(Row::put(key, spec.as_ref()));
                (Arc::clone(spec), 0)
            });
            *count += 1;
        }
        let of_app = self.instances.entry(instance.app.clone()).or_default();
        Arc::make_mut(of_app).insert(id, Arc::new(instance));
    }

    fn remove(&mut self, id: &InstanceId) {
        self.kills.remove(id);
        self.deadlines.set(id, None);
        let app = id.app();
        let Some(of_app) = self.instances.get_mut(&app) else {
            return;
        };
        let gone = Arc::make_mut(of_app).remove(id);
        if of_app.is_empty() {
            self.instances.remove(&app);
            self.places.forget(&app);
        }
        let Some(gone) = gone else {
            return;
        };
        self.places.note(Some(&gone), None);
        self.batch.rows.push(Row::delete(self.instance_key(id)));
        let name = (gone.app.clone(), gone.version);
        if let Some((spec, count)) = self.specs.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                let key = spec_key(self.prefix, spec);
                self.batch.rows.push(Row::delete(key));
                self.specs.remove(&name);
            }
        }
    }

    fn put_framework(&mut self, id: &str) {
        let row = Row::put(format!("{}framework", self.prefix), &id);
        self.batch.rows.push(row);
    }

    fn instance_key(&self, id: &InstanceId) -> String {
        format!("{}instance/{id}", self.prefix)
    }

    fn instance(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(&id.app())?.get(id)
    }

    /// What an instance was launched with.
    fn spec_of(&self, instance: &Instance) -> Option<&Arc<App>> {
        let spec = self.specs.get(&(instance.app.clone(), instance.version));
        spec.map(|(spec, _)| spec)
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values().flat_map(|of_app| of_app.values())
    }

    /// The connection is another one, or gone: launches are given up at other times.
    fn renew_deadlines(&mut self) {
        let launching = self.all().filter(|one| one.condition.is_launching());
        let due: Vec<_> = launching
            .map(|one| (one.id.clone(), self.subscription.expiry(one, &self.config)))
            .collect();
        for (id, at) in due {
            self.deadlines.set(&id, at);
        }
    }

    fn reconcile(&mut self, now: Timestamp) {
        let all = self.instances.values().flat_map(|of_app| of_app.values());
        let calls = self.subscription.reconcile(now, all.map(AsRef::as_ref));
        self.send(calls);
    }

    fn send(&mut self, calls: impl IntoIterator<Item = Call>) {
        let id = self.framework_id.clone().map(FrameworkId::from);
        let calls = calls.into_iter().map(|call| Call {
            framework_id: id.clone(),
            ..call
        });
        self.batch.calls.extend(calls);
    }
}

fn spec_key(prefix: &str, spec: &App) -> String {
    format!("{prefix}spec{}@{}", spec.id, spec.version)
}

impl Launcher for Fleet {
    fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    fn queue_mut(&mut self) -> &mut LaunchQueue {
        &mut self.queue
    }

    fn placed(&mut self, spec: &Arc<App>) -> Option<&Placed> {
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
        app: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let spec = Arc::clone(&self.queue.entry(app)?.spec);
        let of_app = self.instances.get(app);
        let all = || of_app.into_iter().flat_map(|of_app| of_app.values());
        let placed = self.places.of(&spec, || all().map(AsRef::as_ref));
        let found = match matches(&spec, site, supply, placed, &mut self.seed) {
            Ok(found) => found,
            Err(reasons) => {
                self.queue.refused(now, app, offer, reasons);
                return None;
            }
        };
        supply.take(&found.resources);
        let surroundings = Surroundings {
            env_vars_prefix: self.config.env_vars_prefix.clone(),
            enforce_role: false,
            mesos_bridge_name: self.config.mesos_bridge_name.clone(),
            framework: self.framework_id.clone(),
        };
        let (instance, launch) = begin(now, &spec, site, found, &surroundings, &mut self.seed);
        self.queue.launched(now, app);
        self.queue.backoff().advance(now, &spec);
        let event = Event::instance_changed(now, &instance);
        self.batch.events.push(event);
        self.put(instance, &spec);
        Some(vec![launch])
    }
}

/// What decides for a [`Fleet`].
pub trait Director: Send + 'static {
    /// Compares what is with what should be, whenever something may have happened. Being asked twice must do no harm.
    fn direct(&mut self, fleet: &mut Fleet, now: Timestamp);
}

/// A fleet and what decides for it.
#[derive(Debug)]
pub struct Directed<D> {
    /// The fleet.
    pub fleet: Fleet,
    /// What decides.
    pub director: D,
}

impl<D: Director> Machine for Directed<D> {
    type View = FleetView;

    fn handle(&mut self, now: Time, input: Input) {
        self.fleet.handle(now, input);
    }

    fn take(&mut self, now: Time) -> Batch {
        let director = &mut self.director;
        self.fleet
            .take(now, |fleet, now| director.direct(fleet, now))
    }

    fn next_deadline(&self, now: Time) -> Option<Time> {
        self.fleet.next_deadline(now)
    }

    fn view(&self, _: Time) -> FleetView {
        self.fleet.view()
    }
}

/// What readers see of a [`Fleet`].
#[derive(Clone, Debug)]
pub struct FleetView {
    framework_id: Option<String>,
    roles: BTreeSet<String>,
    instances: BTreeMap<PathId, Arc<Instances>>,
}

impl FleetView {
    /// All instances, by service.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values().flat_map(|of_app| of_app.values())
    }
}

impl Serialize for FleetView {
    /// As the list of all instances.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.instances().map(AsRef::as_ref))
    }
}

impl Registration for FleetView {
    fn framework_id(&self) -> Option<&str> {
        self.framework_id.as_deref()
    }

    fn roles(&self) -> &BTreeSet<String> {
        &self.roles
    }
}

#[cfg(test)]
mod tests;

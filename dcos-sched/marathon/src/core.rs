//! The state machine: everything Marathon knows and every decision it takes.
//!
//! [`Core`] has no clock, no randomness of its own and does no I/O. What happens goes in through
//! [`Core::handle`] and the methods API calls use; what follows comes out as one [`Batch`]: rows for the
//! store, and the calls and events that may leave once those rows are durable. If the store fails, the
//! core must be thrown away and recovered from what is there.
//!
//! Every decision about instances is taken in one place, `settle`: wanted and actual are compared for
//! the apps something happened to. A crash between any two steps is therefore no special case.

mod change;
mod counters;
mod health;
mod history;
mod kill;
mod limit;
mod offers;
mod recover;
mod registration;
mod resident;
pub(crate) mod rows;
mod settle;
mod status;
mod tally;
mod versions;
mod view;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::Call;
use imbl::OrdMap;

use crate::config::Config;
use crate::deployment::{Findings, Plan};
use crate::engine::{Deadlines, Kills, Machine, News, Subscription, calls};
use crate::event::Event;
use crate::instance::{Instance, InstanceId};
use crate::matching::Places;
use crate::model::RootGroup;
use crate::queue::LaunchQueue;
use crate::{PathId, Timestamp};

use resident::Release;
use tally::Tally;
use versions::ServicePorts;

pub use change::{Change, Kill};
pub use counters::Counters;
pub use health::Probe;
pub use history::History;
pub(crate) use history::TreeChange;
pub use limit::{Limit, Overdue};
pub use recover::RecoverError;
pub use rows::{PREFIX, Row};
pub(crate) use versions::RESTART;
pub use view::{DeploymentView, QueueItem, TaskFailure, View};
pub use waiting::{Obstacle, WaitingFor, lack};

/// What happens to the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// Something the master says.
    Event(Box<dcos_proto::scheduler::Event>),
    /// The connection to the master is gone.
    Disconnected,
    /// Somebody ended the framework with all its tasks: the next subscription makes it another one.
    FrameworkEnded,
    /// A check of an instance came to an end.
    Probed(Probe),
    /// Nothing but that time passes.
    Tick,
}

/// What follows: first the rows, then, once they are durable, the rest in this order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// For the store, in one transaction.
    pub rows: Vec<Row>,
    /// For the master.
    pub calls: Vec<Call>,
    /// For listeners.
    pub events: Vec<Event>,
    /// The framework was removed or refused; going on makes no sense.
    pub fatal: Option<String>,
}

impl Batch {
    /// Whether nothing follows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.calls.is_empty()
            && self.events.is_empty()
            && self.fatal.is_none()
    }
}

/// A deployment under way.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    plan: Arc<Plan>,
    /// The step it is at; found anew after a crash.
    step: usize,
    /// The instances named to go, kept with the deployment.
    kill: Kill,
    /// At which task those of them were then that something is kept for, likewise: later ones were not named.
    lives: Lives,
    /// What it found, kept with the deployment.
    found: Findings,
    /// When it must have ended.
    limit: Option<Limit>,
    /// Apps that are not yet where the step leads; `None` until all of them were looked at.
    open: Option<BTreeSet<PathId>>,
}

impl Running {
    /// One that begins; where it is, is found out by comparing.
    pub(crate) fn begun(plan: Arc<Plan>, (kill, lives): (Kill, Lives), found: Findings) -> Self {
        Self {
            plan,
            step: 0,
            kill,
            lives,
            found,
            limit: None,
            open: None,
        }
    }
}

/// How many tasks were launched on what is kept for instances.
type Lives = BTreeMap<InstanceId, u32>;

/// The instances of one app.
type Instances = BTreeMap<InstanceId, Arc<Instance>>;

/// Everything Marathon knows.
#[derive(Debug)]
pub struct Core {
    config: Arc<Config>,
    seed: Seed,
    framework_id: Option<FrameworkId>,
    /// Ids it had before somebody ended it: what is reserved in their name is still ours.
    former_ids: Vec<String>,
    /// The tree users want.
    root: Arc<RootGroup>,
    history: Arc<History>,
    deployments: BTreeMap<String, Running>,
    instances: OrdMap<PathId, Arc<Instances>>,
    /// The same in numbers.
    tallies: HashMap<PathId, Tally>,
    queue: LaunchQueue,
    failures: OrdMap<PathId, Arc<TaskFailure>>,
    /// Kills under way.
    kills: Kills,
    /// When launches and agents out of reach are given up.
    deadlines: Deadlines<InstanceId>,
    /// When deployments must have ended.
    limits: Deadlines<String>,
    subscription: Subscription,
    /// Where the instances of apps with constraints are; from the first look at an offer to the end of the app's next
    /// deployment or of its last instance.
    places: Places,
    /// How many apps, and how many instances, use resources of each role.
    roles: BTreeMap<String, usize>,
    /// How often apps have each service port.
    service_ports: ServicePorts,
    /// Instances that failed a check too often and are to be killed.
    unhealthy: BTreeSet<InstanceId>,
    /// Instances that are gone and of which something is still kept on an agent.
    releasing: BTreeMap<InstanceId, Release>,
    /// When they are not waited for any longer.
    releases: Deadlines<InstanceId>,
    /// Those that were waited for in vain.
    unreleased: BTreeSet<InstanceId>,
    /// Apps something happened to.
    dirty: BTreeSet<PathId>,
    batch: Batch,
    counters: Counters,
}

impl Core {
    /// The framework's id, once a master gave one.
    pub fn framework_id(&self) -> Option<&FrameworkId> {
        self.framework_id.as_ref()
    }

    /// All roles there are apps or instances of, or something to give back, and the default one.
    pub fn roles(&self) -> BTreeSet<String> {
        let used = self.roles.keys();
        let kept = self.releasing.values().filter_map(Release::role);
        let all = used.chain(kept).chain([&self.config.mesos_role]);
        all.cloned().collect()
    }

    /// Takes in what happened. What follows from it comes with [`Core::take`].
    pub fn handle(&mut self, now: Time, input: Input) {
        let now = Timestamp::from(now);
        match input {
            Input::Event(event) => self.event(now, *event),
            Input::Disconnected => self.disconnected(now),
            Input::FrameworkEnded => self.framework_ended(),
            Input::Probed(probe) => self.probed(now, probe),
            Input::Tick => {}
        }
    }

    /// What follows from everything taken in since the last time, and from time passing.
    ///
    /// Taking in much before asking costs less than asking each time: wanted and actual are then
    /// compared once.
    pub fn take(&mut self, now: Time) -> Batch {
        let now = Timestamp::from(now);
        self.tick(now);
        self.settle(now);
        if self.end_overdue(now) {
            self.settle(now);
        }
        std::mem::take(&mut self.batch)
    }

    /// When time alone has consequences next.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        let now = Timestamp::from(now);
        let moments = [
            self.subscription.next_deadline(&self.config),
            self.queue.next_due(now),
            self.next_kill(),
            self.deadlines.next(),
            self.limits.next(),
            self.releases.next(),
        ];
        moments.into_iter().flatten().min().map(Time::from)
    }

    fn tick(&mut self, now: Timestamp) {
        self.expire_instances(now);
        self.expire_releases(now);
        self.queue.backoff().sweep(now);
        for id in std::mem::take(&mut self.unhealthy) {
            self.end_unhealthy(now, &id);
        }
        if self.subscription.reconciliation_is_due(now, &self.config) {
            self.reconcile(now);
        }
    }

    fn event(&mut self, now: Timestamp, event: dcos_proto::scheduler::Event) {
        match News::of(event) {
            Some(News::Subscribed(subscribed)) => self.subscribed(now, &subscribed),
            Some(News::Offers(offers)) => self.offers(now, offers),
            Some(News::Status(status)) => self.status(now, &status),
            Some(News::Message(message)) => {
                let (executor, agent) = (&message.executor_id.value, &message.agent_id.value);
                let event = Event::framework_message(now, executor, agent, &message.data);
                self.batch.events.push(event);
            }
            Some(News::Refused(reason)) => self.batch.fatal = Some(reason),
            None => {}
        }
    }

    #[cfg(test)]
    fn all_instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances
            .values()
            .flat_map(|instances| instances.values())
    }

    fn instance(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(&id.app())?.get(id)
    }

    /// Sets an instance; it is kept durably unless only unkept fields changed.
    fn put_instance(&mut self, instance: Instance, durably: bool) {
        if durably {
            self.batch.rows.push(rows::instance(&instance));
        }
        self.dirty.insert(instance.app.clone());
        self.deadlines.set(&instance.id, self.expiry(&instance));
        let before = self.instance(&instance.id).cloned();
        self.places.note(before.as_deref(), Some(&instance));
        self.count(before.as_deref(), Some(&instance));
        if let Some(before) = before {
            self.forget_role(&before.role);
        }
        *self.roles.entry(instance.role.clone()).or_default() += 1;
        let of_app = self.instances.entry(instance.app.clone()).or_default();
        Arc::make_mut(of_app).insert(instance.id.clone(), Arc::new(instance));
    }

    fn remove_instance(&mut self, id: &InstanceId) {
        let app = id.app();
        self.kills.remove(id);
        self.deadlines.set(id, None);
        self.batch.rows.push(Row::delete(rows::instance_key(id)));
        if let Some(of_app) = self.instances.get_mut(&app) {
            let gone = Arc::make_mut(of_app).remove(id);
            if of_app.is_empty() {
                self.instances.remove(&app);
                self.places.forget(&app);
            }
            if let Some(gone) = gone {
                self.places.note(Some(&gone), None);
                self.count(Some(&gone), None);
                self.forget_role(&gone.role);
            }
        }
        self.dirty.insert(app);
    }

    /// Counts what the apps of a new tree use that those of the one before did not.
    fn count_apps(&mut self, before: &RootGroup, after: &RootGroup) {
        self.service_ports.follow(before, after);
        for (_, old, new) in before.differences(after) {
            if let Some(new) = new {
                *self.roles.entry(new.role.clone()).or_default() += 1;
            }
            if let Some(old) = old {
                self.forget_role(&old.role);
            }
        }
    }

    fn forget_role(&mut self, role: &str) {
        if let Some(count) = self.roles.get_mut(role) {
            *count -= 1;
            if *count == 0 {
                self.roles.remove(role);
            }
        }
    }

    fn send(&mut self, call: Call) {
        let framework_id = self.framework_id.clone();
        self.batch.calls.push(Call {
            framework_id,
            ..call
        });
    }

    fn kill_call(&mut self, instance: &Instance) {
        for call in calls::kill_instance(instance) {
            self.send(call);
        }
    }
}

impl Machine for Core {
    type View = View;

    fn handle(&mut self, now: Time, input: Input) {
        Self::handle(self, now, input);
    }

    fn take(&mut self, now: Time) -> Batch {
        Self::take(self, now)
    }

    fn next_deadline(&self, now: Time) -> Option<Time> {
        Self::next_deadline(self, now)
    }

    fn view(&self, now: Time) -> View {
        Self::view(self, now)
    }
}

#[cfg(test)]
mod tests;

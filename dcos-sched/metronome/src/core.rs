//! The state machine: every job, its schedule and its runs, and every decision about them.
//!
//! [`JobScheduler`] has no clock, no randomness of its own and does no I/O. What happens goes in through
//! [`Machine::handle`] and the methods API calls use; what follows comes out of [`Machine::take`]: rows for the store, and
//! the calls that may leave once those rows are durable. A run, the moment that triggered it and the place of its task are
//! rows before anybody hears of them, so that a crash neither repeats nor loses one.
//!
//! What is due next is found by its moment, whatever the number of jobs.

mod dependencies;
mod jobs;
mod offers;
mod recover;
pub(crate) mod rows;
mod runs;
mod status;
mod triggers;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::Timestamp;
use dcos_marathon::core::{Batch, Input};
use dcos_marathon::engine::{Deadlines, Kills, Machine, News, Subscription, calls};
use dcos_marathon::instance::{Instance, InstanceId};
use dcos_marathon::matching::Places;
use dcos_marathon::queue::LaunchQueue;
use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::{Call, Event, call, event};

use crate::config::Config;
use crate::model::{Job, JobId, RunKey};
use crate::ordered::Ordered;

pub use rows::PREFIX;
pub use view::{Counters, View};

/// How many moments that have come are dealt with before requests get their turn: what follows is one transaction, of which
/// a store takes only so much, and nobody is answered meanwhile.
const MOST_AT_ONCE: usize = 500;

/// Everything Metronome knows.
#[derive(Debug)]
pub struct JobScheduler {
    config: Arc<Config>,
    seed: Seed,
    framework_id: Option<FrameworkId>,
    jobs: Ordered<JobId, Arc<Job>>,
    /// The jobs that depend on each job.
    children: BTreeMap<JobId, BTreeSet<JobId>>,
    /// When each job runs next by itself.
    triggers: Deadlines<JobId>,
    /// When something about a run is due: it must have started, or its launch is given up.
    deadlines: Deadlines<RunKey>,
    /// Runs that wait to be launched.
    queue: LaunchQueue,
    /// The same for readers.
    waiting: Ordered<RunKey, ()>,
    /// Their constraints, made ready once for the offers at hand.
    places: Places,
    /// The latest moment by which things are put in order: see [`JobScheduler::place`].
    latest: Timestamp,
    /// Runs that go on.
    active: usize,
    kills: Kills,
    /// What runs although its run is over, until it is gone.
    leftovers: BTreeMap<InstanceId, Instance>,
    subscription: Subscription,
    roles: Arc<BTreeSet<String>>,
    batch: Batch,
    counters: Counters,
}

impl JobScheduler {
    /// A job.
    pub fn job(&self, id: &JobId) -> Option<&Arc<Job>> {
        self.jobs.get(id)
    }

    /// How many jobs there are.
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// The place of what happens now in the order of things: this moment, or a later one if a clock was ahead before.
    fn place(&mut self, now: Timestamp) -> Timestamp {
        self.latest = now.max(self.latest.next());
        self.latest
    }

    fn put_job(&mut self, job: Job) {
        self.jobs.insert(job.id().clone(), Arc::new(job));
    }

    fn send(&mut self, call: Call) {
        let framework_id = self.framework_id.clone();
        self.batch.calls.push(Call {
            framework_id,
            ..call
        });
    }

    fn event(&mut self, now: Timestamp, event: Event) {
        match News::of(event) {
            Some(News::Subscribed(subscribed)) => self.subscribed(now, &subscribed),
            Some(News::Offers(offers)) => self.offers(now, offers),
            Some(News::Status(status)) => self.status(now, &status),
            Some(News::Refused(reason)) => self.batch.fatal = Some(reason),
            Some(News::Message(_)) | None => {}
        }
    }

    fn subscribed(&mut self, now: Timestamp, subscribed: &event::Subscribed) {
        let waits = self.queue.entries().next().is_some();
        self.subscription.begin(now, subscribed, waits);
        if self.framework_id.as_ref() != Some(&subscribed.framework_id) {
            let id = subscribed.framework_id.clone();
            self.batch.rows.push(rows::framework(&id.value));
            self.framework_id = Some(id);
        }
        self.kills.forget_sent();
        self.renew_deadlines();
        self.reconcile(now);
    }

    fn reconcile(&mut self, now: Timestamp) {
        let runs = self.jobs.values().flat_map(|job| job.runs.values());
        let instances = runs.filter_map(|run| run.instance.as_ref());
        let instances = instances.chain(self.leftovers.values());
        for call in self.subscription.reconcile(now, instances) {
            self.send(call);
        }
    }

    fn tick(&mut self, now: Timestamp) {
        self.trigger_due(now);
        self.expire(now);
        if self.subscription.is_connected() {
            for id in self.kills.take_due(now, &self.config.engine) {
                match self.leftovers.get(&id).map(calls::kill_instance) {
                    Some(calls) => calls.into_iter().for_each(|call| self.send(call)),
                    None => self.kills.remove(&id),
                }
            }
        }
        if self
            .subscription
            .reconciliation_is_due(now, &self.config.engine)
        {
            self.reconcile(now);
        }
        if let Some(call) = self
            .subscription
            .ask(now, &self.queue, &self.config.engine, false)
        {
            match call.r#type() {
                call::Type::Revive => self.counters.revives += 1,
                _ => self.counters.suppresses += 1,
            }
            self.send(call);
        }
    }
}

impl Machine for JobScheduler {
    type View = View;

    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Event(event) => self.event(Timestamp::from(now), *event),
            Input::Disconnected => {
                if self.subscription.end() {
                    self.renew_deadlines();
                }
            }
            Input::FrameworkEnded => {
                // An id of nothing, not no id: runs without would be refused.
                self.framework_id = None;
                self.batch.rows.push(rows::framework(""));
            }
            Input::Probed(_) | Input::Tick => {}
        }
    }

    fn take(&mut self, now: Time) -> Batch {
        self.tick(Timestamp::from(now));
        std::mem::take(&mut self.batch)
    }

    fn next_deadline(&self, now: Time) -> Option<Time> {
        let connected = self.subscription.is_connected();
        let moments = [
            self.triggers.next(),
            self.deadlines.next(),
            self.queue.next_due(Timestamp::from(now)),
            self.subscription.next_deadline(&self.config.engine),
            connected.then(|| self.kills.next()).flatten(),
        ];
        moments.into_iter().flatten().min().map(Time::from)
    }

    fn view(&self, _: Time) -> View {
        self.picture()
    }
}

#[cfg(test)]
mod tests;

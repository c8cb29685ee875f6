//! What runs services or jobs: a real core, the rows it wrote, and a restless user of it.
//!
//! Things are wanted, changed and deleted while other things break; afterwards what is under way has
//! to end, then everything is deleted. Such a process may be killed at any write to its store, right
//! before it or right after, as well as between two of them: what it decided is then lost with it, or
//! durable and not yet told to anybody.

pub(crate) mod apps;
pub(crate) mod jobs;
mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_marathon::Config;
use dcos_marathon::core::{Batch, Input, RecoverError};
use dcos_marathon::engine::{Machine, Registration as _};
use dcos_marathon::shell::framework_info;
use dcos_proto::mesos::offer::Operation;
use dcos_proto::mesos::{AgentId, FrameworkId, TaskId};
use dcos_proto::scheduler::{Call, Event, call, event};
use dcos_sched::sdk::operations::unreserve;

use crate::kept;
use crate::party::Party;
use crate::sabotage::Sabotage;

/// Whoever uses a service, and judges what it writes.
pub(crate) trait User: fmt::Debug {
    /// The service's core.
    type Machine: Machine + fmt::Debug;

    /// The service's name.
    const NAME: &'static str;

    /// The settings of its framework.
    fn config(&self) -> &Config;

    /// The core that `rows` tell of.
    fn recover<'a>(
        &self,
        seed: Seed,
        now: Time,
        rows: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self::Machine, RecoverError>;

    /// Wants something else.
    fn change_of_mind(&mut self, machine: &mut Self::Machine, now: Time, seed: &mut Seed);

    /// What the surroundings of the service do by themselves, and when they do it next.
    fn surround(&mut self, _: &mut Self::Machine, _: Time, _is_calm: bool) -> Time {
        Time::MAX
    }

    /// Wants nothing any more but that what is under way ends; says whether it has, `waited` long.
    fn wait(&mut self, machine: &mut Self::Machine, now: Time, waited: Duration) -> bool;

    /// Whether agents keep something for it, so that it is to be compared with what should be kept.
    fn compares(&self) -> bool {
        false
    }

    /// Whether what agents keep is what should be.
    fn compare(&self, _found: &kept::All) -> Result<(), String> {
        Ok(())
    }

    /// Deletes everything.
    fn leave(&mut self, machine: &mut Self::Machine, now: Time) -> Result<(), String>;

    /// Whether everything is gone.
    fn has_left(&self, machine: &Self::Machine, now: Time) -> bool;

    /// A new life of the service has begun.
    fn begin(&mut self, machine: &Self::Machine, now: Time) -> Result<(), String>;

    /// The master says something to the service.
    fn hears(&mut self, _: &Event) {}

    /// The service made rows durable, all at once, and lets out what follows.
    fn judge(&mut self, now: Time, batch: &Batch) -> Result<(), String>;

    /// What is still open, for people.
    fn open(&self, machine: &Self::Machine, now: Time) -> String;
}

/// A service: its core, which may be killed, and its rows, which stay.
#[derive(Debug)]
pub(crate) struct Service<U: User> {
    user: U,
    core: U::Machine,
    rows: BTreeMap<String, Vec<u8>>,
    stream: Option<String>,
    /// The roles it subscribed in.
    roles: BTreeSet<String>,
    /// When it subscribes again, if it is not subscribed.
    retry: Option<Time>,
    /// When its user wants something next.
    whim: Time,
    /// When its surroundings do something next.
    beat: Time,
    phase: Phase,
    fuse: Option<Fuse>,
    complaint: Option<String>,
    sabotage: Option<Sabotage>,
    seed: Seed,
    lives: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The user changes his mind now and then.
    Restless,
    /// What is under way has to end, or to say what it waits for.
    Waiting(Time),
    /// It has; what agents keep for it has to become what it should be.
    Comparing(Time),
    /// Everything was deleted, and has to go.
    Leaving,
}

/// How long it may take until nothing is kept any more for what is gone.
const LEFT_OVER: Duration = Duration::from_mins(15);

/// At which write the process is killed.
#[derive(Debug, Clone, Copy)]
enum Fuse {
    /// So many more writes happen, then it is killed: right after the next one if `is_written`, else right before.
    Lit { writes: u32, is_written: bool },
    /// It does nothing any more.
    Burnt,
}

impl<U: User> Service<U> {
    pub(crate) fn new(user: U, now: Time, seed: &Seed, sabotage: Option<Sabotage>) -> Self {
        let seed = seed.stream(U::NAME);
        let rows = BTreeMap::new();
        Self {
            core: recover(&user, &rows, &seed, now),
            user,
            rows,
            stream: None,
            roles: BTreeSet::new(),
            retry: Some(now),
            whim: now,
            beat: now,
            phase: Phase::Restless,
            fuse: None,
            complaint: None,
            sabotage,
            seed,
            lives: 0,
        }
    }

    fn complain(&mut self, wrong: &str) {
        self.complaint
            .get_or_insert_with(|| format!("{}: {wrong}", U::NAME));
    }

    /// Makes durable what the core decided, then lets it out.
    fn settle(&mut self, now: Time) -> Vec<Call> {
        if matches!(self.fuse, Some(Fuse::Burnt)) {
            return Vec::new();
        }
        let mut batch = self.core.take(now);
        if let Some(sabotage) = self.sabotage {
            spoil(&mut batch, sabotage, &mut self.seed);
        }
        let mut is_killed = false;
        if let Some(Fuse::Lit { writes, is_written }) = self.fuse
            && !batch.rows.is_empty()
        {
            is_killed = writes == 0;
            self.fuse = Some(match writes.checked_sub(1) {
                Some(writes) => Fuse::Lit { writes, is_written },
                None => Fuse::Burnt,
            });
            if is_killed && !is_written {
                let is_told = self.sabotage == Some(Sabotage::Rash) && self.stream.is_some();
                return if is_told { batch.calls } else { Vec::new() };
            }
        }
        if let Err(wrong) = self.user.judge(now, &batch) {
            self.complain(&wrong);
        }
        let is_torn = is_killed && self.sabotage == Some(Sabotage::Torn);
        let kept = batch.rows.len() / if is_torn { 2 } else { 1 };
        for row in batch.rows.into_iter().take(kept) {
            match row.value {
                Some(value) => _ = self.rows.insert(row.key, value),
                None => _ = self.rows.remove(&row.key),
            }
        }
        if let Some(fatal) = batch.fatal {
            self.complain(&format!("gives up: {fatal}"));
        }
        if is_killed || self.stream.is_none() {
            // Without a stream there is nobody to call; the core is made to live with that.
            return Vec::new();
        }
        batch.calls
    }

    fn subscribe(&mut self, now: Time) -> Call {
        let view = self.core.view(now);
        self.roles.clone_from(view.roles());
        let id = view.framework_id().map(FrameworkId::from);
        let info = framework_info(self.user.config(), id.clone(), view.roles().clone());
        Call {
            framework_id: id,
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: info,
                ..call::Subscribe::default()
            }),
            ..Call::default()
        }
    }

    fn use_it(&mut self, now: Time, is_calm: bool) {
        self.whim = now + Duration::from_millis(self.seed.range(2000..20_000));
        let (user, core) = (&mut self.user, &mut self.core);
        match self.phase {
            Phase::Restless if is_calm => self.phase = Phase::Waiting(now),
            Phase::Restless => user.change_of_mind(core, now, &mut self.seed),
            Phase::Waiting(since) => {
                if user.wait(core, now, now.since(since)) {
                    self.phase = if user.compares() {
                        Phase::Comparing(now)
                    } else {
                        Phase::Leaving
                    };
                    self.whim = now;
                }
            }
            Phase::Comparing(_) => {}
            Phase::Leaving => {
                if !user.has_left(core, now)
                    && let Err(wrong) = user.leave(core, now)
                {
                    self.complain(&format!("nothing can be deleted: {wrong}"));
                }
            }
        }
    }
}

impl<U: User> Service<U> {
    /// Subscribes anew if it needs a role it is not subscribed in, as `shell/link.rs` of Marathon does. The master learns of
    /// it by the next subscription.
    fn follow_roles(&mut self, now: Time) {
        if self.stream.is_some() && !self.core.view(now).roles().is_subset(&self.roles) {
            self.disconnected(now);
        }
    }
}

impl<U: User> Party for Service<U> {
    fn stream(&self) -> Option<&str> {
        self.stream.as_deref()
    }

    /// As `shell/link.rs` of Marathon, which Metronome has too.
    fn is_patient(&self) -> bool {
        true
    }

    fn next_deadline(&self, now: Time) -> Time {
        let own = self.retry.unwrap_or(Time::MAX).min(self.whim);
        let own = own.min(self.beat);
        self.core
            .next_deadline(now)
            .map_or(own, |core| core.min(own))
    }

    fn tick(&mut self, now: Time, is_calm: bool) -> Vec<Call> {
        let mut calls = Vec::new();
        if self.retry.is_some_and(|retry| retry.is_due(now)) {
            self.retry = Some(now + Duration::from_secs(10));
            calls.push(self.subscribe(now));
        }
        if self.whim.is_due(now) {
            self.use_it(now, is_calm);
        }
        if self.beat.is_due(now) {
            self.beat = self.user.surround(&mut self.core, now, is_calm);
        }
        self.core.handle(now, Input::Tick);
        calls.extend(self.settle(now));
        self.follow_roles(now);
        calls
    }

    fn subscribed(&mut self, _now: Time, stream: String) {
        self.stream = Some(stream);
        self.retry = None;
    }

    fn refused(&mut self, now: Time) {
        if self.stream.is_none() {
            self.retry = Some(now + Duration::from_secs(1));
        }
    }

    fn disconnected(&mut self, now: Time) {
        self.stream = None;
        self.retry = Some(now + Duration::from_millis(self.seed.range(500..3000)));
        self.core.handle(now, Input::Disconnected);
        self.settle(now);
    }

    fn crash(&mut self, now: Time) {
        self.lives += 1;
        let seed = self.seed.stream(&format!("life {}", self.lives));
        self.core = recover(&self.user, &self.rows, &seed, now);
        if let Err(wrong) = self.user.begin(&self.core, now) {
            self.complain(&wrong);
        }
        self.fuse = None;
        self.stream = None;
        self.retry = Some(now + Duration::from_millis(self.seed.range(500..10_000)));
        // By another clock.
        (self.whim, self.beat) = (now, now);
    }

    fn light(&mut self, writes: u32, is_written: bool) -> bool {
        // What was killed is not brought back by another fuse.
        if self.is_burnt() {
            return false;
        }
        self.fuse = Some(Fuse::Lit { writes, is_written });
        true
    }

    fn is_burnt(&self) -> bool {
        matches!(self.fuse, Some(Fuse::Burnt))
    }

    fn event(&mut self, now: Time, event: &Arc<Event>) -> Vec<Call> {
        if event.r#type() == event::Type::Error {
            self.complain(&format!("the master says ERROR: {:?}", event.error));
        }
        self.user.hears(event);
        self.core
            .handle(now, Input::Event(Box::new((**event).clone())));
        self.settle(now)
    }

    fn is_content(&self, now: Time) -> bool {
        self.phase == Phase::Leaving && self.user.has_left(&self.core, now)
    }

    fn idle_offer(&self, _agent: &AgentId) -> Option<&Resources> {
        None
    }

    fn compares(&self) -> bool {
        matches!(self.phase, Phase::Comparing(_))
    }

    fn compare(&mut self, now: Time, found: &kept::All) {
        let Phase::Comparing(since) = self.phase else {
            return;
        };
        match self.user.compare(found) {
            Ok(()) => (self.phase, self.whim) = (Phase::Leaving, now),
            Err(wrong) if now.since(since) > LEFT_OVER => self.complain(&wrong),
            Err(_) => {}
        }
    }

    fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    fn open(&self, now: Time) -> String {
        format!(
            "{} {:?}, {}",
            U::NAME,
            self.phase,
            self.user.open(&self.core, now)
        )
    }
}

/// What a broken service does with what follows.
fn spoil(batch: &mut Batch, sabotage: Sabotage, seed: &mut Seed) {
    match sabotage {
        Sabotage::Mute if seed.chance(0.1) => _ = batch.events.pop(),
        Sabotage::Hoarder => {
            let accepts = batch.calls.iter_mut().filter_map(|it| it.accept.as_mut());
            for accept in accepts {
                let gives = |it: &Operation| it.destroy.is_some() || it.unreserve.is_some();
                accept.operations.retain(|operation| !gives(operation));
            }
        }
        Sabotage::Spender => {
            let accepts = batch.calls.iter_mut().filter_map(|it| it.accept.as_mut());
            for accept in accepts {
                let reserved = accept
                    .operations
                    .iter()
                    .filter_map(|it| it.reserve.as_ref());
                let reserved: Vec<_> = reserved.map(|it| it.resources.clone()).collect();
                accept
                    .operations
                    .extend(reserved.into_iter().map(unreserve));
            }
        }
        Sabotage::Trigger if seed.chance(0.1) => {
            let accepts = batch.calls.iter().filter_map(|call| call.accept.as_ref());
            let operations = accepts.flat_map(|accept| &accept.operations);
            let launches = operations.filter_map(|operation| operation.launch.as_ref());
            let tasks = launches.flat_map(|launch| &launch.task_infos);
            let kills: Vec<Call> = tasks.map(|task| kill(task.task_id.clone())).collect();
            batch.calls.extend(kills);
        }
        _ => {}
    }
}

fn kill(task_id: TaskId) -> Call {
    Call {
        r#type: Some(call::Type::Kill.into()),
        kill: Some(call::Kill {
            task_id,
            ..call::Kill::default()
        }),
        ..Call::default()
    }
}

fn recover<U: User>(
    user: &U,
    rows: &BTreeMap<String, Vec<u8>>,
    seed: &Seed,
    now: Time,
) -> U::Machine {
    let rows = rows.iter().map(|(key, value)| (&**key, &**value));
    user.recover(seed.clone(), now, rows)
        .expect("what a service wrote, it reads")
}

//! A scripted framework: it wants a number of tasks done, and does them over if they get lost.
//!
//! Some of its tasks end by themselves, others only when they are killed; it asks for that until
//! they have ended. What it is told, it judges: see [`Framework::judge`].

mod calls;
mod keeping;

use dcos_core::states::is_terminal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{AgentId, FrameworkId, Offer, TaskState, TaskStatus};
use dcos_proto::scheduler::{Call, Event, event};

use crate::guard::GUEST;
use crate::party::Party;
use crate::plan::Plan;
use calls::launch;
use keeping::Asked;
pub(crate) use keeping::{keep, volume_on};

/// How often it asks what became of its tasks.
const RECONCILE: Duration = Duration::from_secs(30);
/// How long it waits before it subscribes again.
const RETRY: Duration = Duration::from_secs(1);
/// How long it waits for a task to end before it asks again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a task may be out of reach before it is given up: its agent may be gone for good.
const GIVE_UP: Duration = Duration::from_mins(20);
/// The roles frameworks have, in turn.
pub(crate) const ROLES: [&str; 4] = ["sim", "eng", "eng/dev", "ops"];

/// What the framework knows of one task.
#[derive(Debug, Clone)]
struct Known {
    agent: AgentId,
    state: TaskState,
    /// Whether it has to be killed to end.
    forever: bool,
    /// Whether it is one that nobody may launch.
    forbidden: bool,
    /// When it is killed (again), if it is to be.
    kill: Option<Time>,
    /// Since when it is out of reach.
    lost: Option<Time>,
    /// How the agent said it ended.
    ended: Option<TaskState>,
}

/// A framework that keeps what it knows across broken connections.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent habits")]
pub(crate) struct Framework {
    id: Option<FrameworkId>,
    /// Its stream, while it is subscribed.
    stream: Option<String>,
    /// When it subscribes again, if it is not.
    retry: Option<Time>,
    reconcile: Time,
    /// Whether it asks for all its tasks next: one that was given up may have come back while nobody was there to be
    /// told.
    asks_for_all: bool,
    partition_aware: bool,
    /// Whether it asks for no offers while it wants none.
    quiet: bool,
    suppressed: bool,
    /// Whether it ends itself, with tasks that run, when all is calm.
    quits: bool,
    has_quit: bool,
    role: &'static str,
    /// Whether it may keep nothing and take up no other role.
    is_guest: bool,
    /// Whether it wants to run tasks now and then as a user that nobody may be.
    is_bold: bool,
    /// Whether it says what it still wants, so that room is made for it.
    wishes: bool,
    /// Whether it speaks the messages of a v0 driver.
    is_driver: bool,
    /// Whether it has a second role at the moment.
    extra: bool,
    /// How often it keeps something for itself.
    keep: f64,
    /// Whether the time of faults is over: it keeps nothing more.
    is_calm: bool,
    /// The operations it named, and those whose end it does not know.
    asked: BTreeMap<String, Asked>,
    pending: BTreeSet<String>,
    refusals: [f64; 3],
    /// How many tasks are still to be launched.
    wanted: usize,
    tasks: BTreeMap<String, Known>,
    /// Those that have not ended.
    open: BTreeSet<String>,
    /// The last offer of each agent since it has all it wanted: whether nothing was kept back.
    idle_offers: BTreeMap<AgentId, Resources>,
    need: Resources,
    /// What went wrong with what it saw.
    complaint: Option<String>,
    next: u64,
    name: String,
    seed: Seed,
}

impl Framework {
    pub(crate) fn new(number: usize, plan: &Plan, seed: &Seed) -> Self {
        let mut seed = seed.stream(&format!("framework {number}"));
        let role = ROLES[number % ROLES.len()];
        let need = Resources::parse("cpus:1;mem:64").expect("it is well formed");
        Self {
            id: None,
            stream: None,
            retry: Some(Time::EPOCH),
            reconcile: Time::MAX,
            asks_for_all: false,
            partition_aware: seed.chance(0.5),
            // The first stays to be offered everything in the end.
            quiet: number > 0 && (plan.nodes > 50 || seed.chance(0.5)),
            suppressed: false,
            quits: number > 0 && seed.chance(0.3),
            has_quit: false,
            role,
            is_guest: plan.guarded && number % 2 == 1,
            is_bold: plan.guarded,
            wishes: plan.preempts,
            is_driver: plan.drivers && number % 2 == 1,
            extra: false,
            keep: plan.keep,
            is_calm: false,
            asked: BTreeMap::new(),
            pending: BTreeSet::new(),
            refusals: plan.refusals,
            wanted: plan.tasks,
            tasks: BTreeMap::new(),
            open: BTreeSet::new(),
            idle_offers: BTreeMap::new(),
            need,
            complaint: None,
            next: 0,
            name: format!("script-{number}"),
            seed,
        }
    }

    fn has_all(&self) -> bool {
        let is_done = self.wanted == 0 && self.open.is_empty() && self.pending.is_empty();
        self.has_quit || is_done
    }

    /// Launches what fits, or declines.
    fn answer(&mut self, now: Time, offer: &Offer) -> Call {
        self.judge_offer(offer);
        let refuse = self.refusals[self.seed.index(3)];
        let mut left = Resources::from_messages(&offer.resources);
        if self.has_all() {
            self.idle_offers
                .insert(offer.agent_id.clone(), left.unallocated());
        } else if !self.idle_offers.is_empty() {
            self.idle_offers.clear();
        }
        let mut operations = Vec::new();
        self.keep_house(now, offer, &mut left, &mut operations);
        let role = offer.allocation_info.clone().unwrap_or_default();
        let need = self.need.allocated_to(role.role());
        let most = self.seed.index(4);
        let mut tasks = Vec::new();
        while tasks.len() < most && self.wanted > 0 && left.contains(&need) {
            left -= &need;
            self.wanted -= 1;
            tasks.push(self.new_task(&offer.agent_id, &need));
        }
        if !tasks.is_empty() {
            operations.push(launch(tasks));
        }
        if operations.is_empty() {
            self.decline(offer, refuse)
        } else {
            self.accept(offer, operations, refuse)
        }
    }

    /// Whether the offers it wants have changed; and the call that says so.
    fn change_of_appetite(&mut self) -> Option<Call> {
        let sated = self.quiet && self.wanted == 0;
        if self.stream.is_none() || sated == self.suppressed {
            return None;
        }
        self.suppressed = sated;
        Some(if sated {
            self.suppress()
        } else {
            self.revive()
        })
    }

    /// Takes in a status; `now` is when a task that has to be killed is killed first.
    fn update(&mut self, now: Time, status: &TaskStatus) {
        if let Some(wrong) = self.judge(status) {
            self.complaint = Some(wrong);
        }
        let state = status.state();
        let id = &status.task_id.value;
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if status.uuid.is_some() && is_over(state) {
            task.ended = Some(state);
        }
        if task.state == TaskState::TaskFinished {
            return;
        }
        if task.forever && !self.quits && state == TaskState::TaskRunning && task.kill.is_none() {
            task.kill = Some(now + Duration::from_secs(5).mul_f64(self.seed.unit()));
        }
        let (was, is) = (is_over(task.state), is_over(state));
        if state == TaskState::TaskUnreachable {
            // Given up stays given up, until it comes back.
            let lost = *task.lost.get_or_insert(now);
            if was || now.since(lost) < GIVE_UP {
                return;
            }
            self.open.remove(id);
            task.state = TaskState::TaskUnknown;
            self.wanted += 1;
            return;
        }
        task.lost = None;
        task.state = state;
        if !was && is {
            self.open.remove(id);
            // One that had to be killed has done its duty; others are done over.
            let done = state == TaskState::TaskFinished || (task.forever && task.kill.is_some());
            self.wanted += usize::from(!done);
        } else if was && !is {
            // It was thought lost and came back: let it run beside its replacement.
            self.open.insert(id.clone());
            if !(task.forever && task.kill.is_some()) {
                self.wanted = self.wanted.saturating_sub(1);
            }
        }
    }

    /// What must never be offered: what a guest was refused.
    fn judge_offer(&mut self, offer: &Offer) {
        if !self.is_guest {
            return;
        }
        let role = offer.allocation_info.clone().unwrap_or_default();
        if role.role() != self.role {
            let wrong = format!("a guest is offered something for {}", role.role());
            self.complaint = Some(wrong);
        }
        if keeping::is_kept_by(&offer.resources, &self.name) {
            self.complaint = Some(format!("a guest keeps something: {:?}", offer.resources));
        }
    }

    /// What must never be said of a task.
    fn judge(&self, status: &TaskStatus) -> Option<String> {
        let (state, id) = (status.state(), &status.task_id);
        let name = state.as_str_name();
        let Some(task) = self.tasks.get(&id.value) else {
            return Some(format!("an update for {id}, which was never launched"));
        };
        let is_modern = matches!(
            state,
            TaskState::TaskUnreachable
                | TaskState::TaskDropped
                | TaskState::TaskGone
                | TaskState::TaskGoneByOperator
                | TaskState::TaskUnknown
        );
        if is_modern && !self.partition_aware {
            return Some(format!("{id} is {name}, which its framework does not know"));
        }
        // Mesos says LOST to those who know better only when an agent was replaced.
        let is_removal = status.reason() == Reason::AgentRemoved;
        if state == TaskState::TaskLost && self.partition_aware && !is_removal {
            return Some(format!("{id} is {name}, though its framework knows better"));
        }
        if let Some(ended) = task.ended
            && is_over(state)
            && state != ended
        {
            let was = ended.as_str_name();
            let is_told_by_agent = status.uuid.is_some();
            let is_late_refusal = status.reason() == Reason::InvalidOffers;
            if is_told_by_agent || is_late_refusal {
                return Some(format!("{id} ended twice: {was} and then {name}"));
            }
        }
        if task.forbidden && !is_over(state) && status.uuid.is_some() {
            return Some(format!("{id} is {name}, though nobody may launch it"));
        }
        // What began was launched: no second copy of the call can undo that.
        let has_begun = matches!(
            task.state,
            TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling
        );
        if has_begun && status.reason() == Reason::InvalidOffers {
            return Some(format!("{id} began and then was refused: {name}"));
        }
        None
    }

    /// Kills what is due.
    fn kills(&mut self, now: Time) -> Vec<Call> {
        let due: Vec<String> = self
            .open
            .iter()
            .filter(|id| {
                let kill = self.tasks.get(*id).and_then(|task| task.kill);
                kill.is_some_and(|kill| kill.is_due(now))
            })
            .cloned()
            .collect();
        let mut calls = Vec::new();
        for id in due {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.kill = Some(now + PATIENCE);
                let agent = task.agent.clone();
                calls.push(self.kill(&id, agent));
            }
        }
        calls
    }

    fn next_kill(&self) -> Option<Time> {
        self.open
            .iter()
            .filter_map(|id| self.tasks.get(id)?.kill)
            .min()
    }

    /// A killer cannot know whether a master that is gone passed it on.
    fn kill_again_soon(&mut self, now: Time) {
        for id in &self.open {
            if let Some(task) = self.tasks.get_mut(id)
                && let Some(kill) = &mut task.kill
            {
                *kill = (*kill).min(now + RETRY);
            }
        }
    }
}

impl Party for Framework {
    fn stream(&self) -> Option<&str> {
        self.stream.as_deref()
    }

    fn is_driver(&self) -> bool {
        self.is_driver
    }

    fn principal(&self) -> Option<&'static str> {
        self.is_guest.then_some(GUEST)
    }

    fn next_deadline(&self, _now: Time) -> Time {
        let retry = self.retry.unwrap_or(Time::MAX).min(self.reconcile);
        match self.next_kill() {
            Some(kill) if self.stream.is_some() => retry.min(kill),
            _ => retry,
        }
    }

    fn tick(&mut self, now: Time, is_calm: bool) -> Vec<Call> {
        self.is_calm = is_calm;
        if self.retry.is_some_and(|retry| retry.is_due(now)) {
            if self.has_quit {
                self.retry = None;
                return Vec::new();
            }
            // Whether the call arrives or not, it is tried again unless an answer comes.
            self.retry = Some(now + 10 * RETRY);
            return vec![self.subscribe()];
        }
        let mut calls = Vec::new();
        if self.stream.is_some() {
            calls.extend(self.kills(now));
        }
        if self.reconcile.is_due(now) {
            self.reconcile = now + RECONCILE;
            if is_calm && self.quits {
                calls.push(self.tear_down());
                return calls;
            }
            if std::mem::take(&mut self.asks_for_all) {
                calls.push(self.reconcile_all());
            }
            if !self.open.is_empty() {
                calls.push(self.reconcile_call());
            }
            if self.quiet && !self.suppressed && self.stream.is_some() {
                // Its last SUPPRESS may have overtaken the REVIVE that followed.
                calls.push(self.revive());
            }
            if !self.pending.is_empty() {
                calls.push(self.reconcile_operations());
            }
            if self.wishes && self.stream.is_some() {
                calls.push(self.wish());
            }
            // A driver that is refused this is ended by its master.
            let may_change = !(self.is_guest && self.is_driver);
            if !is_calm && self.stream.is_some() && self.seed.chance(0.3) && may_change {
                calls.push(self.change_itself());
            }
        }
        calls
    }

    fn subscribed(&mut self, now: Time, stream: String) {
        self.stream = Some(stream);
        self.retry = None;
        self.reconcile = now + RETRY;
        self.asks_for_all = true;
        self.kill_again_soon(now);
    }

    fn refused(&mut self, now: Time) {
        if self.stream.is_none() {
            self.retry = Some(now + RETRY);
        }
    }

    fn disconnected(&mut self, now: Time) {
        self.stream = None;
        self.retry = Some(now + RETRY.mul_f64(1.0 + self.seed.unit()));
        self.reconcile = Time::MAX;
    }

    fn crash(&mut self, now: Time) {
        // It writes down everything, so that only its connection is lost.
        self.disconnected(now);
    }

    fn event(&mut self, now: Time, event: &Arc<Event>) -> Vec<Call> {
        let mut calls = Vec::new();
        match event.r#type() {
            event::Type::Subscribed => {
                let id = event.subscribed.as_ref().map(|it| it.framework_id.clone());
                if self.id.is_some() && self.id != id {
                    self.complaint = Some(format!("{:?} came back as {id:?}", self.id));
                }
                self.id = id;
            }
            event::Type::Offers => {
                for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                    calls.push(self.answer(now, offer));
                }
            }
            event::Type::Update => {
                if let Some(update) = &event.update {
                    self.update(now, &update.status);
                    calls.extend(self.acknowledge(&update.status));
                }
            }
            event::Type::InverseOffers => {
                let offers = event
                    .inverse_offers
                    .iter()
                    .flat_map(|it| &it.inverse_offers);
                for offer in offers {
                    calls.push(self.answer_inverse(offer));
                }
            }
            event::Type::UpdateOperationStatus => {
                if let Some(update) = &event.update_operation_status {
                    calls.extend(self.operation_status(now, &update.status));
                }
            }
            event::Type::Error => self.heard_error(event),
            _ => {}
        }
        calls.extend(self.change_of_appetite());
        calls
    }

    fn is_content(&self, _now: Time) -> bool {
        self.has_all()
    }

    fn idle_offer(&self, agent: &AgentId) -> Option<&Resources> {
        self.idle_offers.get(agent)
    }

    fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    fn open(&self, _now: Time) -> String {
        let open: Vec<String> = self
            .open
            .iter()
            .take(20)
            .filter_map(|id| {
                let task = self.tasks.get(id)?;
                Some(format!(
                    "{id} {} on {}",
                    task.state.as_str_name(),
                    task.agent
                ))
            })
            .collect();
        format!(
            "{} {}: {} to launch, {} open: [{}]; operations {:?}",
            self.name,
            self.id.as_ref().map_or("?", |id| &id.value),
            self.wanted,
            self.open.len(),
            open.join(", "),
            self.pending
        )
    }
}

/// Whether a framework that starts things over would do so now.
fn is_over(state: TaskState) -> bool {
    is_terminal(state) || state == TaskState::TaskUnknown
}

//! [`Follower`]: what runs where, kept up to date by a master's event stream.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::master::response::{get_agents, get_frameworks};
use dcos_proto::master::{Event, event, response};
use dcos_proto::mesos;

use crate::Snapshot;
use crate::census::is_over;
use crate::memory::{KnownAgent, KnownTask, Record, Remembered};
use crate::vip::{TaskKey, declares};

/// How long an agent that a new leader has only read of is waited for (as long as the original).
const AGENT_PATIENCE: Duration = Duration::from_secs(600);
/// How long the tasks of an agent that came back are waited for.
const TASK_PATIENCE: Duration = Duration::from_secs(10);
/// More changes than that are no less work than all there is.
const MOST_NEWS: usize = 10_000;

/// A task, its framework and its agent, once all three are known.
pub type Placed<'a> = (&'a mesos::Task, &'a mesos::FrameworkInfo, IpAddr);

/// Whom a [`Follower`] tells what changes. Addresses of agents are reserved and released as often as they are theirs.
pub trait Listener {
    /// This is the address of an agent.
    fn reserve(&mut self, agent: IpAddr);

    /// It is no more.
    fn release(&mut self, agent: IpAddr);

    /// A task changed, or is gone.
    fn set(&mut self, task: TaskKey, placed: Option<Placed<'_>>);
}

/// Nobody, who looks at the whole now and then.
impl Listener for () {
    fn reserve(&mut self, _: IpAddr) {}
    fn release(&mut self, _: IpAddr) {}
    fn set(&mut self, _: TaskKey, _: Option<Placed<'_>>) {}
}

/// What a master's operator API (`SUBSCRIBE`) tells of agents, frameworks and tasks: of those that declare VIPs, or of all.
///
/// ```text
/// recall(what a process before knew)? ─► begin(SUBSCRIBED) ─► apply(event)* ─► begin(SUBSCRIBED of the next leader) ─► …
/// ```
///
/// Each call tells a [`Listener`], such as a [`VipTable`](crate::vip::VipTable). A new leader knows agents only by name until they
/// come back: their tasks are kept as they were meanwhile ([`poll`](Self::poll) ends that at
/// [`next_deadline`](Self::next_deadline)), so that a failover empties no VIP and denies no name.
#[derive(Clone, Debug)]
pub struct Follower {
    wants: fn(&mesos::Task) -> bool,
    agents: BTreeMap<String, SocketAddr>,
    frameworks: BTreeMap<String, mesos::FrameworkInfo>,
    tasks: BTreeMap<TaskKey, Followed>,
    /// Agents that have not come back yet, or not with all their tasks, and how long they may take.
    awaited: BTreeMap<String, Time>,
    begun: bool,
    news: News,
}

/// What changed since somebody asked.
#[derive(Clone, Debug)]
enum News {
    /// Anything may have: nobody asked yet or for long, or there is a new leader.
    All,
    Some {
        agents: BTreeSet<String>,
        frameworks: BTreeSet<String>,
        tasks: BTreeSet<TaskKey>,
    },
}

impl News {
    fn none() -> Self {
        Self::Some {
            agents: BTreeSet::new(),
            frameworks: BTreeSet::new(),
            tasks: BTreeSet::new(),
        }
    }

    fn of_agent(&mut self, id: &str) {
        if let Self::Some { agents, .. } = self {
            agents.insert(id.to_owned());
        }
        self.limit();
    }

    fn of_framework(&mut self, id: &str) {
        if let Self::Some { frameworks, .. } = self {
            frameworks.insert(id.to_owned());
        }
        self.limit();
    }

    fn of_task(&mut self, key: &TaskKey) {
        if let Self::Some { tasks, .. } = self {
            tasks.insert(key.clone());
        }
        self.limit();
    }

    /// While nobody asks, as with a disk that hangs, this does not grow for ever.
    fn limit(&mut self) {
        if let Self::Some {
            agents,
            frameworks,
            tasks,
        } = self
            && agents.len() + frameworks.len() + tasks.len() > MOST_NEWS
        {
            *self = Self::All;
        }
    }
}

#[derive(Clone, Debug)]
struct Followed {
    /// Shared with whoever writes it down beside the work.
    task: Arc<mesos::Task>,
    /// Told by the leader of now, not only by one before.
    confirmed: bool,
}

impl Follower {
    /// Knows nothing yet, and wants to know of tasks that declare VIPs; of others only their number would grow.
    pub fn of_vips() -> Self {
        Self::of(declares)
    }

    /// Knows nothing yet, and wants to know of all tasks.
    pub fn of_all() -> Self {
        Self::of(|_| true)
    }

    fn of(wants: fn(&mesos::Task) -> bool) -> Self {
        Self {
            wants,
            agents: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            awaited: BTreeMap::new(),
            begun: false,
            news: News::All,
        }
    }

    /// Knows what one knew before, which kept it with [`take_news`](Self::take_news): as if it had gone on, between two
    /// leaders. Agents that were awaited are for as long as they still would be.
    pub fn recall(&mut self, now: Time, known: Remembered, listener: &mut impl Listener) {
        for (id, agent) in known.agents {
            if let Some(address) = agent.address {
                listener.reserve(address.ip());
                self.agents.insert(id.clone(), address);
            }
            if let Some(until) = agent.awaited_until {
                // Whose clock was set back since then does not wait for ever.
                self.awaited.insert(id, until.min(now + AGENT_PATIENCE));
            }
        }
        self.frameworks.extend(known.frameworks);
        let wants = self.wants;
        for (key, known) in known.tasks {
            if wants(&known.task) {
                let KnownTask { task, confirmed } = known;
                self.tasks.insert(key, Followed { task, confirmed });
            }
        }
        self.claim_where(listener, |_| true);
        self.poll(now, listener);
    }

    /// What changed since this was asked last, for a [`Journal`](crate::Journal): at first, and once a new leader told, all
    /// there is. Nothing, if nothing did.
    pub fn take_news(&mut self) -> Option<Record> {
        let (agents, frameworks, tasks) = match std::mem::replace(&mut self.news, News::none()) {
            News::All => return Some(self.all()),
            News::Some {
                agents,
                frameworks,
                tasks,
            } => (agents, frameworks, tasks),
        };
        if agents.is_empty() && frameworks.is_empty() && tasks.is_empty() {
            return None;
        }
        let agents = agents.into_iter().map(|id| {
            let agent = self.known_agent(&id);
            (id, agent)
        });
        let frameworks = frameworks.into_iter().map(|id| {
            let info = self.frameworks.get(&id).cloned();
            (id, info)
        });
        let tasks = tasks.into_iter().map(|key| {
            let task = self.tasks.get(&key).map(known_task);
            (key, task)
        });
        Some(Record {
            is_all: false,
            agents: agents.collect(),
            frameworks: frameworks.collect(),
            tasks: tasks.collect(),
        })
    }

    /// All there is, whatever was asked before.
    pub(crate) fn all(&self) -> Record {
        let ids: BTreeSet<&String> = self.agents.keys().chain(self.awaited.keys()).collect();
        let agents = ids.into_iter().map(|id| (id.clone(), self.known_agent(id)));
        let frameworks = self.frameworks.iter();
        let tasks = self.tasks.iter();
        Record {
            is_all: true,
            agents: agents.collect(),
            frameworks: frameworks
                .map(|(id, info)| (id.clone(), Some(info.clone())))
                .collect(),
            tasks: tasks
                .map(|(key, followed)| (key.clone(), Some(known_task(followed))))
                .collect(),
        }
    }

    fn known_agent(&self, id: &str) -> Option<KnownAgent> {
        let agent = KnownAgent {
            address: self.agents.get(id).copied(),
            awaited_until: self.awaited.get(id).copied(),
        };
        (agent != KnownAgent::default()).then_some(agent)
    }

    /// All that is known, for names; `masters` are told by others. Agents that are awaited and were never heard of are
    /// awaited there, too: what runs on them is not in it.
    pub fn snapshot(&self, leader: Option<SocketAddr>, masters: Vec<IpAddr>) -> Snapshot {
        let agents = self.agents.iter();
        Snapshot::collect(
            leader,
            masters,
            agents.map(|(id, address)| crate::Agent::new(id, address.ip(), address.port())),
            self.frameworks.values().map(|info| (info, None)),
            self.tasks.values().map(|followed| &*followed.task),
        )
        .awaiting({
            let awaited = self.awaited.keys();
            let strange = awaited.filter(|id| !self.agents.contains_key(*id));
            strange.cloned()
        })
    }

    /// The same as a master would tell it.
    pub fn state(&self) -> response::GetState {
        let agents = self
            .agents
            .iter()
            .map(|(id, address)| (id.clone(), *address));
        let frameworks = self.frameworks.values().cloned();
        let tasks = self.tasks.values();
        let tasks = tasks.map(|followed| mesos::Task::clone(&followed.task));
        state_of(agents, frameworks, tasks)
    }

    /// Whether a leader told this one of what there is.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whether a leader told, and all agents it names had the time to tell their tasks.
    /// Until then a VIP nobody claims may only be unknown.
    pub fn is_complete(&self) -> bool {
        self.begun && self.awaited.is_empty()
    }

    /// When [`poll`](Self::poll) should be called if nothing else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        self.awaited.values().min().copied()
    }

    /// Starts anew from the state a leading master tells first.
    pub fn begin(&mut self, now: Time, state: &response::GetState, listener: &mut impl Listener) {
        self.begun = true;
        self.news = News::All;
        let listed = state.get_agents.as_ref();
        let before = std::mem::take(&mut self.agents);
        let agents = listed.into_iter().flat_map(|listed| &listed.agents);
        self.agents = agents.filter_map(agent_address).collect();
        let recovered = listed
            .into_iter()
            .flat_map(|listed| &listed.recovered_agents);
        let absent = recovered.filter_map(|info| Some(info.id.as_ref()?.value.clone()));
        let absent = absent.filter(|id| !self.agents.contains_key(id));
        self.awaited = absent.map(|id| (id, now + AGENT_PATIENCE)).collect();
        for id in self.awaited.keys() {
            if let Some(address) = before.get(id) {
                self.agents.insert(id.clone(), *address);
            }
        }
        // The new ones first: what stays is not given up in between.
        for address in self.agents.values() {
            listener.reserve(address.ip());
        }
        for address in before.values() {
            listener.release(address.ip());
        }

        let frameworks = state.get_frameworks.as_ref();
        let known = frameworks.into_iter().flat_map(|all| &all.frameworks);
        let recovered = frameworks
            .into_iter()
            .flat_map(|all| &all.recovered_frameworks);
        let infos = known
            .map(|framework| &framework.framework_info)
            .chain(recovered);
        let told: BTreeMap<String, mesos::FrameworkInfo> = infos.filter_map(named).collect();
        let told_ids: BTreeSet<String> = told.keys().cloned().collect();
        // Those of tasks that are kept stay known as well.
        self.frameworks.extend(told);

        for followed in self.tasks.values_mut() {
            followed.confirmed = false;
        }
        let tasks = state.get_tasks.iter().flat_map(|tasks| &tasks.tasks);
        let wants = self.wants;
        for task in tasks.filter(|task| wants(task)) {
            self.keep(task, listener);
        }
        self.drop_unconfirmed(listener);
        // Of those that stay, the framework may have another name, or one at last.
        self.claim_unconfirmed(listener);
        let named: BTreeSet<&String> = self.tasks.keys().map(|(framework, _)| framework).collect();
        self.frameworks
            .retain(|id, _| named.contains(id) || told_ids.contains(id));
    }

    /// Takes in what happened.
    pub fn apply(&mut self, now: Time, event: &Event, listener: &mut impl Listener) {
        match event.r#type() {
            event::Type::Subscribed => {
                let state = event.subscribed.as_ref();
                if let Some(state) = state.and_then(|told| told.get_state.as_ref()) {
                    self.begin(now, state, listener);
                }
            }
            event::Type::TaskAdded => {
                let added = event.task_added.as_ref().map(|added| &added.task);
                if let Some(task) = added.filter(|task| (self.wants)(task)) {
                    self.keep(task, listener);
                }
            }
            event::Type::TaskUpdated => self.update(event, listener),
            event::Type::AgentAdded => {
                let added = event.agent_added.as_ref();
                if let Some((id, address)) = added.and_then(|added| agent_address(&added.agent)) {
                    self.news.of_agent(&id);
                    if let Some(patience) = self.awaited.get_mut(&id) {
                        *patience = now + TASK_PATIENCE;
                    }
                    listener.reserve(address.ip());
                    if let Some(before) = self.agents.insert(id.clone(), address) {
                        listener.release(before.ip());
                    }
                    self.claim_where(listener, |task| task.agent_id.value == id);
                }
            }
            event::Type::AgentRemoved => {
                if let Some(removed) = &event.agent_removed {
                    let id = &removed.agent_id.value;
                    self.news.of_agent(id);
                    self.awaited.remove(id);
                    if let Some(address) = self.agents.remove(id) {
                        listener.release(address.ip());
                    }
                    self.drop_where(listener, |_, followed| followed.task.agent_id.value == *id);
                }
            }
            event::Type::FrameworkAdded => {
                let added = event.framework_added.as_ref();
                self.name(added.map(|added| &added.framework.framework_info), listener);
            }
            event::Type::FrameworkUpdated => {
                let updated = event.framework_updated.as_ref();
                self.name(
                    updated.map(|updated| &updated.framework.framework_info),
                    listener,
                );
            }
            event::Type::FrameworkRemoved => {
                let removed = event.framework_removed.as_ref();
                let removed = removed.and_then(|removed| removed.framework_info.id.as_ref());
                if let Some(id) = removed {
                    self.drop_where(listener, |(framework, _), _| *framework == id.value);
                    self.news.of_framework(&id.value);
                    self.frameworks.remove(&id.value);
                }
            }
            event::Type::Heartbeat | event::Type::Unknown => {}
        }
        self.poll(now, listener);
    }

    /// Gives up what was waited for long enough.
    pub fn poll(&mut self, now: Time, listener: &mut impl Listener) {
        let is_due = |(_, patience): &(&String, &mut Time)| patience.is_due(now);
        let due = self.awaited.iter_mut().filter(is_due);
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for id in &due {
            self.awaited.remove(id);
            self.news.of_agent(id);
        }
        if !due.is_empty() {
            self.drop_unconfirmed(listener);
        }
    }

    fn update(&mut self, event: &Event, listener: &mut impl Listener) {
        let Some(updated) = &event.task_updated else {
            return;
        };
        let key = (
            updated.framework_id.value.clone(),
            updated.status.task_id.value.clone(),
        );
        let Some(followed) = self.tasks.get_mut(&key) else {
            return;
        };
        self.news.of_task(&key);
        if is_over(updated.state()) {
            self.tasks.remove(&key);
            listener.set(key, None);
            return;
        }
        let task = Arc::make_mut(&mut followed.task);
        task.state = updated.state;
        // As in the master: of each state, the last status; only they and what they tell is needed.
        task.statuses
            .retain(|status| status.state != updated.status.state);
        task.statuses.push(slim_status(&updated.status));
        followed.confirmed = true;
        self.claim(&key, listener);
    }

    fn keep(&mut self, task: &mesos::Task, listener: &mut impl Listener) {
        let key = (task.framework_id.value.clone(), task.task_id.value.clone());
        self.news.of_task(&key);
        if is_over(task.state()) {
            self.tasks.remove(&key);
            listener.set(key, None);
            return;
        }
        let followed = Followed {
            task: Arc::new(slim(task)),
            confirmed: true,
        };
        self.tasks.insert(key.clone(), followed);
        self.claim(&key, listener);
    }

    fn name(&mut self, info: Option<&mesos::FrameworkInfo>, listener: &mut impl Listener) {
        let Some((id, info)) = info.and_then(named) else {
            return;
        };
        self.news.of_framework(&id);
        let name = info.name.clone();
        let before = self.frameworks.insert(id.clone(), info);
        if before.is_none_or(|before| before.name != name) {
            self.claim_where(listener, |task| task.framework_id.value == id);
        }
    }

    fn claim_where(&self, listener: &mut impl Listener, which: impl Fn(&mesos::Task) -> bool) {
        for (key, followed) in &self.tasks {
            if which(&followed.task) {
                self.claim(key, listener);
            }
        }
    }

    fn claim_unconfirmed(&self, listener: &mut impl Listener) {
        let kept = self.tasks.iter().filter(|(_, task)| !task.confirmed);
        for (key, _) in kept {
            self.claim(key, listener);
        }
    }

    fn claim(&self, key: &TaskKey, listener: &mut impl Listener) {
        let Some(Followed { task, .. }) = self.tasks.get(key) else {
            return;
        };
        // A task may be told before its agent or its framework.
        let agent = self.agents.get(&task.agent_id.value);
        let placed = agent.zip(self.frameworks.get(&key.0));
        let placed = placed.map(|(agent, framework)| (&**task, framework, agent.ip()));
        listener.set(key.clone(), placed);
    }

    /// Forgets what only an earlier leader told, unless its agent is still waited for.
    fn drop_unconfirmed(&mut self, listener: &mut impl Listener) {
        let awaited: BTreeSet<String> = self.awaited.keys().cloned().collect();
        self.drop_where(listener, |_, followed| {
            !followed.confirmed && !awaited.contains(&followed.task.agent_id.value)
        });
    }

    fn drop_where(
        &mut self,
        listener: &mut impl Listener,
        which: impl Fn(&TaskKey, &Followed) -> bool,
    ) {
        let gone: Vec<TaskKey> = self
            .tasks
            .iter()
            .filter(|(key, followed)| which(key, followed))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.news.of_task(&key);
            self.tasks.remove(&key);
            listener.set(key, None);
        }
    }
}

/// What a follower [begins](Follower::begin) with that is to know these agents, by id and where they are, these frameworks,
/// and these tasks.
pub fn state_of(
    agents: impl IntoIterator<Item = (String, SocketAddr)>,
    frameworks: impl IntoIterator<Item = mesos::FrameworkInfo>,
    tasks: impl IntoIterator<Item = mesos::Task>,
) -> response::GetState {
    let agents = agents
        .into_iter()
        .map(|(value, address)| get_agents::Agent {
            agent_info: mesos::AgentInfo {
                id: Some(mesos::AgentId { value }),
                ..mesos::AgentInfo::default()
            },
            pid: Some(format!("slave(1)@{address}")),
            ..get_agents::Agent::default()
        });
    let frameworks = frameworks.into_iter();
    let frameworks = frameworks.map(|framework_info| get_frameworks::Framework {
        framework_info,
        ..get_frameworks::Framework::default()
    });
    response::GetState {
        get_agents: Some(response::GetAgents {
            agents: agents.collect(),
            ..response::GetAgents::default()
        }),
        get_frameworks: Some(response::GetFrameworks {
            frameworks: frameworks.collect(),
            ..response::GetFrameworks::default()
        }),
        get_tasks: Some(response::GetTasks {
            tasks: tasks.into_iter().collect(),
            ..response::GetTasks::default()
        }),
        ..response::GetState::default()
    }
}

fn agent_address(agent: &get_agents::Agent) -> Option<(String, SocketAddr)> {
    let (_, address) = agent.pid.as_deref()?.split_once('@')?;
    let address = address.parse().ok()?;
    Some((agent.agent_info.id.as_ref()?.value.clone(), address))
}

/// A framework by its id, with what names are made of.
fn named(info: &mesos::FrameworkInfo) -> Option<(String, mesos::FrameworkInfo)> {
    let kept = mesos::FrameworkInfo {
        id: info.id.clone(),
        name: info.name.clone(),
        hostname: info.hostname.clone(),
        webui_url: info.webui_url.clone(),
        ..mesos::FrameworkInfo::default()
    };
    Some((info.id.as_ref()?.value.clone(), kept))
}

/// A task with what names and virtual addresses are made of: all tasks of a cluster are kept on each of its nodes.
fn slim(task: &mesos::Task) -> mesos::Task {
    let container = task.container.as_deref().map(|container| {
        Box::new(mesos::ContainerInfo {
            r#type: container.r#type,
            docker: container.docker.clone(),
            network_infos: container.network_infos.clone(),
            ..mesos::ContainerInfo::default()
        })
    });
    let ports = task.resources.iter();
    let ports = ports.filter(|resource| resource.name == "ports").cloned();
    mesos::Task {
        name: task.name.clone(),
        task_id: task.task_id.clone(),
        framework_id: task.framework_id.clone(),
        agent_id: task.agent_id.clone(),
        state: task.state,
        resources: ports.collect(),
        statuses: task.statuses.iter().map(slim_status).collect(),
        labels: task.labels.clone().filter(|_| declares(task)),
        discovery: task.discovery.clone(),
        container,
        // That there is one counts; what it runs may hold secrets.
        health_check: task.health_check.as_ref().map(|_| Box::default()),
        ..mesos::Task::default()
    }
}

/// A status with what names and virtual addresses are made of.
fn slim_status(status: &mesos::TaskStatus) -> mesos::TaskStatus {
    mesos::TaskStatus {
        task_id: status.task_id.clone(),
        state: status.state,
        timestamp: status.timestamp,
        healthy: status.healthy,
        container_status: status.container_status.clone(),
        labels: status.labels.clone(),
        ..mesos::TaskStatus::default()
    }
}

fn known_task(followed: &Followed) -> KnownTask {
    KnownTask {
        task: Arc::clone(&followed.task),
        confirmed: followed.confirmed,
    }
}

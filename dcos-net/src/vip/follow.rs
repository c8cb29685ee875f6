//! [`Follower`]: the tasks behind VIPs, kept up to date by a master's event stream.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::master::{Event, event, response};
use dcos_proto::mesos::{self, TaskState};

use super::{TaskKey, VipTable, claims, declares};

/// How long an agent that a new leader has only read of is waited for (as long as the original).
const AGENT_PATIENCE: Duration = Duration::from_secs(600);
/// How long the tasks of an agent that came back are waited for.
const TASK_PATIENCE: Duration = Duration::from_secs(10);

/// What a master's operator API (`SUBSCRIBE`) tells of tasks that declare VIPs; of others only their
/// number would grow.
///
/// ```text
/// begin(SUBSCRIBED) ─► apply(event)* ─► begin(SUBSCRIBED of the next leader) ─► …
/// ```
///
/// Each call updates the [`VipTable`] it is given, where the addresses of agents are reserved, too. A new leader knows agents only by name until they
/// come back: their tasks are kept as they were meanwhile ([`poll`](Self::poll) ends that at
/// [`next_deadline`](Self::next_deadline)), so that a failover empties no VIP.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    agents: BTreeMap<String, IpAddr>,
    frameworks: BTreeMap<String, String>,
    tasks: BTreeMap<TaskKey, Followed>,
    /// Agents that have not come back yet, or not with all their tasks, and how long they may take.
    awaited: BTreeMap<String, Time>,
    begun: bool,
}

#[derive(Clone, Debug)]
struct Followed {
    task: mesos::Task,
    /// Told by the leader of now, not only by one before.
    confirmed: bool,
}

impl Follower {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there has been a snapshot.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whether there has been a snapshot, and all agents it names had the time to tell their tasks.
    /// Until then a VIP nobody claims may only be unknown.
    pub fn is_complete(&self) -> bool {
        self.begun && self.awaited.is_empty()
    }

    /// When [`poll`](Self::poll) should be called if nothing else happens.
    pub fn next_deadline(&self) -> Option<Time> {
        self.awaited.values().min().copied()
    }

    /// Starts anew from the state a leading master tells first.
    pub fn begin(&mut self, now: Time, state: &response::GetState, table: &mut VipTable) {
        self.begun = true;
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
            if let Some(ip) = before.get(id) {
                self.agents.insert(id.clone(), *ip);
            }
        }
        // The new ones first: what stays is not given up in between.
        for ip in self.agents.values() {
            table.reserve(*ip);
        }
        for ip in before.values() {
            table.release(*ip);
        }

        let frameworks = state.get_frameworks.as_ref();
        let known = frameworks.into_iter().flat_map(|all| &all.frameworks);
        let recovered = frameworks
            .into_iter()
            .flat_map(|all| &all.recovered_frameworks);
        let infos = known
            .map(|framework| &framework.framework_info)
            .chain(recovered);
        let told: BTreeMap<String, String> = infos.filter_map(framework_name).collect();
        let told_ids: BTreeSet<String> = told.keys().cloned().collect();
        // Those of tasks that are kept stay known as well.
        self.frameworks.extend(told);

        for followed in self.tasks.values_mut() {
            followed.confirmed = false;
        }
        let tasks = state.get_tasks.iter().flat_map(|tasks| &tasks.tasks);
        for task in tasks.filter(|task| declares(task)) {
            self.keep(task.clone(), table);
        }
        self.drop_unconfirmed(table);
        let named: BTreeSet<&String> = self.tasks.keys().map(|(framework, _)| framework).collect();
        self.frameworks
            .retain(|id, _| named.contains(id) || told_ids.contains(id));
    }

    /// Takes in what happened.
    pub fn apply(&mut self, now: Time, event: &Event, table: &mut VipTable) {
        match event.r#type() {
            event::Type::Subscribed => {
                let state = event.subscribed.as_ref();
                if let Some(state) = state.and_then(|told| told.get_state.as_ref()) {
                    self.begin(now, state, table);
                }
            }
            event::Type::TaskAdded => {
                let added = event.task_added.as_ref().map(|added| &added.task);
                if let Some(task) = added.filter(|task| declares(task)) {
                    self.keep(task.clone(), table);
                }
            }
            event::Type::TaskUpdated => self.update(event, table),
            event::Type::AgentAdded => {
                let added = event.agent_added.as_ref();
                if let Some((id, ip)) = added.and_then(|added| agent_address(&added.agent)) {
                    if let Some(patience) = self.awaited.get_mut(&id) {
                        *patience = now + TASK_PATIENCE;
                    }
                    table.reserve(ip);
                    if let Some(before) = self.agents.insert(id.clone(), ip) {
                        table.release(before);
                    }
                    self.claim_where(table, |task| task.agent_id.value == id);
                }
            }
            event::Type::AgentRemoved => {
                if let Some(removed) = &event.agent_removed {
                    let id = &removed.agent_id.value;
                    self.awaited.remove(id);
                    if let Some(ip) = self.agents.remove(id) {
                        table.release(ip);
                    }
                    self.drop_where(table, |_, followed| followed.task.agent_id.value == *id);
                }
            }
            event::Type::FrameworkAdded => {
                let added = event.framework_added.as_ref();
                self.name(added.map(|added| &added.framework.framework_info), table);
            }
            event::Type::FrameworkUpdated => {
                let updated = event.framework_updated.as_ref();
                self.name(
                    updated.map(|updated| &updated.framework.framework_info),
                    table,
                );
            }
            event::Type::FrameworkRemoved => {
                let removed = event.framework_removed.as_ref();
                let removed = removed.and_then(|removed| removed.framework_info.id.as_ref());
                if let Some(id) = removed {
                    self.drop_where(table, |(framework, _), _| *framework == id.value);
                    self.frameworks.remove(&id.value);
                }
            }
            event::Type::Heartbeat | event::Type::Unknown => {}
        }
        self.poll(now, table);
    }

    /// Gives up what was waited for long enough.
    pub fn poll(&mut self, now: Time, table: &mut VipTable) {
        let before = self.awaited.len();
        self.awaited.retain(|_, patience| !patience.is_due(now));
        if self.awaited.len() < before {
            self.drop_unconfirmed(table);
        }
    }

    fn update(&mut self, event: &Event, table: &mut VipTable) {
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
        if is_over(updated.state()) {
            self.tasks.remove(&key);
            table.set(key, Vec::new());
            return;
        }
        let task = &mut followed.task;
        task.state = updated.state;
        // As in the master: of each state, the last status; only they and what they tell is needed.
        task.statuses
            .retain(|status| status.state != updated.status.state);
        task.statuses.push(updated.status.clone());
        followed.confirmed = true;
        self.claim(&key, table);
    }

    fn keep(&mut self, task: mesos::Task, table: &mut VipTable) {
        let key = (task.framework_id.value.clone(), task.task_id.value.clone());
        if is_over(task.state()) {
            self.tasks.remove(&key);
            table.set(key, Vec::new());
            return;
        }
        let followed = Followed {
            task,
            confirmed: true,
        };
        self.tasks.insert(key.clone(), followed);
        self.claim(&key, table);
    }

    fn name(&mut self, info: Option<&mesos::FrameworkInfo>, table: &mut VipTable) {
        let Some((id, name)) = info.and_then(framework_name) else {
            return;
        };
        if self.frameworks.insert(id.clone(), name.clone()) != Some(name) {
            self.claim_where(table, |task| task.framework_id.value == id);
        }
    }

    fn claim_where(&self, table: &mut VipTable, which: impl Fn(&mesos::Task) -> bool) {
        for (key, followed) in &self.tasks {
            if which(&followed.task) {
                self.claim(key, table);
            }
        }
    }

    fn claim(&self, key: &TaskKey, table: &mut VipTable) {
        let Some(Followed { task, .. }) = self.tasks.get(key) else {
            return;
        };
        // A task may be told before its agent or its framework.
        let agent = self.agents.get(&task.agent_id.value);
        let claimed = agent.zip(self.frameworks.get(&key.0));
        let claimed = claimed.map(|(agent, framework)| claims(task, framework, *agent));
        table.set(key.clone(), claimed.unwrap_or_default());
    }

    /// Forgets what only an earlier leader told, unless its agent is still waited for.
    fn drop_unconfirmed(&mut self, table: &mut VipTable) {
        let awaited: BTreeSet<String> = self.awaited.keys().cloned().collect();
        self.drop_where(table, |_, followed| {
            !followed.confirmed && !awaited.contains(&followed.task.agent_id.value)
        });
    }

    fn drop_where(&mut self, table: &mut VipTable, which: impl Fn(&TaskKey, &Followed) -> bool) {
        let gone: Vec<TaskKey> = self
            .tasks
            .iter()
            .filter(|(key, followed)| which(key, followed))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.tasks.remove(&key);
            table.set(key, Vec::new());
        }
    }
}

/// Whether nothing follows on this state, or not on this agent as far as anybody knows.
fn is_over(state: TaskState) -> bool {
    !matches!(
        state,
        TaskState::TaskStaging
            | TaskState::TaskStarting
            | TaskState::TaskRunning
            | TaskState::TaskKilling
    )
}

fn agent_address(agent: &response::get_agents::Agent) -> Option<(String, IpAddr)> {
    let (_, address) = agent.pid.as_deref()?.split_once('@')?;
    let address: SocketAddr = address.parse().ok()?;
    Some((agent.agent_info.id.as_ref()?.value.clone(), address.ip()))
}

fn framework_name(info: &mesos::FrameworkInfo) -> Option<(String, String)> {
    Some((info.id.as_ref()?.value.clone(), info.name.clone()))
}

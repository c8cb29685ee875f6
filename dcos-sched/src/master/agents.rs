//! How agents come, come back and go.
//!
//! Rules AG-1 to AG-10 of the conformance inventory; Mesos 1.11 `src/master/master.cpp`.

use dcos_core::states::is_terminal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_core::resources::convert::upgrade_all;
use dcos_core::resources::operation::Incompatible;
use dcos_proto::internal::{
    KillTaskMessage, MasterSlaveConnection, PingSlaveMessage, ReconcileTasksMessage,
    RegisterSlaveMessage, ReregisterSlaveMessage, ResourceVersionUuid, ShutdownFrameworkMessage,
    ShutdownMessage, SlaveRegisteredMessage, SlaveReregisteredMessage, UpdateFrameworkMessage,
    UpdateSlaveMessage,
};
use dcos_proto::mesos::agent_info::capability::Type as AgentCapability;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    AgentId, AgentInfo, ExecutorId, FrameworkId, FrameworkInfo, TaskId, TaskStatus,
};

use super::agent::total_of;
use super::core::Timer;
use super::returning::Told;
use super::tasks::{Status, update_event};
use super::{
    Action, Agent, Framework, Link, MachineKey, Master, News, Packet, registry, validation,
};
use crate::allocator::{AgentSpec, Event as Allocation};

impl Master {
    /// A new agent asks to be admitted.
    pub(crate) fn register_agent(&mut self, from: &str, message: RegisterSlaveMessage) {
        self.counters.messages_register_slave += 1;
        if validation::agent::registration(&message).is_err() {
            return self.refuse_agent();
        }
        if !self.admits_agent(from, &message.agent) {
            return;
        }
        if let Some(known) = self.agent_pids.get(from).cloned() {
            let Some(agent) = self.agents.get(&known) else {
                return;
            };
            let version = message.resource_version_uuid.as_ref();
            let is_same = agent.own_resource_version() == version;
            let is_same_life = is_same && version.is_some();
            if agent.connected || is_same_life {
                // The answer was lost, or the agent asked twice while it was written.
                let is_idle = agent.used.is_empty() && !agent.is_busy();
                let is_known = agent.connected && is_same && is_idle;
                let answer = self.registered_message(&known);
                self.send(from, &answer);
                if !is_known {
                    // What was sent after a lost answer is lost too, and another life of the agent
                    // does not have what is in the books. It is to come back with what it has.
                    self.send(from, &PingSlaveMessage { connected: false });
                }
                return;
            }
            self.counters.removals_registered += 1;
            self.remove_agent(&known, "a new agent registered at the same address");
        }
        if !self.may_join(from, &message.agent) {
            return;
        }
        let mut info = message.agent;
        self.replace_recovered(&info);
        upgrade_all(&mut info.resources);
        let id = self.new_agent_id();
        info.id = Some(id.clone());
        let mut checkpointed = message.checkpointed_resources;
        upgrade_all(&mut checkpointed);
        let mut agent = new_agent(info, from, self.now);
        match total_of(&agent.info, &checkpointed) {
            Ok(total) => agent.total = total,
            Err(error) => return self.shut_down(from, &error.to_string()),
        }
        agent.version = message.version.unwrap_or_default();
        agent.capabilities = message.agent_capabilities;
        if let Some(uuid) = message.resource_version_uuid {
            agent.set_resource_version(ResourceVersionUuid {
                resource_provider_id: None,
                uuid,
            });
        }
        self.counters.slave_registrations += 1;
        self.admit_agent(agent);
        let answer = self.registered_message(&id);
        self.send(from, &answer);
    }

    /// An agent that makes no sense is not answered, as in Mesos.
    pub(crate) fn refuse_agent(&mut self) {
        self.counters.refused_agents += 1;
    }

    /// Whether an agent's machine is not down, and its fault domain fits the master's. Those that
    /// do not fit are not told to end, so that they can restart with another domain and keep
    /// their tasks.
    fn may_join(&mut self, from: &str, info: &AgentInfo) -> bool {
        if self.is_down(&MachineKey::of_agent(info, from)) {
            self.shut_down(from, "Machine is `DOWN`");
            return false;
        }
        let placed = info.domain.is_some();
        let misplaced = placed && self.settings.info.domain.is_none();
        !misplaced && (placed || !self.settings.require_agent_domain)
    }

    /// A former master knew an agent at this address, which will not come back: a new one is
    /// there. Without this its tasks would be unreachable for ever.
    fn replace_recovered(&mut self, info: &AgentInfo) {
        let replaced = self
            .recovered_agents
            .iter()
            .find(|(_, old)| {
                let is_there = old.hostname == info.hostname && old.port == info.port;
                info.port.is_some() && is_there
            })
            .map(|(id, _)| id.clone());
        if let Some(id) = replaced {
            self.recovered_agents.remove(&id);
            self.persist(vec![registry::delete_agent(&id)]);
            self.counters.slave_removals += 1;
            self.counters.removals_registered += 1;
        }
    }

    fn registered_message(&self, id: &AgentId) -> SlaveRegisteredMessage {
        SlaveRegisteredMessage {
            agent_id: id.clone(),
            connection: Some(self.connection()),
        }
    }

    /// After how much silence the agent should look for the master again.
    fn connection(&self) -> MasterSlaveConnection {
        let total = self.settings.agent_ping_timeout * self.settings.max_agent_ping_timeouts;
        MasterSlaveConnection {
            total_ping_timeout_seconds: Some(total.as_secs_f64()),
        }
    }

    /// Makes an agent known, durably, and begins to watch and offer it.
    fn admit_agent(&mut self, agent: Agent) {
        let id = agent.id();
        // A new master finds most agents in the registry as they come back.
        let stored = self.recovered_agents.remove(&id);
        let unreachable = self.unreachable.remove(&id).is_some();
        if stored.as_ref() != Some(&agent.info) || unreachable {
            self.persist(vec![
                registry::put_agent(&agent.info, &self.standing),
                registry::delete_unreachable(&id),
            ]);
        }
        self.agent_pids.insert(agent.pid.clone(), id.clone());
        self.authentication.spend(&agent.pid);
        self.push(Action::Link {
            pid: agent.pid.clone(),
        });
        let mut spec = self.agent_spec(&agent);
        spec.used.clone_from(&agent.used);
        self.agents.insert(id.clone(), Arc::new(agent));
        self.allocator.handle(self.now, Allocation::AddAgent(spec));
        self.at(self.settings.agent_ping_timeout, Timer::Ping(id.clone()));
        self.learn_unavailability(&id);
        self.publish_agent_added(&id);
    }

    pub(crate) fn agent_spec(&self, agent: &Agent) -> AgentSpec {
        let domain = self.settings.info.domain.as_ref();
        let region = domain
            .and_then(|domain| domain.fault_domain.as_ref())
            .map(|fault_domain| fault_domain.region.name.as_str());
        AgentSpec::from_info(
            &agent.info,
            &agent.capabilities,
            agent.total.clone(),
            region,
        )
    }

    /// An agent that has an id comes back with what runs on it; resources are refined already.
    pub(crate) fn reregister_agent(
        &mut self,
        from: &str,
        message: ReregisterSlaveMessage,
        tasks: Vec<Told>,
    ) {
        self.counters.messages_reregister_slave += 1;
        if !self.admits_agent(from, &message.agent) {
            return;
        }
        let Some(id) = message.agent.id.clone() else {
            return;
        };
        if self.gone.contains_key(&id) {
            return self.shut_down(from, "Agent has been marked gone");
        }
        if !self.may_join(from, &message.agent) {
            return;
        }
        // Somebody else's place: an agent that restarted with a new id and came back with the old.
        if let Some(other) = self
            .agent_pids
            .get(from)
            .cloned()
            .filter(|other| *other != id)
        {
            self.remove_agent(
                &other,
                "an agent with another id came back at the same address",
            );
        }
        self.counters.slave_reregistrations += 1;
        if let Some(known) = self.agents.get(&id) {
            if known.info.hostname != message.agent.hostname || host(&known.pid) != host(from) {
                let text = format!(
                    "Agent attempted to re-register with different IP / hostname; expected {} ({}) got {} ({})",
                    host(&known.pid),
                    known.info.hostname,
                    host(from),
                    message.agent.hostname
                );
                return self.shut_down(from, &text);
            }
            self.return_known_agent(&id, from, message, tasks);
        } else {
            self.return_forgotten_agent(&id, from, message, tasks);
        }
    }

    fn shut_down(&mut self, pid: &str, text: &str) {
        let message = ShutdownMessage {
            message: Some(text.to_owned()),
        };
        self.send(pid, &message);
    }

    /// The agent was only disconnected, or restarted quickly.
    fn return_known_agent(
        &mut self,
        id: &AgentId,
        from: &str,
        message: ReregisterSlaveMessage,
        tasks: Vec<Told>,
    ) {
        let changed = self
            .agents
            .get(id)
            .is_some_and(|agent| agent.info != message.agent);
        if changed {
            self.persist(vec![registry::put_agent(&message.agent, &self.standing)]);
            // It was reconfigured: what was offered may look different now.
            let offers = self.agents.get(id).map(|agent| agent.offers.clone());
            for offer in offers.unwrap_or_default() {
                self.rescind(&offer);
            }
        }
        let now = self.now;
        let total = match self.returning_total(id, &message) {
            Ok(total) => total,
            Err(error) => return self.shut_down(from, &error.to_string()),
        };
        if self
            .agents
            .get(id)
            .is_some_and(|agent| agent.total != total)
        {
            for offer in self.offers_on(id) {
                self.rescind(&offer);
            }
        }
        let Some(agent) = self.agents.get_mut(id).map(Arc::make_mut) else {
            return;
        };
        let has_restarted = !is_same_life(agent, &message);
        self.agent_pids.remove(&agent.pid);
        self.agent_pids.insert(from.to_owned(), id.clone());
        from.clone_into(&mut agent.pid);
        agent.total = total;
        if has_restarted {
            agent.forget_bookings();
        }
        agent.info = message.agent;
        agent.version = message.version.unwrap_or_default();
        let knew_feedback = agent.has(AgentCapability::AgentOperationFeedback);
        agent.capabilities = message.agent_capabilities;
        let is_older = knew_feedback && !agent.has(AgentCapability::AgentOperationFeedback);
        agent.reregistered = Some(now);
        agent.expires = None;
        agent.missed_pings = 0;
        let was_connected = std::mem::replace(&mut agent.connected, true);
        let deactivated = self.standing.deactivated.contains(id);
        agent.active = !deactivated;
        if let Some(uuid) = message.resource_version_uuid {
            agent.set_resource_version(ResourceVersionUuid {
                resource_provider_id: None,
                uuid,
            });
        }
        let agent = agent.clone();
        self.authentication.spend(from);
        self.push(Action::Link {
            pid: from.to_owned(),
        });
        if is_older {
            self.forget_ended_operations(id);
        }
        let spec = self.agent_spec(&agent);
        self.allocator
            .handle(self.now, Allocation::UpdateAgent(spec));
        self.removals.cancel(id);
        if !was_connected && !deactivated {
            self.allocator
                .handle(self.now, Allocation::ActivateAgent(id.clone()));
        }
        let running: BTreeSet<(FrameworkId, TaskId)> = tasks
            .iter()
            .map(|task| (task.framework_id.clone(), task.task_id.clone()))
            .collect();
        let executors: BTreeSet<(FrameworkId, ExecutorId)> = message
            .executor_infos
            .iter()
            .filter_map(|info| Some((info.framework_id.clone()?, info.executor_id.clone())))
            .collect();
        self.forget_missing_executors(id, &executors);
        self.return_strangers(&agent, tasks);
        let answer = SlaveReregisteredMessage {
            agent_id: id.clone(),
            reconciliations: self.missing_tasks(&agent, &running),
            connection: Some(self.connection()),
        };
        self.send(from, &answer);
        self.resend_kills(&agent, &running);
        self.repeat_orders(id);
        self.tell_agent_of_frameworks(id, from, message.frameworks);
        if !agent.has(AgentCapability::ResourceProvider) {
            // It may have missed what was booked for it; one that knows operations is asked.
            self.send_checkpointed(id);
        }
    }

    /// What a known agent has. If it knows operations and has started anew, what it says it has
    /// kept. If it has not, what was booked for it: it may have asked again before the first answer
    /// and what followed it, and operations that got lost are asked about. If it knows none, what
    /// was booked for it too, since it is told all of it again.
    fn returning_total(
        &self,
        id: &AgentId,
        message: &ReregisterSlaveMessage,
    ) -> Result<Resources, Incompatible> {
        let known = self.agents.get(id);
        if let Some(known) = known.filter(|known| is_same_life(known, message)) {
            return Ok(known.total.clone());
        }
        match known.filter(|known| !known.has(AgentCapability::ResourceProvider)) {
            Some(known) => Resources::from(&message.agent.resources)
                .with_checkpointed(&known.total.checkpointed()),
            None => total_of(&message.agent, &message.checkpointed_resources),
        }
    }

    /// Tasks that run on a known agent and are not in the books: declared lost when it
    /// disconnected, or launched by a master that was deposed. A list that came late also names
    /// tasks that have ended since.
    fn return_strangers(&mut self, agent: &Agent, tasks: Vec<Told>) {
        let strangers: Vec<Told> = tasks
            .into_iter()
            .filter(|task| {
                let key = (task.framework_id.clone(), task.task_id.clone());
                let framework = self.frameworks.get(&task.framework_id);
                !is_terminal(task.record.state())
                    && !agent.tasks.contains(&key)
                    && framework.is_some_and(|known| !known.has_ended(&task.task_id))
            })
            .collect();
        if strangers.is_empty() {
            return;
        }
        // The allocator learns what is used when an agent comes.
        let id = agent.id();
        for offer in &agent.offers {
            self.rescind(offer);
        }
        for task in strangers {
            let resources = Resources::from(&*task.resources);
            if let Some(place) = self.agent_mut(&id) {
                place.charge(&task.framework_id, &resources);
                let key = (task.framework_id.clone(), task.task_id.clone());
                place.tasks.insert(key);
            }
            if let Some(known) = self.framework_mut(&task.framework_id) {
                known.charge(&id, &resources);
            }
            self.return_task(task, true);
        }
        self.allocator
            .handle(self.now, Allocation::RemoveAgent(id.clone()));
        let Some(agent) = self.agents.get(&id).cloned() else {
            return;
        };
        let mut spec = self.agent_spec(&agent);
        spec.used.clone_from(&agent.used);
        self.allocator.handle(self.now, Allocation::AddAgent(spec));
        self.learn_unavailability(&id);
    }

    /// Executors that ended while the agent was away.
    fn forget_missing_executors(
        &mut self,
        agent: &AgentId,
        present: &BTreeSet<(FrameworkId, ExecutorId)>,
    ) {
        let missing: Vec<(FrameworkId, ExecutorId)> = self
            .frameworks
            .values()
            .flat_map(|framework| {
                let executors = framework
                    .executors
                    .get(agent)
                    .into_iter()
                    .flat_map(BTreeMap::keys);
                let id = framework.id();
                executors.map(move |executor| (id.clone(), executor.clone()))
            })
            .filter(|key| !present.contains(key))
            .collect();
        for (framework, executor) in missing {
            self.remove_executor(&framework, agent, &executor);
        }
    }

    /// Tasks the agent should have but did not list: it is asked to account for them, because a
    /// launch may still be on its way.
    fn missing_tasks(
        &self,
        agent: &Agent,
        running: &BTreeSet<(FrameworkId, TaskId)>,
    ) -> Vec<ReconcileTasksMessage> {
        let mut by_framework: BTreeMap<FrameworkId, Vec<TaskStatus>> = BTreeMap::new();
        for (framework, task) in agent.tasks.difference(running) {
            let Some(record) = self.task(framework, task) else {
                continue;
            };
            by_framework
                .entry(framework.clone())
                .or_default()
                .push(TaskStatus {
                    task_id: task.clone(),
                    state: record.state,
                    agent_id: Some(agent.id()),
                    ..TaskStatus::default()
                });
        }
        by_framework
            .into_iter()
            .map(|(framework_id, statuses)| ReconcileTasksMessage {
                framework: self
                    .frameworks
                    .get(&framework_id)
                    .map(|framework| framework.info.clone()),
                framework_id,
                statuses,
            })
            .collect()
    }

    fn resend_kills(&mut self, agent: &Agent, running: &BTreeSet<(FrameworkId, TaskId)>) {
        for (framework_id, task_id) in agent.killed.intersection(running).cloned() {
            let message = KillTaskMessage {
                framework_id,
                task_id,
                kill_policy: None,
            };
            self.send(&agent.pid, &message);
        }
    }

    /// The agent was unreachable, or a former master knew it: its tasks are learnt from it.
    fn return_forgotten_agent(
        &mut self,
        id: &AgentId,
        from: &str,
        message: ReregisterSlaveMessage,
        mut tasks: Vec<Told>,
    ) {
        // A framework that heard its tasks were lost, or never had a master that knew them, is
        // told where they are; after a failover of the master it asks by itself.
        let announce = !self.recovered_agents.contains_key(id);
        for info in &message.frameworks {
            self.recover_framework(info);
        }
        let mut agent = new_agent(message.agent, from, self.now);
        let total = self.alike.resources(&agent.info.resources);
        match total.with_checkpointed(&Resources::from(&message.checkpointed_resources)) {
            Ok(total) => agent.total = total,
            Err(error) => return self.shut_down(from, &error.to_string()),
        }
        agent.version = message.version.unwrap_or_default();
        agent.capabilities = message.agent_capabilities;
        agent.reregistered = Some(self.now);
        if let Some(uuid) = message.resource_version_uuid {
            agent.set_resource_version(ResourceVersionUuid {
                resource_provider_id: None,
                uuid,
            });
        }
        let mut executors = Vec::new();
        for executor in message.executor_infos {
            let framework = executor.framework_id.clone().unwrap_or_default();
            if self.frameworks.contains_key(&framework) {
                let resources = Resources::from(&executor.resources);
                agent.charge(&framework, &resources);
                executors.push((framework, executor));
            }
        }
        tasks.retain(|task| self.frameworks.contains_key(&task.framework_id));
        let used = tasks.iter();
        for task in used.filter(|task| !is_terminal(task.record.state())) {
            let resources = self.alike.resources(&task.resources);
            match agent.used.get_mut(&task.framework_id) {
                Some(used) => *used = self.alike.sum(used, &resources),
                None => _ = agent.used.insert(task.framework_id.clone(), resources),
            }
        }
        let key = |task: &Told| (task.framework_id.clone(), task.task_id.clone());
        agent.tasks = tasks.iter().map(key).collect();
        // The allocator and readers are told of an agent with all that is used on it.
        for (framework, used) in &mut agent.used {
            *used = self.alike.shared(std::mem::take(used));
            if let Some(known) = self.framework_mut(framework) {
                known.charge(id, used);
            }
        }
        self.admit_agent(agent);
        for (framework, executor) in executors {
            if let Some(known) = self.framework_mut(&framework) {
                known.add_executor(id, executor);
            }
        }
        for task in tasks {
            self.return_task(task, announce);
        }
        let answer = SlaveReregisteredMessage {
            agent_id: id.clone(),
            reconciliations: Vec::new(),
            connection: Some(self.connection()),
        };
        self.send(from, &answer);
        self.repeat_orders(id);
        self.tell_agent_of_frameworks(id, from, message.frameworks);
    }

    /// A task that was thought lost or is new to this master; what it uses is charged already, and
    /// its agent has it.
    fn return_task(&mut self, told: Told, announce: bool) {
        let (framework, task) = (told.framework_id, told.record);
        if let Some(known) = self.framework_mut(&framework) {
            known.unreachable_tasks.remove(&told.task_id);
            known.completed_tasks.remove(&told.task_id);
            known.add_task(told.task_id, task.clone());
        }
        self.publish(News::TaskAdded(task.clone()));
        if announce {
            let task = task.read();
            let status = Status::master(
                task.state(),
                Reason::AgentReregistered,
                "Agent re-registered".to_owned(),
            );
            let mut status = status.of(
                &task.task_id,
                Some(&task.agent_id),
                task.executor_id.as_ref(),
                self.now,
            );
            if let Some(last) = task.statuses.last() {
                status.healthy = last.healthy;
                status.check_status.clone_from(&last.check_status);
                status.container_status.clone_from(&last.container_status);
            }
            self.tell(&framework, update_event(status));
        }
    }

    /// A framework that is known only through an agent, until it comes back itself.
    pub(crate) fn recover_framework(&mut self, info: &FrameworkInfo) {
        let id = info.id.clone().unwrap_or_default();
        let known = id.value.is_empty() || self.frameworks.contains_key(&id) || self.is_ended(&id);
        if !known {
            let mut framework = Framework::new(info.clone(), self.now);
            framework.link = Link::Recovered;
            self.add_framework(framework);
            self.recovered_framework_expires(&id);
            self.publish_framework_added(&id);
        }
    }

    /// Agents learn where each framework's scheduler is, and which of theirs are no more.
    fn tell_agent_of_frameworks(&mut self, id: &AgentId, pid: &str, infos: Vec<FrameworkInfo>) {
        let mut ids: BTreeSet<FrameworkId> = infos.into_iter().filter_map(|info| info.id).collect();
        if let Some(agent) = self.agents.get(id) {
            ids.extend(agent.used.keys().cloned());
        }
        for id in ids {
            if let Some(message) = self.introduction(&id) {
                let to = pid.to_owned();
                self.push(Action::Send { to, message });
            } else {
                let message = ShutdownFrameworkMessage { framework_id: id };
                self.send(pid, &message);
            }
        }
    }

    /// What agents are told of a framework, written once for all of them.
    fn introduction(&mut self, id: &FrameworkId) -> Option<Packet> {
        let framework = self.frameworks.get(id)?;
        let written = framework.introduction.as_ref().filter(|(said, _)| {
            said.pid == framework.pid && said.framework_info.as_ref() == Some(&framework.info)
        });
        if let Some((_, packet)) = written {
            return Some(packet.clone());
        }
        let message = UpdateFrameworkMessage {
            framework_id: id.clone(),
            pid: framework.pid.clone(),
            framework_info: Some(framework.info.clone()),
        };
        let packet = Packet::of(&message);
        self.framework_mut(id)?.introduction = Some((message, packet.clone()));
        Some(packet)
    }

    /// The agent's resources changed: oversubscription, providers, or their versions.
    pub(crate) fn update_agent(&mut self, message: UpdateSlaveMessage) {
        self.counters.messages_update_slave += 1;
        let known = self.agents.get(&message.agent_id);
        let version = known.and_then(|known| known.own_resource_version());
        let said = message.resource_version_uuid.as_ref();
        if version.is_some() && said.is_some() && version != said {
            // An earlier life of the agent said it, or a later one that will say it again once it is admitted.
            return;
        }
        // Now it is known which operations are pending there.
        self.emptied.insert(message.agent_id.clone());
        let Some(agent) = self.agent_mut(&message.agent_id) else {
            return;
        };
        if let Some(uuid) = message.resource_version_uuid {
            agent.set_resource_version(ResourceVersionUuid {
                resource_provider_id: None,
                uuid,
            });
        }
        for provider in message
            .resource_providers
            .iter()
            .flat_map(|all| &all.providers)
        {
            agent.set_resource_version(ResourceVersionUuid {
                resource_provider_id: provider.info.as_ref().and_then(|info| info.id.clone()),
                uuid: provider.resource_version_uuid.clone(),
            });
        }
        if message
            .update_oversubscribed_resources
            .unwrap_or(!message.oversubscribed_resources.is_empty())
        {
            let mut spare = message.oversubscribed_resources;
            upgrade_all(&mut spare);
            let mut total = agent.total.filter(|resource| resource.revocable.is_none());
            total += &Resources::from(&spare);
            agent.total = total;
            let (agent, offers) = (agent.clone(), agent.offers.clone());
            for offer in offers {
                let revocable = self.offers.get(&offer).is_some_and(|offer| {
                    offer
                        .resources
                        .iter()
                        .any(|resource| resource.revocable.is_some())
                });
                if revocable {
                    self.rescind(&offer);
                }
            }
            let spec = self.agent_spec(&agent);
            self.allocator
                .handle(self.now, Allocation::UpdateAgent(spec));
        }
        self.agent_operations(&message.agent_id, message.operations);
    }
}

/// Whether the agent's process is the one that registered before: each start draws a version.
fn is_same_life(known: &Agent, message: &ReregisterSlaveMessage) -> bool {
    let version = known.own_resource_version();
    version.is_some() && version == message.resource_version_uuid.as_ref()
}

fn new_agent(info: AgentInfo, pid: &str, now: dcos_core::time::Time) -> Agent {
    Agent {
        info,
        pid: pid.to_owned(),
        version: String::new(),
        capabilities: Vec::new(),
        connected: true,
        active: true,
        registered: now,
        reregistered: None,
        expires: None,
        total: Resources::default(),
        used: BTreeMap::new(),
        tasks: BTreeSet::new(),
        killed: BTreeSet::new(),
        offers: BTreeSet::new(),
        inverse_offers: BTreeSet::new(),
        inverse_answers: BTreeMap::new(),
        unavailability: None,
        deactivated: false,
        drain_info: None,
        drain_started: None,
        resource_versions: Vec::new(),
        missed_pings: 0,
        operations: BTreeMap::new(),
        undone: Vec::new(),
    }
}

/// The host of a UPID.
fn host(pid: &str) -> &str {
    let address = pid.split_once('@').map_or(pid, |(_, address)| address);
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

//! What survives a restart: agents, those that are unreachable or gone, frameworks, and the
//! standing orders of operators.
//!
//! Mesos keeps one `Registry` message; here each entry has a key of its own, so that a change
//! costs what it changes. The values are the parts of that message. Frameworks are ours: Mesos
//! forgets them, and with them their failover timeout (MESOS-4659).

use std::time::Duration;

use bytes::Bytes;
use dcos_core::time::Time;
use dcos_core::tree::Tree;
use dcos_proto::internal::registry::{
    GoneSlave, Machine, MinimumCapability, Slave, UnreachableSlave, Weight,
};
use dcos_proto::json::JsonEnum as _;
use dcos_proto::maintenance::Schedule;
use dcos_proto::mesos::master_info::capability::Type as Ability;
use dcos_proto::mesos::{
    AgentId, AgentInfo, DrainInfo, FrameworkId, FrameworkInfo, MachineInfo, TimeInfo, WeightInfo,
};
use dcos_proto::quota::QuotaConfig;
use dcos_proto::{Message, decode};
use dcos_store::{Entry, Snapshot, Write};

use super::config::CAPABILITIES;
use super::core::Timer;
use super::frameworks::{expiry, failover_timeout};
use super::{Framework, Link, MachineKey, Master, Standing};
use crate::allocator::{Event as Allocation, Quota};

/// Where everything of the master lies in the store.
pub const PREFIX: &str = "mesos/";
const AGENTS: &str = "mesos/agents/";
const UNREACHABLE: &str = "mesos/unreachable/";
const GONE: &str = "mesos/gone/";
const FRAMEWORKS: &str = "mesos/frameworks/";
const QUOTAS: &str = "mesos/quotas/";
const WEIGHTS: &str = "mesos/weights/";
const PRIORITIES: &str = "mesos/priorities/";
const MACHINES: &str = "mesos/machines/";
const SCHEDULE: &str = "mesos/schedule";
const NEEDED: &str = "mesos/minimum_capabilities/";

fn put<M: Message>(prefix: &str, id: &str, message: &M) -> Write {
    Write::Put(
        format!("{prefix}{id}"),
        Bytes::from(message.encode_to_vec()),
    )
}

pub(crate) fn put_agent(info: &AgentInfo, standing: &Standing) -> Write {
    let id = info.id.clone().unwrap_or_default();
    let entry = Slave {
        info: info.clone(),
        drain_info: standing.draining.get(&id).copied(),
        deactivated: standing.deactivated.contains(&id).then_some(true),
    };
    put(AGENTS, &id.value, &entry)
}

pub(crate) fn delete_agent(id: &AgentId) -> Write {
    Write::Delete(format!("{AGENTS}{id}"))
}

pub(crate) fn put_unreachable(id: &AgentId, timestamp: TimeInfo, standing: &Standing) -> Write {
    let entry = UnreachableSlave {
        id: id.clone(),
        timestamp,
        drain_info: standing.draining.get(id).copied(),
        deactivated: standing.deactivated.contains(id).then_some(true),
    };
    put(UNREACHABLE, &id.value, &entry)
}

pub(crate) fn delete_unreachable(id: &AgentId) -> Write {
    Write::Delete(format!("{UNREACHABLE}{id}"))
}

pub(crate) fn put_framework(info: &FrameworkInfo) -> Write {
    let id = info.id.clone().unwrap_or_default();
    put(FRAMEWORKS, &id.value, info)
}

pub(crate) fn delete_framework(id: &FrameworkId) -> Write {
    Write::Delete(format!("{FRAMEWORKS}{id}"))
}

pub(crate) fn put_gone(id: &AgentId, timestamp: TimeInfo) -> Write {
    let entry = GoneSlave {
        id: id.clone(),
        timestamp,
    };
    put(GONE, &id.value, &entry)
}

pub(crate) fn put_quota(config: &QuotaConfig) -> Write {
    put(QUOTAS, &config.role, config)
}

pub(crate) fn delete_quota(role: &str) -> Write {
    Write::Delete(format!("{QUOTAS}{role}"))
}

pub(crate) fn put_weight(role: &str, weight: f64) -> Write {
    let info = WeightInfo {
        role: Some(role.to_owned()),
        weight,
    };
    put(WEIGHTS, role, &Weight { info })
}

/// As a number in decimal, since Mesos has no message for it.
pub(crate) fn put_priority(role: &str, priority: i32) -> Write {
    let key = format!("{PRIORITIES}{role}");
    Write::Put(key, Bytes::from(priority.to_string()))
}

pub(crate) fn put_machine(key: &MachineKey, info: &MachineInfo) -> Write {
    let info = info.clone();
    put(MACHINES, &key.to_path(), &Machine { info })
}

pub(crate) fn delete_machine(key: &MachineKey) -> Write {
    Write::Delete(format!("{MACHINES}{}", key.to_path()))
}

pub(crate) fn put_schedule(schedule: &Schedule) -> Write {
    put(SCHEDULE, "", schedule)
}

/// From now on, no master may lead that lacks `ability`: it would not see what the registry says.
pub(crate) fn put_needed(ability: Ability) -> Write {
    let capability = ability.name().to_owned();
    put(NEEDED, ability.name(), &MinimumCapability { capability })
}

/// What whoever wrote the registry demands of its successors, and this master cannot do.
pub(crate) fn lacking(registry: &Snapshot) -> Vec<String> {
    let needed = registry.entries.iter();
    let needed = needed.filter_map(|entry| entry.key.strip_prefix(NEEDED));
    let known = |name: &&str| CAPABILITIES.iter().any(|ability| ability.name() == *name);
    needed.filter(|name| !known(name)).map(Into::into).collect()
}

fn delete_gone(id: &AgentId) -> Write {
    Write::Delete(format!("{GONE}{id}"))
}

/// How old what was ended may become.
pub(crate) const MAX_AGE: Duration = Duration::from_hours(14 * 24);

/// The entries that are too old, or too many.
pub(crate) fn stale<K: Ord + Clone>(
    entries: &Tree<K, TimeInfo>,
    now: Time,
    most: usize,
    oldest: Duration,
) -> Vec<K> {
    let mut by_age: Vec<(u64, &K)> = entries
        .iter()
        .map(|(id, since)| (since.nanoseconds.unsigned_abs(), id))
        .collect();
    by_age.sort_unstable();
    let surplus = by_age.len().saturating_sub(most);
    let old = |since: u64| now.since(Time::from_nanos(since)) > oldest;
    let entries = by_age.into_iter().enumerate();
    entries
        .filter(|(index, (since, _))| *index < surplus || old(*since))
        .map(|(_, (_, id))| id.clone())
        .collect()
}

impl Master {
    /// Takes over what a former master left. Entries that can't be read are left alone and
    /// ignored: losing one agent's entry only means that it registers anew.
    pub(crate) fn recover(&mut self, snapshot: &Snapshot) {
        self.recovered = true;
        self.at(self.settings.registry_gc_interval, Timer::RegistryGc);
        for entry in &snapshot.entries {
            if self.recover_order(entry) || self.recover_ended(entry) {
                continue;
            }
            if entry.key.starts_with(AGENTS) {
                if let Ok(slave) = decode::<Slave>(&entry.value) {
                    let id = slave.info.id.clone().unwrap_or_default();
                    self.recover_agent_orders(&id, slave.drain_info, slave.deactivated());
                    let timeout = self.settings.agent_reregister_timeout;
                    self.at(timeout, Timer::RecoveredAgentExpires(id.clone()));
                    self.recovered_agents.insert(id, slave.info);
                }
            } else if entry.key.starts_with(UNREACHABLE) {
                if let Ok(agent) = decode::<UnreachableSlave>(&entry.value) {
                    self.recover_agent_orders(&agent.id, agent.drain_info, agent.deactivated());
                    self.unreachable.insert(agent.id, agent.timestamp);
                }
            } else if entry.key.starts_with(GONE) {
                if let Ok(agent) = decode::<GoneSlave>(&entry.value) {
                    self.gone.insert(agent.id, agent.timestamp);
                }
            } else if entry.key.starts_with(FRAMEWORKS)
                && let Ok(info) = decode::<FrameworkInfo>(&entry.value)
            {
                let id = info.id.clone().unwrap_or_default();
                let mut framework = Framework::new(info, self.now);
                framework.link = Link::Recovered;
                self.insert_framework(framework);
                self.recovered_framework_expires(&id);
            }
        }
        self.known_before = self.recovered_agents.len();
        self.at(self.settings.agent_reregister_timeout, Timer::RecoveryEnds);
        self.recover_weights();
        self.recover_priorities();
        self.recover_quotas();
    }

    /// What operators set, if the entry speaks of that.
    fn recover_order(&mut self, entry: &Entry) -> bool {
        let (key, value) = (&entry.key, &entry.value);
        let standing = self.standing_mut();
        if key.starts_with(QUOTAS) {
            if let Ok(config) = decode::<QuotaConfig>(value) {
                let quota = Quota::from_config(&config);
                standing.quotas.insert(config.role, quota);
            }
        } else if key.starts_with(WEIGHTS) {
            if let Ok(weight) = decode::<Weight>(value) {
                let role = weight.info.role().to_owned();
                standing.weights.insert(role, weight.info.weight);
            }
        } else if let Some(role) = key.strip_prefix(PRIORITIES) {
            let priority = std::str::from_utf8(value).ok();
            if let Some(priority) = priority.and_then(|text| text.parse().ok()) {
                standing.priorities.insert(role.to_owned(), priority);
            }
        } else if key.starts_with(MACHINES) {
            if let Ok(machine) = decode::<Machine>(value) {
                let key = MachineKey::from(&machine.info.id);
                standing.machines.insert(key, machine.info);
            }
        } else if &**key == SCHEDULE {
            if let Ok(schedule) = decode::<Schedule>(value) {
                standing.schedule = schedule;
            }
        } else {
            return false;
        }
        true
    }

    fn recover_agent_orders(
        &mut self,
        id: &AgentId,
        drain_info: Option<DrainInfo>,
        deactivated: bool,
    ) {
        if drain_info.is_none() && !deactivated {
            return;
        }
        let standing = self.standing_mut();
        if let Some(info) = drain_info {
            standing.draining.insert(id.clone(), info);
        }
        if deactivated {
            standing.deactivated.insert(id.clone());
        }
    }

    /// Quotas hold from the start, and so that guarantees are not met from the first agents alone,
    /// nothing is offered before most of them are back.
    fn recover_quotas(&mut self) {
        let quotas = self.standing.quotas.clone();
        if quotas.is_empty() {
            return;
        }
        let known = self.recovered_agents.len();
        self.allocator.handle(self.now, Allocation::Quotas(quotas));
        self.allocator
            .handle(self.now, Allocation::AwaitAgents { known });
    }

    /// Forgets agents that have been unreachable or gone for long, and the oldest of too many.
    pub(crate) fn collect_garbage(&mut self) {
        self.at(self.settings.registry_gc_interval, Timer::RegistryGc);
        let (now, most) = (self.now, self.settings.registry_max_agent_count);
        let oldest = self.settings.registry_max_agent_age;
        let unreachable = stale(&self.unreachable, now, most, oldest);
        let gone = stale(&self.gone, now, most, oldest);
        for id in &unreachable {
            self.unreachable.remove(id);
            if self.standing.deactivated.contains(id) {
                self.standing_mut().forget_agent(id);
            }
        }
        for id in &gone {
            self.gone.remove(id);
        }
        let mut writes: Vec<Write> = unreachable.iter().map(delete_unreachable).collect();
        writes.extend(gone.iter().map(delete_gone));
        writes.extend(self.forget_ended());
        if !writes.is_empty() {
            self.persist(writes);
        }
    }

    /// A framework that was known before must come back within its failover timeout, counted from
    /// now, since nobody knows when it went away.
    pub(crate) fn recovered_framework_expires(&mut self, id: &FrameworkId) {
        let Some(info) = self
            .frameworks
            .get(id)
            .map(|framework| framework.info.clone())
        else {
            return;
        };
        // At least as long as agents have, or a restart of the master would end every framework
        // that did not ask for a timeout.
        let least = self.settings.agent_reregister_timeout;
        let expires = expiry(&info, self.now).max(self.now + least);
        self.at(
            failover_timeout(&info).max(least),
            Timer::FrameworkExpires(id.clone()),
        );
        if let Some(framework) = self.framework_mut(id) {
            framework.expires = Some(expires);
        }
    }
}

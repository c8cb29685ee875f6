//! What survives a restart: agents, those that are unreachable or gone, and frameworks.
//!
//! Mesos keeps one `Registry` message; here each entry has a key of its own, so that a change
//! costs what it changes. The values are the parts of that message. Frameworks are ours: Mesos
//! forgets them, and with them their failover timeout (MESOS-4659).

use bytes::Bytes;
use dcos_proto::internal::registry::{GoneSlave, Slave, UnreachableSlave};
use dcos_proto::mesos::{AgentId, AgentInfo, FrameworkId, FrameworkInfo, TimeInfo};
use dcos_proto::{Message, decode};
use dcos_store::{Snapshot, Write};

use super::core::Timer;
use super::frameworks::{expiry, failover_timeout};
use super::{Framework, Link, Master};

/// Where everything of the master lies in the store.
pub const PREFIX: &str = "mesos/";
const AGENTS: &str = "mesos/agents/";
const UNREACHABLE: &str = "mesos/unreachable/";
const GONE: &str = "mesos/gone/";
const FRAMEWORKS: &str = "mesos/frameworks/";

fn put<M: Message>(prefix: &str, id: &str, message: &M) -> Write {
    Write::Put(
        format!("{prefix}{id}"),
        Bytes::from(message.encode_to_vec()),
    )
}

pub(crate) fn put_agent(info: &AgentInfo) -> Write {
    let id = info.id.clone().unwrap_or_default();
    let entry = Slave {
        info: info.clone(),
        drain_info: None,
        deactivated: None,
    };
    put(AGENTS, &id.value, &entry)
}

pub(crate) fn delete_agent(id: &AgentId) -> Write {
    Write::Delete(format!("{AGENTS}{id}"))
}

pub(crate) fn put_unreachable(id: &AgentId, timestamp: TimeInfo) -> Write {
    let entry = UnreachableSlave {
        id: id.clone(),
        timestamp,
        drain_info: None,
        deactivated: None,
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

impl Master {
    /// Takes over what a former master left. Entries that can't be read are left alone and
    /// ignored: losing one agent's entry only means that it registers anew.
    pub(crate) fn recover(&mut self, snapshot: &Snapshot) {
        self.recovered = true;
        for entry in &snapshot.entries {
            if entry.key.starts_with(AGENTS) {
                if let Ok(slave) = decode::<Slave>(&entry.value) {
                    let id = slave.info.id.clone().unwrap_or_default();
                    let timeout = self.settings.agent_reregister_timeout;
                    self.at(timeout, Timer::RecoveredAgentExpires(id.clone()));
                    self.recovered_agents.insert(id, slave.info);
                }
            } else if entry.key.starts_with(UNREACHABLE) {
                if let Ok(agent) = decode::<UnreachableSlave>(&entry.value) {
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
                self.add_framework(framework);
                self.recovered_framework_expires(&id);
            }
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

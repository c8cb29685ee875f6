//! What operators have set and what holds until they change it: quotas, weights, priorities, maintenance,
//! agents that are drained or deactivated.
//!
//! All of it is in the registry; readers see it as part of the [`Snapshot`](super::Snapshot).

use std::collections::{BTreeMap, BTreeSet};

use dcos_proto::maintenance::Schedule;
use dcos_proto::mesos::{
    AgentId, AgentInfo, DrainInfo, DrainState, MachineId, MachineInfo, Unavailability,
};

use crate::allocator::Quota;

/// The standing orders of operators.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Guarantees and limits, by role; roles without either are absent.
    pub quotas: BTreeMap<String, Quota>,
    /// Weights of roles; those not listed weigh 1.
    pub weights: BTreeMap<String, f64>,
    /// Priorities of roles among their siblings; those not listed have 0.
    pub priorities: BTreeMap<String, i32>,
    /// Machines that are to be maintained (DRAINING) or are being so (DOWN).
    pub machines: BTreeMap<MachineKey, MachineInfo>,
    /// When which machines are to be maintained, as it was written.
    pub schedule: Schedule,
    /// Agents that an operator had drained, and how.
    pub draining: BTreeMap<AgentId, DrainInfo>,
    /// Agents whose resources an operator wants not to be offered.
    pub deactivated: BTreeSet<AgentId>,
}

/// A machine by host name, whose letters' case does not matter, and address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineKey {
    hostname: String,
    ip: String,
}

impl MachineKey {
    /// The machine at `ip` that calls itself `hostname`.
    pub fn new(hostname: &str, ip: &str) -> Self {
        Self {
            hostname: hostname.to_lowercase(),
            ip: ip.to_owned(),
        }
    }

    /// The machine an agent with this UPID runs on.
    pub fn of_agent(info: &AgentInfo, pid: &str) -> Self {
        Self::new(&info.hostname, host_of(pid))
    }

    /// As a part of a key in the store.
    pub(crate) fn to_path(&self) -> String {
        format!("{}/{}", self.hostname, self.ip)
    }
}

impl From<&MachineId> for MachineKey {
    fn from(id: &MachineId) -> Self {
        Self::new(id.hostname(), id.ip())
    }
}

/// The address in a UPID.
fn host_of(pid: &str) -> &str {
    let address = pid.split_once('@').map_or(pid, |(_, address)| address);
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

impl Standing {
    /// When the agent's machine is going to be away.
    pub fn unavailability(&self, machine: &MachineKey) -> Option<Unavailability> {
        self.machines.get(machine)?.unavailability
    }

    /// Whether an agent is being emptied and has not been found empty yet.
    pub fn is_draining(&self, agent: &AgentId) -> bool {
        self.draining
            .get(agent)
            .is_some_and(|info| info.state() == DrainState::Draining)
    }

    /// Forgets an agent for good.
    pub(crate) fn forget_agent(&mut self, agent: &AgentId) {
        self.draining.remove(agent);
        self.deactivated.remove(agent);
    }
}

//! [`Allocation`]: which part of each overlay every agent has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Mac, NetworkConfig, OverlayInfo, Subnet};

/// The network identifier of all overlays.
pub const VNI: u32 = 1024;
/// The UDP port of tunnel ends.
pub const PORT: u16 = 64_000;
/// The name of the link that is a node's tunnel end.
pub const VTEP: &str = "vtep1024";

/// What an agent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// A part of each overlay; masters are in the overlay with their tunnel end alone.
    pub subnets: bool,
    /// A bridge for containers of the agent's own containerizer.
    pub mesos_bridge: bool,
    /// A bridge for Docker.
    pub docker_bridge: bool,
}

impl Wishes {
    /// Everything.
    pub const ALL: Self = Self {
        subnets: true,
        mesos_bridge: true,
        docker_bridge: true,
    };
}

/// Every agent's part of the overlays: what a master stores.
///
/// Agents are known by their address. One that comes back gets what it had, and gets parts of
/// overlays that were added meanwhile; what it has is its own until it is
/// [`remove`](Self::remove)d, or until the configuration has no place for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    agents: BTreeMap<IpAddr, AgentNetwork>,
}

/// What one agent has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentNetwork {
    /// Its tunnel end.
    pub vtep: Vtep,
    /// Its parts of the overlays, by name.
    #[serde(default)]
    pub overlays: BTreeMap<String, AgentOverlay>,
}

/// A tunnel end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vtep {
    /// Its address, with the prefix of all tunnel ends.
    pub ip: Subnet,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Subnet>,
    /// Its hardware address.
    pub mac: Mac,
}

/// An agent's part of an overlay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOverlay {
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
    /// Its IPv6 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet>,
    /// The bridge of the agent's own containers: the lower halves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesos_bridge: Option<Bridge>,
    /// The bridge of Docker's: the upper halves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_bridge: Option<Bridge>,
}

/// A bridge and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// `m-<overlay>` or `d-<overlay>`.
    pub name: String,
    /// Its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Subnet>,
    /// Its IPv6 network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Subnet>,
}

/// Nothing is left of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address or part of {network} is left for {agent}")]
pub struct Exhausted {
    /// The network that is used up.
    pub network: Subnet,
    /// Who asked.
    pub agent: IpAddr,
}

impl Allocation {
    /// One that was stored.
    pub fn new(agents: impl IntoIterator<Item = (IpAddr, AgentNetwork)>) -> Self {
        Self {
            agents: agents.into_iter().collect(),
        }
    }

    /// What `agent` has, with new parts of the overlays where it has none yet. Nothing changes if
    /// there is not enough for all.
    ///
    /// `former` is what the agent says it has: an agent nobody remembers keeps that, as far as it
    /// is free.
    ///
    /// # Errors
    /// A network has nothing left.
    pub fn register(
        &mut self,
        config: &NetworkConfig,
        agent: IpAddr,
        wishes: Wishes,
        former: Option<&AgentNetwork>,
    ) -> Result<&AgentNetwork, Exhausted> {
        let known = self.agents.get(&agent).cloned();
        let known = known.or_else(|| self.adopted(config, former?));
        let vtep = known.as_ref().map(|network| network.vtep);
        let vtep = match vtep.filter(|vtep| vtep.is_of(config)) {
            Some(vtep) => vtep,
            None => self.free_vtep(config, agent)?,
        };
        let mut overlays = known.map(|network| network.overlays).unwrap_or_default();
        for overlay in config.enabled().filter(|_| wishes.subnets) {
            let had = overlays.get(&overlay.name);
            let (mut subnet, mut subnet6) =
                had.map_or((None, None), |had| (had.subnet, had.subnet6));
            let taken = || {
                self.agents
                    .values()
                    .flat_map(|agent| agent.overlays.values())
            };
            if let Some((whole, prefix)) = overlay.subnet.zip(overlay.prefix)
                && subnet.is_none_or(|subnet| !whole.holds(&subnet))
            {
                let taken = taken().filter_map(|part| part.subnet);
                subnet = Some(free(whole, whole.parts(prefix), taken, agent)?);
            }
            if let Some((whole, prefix)) = overlay.subnet6.zip(overlay.prefix6)
                && subnet6.is_none_or(|subnet| !whole.holds(&subnet))
            {
                let taken = taken().filter_map(|part| part.subnet6);
                subnet6 = Some(free(whole, whole.parts(prefix), taken, agent)?);
            }
            let part = AgentOverlay::new(overlay, subnet, subnet6, wishes);
            overlays.insert(overlay.name.clone(), part);
        }
        let slot = self.agents.entry(agent);
        Ok(slot
            .insert_entry(AgentNetwork { vtep, overlays })
            .into_mut())
    }

    /// Takes back what an agent has; says whether it had anything.
    pub fn remove(&mut self, agent: IpAddr) -> bool {
        self.agents.remove(&agent).is_some()
    }

    /// Every agent, by address.
    pub fn agents(&self) -> &BTreeMap<IpAddr, AgentNetwork> {
        &self.agents
    }

    /// As much of `former` as could be given today, and nobody else has.
    fn adopted(&self, config: &NetworkConfig, former: &AgentNetwork) -> Option<AgentNetwork> {
        let ends = |vtep: &Vtep| [Some(vtep.ip.ip()), vtep.ip6.map(|ip| ip.ip())];
        let taken: BTreeSet<IpAddr> = self
            .agents
            .values()
            .flat_map(|agent| ends(&agent.vtep))
            .flatten()
            .collect();
        if ends(&former.vtep)
            .iter()
            .flatten()
            .any(|ip| taken.contains(ip))
        {
            return None;
        }
        let taken: Vec<Subnet> = self.agents.values().flat_map(AgentNetwork::parts).collect();
        let fits = |part: Option<Subnet>, whole: Option<Subnet>, prefix: Option<u8>| {
            part.is_none_or(|part| {
                let given =
                    whole.is_some_and(|whole| whole.holds(&part)) && prefix == Some(part.prefix());
                given && part == part.network() && !taken.iter().any(|other| other.overlaps(&part))
            })
        };
        let mut network = former.clone();
        network.overlays.retain(|name, part| {
            let overlay = config.enabled().find(|overlay| overlay.name == *name);
            overlay.is_some_and(|overlay| {
                fits(part.subnet, overlay.subnet, overlay.prefix)
                    && fits(part.subnet6, overlay.subnet6, overlay.prefix6)
            })
        });
        for part in network.overlays.values_mut() {
            // Bridges are made anew from its part, for what it wishes today.
            (part.mesos_bridge, part.docker_bridge) = (None, None);
        }
        Some(network)
    }

    fn free_vtep(&self, config: &NetworkConfig, agent: IpAddr) -> Result<Vtep, Exhausted> {
        let others = || self.agents.iter().filter(|(ip, _)| **ip != agent);
        let vteps = || others().map(|(_, network)| &network.vtep);
        // An end stands for its address alone, whatever the network had for a size when it was given.
        let end_of = |whole: Subnet| move |end: Subnet| Subnet::new(end.ip(), whole.prefix());
        let whole = config.vtep_subnet;
        let taken = vteps().map(|vtep| vtep.ip).filter_map(end_of(whole));
        let ip = free(whole, whole.hosts(), taken, agent)?;
        let ip6 = config.vtep_subnet6.map(|whole| {
            let taken = vteps()
                .filter_map(|vtep| vtep.ip6)
                .filter_map(end_of(whole));
            free(whole, whole.hosts(), taken, agent)
        });
        Ok(Vtep {
            ip,
            ip6: ip6.transpose()?,
            mac: mac(config, ip),
        })
    }
}

impl AgentNetwork {
    /// Its parts of all overlays, those of IPv6 as well.
    pub fn parts(&self) -> impl Iterator<Item = Subnet> {
        let parts = self.overlays.values();
        parts.flat_map(|part| part.subnet.into_iter().chain(part.subnet6))
    }

    /// The same without overlays that `config` does not have.
    #[must_use]
    pub fn within(&self, config: &NetworkConfig) -> Self {
        let mut network = self.clone();
        let names: BTreeSet<&str> = config.enabled().map(|overlay| &*overlay.name).collect();
        network
            .overlays
            .retain(|name, _| names.contains(name.as_str()));
        network
    }
}

impl Vtep {
    /// Whether a node could be given it today.
    fn is_of(&self, config: &NetworkConfig) -> bool {
        let v4 = self.ip.network() == config.vtep_subnet;
        let v6 = self.ip6.map(|ip| ip.network()) == config.vtep_subnet6;
        v4 && v6 && self.mac == mac(config, self.ip)
    }
}

impl AgentOverlay {
    fn new(
        overlay: &OverlayInfo,
        subnet: Option<Subnet>,
        subnet6: Option<Subnet>,
        wishes: Wishes,
    ) -> Self {
        let half = |whole: Option<Subnet>, number| {
            whole.and_then(|whole| whole.parts(whole.prefix() + 1).nth(number))
        };
        let bridge = |letter, number| Bridge {
            name: format!("{letter}-{}", overlay.name),
            ip: half(subnet, number),
            ip6: half(subnet6, number),
        };
        Self {
            subnet,
            subnet6,
            mesos_bridge: wishes.mesos_bridge.then(|| bridge('m', 0)),
            docker_bridge: wishes.docker_bridge.then(|| bridge('d', 1)),
        }
    }
}

/// The upper half is the same for all, the lower that of the address.
fn mac(config: &NetworkConfig, ip: Subnet) -> Mac {
    match ip.ip() {
        IpAddr::V4(ip) => config.vtep_mac_oui.with_lower_half_of(ip),
        IpAddr::V6(_) => config.vtep_mac_oui,
    }
}

/// The first of `candidates` that has nothing in common with any taken one.
fn free(
    network: Subnet,
    mut candidates: impl Iterator<Item = Subnet>,
    taken: impl Iterator<Item = Subnet>,
    agent: IpAddr,
) -> Result<Subnet, Exhausted> {
    let taken: Vec<Subnet> = taken.collect();
    let same: BTreeSet<Subnet> = taken.iter().copied().collect();
    // Parts of another size than today's are left by an earlier configuration. Addresses of tunnel
    // ends all have the size of their network, and differ nevertheless.
    let odd = |candidate: &Subnet| {
        let mut others = taken
            .iter()
            .filter(|part| part.prefix() != candidate.prefix());
        others.any(|part| part.overlaps(candidate))
    };
    candidates
        .find(|candidate| !same.contains(candidate) && !odd(candidate))
        .ok_or(Exhausted { network, agent })
}

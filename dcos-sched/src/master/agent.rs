//! What the master knows about one agent.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_proto::allocator::InverseOfferStatus;
use dcos_proto::internal::ResourceVersionUuid;
use dcos_proto::mesos::agent_info::{Capability, capability};
use dcos_proto::mesos::{
    AgentId, AgentInfo, DrainInfo, FrameworkId, OfferId, Resource, TaskId, Unavailability,
};

/// An agent that is admitted.
#[derive(Debug, Clone)]
pub struct Agent {
    /// What it said about itself; `id` is always set.
    pub info: AgentInfo,
    /// Its UPID.
    pub pid: String,
    /// Its version of Mesos.
    pub version: String,
    /// What it is able to do.
    pub capabilities: Vec<Capability>,
    /// Whether its connection stands.
    pub connected: bool,
    /// Whether its resources are offered.
    pub active: bool,
    /// When it was first admitted.
    pub registered: Time,
    /// When it last came back.
    pub reregistered: Option<Time>,
    /// Until when it must come back, if it is disconnected.
    pub expires: Option<Time>,
    /// All it has, reservations and oversubscribed resources included.
    pub total: Resources,
    /// What its tasks and executors use, by framework.
    pub used: BTreeMap<FrameworkId, Resources>,
    /// Its tasks.
    pub tasks: BTreeSet<(FrameworkId, TaskId)>,
    /// Tasks that must be killed again when it comes back.
    pub killed: BTreeSet<(FrameworkId, TaskId)>,
    /// Open offers on it.
    pub offers: BTreeSet<OfferId>,
    /// Open inverse offers on it.
    pub inverse_offers: BTreeSet<OfferId>,
    /// What frameworks last answered to those.
    pub inverse_answers: BTreeMap<FrameworkId, InverseOfferStatus>,
    /// When its machine is going to be away.
    pub unavailability: Option<Unavailability>,
    /// Whether an operator wants its resources not to be offered.
    pub deactivated: bool,
    /// How it is emptied, if an operator wants that.
    pub drain_info: Option<DrainInfo>,
    /// When it was told so, as far as this master knows.
    pub drain_started: Option<Time>,
    /// The versions of its resources, repeated in launches.
    pub resource_versions: Vec<ResourceVersionUuid>,
    /// Pings it has not answered.
    pub missed_pings: u32,
}

impl Agent {
    /// Its id.
    pub fn id(&self) -> AgentId {
        self.info.id.clone().unwrap_or_default()
    }

    /// Whether it declared a capability.
    pub fn has(&self, capability: capability::Type) -> bool {
        self.capabilities
            .iter()
            .any(|declared| declared.r#type() == capability)
    }

    /// What all frameworks together use on it.
    pub fn used_total(&self) -> Resources {
        let mut total = Resources::default();
        for used in self.used.values() {
            total += used;
        }
        total
    }

    /// Whether there is anything on it that ends by and by.
    pub(crate) fn is_busy(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(crate) fn charge(&mut self, framework: &FrameworkId, resources: &Resources) {
        *self.used.entry(framework.clone()).or_default() += resources;
    }

    pub(crate) fn discharge(&mut self, framework: &FrameworkId, resources: &Resources) {
        if let Some(used) = self.used.get_mut(framework) {
            *used -= resources;
            if used.is_empty() {
                self.used.remove(framework);
            }
        }
    }

    pub(crate) fn set_resource_version(&mut self, version: ResourceVersionUuid) {
        self.resource_versions
            .retain(|known| known.resource_provider_id != version.resource_provider_id);
        self.resource_versions.push(version);
    }
}

/// What an agent has: its resources with what was reserved and created on them since.
///
/// `checkpointed` are dynamic reservations and volumes; they replace the plain resources they were
/// made of. Source: Mesos 1.11 `common/resources_utils.cpp`, `applyCheckpointedResources`.
pub(crate) fn total_of(info: &AgentInfo, checkpointed: &[Resource]) -> Resources {
    let mut total = Resources::from(&info.resources);
    for resource in &Resources::from_messages(checkpointed).to_messages() {
        let one = Resources::from_messages([resource]);
        let mut stripped = resource.clone();
        stripped.shared = None;
        if let Some(disk) = &mut stripped.disk {
            disk.persistence = None;
            disk.volume = None;
            if disk.source.is_none() {
                stripped.disk = None;
            }
        }
        stripped.reservations.retain(|reservation| {
            reservation.r#type() == dcos_proto::mesos::resource::reservation_info::Type::Static
        });
        let plain = Resources::from_messages([&stripped]);
        if !total.contains(&one) && total.contains(&plain) {
            total -= &plain;
            total += &one;
        }
    }
    total
}

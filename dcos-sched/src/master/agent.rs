//! What the master knows about one agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dcos_core::resources::Resources;
use dcos_core::resources::operation::{Conversion, Incompatible};
use dcos_core::time::Time;
use dcos_proto::allocator::InverseOfferStatus;
use dcos_proto::internal::ResourceVersionUuid;
use dcos_proto::mesos::agent_info::{Capability, capability};
use dcos_proto::mesos::{
    AgentId, AgentInfo, DrainInfo, FrameworkId, OfferId, Operation, Resource, TaskId,
    Unavailability, Uuid,
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
    /// Operations nobody has acknowledged yet, by their uuid.
    pub operations: BTreeMap<Vec<u8>, PendingOperation>,
    /// Bookings of operations it did not carry out, to be taken back as soon as what they made is
    /// free.
    pub undone: Vec<Vec<Conversion>>,
}

/// An operation that was sent to an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingOperation {
    /// What was sent, and how it went.
    pub operation: Operation,
    /// Whether the agent's total counts on it, though the agent has not said a word.
    pub booked: bool,
}

impl PendingOperation {
    /// One that the master just booked.
    pub(crate) const fn booked(operation: Operation) -> Self {
        Self {
            operation,
            booked: true,
        }
    }

    /// One the agent told of: it is in what the agent says it has.
    pub(crate) const fn known(operation: Operation) -> Self {
        Self {
            operation,
            booked: false,
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({})", self.id(), self.pid, self.info.hostname)
    }
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
        !self.tasks.is_empty() || !self.operations.is_empty()
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

    /// The version of what is its own, not a resource provider's.
    pub(crate) fn own_resource_version(&self) -> Option<&Uuid> {
        let mut versions = self.resource_versions.iter();
        let own = versions.find(|version| version.resource_provider_id.is_none())?;
        Some(&own.uuid)
    }

    /// Its total is what it says: no booking counts any more.
    pub(crate) fn forget_bookings(&mut self) {
        self.undone.clear();
        for pending in self.operations.values_mut() {
            pending.booked = false;
        }
    }

    pub(crate) fn set_resource_version(&mut self, version: ResourceVersionUuid) {
        self.resource_versions
            .retain(|known| known.resource_provider_id != version.resource_provider_id);
        self.resource_versions.push(version);
    }
}

/// What an agent has: its resources with what was reserved and created on them since.
pub(crate) fn total_of(
    info: &AgentInfo,
    checkpointed: &[Resource],
) -> Result<Resources, Incompatible> {
    let all = Resources::from(&info.resources);
    all.with_checkpointed(&Resources::from_messages(checkpointed))
}

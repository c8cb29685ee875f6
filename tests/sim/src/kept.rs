//! What is kept on agents for the instances of a Marathon: by its labels, without asking it.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::{Ranges, ResourceExt, Resources, Scalar};
use dcos_proto::mesos::Resource;
use dcos_proto::mesos::resource::ReservationInfo;

use crate::watch::holdings::volume_id;

/// The label that says whose a reservation is.
const INSTANCE: &str = "marathon_task_id";

/// What is kept for each instance.
pub(crate) type All = BTreeMap<String, Kept>;

/// What is kept for one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Where; more than one agent would be wrong.
    pub(crate) agents: BTreeSet<String>,
    /// The names of its volumes.
    pub(crate) volumes: BTreeSet<String>,
    /// How much of each resource, volumes included; of ports their number.
    pub(crate) amounts: BTreeMap<String, Scalar>,
}

/// The innermost reservation of a resource, in either form.
pub(crate) fn reservation(resource: &Resource) -> Option<&ReservationInfo> {
    resource
        .reservations
        .last()
        .or(resource.reservation.as_ref())
}

/// The instance something is reserved for.
pub(crate) fn owner(resource: &Resource) -> Option<&str> {
    let labels = &reservation(resource)?.labels.as_ref()?.labels;
    let label = labels.iter().find(|label| label.key == INSTANCE)?;
    label.value.as_deref()
}

/// Adds what is kept on an agent.
pub(crate) fn add(all: &mut All, agent: &str, resources: &Resources) {
    for resource in &resources.to_messages() {
        let Some(instance) = owner(resource) else {
            continue;
        };
        let kept = all.entry(instance.to_owned()).or_default();
        kept.agents.insert(agent.to_owned());
        kept.volumes
            .extend(volume_id(resource).map(ToOwned::to_owned));
        *kept.amounts.entry(resource.name.clone()).or_default() += amount(resource);
    }
}

fn amount(resource: &Resource) -> Scalar {
    let count = |ranges| i64::try_from(Ranges::from_proto(ranges).len()).unwrap_or(i64::MAX);
    let ports = resource.ranges.as_ref().map(count);
    let ports = ports.map(|count| Scalar::from_millis(1000 * count));
    ports.or(resource.scalar_value()).unwrap_or_default()
}

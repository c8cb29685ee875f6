//! What an allocator knows of an agent.

use std::collections::BTreeMap;

use dcos_core::resources::Resources;
use dcos_proto::mesos::{AgentId, AgentInfo, Attribute, FrameworkId, agent_info};

/// What an allocator knows of an agent.
#[derive(Debug, Clone, Default)]
pub struct AgentSpec {
    /// Its id.
    pub id: AgentId,
    /// Its host name, for the whitelist and for constraints.
    pub hostname: String,
    /// What describes it, for constraints.
    pub attributes: Vec<Attribute>,
    /// Where it lies, for constraints.
    pub region: Option<String>,
    /// Where in the region it lies, for constraints.
    pub zone: Option<String>,
    /// All it has.
    pub total: Resources,
    /// What frameworks hold there already, with `allocation_info`.
    pub used: BTreeMap<FrameworkId, Resources>,
    /// Whether it understands frameworks with several roles.
    pub multi_role: bool,
    /// Whether it understands roles with a `/`.
    pub hierarchical_role: bool,
    /// Whether it lies in another region than the master.
    pub remote: bool,
}

impl AgentSpec {
    /// What `info` and the agent's `capabilities` say, seen from a master in `region`.
    pub fn from_info(
        info: &AgentInfo,
        capabilities: &[agent_info::Capability],
        total: Resources,
        region: Option<&str>,
    ) -> Self {
        use agent_info::capability::Type;
        let has = |wanted: Type| {
            capabilities
                .iter()
                .any(|capability| capability.r#type() == wanted)
        };
        let fault_domain = info
            .domain
            .as_ref()
            .and_then(|domain| domain.fault_domain.as_ref());
        Self {
            id: info.id.clone().unwrap_or_default(),
            hostname: info.hostname.clone(),
            attributes: info.attributes.clone(),
            region: fault_domain.map(|fault_domain| fault_domain.region.name.clone()),
            zone: fault_domain.map(|fault_domain| fault_domain.zone.name.clone()),
            total,
            used: BTreeMap::new(),
            multi_role: has(Type::MultiRole),
            hierarchical_role: has(Type::HierarchicalRole),
            remote: fault_domain
                .is_some_and(|fault_domain| Some(&*fault_domain.region.name) != region),
        }
    }
}

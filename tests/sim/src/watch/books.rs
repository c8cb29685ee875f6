//! The books of a master: what is offered and used on an agent never exceeds it.

use std::collections::BTreeSet;

use dcos_core::resources::Resources;
use dcos_proto::mesos::AgentId;
use dcos_sched::master::Master;

/// Checks some agents.
pub(crate) fn check(master: &Master, agents: &BTreeSet<AgentId>) -> Result<(), String> {
    for id in agents {
        let Some(agent) = master.agent(id) else {
            continue;
        };
        // Operations may have got lost with tasks that were to use their outcome. Until that is
        // known those count as used, beyond what is there; what really runs, nodes watch.
        let mut rest = &agent.total - &agent.used_total().unallocated();
        for offer in agent.offers.iter().filter_map(|id| master.open_offer(id)) {
            let resources = Resources::from(&offer.resources).unallocated();
            if !rest.contains(&resources) {
                return Err(format!(
                    "{resources} of {id} are offered beyond what is free: {rest} of {}",
                    agent.total
                ));
            }
            rest -= &resources;
        }
    }
    Ok(())
}

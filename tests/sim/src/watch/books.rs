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
        let mut rest = agent.total.clone();
        let offers = agent.offers.iter().filter_map(|id| master.open_offer(id));
        let held = offers.map(|offer| Resources::from(&offer.resources));
        let used = agent.used.values().cloned();
        for resources in held.chain(used) {
            let resources = resources.unallocated();
            if !rest.contains(&resources) {
                return Err(format!(
                    "{resources} of {id} are offered or used beyond what it has: {rest} of {}",
                    agent.total
                ));
            }
            rest -= &resources;
        }
    }
    Ok(())
}

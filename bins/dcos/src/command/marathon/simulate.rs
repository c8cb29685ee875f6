//! `dcos marathon app simulate`: where instances would run with what is free now.

use dcos_core::resources::Resources;
use dcos_proto::json::{Dialect, from_value, to_value};
use dcos_proto::master::{Response, response::get_agents::Agent};
use dcos_proto::mesos::Offer;
use serde_json::{Value, json};

use super::definition;
use crate::command::deployment::refusals;
use crate::command::marathon::debug::id_of;
use crate::command::{Context, items, text};
use crate::http::Server;
use crate::output;

pub(super) async fn run(
    context: &Context,
    marathon: &Server,
    file: Option<&str>,
) -> anyhow::Result<()> {
    let change = definition(file).await?;
    let call = json!({"type": "GET_AGENTS"});
    let master = context.master().await?;
    let state = master.send("POST", "/api/v1", Some(&call)).await?;
    let state: Response = from_value(&state, Dialect::V1)?;
    let agents = state.get_agents.unwrap_or_default().agents;
    let takes = |agent: &&Agent| agent.active && agent.deactivated != Some(true);
    let offers = agents.iter().filter(takes).map(free);
    let offers: Vec<Value> = offers.map(|offer| to_value(&offer, Dialect::V1)).collect();
    let body = json!({"change": change, "offers": offers});
    let found = marathon.send("POST", "/v2/simulate", Some(&body)).await?;
    if context.json {
        output::json(&found);
        return Ok(());
    }
    let placements = items(&found, "placements");
    if context.quiet {
        output::lines(placements.iter().map(|each| text(each, "hostname")));
        return Ok(());
    }
    let row = |each: &Value| {
        ["id", "hostname", "instances"]
            .map(|key| text(each, key))
            .to_vec()
    };
    output::table(&["ID", "HOST", "INSTANCES"], placements.iter().map(row));
    output::lines(items(&found, "waiting").iter().map(waits));
    Ok(())
}

/// What `agent` could offer: all nobody has, offered to somebody or not.
fn free(agent: &Agent) -> Offer {
    let info = &agent.agent_info;
    let mut free = Resources::from_messages(&agent.total_resources);
    free -= &Resources::from_messages(&agent.allocated_resources).unallocated();
    Offer {
        id: "simulated".into(),
        framework_id: "simulated".into(),
        agent_id: info.id.clone().unwrap_or_default(),
        hostname: info.hostname.clone(),
        domain: info.domain.clone(),
        attributes: info.attributes.clone(),
        resources: free.to_messages(),
        ..Offer::default()
    }
}

/// Such as `3 instances of /web would wait: 2 agents: not enough cpus`.
fn waits(entry: &Value) -> String {
    let count = text(entry, "count");
    let plural = if count == "1" { "" } else { "s" };
    let why = refusals(entry).unwrap_or_else(|| "there are no agents".to_owned());
    format!(
        "{count} instance{plural} of {} would wait: {why}",
        id_of(entry)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_told_with_its_reason() {
        let summary = json!({"rejectSummaryLaunchAttempt": [{"reason": "InsufficientCpus", "declined": 2, "processed": 2}]});
        let entry = json!({"app": {"id": "/web"}, "count": 3, "processedOffersSummary": summary});
        assert_eq!(
            waits(&entry),
            "3 instances of /web would wait: 2 agents: not enough cpus"
        );
        let none = json!({"pod": {"id": "/pod"}, "count": 1});
        assert_eq!(
            waits(&none),
            "1 instance of /pod would wait: there are no agents"
        );
    }

    #[test]
    fn free_is_what_is_not_allocated() {
        let mut taken = Resources::parse("cpus:1;ports:[5-6]").unwrap();
        taken.allocate("web");
        let agent = Agent {
            total_resources: Resources::parse("cpus:4;ports:[1-9]")
                .unwrap()
                .to_messages(),
            allocated_resources: taken.to_messages(),
            ..Agent::default()
        };
        let left = Resources::parse("cpus:3;ports:[1-4,7-9]").unwrap();
        assert_eq!(Resources::from_messages(&free(&agent).resources), left);
    }
}

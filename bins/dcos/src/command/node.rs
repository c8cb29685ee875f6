//! `dcos node`: the agents.

use serde_json::Value;

use super::{Context, items, number, text};
use crate::cli::Node;
use crate::output;

pub(crate) async fn run(context: &Context, command: Node) -> anyhow::Result<()> {
    match command {
        Node::List => list(context).await,
    }
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let slaves = context.master()?.get("/slaves").await?;
    if context.json {
        output::json(&slaves["slaves"]);
        return Ok(());
    }
    let agents = items(&slaves, "slaves");
    if context.quiet {
        output::lines(agents.iter().map(|agent| text(agent, "id")));
        return Ok(());
    }
    let headings = [
        "HOSTNAME", "ID", "TYPE", "STATUS", "CPUS", "MEM", "DISK", "USED", "REGION", "ZONE",
    ];
    output::table(&headings, agents.iter().map(row));
    Ok(())
}

fn row(agent: &Value) -> Vec<String> {
    let domain = &agent["domain"]["fault_domain"];
    let public = !agent["reserved_resources"]["slave_public"].is_null();
    let status = match (agent["active"].as_bool(), agent["deactivated"].as_bool()) {
        (_, Some(true)) => "deactivated",
        (Some(true), _) => "active",
        _ => "disconnected",
    };
    let used = &agent["used_resources"];
    vec![
        text(agent, "hostname"),
        text(agent, "id"),
        if public { "agent (public)" } else { "agent" }.to_owned(),
        status.to_owned(),
        number(&agent["resources"], "cpus"),
        number(&agent["resources"], "mem"),
        number(&agent["resources"], "disk"),
        format!("{} cpus, {} mem", number(used, "cpus"), number(used, "mem")),
        text(&domain["region"], "name"),
        text(&domain["zone"], "name"),
    ]
}

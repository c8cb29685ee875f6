//! `dcos node`: the agents.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::task::log::{self, File};
use super::{Context, agent, duration, items, maintenance, number, text};
use crate::cli::{Node, NodeLog, NodeMetrics};
use crate::http::{Server, escape};
use crate::output;

pub(crate) async fn run(context: &Context, command: Node) -> anyhow::Result<()> {
    match command {
        Node::List => list(context).await,
        Node::Drain {
            id,
            max_grace_period,
            decommission,
            wait,
            timeout,
        } => {
            drain(context, &id, max_grace_period.as_deref(), decommission).await?;
            if wait {
                wait_until_empty(context, &id, Duration::from_secs(timeout)).await?;
            }
            Ok(())
        }
        Node::Deactivate { id } => order(context, "DEACTIVATE_AGENT", &id).await,
        Node::Reactivate { id } => order(context, "REACTIVATE_AGENT", &id).await,
        Node::Decommission { id } => order(context, "MARK_AGENT_GONE", &id).await,
        Node::Dns { name } => dns(context, &name).await,
        Node::Log(log) => log_of(context, log).await,
        Node::Metrics(command) => metrics(context, command).await,
        Node::Maintenance(command) => maintenance::run(context, command).await,
    }
}

/// An order that needs to know nothing but the agent.
async fn order(context: &Context, kind: &str, id: &str) -> anyhow::Result<()> {
    let call = json!({"type": kind, kind.to_lowercase(): {"agent_id": {"value": id}}});
    let master = context.master().await?;
    master.send("POST", "/api/v1", Some(&call)).await?;
    Ok(())
}

async fn drain(
    context: &Context,
    id: &str,
    max_grace_period: Option<&str>,
    mark_gone: bool,
) -> anyhow::Result<()> {
    let mut drain = json!({"agent_id": {"value": id}, "mark_gone": mark_gone});
    if let Some(grace) = max_grace_period {
        drain["max_grace_period"] = json!({"seconds": duration(grace)?.as_secs()});
    }
    let call = json!({"type": "DRAIN_AGENT", "drain_agent": drain});
    let master = context.master().await?;
    master.send("POST", "/api/v1", Some(&call)).await?;
    Ok(())
}

/// Looks twice a second until the agent is drained, or gone.
async fn wait_until_empty(context: &Context, id: &str, most: Duration) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_millis(500);
    let master = context.master().await?;
    let mut progress = output::Progress::new(context.quiet);
    let wait = async {
        loop {
            let slaves = master.get(&format!("/slaves?slave_id={id}")).await?;
            let state = items(&slaves, "slaves").first();
            let state = state.map(|agent| text(&agent["drain_info"], "state"));
            if state.is_none_or(|state| state != "DRAINING") {
                return anyhow::Ok(());
            }
            progress.say(format!("waiting for {id} to be empty"));
            tokio::time::sleep(PAUSE).await;
        }
    };
    let ended = tokio::time::timeout(most, wait).await;
    progress.done();
    match ended {
        Ok(ended) => ended,
        Err(_) => bail!("{id} is still draining"),
    }
}

/// Asks the API of Mesos-DNS, as the original does: whoever types this need not be where its names resolve.
async fn dns(context: &Context, name: &str) -> anyhow::Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    ensure!(
        !name.is_empty() && name.bytes().all(plain),
        "{name:?} is no name such as leader.mesos"
    );
    let (kind, columns) = if name.starts_with('_') {
        ("services", &["service", "host", "ip", "port"][..])
    } else {
        ("hosts", &["host", "ip"][..])
    };
    let names = context.names().await?;
    let answer = names.get(&format!("/v1/{kind}/{name}")).await?;
    let found = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    // One with empty fields says that there is none.
    let found = found.iter().filter(|record| !text(record, "ip").is_empty());
    let found: Vec<Value> = found.cloned().collect();
    ensure!(
        !found.is_empty(),
        "there is no {name}, or it has no address"
    );
    if context.json {
        output::json(&Value::Array(found));
    } else if context.quiet {
        output::lines(found.iter().map(|record| text(record, "ip")));
    } else {
        let headings: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
        let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
        let row = |record| columns.iter().map(|column| text(record, column)).collect();
        output::table(&headings, found.iter().map(row));
    }
    Ok(())
}

/// The agent with that id.
async fn found(context: &Context, id: &str) -> anyhow::Result<Server> {
    let master = context.master().await?;
    let slaves = master
        .get(&format!("/slaves?slave_id={}", escape(id)))
        .await?;
    agent(&master, items(&slaves, "slaves"), id).context("see `dcos node list`")
}

/// The log of a master or agent is a file that it shows; of journals, which the original prints, nobody tells here.
async fn log_of(context: &Context, wanted: NodeLog) -> anyhow::Result<()> {
    let NodeLog {
        id,
        leader,
        mesos_id,
        form,
    } = wanted;
    let file = match id.or(mesos_id).filter(|_| !leader) {
        Some(id) => File {
            server: found(context, &id).await?,
            owner: id,
            path: "/slave/log".to_owned(),
        },
        None => File {
            server: context.master().await?,
            owner: "the leading master".to_owned(),
            path: "/master/log".to_owned(),
        },
    };
    let owner = file.owner.clone();
    let printed = log::print(&[file], &form).await;
    printed.with_context(|| {
        format!("{owner} shows its log if it is told the file (--log_dir, --external_log_file)")
    })
}

async fn metrics(context: &Context, command: NodeMetrics) -> anyhow::Result<()> {
    let (NodeMetrics::Details { id } | NodeMetrics::Summary { id }) = &command;
    let figures = found(context, id).await?.get("/metrics/snapshot").await?;
    match command {
        _ if context.json => output::json(&figures),
        NodeMetrics::Details { .. } => {
            let figures = figures.as_object().into_iter().flatten();
            let rows = figures.map(|(name, value)| vec![name.clone(), value.to_string()]);
            output::table(&["NAME", "VALUE"], rows);
        }
        NodeMetrics::Summary { .. } => {
            let headings = [
                "LOAD",
                "MEM IN USE",
                "CPUS GIVEN",
                "MEM GIVEN",
                "DISK GIVEN",
            ];
            output::table(&headings, [summary(&figures)]);
        }
    }
    Ok(())
}

/// The host's load and memory, and how much of what the agent has is given to tasks.
fn summary(figures: &Value) -> Vec<String> {
    let figure = |name: &str| figures[name].as_f64();
    let of = |used: Option<f64>, total: Option<f64>, unit: &str, size: f64| match (used, total) {
        (Some(used), Some(total)) if total > 0.0 => {
            let share = used / total * 100.0;
            format!("{:.2}{unit} ({share:.0}%)", used / size)
        }
        _ => "N/A".to_owned(),
    };
    let given = |name: &str, unit, size| {
        let used = figure(&format!("slave/{name}_used"));
        of(used, figure(&format!("slave/{name}_total")), unit, size)
    };
    let memory = figure("system/mem_total_bytes");
    let free = figure("system/mem_free_bytes");
    let in_use = memory.zip(free).map(|(memory, free)| memory - free);
    let load = figure("system/load_1min").map(|load| format!("{load:.2}"));
    vec![
        load.unwrap_or_else(|| "N/A".to_owned()),
        of(in_use, memory, "GiB", 1_073_741_824.0),
        given("cpus", "", 1.0),
        given("mem", "GiB", 1024.0),
        given("disk", "GiB", 1024.0),
    ]
}

async fn list(context: &Context) -> anyhow::Result<()> {
    let slaves = context.master().await?.get("/slaves").await?;
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
    let drain = text(&agent["drain_info"], "state").to_lowercase();
    let status = match (agent["active"].as_bool(), agent["deactivated"].as_bool()) {
        _ if !drain.is_empty() => &drain,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_shows_what_is_known() {
        let figures = json!({"system/load_1min": 0.5, "system/mem_total_bytes": 2_147_483_648_u64,
            "system/mem_free_bytes": 1_610_612_736_u64, "slave/cpus_used": 1.5, "slave/cpus_total": 6.0,
            "slave/mem_used": 0.0, "slave/mem_total": 1024.0});
        assert_eq!(
            summary(&figures),
            ["0.50", "0.50GiB (25%)", "1.50 (25%)", "0.00GiB (0%)", "N/A"]
        );
    }
}

//! `dcos service`: frameworks.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Context, items, number, text};
use crate::cli::Service;
use crate::output;

pub(crate) async fn run(context: &Context, command: Service) -> anyhow::Result<()> {
    match command {
        Service::List {
            completed,
            inactive,
        } => list(context, completed, inactive).await,
        Service::Shutdown { id, yes } => shutdown(context, &id, yes).await,
    }
}

async fn list(context: &Context, completed: bool, inactive: bool) -> anyhow::Result<()> {
    let state = context.master()?.get("/frameworks").await?;
    let known = items(&state, "frameworks").iter();
    let mut frameworks: Vec<&Value> = known
        .filter(|framework| inactive || framework["active"] == Value::Bool(true))
        .collect();
    if completed {
        frameworks.extend(items(&state, "completed_frameworks"));
    }
    if context.json {
        output::json(&json!(frameworks));
    } else if context.quiet {
        output::lines(frameworks.iter().map(|framework| text(framework, "id")));
    } else {
        let headings = [
            "NAME", "HOST", "ACTIVE", "TASKS", "CPU", "MEM", "DISK", "ID",
        ];
        output::table(&headings, frameworks.into_iter().map(row));
    }
    Ok(())
}

fn row(framework: &Value) -> Vec<String> {
    let used = &framework["used_resources"];
    vec![
        text(framework, "name"),
        text(framework, "hostname"),
        text(framework, "active"),
        items(framework, "tasks").len().to_string(),
        number(used, "cpus"),
        number(used, "mem"),
        number(used, "disk"),
        text(framework, "id"),
    ]
}

async fn shutdown(context: &Context, id: &str, yes: bool) -> anyhow::Result<()> {
    if !yes {
        let question = format!(
            "This kills every task of {id} and removes it for good. Type its id to go on: "
        );
        write!(std::io::stderr(), "{question}").context("asking")?;
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .context("reading the answer")?;
        if answer.trim() != id {
            bail!("nothing was done");
        }
    }
    let call = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": id}}});
    context
        .master()?
        .send("POST", "/api/v1", Some(&call))
        .await?;
    Ok(())
}

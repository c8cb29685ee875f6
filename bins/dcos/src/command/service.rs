//! `dcos service`: frameworks.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Context, items, number, text};
use crate::cli::{Service, Why};
use crate::http::escape;
use crate::output;

pub(crate) async fn run(context: &Context, command: Service) -> anyhow::Result<()> {
    match command {
        Service::List {
            completed,
            inactive,
        } => list(context, completed, inactive).await,
        Service::Why(question) => why(context, question).await,
        Service::Shutdown { id, yes } => shutdown(context, &id, yes).await,
    }
}

async fn list(context: &Context, completed: bool, inactive: bool) -> anyhow::Result<()> {
    let state = context.master().await?.get("/frameworks").await?;
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

/// Why frameworks are offered nothing, or not enough: a row for each reason, or each agent.
pub(crate) async fn why(context: &Context, question: Why) -> anyhow::Result<()> {
    let master = context.master().await?;
    let mut query = Vec::new();
    if let Some(framework) = &question.framework {
        let id = find(&master.get("/frameworks").await?, framework)?;
        query.push(format!("framework_id={}", escape(&id)));
    }
    if let Some(role) = &question.role {
        query.push(format!("role={}", escape(role)));
    }
    if let Some(resources) = &question.resources {
        query.push(format!("resources={}", escape(resources)));
    }
    if !question.conditions.is_empty() {
        let conditions = question.conditions.join(",");
        query.push(format!("conditions={}", escape(&conditions)));
    }
    let path = format!("/allocator/explain?{}", query.join("&"));
    let answer = master.get(&path).await?;
    if context.json {
        output::json(&answer["explanations"]);
        return Ok(());
    }
    let (headings, key) = if question.agents {
        (["FRAMEWORK", "ROLE", "AGENT", "REASON"], "not_offered")
    } else {
        (["FRAMEWORK", "ROLE", "AGENTS", "REASON"], "summary")
    };
    let rows = items(&answer, "explanations").iter().flat_map(|it| {
        items(it, key).iter().map(|reason| {
            let agent = if question.agents {
                text(reason, "hostname")
            } else {
                text(reason, "count")
            };
            let (framework, role) = (text(it, "framework_name"), text(it, "role"));
            vec![framework, role, agent, text(reason, "reason")]
        })
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() && !context.quiet {
        output::line("Nothing keeps agents back: there are none, or no such framework.");
        return Ok(());
    }
    output::table(&headings, rows);
    if let Some(others) = answer["left_out"].as_u64()
        && !context.quiet
    {
        output::line(format!(
            "{others} more are not explained at once: name a framework."
        ));
    }
    Ok(())
}

/// The id of a framework that is called so, or has this id.
fn find(state: &Value, wanted: &str) -> anyhow::Result<String> {
    let known = items(state, "frameworks");
    let of = |key: &str| known.iter().find(|it| it[key] == *wanted);
    let Some(framework) = of("id").or_else(|| of("name")) else {
        bail!("there is no framework {wanted:?}; `dcos service list` shows them");
    };
    Ok(text(framework, "id"))
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
        .master()
        .await?
        .send("POST", "/api/v1", Some(&call))
        .await?;
    Ok(())
}

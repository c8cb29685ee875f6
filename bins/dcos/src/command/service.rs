//! `dcos service`: frameworks.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::task::log::File;
use super::{Context, items, number, task, text};
use crate::cli::{LogForm, Service, Why};
use crate::http::escape;
use crate::output;

pub(crate) async fn run(context: &Context, command: Service) -> anyhow::Result<()> {
    match command {
        Service::List {
            completed,
            inactive,
        } => list(context, completed, inactive).await,
        Service::Log {
            service,
            file,
            form,
            user,
            ssh_config_file,
        } => {
            if user.is_some() || ssh_config_file.is_some() {
                output::notice("nothing is asked over SSH: its options change nothing");
            }
            log(context, &service, file.as_deref(), &form).await
        }
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

/// The log of the leading Marathon, which is that of its process; or the output of the one task of a service that
/// Marathon runs.
async fn log(
    context: &Context,
    service: &str,
    file: Option<&str>,
    form: &LogForm,
) -> anyhow::Result<()> {
    if service == "marathon" {
        if let Some(file) = file {
            bail!("Marathon's log is one file: leave {file:?} out");
        }
        let file = File {
            owner: service.to_owned(),
            server: context.master().await?,
            path: "/master/log".to_owned(),
        };
        let printed = task::log::print(&[file], form).await;
        return printed.context(
            "the log of the leading Marathon is that of its master, which shows one if it is told its file (--log_dir, --external_log_file)",
        );
    }
    let marathon = context.marathon().await?;
    let label = escape(&format!("DCOS_PACKAGE_FRAMEWORK_NAME=={service}"));
    let apps = marathon
        .get(&format!("/v2/apps?label={label}&embed=apps.tasks"))
        .await?;
    let app = match items(&apps, "apps") {
        [app] => app,
        [] => bail!(
            "no app has the label DCOS_PACKAGE_FRAMEWORK_NAME={service}; `dcos task log` prints the output of any task"
        ),
        several => {
            let ids: Vec<_> = several.iter().map(|app| text(app, "id")).collect();
            bail!("several apps are called {service}: {}", ids.join(", "));
        }
    };
    let [task] = items(app, "tasks") else {
        let count = items(app, "tasks").len();
        let id = text(app, "id");
        bail!("{id} has {count} tasks, not one; `dcos task log` prints the output of each");
    };
    let sandbox = task::Sandbox::find(context, &text(task, "id"), true).await?;
    let file = sandbox.file(file.unwrap_or("stdout"));
    task::log::print(&[file], form).await
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

//! `dcos marathon`: services.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

pub(crate) mod debug;
mod pod;
mod simulate;

use super::deployment::{self, Looks};
use super::{Context, items, number, text};
use crate::cli::{
    App, AppVersion, Delay, Deployment, Force, Group, Leader, Marathon, MarathonTask, Plugin,
};
use crate::http::{Server, escape};
use crate::output;

pub(crate) async fn run(context: &Context, command: Marathon) -> anyhow::Result<()> {
    let marathon = context.marathon().await?;
    match command {
        Marathon::About => output::json(&marathon.get("/v2/info").await?),
        // Once is what everybody gets.
        Marathon::Ping { once: _ } => {
            marathon.text("GET", "/ping").await?;
            let url = output::harmless(&marathon.url);
            output::line(format!("Marathon answers at {url}"));
        }
        Marathon::App(command) => app(context, &marathon, command).await?,
        Marathon::Group(command) => group(context, &marathon, command).await?,
        Marathon::Deployment(command) => deployments(context, &marathon, command).await?,
        Marathon::Pod(command) => pod::run(context, &marathon, command).await?,
        Marathon::Debug(command) => debug::run(context, &marathon, command).await?,
        Marathon::Task(command) => task(context, &marathon, command).await?,
        Marathon::Delay(Delay::Reset { id }) => {
            marathon
                .send("DELETE", &format!("/v2/queue/{}/delay", path(&id)), None)
                .await?;
        }
        Marathon::Leader(Leader::Show) => output::json(&marathon.get("/v2/leader").await?),
        Marathon::Leader(Leader::Delete) => {
            output::json(&marathon.send("DELETE", "/v2/leader", None).await?);
        }
        Marathon::Plugin(Plugin::List) => {
            output::json(&marathon.get("/v2/plugins").await?["plugins"]);
        }
    }
    Ok(())
}

async fn app(context: &Context, marathon: &Server, command: App) -> anyhow::Result<()> {
    match command {
        App::Add { file, force } => {
            let definition = definition(file.as_deref()).await?;
            let url = format!("/v2/apps?{}", force.query());
            let answer = marathon.send("POST", &url, Some(&definition)).await?;
            let deployment = items(&answer, "deployments")
                .first()
                .map(|first| text(first, "id"));
            finish(context, marathon, deployment, &force).await
        }
        App::Simulate { file } => simulate::run(context, marathon, file.as_deref()).await,
        App::List => app_list(context, marathon).await,
        App::Show { id, app_version } => {
            let app = match app_version {
                None => marathon.get(&format!("/v2/apps/{}", path(&id))).await?["app"].take(),
                Some(version) => {
                    let url = format!("/v2/apps/{}/versions", path(&id));
                    let version = absolute(marathon, &url, &version).await?;
                    marathon.get(&format!("{url}/{version}")).await?
                }
            };
            output::json(&app);
            Ok(())
        }
        App::Update {
            id,
            properties,
            force,
        } => {
            // What is not there would be created.
            instances(marathon, &id).await?;
            change(
                context,
                marathon,
                "apps",
                &id,
                changes(&properties)?,
                &force,
            )
            .await
        }
        App::Start {
            id,
            instances: wanted,
            force,
        } => {
            let running = instances(marathon, &id).await?;
            if running > 0 {
                bail!(
                    "{id} is started already, with {running} instances; `dcos marathon app update {id} instances=N` scales it"
                );
            }
            change(
                context,
                marathon,
                "apps",
                &id,
                json!({"instances": wanted}),
                &force,
            )
            .await
        }
        App::Stop { id, force } => {
            if instances(marathon, &id).await? == 0 {
                bail!("{id} is stopped already");
            }
            change(
                context,
                marathon,
                "apps",
                &id,
                json!({"instances": 0}),
                &force,
            )
            .await
        }
        App::Remove { id, force } => {
            let answer = marathon
                .send("DELETE", &forced("apps", &id, &force), None)
                .await?;
            finish(context, marathon, deployment_id(&answer), &force).await
        }
        App::Restart { id, force } => {
            let url = format!("/v2/apps/{}/restart?{}", path(&id), force.query());
            let answer = marathon.send("POST", &url, None).await?;
            finish(context, marathon, deployment_id(&answer), &force).await
        }
        App::Kill { id, scale, host } => {
            let host = host.map(|host| format!("&host={}", escape(&host)));
            let host = host.unwrap_or_default();
            let url = format!("/v2/apps/{}/tasks?scale={scale}{host}", path(&id));
            output::json(&marathon.send("DELETE", &url, None).await?);
            Ok(())
        }
        App::Version(AppVersion::List { id, max_count }) => {
            let versions = marathon
                .get(&format!("/v2/apps/{}/versions", path(&id)))
                .await?;
            let versions = items(&versions, "versions");
            output::json(&json!(
                versions[..max_count.unwrap_or(usize::MAX).min(versions.len())]
            ));
            Ok(())
        }
    }
}

/// How many instances an app shall have.
///
/// # Errors
/// There is no such app.
async fn instances(marathon: &Server, id: &str) -> anyhow::Result<u64> {
    let app = marathon.get(&format!("/v2/apps/{}", path(id))).await?;
    Ok(app["app"]["instances"].as_u64().unwrap_or_default())
}

async fn app_list(context: &Context, marathon: &Server) -> anyhow::Result<()> {
    let apps = marathon
        .get("/v2/apps?embed=apps.counts&embed=apps.deployments")
        .await?;
    if context.json {
        output::json(&apps["apps"]);
        return Ok(());
    }
    let apps = items(&apps, "apps");
    if context.quiet {
        output::lines(apps.iter().map(|app| text(app, "id")));
        return Ok(());
    }
    let row = |app: &Value| {
        let checks = !items(app, "healthChecks").is_empty();
        let running = text(app, "tasksRunning");
        vec![
            text(app, "id"),
            number(app, "mem"),
            number(app, "cpus"),
            format!("{running}/{}", text(app, "instances")),
            if checks {
                format!("{}/{running}", text(app, "tasksHealthy"))
            } else {
                "N/A".into()
            },
            if items(app, "deployments").is_empty() {
                "---"
            } else {
                "scale"
            }
            .to_owned(),
            match text(&app["container"], "type") {
                kind if kind.is_empty() => "mesos".to_owned(),
                kind => kind.to_lowercase(),
            },
            text(app, "cmd"),
        ]
    };
    let headings = [
        "ID",
        "MEM",
        "CPUS",
        "TASKS",
        "HEALTH",
        "DEPLOYMENT",
        "CONTAINER",
        "CMD",
    ];
    output::table(&headings, apps.iter().map(row));
    Ok(())
}

async fn group(context: &Context, marathon: &Server, command: Group) -> anyhow::Result<()> {
    match command {
        Group::Add { file, id, force } => {
            let mut definition = definition(file.as_deref()).await?;
            if let Some(id) = id {
                definition["id"] = json!(id);
            }
            let url = format!("/v2/groups?{}", force.query());
            let answer = marathon.send("POST", &url, Some(&definition)).await?;
            finish(context, marathon, deployment_id(&answer), &force).await
        }
        Group::List => {
            let root = marathon.get("/v2/groups").await?;
            let mut groups = Vec::new();
            flatten(&root, &mut groups);
            if context.json {
                output::json(&json!(groups));
            } else if context.quiet {
                output::lines(groups.iter().map(|group| text(group, "id")));
            } else {
                let row = |group: &Value| vec![text(group, "id"), count_apps(group).to_string()];
                output::table(&["ID", "APPS"], groups.iter().map(row));
            }
            Ok(())
        }
        Group::Show { id, group_version } => {
            let mut url = format!("/v2/groups/{}", path(&id));
            if let Some(version) = group_version {
                url.push_str("/versions");
                let version = absolute(marathon, &url, &version).await?;
                url = format!("{url}/{version}");
            }
            output::json(&marathon.get(&url).await?);
            Ok(())
        }
        Group::Update {
            id,
            properties,
            force,
        } => {
            // What is not there would be created.
            marathon.get(&format!("/v2/groups/{}", path(&id))).await?;
            change(
                context,
                marathon,
                "groups",
                &id,
                changes(&properties)?,
                &force,
            )
            .await
        }
        Group::Scale { id, factor, force } => {
            marathon.get(&format!("/v2/groups/{}", path(&id))).await?;
            change(
                context,
                marathon,
                "groups",
                &id,
                json!({"scaleBy": factor}),
                &force,
            )
            .await
        }
        Group::Remove { id, force } => {
            let answer = marathon
                .send("DELETE", &forced("groups", &id, &force), None)
                .await?;
            finish(context, marathon, deployment_id(&answer), &force).await
        }
    }
}

fn flatten(group: &Value, into: &mut Vec<Value>) {
    for child in items(group, "groups") {
        into.push(child.clone());
        flatten(child, into);
    }
}

fn count_apps(group: &Value) -> usize {
    items(group, "apps").len() + items(group, "groups").iter().map(count_apps).sum::<usize>()
}

async fn deployments(
    context: &Context,
    marathon: &Server,
    command: Deployment,
) -> anyhow::Result<()> {
    match command {
        Deployment::List { app } => {
            let all = marathon.get(deployment::ALL).await?;
            let mut list = all.as_array().cloned().unwrap_or_default();
            if let Some(app) = app {
                let id = json!(format!("/{}", app.trim_start_matches('/')));
                list.retain(|deployment| {
                    let among = |kind| items(deployment, kind).contains(&id);
                    among("affectedApps") || among("affectedPods")
                });
            }
            if context.json {
                output::json(&json!(list));
            } else if context.quiet {
                output::lines(list.iter().map(|deployment| text(deployment, "id")));
            } else {
                let row = |deployment: &Value| {
                    let apps = items(deployment, "affectedApps").iter();
                    let apps = apps.chain(items(deployment, "affectedPods"));
                    let apps: Vec<_> = apps.filter_map(Value::as_str).collect();
                    vec![
                        apps.join(" "),
                        deployment::described(deployment),
                        text(deployment, "id"),
                    ]
                };
                output::table(&["APPS", "PROGRESS", "ID"], list.iter().map(row));
            }
            Ok(())
        }
        Deployment::Stop { id } => {
            marathon
                .send("DELETE", &format!("/v2/deployments/{id}?force=true"), None)
                .await?;
            Ok(())
        }
        Deployment::Rollback { id } => {
            let answer = marathon
                .send("DELETE", &format!("/v2/deployments/{id}"), None)
                .await?;
            output::json(&answer);
            Ok(())
        }
        Deployment::Watch {
            id,
            max_count,
            interval,
        } => {
            let looks = Looks {
                most: max_count,
                interval: interval.map_or(Looks::default().interval, |seconds| {
                    Duration::from_secs(u64::from(seconds))
                }),
            };
            deployment::watch(context, marathon, &id, looks).await
        }
    }
}

async fn task(context: &Context, marathon: &Server, command: MarathonTask) -> anyhow::Result<()> {
    match command {
        MarathonTask::List { app } => {
            let url = match app {
                Some(app) => format!("/v2/apps/{}/tasks", path(&app)),
                None => "/v2/tasks".to_owned(),
            };
            let tasks = marathon.get(&url).await?;
            let tasks = items(&tasks, "tasks");
            if context.json {
                output::json(&json!(tasks));
            } else if context.quiet {
                output::lines(tasks.iter().map(|task| text(task, "id")));
            } else {
                let keys = ["appId", "host", "state", "startedAt", "id"];
                let row = |task: &Value| keys.iter().map(|key| text(task, key)).collect();
                output::table(
                    &["APP", "HOST", "STATE", "STARTED", "ID"],
                    tasks.iter().map(row),
                );
            }
        }
        MarathonTask::Show { id } => {
            let tasks = marathon.get("/v2/tasks").await?;
            let found = items(&tasks, "tasks")
                .iter()
                .find(|task| text(task, "id") == id);
            output::json(found.with_context(|| format!("no task {id:?} of Marathon"))?);
        }
        MarathonTask::Stop { id, wipe } => {
            let tasks = marathon.get("/v2/tasks").await?;
            let found = items(&tasks, "tasks")
                .iter()
                .find(|task| text(task, "id") == id);
            let found = found.with_context(|| format!("no task {id:?} of Marathon"))?;
            let app = path(&text(found, "appId"));
            let url = format!("/v2/apps/{app}/tasks/{}?wipe={wipe}", escape(&id));
            output::json(&marathon.send("DELETE", &url, None).await?);
        }
        MarathonTask::Kill { ids, scale, wipe } => {
            let url = format!("/v2/tasks/delete?scale={scale}&wipe={wipe}");
            output::json(
                &marathon
                    .send("POST", &url, Some(&json!({"ids": ids})))
                    .await?,
            );
        }
    }
    Ok(())
}

async fn change(
    context: &Context,
    marathon: &Server,
    kind: &str,
    id: &str,
    body: Value,
    force: &Force,
) -> anyhow::Result<()> {
    let answer = marathon
        .send("PUT", &forced(kind, id, force), Some(&body))
        .await?;
    finish(context, marathon, deployment_id(&answer), force).await
}

/// Prints the deployment's id, and waits for its end unless told not to.
async fn finish(
    context: &Context,
    marathon: &Server,
    id: Option<String>,
    force: &Force,
) -> anyhow::Result<()> {
    let Some(id) = id else { return Ok(()) };
    if context.json {
        output::json(&json!({"deploymentId": id}));
    } else {
        output::line(format!("deployment {id}"));
    }
    if force.no_wait {
        Ok(())
    } else {
        deployment::wait(context, marathon, &id).await
    }
}

fn deployment_id(answer: &Value) -> Option<String> {
    answer["deploymentId"].as_str().map(str::to_owned)
}

fn forced(kind: &str, id: &str, force: &Force) -> String {
    format!("/v2/{kind}/{}?{}", path(id), force.query())
}

fn path(id: &str) -> String {
    escape(id.trim_start_matches('/'))
}

/// A version by its time stamp, or counted back from the newest by `-1`, `-2`, … of those that `url` lists.
async fn absolute(marathon: &Server, url: &str, version: &str) -> anyhow::Result<String> {
    let Some(back) = version.strip_prefix('-') else {
        return Ok(version.to_owned());
    };
    let back: usize = back
        .parse()
        .with_context(|| format!("bad version {version:?}"))?;
    let versions = marathon.get(url).await?;
    // Those of apps stand in an object.
    let versions = versions
        .as_array()
        .map_or(items(&versions, "versions"), Vec::as_slice);
    let found = versions.get(back).and_then(Value::as_str);
    let found = found.with_context(|| format!("there are only {} versions", versions.len()))?;
    Ok(found.to_owned())
}

/// A definition from a file, a URL or standard input.
pub(super) async fn definition(source: Option<&str>) -> anyhow::Result<Value> {
    let text = match source {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            Server::of_strangers(url).text("GET", "").await?
        }
        Some(file) => std::fs::read_to_string(file).with_context(|| file.to_owned())?,
        None => standard_input()?,
    };
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not JSON", source.unwrap_or("standard input")))
}

fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("reading standard input")?;
    Ok(text)
}

/// `key=value` words as an object; with none, JSON from standard input.
fn changes(properties: &[String]) -> anyhow::Result<Value> {
    if properties.is_empty() {
        return serde_json::from_str(&standard_input()?).context("standard input is not JSON");
    }
    let mut object = Map::new();
    for property in properties {
        let Some((key, value)) = property.split_once('=') else {
            bail!("{property:?} is not `key=value`");
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        object.insert(key.to_owned(), value);
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_json_or_text() {
        let words = ["instances=3", "cmd=sleep 5", r#"env={"A":"b"}"#].map(str::to_owned);
        let object = changes(&words).unwrap();
        assert_eq!(
            object,
            json!({"instances": 3, "cmd": "sleep 5", "env": {"A": "b"}})
        );
        assert!(changes(&["instances".to_owned()]).is_err());
    }
}

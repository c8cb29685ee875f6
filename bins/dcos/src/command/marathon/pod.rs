//! `dcos marathon pod`: groups of containers that run together.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{definition, finish, forced, path};
use crate::cli::Pod;
use crate::command::{Context, items, text};
use crate::http::Server;
use crate::output;

pub(super) async fn run(context: &Context, marathon: &Server, command: Pod) -> anyhow::Result<()> {
    match command {
        Pod::Add { file, force } => {
            let definition = definition(file.as_deref()).await?;
            let url = format!("/v2/pods?force={}", force.force);
            marathon.send("POST", &url, Some(&definition)).await?;
            let id = definition["id"].as_str().unwrap_or_default();
            finish(
                context,
                marathon,
                deployment_of(marathon, id).await?,
                &force,
            )
            .await
        }
        Pod::List => list(context, marathon).await,
        Pod::Show { id } => {
            output::json(&marathon.get(&status_of(&id)).await?);
            Ok(())
        }
        Pod::Update { id, file, force } => {
            let definition = definition(file.as_deref()).await?;
            let url = forced("pods", &id, &force);
            marathon.send("PUT", &url, Some(&definition)).await?;
            finish(
                context,
                marathon,
                deployment_of(marathon, &id).await?,
                &force,
            )
            .await
        }
        Pod::Remove { id, force } => {
            let url = forced("pods", &id, &force);
            marathon.send("DELETE", &url, None).await?;
            finish(
                context,
                marathon,
                deployment_of(marathon, &id).await?,
                &force,
            )
            .await
        }
        Pod::Kill { id, instances } => {
            let url = format!("/v2/pods/{}::instances", path(&id));
            output::json(
                &marathon
                    .send("DELETE", &url, Some(&json!(instances)))
                    .await?,
            );
            Ok(())
        }
        Pod::Version(crate::cli::PodVersion::List { id }) => {
            let url = format!("/v2/pods/{}::versions", path(&id));
            output::json(&marathon.get(&url).await?);
            Ok(())
        }
    }
}

fn status_of(id: &str) -> String {
    format!("/v2/pods/{}::status", path(id))
}

/// The deployment a change of a pod started: pods' answers name it in a header only. None if it has ended already.
async fn deployment_of(marathon: &Server, id: &str) -> anyhow::Result<Option<String>> {
    let all = marathon.get("/v2/deployments").await?;
    let id = json!(format!("/{}", id.trim_start_matches('/')));
    let all = all.as_array().context("deployments are a list")?;
    let own = all
        .iter()
        .find(|deployment| items(deployment, "affectedPods").contains(&id));
    Ok(own.map(|deployment| text(deployment, "id")))
}

async fn list(context: &Context, marathon: &Server) -> anyhow::Result<()> {
    let pods = marathon.get("/v2/pods/::status").await?;
    let all = pods.as_array().map(Vec::as_slice).unwrap_or_default();
    if context.json {
        output::json(&pods);
    } else if context.quiet {
        output::lines(all.iter().map(|pod| text(pod, "id")));
    } else {
        let headings = [
            "ID+TASKS",
            "INSTANCES",
            "VERSION",
            "STATUS",
            "STATUS SINCE",
            "WAITING",
        ];
        let waiting = marathon.get("/v2/queue").await?;
        output::table(&headings, all.iter().flat_map(|pod| rows(pod, &waiting)));
    }
    Ok(())
}

/// A pod, and below it the containers it is made of.
fn rows(pod: &Value, waiting: &Value) -> Vec<Vec<String>> {
    let spec = &pod["spec"];
    let id = &pod["id"];
    let waits = items(waiting, "queue")
        .iter()
        .any(|entry| entry["pod"]["id"] == *id);
    let mut rows = vec![vec![
        text(pod, "id"),
        items(pod, "instances").len().to_string(),
        text(spec, "version"),
        text(pod, "status"),
        text(pod, "statusSince"),
        if waits { "True" } else { "False" }.to_owned(),
    ]];
    let containers = items(spec, "containers").iter();
    rows.extend(containers.map(|container| {
        let mut row = vec![String::new(); 6];
        row[0] = format!(" |-{}", text(container, "name"));
        row
    }));
    rows
}

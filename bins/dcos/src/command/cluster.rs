//! `dcos cluster`: which cluster the other commands speak to.

use std::process::{Command, Stdio};

use dcos_store::Ensemble;
use serde_json::json;

use super::{Context, text};
use crate::cli::Cluster;
use crate::cluster::{self, Config, Core, Service};
use crate::http::Server;
use crate::leader;
use crate::output;

pub(crate) async fn run(context: &Context, command: Cluster) -> anyhow::Result<()> {
    match command {
        Cluster::Setup { url, name } => setup(context, &url, name).await,
        Cluster::List { attached } => list(context, attached),
        Cluster::Attach { name } => cluster::attach(&context.home, &name),
        Cluster::Rename { name, new_name } => cluster::rename(&context.home, &name, &new_name),
        Cluster::Open { name } => open(context, name.as_deref()).await,
        Cluster::Remove { name } => cluster::remove(&context.home, &name),
    }
}

async fn setup(context: &Context, url: &str, name: Option<String>) -> anyhow::Result<()> {
    let mut master = Server::new(&leader::resolve(url).await?)?;
    let mut config = Config::default();
    if is_router(&master).await {
        let door = master.url;
        master = Server::new(&format!("{door}/mesos"))?;
        let service = |name: &str| {
            let url = format!("{door}/service/{name}");
            Some(Service { url })
        };
        config.marathon = service("marathon");
        config.metronome = service("metronome");
        config.core.dcos_url = Some(door);
    }
    let state = master.get("/state-summary").await?;
    // Where masters are elected is kept as it is: the leader may be another one the next time.
    let followed = Ensemble::is_named_by(url);
    let kept = if followed { url } else { &master.url };
    kept.clone_into(&mut config.core.mesos_master_url);
    config.cluster.name = name
        .or_else(|| state["cluster"].as_str().map(str::to_owned))
        .unwrap_or_else(|| text(&state, "hostname"));
    let id = text(&master.get("/state").await?, "id");
    cluster::setup(&context.home, &id, &config)?;
    output::line(format!(
        "attached to {} at {}",
        config.cluster.name,
        output::harmless(&master.url)
    ));
    let name = &config.cluster.name;
    let known = cluster::list(&context.home)?.into_iter();
    let others = known.filter(|known| known.id != id && known.is_called(name));
    let others: Vec<String> = others.map(|other| other.to_string()).collect();
    if !others.is_empty() {
        output::notice(format!(
            "{name} is also {}: `dcos cluster rename {id} NAME` tells them apart",
            others.join(", ")
        ));
    }
    Ok(())
}

/// Whether a router answers there, and not a master.
async fn is_router(server: &Server) -> bool {
    let version = server.get("/dcos-metadata/dcos-version.json").await;
    version.is_ok_and(|version| version["version"].is_string())
}

fn list(context: &Context, attached: bool) -> anyhow::Result<()> {
    let mut clusters = cluster::list(&context.home)?;
    clusters.retain(|cluster| cluster.attached || !attached);
    if context.quiet && !context.json {
        output::lines(clusters.into_iter().map(|cluster| cluster.id));
        return Ok(());
    }
    if context.json {
        let clusters = clusters.iter().map(|cluster| {
            json!({
                "cluster_id": cluster.id,
                "name": cluster.config.cluster.name,
                "url": output::harmless(&cluster.config.core.mesos_master_url),
                "attached": cluster.attached,
            })
        });
        output::json(&clusters.collect());
    } else {
        let rows = clusters.into_iter().map(|cluster| {
            let mark = if cluster.attached { "*" } else { "" };
            let Config {
                core,
                cluster: named,
                ..
            } = cluster.config;
            vec![
                mark.to_owned(),
                named.name,
                cluster.id,
                output::harmless(&core.mesos_master_url),
            ]
        });
        output::table(&["", "NAME", "ID", "URL"], rows);
    }
    Ok(())
}

/// Opens the page of a cluster: that of its router, or else whatever its master shows.
async fn open(context: &Context, name: Option<&str>) -> anyhow::Result<()> {
    let chosen = match name {
        Some(name) => cluster::find(&context.home, name)?,
        None => context.attached()?,
    };
    let Core {
        dcos_url,
        mesos_master_url,
        ..
    } = chosen.config.core;
    let url = match dcos_url {
        Some(url) => url,
        None => leader::resolve(&mesos_master_url).await?,
    };
    let url = Server::new(&url)?.url;
    if !browse(&url) {
        output::line(output::harmless(&url));
    }
    Ok(())
}

/// Hands a URL to the browser of whoever sits before a screen; says whether there is one.
fn browse(url: &str) -> bool {
    let said = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let has_screen = said("DISPLAY")
        .or_else(|| said("WAYLAND_DISPLAY"))
        .is_some();
    let program = said("BROWSER").or_else(|| has_screen.then(|| "xdg-open".to_owned()));
    let Some(program) = program else {
        return false;
    };
    let mut opening = Command::new(program);
    opening.arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    opening.status().is_ok_and(|status| status.success())
}

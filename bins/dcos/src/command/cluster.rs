//! `dcos cluster`: which cluster the other commands speak to.

use dcos_store::Ensemble;
use serde_json::json;

use super::{Context, text};
use crate::cli::Cluster;
use crate::cluster::{self, Config, Service};
use crate::http::Server;
use crate::leader;
use crate::output;

pub(crate) async fn run(context: &Context, command: Cluster) -> anyhow::Result<()> {
    match command {
        Cluster::Setup { url, name } => setup(context, &url, name).await,
        Cluster::List => list(context),
        Cluster::Attach { name } => cluster::attach(&context.home, &name),
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
    Ok(())
}

/// Whether a router answers there, and not a master.
async fn is_router(server: &Server) -> bool {
    let version = server.get("/dcos-metadata/dcos-version.json").await;
    version.is_ok_and(|version| version["version"].is_string())
}

fn list(context: &Context) -> anyhow::Result<()> {
    let clusters = cluster::list(&context.home)?;
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

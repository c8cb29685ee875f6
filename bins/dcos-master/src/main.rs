//! `dcos-master`: a Mesos master, Marathon and the cluster's names in one process.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use dcos_core::config::{Schema, Values};
use dcos_sched::sdk::{HttpTransport, SchedulerTransport};
use dcos_store::{Election as _, EmbeddedStore, SingleElection, StateStore};
use dcos_wire::{Listener, MediaType};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

mod options;

/// What can run in this process.
const COMPONENTS: [&str; 1] = ["marathon"];

fn main() -> ExitCode {
    let schema = Schema::new("dcos-master", "The deciding node of a cluster.")
        .with(options::PROGRAM)
        .section("marathon", options::MARATHON);
    dcos_program::main(schema, run)
}

async fn run(values: Values, stop: CancellationToken) -> anyhow::Result<()> {
    let components = components(&values)?;
    let work_dir = values.path("work_dir");
    std::fs::create_dir_all(&work_dir).with_context(|| work_dir.display().to_string())?;
    let store: Arc<dyn StateStore> = Arc::new(EmbeddedStore::open(work_dir.join("state.redb"))?);
    let ip: IpAddr = values.text("ip").parse().context("ip is no address")?;
    let mut running = JoinSet::new();

    if components.contains(&"marathon") {
        let masters = values
            .opt_text("master")
            .context("marathon needs --master")?;
        let transport: Arc<dyn SchedulerTransport> =
            Arc::new(HttpTransport::new(masters.split(','), MediaType::Protobuf));
        let listener = Listener::tcp((ip, values.port("marathon_port")).into())
            .await
            .context("marathon_port")?;
        let leadership = SingleElection::new(&work_dir, "marathon")
            .campaign(Bytes::new())
            .await?;
        let config = marathon(&values, &listener);
        let (store, stop) = (Arc::clone(&store), stop.clone());
        running.spawn(async move {
            let fence = leadership.fence();
            let marathon = dcos_marathon::run(config, store, fence, transport, listener, stop);
            Box::pin(marathon).await.context("marathon")
        });
    }
    info!(?components, "running");
    while let Some(ended) = running.join_next().await {
        ended.context("a component panicked")??;
    }
    Ok(())
}

/// The chosen components: all, or those of `--only`, less those of `--without`.
fn components(values: &Values) -> anyhow::Result<Vec<&'static str>> {
    let only = values.opt_list("only").unwrap_or_default();
    let without = values.opt_list("without").unwrap_or_default();
    for name in only.iter().chain(&without) {
        ensure!(
            COMPONENTS.contains(&name.as_str()),
            "there is no component {name:?}; there are {}",
            COMPONENTS.join(", ")
        );
    }
    let named = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
    let chosen = COMPONENTS
        .into_iter()
        .filter(|name| (only.is_empty() || named(&only, name)) && !named(&without, name));
    Ok(chosen.collect())
}

/// Marathon's settings out of the program's.
fn marathon(values: &Values, listener: &Listener) -> dcos_marathon::Config {
    let user = values
        .opt_text("marathon_mesos_user")
        .or_else(|| std::env::var("USER").ok());
    let defaults = dcos_marathon::Config::default();
    dcos_marathon::Config {
        framework_name: values.text("marathon_framework_name"),
        mesos_user: user.unwrap_or(defaults.mesos_user),
        mesos_role: values.text("marathon_mesos_role"),
        hostname: values
            .opt_text("hostname")
            .unwrap_or_else(|| values.text("ip")),
        http_port: listener.address().map_or(0, |address| address.port()),
        master: values.opt_text("master").unwrap_or_default(),
        failover_timeout: values.duration("marathon_failover_timeout"),
        features: values
            .opt_list("marathon_enable_features")
            .unwrap_or_default()
            .into_iter()
            .collect(),
        ..dcos_marathon::Config::default()
    }
}

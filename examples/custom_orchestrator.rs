//! An orchestrator of one's own, from the parts Marathon is made of: it keeps an app running, and replaces its instances
//! by those of the next app, within the upgrade strategy of that, as soon as all are healthy.
//!
//! ```text
//! app='{"id": "/web", "cmd": "sleep 1000", "instances": 3, "cpus": 0.1, "mem": 32,
//!     "constraints": [["hostname", "MAX_PER", "3"]],
//!     "healthChecks": [{"protocol": "COMMAND", "command": {"value": "test -w ."}, "intervalSeconds": 1, "delaySeconds": 0}]}'
//! cargo run -p examples --example custom_orchestrator -- 127.0.0.1:5050 /tmp/copies "$app" "${app/1000/2000}"
//! ```
//!
//! It prints where its instances can be seen, and `all copies of "sleep 1000" are healthy`, then the same of the next app.
//! What it promised is kept in the directory: killed at any moment and started again it goes on with the instances there
//! are. Started with other apps it upgrades to those; Control-C leaves everything running.
//!
//! [`Fleet`] keeps track of instances, launches where constraints allow it, kills, and knows the rows by which that survives.
//! [`decide`] says what to do next. [`serve`] is the shell around: store, master, HTTP.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::{Json, Router, routing::get};
use dcos_core::{seed::Seed, time::Time};
use dcos_marathon::core::RecoverError;
use dcos_marathon::deployment::drive::{Drive, decide};
use dcos_marathon::engine::{Directed, Director, Fleet, FleetView, Service};
use dcos_marathon::shell::{Mailbox, serve};
use dcos_marathon::{Config, Timestamp, model::App};
use dcos_sched::sdk::HttpTransport;
use dcos_store::{Election, EmbeddedStore, SingleElection};
use dcos_wire::{Listener, MediaType};
use tokio_util::sync::CancellationToken;

/// Takes one app after the other.
struct Copies {
    apps: Vec<App>,
    /// The app that is kept running, and whether it was seen healthy.
    at: usize,
    healthy: bool,
}

impl Director for Copies {
    fn direct(&mut self, fleet: &mut Fleet, now: Timestamp) {
        let app = fleet.version_of(now, self.apps[self.at].clone());
        let others = fleet.services().filter(|id| **id != app.id);
        for other in others.cloned().collect::<Vec<_>>() {
            fleet.stop(&other);
        }
        let decision = decide(Drive::Restart { spec: &app }, &fleet.members(&app.id));
        fleet.apply(now, &app, &decision);
        if decision.done && !self.healthy {
            println!(
                "all copies of {:?} are healthy",
                app.cmd.as_deref().unwrap_or_default()
            );
        }
        self.healthy = decision.done;
        if decision.done && self.at + 1 < self.apps.len() {
            (self.at, self.healthy) = (self.at + 1, false);
            self.direct(fleet, now);
        }
    }
}

type Recovered = Result<Directed<Copies>, RecoverError>;

/// What there is to know before it runs.
struct Orchestrator {
    config: Arc<Config>,
    apps: Vec<App>,
}

impl Service for Orchestrator {
    type Machine = Directed<Copies>;

    fn name(&self) -> &'static str {
        "copies"
    }

    fn prefix(&self) -> &'static str {
        "copies/"
    }

    fn config(&self) -> &Arc<Config> {
        &self.config
    }

    fn recover(&self, seed: Seed, _: Time, rows: &[(&str, &[u8])]) -> Recovered {
        let rows = rows.iter().copied();
        let fleet = Fleet::recover(Arc::clone(&self.config), self.prefix(), seed, rows)?;
        let apps = self.apps.clone();
        // The last of which something runs is what it was at.
        let at = apps.iter().rposition(|app| fleet.runs(app)).unwrap_or(0);
        let healthy = false;
        let director = Copies { apps, at, healthy };
        Ok(Directed { fleet, director })
    }

    fn router(&self, mailbox: Mailbox<Directed<Copies>>, _: CancellationToken) -> Router {
        let instances = async move || Json(FleetView::clone(&mailbox.view()));
        Router::new().route("/", get(instances))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let master = words.next().context("no master, such as 127.0.0.1:5050")?;
    let directory: PathBuf = words.next().context("no directory for its state")?.into();
    let name = "copies".to_owned();
    let config = Arc::new(Config {
        framework_name: name,
        ..Config::default()
    });
    let apps = words.map(|app| Fleet::read(&config, app.as_bytes()));
    let apps: Vec<App> = apps.collect::<Result<_, _>>()?;
    anyhow::ensure!(!apps.is_empty(), "no app");

    std::fs::create_dir_all(&directory)?;
    let office = SingleElection::new(&directory, "copies")
        .campaign("copies".into())
        .await?;
    let store = Arc::new(EmbeddedStore::open(directory.join("state.redb"))?);
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await?;
    println!(
        "instances at http://{}/",
        listener.address().context("bound to TCP")?
    );
    let transport = Arc::new(HttpTransport::new([master], MediaType::Protobuf));
    let service = Orchestrator { config, apps };
    let (fence, stop) = (office.fence(), CancellationToken::new());
    let serving = serve(service, store, fence, transport, listener, stop);
    tokio::select! {
        ended = serving => ended.context("it ended by itself"),
        stopped = tokio::signal::ctrl_c() => stopped.context("no signals"),
    }
}

#[cfg(test)]
#[path = "custom_orchestrator/tests.rs"]
mod tests;

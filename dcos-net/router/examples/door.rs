//! A router of one's own before a master and a Marathon that run elsewhere.
//!
//! ```sh
//! cargo run -p dcos-router --example door -- 127.0.0.1:8880 127.0.0.1:5050 127.0.0.1:8080
//! curl http://127.0.0.1:8880/mesos/state-summary
//! curl http://127.0.0.1:8880/service/marathon/v2/apps
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use dcos_router::decide::{Place, RouterAt, Rules};
use dcos_router::route::{self, Part};
use dcos_router::world::{Base, Scheme};
use dcos_router::{About, Config, Port, Router, Sources, limits};
use dcos_wire::{Client, Listener, Origins};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |usual: &str| arguments.next().unwrap_or_else(|| usual.to_owned());
    let listen: SocketAddr = next("127.0.0.1:8880").parse()?;
    let master = next("127.0.0.1:5050");
    let marathon: Base = format!("http://{}", next("127.0.0.1:8080")).parse()?;
    let names: Base = format!("http://{}", next("127.0.0.1:8123")).parse()?;
    let agent_port = next("61001").parse()?;

    let parts = BTreeMap::from([
        (Part::Marathon, Place::At(marathon.clone())),
        (Part::MesosDns, Place::At(names)),
    ]);
    let rules = Rules {
        routes: route::MASTER,
        parts,
        scheme: Scheme::Http,
        masters: RouterAt::http(listen.port()),
        agents: RouterAt::http(agent_port),
        own_hosts: BTreeSet::from([listen.ip().to_string()]),
        origins: Origins::default(),
    };
    let sources = Sources {
        masters: watch::channel(vec![master]).1,
        scheme: Scheme::Http,
        master_client: Client::new(),
        marathon: Some(marathon),
        marathon_client: Client::new(),
    };
    let config = Config {
        rules,
        about: About {
            public_ip: listen.ip().to_string(),
            ..About::default()
        },
        sources: Some(sources),
        tls: None,
        authenticate: None,
        access_log: Some(PathBuf::from("-")),
        patience: Duration::from_secs(10),
        limits: limits(),
    };
    let stop = CancellationToken::new();
    let router = Router::new(config, stop.clone())?;
    let listener = Listener::tcp(listen).await?;
    println!("one door: http://{listen}/");
    let port = Port {
        listener,
        tls: None,
        elsewhere: None,
    };
    let serving = router.serve(vec![port]);
    tokio::select! {
        () = serving => {}
        stopped = tokio::signal::ctrl_c() => { stopped?; stop.cancel(); }
    }
    Ok(())
}

//! A Mesos master in thirty lines: `cargo run -p dcos-sched --example master -- 127.0.0.1:5050 /tmp/master`.
//!
//! It prints nothing; `curl http://127.0.0.1:5050/state` shows it. Agents and frameworks of Mesos
//! 1.11 can join it.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use dcos_sched::master::{self, Config};
use dcos_store::{Election as _, EmbeddedStore, SingleElection};
use dcos_wire::Listener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:5050".to_owned())
        .parse()?;
    let work_dir = arguments.next().unwrap_or_else(|| "/tmp/master".to_owned());
    std::fs::create_dir_all(&work_dir)?;
    let leadership = SingleElection::new(&work_dir, "mesos")
        .campaign(Bytes::new())
        .await?;
    let store = Arc::new(EmbeddedStore::open(format!("{work_dir}/state.redb"))?);
    let config = Config {
        advertise: address,
        ..Config::default()
    };
    let listener = Listener::tcp(address).await?;
    let stop = CancellationToken::new();
    Box::pin(master::run(
        config,
        store,
        leadership.fence(),
        listener,
        stop,
    ))
    .await?;
    Ok(())
}

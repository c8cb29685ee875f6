//! Names: a DNS server for the zones of `dcos-net`, with upstream forwarding, and the HTTP API of
//! Mesos-DNS.
//!
//! The program feeds [`Snapshot`](dcos_net::Snapshot)s of the cluster through a watch channel; what
//! is asked is answered from the latest. Before there is a leader, what is known (such as where masters are) is
//! answered and nothing denied; after that a snapshot without one changes nothing, so that names survive a failover.
//!
//! ```
//! use std::sync::Arc;
//! use dcos_dns::{Config, Server};
//! use dcos_net::Snapshot;
//! use tokio::sync::watch;
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let config = Config { listen: vec!["127.0.0.1:0".parse()?], http: None, ..Config::default() };
//! let server = Server::bind(config).await?;
//! println!("dig @127.0.0.1 -p {} leader.mesos", server.addresses()[0].port());
//! let (snapshots, latest) = watch::channel(Arc::new(Snapshot::default()));
//! let stop = CancellationToken::new();
//! let serving = tokio::spawn(server.run(latest, stop.clone()));
//! stop.cancel();
//! serving.await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! What it does not hold: how names are made (`dcos_net::names`), and where snapshots come from.

mod answer;
mod batch;
mod cache;
mod clients;
mod config;
mod feed;
mod flights;
mod forward;
mod hosts;
mod http;
mod leader;
mod masters;
mod metrics;
mod options;
mod pace;
mod question;
mod resolv_conf;
mod resolvers;
mod served;
mod server;
mod shares;
mod sockets;
mod spartan;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

pub use config::{
    Config, NoResolver, PORT, UNPRIVILEGED_PORT, Upstream, named_resolvers, resolvers,
};
pub use feed::Feed;
pub use masters::MasterList;
pub use options::{OPTIONS, OptionError, allow, cache, forward_zones, masters, naming, upstream};
pub use pace::Pace;
pub use resolv_conf::{ResolvConf, ResolvConfError};
pub use server::{BindError, Doors, Server, run};
pub use spartan::{SPARTAN, SPARTAN_V6, Spartan, SpartanError};

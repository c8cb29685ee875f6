//! One door to the cluster: Admin Router of masters and agents.
//!
//! | need | here |
//! |---|---|
//! | which paths there are, who may ask them, what becomes of them | [`route`] |
//! | deciding about a request: pure | [`decide`], with [`path`], [`location`], [`headers`] |
//! | what is known of the cluster, as streams of events tell it | [`world`], [`Sources`] |
//! | serving it: streaming, web sockets, TLS, HTTP/2, limits, access log | [`Router`], [`Config`] |
//! | who may ask what | [`Authenticate`]: a plug point, nothing is asked without one |
//!
//! ```
//! use std::collections::{BTreeMap, BTreeSet};
//! use std::time::Duration;
//! use dcos_router::decide::{RouterAt, Rules};
//! use dcos_router::world::Scheme;
//! use dcos_router::{About, Config, Port, Router, limits, parts, route};
//! use dcos_wire::{Client, Listener, Origins};
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let rules = Rules {
//!     routes: route::MASTER,
//!     parts: parts(&["cosmos=http://127.0.0.1:7070".to_owned()])?,
//!     scheme: Scheme::Http,
//!     masters: RouterAt::http(80),
//!     agents: RouterAt::http(61001),
//!     own_hosts: BTreeSet::new(),
//!     origins: Origins::default(),
//! };
//! let config = Config {
//!     rules,
//!     about: About { public_ip: "192.0.2.1".to_owned(), ..About::default() },
//!     sources: None,
//!     tls: None,
//!     authenticate: None,
//!     access_log: None,
//!     patience: Duration::from_secs(5),
//!     limits: limits(),
//! };
//! let stop = CancellationToken::new();
//! let router = Router::new(config, stop.clone()).map_err(|error| error.to_string())?;
//! let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
//! let url = format!("http://{}/metadata", listener.address().unwrap());
//! let serving = tokio::spawn(router.serve(vec![Port { listener, tls: None, elsewhere: None }]));
//! let told = Client::new().get(&url).await.unwrap().text().await.unwrap();
//! assert_eq!(told, "{\"PUBLIC_IPV4\": \"192.0.2.1\"}\n");
//! stop.cancel();
//! serving.await.unwrap();
//! # Ok::<(), String>(()) }).unwrap();
//! ```
//!
//! What it does not hold: any rule of those behind it, and who a user is.

mod auth;
mod body;
mod cache;
mod counters;
pub mod decide;
mod door;
mod files;
mod follow;
pub mod headers;
mod journal;
pub mod location;
pub mod options;
mod own;
pub mod path;
mod pool;
mod proxy;
mod records;
mod relay;
pub mod route;
mod server;
mod shelf;
mod upstream;
pub mod world;

pub use auth::Authenticate;
pub use follow::Sources;
pub use options::OPTIONS;
pub use own::About;
pub use server::{Config, Port, Router, StartError, limits, parts};

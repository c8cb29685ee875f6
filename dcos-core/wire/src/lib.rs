//! How the parts of the house talk: HTTP server and client, the negotiation and framing rules of
//! Mesos's APIs, and libprocess messages between master, agent and libmesos drivers.
//!
//! | need | here |
//! |---|---|
//! | serve a router on TCP or a Unix socket, with every limit set | [`Server`], [`Listener`] |
//! | ask another process, follow redirects to the leader, read streams | [`Client`] |
//! | know which of several masters leads | [`Masters`] |
//! | choose between JSON and protobuf | [`MediaType`] |
//! | answer with the right status, JSONP, a redirect | [`reply`], [`Refusal`] |
//! | stream events, and cut a reader that does not keep up | [`records`] |
//! | answer many with the same large document | [`Rope`] |
//! | send a large document while it is being written | [`flow`] |
//! | send and receive libprocess messages | [`libprocess`] |
//! | show sandboxes and logs: `/files/*` | [`files`] |
//! | log more for a while, on demand | [`logging`] |
//! | say why an endpoint of the original is not there | [`absent`] |
//! | close endpoints to everybody | [`Firewall`] |
//! | keep web pages of other sites out | [`Origins`] |
//! | tell the host's load and memory | [`host`] |
//! | certificates and keys for either side | [`tls`] |
//!
//! What it does not hold: any rule of master or agent, and of endpoints only those that both have. Messages come in and go
//! out as a name and bytes; what they mean is decided above.
//!
//! ```
//! use dcos_wire::{Client, Listener, Server};
//! use tokio_util::sync::CancellationToken;
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let router = axum::Router::new().route("/ping", axum::routing::get(async || "pong"));
//! let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await?;
//! let url = format!("http://{}/ping", listener.address().expect("bound to TCP"));
//! let stop = CancellationToken::new();
//! let server = tokio::spawn(Server::new(router).serve(listener, stop.clone()));
//!
//! let answer = Client::new().get(&url).await?;
//! assert_eq!(answer.text().await?, "pong");
//!
//! stop.cancel();
//! assert_eq!(server.await?.aborted, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

pub mod absent;
mod alarm;
mod client;
mod events;
pub mod files;
mod firewall;
mod flow;
mod gzip;
pub mod host;
mod io;
pub mod libprocess;
pub mod limits;
pub mod logging;
mod masters;
mod negotiate;
mod origins;
pub mod prometheus;
pub mod records;
mod refusal;
pub mod reply;
mod rope;
mod server;
pub mod tls;

pub use alarm::Alarm;
pub use axum::body::Body;
pub use client::{Answer, Client, ClientConfig, ClientError, Credentials, Dial, Records};
pub use events::Told;
pub use firewall::Firewall;
pub use flow::{Flow, FlowWriter, flow};
pub use io::{Io, Stream};
pub use masters::{Heard, Masters};
pub use negotiate::{MediaType, accepts, accepts_gzip};
pub use origins::{FORWARDED_HOST, Foreign, OriginError, Origins};
pub use refusal::Refusal;
pub use rope::{Piece, Rope};
pub use server::{
    BodyError, Left, Listener, Load, Peer, PeerAddress, Pipe, Server, ServerConfig, Shortcut,
    Stopped, Unhurried, Visit,
};

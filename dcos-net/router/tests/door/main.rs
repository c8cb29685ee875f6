//! A router between raw sockets: what RFC 9110 and 9112 ask of a proxy, and what hostile clients try.
//!
//! Each test plays the client byte by byte, and those behind the router too, so that nothing is hidden by a library.
//! Here plain requests take the short way; in `long_way.rs` the same tests are run without it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod alike;
mod backend;
mod cached;
mod framing;
mod hostile;
mod http2;
mod limits;
mod live;
mod passing;
mod relayed;
mod setup;
mod upgrades;

/// Whether plain requests take the short way.
const RELAYS: bool = true;

//! A router between raw sockets: what RFC 9110 and 9112 ask of a proxy, and what hostile clients try.
//!
//! Each test plays the client byte by byte, and those behind the router too, so that nothing is hidden by a library.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod backend;
mod cached;
mod framing;
mod http2;
mod limits;
mod live;
mod passing;
mod setup;
mod upgrades;

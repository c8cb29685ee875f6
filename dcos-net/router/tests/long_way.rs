//! The tests of `door/`, in a router that takes no request for plain: hyper serves all of them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "door/backend.rs"]
mod backend;
#[path = "door/cached.rs"]
mod cached;
#[path = "door/framing.rs"]
mod framing;
#[path = "door/hostile.rs"]
mod hostile;
#[path = "door/limits.rs"]
mod limits;
#[path = "door/passing.rs"]
mod passing;
#[path = "door/setup.rs"]
mod setup;
#[path = "door/upgrades.rs"]
mod upgrades;

/// Whether plain requests take the short way.
const RELAYS: bool = false;

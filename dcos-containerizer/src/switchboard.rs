//! The switchboard: a small process beside a container that others may attach to.
//!
//! It holds the other ends of the container's standard streams (a pseudo terminal or three
//! pipes), so that these outlive the agent, and connects them with whoever attaches:
//!
//! ```text
//! container ──stdout, stderr──► switchboard ──► container logger
//!     ▲                             │  │
//!     │                             │  └─────► each output line (at most a buffer behind)
//!     └───────────stdin─────────────┴◄──────── the one input line
//! ```
//!
//! A *line* is a connection to its Unix socket; what goes over it is in [`frame`]. The process is
//! a child of the launcher like the container itself, has one thread, no runtime and no privilege
//! ([`main`]); the agent's side is in [`line`](OutputLine).
//!
//! # Source
//! Mesos 1.11 `mesos-io-switchboard` (`src/slave/containerizer/mesos/io/switchboard.cpp`), which
//! speaks HTTP on its socket. What differs on purpose is in `docs/sessions.md`.

mod ends;
mod frame;
mod line;
mod local;
mod process;
mod server;

use std::path::PathBuf;

pub use line::{InputLine, LineError, OutputLine, Piece, Source};
pub use process::main;

pub(crate) use ends::{Streams, listen, name_of, open_pipes, open_terminal};
pub(crate) use process::{Descriptors, plan};

/// How to reach the switchboard of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switchboard {
    /// Its socket.
    pub socket: PathBuf,
    /// Whether the container has a terminal.
    pub terminal: bool,
}

//! An agent of an ordinary user: root in a user namespace, and nobody but that user on the node.
//!
//! The user's own id is 0 inside, its subordinate ids (`/etc/subuid`, `/etc/subgid`) are 1 and on. There the agent
//! and all it starts may mount, change owners and make namespaces, so that images, roots of their own, sessions and
//! pods work as with root. Who has no subordinate ids is root inside all the same, but the only one there is.
//!
//! [`enter`] makes the namespaces, or joins those of the launcher that an agent before this one left: containers and
//! mounts are to be found there only. They last as long as a process is in them; nothing is kept of them elsewhere.
//!
//! Of control groups it has those that were [`delegated`] to the user, or a [`Scope`] of the user's systemd, if it can have one.
//!
//! What this module does not decide: what of an agent's options works inside. [`IsolationConfig`] refuses isolators,
//! the program the rest. How containers are mounted there is in `isolator/mounted.rs`.
//!
//! [`IsolationConfig`]: crate::isolator::IsolationConfig

use std::io;
use std::path::PathBuf;

mod delegated;
mod enter;
mod own;
mod scope;
mod subordinate;

pub use crate::callers::{CALLERS, serve as serve_callers};
pub use delegated::{delegated, missing};
pub use enter::{Found, enter, find, keep};
pub(crate) use own::is_own;
pub use own::{Own, is_entered, own};
pub use scope::Scope;
pub use subordinate::Wanted;

/// The word that makes a program [`keep`] namespaces until they are entered.
pub const KEEPER: &str = "namespaces";

/// Why an ordinary user's agent is not root anywhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootlessError {
    /// The kernel, or who set it up, allows no user namespaces.
    #[error("users may make no namespaces here ({reason}); {remedy}")]
    Forbidden {
        /// What failed, and how.
        reason: String,
        /// What permits it, most likely.
        remedy: String,
    },
    /// Ids cannot be mapped.
    #[error("mapping the ids of {path:?}: {reason}")]
    Maps {
        /// Where the ids are said.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Namespaces that are there cannot be entered.
    #[error("entering {path:?}")]
    Enter {
        /// The namespace.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The launcher of an agent before this one runs plain processes.
    #[error(
        "the launcher at {socket:?} runs plain processes of an agent before this one: drain that first, or go on with \
         `--launcher=posix`"
    )]
    Plain {
        /// Where it listens.
        socket: PathBuf,
    },
    /// A process that is to stand by did not.
    #[error("starting `{program}`")]
    Start {
        /// As it is called.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
}

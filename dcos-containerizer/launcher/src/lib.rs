//! The container launcher: a plan format and one small single-threaded process.
//!
//! The launcher is the parent of every container on its node. It receives finished [`Plan`]s and
//! file descriptors over a Unix socket and does clone, mounts, `pivot_root`, credentials, seccomp
//! and exec: nothing else. It decides nothing, keeps no file, and outlives the agent that talks
//! to it, so that an agent can die at any time and learn every exit status later.
//!
//! Users of the library write a [`Plan`] and talk to the process through a [`Client`].

#[macro_use]
mod codec;
mod child;
mod client;
mod frame;
mod init;
mod message;
mod mounts;
mod plan;
mod process;
mod program;
mod report;
mod server;
mod socket;
mod sys;
mod table;
mod upgrade;

pub use client::{
    Client, Error, Receiver, Sender, beside, is_own, map_ids, unshare_users_and_mounts,
};
pub use codec::DecodeError;
pub use message::{Answer, Container, Exit, Failure, Message, Request, Scope, Step};
pub use plan::{
    Capabilities, Cgroup, CgroupVersion, Credentials, Device, Filter, First, IdMap, Join, Link,
    MAX_PLAN, Mount, NamespaceKind, Namespaces, Plan, Rlimit, Root, VERSION, Variable,
};
pub use program::{is_served, main};
pub use socket::short_name;

//! The agent: one node's half of the cluster, between the master and the node's containers.
//!
//! [`Agent`] is a pure state machine: it registers with the master, runs tasks in executors,
//! keeps their updates until they are acknowledged, and says what must be on disk before what.
//! [`run`] is its shell: it waits for messages, calls, ends of containers and deadlines, feeds
//! the core, and carries out its [`Action`]s.
//!
//! | file | owns |
//! |---|---|
//! | `core` | the state machine's outer shape: inputs, actions, deadlines |
//! | `registration` | finding, joining, watching and re-joining the master |
//! | `authentication`, `security` | who it is to the master, whom it lets in |
//! | `tasks` | tasks and groups on their way from the master to an executor |
//! | `executors` | an executor's life, from launch to its last acknowledged update |
//! | `status` | task states, status updates, acknowledgements |
//! | `updates` | which update is sent when |
//! | `drain` | ending all tasks at an operator's wish |
//! | `reconfiguration` | what may change without becoming another agent |
//! | `free` | what nobody uses, and may be given |
//! | `operations`, `volumes` | reservations and persistent volumes |
//! | `recovery` | taking up what an earlier agent left |
//! | `admission` | which drivers are heard |
//! | `deadlines` | which executor is due next |
//! | `gc` | when sandboxes are deleted |
//! | `oversubscription`, `estimates` | lending twice what lies idle, and taking it back |
//! | `hooks` | what an operator's own code adds |
//! | `socket` | where executors come in without the network |
//! | `shell`, `http`, ... | clocks, disks, sockets |
//!
//! Source: Mesos 1.11 `src/slave/slave.cpp`; departures are named where they are.

mod admission;
mod authentication;
mod checks;
mod config;
mod containers;
mod core;
mod counters;
mod deadlines;
pub mod detect;
mod drain;
mod drivers;
mod estimates;
mod executors;
mod former;
mod free;
mod gc;
mod handle;
pub mod hooks;
mod http;
mod leader;
mod occupancy;
mod operations;
mod oversubscription;
mod reconfiguration;
mod records;
mod recovery;
mod registration;
mod runner;
mod sandboxes;
mod security;
mod shell;
mod socket;
mod status;
mod streams;
mod tasks;
mod updates;
mod view;
mod volumes;
mod words;

#[cfg(test)]
mod tests;

pub use config::{Config, ConfigError, Meter, OPTIONS};
pub use core::Agent;
pub use counters::Counters;
pub use former::FORMER;
pub use gc::{Age, Remains};
pub use hooks::{AgentHooks, Hooks, StatusChange};
pub use occupancy::occupy;
pub use operations::VolumeWork;
pub use reconfiguration::Reconfiguration;
pub(crate) use records::MAX_COMPLETED_TASKS;
pub use records::{ExecutorKey, ExecutorState};
pub use sandboxes::Sandbox;
pub use security::{Patience, SECURITY_OPTIONS, Security};
pub use shell::{AgentError, run};
pub use socket::{ExecutorSocket, SocketOrigin};
pub use view::{ExecutorView, FrameworkView, View};
pub use words::{Action, FromDriver, FromMaster, Input, Settings, ToMaster};

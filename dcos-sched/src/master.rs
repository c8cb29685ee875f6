//! The Mesos master: a pure core ([`Master`]) that decides, and a shell ([`run`]) that listens,
//! speaks and stores.
//!
//! | file | owns |
//! |---|---|
//! | `input.rs` | what reaches the core and what leaves it |
//! | `core.rs` | the state, timers, and the order of actions |
//! | `calls.rs`, `inbox.rs` | which call or message reaches which part |
//! | `subscriptions.rs`, `frameworks.rs` | how frameworks come and come back; change and end |
//! | `agents.rs`, `departures.rs` | how agents come and come back; are watched and lost |
//! | `returning.rs`, `history.rs` | reading what agents say that come back; what they remember of ended tasks |
//! | `operator.rs`, `standing.rs` | what operators order; what of it lasts |
//! | `quota.rs`, `weights.rs`, `priorities.rs`, `breakdown.rs` | what roles are due, and what they hold |
//! | `removals.rs` | how fast agents may be given up |
//! | `drain.rs` | agents that are emptied, out of service, or gone |
//! | `maintenance.rs`, `inverse.rs` | planned absences of machines, and asking for what is there |
//! | `tasks.rs` | updates, acknowledgements, kills, ends |
//! | `offers.rs`, `launch.rs` | offers and what is made of them |
//! | `operations.rs`, `feedback.rs`, `reservations.rs` | reservations and volumes: by frameworks, how it went, by operators |
//! | `reconcile.rs` | what frameworks hear when they ask |
//! | `validation.rs` | what is refused, and in which words |
//! | `convert.rs`, `driver.rs` | the same for frameworks with fewer capabilities, and v0 drivers |
//! | `authentication.rs`, `authorize.rs`, `throttle.rs` | who speaks, what they may do, how often |
//! | `registry.rs` | what survives a restart |
//! | `record.rs`, `recent.rs` | tasks as they are kept; the last of many |
//! | `snapshot.rs`, `metrics.rs`, `gauges.rs` | what readers see |
//! | `why.rs` | why something is not offered |
//! | `config.rs`, `security.rs`, `shell.rs`, `threads.rs` | flags; the task that owns the core; where it and readers run |
//! | `standby.rs` | waiting for election; what a master does while another leads |
//! | `http.rs`, `watchers.rs`, `inprocess.rs` | API v1, v0 endpoints, event streams, frameworks in this process |
//!
//! It speaks the protocols of Mesos 1.11: API v1 and v0 over HTTP, `mesos.internal` messages over
//! libprocess. What differs on purpose is listed in `docs/differences.md`.

mod acknowledged;
mod agent;
mod agents;
mod alike;
mod authentication;
mod authorize;
mod bookings;
mod breakdown;
mod calls;
mod config;
mod convert;
mod core;
mod departures;
mod drain;
mod driver;
mod ended;
mod feedback;
mod former;
mod framework;
mod frameworks;
mod gauges;
mod history;
pub mod hooks;
mod http;
mod inbox;
mod inprocess;
mod input;
mod inverse;
mod launch;
mod maintenance;
mod metrics;
mod news;
mod offers;
mod old_call;
mod operations;
mod operator;
mod preemption;
mod priorities;
mod quota;
mod recent;
mod reconcile;
mod record;
mod registry;
mod removals;
mod reservations;
mod returning;
mod security;
mod shell;
mod snapshot;
mod standby;
mod standing;
mod subscriptions;
mod tasks;
mod threads;
mod throttle;
mod validation;
mod watchers;
mod weights;
mod whitelist;
mod why;

pub use agent::{Agent, PendingOperation};
pub use config::{Config, ConfigError, OPTIONS};
pub use core::{Master, Settings};
pub use former::FORMER;
pub use framework::{Framework, Link, StateCounts, Tally};
pub use hooks::MasterHooks;
pub use input::{Action, Input, Packet, Reader, Reply, RequestId};
pub use metrics::Counters;
pub use news::News;
pub use recent::Recent;
pub use record::TaskRecord;
pub use registry::PREFIX;
pub use returning::Returning;
pub use security::{HttpSecurity, SECURITY_OPTIONS, Security};
pub use shell::{MasterHandle, MasterStopped, Node, RunError, run};
pub use snapshot::Snapshot;
pub use standby::Stance;
pub use standing::{MachineKey, Standing};

/// The version of Mesos whose protocols this master speaks, and which it says it is: clients
/// decide by it what they may use.
pub const VERSION: &str = "1.11.0";

#[cfg(test)]
mod tests;

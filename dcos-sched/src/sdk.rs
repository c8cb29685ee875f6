//! Write a framework: a [`Scheduler`] says what to do with offers and updates, a
//! [`SchedulerDriver`] keeps it subscribed to the leading master.
//!
//! ```text
//! your Scheduler ◄── events ── SchedulerDriver ◄── SchedulerTransport ◄── master
//!        └────────── calls ──► Handle ───────────────┘
//! ```
//!
//! The driver reconnects with backoff, follows the leader, notices a dead link by missed
//! heartbeats, and acknowledges updates if asked to. Which way the messages travel is a
//! [`SchedulerTransport`]: HTTP to any Mesos 1.x master, or a channel to a master in the same
//! process. Same messages, same code.
//!
//! On the other side, an [`Executor`] runs the framework's tasks on an agent, and an
//! [`ExecutorDriver`] keeps it subscribed there: it tells what becomes of tasks until the agent has
//! acknowledged it, and waits for an agent that restarts.
//!
//! Source: Mesos 1.11 `docs/scheduler-http-api.md`, `docs/executor-http-api.md`; the classes of the
//! same purpose are in `include/mesos/v1/scheduler.hpp` and `include/mesos/v1/executor.hpp`.

mod backoff;
mod driver;
mod executor;
mod executor_config;
mod executor_driver;
mod executor_handle;
mod executor_transport;
mod handle;
mod http;
mod masters;
pub mod operations;
mod scheduler;
mod transport;
mod unacknowledged;

pub use backoff::Backoff;
pub use driver::{Acknowledge, DriverConfig, DriverError, SchedulerDriver, Stopped};
pub use executor::Executor;
pub use executor_config::{AgentEndpoint, ExecutorConfig, ExecutorConfigError};
pub use executor_driver::{ExecutorDriver, ExecutorEnd, ExecutorError};
pub use executor_handle::ExecutorHandle;
pub use executor_transport::{ExecutorTransport, HttpExecutorTransport};
pub use handle::Handle;
pub use http::HttpTransport;
pub use masters::{LeadingMaster, master_url};
pub use scheduler::Scheduler;
pub use transport::{SchedulerTransport, Subscription, TransportError};

/// What our master says in an `ERROR` event, before it cuts the stream of a scheduler that does not keep up. Unlike other
/// errors it is no reason to end: the driver subscribes anew.
pub const TOO_SLOW: &str =
    "The scheduler does not keep up with its events: its stream is cut, and it may subscribe again";

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
//! Source: Mesos 1.11 `docs/scheduler-http-api.md`; the class of the same purpose is
//! `include/mesos/v1/scheduler.hpp`.

mod backoff;
mod driver;
mod handle;
mod http;
mod scheduler;
mod transport;

pub use backoff::Backoff;
pub use driver::{Acknowledge, DriverConfig, DriverError, SchedulerDriver, Stopped};
pub use handle::Handle;
pub use http::HttpTransport;
pub use scheduler::Scheduler;
pub use transport::{SchedulerTransport, Subscription, TransportError};

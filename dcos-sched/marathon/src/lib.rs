//! Services: a Marathon on the public scheduler SDK.
//!
//! An app is what a user wants to keep running; this crate keeps it running on whatever agents a Mesos
//! master offers, changes it step by step when its definition changes, and serves the REST API of
//! Marathon 1.11 so that its clients need not notice.
//!
//! Reading order: [`model`] (what users say), [`normalize`] and the rules in `validate` (what that
//! means), [`deployment`] (the way from one tree of apps to another), [`matching`] and [`queue`] (from
//! offers to instances), [`core`] (the state machine that ties them together, pure and without a clock),
//! [`shell`] (store, master, timers), [`api`] (HTTP).

pub mod api;
pub mod config;
pub mod core;
pub mod deployment;
mod error;
pub mod event;
pub mod health;
pub mod instance;
pub mod matching;
pub mod model;
pub mod normalize;
mod path;
pub mod queue;
mod schema;
pub mod shell;
pub mod task;
mod timestamp;
mod validate;

pub use config::Config;
pub use error::{Error, Violation};
pub use path::PathId;
pub use shell::{RunError, run};
pub use timestamp::{Timestamp, TimestampError};

//! Services: a Marathon on the public scheduler SDK.
//!
//! An app is what a user wants to keep running; this crate keeps it running on whatever agents a Mesos
//! master offers, changes it step by step when its definition changes, and serves the REST API of
//! Marathon 1.11 so that its clients need not notice.
//!
//! Reading order: [`model`] (what users say), [`normalize`] and the rules in `validate` (what that
//! means), [`deployment`] (the way from one tree of apps to another), [`matching`] and [`queue`] (from
//! offers to instances), [`core`] (the state machine that ties them together, pure and without a clock),
//! [`shell`] (store, master, timers), [`api`] (HTTP), [`standby`] (while another one leads), [`migrate`] (what an original
//! left in `ZooKeeper`).
//!
//! [`run`] is the whole service. The core alone, as simulations drive it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use dcos_core::{seed::Seed, time::Time};
//! use dcos_marathon::core::{Core, Kill};
//! use dcos_marathon::{Config, PathId, normalize};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Time::from_secs(1);
//! let mut core = Core::recover(Arc::new(Config::default()), Seed::new(1), now, [])?;
//! let app = normalize::read_app(br#"{"id": "/web", "cmd": "serve", "instances": 2}"#)?;
//! let plan = core.change(now, false, &Kill::new(), |change| {
//!     let rules = change.rules(&PathId::from("/web"));
//!     let app = normalize::create(app, &PathId::root(), &rules, change.version)?;
//!     let mut root = change.copy();
//!     root.put_app(app, change.version, false);
//!     Ok(root)
//! })?;
//! assert_eq!(plan.steps.len(), 2, "it begins to exist, then it is scaled");
//!
//! let batch = core.take(now);
//! assert!(batch.rows.iter().any(|row| row.key == "marathon/app/web"));
//! assert_eq!(core.waiting()[&PathId::from("/web")], 2);
//! # Ok(()) }
//! ```

pub mod api;
pub mod config;
pub mod core;
pub mod deployment;
pub mod engine;
mod error;
pub mod event;
mod guard;
pub mod health;
pub mod instance;
pub mod matching;
pub mod migrate;
pub mod model;
pub mod normalize;
mod path;
pub mod queue;
mod schema;
pub mod shell;
pub mod simulate;
pub mod standby;
pub mod task;
mod timestamp;
mod validate;

pub use config::{Config, GpuScheduling};
pub use error::{Error, Violation};
pub use guard::{Guard, GuardError, entrance};
pub use path::PathId;
pub use shell::{RunError, run};
pub use timestamp::{Timestamp, TimestampError};

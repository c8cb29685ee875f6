//! Jobs: a Metronome on the public scheduler SDK, made of Marathon's engine.
//!
//! A job is what a user wants to run again and again: now, at moments a cron expression names in some time zone, or
//! whenever other jobs have succeeded. This crate runs it on whatever agents a Mesos master offers, remembers how its
//! runs ended, and serves the REST API of Metronome 0.6 so that its clients need not notice.
//!
//! Reading order: [`model`] (what users say), [`read`] (every rule), [`cron`] (moments), [`core`] (the state machine,
//! pure and without a clock), [`api`] (HTTP). How offers become tasks, how the master is kept in touch with and how
//! decisions become durable is [`dcos_marathon::engine`] and [`dcos_marathon::shell`].
//!
//! [`run`] is the whole service. The core alone, as simulations drive it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use dcos_core::{seed::Seed, time::Time};
//! use dcos_marathon::engine::Machine;
//! use dcos_metronome::core::JobScheduler;
//! use dcos_metronome::{Config, read};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Time::from_secs(1);
//! let mut core = JobScheduler::recover(Arc::new(Config::default()), Seed::new(1), now, [])?;
//! let job = serde_json::json!({
//!     "id": "prod.backup",
//!     "schedules": [{"id": "nightly", "cron": "0 3 * * *", "timezone": "Europe/Rome"}],
//!     "run": {"cmd": "backup", "cpus": 0.5, "mem": 64, "disk": 0},
//! });
//! core.create(now, read::job(job, None)?)?;
//! let batch = core.take(now);
//! assert!(batch.rows.iter().any(|row| row.key == "metronome/job/prod.backup"));
//!
//! let night = core.next_deadline(now).ok_or("nothing is planned")?;
//! assert_eq!(night, Time::from_secs(2 * 3600), "three o'clock in Rome, 1970");
//! let batch = core.take(night);
//! assert!(batch.rows.iter().any(|row| row.key.starts_with("metronome/run/prod.backup/")));
//! # Ok(()) }
//! ```

pub mod api;
pub mod config;
pub mod core;
pub mod cron;
mod error;
pub mod migrate;
pub mod model;
pub mod ordered;
pub mod read;
mod schema;
mod service;
mod spec;

pub use config::Config;
pub use error::Error;
pub use service::run;

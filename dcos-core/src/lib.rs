//! Words everybody shares: time, seeds, units, ids, roles, resources, attributes, configuration.
//!
//! Everything here is pure: no socket, no clock, no file except what [`config`] is told to read.
//! Where a rule is Mesos's, the rule and its messages follow Apache Mesos 1.11, because clients
//! and operators see both.
//!
//! | module | owns |
//! |---|---|
//! | [`time`] | [`time::Time`], the only notion of "now" that cores know |
//! | [`seed`] | [`seed::Seed`], randomness and uuids that repeat |
//! | [`units`] | durations (`10secs`), sizes (`2GB`), percentages, as Mesos writes them |
//! | [`ids`], [`roles`] | what a legal id and a legal role are; the role hierarchy |
//! | [`resources`], [`attributes`] | what an agent has, the algebra of it, and what describes it |
//! | [`states`] | which task states are ends |
//! | [`labels`] | reading and comparing key-value labels |
//! | [`tree`] | an ordered map whose copies share what they have in common, for snapshots |
//! | [`config`] | flags, environment and file, with one meaning |
//! | [`error`] | how a chain of errors is printed |

pub mod attributes;
pub mod config;
pub mod error;
pub mod ids;
pub mod labels;
pub mod resources;
pub mod roles;
pub mod seed;
pub mod states;
pub mod time;
pub mod tree;
pub mod units;
pub mod verbosity;

/// The examples of the crate's page, kept compiling.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! A cluster in one thread: the cores of master, allocator, agents and Marathon, and scripted frameworks,
//! under one virtual clock, with a network that delays and breaks, disks that keep what was
//! written, and processes that are killed at any instant.
//!
//! ```text
//!            calls, events                 libprocess messages
//! Party ◄─────────────► Leader ◄──────────────────────────► Node ── containers
//!  script    stream     master core, allocator,   links      agent core, disk
//!  Marathon core, rows  store
//! ```
//!
//! A [`World`] is made from a seed, which decides everything: delays, faults, how long tasks run.
//! It runs in two parts. While there is trouble, faults happen; then they stop, and the cluster
//! has to come to rest: every task that was asked for has ended and its framework knows it, every deployment
//! has ended, nothing is held by anybody, and every node is offered as a whole again. What must *never* happen is checked at every step:
//!
//! 1. No resource is given twice: the containers on a node never have more than the node.
//! 2. No task is launched twice.
//! 3. A task that finished does not end in another way afterwards.
//!
//! Faults are those of TCP, disks and processes as they are: bytes on one connection arrive in
//! order and once, or the connection breaks and both sides learn of it sooner or later; a write
//! is there after a crash if it was said to be, and may be there if not.
//!
//! Whether the checks would notice is checked as well: a [`Sabotage`] breaks one part of a world.
//!
//! A failing seed is printed and can be repeated: `SIM_SEED=17 cargo test -p sim`.

mod disk;
mod framework;
mod leader;
mod network;
mod node;
mod party;
mod sabotage;
mod service;
mod world;

pub use sabotage::Sabotage;
pub use world::{Plan, Verdict, World};

//! A cluster in one thread: the cores of master, allocator and agents, and a scripted framework,
//! under one virtual clock, with a network that delays and breaks, disks that keep what was
//! written, and processes that are killed at any instant.
//!
//! ```text
//!            calls, events                 libprocess messages
//! Framework ◄─────────────► Leader ◄──────────────────────────► Node ── containers
//!   (script)    stream      master core, allocator,   links      agent core, disk
//!                           store
//! ```
//!
//! A [`World`] is made from a seed, which decides everything: delays, faults, how long tasks run.
//! It runs in two parts. While there is trouble, faults happen; then they stop, and the cluster
//! has to come to rest: every task that was asked for has ended, the framework knows it, and
//! nothing is held by anybody. What must *never* happen is checked at every step:
//!
//! 1. No resource is given twice: the containers on a node never have more than the node.
//! 2. No task is launched twice.
//! 3. A task that finished does not end in another way afterwards.
//!
//! Faults are those of TCP, disks and processes as they are: bytes on one connection arrive in
//! order and once, or the connection breaks and both sides learn of it sooner or later; a write
//! is there after a crash if it was said to be, and may be there if not.
//!
//! A failing seed is printed and can be repeated: `SIM_SEED=17 cargo test -p sim`.

mod disk;
mod framework;
mod leader;
mod network;
mod node;
mod world;

pub use world::{Plan, Verdict, World};

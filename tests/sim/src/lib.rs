//! A cluster in one thread: the cores of masters, allocators, agents and Marathon, and scripted
//! frameworks, under one virtual clock, with a network that delays and breaks, disks that keep
//! what was written, and processes that are killed at any instant.
//!
//! ```text
//!                 election, store (terms, fences)
//!                            │
//!            calls, events   ▼    libprocess messages
//!  Party ◄─────────────►  Host  ◄──────────────────────► Node ── containers
//!  script    stream      master core,     connections    agent core, disk
//!  Marathon core, rows   allocator
//! ```
//!
//! A [`World`] is made from a seed, which decides everything: delays, faults, how long tasks run.
//! It runs in two parts. While there is trouble, faults happen; then they stop, and the cluster
//! has to come to rest: every task that was asked for has ended and its framework knows it, every
//! deployment has ended, nothing is held by anybody, and every node is offered as a whole again.
//!
//! # Promises
//! At every step:
//! 1. What is offered and used on an agent never exceeds it, by the books of whoever leads
//!    (`watch/books.rs`); and the containers on a node never have more than the node.
//! 2. No task is launched twice.
//! 3. A task ends once: no second end of another kind is told by an agent, and no launch that
//!    happened is refused afterwards (`framework.rs`).
//! 4. No container is killed that nobody asked to kill: a framework that fails over, a master
//!    that does, an agent that was away lose nobody's tasks.
//! 5. Nothing is told before it is durable: not an admission, not a subscription, not an update,
//!    not a launch.
//! 6. An agent forgets an update only after its framework acknowledged it.
//! 7. Nothing a deposed leader writes is accepted after the next one has read.
//! 8. Frameworks hear only of states they know.
//! 9. No grant brings a role above a limit of its quota, reservations included; none is of an agent
//!    that is deactivated, gone, or on a machine that is down (`auditor.rs`, `world/standing.rs`).
//! 10. A reservation or volume on an agent's disk stays until somebody asks to undo it, and a
//!     volume's content with it; what is told to be done is on a disk (`watch/holdings.rs`).
//! 11. An operation ends once, and its end is told until its framework acknowledges it.
//! 12. An agent that is draining launches nothing, one that is written down as drained runs
//!     nothing, one that is gone does not come back.
//! 13. What an operator was promised, every later leader knows.
//! 14. A node that has heard everything has a name for each task that runs, and leads connections to it; none leads any to
//!     a task of whose end it was told, and none gives up who may come back to a new leader (`listening.rs`).
//! 15. No two agents were ever told of the same address in an overlay, and what one was told stays (`overlays.rs`).
//!
//! In the end:
//! 16. Every kill has ended its task, every update was told, every node is offered whole, every
//!     deployment has come to its end; leader and agents agree on what is kept where, and
//!     nodes with them on names and virtual addresses. What is kept for a Marathon is, before it deletes everything,
//!     what its instances account for (`kept.rs`).
//!
//! The README has the list of who does what, and who judges.
//!
//! # Faults
//! They are those of TCP, disks, clocks and processes as they are ([`Fault`]). Bytes on one
//! connection arrive in order and once, or it breaks: what was under way is lost or comes late, even
//! behind newer messages; partitions may close one direction only; one end may not notice. What
//! TCP cannot do, repeat a message, clients and agents do by sending again what was not answered:
//! so every call of a framework and every message of an agent may come twice. What a master says
//! to an agent it says once, so that this is not repeated here either. Sessions with the election
//! end while their process goes on believing that it leads. Writes are slow, fail, or fail though
//! they happened. Processes freeze; clocks are an hour off, drift, and jump.
//!
//! Whether the checks would notice is checked as well: a [`Sabotage`] breaks one part of a world.
//!
//! A failing seed is shrunk ([`shrink()`]) and can be repeated: `SIM_SEED=17 cargo test -p sim`.

mod auditor;
mod clock;
mod disk;
mod election;
mod fault;
mod framework;
mod guard;
mod host;
mod kept;
mod listening;
mod network;
mod node;
mod order;
mod overlays;
mod party;
mod plan;
mod queue;
mod registry;
mod sabotage;
mod service;
mod shrink;
mod watch;
mod world;

pub use fault::{Fault, Kind, Way};
pub use order::Order;
pub use registry::Ailment;
pub use sabotage::Sabotage;
pub use shrink::{Shrunk, run, shrink};
pub use world::{Failure, Plan, Verdict, World};

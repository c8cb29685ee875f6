//! What a large cluster costs a master: coming back after a failover, being read, being watched,
//! and memory.
//!
//! ```text
//! cargo bench -p dcos-sched --bench scale -- [--agents 40000] [--tasks 10] [--samples 3]
//!     [--only failover|core|M1|reads|M2|pollers|subscribers|memory] [--json]
//! ```
//!
//! | topic | what is measured | beside what |
//! |---|---|---|
//! | failover | all agents re-registered: the core alone, and over libprocess | decoding the same bytes; Mesos 1.5 |
//! | M1 | failover of 1,000 to 40,000 agents, with few tasks and with many | Mesos 1.5 |
//! | reads | `/state` and its kin, from request to last byte | the same bytes through a socket |
//! | M2 | `/state` and `GET_STATE` of 1,000 to 40,000 agents | the same bytes through a socket |
//! | pollers | a call's way through the core while up to 50 clients poll `/state` | the same without them |
//! | subscribers | events of the operator API to 1000 readers | 10 of them in each send |
//! | memory | resident memory for an agent and for a task | |
//!
//! Sizes are those of Mesos's `MasterFailover_BENCHMARK` and `MasterStateQuery_BENCHMARK`, with its
//! published figures beside them; those are from other machines.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(clippy::cast_precision_loss, reason = "figures need no more")]

/// What the master's program has.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod cluster;
mod failover;
mod memory;
mod pollers;
mod reads;
mod subscribers;

/// How large the cluster is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) agents: usize,
    /// On each agent.
    pub(crate) tasks: usize,
}

fn main() {
    if let Some(stage) = bench::argument::<String>("--memory-stage") {
        return memory::stage(&stage);
    }
    if let Some(stage) = bench::argument::<String>("--poll-stage") {
        return pollers::stage(&stage);
    }
    let size = Size {
        agents: bench::argument("--agents").unwrap_or(40_000),
        tasks: bench::argument("--tasks").unwrap_or(10),
    };
    let samples = bench::argument("--samples").unwrap_or(3);
    let only: Option<String> = bench::argument("--only");
    let wanted = |topic: &str| only.as_ref().is_none_or(|only| only == topic);
    if wanted("failover") {
        failover::run(size, samples);
    }
    if only.as_deref() == Some("core") {
        failover::run_core(size, samples);
    }
    if wanted("M1") {
        failover::run_sizes(samples);
    }
    if wanted("reads") {
        reads::run(size, samples);
    }
    if wanted("M2") {
        reads::run_sizes();
    }
    if wanted("pollers") {
        pollers::run();
    }
    if wanted("subscribers") {
        subscribers::run(samples);
    }
    if wanted("memory") {
        memory::run(size);
    }
}

/// A runtime as the programs have it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

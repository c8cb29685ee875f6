//! How much one Marathon bears: instances placed a second, and a service of many apps over HTTP.
//!
//! `cargo bench -p dcos-marathon --bench scale`; `-- --json` for machines, `-- --apps 1000` for a smaller service.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]
#![expect(
    clippy::print_stderr,
    reason = "progress is for whoever waits for the table"
)]

mod cluster;
mod matching;
mod service;

/// What the programs use.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    matching::measure();
    service::measure(bench::argument("--apps").unwrap_or(10_000));
}

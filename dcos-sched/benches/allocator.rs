//! How long the allocator takes, beside the least it could take and beside Mesos.
//!
//! `cargo bench -p dcos-sched --bench allocator -- [A1 A2 ... C1] [10000 ...] [--all] [--json]`
//!
//! | workload | what happens |
//! |---|---|
//! | A1 | agents partly in use, all in role `*`; every offer is declined for ever; ten cycles |
//! | A2 | one framework and one quota a role; two sizes of quota, agents for more than all of them |
//! | A3 | the same allocations with quotas and without |
//! | A4 | four Marathons, 500 Jenkinses, 50 Sparks place 19,500 tasks on 80 agents |
//! | A5 | A1 with most frameworks suppressed; and a change of one agent, a cycle with nothing to do |
//! | A6 | reserving and unreserving on one agent with many reservations |
//! | C1 | up to two million tasks placed on thousands of agents |
//!
//! Workloads and sizes are those of Mesos's own benchmarks, so that its published figures stand
//! beside ours: the 1.8 release blog (r: read off a graph), commits 86653356d (1.7.1), 73033130d
//! (1.9) and 3f753e77a (1.10). *limit* is a program that does nothing but decide: a heap of
//! shares, one pass over the agents; for C1, the fullest of eight agents that were drawn. Numbers choose sizes of A1 and A5 by their agents; `--all` runs
//! A1 at every size Mesos has.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "allocator/cluster.rs"]
mod cluster;
#[path = "allocator/decline.rs"]
mod decline;
#[path = "allocator/limit.rs"]
mod limit;
#[path = "allocator/mixed.rs"]
mod mixed;
#[path = "allocator/placement.rs"]
mod placement;
#[path = "allocator/quota.rs"]
mod quota;
#[path = "allocator/reserve.rs"]
mod reserve;

use std::env;

/// What the master's program has.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often everything is measured.
const SAMPLES: usize = 5;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let chosen = |name: &str| {
        has(name)
            || !arguments
                .iter()
                .any(|argument| argument.starts_with(['A', 'C']))
    };
    let mut report = Report {
        is_json: has("--json"),
        workload: "",
    };
    let sizes = decline::sizes(
        has("--all"),
        &arguments
            .iter()
            .filter_map(|argument| argument.parse().ok())
            .collect::<Vec<usize>>(),
    );
    for (name, run) in [
        ("A1", decline::run as fn(&mut Report, &[Size])),
        ("A2", quota::run),
        ("A3", quota::compare),
        ("A4", mixed::run),
        ("A5", decline::suppressed),
        ("A6", reserve::run),
        ("C1", placement::run),
    ] {
        if chosen(name) {
            report.begin(name);
            run(&mut report, &sizes);
        }
    }
}

/// Agents, frameworks, and what Mesos took for a cycle.
type Size = (usize, usize, &'static str);

/// Prints measurements, as a table a workload or as a line of JSON each.
pub(crate) struct Report {
    is_json: bool,
    workload: &'static str,
}

impl Report {
    fn begin(&mut self, workload: &'static str) {
        self.workload = workload;
        if !self.is_json {
            println!(
                "\n{workload:<26}{:<22}{:>11}{:>21}{:>10}{:>9}  Mesos",
                "what", "median", "spread", "limit", "ratio"
            );
        }
    }

    /// One measurement in `unit`s; `limit` is what only deciding takes, `mesos` what is published.
    pub(crate) fn row(
        &self,
        size: &str,
        what: &str,
        unit: &str,
        mut samples: Vec<f64>,
        limit: Option<f64>,
        mesos: &str,
    ) {
        samples.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (samples.first(), samples.last()) else {
            return;
        };
        let median = samples[samples.len() / 2];
        let ratio = limit.map(|limit| median / limit);
        let workload = self.workload;
        if self.is_json {
            let number = |value: Option<f64>| {
                value.map_or_else(|| "null".to_owned(), |value| format!("{value:.4}"))
            };
            println!(
                "{{\"workload\":\"{workload}\",\"size\":\"{size}\",\"what\":\"{what}\",\
                 \"unit\":\"{unit}\",\"median\":{median:.4},\"low\":{low:.4},\"high\":{high:.4},\
                 \"limit\":{},\"ratio\":{},\"mesos\":\"{mesos}\"}}",
                number(limit),
                number(ratio),
            );
        } else {
            let show = |value: Option<f64>, digits: usize| {
                value.map_or_else(String::new, |value| format!("{value:.digits$}"))
            };
            println!(
                "{size:<26}{what:<22}{:>11}{:>21}{:>10}{:>9}  {mesos}",
                format!("{median:.3} {unit}"),
                format!("{low:.3} - {high:.3}"),
                show(limit, 3),
                show(ratio, 1),
            );
        }
    }
}

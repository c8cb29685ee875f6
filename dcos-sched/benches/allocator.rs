//! How long one allocation round takes, beside the least it could take.
//!
//! `cargo bench -p dcos-sched --bench allocator`; `-- --json` for machines.
//!
//! | round | what is measured |
//! |---|---|
//! | limit | choosing the framework with the least share for each agent, and nothing else: a heap of shares |
//! | first | every agent is free and every framework wants offers |
//! | refused | every offer of the round before was refused; each agent goes to another framework |
//! | one | a task ended on one agent |
//! | idle | nothing changed |
//!
//! Sizes and agents are those of Mesos's `HierarchicalAllocator_BENCHMARK_Test`; there, 1.8 takes
//! 1.1 s at 10k × 1k and 3.8 s at 20k × 2k (its release blog).

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::env;
use std::hint::black_box;
use std::time::{Duration, Instant};

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_sched::allocator::{
    AgentSpec, Allocator, Capabilities, Config, Event, FrameworkSpec, Grant, HierarchicalDrf,
};

const SAMPLES: usize = 5;
const AGENTS: [usize; 3] = [1_000, 10_000, 20_000];
const FRAMEWORKS: [usize; 3] = [100, 1_000, 2_000];
const SHAPE: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";

fn main() {
    let json = env::args().any(|argument| argument == "--json");
    if !json {
        println!(
            "{:>8}{:>12} {:<9}{:>12}{:>22}{:>10}",
            "agents", "frameworks", "round", "median ms", "spread", "of limit"
        );
    }
    for agents in AGENTS {
        for frameworks in FRAMEWORKS {
            let mut samples: [Vec<f64>; 5] = Default::default();
            for _ in 0..SAMPLES {
                let times = measure(agents, frameworks);
                samples
                    .iter_mut()
                    .zip(times)
                    .for_each(|(all, time)| all.push(time));
            }
            let mut limit = 0.0;
            for (name, mut times) in ["limit", "first", "refused", "one", "idle"]
                .into_iter()
                .zip(samples)
            {
                times.sort_by(f64::total_cmp);
                let (low, median, high) = (times[0], times[SAMPLES / 2], times[SAMPLES - 1]);
                if name == "limit" {
                    limit = median;
                }
                let ratio = median / limit;
                if json {
                    println!(
                        "{{\"agents\":{agents},\"frameworks\":{frameworks},\"round\":\"{name}\",\
                         \"median_ms\":{median:.4},\"low_ms\":{low:.4},\"high_ms\":{high:.4},\
                         \"ratio\":{ratio:.3}}}"
                    );
                } else {
                    let spread = format!("{low:.3} - {high:.3}");
                    println!(
                        "{agents:>8}{frameworks:>12} {name:<9}{median:>12.3}{spread:>22}{ratio:>10.2}"
                    );
                }
            }
        }
    }
}

/// One sample of each kind of round, in milliseconds.
fn measure(agents: usize, frameworks: usize) -> [f64; 5] {
    let limit = timed(|| decide(agents, frameworks)).1;
    let mut bench = Bench::new(agents, frameworks);
    let (grants, first) = bench.round();
    assert_eq!(grants.len(), agents, "each agent goes to one framework");
    for grant in &grants {
        bench.give_back(grant, Some(Duration::from_hours(1)));
    }
    let (grants, refused) = bench.round();
    assert_eq!(grants.len(), agents, "each agent goes to another framework");
    bench.give_back(&grants[0], None);
    let (grants, one) = bench.round();
    assert_eq!(grants.len(), 1);
    let (grants, idle) = bench.round();
    assert!(grants.is_empty());
    [limit, first, refused, one, idle]
}

/// The least there is to do: for each agent take the framework with the least share.
#[expect(clippy::cast_precision_loss, reason = "shares need no more")]
fn decide(agents: usize, frameworks: usize) -> usize {
    let mut shares: BinaryHeap<Reverse<(u64, usize)>> =
        (0..frameworks).map(|at| Reverse((0, at))).collect();
    let part = 1.0 / agents as f64;
    let mut sum = 0;
    for _ in 0..agents {
        if let Some(Reverse((share, at))) = shares.pop() {
            sum += at;
            shares.push(Reverse(((f64::from_bits(share) + part).to_bits(), at)));
        }
    }
    black_box(sum)
}

struct Bench {
    allocator: HierarchicalDrf,
    now: Time,
}

impl Bench {
    fn new(agents: usize, frameworks: usize) -> Self {
        let mut allocator = HierarchicalDrf::new(Config::default(), &Seed::new(1));
        let now = Time::from_secs(1);
        let total = Resources::parse(SHAPE).expect("the shape is well formed");
        for at in 0..frameworks {
            allocator.handle(
                now,
                Event::AddFramework(FrameworkSpec {
                    id: FrameworkId::from(format!("framework-{at:05}")),
                    roles: BTreeSet::from(["*".to_owned()]),
                    capabilities: Capabilities {
                        multi_role: true,
                        ..Capabilities::default()
                    },
                    ..FrameworkSpec::default()
                }),
            );
        }
        for at in 0..agents {
            allocator.handle(
                now,
                Event::AddAgent(AgentSpec {
                    id: AgentId::from(format!("agent-{at:05}")),
                    hostname: format!("host-{at}"),
                    // Messages of different agents share no memory.
                    total: Resources::from_messages(total.to_messages()),
                    multi_role: true,
                    hierarchical_role: true,
                    ..AgentSpec::default()
                }),
            );
        }
        Self { allocator, now }
    }

    fn round(&mut self) -> (Vec<Grant>, f64) {
        self.now += Duration::from_secs(1);
        timed(|| self.allocator.poll(self.now).grants)
    }

    fn give_back(&mut self, grant: &Grant, refuse: Option<Duration>) {
        self.allocator.handle(
            self.now,
            Event::Recover {
                framework: grant.framework.clone(),
                agent: grant.agent.clone(),
                resources: grant.resources.clone(),
                refuse,
            },
        );
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed().as_secs_f64() * 1000.0)
}

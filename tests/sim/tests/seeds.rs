//! A thousand worlds, each from its seed.
//!
//! `SIM_SEED=17` runs one of them, with `SIM_TRACE=1` telling all that happens; `SIM_SEEDS=50`
//! runs fewer, or more, and `SIM_FROM=1000` others.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use sim::{Plan, Sabotage, World};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_comes_to_rest() {
    if let Some(seed) = number("SIM_SEED") {
        run(seed).unwrap();
        return;
    }
    let count = number("SIM_SEEDS").unwrap_or(1000);
    let first = number("SIM_FROM").unwrap_or(0);
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    if let Err(wrong) = run(seed) {
                        failures.lock().unwrap().push(wrong);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let shown: Vec<_> = failures.iter().take(5).map(String::as_str).collect();
    assert!(
        failures.is_empty(),
        "{} of {count} seeds fail:\n{}",
        failures.len(),
        shown.join("\n")
    );
}

/// Runs one world; an error, or a panic of a core, says how to repeat it.
fn run(seed: u64) -> Result<(), String> {
    let world = AssertUnwindSafe(|| World::new(seed, Plan::default()).run());
    let wrong = match catch_unwind(world) {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(wrong)) => wrong,
        Err(_) => "a core panicked".to_owned(),
    };
    Err(format!(
        "{wrong}\nrepeat with: SIM_SEED={seed} cargo test -p sim --test seeds\n"
    ))
}

#[test]
fn a_seed_decides_everything() {
    let run = || World::new(4711, Plan::default()).run();
    assert_eq!(run(), run());
}

#[test]
fn many_nodes_come_to_rest() {
    let plan = Plan {
        nodes: 100,
        frameworks: 3,
        tasks: 300,
        ..Plan::default()
    };
    let verdict = World::new(1, plan).run().unwrap();
    assert!(verdict.launches >= 900, "{verdict:?}");
    assert!(verdict.faults > 5, "{verdict:?}");
}

#[test]
fn broken_parts_are_noticed() {
    for sabotage in [Sabotage::Allocator, Sabotage::Disk, Sabotage::Memory] {
        let plan = Plan {
            sabotage: Some(sabotage),
            ..Plan::default()
        };
        let is_noticed = |seed| {
            // A broken part may well make a core panic, which is a way of noticing.
            let world = AssertUnwindSafe(|| World::new(seed, plan.clone()).run());
            !matches!(catch_unwind(world), Ok(Ok(_)))
        };
        assert!(
            (0..20).any(is_noticed),
            "nobody notices a broken {sabotage:?}"
        );
    }
}

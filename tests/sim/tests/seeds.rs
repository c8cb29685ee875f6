//! Some worlds, each from its seed; `make sim` and `make sim-nightly` run thousands, optimised.
//!
//! `SIM_SEED=17` runs one of them, with `SIM_TRACE=1` telling all that happens; `SIM_SEEDS=5000`
//! runs more, `SIM_FROM=1000` others. The nightly size is `make sim-nightly`.

use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sim::{Ailment, Fault, Plan, Sabotage, World, run, shrink};

/// How many seeds a plain test run takes: about a minute without optimisation.
const SEEDS: u64 = 50;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_comes_to_rest() {
    if let Some(seed) = number("SIM_SEED") {
        check(seed).unwrap();
        return;
    }
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
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
                    if let Err(wrong) = check(seed) {
                        failures.lock().unwrap().push(wrong);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let shown: Vec<_> = failures.iter().take(3).map(String::as_str).collect();
    assert!(
        failures.is_empty(),
        "{} of {count} seeds fail:\n{}",
        failures.len(),
        shown.join("\n")
    );
}

/// Runs one world; an error says how to repeat it.
fn check(seed: u64) -> Result<(), String> {
    let plan = Plan::of(seed);
    let Err(failure) = run(seed, &plan, false) else {
        return Ok(());
    };
    let shrunk = shrink(seed, &plan, &failure, 100).report(80);
    Err(format!(
        "{failure}\nrepeat with: SIM_SEED={seed} cargo test -p sim --test seeds\n{shrunk}"
    ))
}

/// What they found is mended, and told by tests of the cores.
#[test]
fn worlds_that_failed_once_hold() {
    for seed in [870, 1077, 2834, 5464, 6031, 7129, 8510, 8616, 8748] {
        check(seed).unwrap();
    }
}

/// Worlds with rules, priorities and drivers, which the mixture does not have.
#[test]
fn wide_worlds_come_to_rest() {
    for seed in 0..30 {
        let plan = Plan::wide(seed);
        if let Err(failure) = run(seed, &plan, false) {
            let shrunk = shrink(seed, &plan, &failure, 100).report(80);
            panic!("{failure}\n{shrunk}");
        }
    }
}

/// Worlds with a Metronome, and a Marathon whose apps have checks, both killed at their writes; `make sim` runs 2,000.
#[test]
fn services_come_to_rest() {
    for seed in 0..15 {
        let plan = Plan::services(seed);
        if let Err(failure) = run(seed, &plan, false) {
            let shrunk = shrink(seed, &plan, &failure, 100).report(80);
            panic!("{failure}\n{shrunk}");
        }
    }
}

#[test]
fn a_seed_decides_everything() {
    let run = || World::new(4711, Plan::default()).run().unwrap();
    assert_eq!(run(), run());
}

#[test]
fn many_nodes_come_to_rest() {
    let plan = Plan {
        tasks: 100,
        ..Plan::medium()
    };
    let verdict = World::new(1, plan).run().unwrap();
    assert!(verdict.launches >= 900, "{verdict:?}");
    assert!(verdict.faults > 20, "{verdict:?}");
    assert!(verdict.terms > 1, "{verdict:?}");
}

#[test]
fn broken_parts_are_noticed() {
    let others = Sabotage::ALL.into_iter();
    for sabotage in others.filter(|sabotage| !sabotage.is_of_services() && !sabotage.is_of_nodes())
    {
        let plan = Plan {
            sabotage: Some(sabotage),
            // Only an operator says that an agent is gone.
            orders: (sabotage == Sabotage::Gone).then_some(Duration::from_secs(6)),
            patience: Duration::from_mins(30),
            ..Plan::default()
        };
        assert!(
            (0..30).any(|seed| run(seed, &plan, false).is_err()),
            "nobody notices a broken {sabotage:?}"
        );
    }
}

/// Each sabotage of nodes, and what has to be said of it.
#[test]
fn broken_nodes_are_noticed() {
    for (sabotage, words) in [
        (Sabotage::Unheard, "no virtual address leads to"),
        (Sabotage::Unheard, "and nothing runs there"),
        (Sabotage::Clinging, "of whose end it was told"),
        (Sabotage::Nameless, "and has no name"),
        (Sabotage::Giddy, "may come back to the new leader"),
        (Sabotage::Outdated, "a node that begins anew"),
        (Sabotage::Unkept, "the same part of an overlay"),
        (Sabotage::Unkept, "other parts of the overlays"),
    ] {
        let failed = |seed| {
            let plan = Plan {
                sabotage: Some(sabotage),
                patience: Duration::from_mins(30),
                ..Plan::default()
            };
            run(seed, &plan, false).err()
        };
        let mut wrongs = (0..60).filter_map(failed).map(|it| it.wrong);
        assert!(
            wrongs.any(|wrong| wrong.contains(words)),
            "nobody notices a broken {sabotage:?}: {words}"
        );
    }
}

/// Each sabotage of services, what is there, and what has to be said of it.
#[test]
fn broken_services_are_noticed() {
    for (sabotage, marathon, words) in [
        (Sabotage::Strict, false, "though it may"),
        (Sabotage::Torn, false, "metronome: "),
        (Sabotage::Torn, true, ""),
        (Sabotage::Rash, false, " ran once"),
        (Sabotage::Mute, true, " told"),
        (Sabotage::Trigger, true, "is killed for no reason"),
        (Sabotage::Reckless, true, " serve, not "),
        (Sabotage::Patient, true, "goes on beyond its deadline"),
        (Sabotage::Hoarder, true, "None should be"),
        (Sabotage::Spender, true, "is given back, though it is there"),
        (Sabotage::Eraser, true, "is lost"),
    ] {
        let failed = |seed| {
            let plan = Plan {
                sabotage: Some(sabotage),
                marathon,
                metronome: !marathon,
                volumes: true,
                patience: Duration::from_mins(30),
                ..Plan::services(seed)
            };
            run(seed, &plan, false).err()
        };
        let mut wrongs = (0..30).filter_map(failed).map(|it| it.wrong);
        assert!(
            wrongs.any(|wrong| wrong.contains(words)),
            "nobody notices a broken {sabotage:?}"
        );
    }
}

#[test]
fn a_failing_world_shrinks_to_what_matters() {
    let plan = Plan {
        sabotage: Some(Sabotage::Fence),
        ..Plan::default()
    };
    let failing = (0..100).find_map(|seed| Some((seed, run(seed, &plan, false).err()?)));
    let (seed, failure) = failing.expect("deposed leaders write now and then");
    let shrunk = shrink(seed, &plan, &failure, 200);
    let faults = shrunk.plan.faults.as_deref().unwrap_or_default();
    assert!(faults.len() <= 4, "{}", shrunk.report(20));
    assert_eq!(shrunk.failure.kind(), failure.kind());
}

#[test]
fn a_slow_store_holds_nothing_up_for_ever() {
    let faults = (1..10).map(|at| {
        let fault = Fault::Store {
            ailment: Ailment::Slow,
            time: Duration::from_secs(8),
        };
        (Duration::from_secs(10 * at), fault)
    });
    let plan = Plan {
        faults: Some(faults.collect()),
        ..Plan::default()
    };
    for seed in 0..5 {
        run(seed, &plan, false).unwrap();
    }
}

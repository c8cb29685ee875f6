//! Runs many worlds: `cargo run -p sim --release -- --seeds 10000`.
//!
//! `--from N` begins elsewhere; `--size small|medium|full|wide|services|default` makes all worlds of one size
//! instead of the mixture; `--seconds N` ends after a while; `--tries N` bounds how long a failing
//! world is shrunk, `--lines N` how much of its trace is shown. The exit status says whether every seed held.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sim::{Plan, Verdict, run, shrink};

struct Options {
    from: u64,
    seeds: u64,
    seconds: u64,
    tries: usize,
    lines: usize,
    size: String,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut options = Self {
            from: 0,
            seeds: 1000,
            seconds: u64::MAX,
            tries: 300,
            lines: 60,
            size: "mixed".to_owned(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            let number = || value.parse().map_err(|_| format!("{value:?} is no number"));
            match &*name {
                "--from" => options.from = number()?,
                "--seeds" => options.seeds = number()?,
                "--seconds" => options.seconds = number()?,
                "--tries" => options.tries = usize::try_from(number()?).unwrap_or(usize::MAX),
                "--lines" => options.lines = usize::try_from(number()?).unwrap_or(usize::MAX),
                "--size" => options.size = value,
                _ => return Err(format!("there is no {name}")),
            }
        }
        Ok(options)
    }

    fn plan(&self, seed: u64) -> Plan {
        match &*self.size {
            "full" => Plan::full().varied(seed),
            "medium" => Plan::medium().varied(seed),
            "small" => Plan::small(seed),
            "wide" => Plan::wide(seed),
            "services" => Plan::services(seed),
            "default" => Plan::default(),
            _ => Plan::of(seed),
        }
    }
}

#[derive(Default)]
struct Sum {
    worlds: u64,
    steps: u64,
    faults: usize,
    launches: usize,
    terms: u64,
    time: Duration,
}

impl Sum {
    fn add(&mut self, verdict: &Verdict) {
        self.worlds += 1;
        self.steps += verdict.steps;
        self.faults += verdict.faults;
        self.launches += verdict.launches;
        self.terms += verdict.terms;
        self.time += verdict.time;
    }
}

#[expect(clippy::print_stdout, reason = "this is a program that reports")]
fn main() -> ExitCode {
    let options = match Options::read() {
        Ok(options) => options,
        Err(wrong) => {
            println!("{wrong}");
            return ExitCode::from(2);
        }
    };
    // A core that panics is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let begin = Instant::now();
    let next = AtomicU64::new(options.from);
    let failed = AtomicUsize::new(0);
    let sum = Mutex::new(Sum::default());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_late = begin.elapsed().as_secs() >= options.seconds;
                    if seed >= options.from + options.seeds || is_late {
                        break;
                    }
                    let plan = options.plan(seed);
                    match run(seed, &plan, false) {
                        Ok(verdict) => {
                            if let Ok(mut sum) = sum.lock() {
                                sum.add(&verdict);
                            }
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("seed {seed} fails: {}", failure.wrong);
                            println!(
                                "replay with: cargo run -p sim --profile sim -- --from {seed} --seeds 1 --size {} --tries 0 --lines 500",
                                options.size
                            );
                            let tries = if plan.nodes > 500 { 10 } else { options.tries };
                            println!(
                                "{}",
                                shrink(seed, &plan, &failure, tries).report(options.lines)
                            );
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    if let Ok(sum) = sum.into_inner() {
        println!(
            "{} worlds held, {failed} failed, in {:.1} s: {} steps, {} faults, {} leaders, {} launches, {:.1} days of virtual time",
            sum.worlds,
            begin.elapsed().as_secs_f64(),
            sum.steps,
            sum.faults,
            sum.terms,
            sum.launches,
            sum.time.as_secs_f64() / 86_400.0
        );
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

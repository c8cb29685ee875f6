//! From a failing seed to the smallest world that fails in the same way.
//!
//! Faults are data, so that they can be left out: first by halves, then by smaller parts, as in
//! Zeller's delta debugging; then the world is made smaller as long as it still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::world::{Failure, Plan, World};

/// For how long a failing world is made smaller.
const PATIENCE: Duration = Duration::from_mins(2);

/// A world that fails, made as small as the budget allowed.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// Its seed.
    pub seed: u64,
    /// Its plan, with the faults that are left.
    pub plan: Plan,
    /// How it fails, with a trace.
    pub failure: Failure,
    /// How many worlds were tried.
    pub tries: usize,
}

/// Runs a world; a panic of a core is a failure too.
///
/// # Errors
/// How it failed.
pub fn run(seed: u64, plan: &Plan, traced: bool) -> Result<crate::Verdict, Box<Failure>> {
    let plan = plan.clone();
    let world = AssertUnwindSafe(|| {
        let world = World::new(seed, plan);
        if traced { world.traced() } else { world }.run()
    });
    catch_unwind(world).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Box::new(Failure {
            wrong: format!("a core panicked: {}", text.unwrap_or_default()),
            time: Duration::ZERO,
            steps: 0,
            state: String::new(),
            trace: Vec::new(),
        }))
    })
}

/// Makes a failing world smaller, with at most so many tries.
pub fn shrink(seed: u64, plan: &Plan, failure: &Failure, most: usize) -> Shrunk {
    let faults = plan.faults(seed);
    let mut search = Search {
        seed,
        kind: failure.kind(),
        plan: Plan {
            faults: Some(faults),
            ..plan.clone()
        },
        left: most,
        until: Instant::now() + PATIENCE,
    };
    search.drop_faults();
    search.make_smaller();
    search.drop_faults();
    let failure = match run(seed, &search.plan, true) {
        Err(failure) => *failure,
        Ok(_) => failure.clone(),
    };
    Shrunk {
        seed,
        plan: search.plan,
        failure,
        tries: most - search.left,
    }
}

struct Search {
    seed: u64,
    kind: String,
    plan: Plan,
    left: usize,
    until: Instant,
}

impl Search {
    /// Takes a plan over if it fails in the same way.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if self.left == 0 || Instant::now() > self.until {
            return false;
        }
        self.left -= 1;
        let fails = run(self.seed, &plan, false).is_err_and(|it| it.kind() == self.kind);
        if fails {
            self.plan = plan;
        }
        fails
    }

    fn drop_faults(&mut self) {
        let mut parts = 2;
        loop {
            let faults = self.plan.faults.clone().unwrap_or_default();
            if faults.is_empty() || self.left == 0 || Instant::now() > self.until {
                return;
            }
            let size = faults.len().div_ceil(parts);
            let mut is_smaller = false;
            for at in (0..faults.len()).step_by(size) {
                if self.try_plan(self.with(without(&faults, at, size))) {
                    is_smaller = true;
                    break;
                }
            }
            if is_smaller {
                parts = parts.saturating_sub(1).max(2);
            } else if size == 1 {
                return;
            } else {
                parts = (parts * 2).min(faults.len());
            }
        }
    }

    fn with(&self, faults: Vec<(Duration, Fault)>) -> Plan {
        Plan {
            faults: Some(faults),
            ..self.plan.clone()
        }
    }

    fn make_smaller(&mut self) {
        let changes: [fn(&mut Plan); 10] = [
            |plan| plan.keep = 0.0,
            |plan| plan.marathon = false,
            |plan| plan.metronome = false,
            |plan| plan.flaps = false,
            |plan| plan.masters = 1,
            |plan| plan.nodes = plan.nodes.div_ceil(2),
            |plan| plan.frameworks = plan.frameworks.div_ceil(2),
            |plan| plan.tasks = plan.tasks.div_ceil(2),
            |plan| plan.nodes = plan.nodes.saturating_sub(1).max(1),
            |plan| plan.tasks = plan.tasks.saturating_sub(1).max(1),
        ];
        for change in changes {
            loop {
                let mut plan = self.plan.clone();
                change(&mut plan);
                let is_same = format!("{plan:?}") == format!("{:?}", self.plan);
                if is_same || !self.try_plan(plan) {
                    break;
                }
            }
        }
    }
}

fn without(faults: &[(Duration, Fault)], at: usize, size: usize) -> Vec<(Duration, Fault)> {
    let end = (at + size).min(faults.len());
    [&faults[..at], &faults[end..]].concat()
}

impl Shrunk {
    /// A short account: the world, its faults, the end of the trace.
    pub fn report(&self, lines: usize) -> String {
        let Plan {
            masters,
            nodes,
            frameworks,
            tasks,
            marathon,
            metronome,
            ..
        } = &self.plan;
        let mut text = format!(
            "seed {}, after {} tries: {masters} masters, {nodes} nodes, {frameworks} frameworks of {tasks} tasks, Marathon: {marathon}, Metronome: {metronome}\n",
            self.seed, self.tries
        );
        for (time, fault) in self.plan.faults.iter().flatten() {
            text += &format!("  at {:.3} s: {fault}\n", time.as_secs_f64());
        }
        let trace = &self.failure.trace;
        for line in trace.iter().skip(trace.len().saturating_sub(lines)) {
            text += line;
            text.push('\n');
        }
        text += &format!("{}\n", self.failure);
        text
    }
}

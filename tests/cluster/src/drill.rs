//! The drill: faults, and what must hold after each.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use crate::{
    cluster::{Cluster, MASTER, PATIENCE},
    departures,
    fencing::{Fencing, Late},
    orders::Orders,
    probe,
    servers::Kind,
    workload::{Wants, Workload},
};

/// What befalls a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; a supervisor starts it again.
    Killed,
    /// SIGSTOP; later it goes on as if nothing had happened.
    Frozen,
    /// The cable of its host is pulled, which also takes one of three servers of the ensemble.
    CutOff,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Killed, Self::Frozen, Self::CutOff];
}

/// How long the drill is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Failovers, the three faults in turn.
    pub failovers: usize,
    /// Agents.
    pub agents: u8,
    /// Whether agents are cut off and drained, and a framework is torn down, too.
    pub agents_too: bool,
    /// How long a leader may be silent.
    pub session_timeout: Duration,
}

/// Tells how it goes, one check at a time.
#[derive(Debug, Default)]
pub struct Report {
    /// Checks that held.
    pub passed: usize,
    /// Checks that did not.
    pub failed: usize,
    /// From each fault to the next offer.
    pub times: Vec<(Fault, Duration)>,
}

impl Report {
    pub(crate) fn check(&mut self, what: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(more) => {
                self.passed += 1;
                say(&format!("ok      {what}{more}"));
            }
            Err(why) => {
                self.failed += 1;
                say(&format!("FAILED  {what}: {why}"));
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "it shows its progress")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Runs the drill on one engine, with its files in `directory`.
///
/// # Errors
/// The cluster does not start; what goes wrong later is in the report.
pub async fn run(
    kind: Kind,
    plan: Plan,
    programs: &Path,
    directory: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    say(&format!(
        "-- three masters on {kind:?}, {} agents",
        plan.agents
    ));
    let begin = Instant::now();
    let cluster = Cluster::start(kind, plan.agents, plan.session_timeout, programs, directory);
    let mut cluster = cluster.await?;
    let tasks = directory.join("tasks");
    std::fs::create_dir_all(&tasks)?;
    let wants = Wants {
        name: "drill",
        long: 2,
        short: 4,
    };
    let workload = Workload::start(cluster.leading.clone(), wants, &tasks);
    let long = usize::from(plan.agents) * 2;
    let up = until(PATIENCE, || workload.long_running() == long).await;
    ensure!(
        up,
        "{} of {long} tasks run: {:?}",
        workload.long_running(),
        cluster
            .ended()
            .or_else(|| Some(format!("{:?}", workload.seen())))
    );
    say(&format!(
        "{long} tasks run after {:.1} s",
        begin.elapsed().as_secs_f64()
    ));
    let orders = Orders::give(&mut cluster).await.context("giving orders")?;
    let mut fencing = Fencing::new(&cluster.url)?;

    for number in 0..plan.failovers {
        let fault = Fault::ALL[number % 3];
        let what = format!(
            "{} of {}: the leader is {fault:?}",
            number + 1,
            plan.failovers
        );
        let outcome = fail_over(&mut cluster, &workload, &mut fencing, fault).await;
        let outcome = outcome.map(|(elected, offered)| {
            report.times.push((fault, offered));
            let (elected, offered) = (elected.as_secs_f64(), offered.as_secs_f64());
            format!("; the next was elected after {elected:.1} s, offers came after {offered:.1} s")
        });
        report.check(&what, outcome.map_err(|error| format!("{error:#}")));
        report.check(
            "    every task that was to run still runs",
            healthy(&workload, long).await,
        );
        let held = orders.hold(&mut cluster).await;
        report.check(
            "    quota, weight, maintenance, reservation and failover timeout are as they were set",
            told(held),
        );
    }
    let fenced = fencing.holds().await;
    report.check(
        "deposed leaders wrote nothing",
        match fenced {
            Ok(orders) => Ok(format!(" of the {orders} things they were told to")),
            Err(error) => Err(format!("{error:#}")),
        },
    );
    if plan.agents_too {
        for (name, pause) in [("for 2 s", 2), ("until it counts as unreachable", 12)] {
            let what = format!("an agent is cut off {name}");
            let outcome = cut_agent(&cluster, Duration::from_secs(pause)).await;
            report.check(&what, outcome.map_err(|error| format!("{error:#}")));
            report.check(
                "    every task that was to run still runs",
                healthy(&workload, long).await,
            );
        }
        let ended = departures::teardown(&mut cluster, "agent1", &directory.join("doomed")).await;
        report.check(
            "a framework is torn down while an agent is away and the leader is killed: its tasks end",
            told(ended),
        );
        report.check(
            "    every task that was to run still runs",
            healthy(&workload, long).await,
        );
        let last = format!("agent{}", plan.agents);
        let drained = departures::drain(&mut cluster, &workload, &last).await;
        report.check("an agent is drained across two failovers", told(drained));
        report.check(
            "    every task that was to run still runs, and new ones on the agent",
            healthy(&workload, long).await,
        );
    }
    let settled = workload.settle(PATIENCE).await;
    let short = workload
        .seen()
        .tasks
        .values()
        .filter(|task| !task.long)
        .count();
    report.check(
        "the end of every short task is known",
        if settled {
            Ok(format!(" ({short})"))
        } else {
            Err("some are not".to_owned())
        },
    );
    let wrong = workload.judge();
    report.check(
        "no update was lost, no task died, none was begun twice",
        if wrong.is_empty() {
            Ok(String::new())
        } else {
            Err(wrong.join("\n        "))
        },
    );
    let claims = cluster.claims();
    report.check(
        "nobody led while another one did",
        match probe::overlap(&claims) {
            None => Ok(format!(" ({} answers)", claims.len())),
            Some((earlier, later)) => Err(format!("{earlier:?} after {later:?}")),
        },
    );
    report.check(
        "every program still runs",
        cluster.ended().map_or(Ok(String::new()), Err),
    );
    workload.stop().await;
    Ok(())
}

/// What came of something as [`Report::check`] wants it.
pub(crate) fn told(outcome: anyhow::Result<()>) -> Result<String, String> {
    outcome.map_or_else(|error| Err(format!("{error:#}")), |()| Ok(String::new()))
}

/// Lets the leader fail, and returns how long election and the next offer took.
async fn fail_over(
    cluster: &mut Cluster,
    workload: &Workload,
    fencing: &mut Fencing,
    fault: Fault,
) -> anyhow::Result<(Duration, Duration)> {
    let (number, id) = cluster.leader(None).await?;
    let host = format!("master{}", number + 1);
    let subscribed = workload.seen().subscribed.0;
    let begin = Instant::now();
    match fault {
        Fault::Killed => cluster.kill_master(number),
        Fault::Frozen => cluster.master(number).process.freeze().await?,
        Fault::CutOff => cluster.network.cut(&host)?,
    }
    // It is told to write by somebody who does not know either.
    let place = cluster.master(number).place.clone();
    let _late: Option<Late> = match fault {
        Fault::Killed => None,
        Fault::Frozen => Some(fencing.tell_frozen(&place, MASTER).await?),
        Fault::CutOff => {
            let directory = cluster.directory.clone();
            Some(fencing.tell_cut_off(&place, MASTER, &directory)?)
        }
    };
    let next = cluster.leader(Some(&id)).await;
    let elected = begin.elapsed();
    let returned = workload.sees(PATIENCE, |seen| {
        seen.subscribed.0 > subscribed && seen.offered > seen.subscribed.1
    });
    let returned = returned.await;
    let offered = begin.elapsed();
    match fault {
        Fault::Killed => cluster.restart_master(number)?,
        Fault::Frozen => cluster.master(number).process.signal(Signal::CONT),
        Fault::CutOff => cluster.network.mend(&host)?,
    }
    next.context("electing the next leader")?;
    ensure!(returned, "the framework got no offer from the next leader");
    let back = cluster.stands_back(number, &id).await;
    back.context("the old leader")?;
    fencing.holds().await?;
    Ok((elected, offered))
}

async fn cut_agent(cluster: &Cluster, pause: Duration) -> anyhow::Result<String> {
    cluster.network.cut("agent1")?;
    tokio::time::sleep(pause).await;
    cluster.network.mend("agent1")?;
    Ok(String::new())
}

/// Whether all long tasks are known to run, at last.
async fn healthy(workload: &Workload, long: usize) -> Result<String, String> {
    let begin = Instant::now();
    if until(PATIENCE, || workload.long_running() == long).await && workload.seen().wrong.is_empty()
    {
        return Ok(format!(" ({:.1} s)", begin.elapsed().as_secs_f64()));
    }
    let seen = workload.seen();
    let states: Vec<_> = seen.tasks.iter().filter(|(_, task)| task.long).collect();
    Err(format!("{:?} {states:?}", seen.wrong))
}

/// Waits until `what` holds; `false` if it does not for `patience`.
pub async fn until(patience: Duration, what: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !what() {
        if begin.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

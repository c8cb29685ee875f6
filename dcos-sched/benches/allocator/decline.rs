//! A1 and A5: everybody declines, or most do not even want to see offers.

use std::collections::BTreeMap;

use dcos_core::resources::Resources;
use dcos_sched::allocator::{Event, Grant};

use super::cluster::{Cluster, FOR_EVER, agent, framework, framework_id, resources, timed};
use super::{Report, SAMPLES, Size, limit};

const TOTAL: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
const CYCLES: usize = 10;

/// What runs on each agent already: 16 ranges of ports among it.
fn in_use() -> Resources {
    let ports: Vec<String> = (0..16)
        .map(|at| format!("{0}-{0}", 31_000 + 60 * at))
        .collect();
    resources(&format!(
        "cpus:16;mem:2014;disk:1024;ports:[{}]",
        ports.join(",")
    ))
}

/// Sizes, and what Mesos took for a cycle.
const SIZES: [Size; 5] = [
    (1_000, 100, "~50 ms (1.8, r)"),
    (5_000, 500, "~400 ms (1.8, r)"),
    (10_000, 1_000, "1,060 ms (1.7.1)"),
    (20_000, 2_000, "3,800 ms (1.8, r)"),
    (50_000, 6_000, ""),
];

struct Setup {
    cluster: Cluster,
    /// Milliseconds for the first and the last tenth of the frameworks, and of the agents.
    frameworks: [f64; 2],
    agents: [f64; 2],
}

/// A cluster in which every framework but a part in a hundred is suppressed.
fn set_up(agents: usize, frameworks: usize, suppressed_percent: usize) -> Setup {
    let mut cluster = Cluster::new();
    let (total, used) = (resources(TOTAL), in_use());
    let tenths = |count: usize, add: &mut dyn FnMut(usize)| {
        let tenth = (count / 10).max(1);
        let mut times = [0.0; 2];
        for at in (0..count).step_by(tenth) {
            let ((), time) = timed(|| (at..count.min(at + tenth)).for_each(&mut *add));
            if at == 0 {
                times[0] = time;
            }
            times[1] = time;
        }
        times
    };
    let frameworks_took = tenths(frameworks, &mut |at| {
        let mut spec = framework(framework_id(at), "*");
        if at * 100 < frameworks * suppressed_percent {
            spec.suppressed.insert("*".to_owned());
        }
        cluster.tell(Event::AddFramework(spec));
    });
    let mut specs: Vec<_> = (0..agents)
        .map(|at| {
            let mut spec = agent(at, &total);
            let held = Resources::from_messages(used.to_messages()).allocated_to("*");
            spec.used = BTreeMap::from([(framework_id(at % frameworks), held)]);
            Some(spec)
        })
        .collect();
    let agents_took = tenths(agents, &mut |at| {
        if let Some(spec) = specs[at].take() {
            cluster.tell(Event::AddAgent(spec));
        }
    });
    Setup {
        cluster,
        frameworks: frameworks_took,
        agents: agents_took,
    }
}

fn decline_all(cluster: &mut Cluster, grants: &[Grant]) -> f64 {
    timed(|| {
        for grant in grants {
            cluster.give_back(grant, Some(FOR_EVER));
        }
    })
    .1
}

/// The sizes to be run: the usual ones or all, those with so many `agents` if there are any.
pub(crate) fn sizes(is_all: bool, agents: &[usize]) -> Vec<Size> {
    let mut sizes: Vec<Size> = SIZES.to_vec();
    if is_all {
        for agents in [1_000, 5_000, 10_000, 20_000, 30_000, 50_000] {
            for frameworks in [1, 50, 100, 200, 500, 1_000, 3_000, 6_000] {
                if !SIZES
                    .iter()
                    .any(|(a, f, _)| (*a, *f) == (agents, frameworks))
                {
                    sizes.push((agents, frameworks, ""));
                }
            }
        }
    }
    sizes.retain(|(size, ..)| agents.is_empty() || agents.contains(size));
    sizes
}

pub(crate) fn run(report: &mut Report, sizes: &[Size]) {
    for (agents, frameworks, mesos) in sizes {
        decline(report, *agents, *frameworks, mesos);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a time need not be that exact")]
fn decline(report: &Report, agents: usize, frameworks: usize, mesos: &str) {
    let size = format!("{agents} x {frameworks}");
    let limit = limit::decide(agents, frameworks);
    let mut times: [Vec<f64>; 7] = Default::default();
    for _ in 0..SAMPLES {
        let mut setup = set_up(agents, frameworks, 0);
        let cluster = &mut setup.cluster;
        let mut cycles = Vec::new();
        let mut declines = Vec::new();
        for _ in 0..CYCLES {
            let (grants, time) = cluster.cycle();
            if grants.is_empty() {
                break;
            }
            assert_eq!(grants.len(), agents, "each agent goes to one framework");
            cycles.push(time);
            declines.push(decline_all(cluster, &grants) * 1000.0 / agents as f64);
        }
        times[0].push(cycles[0]);
        cycles.remove(0);
        cycles.sort_by(f64::total_cmp);
        times[1].extend(cycles.get(cycles.len() / 2));
        times[2].extend(declines.last());
        let each = |took: f64, count: usize| took * 1000.0 / (count as f64 / 10.0).max(1.0);
        times[3].push(each(setup.frameworks[0], frameworks));
        times[4].push(each(setup.frameworks[1], frameworks));
        times[5].push(each(setup.agents[0], agents));
        times[6].push(each(setup.agents[1], agents));
    }
    let [
        first,
        later,
        declines,
        framework_first,
        framework_last,
        agent_first,
        agent_last,
    ] = times;
    report.row(&size, "first cycle", "ms", first, Some(limit), mesos);
    report.row(&size, "later cycle", "ms", later, Some(limit), mesos);
    report.row(&size, "a decline", "us", declines, None, "");
    report.row(&size, "a framework, first", "us", framework_first, None, "");
    report.row(&size, "a framework, last", "us", framework_last, None, "");
    report.row(&size, "an agent, first", "us", agent_first, None, "");
    let mesos = if agents == 10_000 && frameworks == 1_000 {
        "161 us (1.7.1)"
    } else {
        ""
    };
    report.row(&size, "an agent, last", "us", agent_last, None, mesos);
}

/// A5, and what small changes cost.
pub(crate) fn suppressed(report: &mut Report, sizes: &[Size]) {
    for (agents, frameworks, _) in sizes.iter().copied() {
        let size = format!("{agents} x {frameworks}");
        for percent in [0, 90, 99] {
            let mut times: [Vec<f64>; 3] = Default::default();
            for _ in 0..SAMPLES {
                let mut cluster = set_up(agents, frameworks, percent).cluster;
                let (grants, first) = cluster.cycle();
                // What the hoarding limit leaves to the few that want offers.
                times[0].push(
                    first * 1000.0
                        / f64::from(u32::try_from(grants.len().max(1)).unwrap_or(u32::MAX)),
                );
                cluster.give_back(&grants[0], None);
                times[1].push(cluster.cycle().1 * 1000.0);
                times[2].push(cluster.cycle().1 * 1000.0);
            }
            let [first, one, idle] = times;
            let what = |what: &str| format!("{what}, {percent} %");
            report.row(&size, &what("a grant"), "us", first, None, "");
            report.row(&size, &what("one agent"), "us", one, None, "");
            report.row(&size, &what("nothing"), "us", idle, None, "");
        }
    }
}

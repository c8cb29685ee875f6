//! A4: frameworks of three kinds place their tasks.
//!
//! In Mesos's benchmark nobody refuses anything, and who has launched everything goes on asking. By
//! shares those stay ahead of the others, and not all tasks find a place. So these frameworks do
//! what frameworks do: they refuse what is left of an offer for the usual time, and suppress offers
//! when they are done.

use dcos_core::resources::Resources;
use dcos_proto::mesos::FrameworkId;
use dcos_sched::allocator::{Config, Event};

use super::cluster::{Cluster, agent, framework, resources, timed};
use super::{Report, SAMPLES, Size};

/// A kind of framework: name, how many, tasks each, the size of one, how many of an offer.
type Kind = (&'static str, usize, usize, &'static str, usize);

const KINDS: [Kind; 3] = [
    ("marathon", 4, 4000, "cpus:0.07;mem:400", 100),
    ("jenkins", 500, 5, "cpus:0.1;mem:4000", 1),
    ("spark", 50, 20, "cpus:1;mem:1000", 5),
];

struct Work {
    task: Resources,
    at_once: usize,
    left: usize,
}

pub(crate) fn run(report: &mut Report, _: &[Size]) {
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..SAMPLES {
        let ((cycles, cycle_ms), all_ms) = timed(place_all);
        times[0].push(all_ms);
        times[1].push(cycle_ms);
        times[2].push(cycles);
    }
    let [all, in_cycles, cycles] = times;
    let size = "80 agents, 554 frameworks";
    report.row(size, "all placed", "ms", all, None, "allowed: 30,000 ms");
    report.row(size, "of it in cycles", "ms", in_cycles, None, "");
    report.row(size, "cycles", "", cycles, None, "");
}

/// Cycles, and milliseconds in them, until every task has its place.
fn place_all() -> (f64, f64) {
    let mut cluster = Cluster::new();
    let total = resources("cpus:64;mem:488000");
    let mut works = std::collections::HashMap::new();
    for (name, count, tasks, size, at_once) in KINDS {
        for at in 0..count {
            let id = FrameworkId::from(format!("{name}-{at}"));
            // Jenkinses share a role, the others have their own.
            let role = if name == "jenkins" {
                name.to_owned()
            } else {
                id.value.clone()
            };
            cluster.tell(Event::AddFramework(framework(id.clone(), &role)));
            let work = Work {
                task: resources(size).allocated_to(&role),
                at_once,
                left: tasks,
            };
            works.insert(id, work);
        }
    }
    for at in 0..80 {
        cluster.tell(Event::AddAgent(agent(at, &total)));
    }
    let mut left: usize = KINDS
        .iter()
        .map(|(_, count, tasks, ..)| count * tasks)
        .sum();
    let (mut cycles, mut in_cycles) = (0.0, 0.0);
    while left > 0 {
        let (grants, time) = cluster.cycle();
        assert!(cycles < 1000.0, "{left} tasks wait for ever");
        cycles += 1.0;
        in_cycles += time;
        for grant in grants {
            let work = works.get_mut(&grant.framework).expect("it was added");
            let mut rest = grant.resources.clone();
            let mut launched = 0;
            while work.left > 0 && launched < work.at_once && rest.contains(&work.task) {
                rest -= &work.task;
                work.left -= 1;
                launched += 1;
            }
            left -= launched;
            cluster.answer(&grant);
            cluster.tell(Event::Recover {
                framework: grant.framework.clone(),
                agent: grant.agent,
                resources: rest,
                refuse: Some(Config::refuse(None)),
            });
            if work.left == 0 {
                cluster.tell(Event::Suppress {
                    framework: grant.framework,
                    roles: Vec::new(),
                });
            }
        }
    }
    (cycles, in_cycles)
}

//! C1: as many tasks as others placed when they showed what their clusters hold.
//!
//! Each framework takes an offer and puts tasks into it, one after the other, until no more fit; what is left is refused
//! for ever. Counted is all of it: the allocator's rounds, the tasks, and the answers.

use dcos_core::resources::Resources;
use dcos_proto::mesos::FrameworkId;
use dcos_sched::allocator::Event;

use super::cluster::{Cluster, FOR_EVER, agent, framework, framework_id, resources, timed};
use super::limit;
use super::{Report, SAMPLES, Size};

/// A show: agents, what one has, frameworks, tasks of each, and what was published, in thousands a second.
struct Show {
    name: &'static str,
    agents: usize,
    total: &'static str,
    frameworks: usize,
    tasks: usize,
    published: &'static str,
}

const SHOWS: [Show; 3] = [
    Show {
        name: "6,100 agents, 2M tasks",
        agents: 6_100,
        total: "cpus:33;mem:11000",
        frameworks: 1,
        tasks: 2_000_000,
        published: "Nomad C2M: 1.5",
    },
    Show {
        name: "5,000, 1M in 1,000 jobs",
        agents: 5_000,
        total: "cpus:21;mem:7000",
        frameworks: 1_000,
        tasks: 1_000,
        published: "Nomad C1M: 3.75",
    },
    Show {
        name: "5,000 agents, 55,000",
        agents: 5_000,
        total: "cpus:4;mem:32768",
        frameworks: 1,
        tasks: 55_000,
        published: "kube-scheduler: 0.81",
    },
];

const TASK: &str = "cpus:0.1;mem:32";

pub(crate) fn run(report: &mut Report, _: &[Size]) {
    for show in SHOWS {
        let all = show.frameworks * show.tasks;
        // Thousands a second.
        let rate = |ms: f64| count(all) / ms;
        let times = (0..SAMPLES).map(|_| timed(|| place(&show)).1);
        let limit = rate(limit::draw(show.agents, all));
        let rates = times.map(rate).collect();
        report.row(
            show.name,
            "placed",
            "k/s",
            rates,
            Some(limit),
            show.published,
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
fn count(tasks: usize) -> f64 {
    tasks as f64
}

struct Job {
    id: FrameworkId,
    task: Resources,
    left: usize,
}

fn place(show: &Show) {
    let mut cluster = Cluster::new();
    let total = resources(show.total);
    let mut jobs = std::collections::HashMap::new();
    for at in 0..show.frameworks {
        let id = framework_id(at);
        let role = format!("role-{at}");
        cluster.tell(Event::AddFramework(framework(id.clone(), &role)));
        let task = resources(TASK).allocated_to(&role);
        let left = show.tasks;
        jobs.insert(id.clone(), Job { id, task, left });
    }
    for at in 0..show.agents {
        cluster.tell(Event::AddAgent(agent(at, &total)));
    }
    let mut left = show.frameworks * show.tasks;
    while left > 0 {
        let (grants, _) = cluster.cycle();
        assert!(!grants.is_empty(), "{left} tasks wait for ever");
        for grant in grants {
            let job = jobs.get_mut(&grant.framework).expect("it was added");
            let (mut rest, before) = (grant.resources.clone(), job.left);
            while job.left > 0 && rest.contains(&job.task) {
                rest -= &job.task;
                job.left -= 1;
            }
            left -= before - job.left;
            cluster.answer(&grant);
            cluster.tell(Event::Recover {
                framework: grant.framework,
                agent: grant.agent,
                resources: rest,
                refuse: Some(FOR_EVER),
            });
            if job.left == 0 {
                cluster.tell(Event::Suppress {
                    framework: job.id.clone(),
                    roles: Vec::new(),
                });
            }
        }
    }
}

//! A2 and A3: quotas.

use std::collections::BTreeMap;

use dcos_core::resources::Quantities;
use dcos_sched::allocator::{Event, Quota};

use super::cluster::{Cluster, agent, framework, framework_id, resources};
use super::{Report, SAMPLES, Size, limit};

const TOTAL: &str = "cpus:2;mem:2048;disk:2048";

/// A guarantee that is a limit as well.
fn quota(text: &str) -> Quota {
    let guarantees: Quantities = text.parse().expect("the bench's quotas are well formed");
    Quota {
        limits: guarantees
            .iter()
            .map(|(name, amount)| (name.to_owned(), amount))
            .collect(),
        guarantees,
    }
}

fn add_agents(cluster: &mut Cluster, count: usize) {
    let total = resources(TOTAL);
    for at in 0..count {
        cluster.tell(Event::AddAgent(agent(at, &total)));
    }
}

pub(crate) fn run(report: &mut Report, _: &[Size]) {
    for (small, large, mesos) in [
        (25, 5, ["", ""]),
        (250, 50, ["", ""]),
        (2500, 500, ["15,350 ms (1.9)", "13,750 ms (1.9)"]),
    ] {
        let (roles, agents) = (small + large, small / 5 + large * 5);
        let size = format!("{agents} / {roles} / {roles}");
        let limit = limit::decide(small + large * 2, roles);
        let mut times: [Vec<f64>; 3] = Default::default();
        for _ in 0..SAMPLES {
            let mut cluster = Cluster::new();
            let mut quotas = BTreeMap::new();
            for at in 0..roles {
                let role = format!("role-{at}");
                cluster.tell(Event::AddFramework(framework(framework_id(at), &role)));
                quotas.insert(
                    role,
                    quota(if at < small {
                        "cpus:1;mem:1024;disk:1024"
                    } else {
                        "cpus:4;mem:4096;disk:4096"
                    }),
                );
            }
            add_agents(&mut cluster, agents);
            cluster.tell(Event::Quotas(quotas));
            let (grants, first) = cluster.cycle();
            let cpus: f64 = grants
                .iter()
                .filter_map(|grant| grant.resources.cpus())
                .sum();
            #[expect(clippy::cast_precision_loss, reason = "there are not that many roles")]
            let promised = (small + large * 4) as f64;
            assert!((cpus - promised).abs() < 1e-6, "every quota is met");
            times[0].push(first);
            times[1].push(cluster.cycle().1);
            // Everything is looked at again, as Mesos does in each cycle.
            cluster.tell(Event::Pause);
            cluster.tell(Event::Resume);
            let (grants, again) = cluster.cycle();
            assert!(grants.is_empty(), "nobody may have more");
            times[2].push(again);
        }
        let [first, nothing, again] = times;
        report.row(&size, "first cycle", "ms", first, Some(limit), mesos[0]);
        report.row(&size, "nothing to do", "ms", nothing, None, mesos[1]);
        report.row(&size, "all agents, nothing", "ms", again, None, mesos[1]);
    }
}

/// A3: whole agents either way.
pub(crate) fn compare(report: &mut Report, _: &[Size]) {
    for roles in [10, 100, 1000] {
        let size = format!("{} / {roles} / {}", roles * 2, roles * 2);
        let mut times: [Vec<f64>; 2] = Default::default();
        for _ in 0..SAMPLES {
            for (times, has_quota) in times.iter_mut().zip([false, true]) {
                let mut cluster = Cluster::new();
                for at in 0..roles * 2 {
                    let role = format!("role-{}", at / 2);
                    cluster.tell(Event::AddFramework(framework(framework_id(at), &role)));
                }
                add_agents(&mut cluster, roles * 2);
                if has_quota {
                    let quotas = (0..roles)
                        .map(|at| (format!("role-{at}"), quota("cpus:4;mem:4096;disk:4096")));
                    cluster.tell(Event::Quotas(quotas.collect()));
                }
                let (grants, time) = cluster.cycle();
                assert_eq!(grants.len(), roles * 2);
                times.push(time);
            }
        }
        let [without, with] = times;
        let mut sorted = without.clone();
        sorted.sort_by(f64::total_cmp);
        let base = sorted[SAMPLES / 2];
        report.row(&size, "without quota", "ms", without, None, "");
        report.row(&size, "with quota", "ms", with, Some(base), "");
    }
}

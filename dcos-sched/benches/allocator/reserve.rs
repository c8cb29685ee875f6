//! A6: operations on an agent with many reservations.

use std::collections::BTreeMap;

use dcos_core::resources::{Resources, scalar_resource};
use dcos_proto::mesos::resource::{ReservationInfo, reservation_info};
use dcos_proto::mesos::{Label, Labels};
use dcos_sched::allocator::Event;

use super::cluster::{Cluster, agent, framework, framework_id, timed};
use super::{Report, SAMPLES, Size};

/// How often something is reserved and unreserved.
const OPERATIONS: usize = 20;

const ROLE: &str = "role";

/// One disk, reserved with a label of its own: no two can be added up.
fn reservation(at: usize) -> Resources {
    let mut resource = scalar_resource("disk", 1.0);
    let mut reservation = ReservationInfo {
        role: Some(ROLE.to_owned()),
        principal: Some("principal".to_owned()),
        labels: Some(Labels {
            labels: vec![Label {
                key: "key".to_owned(),
                value: Some(at.to_string()),
            }],
        }),
        ..ReservationInfo::default()
    };
    reservation.set_type(reservation_info::Type::Dynamic);
    resource.reservations.push(reservation);
    Resources::from_messages([resource])
}

pub(crate) fn run(report: &mut Report, _: &[Size]) {
    for (reservations, frameworks, mesos) in [
        (200, 50, ""),
        (400, 100, ""),
        (800, 200, "2,110 ms (1.10)"),
        (1600, 400, ""),
        (3200, 800, ""),
        (6400, 1600, "90,000 ms (1.10)"),
    ] {
        let mut times: [Vec<f64>; 2] = Default::default();
        for _ in 0..SAMPLES {
            let (operations, cycle) = operate(reservations, frameworks);
            times[0].push(operations);
            times[1].push(cycle);
        }
        let [operations, cycles] = times;
        let size = format!("{reservations} x {frameworks}");
        report.row(&size, "20 operations", "ms", operations, None, mesos);
        report.row(&size, "their cycles", "ms", cycles, None, "");
    }
}

/// Milliseconds in operations, and in the cycles between them.
fn operate(reservations: usize, frameworks: usize) -> (f64, f64) {
    let mut cluster = Cluster::new();
    let mut total = Resources::from_messages([scalar_resource("disk", 1000.0)]);
    let mut spec = agent(0, &Resources::new());
    for at in 0..reservations {
        let reserved = reservation(at);
        let holder = spec.used.entry(framework_id(at % frameworks)).or_default();
        *holder += reserved.allocated_to(ROLE);
        total += &reserved;
    }
    spec.total = total;
    for at in 0..frameworks {
        let mut spec = framework(framework_id(at), ROLE);
        spec.minimums = BTreeMap::from([(ROLE.to_owned(), Vec::new())]);
        cluster.tell(Event::AddFramework(spec));
    }
    cluster.tell(Event::AddAgent(spec));
    let (mut operations, mut cycles) = (0.0, 0.0);
    for at in 0..OPERATIONS {
        let (grants, time) = cluster.cycle();
        cycles += time;
        let grant = grants.first().expect("the open disk is offered").clone();
        cluster.answer(&grant);
        let plain = Resources::from_messages([scalar_resource("disk", 1.0)]).allocated_to(ROLE);
        let reserved = reservation(reservations + at).allocated_to(ROLE);
        for (consumed, converted) in [(&plain, &reserved), (&reserved, &plain)] {
            let event = Event::Convert {
                framework: grant.framework.clone(),
                agent: grant.agent.clone(),
                consumed: consumed.clone(),
                converted: converted.clone(),
            };
            operations += timed(|| cluster.tell(event)).1;
        }
        operations += timed(|| cluster.give_back(&grant, None)).1;
    }
    (operations, cycles)
}

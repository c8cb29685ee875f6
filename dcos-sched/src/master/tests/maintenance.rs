//! Planned maintenance: schedules, machines, inverse offers.

use std::time::Duration;

use dcos_proto::allocator::inverse_offer_status::Status as Answer;
use dcos_proto::internal as messages;
use dcos_proto::maintenance::{Schedule, Window};
use dcos_proto::master as operator;
use dcos_proto::master::call::Type;
use dcos_proto::mesos::{DurationInfo, MachineId, OfferId, Task, TimeInfo, Unavailability};
use dcos_proto::scheduler::{Call, call};

use super::super::{Reply, Snapshot};
use super::{Subscribed, World, framework};

const PID: &str = "slave(1)@10.0.0.1:5051";
const ALL: &str = "cpus:4;mem:1024";

fn machine(ip: &str) -> MachineId {
    MachineId {
        hostname: Some("HOST".to_owned()),
        ip: Some(ip.to_owned()),
    }
}

fn unavailability(start: i64) -> Unavailability {
    Unavailability {
        start: TimeInfo { nanoseconds: start },
        duration: Some(DurationInfo { nanoseconds: 9 }),
    }
}

fn update(windows: &[(&[&str], i64)]) -> operator::Call {
    let windows = windows.iter().map(|(machines, start)| Window {
        machine_ids: machines.iter().map(|ip| machine(ip)).collect(),
        unavailability: unavailability(*start),
    });
    let schedule = Schedule {
        windows: windows.collect(),
    };
    operator::Call {
        r#type: Some(Type::UpdateMaintenanceSchedule.into()),
        update_maintenance_schedule: Some(operator::call::UpdateMaintenanceSchedule { schedule }),
        ..operator::Call::default()
    }
}

fn start(machines: &[&str]) -> operator::Call {
    let machines = machines.iter().map(|ip| machine(ip)).collect();
    operator::Call {
        r#type: Some(Type::StartMaintenance.into()),
        start_maintenance: Some(operator::call::StartMaintenance { machines }),
        ..operator::Call::default()
    }
}

fn stop(machines: &[&str]) -> operator::Call {
    let machines = machines.iter().map(|ip| machine(ip)).collect();
    operator::Call {
        r#type: Some(Type::StopMaintenance.into()),
        stop_maintenance: Some(operator::call::StopMaintenance { machines }),
        ..operator::Call::default()
    }
}

fn text(reply: Reply) -> String {
    match reply {
        Reply::Refused { text, .. } => text,
        other => format!("{other:?}"),
    }
}

/// The inverse offers that came.
fn inverse(world: &mut World, framework: &Subscribed) -> Vec<OfferId> {
    world.pass(Duration::from_secs(2));
    let events = world.take(framework).into_iter();
    let offers = events.filter_map(|event| event.inverse_offers);
    offers
        .flat_map(|offers| offers.inverse_offers)
        .map(|offer| offer.id)
        .collect()
}

#[test]
fn schedules_are_checked() {
    let mut world = World::new();
    let mut check = |call| text(world.order(call));
    assert_eq!(
        check(update(&[(&[], 1)])),
        "List of machines in the maintenance window is empty"
    );
    assert_eq!(
        check(update(&[(&["10.0.0.1"], 1), (&["10.0.0.1"], 2)])),
        "Machine '{\"hostname\":\"HOST\",\"ip\":\"10.0.0.1\"}' appears more than once in the schedule"
    );
    assert_eq!(
        check(update(&[(&["nowhere"], 1)])),
        "Failed to parse IPv4: nowhere"
    );
    assert_eq!(check(start(&[])), "List of machines is empty");
    assert_eq!(
        check(start(&["10.0.0.1"])),
        "Machine '{\"hostname\":\"HOST\",\"ip\":\"10.0.0.1\"}' is not part of a maintenance schedule"
    );
    assert_eq!(check(update(&[(&["10.0.0.1", "10.0.0.2"], 1)])), "Done");
    assert_eq!(
        check(stop(&["10.0.0.1"])),
        "Machine '{\"hostname\":\"HOST\",\"ip\":\"10.0.0.1\"}' is not in DOWN mode and cannot be brought up"
    );
    assert_eq!(check(start(&["10.0.0.1"])), "Done");
    assert_eq!(
        check(start(&["10.0.0.1"])),
        "Machine '{\"hostname\":\"HOST\",\"ip\":\"10.0.0.1\"}' is not in DRAINING mode and cannot be brought down"
    );
    assert_eq!(
        check(update(&[(&["10.0.0.2"], 1)])),
        "Machine '{\"hostname\":\"HOST\",\"ip\":\"10.0.0.1\"}' is deactivated and cannot be removed from the schedule"
    );
    assert_eq!(check(stop(&["10.0.0.1"])), "Done");
    let standing = &world.master.standing;
    assert_eq!(standing.machines.len(), 1);
    assert_eq!(
        standing.schedule.windows[0].machine_ids,
        [machine("10.0.0.2")]
    );
}

#[test]
fn offers_say_when_their_agent_will_be_away() {
    let mut world = World::new();
    world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    assert_eq!(world.offers(&one)[0].unavailability, None);
    assert_eq!(world.order(update(&[(&["10.0.0.1"], 5)])), Reply::Done);
    world.pass(Duration::from_secs(2));
    let events = world.take(&one);
    assert!(events[0].rescind.is_some());
    let offers = events[1].offers.clone().unwrap().offers;
    assert_eq!(offers[0].unavailability, Some(unavailability(5)));
    // The same for agents that come later, and after a failover.
    let mut world = world.fail_over(2);
    world.agent(PID, ALL);
    let two = world.subscribe(framework("two"));
    let offers = world.offers(&two);
    assert_eq!(offers[0].unavailability, Some(unavailability(5)));
    assert_eq!(world.order(update(&[])), Reply::Done);
    assert_eq!(world.offers(&two)[0].unavailability, None);
}

#[test]
fn frameworks_are_asked_and_their_answers_are_shown() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.take(&one);
    assert_eq!(world.order(update(&[(&["10.0.0.1"], 5)])), Reply::Done);
    let asked = inverse(&mut world, &one);
    assert_eq!(asked.len(), 1);
    assert!(inverse(&mut world, &one).is_empty(), "one at a time");
    let decline = call::DeclineInverseOffers {
        inverse_offer_ids: asked,
        filters: Some(dcos_proto::mesos::Filters {
            refuse_seconds: Some(30.0),
        }),
    };
    world.call(
        &one,
        Call {
            r#type: Some(call::Type::DeclineInverseOffers.into()),
            decline_inverse_offers: Some(decline),
            ..Call::default()
        },
    );
    let status = Snapshot::of(&world.master).maintenance_status();
    let answers = &status.draining_machines[0].statuses;
    assert_eq!(answers[0].status(), Answer::Decline);
    assert!(
        inverse(&mut world, &one).is_empty(),
        "not before the refusal is over"
    );
    world.pass(Duration::from_secs(40));
    assert_eq!(inverse(&mut world, &one).len(), 1);
    // Another schedule: asked anew.
    assert_eq!(world.order(update(&[(&["10.0.0.1"], 6)])), Reply::Done);
    let seen = world.seen(&one);
    assert!(
        seen.contains(&"RESCIND_INVERSE_OFFER".to_owned()),
        "{seen:?}"
    );
    world.pass(Duration::from_secs(2));
    assert_eq!(world.master.inverse_offers.len(), 1);
    assert!(world.master.agents[&agent].inverse_answers.is_empty());
    assert_eq!(world.order(update(&[])), Reply::Done);
    assert!(world.master.inverse_offers.is_empty());
}

#[test]
fn an_agent_that_returns_with_tasks_nobody_knew_is_maintained_all_the_same() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    let known = Task::clone(&world.master.frameworks[&one.id].tasks[&"t".into()]);
    assert_eq!(world.order(update(&[(&["10.0.0.1"], 5)])), Reply::Done);
    assert_eq!(inverse(&mut world, &one).len(), 1);
    let stranger = Task {
        task_id: "u".into(),
        ..known.clone()
    };
    world.reregister(PID, &agent, ALL, vec![known, stranger], Vec::new());
    assert_eq!(inverse(&mut world, &one).len(), 1);
    world.check();
}

#[test]
fn agents_on_a_machine_that_goes_down_end_and_stay_away() {
    let mut world = World::new();
    let agent = world.agent(PID, ALL);
    let one = world.subscribe(framework("one"));
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.take(&one);
    world.order(update(&[(&["10.0.0.1"], 5)]));
    assert_eq!(world.order(start(&["10.0.0.1"])), Reply::Done);
    let told = world.received::<messages::ShutdownMessage>(PID);
    assert_eq!(told[0].message(), "Operator initiated 'Machine DOWN'");
    assert!(world.master.agents.is_empty());
    assert!(
        world
            .seen(&one)
            .contains(&"t:TASK_LOST/REASON_AGENT_REMOVED".to_owned())
    );

    let mut world = world.fail_over(2);
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    let told = world.received::<messages::ShutdownMessage>(PID);
    assert_eq!(told[0].message(), "Machine is `DOWN`");
    let status = Snapshot::of(&world.master).maintenance_status();
    assert_eq!(status.down_machines, [machine("10.0.0.1")]);
    assert_eq!(world.order(stop(&["10.0.0.1"])), Reply::Done);
    world.reregister(PID, &agent, ALL, Vec::new(), Vec::new());
    assert_eq!(world.master.agents.len(), 1);
    assert_eq!(world.fail_over(3).master.standing.machines.len(), 0);
}

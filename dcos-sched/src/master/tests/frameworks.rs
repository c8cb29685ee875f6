//! Subscribing, failing over, leaving.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_proto::internal::{PongSlaveMessage, ShutdownFrameworkMessage};
use dcos_proto::mesos::{Filters, FrameworkId, FrameworkInfo, TaskState};
use dcos_proto::scheduler::{Call, call};

use super::super::{Input, Reply};
use super::{Subscribed, World, framework, partition_aware};

const PID: &str = "slave(1)@10.0.0.1:5051";

fn again(framework_id: &FrameworkId, info: FrameworkInfo) -> FrameworkInfo {
    FrameworkInfo {
        id: Some(framework_id.clone()),
        ..info
    }
}

fn refusal(world: &mut World, stream: Option<&str>, call: Call) -> (u16, String) {
    match world.call_on(stream, call) {
        Reply::Refused { status, text } => (status, text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_subscription_begins_with_subscribed_and_a_heartbeat() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    assert_eq!(one.id, "m1-0000".into());
    let events: Vec<String> = world.events[&one.stream].iter().map(super::short).collect();
    assert_eq!(events, ["SUBSCRIBED", "HEARTBEAT"]);
    world.pass(Duration::from_secs(31));
    assert_eq!(world.events[&one.stream].len(), 4);
}

#[test]
fn bad_subscriptions_hear_why_and_are_closed() {
    let mut world = World::new();
    let mut check = |change: fn(&mut FrameworkInfo), expected: &str| {
        let mut info = framework("bad");
        change(&mut info);
        let stream = world.try_subscribe(info);
        let events = world.events.remove(&stream).unwrap();
        let message = events[0].error.clone().unwrap().message;
        assert_eq!((events.len(), message.as_str()), (1, expected));
        assert!(world.closed.contains(&stream));
    };
    check(
        |info| info.failover_timeout = Some(f64::INFINITY),
        "The framework failover_timeout (inf) is invalid",
    );
    check(
        |info| info.roles = vec!["a".into()],
        "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
    );
    check(
        |info| info.id = Some("a/b".into()),
        "'a/b' contains invalid characters",
    );
}

#[test]
fn calls_are_checked_in_order() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let suppress = |id: Option<&FrameworkId>| Call {
        framework_id: id.cloned(),
        r#type: Some(call::Type::Suppress.into()),
        ..Call::default()
    };
    let mut check = |stream: Option<&str>, call: Call, status: u16, text: &str| {
        let found = refusal(&mut world, stream, call);
        assert!(found.0 == status && found.1.contains(text), "{found:?}");
    };
    let stream = Some(one.stream.as_str());
    check(
        stream,
        Call::default(),
        400,
        "Expecting 'type' to be present",
    );
    check(
        stream,
        suppress(None),
        400,
        "Expecting 'framework_id' to be present",
    );
    check(
        stream,
        suppress(Some(&"x".into())),
        400,
        "Framework cannot be found",
    );
    check(
        None,
        suppress(Some(&one.id)),
        400,
        "should include the 'Mesos-Stream-Id'",
    );
    check(
        Some("x"),
        suppress(Some(&one.id)),
        400,
        "didn't match the stream ID",
    );
    world.handle(Input::StreamClosed {
        stream_id: one.stream.clone(),
    });
    let found = refusal(&mut world, Some(&one.stream), suppress(Some(&one.id)));
    assert_eq!(found, (403, "Framework is not subscribed".to_owned()));
}

#[test]
fn the_newer_subscription_takes_over() {
    let mut world = World::new();
    let old = world.subscribe(framework("one"));
    world.agent(PID, "cpus:4;mem:1024");
    assert_eq!(world.offers(&old).len(), 1);
    let new = world.subscribe(again(&old.id, framework("one")));
    assert_eq!(new.id, old.id);
    let last = world.take(&old).pop().unwrap();
    assert_eq!(last.error.unwrap().message, "Framework failed over");
    assert!(world.closed.contains(&old.stream));
    assert_eq!(world.offers(&new).len(), 1, "its offers were made again");
    // The old connection breaking late changes nothing.
    world.handle(Input::StreamClosed {
        stream_id: old.stream,
    });
    assert_eq!(world.master.frameworks[&new.id].offers.len(), 1);
    world.check();
}

#[test]
fn a_framework_that_stays_away_is_removed_with_its_tasks() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, "cpus:4;mem:1024");
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskRunning);
    world.handle(Input::StreamClosed {
        stream_id: one.stream.clone(),
    });
    world.pass(Duration::from_secs(59));
    assert!(world.master.frameworks.contains_key(&one.id));
    world.pass(Duration::from_secs(2));
    assert!(!world.master.frameworks.contains_key(&one.id));
    let told: Vec<ShutdownFrameworkMessage> = world.received(PID);
    assert_eq!(told[0].framework_id, one.id);
    let completed = &world.master.completed[0];
    assert_eq!(
        completed.completed_tasks.iter().next().unwrap().state(),
        TaskState::TaskKilled
    );
    assert!(!world.store.keys().any(|key| key.contains("frameworks")));
    // Its id is never used again.
    let stream = world.try_subscribe(again(&one.id, framework("one")));
    let message = world.events[&stream][0].error.clone().unwrap().message;
    assert_eq!(message, "Framework has been removed");
    world.check();
}

#[test]
fn coming_back_in_time_keeps_everything() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, "cpus:4;mem:1024");
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.handle(Input::StreamClosed {
        stream_id: one.stream.clone(),
    });
    world.pass(Duration::from_secs(20));
    let back = world.subscribe(again(&one.id, framework("renamed")));
    world.pass(Duration::from_secs(45));
    world.take(&back);
    world.update(PID, &agent, &back, "t", TaskState::TaskRunning);
    assert_eq!(world.seen(&back), ["t:TASK_RUNNING"]);
    assert_eq!(world.master.frameworks[&one.id].info.name, "renamed");
}

#[test]
fn what_cannot_change_stays_or_is_refused() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let mut changed = again(&one.id, framework("one"));
    changed.user = "root".to_owned();
    changed.checkpoint = Some(false);
    world.subscribe(changed);
    let known = &world.master.frameworks[&one.id].info;
    assert_eq!(
        (known.user.as_str(), known.checkpoint),
        ("nobody", Some(true))
    );
    let mut other = again(&one.id, framework("one"));
    other.principal = Some("somebody".to_owned());
    let stream = world.try_subscribe(other);
    let message = world.events[&stream][0].error.clone().unwrap().message;
    assert_eq!(message, "Changing framework's principal is not allowed.");
}

#[test]
fn a_task_that_has_ended_does_not_end_again_with_its_framework() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let agent = world.agent(PID, "cpus:4;mem:1024");
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.update(PID, &agent, &one, "t", TaskState::TaskFinished);
    world.take(&one);
    world.call(
        &one,
        Call {
            r#type: Some(call::Type::Teardown.into()),
            ..Call::default()
        },
    );
    let events = world.take(&one);
    assert!(
        events.iter().all(|event| event.update.is_none()),
        "{events:?}"
    );
    let completed = &world.master.completed[0];
    assert_eq!(
        completed.completed_tasks.iter().next().unwrap().state(),
        TaskState::TaskFinished
    );
    world.check();
}

#[test]
fn what_is_out_of_reach_ends_with_its_framework() {
    let mut world = World::new();
    let one = world.subscribe(partition_aware(framework("one")));
    world.agent(PID, "cpus:4;mem:1024");
    world.launch(&one, &[("t", "cpus:1;mem:64")]);
    world.pass(Duration::from_secs(120));
    assert_eq!(world.master.frameworks[&one.id].unreachable_tasks.len(), 1);
    world.call(
        &one,
        Call {
            r#type: Some(call::Type::Teardown.into()),
            ..Call::default()
        },
    );
    let completed = &world.master.completed[0];
    assert!(completed.unreachable_tasks.is_empty());
    let ended = completed.completed_tasks.iter().next().unwrap();
    assert_eq!(ended.state(), TaskState::TaskKilled);
    let counters = &world.master.counters;
    assert_eq!(counters.ends["master/tasks_killed"], 1);
    assert_eq!(counters.messages_unregister_framework, 1);
    world.check();
}

/// Months of offers that nobody wants leave nothing behind.
#[test]
fn timers_of_offers_that_were_answered_are_thrown_away() {
    let mut world = World::with(BTreeMap::new(), 1, |settings| {
        settings.offer_timeout = Some(Duration::from_hours(1000));
    });
    let one = world.subscribe(framework("one"));
    world.agent(PID, "cpus:4;mem:1024");
    for _ in 0..5000 {
        world.send(PID, &PongSlaveMessage {});
        for offer in world.offers(&one) {
            let decline = call::Decline {
                offer_ids: vec![offer.id],
                filters: Some(Filters {
                    refuse_seconds: Some(0.0),
                }),
            };
            world.call(
                &one,
                Call {
                    r#type: Some(call::Type::Decline.into()),
                    decline: Some(decline),
                    ..Call::default()
                },
            );
        }
    }
    assert!(
        world.master.counters.offers_sent > 4000,
        "{}",
        world.master.counters.offers_sent
    );
    assert!(world.master.timers() < 2000, "{}", world.master.timers());
}

#[test]
fn teardown_ends_the_stream() {
    let mut world = World::new();
    let one: Subscribed = world.subscribe(framework("one"));
    world.call(
        &one,
        Call {
            r#type: Some(call::Type::Teardown.into()),
            ..Call::default()
        },
    );
    assert!(world.closed.contains(&one.stream));
    assert!(world.master.frameworks.is_empty());
}

/// As in the original, nothing of the call is done.
#[test]
fn a_role_that_is_not_its_own_spoils_the_call() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    let suppress = |roles: &[&str]| Call {
        r#type: Some(call::Type::Suppress.into()),
        suppress: Some(call::Suppress {
            roles: roles.iter().map(ToString::to_string).collect(),
        }),
        ..Call::default()
    };
    let revive = |roles: &[&str]| Call {
        r#type: Some(call::Type::Revive.into()),
        revive: Some(call::Revive {
            roles: roles.iter().map(ToString::to_string).collect(),
        }),
        ..Call::default()
    };
    let suppressed = |world: &World| world.master.frameworks[&one.id].suppressed.len();
    world.call(&one, suppress(&["*", "another"]));
    assert_eq!(suppressed(&world), 0);
    world.call(&one, suppress(&["*"]));
    assert_eq!(suppressed(&world), 1);
    world.call(&one, revive(&["*", "/"]));
    assert_eq!(suppressed(&world), 1);
    world.call(&one, revive(&[]));
    assert_eq!(suppressed(&world), 0);
}

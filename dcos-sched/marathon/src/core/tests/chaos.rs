//! Users, agents and crashes at random; then quiet, and everything must be as the users want it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::super::*;
use super::harness::{Harness, app, pod};
use crate::deployment::ActionKind;

const APPS: [&str; 4] = ["/a", "/b", "/g/c", "/g/d"];
/// The one of them that is a pod of two tasks.
const POD: usize = 3;

#[derive(Clone, Debug)]
enum Move {
    /// Creates or changes an app: number of instances, which command, how to upgrade, on what it depends.
    Put(usize, u32, u8, u8, Option<usize>),
    Delete(usize),
    Restart(usize),
    /// Cancels the nth deployment, by force or not.
    Cancel(usize, bool),
    /// Gives the nth deployment so many seconds, and takes it back then, or not.
    Limit(usize, u64, bool),
    KillOne(usize),
    KillAndScale(usize),
    Fail,
    Lose,
    LoseOne,
    Find,
    Crash,
    /// So many things happen in the world.
    Go(usize),
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Move> {
    let which = 0..APPS.len();
    prop_oneof![
        4 => (which.clone(), 0..6_u32, 0..3_u8, 0..4_u8, prop::option::of(which.clone()))
            .prop_map(|(a, n, c, s, d)| Move::Put(a, n, c, s, d)),
        1 => which.clone().prop_map(Move::Delete),
        1 => which.clone().prop_map(Move::Restart),
        1 => (0..4_usize, any::<bool>())            .prop_map(|(n, force)| Move::Cancel(n, force)),
        1 => (0..4_usize, 1..100_u64, any::<bool>()).prop_map(|(n, s, back)| Move::Limit(n, s, back)),
        1 => which.clone().prop_map(Move::KillOne),
        1 => which.prop_map(Move::KillAndScale),
        1 => Just(Move::Fail),
        1 => Just(Move::Lose),
        2 => Just(Move::LoseOne),
        1 => Just(Move::Find),
        2 => Just(Move::Crash),
        6 => (1..12_usize).prop_map(Move::Go),
        3 => Just(Move::Go(300)),
        1 => (1..400_u64).prop_map(Move::Wait),
    ]
}

fn put(
    h: &mut Harness,
    which: usize,
    instances: u32,
    command: u8,
    strategy: u8,
    depends: Option<usize>,
) {
    let (min, over) = [(1.0, 1.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.5)][usize::from(strategy)];
    let dependencies: Vec<&str> = depends
        .filter(|on| *on < which)
        .map(|on| APPS[on])
        .into_iter()
        .collect();
    let fields = json!({
        "instances": instances, "cmd": format!("run {command}"), "dependencies": dependencies,
        "upgradeStrategy": {"minimumHealthCapacity": min, "maximumOverCapacity": over},
        "unreachableStrategy": {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 1000},
    });
    let app = if which == POD {
        let labels = json!({"command": format!("run {command}")});
        pod(
            APPS[which],
            &json!({"labels": labels, "scaling": {"instances": instances},
            "scheduling": {"upgrade": fields["upgradeStrategy"],
                "unreachableStrategy": fields["unreachableStrategy"]}}),
        )
    } else {
        app(APPS[which], &fields)
    };
    // Cycles cannot be, and other deployments must give way.
    h.try_change(true, |root| root.put_app(app, root.version, false))
        .unwrap();
}

fn make(h: &mut Harness, step: &Move) {
    match *step {
        Move::Put(which, n, command, strategy, on) => put(h, which, n, command, strategy, on),
        Move::Delete(which) => {
            let id = PathId::from(APPS[which]);
            h.try_change(true, |root| {
                root.apps.remove(&id);
            })
            .unwrap();
        }
        Move::Restart(which) => {
            let id = PathId::from(APPS[which]);
            h.try_change(true, |root| {
                if let Some(app) = root.apps.get_mut(&id).map(Arc::make_mut) {
                    (app.version, app.version_info) = (RESTART, None);
                }
            })
            .unwrap();
        }
        Move::Cancel(nth, force) => {
            if let Some(id) = h.deployments().get(nth).cloned() {
                h.now += Duration::from_millis(5);
                h.core.cancel(h.now, &id, force).unwrap();
                h.flush();
            }
        }
        Move::Limit(nth, seconds, back) => {
            if let Some(id) = h.deployments().get(nth).cloned() {
                let time = Duration::from_secs(seconds);
                let then = if back {
                    Overdue::Rollback
                } else {
                    Overdue::Stop
                };
                assert!(h.core.limit(&id, Limit::within(h.now.into(), time, then)));
                h.flush();
            }
        }
        Move::KillOne(which) => {
            let ids = h
                .core
                .instances_of(&APPS[which].into())
                .map(|i| i.id.clone())
                .take(1)
                .collect();
            h.core.kill(h.now, &ids);
            h.flush();
        }
        Move::KillAndScale(which) => {
            let id = PathId::from(APPS[which]);
            let ids = h
                .core
                .instances_of(&id)
                .map(|i| i.id.clone())
                .take(1)
                .collect();
            if h.core.root.app(&id).is_some() {
                h.core
                    .kill_and_scale(h.now, &Kill::from([(id, ids)]), true)
                    .unwrap();
                h.flush();
            }
        }
        Move::Fail => h.fail_all(),
        Move::Lose => h.lose_all(),
        Move::LoseOne => h.lose_one(),
        Move::Find => h.find_all(),
        Move::Crash => h.crash(),
        Move::Go(count) => {
            h.run_for(count);
        }
        Move::Wait(seconds) => h.pass(seconds),
    }
}

type Plans = BTreeMap<String, (Arc<Plan>, Option<Limit>)>;

fn plans(h: &Harness) -> Plans {
    let all = h.core.deployments.iter();
    all.map(|(id, running)| (id.clone(), (Arc::clone(&running.plan), running.limit)))
        .collect()
}

/// Apps whose deployment users, or its deadline, ended before its time may have instances of two versions, until its next one.
fn note_interrupted(half_way: &mut BTreeSet<PathId>, step: &Move, before: &Plans, after: &Plans) {
    let by_users = matches!(
        step,
        Move::Put(..)
            | Move::Delete(_)
            | Move::Restart(_)
            | Move::Cancel(..)
            | Move::KillAndScale(_)
    );
    let ended = before.iter().filter(|(id, _)| !after.contains_key(*id));
    for (_, (plan, limit)) in ended {
        if by_users || limit.is_some() {
            half_way.extend(plan.affected().iter().cloned());
        }
    }
    let begun = after.iter().filter(|(id, _)| !before.contains_key(*id));
    for action in begun.flat_map(|(_, (plan, _))| plan.steps.iter().flatten()) {
        if matches!(action.kind, ActionKind::Restart | ActionKind::Scale { .. }) {
            half_way.remove(&action.app);
        }
    }
}

/// Each deployment ends or tells what it waits for: by then nothing follows from what is known any more.
pub(crate) fn nameless(h: &Harness) -> Option<String> {
    let view = h.core.view(h.now);
    let now = Timestamp::from(h.now);
    let mut all = view.deployments.iter();
    let nameless = all.find(|deployment| {
        let mut actions = deployment.plan.steps[deployment.step].iter();
        actions.all(|action| view.waiting_for(&action.app, now).is_empty())
    });
    nameless.map(|deployment| format!("{deployment:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn what_users_want_comes_true(moves in prop::collection::vec(moves(), 1..40)) {
        let mut h = Harness::new();
        let mut half_way = BTreeSet::new();
        for step in &moves {
            let before = plans(&h);
            make(&mut h, step);
            note_interrupted(&mut half_way, step, &before, &plans(&h));
            prop_assert_eq!(nameless(&h), None, "after {:?}", step);
        }
        let limited = plans(&h).into_values().filter(|(_, limit)| limit.is_some());
        half_way.extend(limited.flat_map(|(plan, _)| plan.affected().clone()));
        // Quiet: agents return, delays pass, nothing else goes wrong.
        for _ in 0..8 {
            h.find_all();
            h.run();
            h.pass(400);
            h.run();
        }
        prop_assert!(h.idle(), "a deployment did not end: {:?}", h.deployments());
        let mut wanted = 0;
        for id in APPS {
            let instances = h.core.root.app(&id.into()).map_or(0, |app| app.instances);
            prop_assert_eq!(h.running(id), instances as usize, "{}", id);
            let one_version = h.is_up_to_date(id) || half_way.contains(&PathId::from(id));
            prop_assert!(one_version, "an old version of {} runs", id);
            wanted += instances as usize * if id == APPS[POD] { 2 } else { 1 };
        }
        prop_assert_eq!(h.mesos_tasks(), wanted, "no task is forgotten");
        // What is durable is what is known.
        let known = (h.core.root.clone(), h.core.instances.clone(), h.core.failures.clone());
        let rows = h.rows.clone();
        h.crash();
        prop_assert_eq!(&h.core.root, &known.0);
        prop_assert_eq!(&h.core.instances, &known.1);
        prop_assert_eq!(&h.core.failures, &known.2);
        h.run();
        let only_spoken_of: Vec<_> = h.rows.iter().filter(|(key, value)| rows.get(*key) != Some(value)).collect();
        prop_assert!(only_spoken_of.is_empty(), "a quiet restart changes nothing: {only_spoken_of:?}");
    }
}

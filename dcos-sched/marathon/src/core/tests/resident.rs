//! Instances with persistent volumes.

use std::time::Duration;

use dcos_proto::mesos::TaskStatus;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::chaos::nameless;
use super::harness::{Harness, app};
use crate::model::App;

fn resident(instances: u32, command: &str) -> App {
    let fields: Value = json!({
        "role": "dev", "instances": instances, "cmd": command, "backoffSeconds": 1,
        "container": {"type": "MESOS", "volumes": [
            {"containerPath": "data", "mode": "RW", "persistent": {"size": 10}},
            {"containerPath": "log", "mode": "RW", "persistent": {"size": 5}}]},
    });
    app("/db", &fields)
}

fn world() -> Harness {
    let mut h = Harness::new();
    h.role = "dev".into();
    h
}

fn quiet(h: &mut Harness) {
    for _ in 0..6 {
        h.find_all();
        h.run();
        h.pass(400);
        h.run();
    }
}

fn goes_on(h: &mut Harness, running: usize) {
    quiet(h);
    assert!(h.idle(), "{:?}", h.deployments());
    assert_eq!(h.running("/db"), running);
}

#[test]
fn volumes_outlive_tasks_upgrades_and_scaling() {
    let mut h = world();
    h.put(resident(2, "run 1"));
    goes_on(&mut h, 2);
    let volumes = h.disks.volumes();
    assert_eq!((h.disks.len(), volumes.len()), (2, 4));
    h.fail_all();
    goes_on(&mut h, 2);
    assert!(h.tasks("/db").iter().all(|task| task.ends_with("._app.2")));
    h.put(resident(2, "run 2"));
    goes_on(&mut h, 2);
    assert!(h.tasks("/db").iter().all(|task| task.ends_with("._app.3")));
    h.scale("/db", 1);
    goes_on(&mut h, 1);
    assert_eq!(h.disks.len(), 2, "what is scaled down is kept");
    h.crash();
    h.scale("/db", 3);
    goes_on(&mut h, 3);
    assert_eq!(h.disks.len(), 3);
    let now = h.disks.volumes();
    assert!(volumes.iter().all(|volume| now.contains(volume)));
}

fn resident_pod(instances: u32, command: &str) -> App {
    let fields = json!({
        "role": "dev", "scaling": {"instances": instances}, "environment": {"COMMAND": command},
        "scheduling": {"backoff": {"backoff": 1, "maxLaunchDelay": 4}},
        "containers": [
            {"name": "one", "resources": {"cpus": 0.05, "mem": 1},
                "volumeMounts": [{"name": "data", "mountPath": "data"}]},
            {"name": "two", "resources": {"cpus": 0.05, "mem": 1},
                "volumeMounts": [{"name": "data", "mountPath": "shared"}]}],
        "volumes": [{"name": "data", "persistent": {"size": 10}}],
    });
    super::harness::pod("/db", &fields)
}

/// All containers of an instance begin again together, on what is kept for it.
#[test]
fn volumes_of_pods_outlive_tasks_upgrades_and_crashes() {
    let mut h = world();
    h.put(resident_pod(2, "run 1"));
    goes_on(&mut h, 2);
    let volumes = h.disks.volumes();
    assert_eq!((h.disks.len(), volumes.len()), (2, 2));
    h.fail_all();
    goes_on(&mut h, 2);
    let again = |h: &Harness, life: &str| h.tasks("/db").iter().all(|task| task.ends_with(life));
    assert!(again(&h, ".2"), "{:?}", h.tasks("/db"));
    h.put(resident_pod(2, "run 2"));
    goes_on(&mut h, 2);
    assert!(again(&h, ".3"), "{:?}", h.tasks("/db"));
    h.crash();
    h.fail_all();
    goes_on(&mut h, 2);
    assert_eq!(h.disks.volumes(), volumes);
    let before: BTreeSet<InstanceId> = h.core.all_instances().map(|one| one.id.clone()).collect();
    h.core.wipe(h.now, &before);
    h.flush();
    goes_on(&mut h, 2);
    let after = h.disks.volumes();
    assert_eq!(after.len(), 2);
    assert!(!volumes.iter().any(|volume| after.contains(volume)));
    h.delete("/db");
    quiet(&mut h);
    assert_eq!((h.disks.len(), h.mesos_tasks()), (0, 0));
}

#[test]
fn what_is_reserved_for_pods_cannot_be_changed() {
    let mut h = world();
    h.put(resident_pod(1, "run"));
    goes_on(&mut h, 1);
    let with = |change: fn(&mut crate::model::Pod)| {
        let mut spec = resident_pod(1, "run");
        let pod = spec.pod.as_deref_mut().unwrap();
        change(pod);
        let total = pod.total();
        App {
            cpus: total.cpus,
            mem: total.mem,
            ..spec
        }
    };
    let changes: [fn(&mut crate::model::Pod); 3] = [
        |pod| pod.containers[0].resources.cpus = 0.5,
        |pod| pod.volumes[0].persistent.as_mut().unwrap().size = 20,
        |pod| pod.volumes[0].persistent = None,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let spec = with(change);
        let refused = h.try_change(false, |root| root.put_app(spec, root.version, false));
        assert!(
            matches!(refused, Err(crate::Error::Invalid(_))),
            "{number}: {refused:?}"
        );
    }
}

#[test]
fn what_is_kept_goes_with_the_app() {
    let mut h = world();
    h.put(resident(2, "run"));
    goes_on(&mut h, 2);
    h.scale("/db", 1);
    goes_on(&mut h, 1);
    h.delete("/db");
    quiet(&mut h);
    assert!(h.idle());
    assert_eq!((h.disks.len(), h.mesos_tasks()), (0, 0));
    assert!(!h.rows.keys().any(|key| key.contains("/release/")));
}

/// What was asked for may get lost, and nobody says so.
#[test]
fn what_is_kept_is_asked_back_until_it_is_gone() {
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    h.is_cut_off = true;
    h.delete("/db");
    h.run_for(50);
    assert!(h.idle());
    assert_eq!(h.disks.len(), 1);
    h.is_cut_off = false;
    quiet(&mut h);
    assert_eq!(h.disks.len(), 0);
    assert!(!h.rows.keys().any(|key| key.contains("/release/")));
}

/// As when an operator gave it back, or the agent lost it: no offer ever shows it.
#[test]
fn what_never_comes_back_is_not_waited_for_for_ever() {
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    h.delete("/db");
    h.disks = super::disks::Disks::default();
    let waits = |h: &Harness| h.rows.keys().any(|key| key.contains("/release/"));
    h.run_for(20);
    assert!(waits(&h));
    h.pass(24 * 3600 - 60);
    assert!(waits(&h));
    h.pass(60);
    assert!(!waits(&h));
}

/// Reserved resources are in offers to their role only, so that others tell nothing of them.
#[test]
fn what_is_kept_is_settled_by_offers_to_its_role() {
    let waits = |h: &Harness| h.rows.keys().any(|key| key.contains("/release/"));
    for crash in [false, true] {
        let mut h = world();
        h.put(resident(1, "run"));
        goes_on(&mut h, 1);
        h.is_cut_off = true;
        h.delete("/db");
        h.run_for(50);
        assert_eq!(h.disks.len(), 1, "what was asked for is lost");
        if crash {
            h.crash();
        }
        h.role = "*".into();
        for _ in 0..3 {
            h.pass(100);
            h.offer();
        }
        assert!(waits(&h), "an offer to another role has settled it");
        assert!(h.core.roles().contains("dev"), "nobody else is offered it");
        (h.role, h.is_cut_off) = ("dev".into(), false);
        quiet(&mut h);
        assert_eq!((h.disks.len(), waits(&h)), (0, false));
        assert!(!h.core.roles().contains("dev"));
    }
}

#[test]
fn what_may_not_be_given_back_is_not_asked_for_for_ever() {
    let waits = |h: &Harness| h.rows.keys().any(|key| key.contains("/release/"));
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    h.disks.are_held = true;
    h.delete("/db");
    h.run_for(50);
    let revives = h.core.counters.revives;
    for hour in 0..24 {
        assert!(waits(&h), "in hour {hour}");
        h.offer();
        h.pass(3600);
    }
    for _ in 0..3 {
        assert!(!waits(&h), "its day is over");
        h.offer();
        h.pass(60);
    }
    assert_eq!(h.core.counters.revives, revives);
    // Once it may be, it is.
    h.disks.are_held = false;
    h.offer();
    assert_eq!(h.disks.len(), 0);
}

#[test]
fn releases_of_earlier_versions_are_read() {
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    h.is_cut_off = true;
    h.delete("/db");
    h.run_for(50);
    let row = h.rows.iter_mut().find(|(key, _)| key.contains("/release/"));
    *row.unwrap().1 = br#""agent""#.to_vec();
    h.is_cut_off = false;
    h.crash();
    quiet(&mut h);
    assert_eq!(h.disks.len(), 0);
    assert!(!h.rows.keys().any(|key| key.contains("/release/")));
}

#[test]
fn wiping_destroys_and_replaces() {
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    let before = h.disks.volumes();
    let ids = h.core.all_instances().map(|one| one.id.clone()).collect();
    h.core.wipe(h.now, &ids);
    h.flush();
    goes_on(&mut h, 1);
    let after = h.disks.volumes();
    assert_eq!(after.len(), 2);
    assert!(!before.iter().any(|volume| after.contains(volume)));
}

#[test]
fn a_framework_that_was_ended_takes_its_volumes_along() {
    let mut h = world();
    h.put(resident(2, "run"));
    goes_on(&mut h, 2);
    let volumes = h.disks.volumes();
    for life in 2..4 {
        h.tear_down();
        goes_on(&mut h, 2);
        assert_eq!(h.disks.volumes(), volumes, "in life {life}");
    }
    h.scale("/db", 3);
    goes_on(&mut h, 3);
    h.tear_down();
    h.delete("/db");
    quiet(&mut h);
    assert_eq!((h.disks.len(), h.mesos_tasks()), (0, 0));
}

#[test]
fn an_agent_out_of_reach_is_waited_for() {
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    let before = h.tasks("/db");
    h.lose_all();
    h.pass(300);
    h.run();
    assert_eq!((h.running("/db"), h.disks.len()), (0, 1));
    h.find_all();
    h.run();
    assert_eq!(h.tasks("/db"), before);
}

#[test]
fn scaling_waits_for_no_agent_out_of_reach() {
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    h.lose_all();
    h.scale("/db", 2);
    h.run();
    assert!(h.idle(), "{:?}", h.deployments());
    assert_eq!((h.running("/db"), h.disks.len()), (1, 2));
}

#[test]
fn a_task_that_runs_after_all_is_taken_on() {
    for wanted in [1, 0] {
        let mut h = world();
        h.put(resident(1, "run"));
        goes_on(&mut h, 1);
        h.fail_all();
        h.pass(100);
        h.offer();
        let task = h.tasks("/db");
        // Nobody hears that it came up, nor that it is to go.
        h.lose_statuses();
        h.deaf = true;
        h.pass(301);
        assert_eq!(
            h.condition("/db"),
            Some(crate::instance::Condition::Reserved)
        );
        if wanted == 0 {
            h.scale("/db", 0);
        }
        h.deaf = false;
        h.pass(601);
        h.run();
        goes_on(&mut h, wanted);
        assert_eq!((h.mesos_tasks(), h.disks.len()), (wanted, 1));
        assert_eq!(h.tasks("/db"), task);
    }
}

/// An agent repeats what it does not know to be acknowledged, also after its end was told by the master, or by itself before
/// it crashed.
#[test]
fn a_task_that_is_over_does_not_run_again() {
    use dcos_proto::mesos::{AgentId, TaskState};
    for end in [TaskState::TaskKilled, TaskState::TaskFailed] {
        let mut h = world();
        h.put(resident(1, "run"));
        goes_on(&mut h, 1);
        let task = h.tasks("/db").into_iter().next().unwrap();
        let say = |h: &mut Harness, state: TaskState| {
            h.update(TaskStatus {
                task_id: task.clone().into(),
                state: state.into(),
                agent_id: Some(AgentId::from("agent")),
                uuid: Some(vec![1]),
                ..TaskStatus::default()
            });
            h.condition("/db")
        };
        let parked = Some(crate::instance::Condition::Reserved);
        assert_eq!(say(&mut h, end), parked);
        for crash in [false, true] {
            if crash {
                h.crash();
            }
            for state in [
                TaskState::TaskStarting,
                TaskState::TaskRunning,
                TaskState::TaskKilling,
            ] {
                assert_eq!(say(&mut h, state), parked, "{state:?} after {end:?}");
            }
        }
    }
}

/// The other one ends meanwhile: whichever comes back, on its own volumes, takes the place that is left.
#[test]
fn an_instance_that_was_named_is_killed_once() {
    for at in [0, 1] {
        let mut h = world();
        h.put(resident(2, "run"));
        goes_on(&mut h, 2);
        let id = h.core.all_instances().nth(at).unwrap().id.clone();
        let kill = crate::core::Kill::from([("/db".into(), BTreeSet::from([id]))]);
        h.core.kill_and_scale(h.now, &kill, false).unwrap();
        h.flush();
        h.fail_all();
        goes_on(&mut h, 1);
        assert_eq!((h.mesos_tasks(), h.disks.len()), (1, 2));
    }
}

/// Whatever the clock of the next life says.
#[test]
fn the_next_task_of_an_instance_that_was_named_is_none_of_those_named() {
    let mut h = world();
    h.put(resident(2, "run"));
    goes_on(&mut h, 2);
    h.fail_all();
    let ids = h.core.all_instances().map(|one| one.id.clone()).collect();
    let kill = crate::core::Kill::from([("/db".into(), ids)]);
    h.core.kill_and_scale(h.now, &kill, false).unwrap();
    h.flush();
    h.now = Time::from_secs(h.now.as_secs() - 3600);
    h.crash();
    goes_on(&mut h, 2);
    assert!(h.tasks("/db").iter().all(|task| task.ends_with("._app.2")));
}

#[test]
fn an_app_that_is_made_anew_has_volumes_of_its_own() {
    let id = PathId::from("/db");
    let mut other = resident(2, "run");
    let container = other.container.as_mut().unwrap();
    container.volumes.truncate(1);
    container.volumes[0].persistent.as_mut().unwrap().size = 20;
    for at_once in [false, true] {
        let mut h = world();
        h.put(resident(2, "run"));
        goes_on(&mut h, 2);
        // One is to go, and is asked in vain.
        h.deaf = true;
        h.scale("/db", 1);
        let change = |h: &mut Harness, app: Option<&App>| {
            let changed = h.core.change(h.now, true, &Kill::new(), |scope| {
                let mut root = scope.copy();
                root.apps.remove(&id);
                if let Some(app) = app {
                    root.put_app(app.clone(), scope.version, false);
                }
                Ok(root)
            });
            changed.unwrap();
            if !at_once {
                h.flush();
            }
        };
        change(&mut h, None);
        change(&mut h, Some(&other));
        h.deaf = false;
        h.flush();
        goes_on(&mut h, 2);
        assert_eq!((h.disks.len(), h.disks.volumes().len()), (2, 2));
        assert_eq!(h.core.all_instances().count(), 2);
    }
}

#[test]
fn what_is_reserved_cannot_be_changed() {
    let mut h = world();
    h.put(resident(1, "run"));
    goes_on(&mut h, 1);
    let larger = App {
        cpus: 0.2,
        version_info: None,
        ..resident(1, "run")
    };
    let refused = h.try_change(false, |root| root.put_app(larger, root.version, false));
    assert!(
        matches!(refused, Err(crate::Error::Invalid(_))),
        "{refused:?}"
    );
}

#[derive(Clone, Debug)]
enum Move {
    Put(u32, u8),
    Delete,
    Restart,
    KillOne,
    WipeOne,
    Fail,
    Lose,
    Find,
    Crash,
    TearDown,
    Go(usize),
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (0..4_u32, 0..2_u8).prop_map(|(n, command)| Move::Put(n, command)),
        1 => Just(Move::Delete),
        1 => Just(Move::Restart),
        1 => Just(Move::KillOne),
        1 => Just(Move::WipeOne),
        1 => Just(Move::Fail),
        1 => Just(Move::Lose),
        1 => Just(Move::Find),
        2 => Just(Move::Crash),
        1 => Just(Move::TearDown),
        6 => (1..12_usize).prop_map(Move::Go),
        1 => (1..400_u64).prop_map(Move::Wait),
    ]
}

fn make(h: &mut Harness, step: &Move, kind: fn(u32, &str) -> App) {
    let one = |h: &Harness| {
        h.core
            .all_instances()
            .map(|i| i.id.clone())
            .take(1)
            .collect()
    };
    let id = PathId::from("/db");
    match *step {
        Move::Put(n, command) => {
            let app = kind(n, &format!("run {command}"));
            h.try_change(true, |root| root.put_app(app, root.version, false))
                .unwrap();
        }
        Move::Delete => {
            h.try_change(true, |root| {
                root.apps.remove(&id);
            })
            .unwrap();
        }
        Move::Restart => {
            h.try_change(true, |root| {
                if let Some(app) = root.apps.get_mut(&id).map(Arc::make_mut) {
                    (app.version, app.version_info) = (RESTART, None);
                }
            })
            .unwrap();
        }
        Move::KillOne => {
            let ids = one(h);
            h.core.kill(h.now, &ids);
            h.flush();
        }
        Move::WipeOne => {
            let ids = one(h);
            h.core.wipe(h.now, &ids);
            h.flush();
        }
        Move::Fail => h.fail_all(),
        Move::Lose => h.lose_all(),
        Move::Find => h.find_all(),
        Move::Crash => h.crash(),
        Move::TearDown => h.tear_down(),
        Move::Go(count) => {
            h.run_for(count);
        }
        Move::Wait(seconds) => h.pass(seconds),
    }
    h.now += Duration::from_millis(1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever happens, in the end as many instances run as are wanted, each on its own volumes; everything reserved
    /// is of an instance there is; and when the app goes, nothing stays.
    #[test]
    fn reservations_are_neither_lost_nor_left_behind(
        moves in prop::collection::vec(moves(), 1..40),
        of_pod in any::<bool>(),
    ) {
        let mut h = world();
        let (kind, tasks): (fn(u32, &str) -> App, _) = if of_pod { (resident_pod, 2) } else { (resident, 1) };
        for step in &moves {
            make(&mut h, step, kind);
            prop_assert_eq!(nameless(&h), None, "after {:?}", step);
        }
        quiet(&mut h);
        prop_assert!(h.idle(), "a deployment did not end: {:?}", h.deployments());
        let wanted = h.core.root.app(&"/db".into()).map_or(0, |app| app.instances as usize);
        prop_assert_eq!(h.running("/db"), wanted);
        prop_assert_eq!(h.mesos_tasks(), wanted * tasks);
        prop_assert_eq!(h.disks.len(), h.core.all_instances().count(), "kept for instances there are");
        prop_assert!(!h.rows.keys().any(|key| key.contains("/release/")));
        h.try_change(true, |root| { root.apps.remove(&PathId::from("/db")); }).unwrap();
        quiet(&mut h);
        prop_assert_eq!(h.disks.len(), 0);
        prop_assert_eq!(h.core.all_instances().count(), 0);
    }
}

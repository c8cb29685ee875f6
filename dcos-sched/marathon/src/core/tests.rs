//! The core against a small Mesos that does what it is told, in memory and without time.

mod chaos;
mod clocks;
mod deadlines;
mod disks;
mod harness;
mod resident;

use dcos_proto::mesos::network_info::IpAddress;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{ContainerStatus, NetworkInfo, TaskId, TaskState, TaskStatus};
use harness::{Harness, app};
use serde_json::json;

use super::*;
use crate::instance::Condition;
use crate::model::App;
use crate::{Error, PathId};

#[test]
fn an_apps_life() {
    let mut h = Harness::new();
    h.put(app("/web", &json!({"instances": 1})));
    h.run();
    assert_eq!(h.running("/web"), 1);

    h.scale("/web", 10);
    h.run();
    assert_eq!(h.running("/web"), 10);

    h.scale("/web", 3);
    h.run();
    assert_eq!(h.running("/web"), 3);

    let before = h.tasks("/web");
    h.put(app("/web", &json!({"instances": 3, "cmd": "run new"})));
    h.run();
    assert_eq!(h.running("/web"), 3);
    assert!(h.tasks("/web").is_disjoint(&before));

    h.delete("/web");
    h.run();
    assert_eq!(h.running("/web"), 0);
    assert!(h.idle(), "{:?}", h.core.deployments);
    assert!(h.core.root.apps.is_empty());
}

/// A row the store can't take would end the service, again and again while the task runs.
#[test]
fn what_executors_say_is_stored_within_bounds() {
    let mut h = Harness::new();
    h.put(app("/web", &json!({})));
    h.run();
    let id = h.tasks("/web").pop_first().unwrap();
    let told = |addresses: &[String], state: TaskState| {
        let address = |address: &String| IpAddress {
            ip_address: Some(address.clone()),
            ..IpAddress::default()
        };
        let network = NetworkInfo {
            ip_addresses: addresses.iter().map(address).collect(),
            ..NetworkInfo::default()
        };
        TaskStatus {
            task_id: TaskId::from(id.as_str()),
            state: state.into(),
            message: Some("é".repeat(1_000_000)),
            container_status: Some(ContainerStatus {
                network_infos: vec![network],
                ..ContainerStatus::default()
            }),
            ..TaskStatus::default()
        }
    };
    let many: Vec<String> = (0..60_000).map(|n| format!("fd00::{n:x}")).collect();
    let no_address = ["1".repeat(1_100_000), "10.0.0.1".to_owned()];
    for addresses in [&many[..], &no_address] {
        h.update(told(addresses, TaskState::TaskRunning));
        let instance = h.core.instances_of(&"/web".into()).next();
        let known = &instance.unwrap().addresses;
        assert!((1..=64).contains(&known.len()), "{known:?}");
        assert!(known.iter().all(|known| addresses.contains(known)));
    }
    h.update(told(&many, TaskState::TaskFailed));
    assert!(h.rows.contains_key("marathon/failure/web"));
    let longest = h.rows.values().map(Vec::len).max().unwrap();
    assert!(longest < 100_000, "{longest} bytes in a row");
}

/// An agent that forgot in a crash what was acknowledged says it again. Instances that are starting serve nobody, and an
/// upgrade would end them at once.
#[test]
fn what_was_is_no_news() {
    let mut h = Harness::new();
    let patience = json!({"inactiveAfterSeconds": 300, "expungeAfterSeconds": 600});
    h.put(app("/web", &json!({"unreachableStrategy": patience})));
    h.run();
    let id = h.tasks("/web").pop_first().unwrap();
    for (state, condition) in [
        (TaskState::TaskStarting, Condition::Running),
        (TaskState::TaskKilling, Condition::Killing),
        (TaskState::TaskRunning, Condition::Killing),
        (TaskState::TaskUnreachable, Condition::Unreachable),
        (TaskState::TaskStarting, Condition::Starting),
    ] {
        h.update(TaskStatus {
            task_id: TaskId::from(id.as_str()),
            state: state.into(),
            ..TaskStatus::default()
        });
        assert_eq!(h.condition("/web"), Some(condition), "after {state:?}");
    }
}

/// After a crash nobody knows yet that those before it are healthy, so that its turn seems to be to come again.
#[test]
fn who_had_its_turn_before_a_crash_keeps_what_it_got() {
    let mut h = Harness::new();
    let check = json!([{"protocol": "TCP", "portIndex": 0}]);
    let db = |command: &str| app("/g/db", &json!({"cmd": command, "healthChecks": check}));
    let web = |instances: u32| {
        let fields =
            json!({"dependencies": ["/g/db"], "instances": instances, "healthChecks": check});
        app("/g/web", &fields)
    };
    for (command, instances) in [("old", 1), ("new", 3)] {
        h.change(|root| {
            root.put_app(db(command), root.version, false);
            root.put_app(web(instances), root.version, false);
        });
        h.run();
        h.probe_all(&Ok(()));
        h.run();
        if instances == 1 {
            h.probe_all(&Ok(()));
            h.run();
            assert!(h.idle());
        }
    }
    let tasks = h.tasks("/g/web");
    assert_eq!((tasks.len(), h.idle()), (3, false));
    h.crash();
    h.run();
    assert_eq!(h.tasks("/g/web"), tasks);
    for _ in 0..2 {
        h.probe_all(&Ok(()));
        h.run();
    }
    assert!(h.idle());
    assert_eq!(h.tasks("/g/web"), tasks);
}

#[test]
fn dependencies_come_up_first() {
    let mut h = Harness::new();
    h.change(|root| {
        root.put_app(app("/g/db", &json!({})), root.version, false);
        root.put_app(
            app("/g/web", &json!({"dependencies": ["/g/db"]})),
            root.version,
            false,
        );
    });
    h.offer();
    assert_eq!((h.launched("/g/db"), h.launched("/g/web")), (1, 0));
    h.run();
    assert_eq!((h.running("/g/db"), h.running("/g/web")), (1, 1));
}

#[test]
fn every_crash_is_survived() {
    // The same story, with a crash after so many moves; `moves` grows until the story ends without.
    for moves in 0.. {
        let mut h = Harness::new();
        h.put(app("/a", &json!({"instances": 4})));
        h.run();
        h.put(app("/a", &json!({"instances": 5, "cmd": "run new"})));
        h.put(app("/b", &json!({"instances": 2})));
        let ended = h.run_for(moves);
        h.crash();
        h.run();
        assert!(h.idle(), "after {moves} moves");
        assert_eq!(
            (h.running("/a"), h.running("/b")),
            (5, 2),
            "after {moves} moves"
        );
        assert_eq!(
            h.mesos_tasks(),
            7,
            "nothing twice, nothing forgotten, after {moves} moves"
        );
        assert!(
            h.specs("/a")
                .iter()
                .all(|spec| spec.cmd.as_deref() == Some("run new"))
        );
        if ended {
            assert!(moves > 10, "{moves}");
            return;
        }
    }
}

#[test]
fn a_locked_app_needs_force() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 1000})));
    let first = h.deployments()[0].clone();
    let refused = h.try_change(false, |root| {
        root.put_app(app("/a", &json!({"instances": 2})), root.version, false);
    });
    assert_eq!(refused.unwrap_err(), Error::Locked(vec![first.clone()]));
    h.try_change(true, |root| {
        root.put_app(app("/a", &json!({"instances": 2})), root.version, false);
    })
    .unwrap();
    assert!(!h.deployments().contains(&first));
    h.run();
    assert_eq!(h.running("/a"), 2);
    assert!(h.heard("deployment_failed") && h.heard("group_change_failed"));
}

#[test]
fn a_canceled_deployment_is_taken_back() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 3})));
    h.run();
    let (before, version) = (
        h.tasks("/a"),
        h.core.root.app(&"/a".into()).unwrap().version,
    );
    h.put(app("/a", &json!({"instances": 3, "cmd": "run bad"})));
    h.offer();
    h.now += std::time::Duration::from_secs(1);
    let id = h.deployments()[0].clone();
    h.core.cancel(h.now, &id, false).unwrap();
    h.flush();
    h.run();
    assert_eq!(h.tasks("/a"), before, "what ran before was not touched");
    assert_eq!(h.core.root.app(&"/a".into()).unwrap().version, version);
    assert!(h.core.cancel(h.now, &id, false).is_err());
}

/// It changes nothing that could be taken back.
#[test]
fn a_canceled_deployment_that_only_kills_ends() {
    let mut h = Harness::new();
    h.put(app("/web", &json!({"instances": 2})));
    h.run();
    h.deaf = true;
    let one = ids(&h).into_iter().take(1).collect();
    let kill = Kill::from([(PathId::from("/web"), one)]);
    let plan = h
        .core
        .change(h.now, false, &kill, |change| Ok(change.copy()));
    h.flush();
    assert!(!h.idle(), "the kill is not confirmed");
    h.core.cancel(h.now, &plan.unwrap().id, false).unwrap();
    h.flush();
    assert!(h.idle(), "{:?}", h.deployments());
    assert!(h.heard("deployment_failed"));
}

#[test]
fn forced_cancel_stops_where_it_is() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 1000})));
    h.run_for(3);
    let id = h.deployments()[0].clone();
    assert_eq!(h.core.cancel(h.now, &id, true).unwrap(), None);
    h.flush();
    assert!(h.idle());
    assert!(h.core.root.app(&"/a".into()).is_some());
}

#[test]
fn failing_tasks_are_held_back() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"backoffSeconds": 10})));
    h.offer();
    h.fail_all();
    let item = h.core.view(h.now).queue[0].clone();
    assert!(item.held_until.is_some());
    let failure = h.core.view(h.now).failures[&PathId::from("/a")].clone();
    assert_eq!(failure.state, "TASK_FAILED");
    h.offer();
    assert_eq!(h.launched("/a"), 1, "not yet");
    assert!(h.core.next_deadline(h.now).unwrap() <= h.now + std::time::Duration::from_secs(10));
    assert!(h.core.reset_delay(&"/a".into()));
    h.offer();
    assert_eq!(h.launched("/a"), 2);
    assert!(!h.core.reset_delay(&"/nothing".into()));
}

#[test]
fn launches_that_a_crash_swallowed_grow_no_delay() {
    let held = |reason| {
        let mut h = Harness::new();
        h.put(app("/a", &json!({"instances": 3, "backoffSeconds": 100})));
        h.offer();
        for id in h.tasks("/a") {
            h.update(TaskStatus {
                task_id: TaskId::from(id.as_str()),
                state: TaskState::TaskGone as i32,
                reason: Some(reason as i32),
                ..TaskStatus::default()
            });
        }
        let until = h.core.view(h.now).queue[0].held_until.unwrap();
        until.since(h.now.into()).as_secs()
    };
    assert_eq!(held(Reason::Reconciliation), 100);
    assert_eq!(held(Reason::AgentRemoved), 132);
}

#[test]
fn killed_tasks_are_replaced_unless_scaled() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 3})));
    h.run();
    let victim = h
        .core
        .view(h.now)
        .all_instances()
        .next()
        .unwrap()
        .id
        .clone();
    h.core.kill(h.now, &[victim.clone()].into());
    h.flush();
    h.run();
    assert_eq!(h.running("/a"), 3);
    assert!(h.core.instance(&victim).is_none());

    let victim = h
        .core
        .view(h.now)
        .all_instances()
        .last()
        .unwrap()
        .id
        .clone();
    let kill = Kill::from([(PathId::from("/a"), [victim.clone()].into())]);
    h.core.kill_and_scale(h.now, &kill, false).unwrap();
    h.flush();
    h.run();
    assert_eq!(h.running("/a"), 2);
    assert!(h.core.instance(&victim).is_none());
    assert_eq!(h.core.root.app(&"/a".into()).unwrap().instances, 2);
}

#[test]
fn unhealthy_instances_are_killed_and_hold_deployments() {
    let mut h = Harness::new();
    let check = json!([{"protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 0,
        "maxConsecutiveFailures": 2}]);
    h.put(app("/a", &json!({"healthChecks": check})));
    h.run();
    assert!(!h.idle(), "its health is not known yet");
    h.probe_all(&Ok(()));
    h.run();
    assert!(h.idle());
    h.probe_all(&Err("refused".into()));
    assert_eq!(h.running("/a"), 1);
    h.probe_all(&Err("refused".into()));
    h.run();
    assert!(h.heard("unhealthy_instance_kill_event"));
    assert_eq!(h.launched("/a"), 2);
}

#[test]
fn one_word_of_the_executor_stands_for_all_its_checks() {
    let mut h = Harness::new();
    let checks = json!([
        {"protocol": "COMMAND", "command": {"value": "true"}},
        {"protocol": "MESOS_HTTP", "port": 80},
    ]);
    h.put(app("/a", &json!({"healthChecks": checks})));
    h.run();
    assert!(!h.idle(), "its health is not known yet");
    h.report_health(true);
    h.run();
    assert!(h.idle());
    let health = |h: &Harness| {
        let instance = h.core.instances_of(&"/a".into()).next().unwrap().clone();
        let spec = h.core.root.app(&"/a".into()).unwrap();
        crate::health::verdict(spec, &instance.health)
    };
    assert_eq!(health(&h), Some(true));
    h.report_health(false);
    assert_eq!(health(&h), Some(false));
}

#[test]
fn unreachable_instances_are_replaced_and_killed_when_they_return() {
    let mut h = Harness::new();
    let strategy = json!({"inactiveAfterSeconds": 10, "expungeAfterSeconds": 20});
    h.put(app("/a", &json!({"unreachableStrategy": strategy})));
    h.run();
    h.lose_all();
    assert_eq!(h.condition("/a"), Some(Condition::Unreachable));
    h.pass(9);
    assert_eq!(h.launched("/a"), 1);
    h.pass(2);
    h.run();
    assert_eq!(h.launched("/a"), 2, "replaced");
    assert_eq!(
        h.core.instances_of(&"/a".into()).count(),
        2,
        "not yet forgotten"
    );
    let told = h.times_heard("instance_changed_event");
    h.pass(10);
    assert_eq!(h.core.instances_of(&"/a".into()).count(), 1);
    let told_since = h.times_heard("instance_changed_event") - told;
    assert_eq!(told_since, 1, "listeners hear that it is over");
    h.find_all();
    h.run();
    assert_eq!(h.mesos_tasks(), 1, "the one that came back is killed");
}

#[test]
fn an_agent_out_of_reach_holds_no_deployment() {
    let mut h = Harness::new();
    h.put(app(
        "/a",
        &json!({"unreachableStrategy": "disabled", "instances": 2}),
    ));
    h.run();
    h.deaf = true;
    h.delete("/a");
    h.run();
    assert!(!h.idle(), "the kills are not confirmed");
    h.lose_all();
    assert!(h.idle());
    h.deaf = false;
    h.find_all();
    h.run();
    assert_eq!(h.mesos_tasks(), 0, "what comes back is killed");
}

#[test]
fn an_upgrade_leaves_nothing_behind_on_a_lost_agent() {
    for instances in [2, 0] {
        let mut h = Harness::new();
        let strategy = json!({"inactiveAfterSeconds": 60, "expungeAfterSeconds": 600});
        let web = |command, instances| {
            let fields =
                json!({"cmd": command, "instances": instances, "unreachableStrategy": strategy});
            app("/a", &fields)
        };
        h.put(web("run 1", 2));
        h.run();
        h.lose_one();
        h.pass(61);
        h.run();
        assert_eq!(h.running("/a"), 2, "it is replaced");
        h.put(web("run 2", instances));
        h.run();
        assert!(h.idle());
        h.scale("/a", 2);
        h.run();
        let upgraded = h.tasks("/a");
        h.find_all();
        h.run();
        assert_eq!((h.running("/a"), h.mesos_tasks()), (2, 2));
        assert!(h.is_up_to_date("/a"), "{:?}", h.specs("/a"));
        assert_eq!(h.tasks("/a"), upgraded, "and the new ones stay");
    }
}

/// It returns while others have their turn, and what takes its place is there already.
#[test]
fn what_returns_before_its_turn_to_be_scaled_is_none_of_the_old() {
    let mut h = Harness::new();
    let strategy = json!({"inactiveAfterSeconds": 60, "expungeAfterSeconds": 6000});
    let web = |command, instances| {
        let fields = json!({"cmd": command, "instances": instances, "dependencies": ["/db"],
            "unreachableStrategy": strategy});
        app("/web", &fields)
    };
    let check = json!([{"protocol": "TCP", "portIndex": 0}]);
    let db = |command| app("/db", &json!({"cmd": command, "healthChecks": check}));
    h.put(db("run 1"));
    h.run();
    h.probe_all(&Ok(()));
    h.put(web("run 1", 1));
    h.run();
    // An upgrade is ended before its turn comes, and what it left as it was gets out of reach.
    let upgrade = h.try_change(false, |root| {
        root.put_app(db("run 2"), root.version, false);
        root.put_app(web("run 2", 1), root.version, false);
    });
    h.run();
    h.core.cancel(h.now, &upgrade.unwrap().id, true).unwrap();
    h.flush();
    let old = h.tasks("/web");
    h.lose(&old);
    h.pass(61);
    h.run();
    assert_eq!(h.running("/web"), 1);
    // Two layers: the second one waits for the health of the first.
    h.change(|root| {
        root.put_app(db("run 3"), root.version, false);
        root.put_app(web("run 2", 2), root.version, false);
    });
    h.run();
    assert!(!h.idle());
    h.find_all();
    h.run();
    for _ in 0..3 {
        h.probe_all(&Ok(()));
        h.run();
    }
    assert!(h.idle(), "{:?}", h.deployments());
    assert_eq!((h.running("/web"), h.mesos_tasks()), (2, 3));
    assert!(h.is_up_to_date("/web"), "{:?}", h.specs("/web"));
}

/// Nobody was there to hear that it was confirmed.
#[test]
fn a_launch_is_not_given_up_for_time_without_a_master() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({})));
    h.offer();
    let [launched] = h
        .core
        .all_instances()
        .cloned()
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    h.core.handle(h.now, Input::Disconnected);
    h.pass(3_600);
    h.subscribe();
    h.pass(299);
    assert!(h.core.all_instances().all(|one| one.id == launched.id));
    assert_eq!(h.core.all_instances().count(), 1);
    h.pass(2);
    assert!(h.core.all_instances().all(|one| one.id != launched.id));
}

#[test]
fn comparing_notes_is_no_news() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 3})));
    h.put(harness::pod("/p", &json!({})));
    h.run();
    let before = h.times_heard("status_update_event");
    for _ in 0..3 {
        h.pass(601);
        h.run();
    }
    assert_eq!(h.times_heard("status_update_event"), before);
    h.report_health(false);
    assert!(h.times_heard("status_update_event") > before);
}

#[test]
fn taking_back_a_deployment_keeps_what_others_did_to_groups() {
    let mut h = Harness::new();
    h.put(app("/other/b", &json!({})));
    h.put(app("/prod/a", &json!({})));
    h.run();
    h.put(app("/prod/a", &json!({"cmd": "run new"})));
    let id = h.deployments()[0].clone();
    let prod = PathId::from("/prod");
    let patched = h.core.patch(h.now, |scope| {
        let mut root = scope.copy();
        let group = root.groups.get_mut(&prod).unwrap();
        group.enforce_role = Some(true);
        group.dependencies.insert(PathId::from("/other"));
        Ok(root)
    });
    patched.unwrap();
    h.core.cancel(h.now, &id, false).unwrap();
    h.flush();
    h.run();
    assert_eq!(h.specs("/prod/a")[0].cmd.as_deref(), Some("run"));
    let group = &h.core.root.groups[&prod];
    assert_eq!(group.enforce_role, Some(true));
    assert!(group.dependencies.contains(&PathId::from("/other")));
}

#[test]
fn service_ports_are_given_once_and_kept() {
    let mut h = Harness::new();
    let ports = json!({"portDefinitions": [{"port": 0}, {"port": 0}]});
    h.put(app("/a", &ports));
    h.put(app("/b", &ports));
    let of = |h: &Harness, id: &str| h.core.root.app(&id.into()).unwrap().service_ports();
    assert_eq!(
        (of(&h, "/a"), of(&h, "/b")),
        (vec![10_000, 10_001], vec![10_002, 10_003])
    );
    let mut changed = ports.clone();
    changed["cmd"] = json!("run other");
    h.try_change(true, |root| {
        root.put_app(app("/a", &changed), root.version, false)
    })
    .unwrap();
    assert_eq!(of(&h, "/a"), [10_000, 10_001]);
    // What an app gives back is free again, what another says itself is not, also after a restart.
    h.put(app("/c", &json!({"portDefinitions": [{"port": 10_004}]})));
    h.try_change(true, |root| drop(root.apps.remove(&PathId::from("/a"))))
        .unwrap();
    h.crash();
    let three = json!({"portDefinitions": [{"port": 0}, {"port": 0}, {"port": 0}]});
    h.put(app("/d", &three));
    assert_eq!(of(&h, "/d"), [10_000, 10_001, 10_005]);
}

#[test]
fn no_group_has_the_name_of_an_app() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({})));
    h.put(app("/g/b", &json!({})));
    for id in ["/a/below", "/g"] {
        let put = |root: &mut RootGroup| root.put_app(app(id, &json!({})), root.version, false);
        let refused = h.try_change(true, put).unwrap_err();
        assert!(matches!(&refused, Error::Invalid(_)), "{id}: {refused}");
    }
}

#[test]
fn earlier_trees_can_be_had_again() {
    let mut h = Harness::new();
    let mut trees = vec![(*h.core.root).clone()];
    for n in 0..5 {
        h.put(app("/g/a", &json!({"instances": n})));
        h.run();
        trees.push((*h.core.root).clone());
    }
    h.delete("/g/a");
    h.run();
    for tree in trees {
        let found = h.core.history.root_at(&h.core.root, tree.version).unwrap();
        assert_eq!(found, tree);
    }
    h.crash();
    assert!(
        h.core
            .history
            .root_at(&h.core.root, Timestamp::from_millis(1))
            .is_none()
    );
    assert_eq!(h.core.history.versions(&"/g/a".into()).len(), 5);
}

#[test]
fn old_versions_are_forgotten_in_the_store_too() {
    let mut h = Harness::new();
    for n in 0..170_u32 {
        h.put(app(
            "/a",
            &json!({"instances": 0, "cmd": format!("run {n}")}),
        ));
        h.run();
    }
    assert!(h.core.history.versions(&"/a".into()).len() <= 110);
    let specs = h.rows.keys().filter(|key| key.contains("/spec/")).count();
    assert_eq!(specs, h.core.history.versions(&"/a".into()).len());
    h.crash();
}

#[test]
fn a_restart_replaces_what_is_the_same() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 2})));
    h.run();
    let before = h.tasks("/a");
    h.change(|root| {
        let app = root
            .apps
            .get_mut(&PathId::from("/a"))
            .map(Arc::make_mut)
            .unwrap();
        (app.version, app.version_info) = (RESTART, None);
    });
    h.run();
    assert!(h.tasks("/a").is_disjoint(&before));
    let same = h.core.root.version;
    h.put(app("/a", &json!({"instances": 2})));
    assert!(
        h.idle() && h.core.root.version > same,
        "nothing to do for nothing new"
    );
}

#[test]
fn costs_grow_with_the_change() {
    // Without a clock that could be slow on a busy machine: a change of one app among many writes as
    // many rows as among few.
    let rows_of_one_change = |apps: u32| {
        let mut h = Harness::new();
        for n in 0..apps {
            h.put(app(&format!("/g{n}/a"), &json!({})));
            h.run();
        }
        h.core
            .change(h.now, false, &Kill::new(), |scope| {
                let mut root = scope.copy();
                root.put_app(
                    app("/g0/a", &json!({"cmd": "run new"})),
                    root.version,
                    false,
                );
                Ok(root)
            })
            .unwrap();
        h.core.take(h.now).rows.len()
    };
    assert_eq!(rows_of_one_change(2), rows_of_one_change(40));
}

/// An app with one check that kills nothing, or kills soon.
fn checked(instances: u32, failures: u32) -> App {
    let check = json!([{"protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 0,
        "maxConsecutiveFailures": failures}]);
    let fields = json!({"instances": instances, "healthChecks": check});
    app("/a", &fields)
}

fn ids(h: &Harness) -> BTreeSet<InstanceId> {
    h.core.all_instances().map(|one| one.id.clone()).collect()
}

#[test]
fn scaling_waits_for_no_instance_it_did_not_launch() {
    for (to, crash) in [(3, false), (3, true), (1, false)] {
        let mut h = Harness::new();
        h.put(checked(2, 0));
        h.run();
        h.probe_all(&Ok(()));
        h.run();
        assert!(h.idle());
        let before = ids(&h);
        h.probe(before.first().unwrap(), &Err("refused".into()));
        h.run();
        assert_eq!(h.running("/a"), 2, "sick, and not killed for it");
        h.scale("/a", to);
        h.run();
        if to > 2 {
            assert!(!h.idle(), "what was launched is not known to be well");
            if crash {
                h.crash();
                h.run();
            }
            let new: Vec<_> = ids(&h).difference(&before).cloned().collect();
            assert_eq!(new.len(), 1);
            assert!(!h.idle());
            h.probe(&new[0], &Ok(()));
        }
        assert!(h.idle(), "to {to}, crash: {crash}");
        assert_eq!(h.running("/a"), to as usize);
    }
}

#[test]
fn scaling_needs_no_more_ready_ones_than_it_adds() {
    let mut h = Harness::new();
    h.put(checked(2, 1));
    h.run();
    h.probe_all(&Ok(()));
    h.run();
    let before = ids(&h);
    h.scale("/a", 3);
    h.run();
    let added: Vec<_> = ids(&h).difference(&before).cloned().collect();
    h.probe(before.first().unwrap(), &Err("refused".into()));
    h.run();
    assert_eq!((h.launched("/a"), h.running("/a")), (4, 3));
    assert!(
        !h.idle(),
        "neither that added nor the one in the sick one's place is well"
    );
    h.probe(&added[0], &Ok(()));
    assert!(h.idle());
}

#[test]
fn scaling_waits_for_no_agent_out_of_reach() {
    let mut h = Harness::new();
    let fields = json!({"unreachableStrategy": "disabled", "instances": 2});
    h.put(app("/a", &fields));
    h.run();
    h.lose_one();
    h.scale("/a", 4);
    h.run();
    assert!(h.idle());
    assert_eq!(h.running("/a"), 3);
}

#[test]
fn a_scale_by_force_ends_the_upgrade_it_finds_half_way() {
    for (crash, kill) in [(false, false), (true, false), (false, true)] {
        let mut h = Harness::new();
        let fields = json!({"instances": 3,
            "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 0.4}});
        let with = |cmd: &str| {
            let mut fields = fields.clone();
            fields["cmd"] = json!(cmd);
            app("/a", &fields)
        };
        h.put(with("one"));
        h.run();
        h.put(with("two"));
        while h.launched("/a") < 4 {
            assert!(!h.run_for(1));
        }
        assert!(!h.is_up_to_date("/a"));
        let wanted = if kill { 2 } else { 4 };
        if kill {
            let newest = h.core.all_instances().max_by_key(|one| one.staged_at);
            let named = BTreeSet::from([newest.unwrap().id.clone()]);
            let kill = Kill::from([(PathId::from("/a"), named.clone())]);
            h.core.kill_and_scale(h.now, &kill, true).unwrap();
            h.flush();
            let going = h.core.all_instances().find(|one| named.contains(&one.id));
            assert!(going.is_none_or(|one| one.is_leaving()));
        } else {
            let scaled = h.try_change(true, |root| {
                let app = root.apps.get_mut(&PathId::from("/a")).map(Arc::make_mut);
                let app = app.unwrap();
                (app.instances, app.version_info) = (4, None);
            });
            assert_eq!(scaled.unwrap().steps[0][0].name(), "RestartApplication");
        }
        if crash {
            h.crash();
        }
        h.run();
        assert!(h.idle());
        assert_eq!(h.running("/a"), wanted);
        assert!(h.is_up_to_date("/a"), "crash: {crash}, kill: {kill}");
    }
}

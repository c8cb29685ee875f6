//! What deployments wait for, and what becomes of those that wait too long.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::*;
use super::harness::{Harness, app};

fn waits(h: &Harness, id: &str) -> Vec<Value> {
    let now = Timestamp::from(h.now);
    let all = h.core.view(h.now).waiting_for(&id.into(), now);
    all.iter().map(|each| each.to_json(now)).collect()
}

fn what(h: &Harness, id: &str) -> Vec<(String, u64)> {
    let each = |each: &Value| {
        let what = each["what"].as_str().unwrap().to_owned();
        (what, each["count"].as_u64().unwrap())
    };
    waits(h, id).iter().map(each).collect()
}

fn one(name: &str, count: u64) -> Vec<(String, u64)> {
    vec![(name.to_owned(), count)]
}

#[test]
fn a_deployment_names_what_it_waits_for() {
    let mut h = Harness::new();
    let check = json!([{"protocol": "TCP", "portIndex": 0}]);
    let ready = json!([{"portName": "http"}]);
    let ports = json!([{"name": "http", "port": 0}]);
    let lost = json!({"inactiveAfterSeconds": 60, "expungeAfterSeconds": 1000});
    let fields = json!({"instances": 2, "cpus": 0.3, "backoffSeconds": 10, "healthChecks": check, "unreachableStrategy": lost,
        "readinessChecks": ready, "portDefinitions": ports});
    h.put(app("/a", &fields));
    assert_eq!(what(&h, "/a"), one("offers", 2));
    h.offer();
    assert_eq!(
        what(&h, "/a"),
        [("offers".to_owned(), 1), ("start".to_owned(), 1)]
    );
    h.offer();
    assert_eq!(what(&h, "/a"), one("start", 2));
    h.find_all();
    assert_eq!(what(&h, "/a"), one("health", 2));
    h.probe_all(&Ok(()));
    assert_eq!(what(&h, "/a"), one("readiness", 2));
    h.admit_all();
    h.flush();
    assert_eq!(what(&h, "/a"), []);
    assert!(h.idle());
    h.lose_all();
    assert_eq!(what(&h, "/a"), one("agents", 2));
    assert_eq!(waits(&h, "/a")[0]["hosts"], json!(["host"]));
    h.fail_all();
    assert_eq!(what(&h, "/a"), one("backoff", 2));
    assert!(waits(&h, "/a")[0]["timeLeftSeconds"].as_u64().unwrap() > 0);
    h.pass(3000);
    h.core.handle(h.now, Input::Disconnected);
    h.flush();
    assert_eq!(what(&h, "/a"), one("master", 2));
}

#[test]
fn offers_that_do_not_suit_are_told_with_their_reasons() {
    let mut h = Harness::new();
    h.put(app(
        "/a",
        &json!({"mem": 5000, "constraints": [["hostname", "LIKE", "host"]]}),
    ));
    h.offer();
    h.offer();
    let told = waits(&h, "/a");
    let refused = json!([{"reason": "InsufficientMemory", "agents": 1}]);
    assert_eq!((told.len(), &told[0]["refused"]), (1, &refused), "{told:?}");
    assert_eq!(
        told[0]["constraints"],
        json!([["hostname", "LIKE", "host"]])
    );
}

#[test]
fn instances_that_have_to_go_are_waited_for() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 3})));
    h.run();
    h.deaf = true;
    h.scale("/a", 1);
    assert_eq!(what(&h, "/a"), one("kills", 2));
    assert_eq!(waits(&h, "/a")[0]["instances"].as_array().unwrap().len(), 2);
    h.delete_by_force("/a");
    assert_eq!(what(&h, "/a"), one("kills", 3));
}

fn limited(h: &mut Harness, then: Overdue) -> String {
    let id = h.deployments()[0].clone();
    let limit = Limit::within(h.now.into(), Duration::from_secs(60), then);
    assert!(h.core.limit(&id, limit));
    h.flush();
    id
}

#[test]
fn what_waits_too_long_is_stopped_whatever_crashes() {
    for crash in [false, true] {
        let mut h = Harness::new();
        h.put(app("/a", &json!({"instances": 2})));
        h.run();
        h.put(app("/a", &json!({"instances": 2, "mem": 5000})));
        let id = limited(&mut h, Overdue::Stop);
        if crash {
            h.crash();
        }
        h.pass(40);
        assert_eq!(h.deployments(), [id]);
        let next = h.core.next_deadline(h.now).unwrap();
        assert!(next <= h.now + Duration::from_secs(20), "it wakes for it");
        h.pass(21);
        assert!(h.idle() && h.heard("deployment_failed"));
        let wanted = h.core.root.app(&"/a".into()).unwrap();
        assert!((wanted.mem - 5000.0).abs() < 1.0, "it is wanted still");
    }
}

#[test]
fn what_waits_too_long_is_taken_back_whatever_crashes() {
    for crash in [false, true] {
        let mut h = Harness::new();
        h.put(app("/a", &json!({"instances": 2})));
        h.run();
        let (before, version) = (
            h.tasks("/a"),
            h.core.root.app(&"/a".into()).unwrap().version,
        );
        h.put(app("/a", &json!({"instances": 2, "mem": 5000})));
        limited(&mut h, Overdue::Rollback);
        if crash {
            h.crash();
        }
        h.pass(61);
        h.run();
        assert!(h.idle() && h.heard("deployment_failed"));
        assert_eq!(h.core.root.app(&"/a".into()).unwrap().version, version);
        assert_eq!(h.tasks("/a"), before);
    }
}

#[test]
fn what_ends_in_time_is_left_alone() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 2})));
    let id = limited(&mut h, Overdue::Rollback);
    h.run();
    assert!(h.idle());
    h.pass(100);
    assert_eq!((h.running("/a"), h.heard("deployment_failed")), (2, false));
    let limit = Limit::within(h.now.into(), Duration::ZERO, Overdue::Stop);
    assert!(!h.core.limit(&id, limit));
}

#[test]
fn a_kill_that_was_promised_survives_a_crash() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"instances": 2})));
    h.run();
    let before = h.tasks("/a");
    let victim = h.core.instances_of(&"/a".into()).next().unwrap();
    let (id, task) = (victim.id.clone(), victim.task_id.clone());
    // The kill is accepted, and never gets anywhere.
    h.deaf = true;
    h.core.kill(h.now, &[id].into());
    h.flush();
    h.deaf = false;
    h.crash();
    h.run();
    let after = h.tasks("/a");
    assert_eq!(after.len(), 2);
    assert!(!after.contains(&task), "it was killed and replaced");
    assert_eq!(
        after.intersection(&before).count(),
        1,
        "the other one was not"
    );
    h.crash();
    h.run();
    assert_eq!(h.tasks("/a"), after, "the next one is not meant");
}

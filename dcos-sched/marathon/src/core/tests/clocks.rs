//! Lives whose clock is behind that of the one before: nothing is done too early for it, and nothing waits until it has
//! caught up.

use std::time::Duration;

use serde_json::json;

use super::super::*;
use super::harness::{Harness, app};
use crate::instance::Condition;
use crate::model::App;

const BACK: Duration = Duration::from_hours(3);

/// An app with one check of Marathon's own.
fn checked(fields: &serde_json::Value) -> App {
    let check = json!([{"protocol": "TCP", "portIndex": 0, "gracePeriodSeconds": 10, "maxConsecutiveFailures": 1}]);
    let mut all = json!({"healthChecks": check});
    let known = all.as_object_mut().unwrap();
    known.extend(fields.as_object().unwrap().clone());
    app("/a", &all)
}

#[test]
fn a_scaling_that_is_taken_back_waits_for_what_it_launches() {
    for back in [Duration::ZERO, BACK] {
        let mut h = Harness::new();
        h.put(checked(&json!({"instances": 3})));
        h.run();
        h.probe_all(&Ok(()));
        assert!(h.idle());
        h.deaf = true;
        h.scale("/a", 1);
        let [id] = h.deployments().try_into().unwrap();
        h.deaf = false;
        h.crash_back(back);
        h.core.cancel(h.now, &id, false).unwrap();
        h.run();
        assert_eq!((h.running("/a"), h.launched("/a")), (3, 5));
        assert!(!h.idle(), "nobody knows whether they are well");
        h.crash();
        h.run();
        assert!(!h.idle());
        h.probe_all(&Ok(()));
        assert!(h.idle(), "back by {back:?}");
    }
}

#[test]
fn agents_out_of_reach_are_given_up_in_time() {
    let mut h = Harness::new();
    let strategy = json!({"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120});
    h.put(app("/a", &json!({"unreachableStrategy": strategy})));
    h.run();
    h.lose_all();
    h.crash_back(BACK);
    h.lose_statuses();
    h.pass(59);
    assert_eq!(h.condition("/a"), Some(Condition::Unreachable));
    h.pass(2);
    assert_eq!(h.condition("/a"), Some(Condition::UnreachableInactive));
}

#[test]
fn launches_are_asked_about_and_given_up_in_time() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({})));
    h.offer();
    let before = h.tasks("/a");
    h.crash_back(BACK);
    h.lose_statuses();
    let next = h.core.next_deadline(h.now).unwrap();
    assert!(next <= h.now + Duration::from_secs(1), "it is in doubt");
    h.pass(299);
    assert_eq!(h.tasks("/a"), before);
    h.pass(2);
    assert!(h.tasks("/a").is_disjoint(&before));
}

#[test]
fn failures_count_once_the_grace_period_is_over() {
    let mut h = Harness::new();
    h.put(checked(&json!({})));
    h.run();
    h.crash_back(BACK);
    h.run();
    let before = h.tasks("/a");
    h.probe_all(&Err("refused".into()));
    h.run();
    assert_eq!(h.tasks("/a"), before, "it may need its time again");
    h.pass(11);
    h.probe_all(&Err("refused".into()));
    h.run();
    assert!(h.tasks("/a").is_disjoint(&before));
}

#[test]
fn the_youngest_is_the_one_that_came_last() {
    for (selection, goes) in [("YOUNGEST_FIRST", true), ("OLDEST_FIRST", false)] {
        let mut h = Harness::new();
        let fields = json!({"instances": 1, "killSelection": selection});
        h.put(app("/a", &fields));
        h.run();
        h.scale("/a", 2);
        h.run();
        h.crash_back(BACK);
        h.run();
        let before = h.tasks("/a");
        h.scale("/a", 3);
        h.run();
        let mut new = h.tasks("/a");
        new.retain(|task| !before.contains(task));
        h.scale("/a", 2);
        h.run();
        assert_eq!(new.is_disjoint(&h.tasks("/a")), goes, "{selection}");
    }
}

#[test]
fn a_deployment_ends_by_its_deadline() {
    let mut h = Harness::new();
    h.put(app("/a", &json!({"mem": 5000})));
    let [id] = h.deployments().try_into().unwrap();
    let limit = Limit::within(h.now.into(), Duration::from_secs(60), Overdue::Stop);
    assert!(h.core.limit(&id, limit));
    h.flush();
    h.crash_back(BACK);
    h.pass(59);
    assert!(!h.idle());
    h.pass(2);
    assert!(h.idle());
}

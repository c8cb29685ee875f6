//! Waiting and its reasons.

use serde_json::json;

use super::*;
use crate::matching::Reason;

fn app(config: i64) -> Arc<App> {
    let mut app: App = serde_json::from_value(json!({
        "id": "/a", "cmd": "run", "backoffSeconds": 1, "backoffFactor": 2.0,
        "maxLaunchDelaySeconds": 5,
    }))
    .unwrap();
    app.version = Timestamp::from_millis(config);
    Arc::new(app)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

#[test]
fn delays_grow_to_the_longest_and_belong_to_a_configuration() {
    let (spec, mut queue) = (app(1), LaunchQueue::default());
    let mut now = at(100);
    for expected in [1, 2, 4, 5, 5] {
        queue.backoff().grow(now, &spec);
        let until = queue.held_until(&spec, now).unwrap();
        assert_eq!(until.since(now).as_secs(), expected);
        now = until;
        assert_eq!(queue.held_until(&spec, now), None);
    }
    assert_eq!(queue.held_until(&app(2), at(100)), None);
    queue.backoff().grow(at(1000), &spec);
    let until = queue.held_until(&spec, at(1000)).unwrap();
    assert_eq!(until, at(1001), "quiet for so long, it starts anew");
    queue.backoff().reset(&spec.id);
    assert_eq!(queue.held_until(&spec, at(1000)), None);
}

#[test]
fn delays_that_are_over_are_forgotten() {
    let (spec, mut queue) = (app(1), LaunchQueue::default());
    queue.backoff().grow(at(100), &spec);
    queue.backoff().sweep(at(105));
    assert_eq!(
        queue.backoff().apps().count(),
        1,
        "it grows from where it is"
    );
    queue.backoff().sweep(at(106));
    assert_eq!(queue.backoff().apps().count(), 1, "looked for a second ago");
    queue.backoff().sweep(at(165));
    assert_eq!(queue.backoff().apps().count(), 0);
}

#[test]
fn entries_wait_for_their_delay() {
    let (spec, mut queue) = (app(1), LaunchQueue::default());
    assert!(queue.want(at(0), &spec, 2));
    assert!(!queue.want(at(1), &spec, 2));
    assert_eq!(queue.due(at(1)).len(), 1);
    queue.backoff().grow(at(1), &spec);
    assert!(queue.due(at(1)).is_empty());
    assert_eq!(queue.next_due(at(1)), Some(at(2)));
    assert_eq!(queue.entry(&spec.id).unwrap().since, at(0));
    queue.launched(at(2), &spec.id);
    assert_eq!(queue.entry(&spec.id).unwrap().count, 1);
    queue.launched(at(2), &spec.id);
    assert!(queue.entry(&spec.id).is_none());
}

#[test]
fn each_offer_counts_at_its_first_reason() {
    let (spec, mut queue) = (app(1), LaunchQueue::default());
    queue.want(at(0), &spec, 1);
    for (agent, reasons) in [
        (
            "a",
            vec![Reason::InsufficientCpus, Reason::InsufficientMemory],
        ),
        ("a", vec![Reason::InsufficientMemory]),
        ("b", vec![Reason::UnfulfilledRole]),
    ] {
        let offer = Arc::new(Offer {
            agent_id: agent.into(),
            ..Offer::default()
        });
        queue.refused(at(1), &spec.id, &offer, reasons.into_iter().collect());
    }
    let summary = &queue.entry(&spec.id).unwrap().summary;
    let found = |steps: Vec<(Reason, u64, u64)>, reason| {
        steps
            .into_iter()
            .find(|step| step.0 == reason)
            .map(|step| (step.1, step.2))
            .unwrap()
    };
    assert_eq!((summary.processed, summary.unused), (3, 3));
    assert_eq!(found(summary.attempt(), Reason::UnfulfilledRole), (1, 3));
    assert_eq!(found(summary.attempt(), Reason::InsufficientCpus), (1, 2));
    assert_eq!(
        found(summary.last_offers(), Reason::InsufficientCpus),
        (0, 1)
    );
    assert_eq!(
        found(summary.last_offers(), Reason::InsufficientMemory),
        (1, 1)
    );
}

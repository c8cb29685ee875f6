//! Why nothing is offered, and why it would not be enough.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_proto::mesos::FrameworkId;
use dcos_security::{Acls, Principal};

use super::{Action, Input, World, framework};
use crate::master::Reader;
use crate::why::{Explanation, Explanations, Wish};

const PID: &str = "slave(1)@10.0.0.1:5051";
const OTHER: &str = "slave(1)@10.0.0.2:5051";

/// What the master says to one framework with one role.
fn ask(world: &mut World, id: &FrameworkId, resources: &str, conditions: &str) -> Explanation {
    let input = Input::Explain {
        request: 7,
        framework_id: Some(id.clone()),
        role: None,
        wish: Some(Wish::parse(resources, conditions).unwrap()),
        reader: Reader::Inside,
    };
    let mut answers = told(world, input).explanations;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn told(world: &mut World, input: Input) -> Explanations {
    world.master.handle(world.now, input);
    let mut answer = None;
    while let Some(action) = world.master.poll() {
        if let Action::Explained { answer: said, .. } = action {
            answer = Some(serde_json::from_value(said).unwrap());
        }
    }
    answer.unwrap()
}

/// What a caller hears who asks about everything.
fn all(world: &mut World, who: &str) -> Explanations {
    let input = Input::Explain {
        request: 7,
        framework_id: None,
        role: None,
        wish: Some(Wish::parse("cpus:2;mem:1024", "").unwrap()),
        reader: Reader::Caller(Some(Principal::new(who))),
    };
    told(world, input)
}

#[test]
fn a_caller_hears_of_what_it_may_see() {
    let acls: Acls = r#"{
        "view_frameworks": [
            {"principals": {"values": ["guest"]}, "users": {"values": ["nobody"]}},
            {"principals": {"values": ["guest"]}, "users": {"type": "NONE"}}],
        "view_roles": [
            {"principals": {"values": ["guest"]}, "roles": {"values": ["open"]}},
            {"principals": {"values": ["guest"]}, "roles": {"type": "NONE"}}]}"#
        .parse()
        .unwrap();
    let mut world = World::with(BTreeMap::new(), 1, |settings| {
        settings.security.authorizer = Arc::new(acls);
    });
    let mut secret = framework("secret");
    (secret.user, secret.role) = ("root".to_owned(), Some("closed".to_owned()));
    let secret = world.subscribe(secret);
    world.agent(PID, "cpus:4;mem:1024");
    // The secret one holds it all.
    let offers = world.offers(&secret);
    assert_eq!(offers.len(), 1);
    let mut open = framework("open");
    open.role = Some("open".to_owned());
    world.subscribe(open);

    let said = all(&mut world, "guest").explanations;
    let named: Vec<_> = said
        .iter()
        .map(|it| (&*it.framework_name, &*it.role))
        .collect();
    assert_eq!(named, [("open", "open")]);
    let reason = &said[0].not_offered[0].reason;
    assert!(reason.ends_with("held by (hidden)"), "{reason}");
    let said = all(&mut world, "admin").explanations;
    assert_eq!(said.len(), 2);
    let texts: Vec<_> = said.iter().map(Explanation::sentence).collect();
    assert!(
        texts.iter().any(|text| text.ends_with("held by secret")),
        "{texts:?}"
    );
}

#[test]
fn one_question_is_answered_for_a_bounded_number_of_agents() {
    let mut world = World::new();
    for number in 0..30 {
        world.subscribe(framework(&format!("f{number}")));
    }
    for number in 0..1_200 {
        world.agent(
            &format!("slave(1)@10.{}.{}.1:5051", number / 200, number % 200),
            "cpus:1",
        );
    }
    let said = all(&mut world, "anybody");
    assert_eq!((said.explanations.len(), said.left_out), (16, 14));
    for explanation in &said.explanations {
        let counted: usize = explanation.summary.iter().map(|group| group.count).sum();
        assert_eq!((counted, explanation.not_offered.len()), (1_200, 1_000));
    }
}

#[test]
fn a_wish_hears_what_is_too_small_held_and_refused() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    world.agent(PID, "cpus:4;mem:512");
    world.agent(OTHER, "cpus:4;mem:2048");
    let said = ask(&mut world, &one.id, "cpus:1;mem:4096", "");
    assert_eq!(
        said.sentence(),
        "2 agents: not enough mem (has 2048, wish 4096)"
    );
    assert_eq!(said.summary[0].kind, "too_small");
    let said = ask(&mut world, &one.id, "cpus:1;mem:1024", "");
    let kinds: Vec<&str> = said.not_offered.iter().map(|it| &*it.kind).collect();
    assert!(kinds.contains(&"too_small"), "{said:?}");

    // It is offered all, and declines.
    let offers = world.offers(&one);
    assert_eq!(offers.len(), 2);
    let said = ask(&mut world, &one.id, "cpus:1;mem:64", "");
    assert_eq!(said.summary[0].kind, "offered");
    let said = ask(&mut world, &one.id, "cpus:1;mem:64", "rack=a");
    assert_eq!(said.summary[0].kind, "excluded");

    // What another task uses is held by whom it belongs to.
    let offer = offers.iter().find(|offer| {
        let mut resources = offer.resources.iter();
        resources.any(|it| it.scalar.as_ref().is_some_and(|it| it.value > 2000.0))
    });
    let task = super::task("t", &offer.unwrap().agent_id, "cpus:3;mem:1600");
    world.accept(&one, offer.unwrap(), vec![task]);
    let said = ask(&mut world, &one.id, "cpus:2;mem:1024", "");
    let held = said.not_offered.iter().find(|it| it.kind == "held");
    assert_eq!(
        held.unwrap().reason,
        "not enough cpus (has free 1, wish 2), not enough mem (has free 448, wish 1024); \
         the rest is held by one"
    );
}

#[test]
fn a_declined_offer_says_for_how_long() {
    let mut world = World::new();
    let one = world.subscribe(framework("one"));
    world.agent(PID, "cpus:4;mem:512");
    let offers = world.offers(&one);
    let decline = dcos_proto::scheduler::call::Decline {
        offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
        filters: Some(dcos_proto::mesos::Filters {
            refuse_seconds: Some(100.0),
        }),
    };
    world.call(
        &one,
        dcos_proto::scheduler::Call {
            r#type: Some(dcos_proto::scheduler::call::Type::Decline.into()),
            decline: Some(decline),
            ..dcos_proto::scheduler::Call::default()
        },
    );
    let said = ask(&mut world, &one.id, "cpus:1", "");
    assert_eq!(said.summary[0].kind, "filtered");
    assert!(
        said.sentence()
            .starts_with("1 agent: filtered by the framework's decline for another 10"),
        "{}",
        said.sentence()
    );
}

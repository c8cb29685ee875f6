//! Why nothing is offered, and why it would not be enough.

use dcos_proto::mesos::FrameworkId;

use super::{Action, Input, World, framework};
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
    };
    world.master.handle(world.now, input);
    let mut answers = Vec::new();
    while let Some(action) = world.master.poll() {
        if let Action::Explained { answer, .. } = action {
            let said: Explanations = serde_json::from_value(answer).unwrap();
            answers.extend(said.explanations);
        }
    }
    assert_eq!(answers.len(), 1);
    answers.remove(0)
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

//! Who may speak and do what: authentication of drivers and agents, authorization, rate limits.

use std::sync::Arc;
use std::time::Duration;

use dcos_proto::internal::{
    AuthenticateMessage, AuthenticationCompletedMessage, AuthenticationErrorMessage,
    AuthenticationFailedMessage, AuthenticationMechanismsMessage, AuthenticationStartMessage,
    AuthenticationStepMessage, FrameworkErrorMessage, FrameworkRegisteredMessage,
    RegisterSlaveMessage, SlaveRegisteredMessage, UnregisterFrameworkMessage,
};
use dcos_proto::master as operator;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{FrameworkInfo, TaskState, WeightInfo};
use dcos_proto::scheduler::{Call, call};
use dcos_security::cram_md5::{Client, Step};
use dcos_security::{Acls, Credential, RateLimits};

use super::super::{Input, Reply};
use super::{Settings, World, agent_capabilities, agent_info, framework};

const AGENT: &str = "slave(1)@10.0.0.1:5051";
const DRIVER: &str = "scheduler-1@10.0.0.9:40000";
const SPEAKER: &str = "crammd5-authenticatee(1)@10.0.0.9:40000";
const ALL: &str = "cpus:4;mem:1024";

fn world(change: impl FnOnce(&mut Settings)) -> World {
    World::with(std::collections::BTreeMap::new(), 1, change)
}

fn guarded() -> World {
    world(|settings| {
        let known = [
            Credential::new("ops", "secret"),
            Credential::new("node", "n"),
        ];
        settings.security.credentials = Some(known.into_iter().collect());
        settings.security.authenticate_frameworks = true;
        settings.security.authenticate_agents = true;
    })
}

fn with_acls(acls: &str) -> World {
    let acls: Acls = acls.parse().unwrap();
    world(|settings| settings.security.authorizer = Arc::new(acls))
}

fn subscribe(world: &mut World, pid: &str, framework_info: FrameworkInfo) {
    let call = Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe {
            framework_info,
            ..call::Subscribe::default()
        }),
        ..Call::default()
    };
    world.send(pid, &call);
}

/// Begins a session and answers the challenge with `secret`.
fn authenticate(world: &mut World, speaker: &str, client: &str, who: &str, secret: &str) {
    let pid = client.to_owned();
    world.send(speaker, &AuthenticateMessage { pid });
    let offered: Vec<AuthenticationMechanismsMessage> = world.received(speaker);
    let mut proof = Client::new(Credential::new(who, secret));
    let Step::Start { mechanism } = proof.mechanisms(&offered[0].mechanisms) else {
        panic!("CRAM-MD5 is offered");
    };
    let data = None;
    world.send(speaker, &AuthenticationStartMessage { mechanism, data });
    let challenge: Vec<AuthenticationStepMessage> = world.received(speaker);
    let Step::Answer(data) = proof.step(&challenge[0].data) else {
        panic!("a challenge is answered");
    };
    world.send(speaker, &AuthenticationStepMessage { data });
}

fn error_of(world: &mut World) -> String {
    let errors: Vec<FrameworkErrorMessage> = world.received(DRIVER);
    errors[0].message.clone()
}

#[test]
fn a_driver_that_proves_itself_subscribes() {
    let mut world = guarded();
    subscribe(&mut world, DRIVER, framework("v0"));
    let expected = format!("Framework at {DRIVER} is not authenticated");
    assert_eq!(error_of(&mut world), expected);
    authenticate(&mut world, SPEAKER, DRIVER, "ops", "secret");
    let done: Vec<AuthenticationCompletedMessage> = world.received(SPEAKER);
    assert_eq!(done.len(), 1);
    subscribe(&mut world, DRIVER, framework("v0"));
    let registered: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    let known = &world.master.frameworks[&registered[0].framework_id];
    assert_eq!(known.info.principal.as_deref(), Some("ops"));
}

/// Whoever gets its address next has proved nothing.
#[test]
fn what_a_driver_proved_ends_with_it() {
    let mut world = guarded();
    authenticate(&mut world, SPEAKER, DRIVER, "ops", "secret");
    subscribe(&mut world, DRIVER, framework("v0"));
    let registered: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    let framework_id = registered[0].framework_id.clone();
    world.send(DRIVER, &UnregisterFrameworkMessage { framework_id });
    world.handle(Input::Exited { pid: DRIVER.into() });
    let _: Vec<FrameworkErrorMessage> = world.received(DRIVER);
    subscribe(&mut world, DRIVER, framework("v0"));
    assert!(error_of(&mut world).ends_with("is not authenticated"));
}

#[test]
fn a_driver_with_another_name_or_secret_does_not() {
    let mut world = guarded();
    authenticate(&mut world, SPEAKER, DRIVER, "ops", "guess");
    let failed: Vec<AuthenticationFailedMessage> = world.received(SPEAKER);
    assert_eq!(failed.len(), 1);
    subscribe(&mut world, DRIVER, framework("v0"));
    assert!(error_of(&mut world).ends_with("is not authenticated"));
    authenticate(&mut world, SPEAKER, DRIVER, "ops", "secret");
    let mut info = framework("v0");
    info.principal = Some("root".to_owned());
    subscribe(&mut world, DRIVER, info);
    assert_eq!(
        error_of(&mut world),
        "Framework principal 'root' does not match authenticated principal 'ops'"
    );
}

#[test]
fn what_comes_during_a_session_waits_for_its_end() {
    let mut world = guarded();
    let pid = DRIVER.to_owned();
    world.send(SPEAKER, &AuthenticateMessage { pid });
    subscribe(&mut world, DRIVER, framework("v0"));
    let errors: Vec<FrameworkErrorMessage> = world.received(DRIVER);
    assert!(errors.is_empty(), "it waits");
    // A second session takes the place of the first, and what waits.
    authenticate(&mut world, SPEAKER, DRIVER, "ops", "secret");
    let registered: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    assert_eq!(registered.len(), 1);
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    let mut world = guarded();
    let pid = DRIVER.to_owned();
    world.send(SPEAKER, &AuthenticateMessage { pid });
    subscribe(&mut world, DRIVER, framework("v0"));
    world.pass(Duration::from_secs(16));
    assert!(error_of(&mut world).ends_with("is not authenticated"));
    let data = vec![1];
    world.send(SPEAKER, &AuthenticationStepMessage { data });
    let errors: Vec<AuthenticationErrorMessage> = world.received(SPEAKER);
    assert_eq!(errors.len(), 1, "its steps come too late");
}

#[test]
fn nobody_speaks_for_another_address() {
    let mut world = guarded();
    let pid = "scheduler-1@10.0.0.8:1".to_owned();
    world.send(SPEAKER, &AuthenticateMessage { pid });
    let errors: Vec<AuthenticationErrorMessage> = world.received(SPEAKER);
    assert!(errors[0].error().contains("own address"));
    let mut open = World::new();
    let pid = DRIVER.to_owned();
    open.send(SPEAKER, &AuthenticateMessage { pid });
    let errors: Vec<AuthenticationErrorMessage> = open.received(SPEAKER);
    assert_eq!(errors[0].error(), "No authenticator loaded");
}

#[test]
fn whoever_was_away_proves_itself_again() {
    let mut world = guarded();
    authenticate(&mut world, SPEAKER, DRIVER, "ops", "secret");
    subscribe(&mut world, DRIVER, framework("v0"));
    let pid = DRIVER.to_owned();
    world.handle(Input::Exited { pid });
    assert_eq!(error_of(&mut world), "Framework disconnected");
    subscribe(&mut world, DRIVER, framework("v0"));
    assert!(error_of(&mut world).ends_with("is not authenticated"));
    authenticate(&mut world, AGENT, AGENT, "node", "n");
    assert_eq!(register(&mut world), 1);
    let pid = || AGENT.to_owned();
    world.handle(Input::Exited { pid: pid() });
    assert_eq!(register(&mut world), 0);
    // It is away already: what it proves now holds.
    authenticate(&mut world, AGENT, AGENT, "node", "n");
    world.handle(Input::Exited { pid: pid() });
    assert_eq!(register(&mut world), 1);
}

/// Its connection breaks between the proof and what it is for. It does not know, and would ask in vain for ever.
#[test]
fn whoever_has_yet_to_register_need_not_prove_itself_again() {
    let mut world = guarded();
    for speaker in [AGENT, SPEAKER] {
        let (client, who, secret) = if speaker == AGENT {
            (AGENT, "node", "n")
        } else {
            (DRIVER, "ops", "secret")
        };
        authenticate(&mut world, speaker, client, who, secret);
        for pid in [client, speaker] {
            let pid = pid.to_owned();
            world.handle(Input::Exited { pid });
        }
    }
    assert_eq!(register(&mut world), 1);
    subscribe(&mut world, DRIVER, framework("v0"));
    let registered: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    assert_eq!(registered.len(), 1);
}

fn register(world: &mut World) -> usize {
    let message = RegisterSlaveMessage {
        agent: agent_info(ALL),
        version: Some("1.11.0".to_owned()),
        agent_capabilities: agent_capabilities(),
        ..RegisterSlaveMessage::default()
    };
    world.send(AGENT, &message);
    world.received::<SlaveRegisteredMessage>(AGENT).len()
}

#[test]
fn agents_prove_themselves_too() {
    let mut world = guarded();
    assert_eq!(register(&mut world), 0, "and hear nothing, as from Mesos");
    assert_eq!(world.master.counters.refused_agents, 1);
    authenticate(&mut world, AGENT, AGENT, "node", "n");
    assert_eq!(register(&mut world), 1);
}

#[test]
fn agents_may_be_kept_out_by_rules() {
    let mut world = with_acls(
        r#"{"register_agents": [{"principals": {"type": "NONE"}, "agents": {"type": "ANY"}}]}"#,
    );
    assert_eq!(register(&mut world), 0);
}

const RULES: &str = r#"{"permissive": true,
    "register_frameworks": [{"principals": {"type": "ANY"}, "roles": {"values": ["*", "web"]}},
        {"principals": {"type": "NONE"}, "roles": {"type": "ANY"}}],
    "run_tasks": [{"principals": {"values": ["web"]}, "users": {"values": ["root"]}},
        {"principals": {"type": "NONE"}, "users": {"values": ["root"]}}]}"#;

#[test]
fn roles_are_asked_about() {
    let mut world = with_acls(RULES);
    let mut info = framework("f");
    info.role = Some("db".to_owned());
    let stream = world.try_subscribe(info);
    let error = world.events[&stream][0].error.clone().unwrap().message;
    let expected = "Not authorized to register framework  with roles { db }";
    assert_eq!(error, expected);
}

#[test]
fn blanks_around_a_role_hide_it_from_no_rule() {
    let mut world = with_acls(
        r#"{"update_weights": [{"principals": {"type": "NONE"}, "roles": {"values": ["admin"]}}]}"#,
    );
    for (role, expected) in [("admin", 403), (" admin ", 403)] {
        let info = WeightInfo {
            role: Some(role.to_owned()),
            weight: 9.0,
        };
        let reply = world.order(operator::Call {
            r#type: Some(operator::call::Type::UpdateWeights.into()),
            update_weights: Some(operator::call::UpdateWeights {
                weight_infos: vec![info],
            }),
            ..operator::Call::default()
        });
        assert!(
            matches!(reply, Reply::Refused { status, .. } if status == expected),
            "{role:?}: {reply:?}"
        );
    }
    assert!(world.master.standing.weights.is_empty());
}

#[test]
fn users_are_asked_about() {
    for (principal, allowed) in [(None, false), (Some("web"), true)] {
        let mut world = with_acls(RULES);
        let mut info = framework("f");
        info.user = "root".to_owned();
        info.principal = principal.map(ToOwned::to_owned);
        let one = world.subscribe(info);
        world.agent(AGENT, ALL);
        world.launch(&one, &[("t", "cpus:1;mem:64")]);
        let events = world.take(&one);
        let update = events.iter().find_map(|event| event.update.as_ref());
        let status = update.map(|update| (update.status.state(), update.status.reason()));
        let refused = Some((TaskState::TaskError, Reason::TaskUnauthorized));
        assert_eq!(status, if allowed { None } else { refused });
    }
}

#[test]
fn frameworks_that_speak_too_often_wait_or_are_told() {
    let limits: RateLimits = r#"{"limits": [{"principal": "p", "qps": 1, "capacity": 2}]}"#
        .parse()
        .unwrap();
    let mut world = world(|settings| settings.security.rate_limits = limits);
    let mut info = framework("v0");
    info.principal = Some("p".to_owned());
    subscribe(&mut world, DRIVER, info);
    let registered: Vec<FrameworkRegisteredMessage> = world.received(DRIVER);
    let suppress = Call {
        framework_id: Some(registered[0].framework_id.clone()),
        r#type: Some(call::Type::Suppress.into()),
        ..Call::default()
    };
    let before = world.master.counters.messages_suppress_offers;
    for _ in 0..4 {
        world.send(DRIVER, &suppress);
    }
    let now = world.master.counters.messages_suppress_offers - before;
    assert_eq!(now, 1, "one at once, two wait, the fourth is too much");
    let expected = "Message mesos.scheduler.Call dropped: capacity(2) exceeded";
    assert_eq!(error_of(&mut world), expected);
    world.pass(Duration::from_secs(2));
    let later = world.master.counters.messages_suppress_offers - before;
    assert_eq!(later, 3);
}

#[test]
fn calls_of_http_are_limited_as_well() {
    let limits: RateLimits = r#"{"aggregate_default_qps": 1, "aggregate_default_capacity": 0}"#
        .parse()
        .unwrap();
    let mut world = world(|settings| settings.security.rate_limits = limits);
    let one = world.subscribe(framework("f"));
    let suppress = Call {
        framework_id: Some(one.id.clone()),
        r#type: Some(call::Type::Suppress.into()),
        ..Call::default()
    };
    let first = world.call_on(Some(&one.stream), suppress.clone());
    assert_eq!(first, Reply::Accepted);
    let second = world.call_on(Some(&one.stream), suppress);
    assert!(matches!(second, Reply::Refused { status: 429, .. }));
}

#[test]
fn who_merely_knows_a_framework_takes_none_of_its_capacity() {
    let limits: RateLimits = r#"{"limits": [{"principal": "p", "qps": 1, "capacity": 0}]}"#
        .parse()
        .unwrap();
    let mut world = world(|settings| settings.security.rate_limits = limits);
    let mut info = framework("f");
    info.principal = Some("p".to_owned());
    let one = world.subscribe(info);
    let suppress = Call {
        framework_id: Some(one.id.clone()),
        r#type: Some(call::Type::Suppress.into()),
        ..Call::default()
    };
    for _ in 0..3 {
        let stranger = world.call_on(Some("guessed"), suppress.clone());
        assert!(
            matches!(stranger, Reply::Refused { status: 400, .. }),
            "{stranger:?}"
        );
    }
    let own = world.call_on(Some(&one.stream), suppress.clone());
    assert_eq!(own, Reply::Accepted);
    let second = world.call_on(Some(&one.stream), suppress);
    assert!(matches!(second, Reply::Refused { status: 429, .. }));
}

#[test]
fn whoever_authenticated_may_subscribe_only_so_often() {
    let limits: RateLimits = r#"{"limits": [{"principal": "p", "qps": 1, "capacity": 0}]}"#
        .parse()
        .unwrap();
    let mut world = world(|settings| settings.security.rate_limits = limits);
    let mut try_as = |principal: Option<&str>| {
        let subscribe = Call {
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(call::Subscribe {
                framework_info: framework("f"),
                ..call::Subscribe::default()
            }),
            ..Call::default()
        };
        world.handle(Input::Call {
            request: 1,
            stream_id: None,
            principal: principal.map(ToOwned::to_owned),
            call: Box::new(subscribe),
        });
        world.replies.remove(&1).unwrap()
    };
    for (principal, expected) in [
        (Some("p"), true),
        (Some("p"), false),
        (Some("q"), true),
        (None, true),
    ] {
        let reply = try_as(principal);
        let subscribed = matches!(reply, Reply::Subscribed { .. });
        assert_eq!(subscribed, expected, "{principal:?}: {reply:?}");
    }
}

/// What a SUBSCRIBE of a new framework over HTTP is answered with.
fn try_subscribe(world: &mut World, principal: Option<&str>) -> Option<Reply> {
    let subscribe = Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe {
            framework_info: framework("f"),
            ..call::Subscribe::default()
        }),
        ..Call::default()
    };
    world.handle(Input::Call {
        request: 1,
        stream_id: None,
        principal: principal.map(ToOwned::to_owned),
        call: Box::new(subscribe),
    });
    world.replies.remove(&1)
}

#[test]
fn strangers_subscribe_no_faster_than_the_default_and_take_nothing_of_it() {
    let limits = r#"{"aggregate_default_qps": 1, "aggregate_default_capacity": 1}"#;
    let limits: RateLimits = limits.parse().unwrap();
    let mut world = world(|settings| settings.security.rate_limits = limits);
    assert!(matches!(
        try_subscribe(&mut world, None),
        Some(Reply::Subscribed { .. })
    ));
    assert_eq!(try_subscribe(&mut world, None), None, "it waits");
    assert!(matches!(
        try_subscribe(&mut world, None),
        Some(Reply::Refused { status: 429, .. })
    ));
    // A driver is not told, which would abort it: it tries again.
    let dropped = world.master.counters.dropped_messages;
    subscribe(&mut world, DRIVER, framework("v0"));
    assert!(world.received::<FrameworkErrorMessage>(DRIVER).is_empty());
    assert_eq!(world.master.counters.dropped_messages, dropped + 1);
    // What the known and the default may say is still there.
    assert!(matches!(
        try_subscribe(&mut world, Some("ops")),
        Some(Reply::Subscribed { .. })
    ));
    world.pass(Duration::from_secs(1));
    assert!(world.replies.remove(&1).is_some(), "its turn came");
    world.pass(Duration::from_secs(1));
    subscribe(&mut world, DRIVER, framework("v0"));
    assert_eq!(
        world.received::<FrameworkRegisteredMessage>(DRIVER).len(),
        1
    );
}

#[test]
fn strangers_add_frameworks_up_to_a_bound() {
    let mut world = world(|settings| settings.max_unproved_frameworks = 2);
    let first = world.subscribe(framework("first"));
    subscribe(&mut world, DRIVER, framework("second"));
    assert_eq!(world.master.frameworks.len(), 2);
    let stream = world.try_subscribe(framework("third"));
    let told = format!("{:?}", world.events[&stream]);
    assert!(told.contains("further ones have to authenticate"), "{told}");
    let other = "scheduler-2@10.0.0.9:1";
    subscribe(&mut world, other, framework("fourth"));
    let told: Vec<FrameworkErrorMessage> = world.received(other);
    assert!(told[0].message.contains("have to authenticate"));
    // Those that are known come back, those that authenticate are let in.
    let mut again = framework("first");
    again.id = Some(first.id);
    world.subscribe(again);
    assert!(try_subscribe(&mut world, Some("ops")).is_some());
    assert_eq!(world.master.frameworks.len(), 3);
}

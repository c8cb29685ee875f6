//! The kits take what keeps its promises, and reject one broken double for each of them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use dcos_security::testkit::{authenticator, authorizer};
use dcos_security::{
    Acls, Action, AllowAll, Authenticator, Authorizer, Basic, Bearer, Combined, Credential,
    Credentials, DenyAll, Object, ObjectApprover, Outcome, Principal, Secret, jwt,
};
use http::HeaderValue;
use http::request::Parts;

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn known() -> Credentials {
    [Credential::new("ops", "tops3cret")].into_iter().collect()
}

fn basic_case() -> authenticator::Case {
    authenticator::Case {
        good: Credential::new("ops", "tops3cret").basic(),
        bad: Credential::new("ops", "guess").basic(),
        principal: Principal::new("ops"),
        secret: "tops3cret",
    }
}

fn bearer_case() -> authenticator::Case {
    let token = |key: &str| {
        let token = jwt::sign(&[("fid", "f1"), ("cid", "c1")], &Secret::from(key));
        HeaderValue::try_from(format!("Bearer {token}")).unwrap()
    };
    authenticator::Case {
        good: token("k3y"),
        bad: token("other"),
        principal: Principal::of_claims([("fid", "f1"), ("cid", "c1")]),
        secret: "k3y",
    }
}

#[test]
fn ours_keep_the_promises_of_authenticators() {
    let basic = || Basic::new("realm", known());
    let keys = || jwt::Keys {
        shared: Some(Secret::from("k3y")),
        ..jwt::Keys::default()
    };
    let bearer = || Bearer::new("realm", keys());
    block_on(authenticator::all(&basic(), &basic_case()));
    block_on(authenticator::all(&bearer(), &bearer_case()));
    let both = Combined::new(vec![Arc::new(basic()), Arc::new(bearer())]);
    block_on(authenticator::all(&both, &basic_case()));
    block_on(authenticator::all(&both, &bearer_case()));
}

#[test]
fn ours_keep_the_promises_of_authorizers() {
    authorizer::all(&AllowAll, &[]);
    authorizer::all(&DenyAll, &[]);
    let acls: Acls = r#"{
        "permissive": false,
        "view_roles": [{"principals": {"values": ["kit"]}, "roles": {"values": ["a/%"]}}],
        "view_frameworks": [{"principals": {"type": "ANY"}, "users": {"type": "ANY"}}],
        "run_tasks": [{"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]
    }"#
    .parse()
    .unwrap();
    let kit = Principal::new("kit");
    let case = |action, object, allowed| authorizer::Case {
        subject: Some(&kit),
        action,
        object,
        allowed,
    };
    let cases = [
        case(Action::ViewRole, "a/b", true),
        case(Action::ViewRole, "a", false),
        case(Action::ViewFramework, "root", true),
        case(Action::RunTask, "root", false),
        case(Action::TeardownFramework, "x", false),
    ];
    authorizer::all(&acls, &cases);
}

/// How a double breaks its promises.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    Nameless,
    Forgetful,
    NoChallenge,
    LetsAllIn,
    Tells,
}

struct Flawed(Flaw, Basic, AtomicUsize);

impl std::fmt::Debug for Flawed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Flaw::Tells => f.write_str("Flawed(tops3cret)"),
            _ => f.write_str("Flawed"),
        }
    }
}

#[async_trait]
impl Authenticator for Flawed {
    fn scheme(&self) -> &'static str {
        "Basic"
    }

    async fn authenticate(&self, request: &Parts) -> Outcome {
        let asked = self.2.fetch_add(1, Ordering::Relaxed);
        let found = self.1.authenticate(request).await;
        let shown = request.headers.contains_key("authorization");
        match self.0 {
            Flaw::Nameless if matches!(found, Outcome::Authenticated(_)) => {
                Outcome::Authenticated(Principal::default())
            }
            Flaw::Forgetful if asked > 1 => Outcome::challenge("Basic realm=\"x\""),
            Flaw::NoChallenge if !shown => Outcome::Forbidden {
                text: String::new(),
            },
            Flaw::LetsAllIn if shown => Outcome::Authenticated(Principal::new("ops")),
            _ => found,
        }
    }
}

#[test]
fn the_kit_rejects_broken_authenticators() {
    let flaws = [
        Flaw::Nameless,
        Flaw::Forgetful,
        Flaw::NoChallenge,
        Flaw::LetsAllIn,
        Flaw::Tells,
    ];
    for flaw in flaws {
        let flawed = Flawed(flaw, Basic::new("realm", known()), AtomicUsize::new(0));
        let run = || block_on(authenticator::all(&flawed, &basic_case()));
        let rejected = catch_unwind(AssertUnwindSafe(run)).is_err();
        assert!(rejected, "{flaw:?} passed");
    }
}

/// Approves every other time.
#[derive(Debug, Default)]
struct Fickle(Arc<AtomicUsize>);

impl Authorizer for Fickle {
    fn approver(&self, _: Option<&Principal>, _: Action) -> Arc<dyn ObjectApprover> {
        Arc::new(Self(Arc::clone(&self.0)))
    }
}

impl ObjectApprover for Fickle {
    fn approved(&self, _: &Object<'_>) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(3)
    }
}

/// Says it approves everything, and approves nothing.
#[derive(Debug)]
struct Boastful;

impl Authorizer for Boastful {
    fn approver(&self, _: Option<&Principal>, _: Action) -> Arc<dyn ObjectApprover> {
        Arc::new(Self)
    }
}

impl ObjectApprover for Boastful {
    fn approved(&self, _: &Object<'_>) -> bool {
        false
    }

    fn approves_all(&self) -> bool {
        true
    }
}

/// Answers one way when asked at once, and another through an approver.
#[derive(Debug)]
struct TwoFaced;

impl Authorizer for TwoFaced {
    fn approver(&self, _: Option<&Principal>, _: Action) -> Arc<dyn ObjectApprover> {
        Arc::new(DenyAll)
    }

    fn authorized(&self, _: Option<&Principal>, _: Action, _: &Object<'_>) -> bool {
        true
    }
}

#[test]
fn the_kit_rejects_broken_authorizers() {
    let rejected = |run: &dyn Fn()| catch_unwind(AssertUnwindSafe(run)).is_err();
    assert!(rejected(&|| authorizer::all(&Fickle::default(), &[])));
    assert!(rejected(&|| authorizer::all(&Boastful, &[])));
    assert!(rejected(&|| authorizer::all(&TwoFaced, &[])));
    let case = authorizer::Case {
        subject: None,
        action: Action::ViewRole,
        object: "a",
        allowed: false,
    };
    assert!(rejected(&|| authorizer::all(&AllowAll, &[case])));
}

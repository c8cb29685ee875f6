//! The promises of [`Authenticator`].
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use dcos_security::testkit::authenticator::{self, Case};
//! use dcos_security::{Basic, Credential, Credentials, Principal};
//!
//! let ops = Credential::new("ops", "secret");
//! let known: Credentials = [ops.clone()].into_iter().collect();
//! let case = Case {
//!     good: ops.basic(),
//!     bad: Credential::new("ops", "guess").basic(),
//!     principal: Principal::new("ops"),
//!     secret: "secret",
//! };
//! authenticator::all(&Basic::new("realm", known), &case).await;
//! # });
//! ```

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, Method, Request};

use crate::{Authenticator, Outcome, Principal};

/// What to try an authenticator with.
#[derive(Debug, Clone)]
pub struct Case {
    /// An `Authorization` header it takes.
    pub good: HeaderValue,
    /// One it does not take.
    pub bad: HeaderValue,
    /// Who shows the good one.
    pub principal: Principal,
    /// Something it knows and must not tell.
    pub secret: &'static str,
}

/// Runs every promise.
pub async fn all(authenticator: &impl Authenticator, case: &Case) {
    knows_its_own(authenticator, case).await;
    depends_on_the_head_only(authenticator, case).await;
    challenges_whoever_shows_nothing(authenticator).await;
    refuses_others(authenticator, case).await;
    keeps_secrets(authenticator, case).await;
    serves_many_at_once(authenticator, case).await;
}

fn head(authorization: Option<&HeaderValue>) -> Parts {
    let mut request = Request::new(());
    request
        .headers_mut()
        .extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
    request.into_parts().0
}

/// Promise 2: whoever shows the right thing is known, by a name or claims.
///
/// # Panics
/// If the authenticator breaks it.
pub async fn knows_its_own(authenticator: &impl Authenticator, case: &Case) {
    let found = authenticator.authenticate(&head(Some(&case.good))).await;
    assert_eq!(found, Outcome::Authenticated(case.principal.clone()));
    let anybody = case.principal.value.is_some() || !case.principal.claims.is_empty();
    assert!(anybody, "a principal needs a name or claims");
}

/// Promise 1: asking again, for another path, gives the same answer.
///
/// # Panics
/// If the authenticator breaks it.
pub async fn depends_on_the_head_only(authenticator: &impl Authenticator, case: &Case) {
    let first = authenticator.authenticate(&head(Some(&case.good))).await;
    let mut other = head(Some(&case.good));
    other.method = Method::POST;
    for _ in 0..3 {
        assert_eq!(authenticator.authenticate(&other).await, first);
    }
}

/// Promise 3: nothing shown is answered with a challenge of its scheme.
///
/// # Panics
/// If the authenticator breaks it.
pub async fn challenges_whoever_shows_nothing(authenticator: &impl Authenticator) {
    let Outcome::Unauthorized { challenge, .. } = authenticator.authenticate(&head(None)).await
    else {
        panic!("expected a challenge for a request that shows nothing");
    };
    let scheme = authenticator.scheme();
    assert!(
        challenge.starts_with(scheme),
        "{challenge:?} does not begin with {scheme}"
    );
    HeaderValue::try_from(challenge).expect("a challenge fits a header");
}

/// Whoever shows something else, or something broken, is not let in.
///
/// # Panics
/// If the authenticator breaks it.
pub async fn refuses_others(authenticator: &impl Authenticator, case: &Case) {
    let scheme = authenticator.scheme();
    let broken = [
        String::new(),
        scheme.to_owned(),
        format!("{scheme} "),
        format!("{scheme} ?"),
        format!("{scheme} YQ=="),
        format!("{scheme} a.b.c"),
        "Nonsense x".to_owned(),
    ];
    let broken = broken.map(|text| HeaderValue::try_from(text).expect("visible ASCII"));
    for shown in broken.iter().chain([&case.bad]) {
        let found = authenticator.authenticate(&head(Some(shown))).await;
        assert!(
            !matches!(found, Outcome::Authenticated(_)),
            "{shown:?} was let in as {found:?}"
        );
    }
}

/// Promise 4: what it knows is not told.
///
/// # Panics
/// If the authenticator breaks it.
pub async fn keeps_secrets(authenticator: &impl Authenticator, case: &Case) {
    let mut told = format!("{authenticator:?}");
    for shown in [Some(&case.good), Some(&case.bad), None] {
        let found = authenticator.authenticate(&head(shown)).await;
        told.push_str(&format!("{found:?}"));
    }
    let bytes = format!("{:?}", case.secret.as_bytes());
    for secret in [case.secret, bytes.as_str()] {
        assert!(!told.contains(secret), "the secret is told");
    }
}

/// Promise 5: many ask at once, and none is taken for another.
///
/// # Panics
/// If the authenticator breaks it.
pub async fn serves_many_at_once(authenticator: &impl Authenticator, case: &Case) {
    let (good, bad) = (head(Some(&case.good)), head(Some(&case.bad)));
    let asked = (0..32).map(|number| {
        let shown = if number % 2 == 0 { &good } else { &bad };
        authenticator.authenticate(shown)
    });
    let found = futures::future::join_all(asked).await;
    for (number, found) in found.iter().enumerate() {
        let known = matches!(found, Outcome::Authenticated(_));
        assert_eq!(known, number % 2 == 0, "number {number} got {found:?}");
    }
}

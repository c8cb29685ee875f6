//! Who may speak with a service: whoever shows the name and the password an operator chose, if he chose one; and no pages of
//! other origins but those he named.
//!
//! Source: Marathon 1.11 `--http_credentials` and `--http_realm`: HTTP basic (RFC 7617) on each path, `/ping` as well. Departures:
//! the refusal is a JSON document, where the original sends a page; a password may hold colons; what is not of the form
//! `user:password` is refused at the start, where the original goes on and lets everybody in.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use dcos_security::{Authenticator as _, Basic, Credential, Credentials, Outcome};
use dcos_wire::Origins;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Request as Asked, StatusCode};
use serde_json::json;

use crate::api::json_with;

/// Why nobody can be let in by this. Says nothing of the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// There is no colon, or nothing before or behind it.
    #[error("a user, a colon and a password are expected")]
    Form,
    /// A realm that would end the header it stands in.
    #[error("a realm has visible characters and blanks only, no quotes and no backslashes")]
    Realm,
}

/// A service's entrance, before each path of `router`: pages of `origins` may ask beside its own, and whoever `guard` knows, or
/// everybody. Browsers ask whether a page may before they show credentials.
pub fn entrance(origins: &Origins, guard: Option<&Guard>, router: Router) -> Router {
    let router = match guard {
        Some(guard) => guard.before(router),
        None => router,
    };
    origins.before(router, |foreign| {
        let message = foreign.why("access_control_allow_origin");
        json_with(StatusCode::FORBIDDEN, &json!({"message": message}))
    })
}

/// Lets in who shows one user's name and password.
///
/// ```
/// use dcos_marathon::Guard;
///
/// let guard = Guard::new("Mesosphere", "ops:pa:ss").unwrap();
/// let router = guard.before(axum::Router::new());
/// assert!(!format!("{guard:?}").contains("pa:ss"));
/// ```
#[derive(Clone, Debug)]
pub struct Guard {
    basic: Arc<Basic>,
    challenge: HeaderValue,
    /// What shows it, for clients of one's own.
    authorization: HeaderValue,
}

impl Guard {
    /// Lets `user:password` into `realm`, which people are shown when they are asked; the name holds no colon.
    ///
    /// # Errors
    /// [`GuardError`]
    pub fn new(realm: &str, credentials: &str) -> Result<Self, GuardError> {
        let halves = credentials.split_once(':');
        let (user, password) = halves.ok_or(GuardError::Form)?;
        if user.is_empty() || password.is_empty() {
            return Err(GuardError::Form);
        }
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte);
        if !realm.bytes().all(is_plain) {
            return Err(GuardError::Realm);
        }
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{realm}\""));
        let credential = Credential::new(user, password);
        let authorization = credential.basic();
        let known: Credentials = [credential].into_iter().collect();
        Ok(Self {
            basic: Arc::new(Basic::new(realm, known)),
            challenge: challenge.map_err(|_| GuardError::Realm)?,
            authorization,
        })
    }

    /// The value of an `Authorization` header that is let in.
    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }

    /// Stands before each path of `router`.
    pub fn before(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), admit))
    }
}

async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Outcome::Authenticated(_) = guard.basic.authenticate(&parts).await {
        return next.run(Asked::from_parts(parts, body)).await;
    }
    let message = "Invalid username or password.";
    let mut response = json_with(StatusCode::UNAUTHORIZED, &json!({"message": message}));
    let headers = response.headers_mut();
    headers.insert(WWW_AUTHENTICATE, guard.challenge);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_refused() {
        for (realm, credentials, expected) in [
            ("Mesosphere", "ops:secret", None),
            ("My cluster", "ops:pa:ss", None),
            ("Mesosphere", "", Some(GuardError::Form)),
            ("Mesosphere", "ops", Some(GuardError::Form)),
            ("Mesosphere", ":secret", Some(GuardError::Form)),
            ("Mesosphere", "ops:", Some(GuardError::Form)),
            ("a\"b", "ops:secret", Some(GuardError::Realm)),
            ("a\nb", "ops:secret", Some(GuardError::Realm)),
        ] {
            let made = Guard::new(realm, credentials);
            assert_eq!(made.err(), expected, "{realm:?} {credentials:?}");
        }
    }
}

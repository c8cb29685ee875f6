//! The plug point that finds out who sends a request.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use crate::Principal;

/// What an authenticator found out about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Who sent it.
    Authenticated(Principal),
    /// It did not show what it has to: answered with 401.
    Unauthorized {
        /// What it should show: the value of `WWW-Authenticate`.
        challenge: String,
        /// The body of the answer.
        text: String,
    },
    /// Whoever it is, they may not come in: answered with 403.
    Forbidden {
        /// The body of the answer.
        text: String,
    },
    /// It could not be found out now: answered with 503.
    Unavailable {
        /// The body of the answer.
        text: String,
    },
}

impl Outcome {
    /// A challenge with the body that Mesos sends.
    pub fn challenge(challenge: impl Into<String>) -> Self {
        Self::Unauthorized {
            challenge: challenge.into(),
            text: "401 Unauthorized.".to_owned(),
        }
    }
}

/// Finds out who sends an HTTP request.
///
/// # Contract
/// 1. The answer depends on the request's head (and on whom the authenticator knows) only; the body
///    has not been read.
/// 2. [`Outcome::Authenticated`] holds a principal with a name or claims, or both.
/// 3. A request that shows nothing is answered with a challenge that begins with the
///    [`scheme`](Self::scheme).
/// 4. Secrets appear neither in the outcome nor in debug output, and are compared in constant time.
/// 5. Many requests are asked about at once; a future dropped half-way leaves nothing behind.
///
/// # Source
/// Mesos 1.11 `process::http::authentication::Authenticator`
/// (`3rdparty/libprocess/include/process/authenticator.hpp`). See `docs/authenticator.md`.
///
/// # Implementing
/// Run `testkit::authenticator::all` in your tests; start from `examples/custom_authenticator.rs`.
#[async_trait]
pub trait Authenticator: fmt::Debug + Send + Sync + 'static {
    /// The scheme of its challenges, such as `Basic`.
    fn scheme(&self) -> &'static str;

    /// Finds out who sent a request.
    async fn authenticate(&self, request: &Parts) -> Outcome;
}

/// Several authenticators for one realm: the first that succeeds decides; otherwise their refusals
/// are joined as Mesos joins them (`src/authentication/http/combined_authenticator.cpp`).
#[derive(Debug, Clone)]
pub struct Combined(Vec<Arc<dyn Authenticator>>);

impl Combined {
    /// Asks these, in this order.
    pub fn new(authenticators: Vec<Arc<dyn Authenticator>>) -> Self {
        Self(authenticators)
    }
}

#[async_trait]
impl Authenticator for Combined {
    fn scheme(&self) -> &'static str {
        self.0.first().map_or("", |first| first.scheme())
    }

    async fn authenticate(&self, request: &Parts) -> Outcome {
        let mut refusals = Vec::new();
        for authenticator in &self.0 {
            match authenticator.authenticate(request).await {
                found @ Outcome::Authenticated(_) => return found,
                refusal => refusals.push((authenticator.scheme(), refusal)),
            }
        }
        join(&refusals)
    }
}

/// One refusal out of many: a challenge beats a prohibition, which beats an error.
fn join(refusals: &[(&str, Outcome)]) -> Outcome {
    if let [(_, only)] = refusals {
        return only.clone();
    }
    let texts = |pick: fn(&Outcome) -> Option<&str>| {
        let found = refusals.iter().filter_map(|(scheme, refusal)| {
            let text = pick(refusal)?;
            (!text.is_empty()).then(|| format!("\"{scheme}\" authenticator returned:\n{text}"))
        });
        found.collect::<Vec<_>>().join("\n\n")
    };
    let challenges: Vec<&str> = refusals
        .iter()
        .filter_map(|(_, refusal)| match refusal {
            Outcome::Unauthorized { challenge, .. } => Some(challenge.as_str()),
            _ => None,
        })
        .collect();
    if !challenges.is_empty() {
        return Outcome::Unauthorized {
            challenge: challenges.join(","),
            text: texts(|refusal| match refusal {
                Outcome::Unauthorized { text, .. } => Some(text),
                _ => None,
            }),
        };
    }
    let forbidden = |refusal: &(&str, Outcome)| matches!(refusal.1, Outcome::Forbidden { .. });
    if refusals.iter().any(forbidden) {
        return Outcome::Forbidden {
            text: texts(|refusal| match refusal {
                Outcome::Forbidden { text } => Some(text),
                _ => None,
            }),
        };
    }
    Outcome::Unavailable {
        text: texts(|refusal| match refusal {
            Outcome::Unavailable { text } => Some(text),
            _ => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_joined_as_mesos_joins_them() {
        let forbidden = |text: &str| Outcome::Forbidden { text: text.into() };
        let basic = Outcome::challenge("Basic realm=\"r\"");
        let bearer = Outcome::challenge("Bearer realm=\"r\"");
        let refusals = [
            ("Basic", basic.clone()),
            ("Bearer", bearer),
            ("X", forbidden("no")),
        ];
        let expected = Outcome::Unauthorized {
            challenge: "Basic realm=\"r\",Bearer realm=\"r\"".into(),
            text: "\"Basic\" authenticator returned:\n401 Unauthorized.\n\n\
                   \"Bearer\" authenticator returned:\n401 Unauthorized."
                .into(),
        };
        assert_eq!(join(&refusals), expected);
        assert_eq!(join(&[("Basic", basic.clone())]), basic);
        let both = [("X", forbidden("no")), ("Y", forbidden(""))];
        assert_eq!(join(&both), forbidden("\"X\" authenticator returned:\nno"));
    }
}

//! HTTP bearer tokens: what executors show to their agent, and people and services to everybody.

use std::collections::BTreeMap;
use std::time::SystemTime;

use async_trait::async_trait;
use dcos_core::time::Time;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::{Authenticator, Outcome, Principal, jwt};

/// Signed tokens, as Mesos's `--http_authenticators=jwt`: `Authorization: Bearer TOKEN`, or, as
/// clients of DC/OS send it, `Authorization: token=TOKEN`.
///
/// Whoever shows one is known by its claims, and by its name if it has one (`uid`, else `sub`).
/// A token without a name is an executor's; only the cluster's own key makes those.
///
/// Source: Mesos 1.11 `3rdparty/libprocess/src/jwt_authenticator.cpp`, which knows no names.
#[derive(Debug)]
pub struct Bearer {
    realm: String,
    keys: jwt::Keys,
    named_only: bool,
}

/// The value of an `Authorization` header that shows `token`; `None` if it holds what no header can.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The longest reason for a refusal in characters; parts of it are the token's own words.
const REASON: usize = 200;

impl Bearer {
    /// Lets in whoever shows a token that one of these keys signed.
    pub fn new(realm: impl Into<String>, keys: jwt::Keys) -> Self {
        Self {
            realm: realm.into(),
            keys,
            named_only: false,
        }
    }

    /// Lets in only those whose token has a name, and so no executor.
    #[must_use]
    pub fn named_only(mut self) -> Self {
        self.named_only = true;
        self
    }

    fn refused(&self, why: &str) -> Outcome {
        // What stands between quotes must not end them, and a header holds visible ASCII only.
        let plain = |c: char| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        };
        let why: String = why.chars().map(plain).take(REASON).collect();
        Outcome::challenge(format!(
            "Bearer realm=\"{}\", error=\"invalid_token\", error_description=\"{why}\"",
            self.realm
        ))
    }

    fn check(&self, request: &Parts, now: Time) -> Outcome {
        let Some(shown) = request.headers.get(AUTHORIZATION) else {
            return Outcome::challenge(format!("Bearer realm=\"{}\"", self.realm));
        };
        let token = match token_of(shown.to_str().unwrap_or_default()) {
            Ok(token) => token,
            Err(why) => return self.refused(&why),
        };
        match self.keys.verify(token, now) {
            Ok(token) if token.claims.is_empty() => self.refused("JWT claims missing"),
            Ok(token) if token.name.is_none() && (self.named_only || !token.of_cluster) => {
                self.refused("Invalid JWT: it names nobody, as 'uid' or 'sub'")
            }
            // Claims are what executors are known by: another issuer may sign those that its users choose.
            Ok(token) => Outcome::Authenticated(Principal {
                value: token.name,
                claims: if token.of_cluster {
                    token.claims
                } else {
                    BTreeMap::new()
                },
            }),
            Err(error) => self.refused(&format!("Invalid JWT: {error}")),
        }
    }
}

fn token_of(shown: &str) -> Result<&str, String> {
    if let Some(token) = shown.strip_prefix("token=") {
        return Ok(token.trim());
    }
    let words: Vec<&str> = shown.split(' ').collect();
    match words[..] {
        [scheme, token] if scheme.eq_ignore_ascii_case("bearer") => Ok(token),
        [scheme, _] => Err(format!("Scheme '{scheme}' unsupported")),
        _ => Err("Malformed 'Authorization' header".to_owned()),
    }
}

#[async_trait]
impl Authenticator for Bearer {
    fn scheme(&self) -> &'static str {
        "Bearer"
    }

    async fn authenticate(&self, request: &Parts) -> Outcome {
        self.check(request, Time::from_system(SystemTime::now()))
    }
}

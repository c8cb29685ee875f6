//! HTTP bearer tokens: what executors show to their agent.

use std::time::SystemTime;

use async_trait::async_trait;
use dcos_core::time::Time;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::{Authenticator, Outcome, Principal, Secret, jwt};

/// Tokens signed with a shared key, as Mesos's `--http_authenticators=jwt`: whoever shows one is
/// known by its claims, and has no name.
///
/// Source: Mesos 1.11 `3rdparty/libprocess/src/jwt_authenticator.cpp`.
#[derive(Debug)]
pub struct Bearer {
    realm: String,
    key: Secret,
}

impl Bearer {
    /// Lets in whoever shows a token signed with `key`.
    pub fn new(realm: impl Into<String>, key: Secret) -> Self {
        Self {
            realm: realm.into(),
            key,
        }
    }

    fn refused(&self, why: &str) -> Outcome {
        // What stands between quotes must not end them.
        let why = why.replace(['"', '\\'], "'");
        Outcome::challenge(format!(
            "Bearer realm=\"{}\", error=\"invalid_token\", error_description=\"{why}\"",
            self.realm
        ))
    }

    fn check(&self, request: &Parts, now: Time) -> Outcome {
        let Some(shown) = request.headers.get(AUTHORIZATION) else {
            return Outcome::challenge(format!("Bearer realm=\"{}\"", self.realm));
        };
        let words: Vec<&str> = shown.to_str().unwrap_or_default().split(' ').collect();
        let [scheme, token] = words[..] else {
            return self.refused("Malformed 'Authorization' header");
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return self.refused(&format!("Scheme '{scheme}' unsupported"));
        }
        match jwt::verify(token, &self.key, now) {
            Ok(claims) if claims.is_empty() => self.refused("JWT claims missing"),
            Ok(claims) => Outcome::Authenticated(Principal {
                value: None,
                claims,
            }),
            Err(error) => self.refused(&format!("Invalid JWT: {error}")),
        }
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

//! HTTP basic: a principal and its secret with each request.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use zeroize::Zeroizing;

use crate::{Authenticator, Credentials, Outcome, Principal};

/// HTTP basic against a file of credentials (RFC 7617), as Mesos's `--http_authenticators=basic`.
///
/// Departure: a secret may hold colons, which Mesos cuts at; the scheme's letters may be small.
#[derive(Debug)]
pub struct Basic {
    realm: String,
    credentials: Credentials,
}

impl Basic {
    /// Lets in whoever shows one of these credentials.
    pub fn new(realm: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            realm: realm.into(),
            credentials,
        }
    }

    fn check(&self, request: &Parts) -> Option<Principal> {
        let shown = request.headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, encoded) = shown.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let plain = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
        let colon = plain.iter().position(|byte| *byte == b':')?;
        let principal = std::str::from_utf8(&plain[..colon]).ok()?;
        let known = self.credentials.check(principal, &plain[colon + 1..]);
        known.then(|| Principal::new(principal))
    }
}

#[async_trait]
impl Authenticator for Basic {
    fn scheme(&self) -> &'static str {
        "Basic"
    }

    async fn authenticate(&self, request: &Parts) -> Outcome {
        let challenge = || Outcome::challenge(format!("Basic realm=\"{}\"", self.realm));
        self.check(request)
            .map_or_else(challenge, Outcome::Authenticated)
    }
}

//! JSON web tokens: signed with a shared key (HS256), as executors of Mesos show them, or with the
//! private half of a key whose public half is known (RS256, ES256), as a login service issues them.
//!
//! Source: Mesos 1.11 `3rdparty/libprocess/src/jwt.cpp`; RFC 7519. Departures from Mesos: `nbf` and
//! `aud` are looked at as well as `exp`; `exp` is over at its second, not after it.
//!
//! ```
//! use dcos_security::{Secret, jwt};
//! use dcos_core::time::Time;
//!
//! let key = Secret::from("key");
//! let token = jwt::sign(&[("uid", "ops"), ("exp", "never")], &key);
//! let keys = jwt::Keys { shared: Some(key), ..jwt::Keys::default() };
//! assert!(keys.verify(&token, Time::default()).is_err(), "a time is a number");
//!
//! let token = jwt::sign(&[("uid", "ops")], keys.shared.as_ref().unwrap());
//! assert_eq!(keys.verify(&token, Time::default())?.name.as_deref(), Some("ops"));
//! let others = jwt::Keys { shared: Some(Secret::from("other")), ..jwt::Keys::default() };
//! assert!(others.verify(&token, Time::default()).is_err());
//! # Ok::<(), jwt::JwtError>(())
//! ```

mod public;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use dcos_core::time::Time;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;

use crate::Secret;
pub use public::{PublicKeys, PublicKeysError};

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// A token has a header, a payload and a signature.
    #[error("Expected 3 components in token, got {0}")]
    Components(usize),
    /// A part is not an object in base64.
    #[error("Failed to decode token {0}")]
    Encoding(&'static str),
    /// It is signed in a way that none of the keys is for.
    #[error("Token 'alg' value \"{shown}\" does not match, expected {expected}")]
    Algorithm {
        /// What it says of itself.
        shown: String,
        /// What the keys are for.
        expected: &'static str,
    },
    /// It is for others.
    #[error("Token 'aud' is not this cluster's")]
    Audience,
    /// It demands extensions that are not there.
    #[error("Token 'crit' field is unsupported")]
    Critical,
    /// A time is no number.
    #[error("JSON payload '{0}' field is not a number")]
    NotANumber(&'static str),
    /// Its time is over.
    #[error("Token has expired: exp({exp}) < now({now})")]
    Expired {
        /// Until when it was good, in seconds since 1970.
        exp: i64,
        /// When it was shown.
        now: i64,
    },
    /// Its time has not come.
    #[error("Token is not valid before {0}")]
    Early(i64),
    /// Another key signed it, or nobody.
    #[error("Token signature does not match")]
    Signature,
}

/// By so many seconds an issuer's clock may be ahead: many say `nbf` is now.
const LEEWAY: i64 = 30;

/// Padding or none: both are in use.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A token with these claims.
pub fn sign<K: AsRef<str>, V: AsRef<str>>(claims: &[(K, V)], key: &Secret) -> String {
    let payload: Map<String, Value> = claims
        .iter()
        .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().into()))
        .collect();
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = URL_SAFE_NO_PAD.encode(Value::Object(payload).to_string());
    let message = format!("{head}.{payload}");
    let signature = mac(key, message.as_bytes()).finalize().into_bytes();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What tokens are checked with.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Signs and checks HS256.
    pub shared: Option<Secret>,
    /// Check RS256 and ES256.
    pub public: PublicKeys,
    /// Whom tokens have to be for (`aud`). Without, those are refused that are for somebody; with,
    /// those of [`public`](Self::public) keys that don't say for whom, too.
    pub audience: Option<String>,
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who shows it: `uid`, as DC/OS says it, or else `sub`.
    pub name: Option<String>,
    /// All of its claims. What is not text is given as JSON.
    pub claims: BTreeMap<String, String>,
    /// Whether the shared key signed it, which belongs to the cluster alone.
    pub of_cluster: bool,
}

impl Keys {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shared.is_none() && self.public.is_empty()
    }

    /// What a token says, if it is good at `now`.
    ///
    /// The signature is checked before anything in the payload is looked at. Each key serves the one
    /// algorithm it was made for, whatever the token says.
    ///
    /// # Errors
    /// [`JwtError`], in the words of Mesos.
    pub fn verify(&self, token: &str, now: Time) -> Result<Token, JwtError> {
        let parts: Vec<&str> = token.split('.').collect();
        let [head, payload, signature] = parts[..] else {
            return Err(JwtError::Components(parts.len()));
        };
        let header = decode(head, "header")?;
        if header.contains_key("crit") {
            return Err(JwtError::Critical);
        }
        let shown = LENIENT.decode(signature);
        let shown = shown.map_err(|_| JwtError::Encoding("signature"))?;
        let message = &token.as_bytes()[..head.len() + 1 + payload.len()];
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let algorithm = text("alg").unwrap_or_default();
        let verified = match (&self.shared, algorithm) {
            (Some(key), "HS256") => mac(key, message).verify_slice(&shown).is_ok(),
            _ => self
                .public
                .verify(algorithm, text("kid"), message, &shown)
                .ok_or_else(|| self.other_algorithm(algorithm))?,
        };
        if !verified {
            return Err(JwtError::Signature);
        }
        let claims = decode(payload, "payload")?;
        check_times(&claims, i64::try_from(now.as_secs()).unwrap_or(i64::MAX))?;
        let of_cluster = algorithm == "HS256";
        self.check_audience(&claims, of_cluster)?;
        let named = |claim: &str| claims.get(claim)?.as_str().filter(|name| !name.is_empty());
        let name = named("uid").or_else(|| named("sub")).map(ToOwned::to_owned);
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Token {
            name,
            claims: claims
                .into_iter()
                .map(|(name, value)| (name, text(value)))
                .collect(),
            of_cluster,
        })
    }

    fn other_algorithm(&self, shown: &str) -> JwtError {
        let expected = match (&self.shared, self.public.is_empty()) {
            (Some(_), true) => "\"HS256\"",
            (None, _) => "\"RS256\" or \"ES256\", and a key of that kind",
            (Some(_), false) => "\"HS256\", \"RS256\" or \"ES256\", and a key of that kind",
        };
        JwtError::Algorithm {
            shown: shown.to_owned(),
            expected,
        }
    }

    fn check_audience(
        &self,
        claims: &Map<String, Value>,
        of_cluster: bool,
    ) -> Result<(), JwtError> {
        let good = match (claims.get("aud"), &self.audience) {
            (None, None) => true,
            (None, Some(_)) => of_cluster,
            (Some(_), None) => false,
            (Some(Value::Array(all)), Some(own)) => all.iter().any(|one| one == own),
            (Some(one), Some(own)) => one == own,
        };
        good.then_some(()).ok_or(JwtError::Audience)
    }
}

fn mac(key: &Secret, message: &[u8]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key.expose());
    mac.expect("HMAC takes keys of any length")
        .chain_update(message)
}

fn decode(part: &str, name: &'static str) -> Result<Map<String, Value>, JwtError> {
    let bytes = LENIENT.decode(part).map_err(|_| JwtError::Encoding(name))?;
    serde_json::from_slice(&bytes).map_err(|_| JwtError::Encoding(name))
}

fn check_times(claims: &Map<String, Value>, now: i64) -> Result<(), JwtError> {
    let time = |name: &'static str| {
        #[expect(clippy::cast_possible_truncation, reason = "fractions of a second")]
        let number = |value: &Value| value.as_f64().map(|seconds| seconds as i64);
        let found = claims.get(name).map(number);
        found.map(|number| number.ok_or(JwtError::NotANumber(name)))
    };
    if let Some(exp) = time("exp").transpose()?
        && exp <= now
    {
        return Err(JwtError::Expired { exp, now });
    }
    match time("nbf").transpose()? {
        Some(start) if start > now.saturating_add(LEEWAY) => Err(JwtError::Early(start)),
        _ => Ok(()),
    }
}

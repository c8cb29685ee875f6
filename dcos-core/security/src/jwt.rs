//! JSON web tokens signed with a shared key (HS256), as executors of Mesos show them.
//!
//! Source: Mesos 1.11 `3rdparty/libprocess/src/jwt.cpp`. Departures: `nbf` is looked at as well as
//! `exp`; `exp` is over at its second, not after it.
//!
//! ```
//! use dcos_security::{Secret, jwt};
//! use dcos_core::time::Time;
//!
//! let key = Secret::from("key");
//! let token = jwt::sign(&[("fid", "f1")], &key);
//! let claims = jwt::verify(&token, &key, Time::default())?;
//! assert_eq!(claims["fid"], "f1");
//! assert!(jwt::verify(&token, &Secret::from("other"), Time::default()).is_err());
//! # Ok::<(), jwt::JwtError>(())
//! ```

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
    /// It is signed in another way.
    #[error("Token 'alg' value \"{0}\" does not match, expected \"HS256\"")]
    Algorithm(String),
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

/// The claims of a token, if it is good at `now`. What is not text is given as JSON.
///
/// The signature is checked before anything in the payload is looked at.
///
/// # Errors
/// [`JwtError`], in the words of Mesos.
pub fn verify(token: &str, key: &Secret, now: Time) -> Result<BTreeMap<String, String>, JwtError> {
    let parts: Vec<&str> = token.split('.').collect();
    let [head, payload, signature] = parts[..] else {
        return Err(JwtError::Components(parts.len()));
    };
    check_head(&decode(head, "header")?)?;
    let shown = LENIENT.decode(signature);
    let shown = shown.map_err(|_| JwtError::Encoding("signature"))?;
    let message = &token[..head.len() + 1 + payload.len()];
    let verified = mac(key, message.as_bytes()).verify_slice(&shown);
    verified.map_err(|_| JwtError::Signature)?;
    let claims = decode(payload, "payload")?;
    check_times(&claims, i64::try_from(now.as_secs()).unwrap_or(i64::MAX))?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(claims
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect())
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

fn check_head(head: &Map<String, Value>) -> Result<(), JwtError> {
    let algorithm = head.get("alg").and_then(Value::as_str).unwrap_or_default();
    if algorithm != "HS256" {
        return Err(JwtError::Algorithm(algorithm.to_owned()));
    }
    if head.contains_key("crit") {
        return Err(JwtError::Critical);
    }
    Ok(())
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
        Some(start) if start > now => Err(JwtError::Early(start)),
        _ => Ok(()),
    }
}

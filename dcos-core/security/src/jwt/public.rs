//! Public keys that tokens are checked with: a JSON web key set (RFC 7517), as login services
//! publish it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, io};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use serde_json::Value;

use super::LENIENT;

/// Why a key set can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeysError {
    /// The file can't be read.
    #[error("reading the key set in {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no JSON.
    #[error("understanding a key set")]
    Json(#[source] serde_json::Error),
    /// It has no list of keys.
    #[error("a key set is an object with a list `keys`")]
    Form,
    /// A key for RS256 or ES256 makes no sense.
    #[error("key {index} of the set: {problem}")]
    Key {
        /// Its place, from 0.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// None of the keys checks RS256 or ES256.
    #[error("no key of the set is an RSA key for RS256 or a P-256 key for ES256")]
    Empty,
}

/// Keys for RS256 and ES256. Those of other kinds are ignored, as RFC 7517 has it.
#[derive(Clone, Default)]
pub struct PublicKeys(Vec<PublicKey>);

#[derive(Clone)]
struct PublicKey {
    id: Option<String>,
    algorithm: &'static str,
    key: ParsedPublicKey,
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().map(|key| (key.algorithm, &key.id));
        f.debug_list().entries(keys).finish()
    }
}

impl PublicKeys {
    /// Reads a file with a key set.
    ///
    /// # Errors
    /// [`PublicKeysError`]
    pub fn read(path: &Path) -> Result<Self, PublicKeysError> {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| PublicKeysError::Read {
            path: path.to_owned(),
            source,
        })?;
        text.parse()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the keys signed `message`: of those for this algorithm, the one of that id, or
    /// any if the token names none. `None` if there is no such key.
    pub(super) fn verify(
        &self,
        algorithm: &str,
        id: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let fits = |key: &&PublicKey| {
            let named = id.zip(key.id.as_deref());
            key.algorithm == algorithm && named.is_none_or(|(wanted, own)| wanted == own)
        };
        let mut candidates = self.0.iter().filter(fits).peekable();
        candidates.peek()?;
        Some(candidates.any(|one| one.key.verify_sig(message, signature).is_ok()))
    }
}

impl FromStr for PublicKeys {
    type Err = PublicKeysError;

    fn from_str(text: &str) -> Result<Self, PublicKeysError> {
        let set: Value = serde_json::from_str(text).map_err(PublicKeysError::Json)?;
        let keys = set["keys"].as_array().ok_or(PublicKeysError::Form)?;
        let mut known = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let key = PublicKey::of(key);
            known.extend(key.map_err(|problem| PublicKeysError::Key { index, problem })?);
        }
        if known.is_empty() {
            return Err(PublicKeysError::Empty);
        }
        Ok(Self(known))
    }
}

impl PublicKey {
    /// A key of the set, if it is one that checks signatures here.
    fn of(jwk: &Value) -> Result<Option<Self>, &'static str> {
        let text = |name: &str| jwk[name].as_str();
        let is = |name: &str, wanted: &str| text(name).is_none_or(|shown| shown == wanted);
        if !is("use", "sig") {
            return Ok(None);
        }
        let number = |name: &str| {
            let bytes = LENIENT.decode(text(name)?).ok()?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            Some(bytes[zeros..].to_vec())
        };
        let (algorithm, key) = match text("kty") {
            Some("RSA") if is("alg", "RS256") => {
                let n = number("n").ok_or("`n` is no number in base64url")?;
                let e = number("e").ok_or("`e` is no number in base64url")?;
                if !(256..=1024).contains(&n.len()) || n[0] < 0x80 && n.len() == 256 {
                    return Err("RSA keys have 2048 to 8192 bits");
                }
                let key = RsaPublicKeyComponents { n, e };
                (
                    "RS256",
                    key.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256),
                )
            }
            Some("EC") if is("alg", "ES256") && is("crv", "P-256") => {
                let coordinate = |name| number(name).filter(|bytes| bytes.len() <= 32);
                let mut point = vec![4];
                for name in ["x", "y"] {
                    let bytes = coordinate(name).ok_or("a coordinate is no number of 32 bytes")?;
                    point.resize(point.len() + 32 - bytes.len(), 0);
                    point.extend(bytes);
                }
                (
                    "ES256",
                    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point),
                )
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            id: text("kid").map(ToOwned::to_owned),
            algorithm,
            key: key.map_err(|_| "its numbers are no public key")?,
        }))
    }
}

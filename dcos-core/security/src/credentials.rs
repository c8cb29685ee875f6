//! Files with principals and their secrets.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dcos_proto::json::{self, Dialect, JsonError};
use dcos_proto::mesos;
use zeroize::Zeroizing;

use crate::Secret;

/// A principal and what it proves itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its name.
    pub principal: String,
    /// Its secret.
    pub secret: Secret,
}

/// Why credentials can't be used. Says nothing of what is in them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The file can't be read.
    #[error("reading the credentials in {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is JSON, and not of the right form.
    #[error("understanding credentials")]
    Json(#[source] JsonError),
    /// A line is not a principal and a secret.
    #[error("line {line} of the credentials is not a principal and a secret with blanks between")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
    /// There is no credential, or none where one was expected.
    #[error("there is no credential")]
    Empty,
    /// More than one, where exactly one is expected.
    #[error("there is more than one credential")]
    Several,
    /// A principal without a name.
    #[error("a credential has no principal")]
    Nameless,
}

/// Principals and their secrets, as `--credentials` and `--http_credentials` hold them.
///
/// Two forms are read: JSON, `{"credentials": [{"principal": "a", "secret": "s"}]}`, and the older
/// one of Mesos with `principal secret` on each line. Of two credentials with one name the later
/// one counts, as in Mesos.
///
/// ```
/// use dcos_security::Credentials;
///
/// let json = Credentials::parse(br#"{"credentials": [{"principal": "ops", "secret": "s3"}]}"#)?;
/// let lines = Credentials::parse(b"ops s3\n")?;
/// assert_eq!(json, lines);
/// assert!(json.check("ops", b"s3"));
/// assert!(!json.check("ops", b"s4") && !json.check("dev", b"s3"));
/// # Ok::<(), dcos_security::CredentialsError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, Secret>);

impl Credentials {
    /// Reads either form.
    ///
    /// # Errors
    /// [`CredentialsError`], also if there is none.
    pub fn parse(text: &[u8]) -> Result<Self, CredentialsError> {
        let all = if text.trim_ascii_start().starts_with(b"{") {
            let message: mesos::Credentials =
                json::from_slice(text, Dialect::V0).map_err(CredentialsError::Json)?;
            message.credentials.into_iter().map(of_message).collect()
        } else {
            lines(text)
        }?;
        let all: Vec<Credential> = all;
        if all.is_empty() {
            return Err(CredentialsError::Empty);
        }
        Ok(all.into_iter().collect())
    }

    /// Reads a file in either form, and warns if others than its owner and group can read it too.
    ///
    /// # Errors
    /// [`CredentialsError`]
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        Self::parse(&content(path)?)
    }

    /// The secret of a principal.
    pub fn secret(&self, principal: &str) -> Option<&Secret> {
        self.0.get(principal)
    }

    /// Whether `secret` is that of `principal`. Takes as long for a principal that is not there.
    pub fn check(&self, principal: &str, secret: &[u8]) -> bool {
        let Some(own) = self.0.get(principal) else {
            // The same work, so that names cannot be told by time.
            let _ = Secret::from(secret.to_vec()).matches(secret);
            return false;
        };
        own.matches(secret)
    }
}

impl FromIterator<Credential> for Credentials {
    fn from_iter<I: IntoIterator<Item = Credential>>(credentials: I) -> Self {
        let all = credentials.into_iter();
        Self(all.map(|one| (one.principal, one.secret)).collect())
    }
}

impl Credential {
    /// A principal and its secret.
    pub fn new(principal: impl Into<String>, secret: impl Into<Secret>) -> Self {
        Self {
            principal: principal.into(),
            secret: secret.into(),
        }
    }

    /// Reads one credential: `{"principal": "a", "secret": "s"}` or `a s`.
    ///
    /// # Errors
    /// [`CredentialsError`], also if there is none or more than one.
    pub fn parse(text: &[u8]) -> Result<Self, CredentialsError> {
        if text.trim_ascii_start().starts_with(b"{") {
            let message = json::from_slice::<mesos::Credential>(text, Dialect::V0);
            return of_message(message.map_err(CredentialsError::Json)?);
        }
        let mut all = lines(text)?.into_iter();
        match (all.next(), all.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(CredentialsError::Empty),
            (Some(_), Some(_)) => Err(CredentialsError::Several),
        }
    }

    /// Reads one credential from a file, as `--credential` names it.
    ///
    /// # Errors
    /// [`CredentialsError`]
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        Self::parse(&content(path)?)
    }

    /// The value of an `Authorization` header that shows it (HTTP basic).
    pub fn basic(&self) -> http::HeaderValue {
        use base64::Engine as _;
        let mut plain = Zeroizing::new(self.principal.clone().into_bytes());
        plain.push(b':');
        plain.extend_from_slice(self.secret.expose());
        let encoded = base64::engine::general_purpose::STANDARD.encode(&*plain);
        let mut value = http::HeaderValue::try_from(format!("Basic {encoded}"))
            .expect("base64 is visible ASCII");
        value.set_sensitive(true);
        value
    }
}

fn of_message(message: mesos::Credential) -> Result<Credential, CredentialsError> {
    if message.principal.is_empty() {
        return Err(CredentialsError::Nameless);
    }
    let secret = message.secret.unwrap_or_default();
    Ok(Credential::new(message.principal, secret))
}

fn lines(text: &[u8]) -> Result<Vec<Credential>, CredentialsError> {
    let mut all = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = || CredentialsError::Line { line: index + 1 };
        let line = std::str::from_utf8(line).map_err(|_| wrong())?;
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(principal), Some(secret), None) => all.push(Credential::new(principal, secret)),
            _ => return Err(wrong()),
        }
    }
    Ok(all)
}

/// What is in a file with a secret; a warning if everybody may read it.
pub(crate) fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if metadata.permissions().mode() & 0o007 != 0 {
        tracing::warn!(?path, "a file with secrets can be read by everybody");
    }
    std::fs::read(path).map(Zeroizing::new).map_err(failed)
}

impl Secret {
    /// The whole content of a file, such as the one `--jwt_secret_key` names.
    ///
    /// # Errors
    /// [`CredentialsError::Read`], or [`CredentialsError::Empty`].
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let secret = Self::from(content(path)?.to_vec());
        if secret.is_empty() {
            return Err(CredentialsError::Empty);
        }
        Ok(secret)
    }
}

//! Who we are to a registry: Docker's `config.json`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::ImageError;

/// A name and a password, or a token. Neither is shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// HTTP basic authentication; with registries that give tokens, what the token is asked with.
    Basic {
        /// Who.
        user: String,
        /// Its password.
        password: String,
    },
    /// A token the registry takes as it is.
    Token(String),
    /// What tokens are asked with in place of a name and a password (OAuth 2 calls it a refresh token), as
    /// `docker login` gets one from Azure's registry.
    Identity(String),
}

impl Credential {
    fn of(user: String, password: String) -> Self {
        if user == IDENTITY {
            return Self::Identity(password);
        }
        Self::Basic { user, password }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user}, …)"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::Identity(_) => f.write_str("Identity(…)"),
        }
    }
}

/// Credentials by registry.
///
/// # Source
/// The `auths` of Docker's `config.json`, also in its old form without that word
/// (`.dockercfg`). Credential helpers are programs of a user's desk and are not run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials(BTreeMap<String, Credential>);

#[derive(Deserialize)]
struct File {
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    registrytoken: Option<String>,
    identitytoken: Option<String>,
}

/// The name that Docker's credential helpers give what is an identity token and no password.
const IDENTITY: &str = "<token>";

impl Credentials {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`ImageError::Credentials`]: where the text is wrong; it never holds what was read.
    pub fn parse(text: &[u8]) -> Result<Self, ImageError> {
        let wrong = |why: String| ImageError::Credentials(why);
        let file: File = serde_json::from_slice(text).map_err(|error| {
            // The message of the parser could quote a secret.
            let (line, column) = (error.line(), error.column());
            wrong(format!("not understood at line {line}, column {column}"))
        })?;
        let entries = match file.auths {
            Some(auths) => auths,
            None => file
                .rest
                .into_iter()
                .filter(|(_, value)| value.get("auth").is_some())
                .map(|(key, value)| Ok((key, serde_json::from_value(value)?)))
                .collect::<Result<_, serde_json::Error>>()
                .map_err(|_| wrong("an entry is not understood".to_owned()))?,
        };
        let mut credentials = BTreeMap::new();
        for (key, entry) in entries {
            let host = host(&key);
            if let Some(credential) = entry
                .credential()
                .map_err(|why| wrong(format!("`auths` of '{host}': {why}")))?
            {
                credentials.insert(host, credential);
            }
        }
        Ok(Self(credentials))
    }

    /// What there is for a registry, such as `quay.io` or `10.0.0.1:5000`.
    pub fn of(&self, registry: &str) -> Option<&Credential> {
        self.0.get(&host(registry))
    }
}

impl Entry {
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        if let Some(token) = self.registrytoken {
            return Ok(Some(Credential::Token(token)));
        }
        // Beside it stands an `auth` with an empty password.
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::Identity(token)));
        }
        if let (Some(user), Some(password)) = (self.username, self.password) {
            return Ok(Some(Credential::of(user, password)));
        }
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else {
            return Ok(None);
        };
        let plain = STANDARD.decode(auth.trim()).ok();
        let plain = plain.and_then(|bytes| String::from_utf8(bytes).ok());
        let plain = plain.ok_or("`auth` is not base64 of a text")?;
        let (user, password) = plain
            .split_once(':')
            .ok_or("`auth` is not base64 of 'user:password'")?;
        let password = password.trim_end_matches('\0');
        Ok(Some(Credential::of(user.to_owned(), password.to_owned())))
    }
}

/// The registry a key speaks of: `https://index.docker.io/v1/` is Docker's hub, as is `docker.io`.
fn host(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let bare = bare.split('/').next().unwrap_or_default();
    match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_files_are_read() {
        let text = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0OndpdGg6Y29sb25z"},
            "quay.io": {"username": "u", "password": "p"},
            "ghcr.io": {"registrytoken": "t"},
            "azurecr.io": {"auth": "MDAwMDA6", "identitytoken": "i"},
            "helped.io": {"username": "<token>", "password": "j"},
            "empty.io": {}
        }, "credsStore": "desktop"}"#;
        let read = Credentials::parse(text).unwrap();
        let basic = |user: &str, password: &str| Credential::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        assert_eq!(
            read.of("docker.io"),
            Some(&basic("me", "secret:with:colons"))
        );
        assert_eq!(read.of("registry-1.docker.io"), read.of("docker.io"));
        assert_eq!(read.of("quay.io"), Some(&basic("u", "p")));
        assert_eq!(read.of("ghcr.io"), Some(&Credential::Token("t".to_owned())));
        let identity = |token: &str| Credential::Identity(token.to_owned());
        assert_eq!(read.of("azurecr.io"), Some(&identity("i")));
        assert_eq!(read.of("helped.io"), Some(&identity("j")));
        assert_eq!(read.of("empty.io"), None);
        let old = br#"{"10.0.0.1:5000": {"auth": "dTpw", "email": "x"}}"#;
        let read = Credentials::parse(old).unwrap();
        assert_eq!(read.of("10.0.0.1:5000"), Some(&basic("u", "p")));
    }

    #[test]
    fn secrets_stay_out_of_sight() {
        let read =
            Credentials::parse(br#"{"auths": {"a.io": {"username": "u", "password": "pp"}}}"#);
        assert!(!format!("{read:?}").contains("pp"));
        for text in [
            &b"{\"auths\": {\"a\": {\"auth\": \"s3cret\"}}}"[..],
            b"{\"s3cret\"",
            b"[\"s3cret\"]",
        ] {
            let error = Credentials::parse(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

//! Which authenticators guard a realm, as flags name them.

use std::sync::Arc;

use dcos_core::config::{Spec, Values};
use dcos_core::error::chain;

use crate::jwt::{Keys, PublicKeys};
use crate::{Authenticator, Basic, Bearer, Combined, Credentials, Secret};

/// The flags beside `--jwt_secret_key` that say whose tokens are taken; ours.
pub const TOKEN_OPTIONS: [Spec; 2] = [
    Spec::path("jwt_public_keys").help(
        "a file with the public keys of whoever issues tokens: a JSON web key set, for RS256 and ES256",
    ),
    Spec::text("jwt_audience")
        .help("whom tokens have to be for (`aud`); those of --jwt_public_keys have to say it, then"),
];

/// A flag that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {reason}")]
pub struct FlagError {
    /// Which flag.
    pub flag: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// What the authenticators of HTTP know: `basic` the credentials, `jwt` the keys of tokens.
#[derive(Debug, Clone)]
pub struct Guards {
    /// The flag that names the credentials, for errors.
    pub credentials_flag: &'static str,
    /// Principals and their secrets.
    pub credentials: Option<Credentials>,
    /// What tokens are checked with.
    pub keys: Keys,
    /// Whether tokens without names are taken: those of executors, which are only for agents.
    pub executors: bool,
}

impl Guards {
    /// Nothing known but these credentials, which came from that flag.
    pub fn new(credentials_flag: &'static str, credentials: Option<Credentials>) -> Self {
        Self {
            credentials_flag,
            credentials,
            keys: Keys::default(),
            executors: false,
        }
    }

    /// The same with the keys that `--jwt_secret_key` and [`TOKEN_OPTIONS`] say.
    ///
    /// # Errors
    /// [`FlagError`], also for flags that would do nothing.
    pub fn with_keys(mut self, values: &Values) -> Result<Self, FlagError> {
        let wrong = |flag, error: &dyn std::error::Error| FlagError {
            flag,
            reason: chain(error).to_string(),
        };
        let shared = values.opt_path("jwt_secret_key");
        let shared = shared.map(|path| Secret::read(&path)).transpose();
        let public = values.opt_path("jwt_public_keys");
        let public = public.map(|path| PublicKeys::read(&path)).transpose();
        self.keys = Keys {
            shared: shared.map_err(|error| wrong("jwt_secret_key", &error))?,
            public: public
                .map_err(|error| wrong("jwt_public_keys", &error))?
                .unwrap_or_default(),
            audience: values.opt_text("jwt_audience"),
        };
        if self.keys.is_empty() && self.keys.audience.is_some() {
            return Err(FlagError {
                flag: "jwt_audience",
                reason: "no tokens are taken without a key of them".to_owned(),
            });
        }
        Ok(self)
    }

    /// Who guards `realm`: those of these names, in this order.
    ///
    /// # Errors
    /// [`FlagError`] if there is none, one is unknown, or what it has to know is not there.
    pub fn guard(
        &self,
        realm: &'static str,
        names: &[String],
    ) -> Result<Arc<dyn Authenticator>, FlagError> {
        let mut all = names
            .iter()
            .map(|name| self.one(realm, name))
            .collect::<Result<Vec<_>, _>>()?;
        match all.len() {
            0 => Err(FlagError {
                flag: "http_authenticators",
                reason: format!("No HTTP authenticators specified for realm '{realm}'"),
            }),
            1 => Ok(all.remove(0)),
            _ => Ok(Arc::new(Combined::new(all))),
        }
    }

    fn one(&self, realm: &'static str, name: &str) -> Result<Arc<dyn Authenticator>, FlagError> {
        let missing = |flag, what: &str| FlagError {
            flag,
            reason: format!(
                "No {what} provided for the default '{name}' HTTP authenticator for realm '{realm}'"
            ),
        };
        match name {
            "basic" => {
                let known = self.credentials.clone();
                let known = known.ok_or_else(|| missing(self.credentials_flag, "credentials"))?;
                Ok(Arc::new(Basic::new(realm, known)))
            }
            "jwt" if self.keys.is_empty() => Err(missing("jwt_secret_key", "secret key")),
            "jwt" => {
                let bearer = Bearer::new(realm, self.keys.clone());
                Ok(Arc::new(if self.executors {
                    bearer
                } else {
                    bearer.named_only()
                }))
            }
            other => Err(FlagError {
                flag: "http_authenticators",
                reason: format!(
                    "there is no HTTP authenticator {other:?}; there are basic and jwt"
                ),
            }),
        }
    }
}

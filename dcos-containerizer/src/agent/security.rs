//! How an agent is secured: who it is to the master, whom it lets in, what they may do.

use std::sync::Arc;
use std::time::Duration;

use dcos_core::config::{Spec, Values};
use dcos_core::error::chain;
use dcos_security::{
    Acls, AllowAll, Authenticator, Authorizer, Credential, Credentials, FlagError, Guards, Secret,
    TOKEN_OPTIONS,
};

use serde_json::json;

use super::ConfigError;
use super::http::realms;

/// The flags of Mesos 1.11 about it.
pub const SECURITY_OPTIONS: &[Spec] = &[
    Spec::path("credential")
        .help("the principal and secret it shows the master: JSON, or `principal secret`"),
    Spec::choice("authenticatee", &["crammd5"])
        .default("crammd5")
        .help("how it shows them"),
    Spec::duration("authentication_backoff_factor")
        .default("1secs")
        .help("by how much more than the least time the first try may take, halved"),
    Spec::duration("authentication_timeout_min")
        .default("5secs")
        .help("how long the master may take to answer at least, before another try"),
    Spec::duration("authentication_timeout_max")
        .default("1mins")
        .help("how long it may take at most; the time grows with every try"),
    Spec::path("http_credentials")
        .help("principals and their secrets for HTTP: JSON, or `principal secret` lines"),
    Spec::switch("authenticate_http_readonly").help("ask for credentials on endpoints that read"),
    Spec::switch("authenticate_http_readwrite")
        .help("ask for credentials on endpoints that change something, and on /api/v1"),
    Spec::switch("authenticate_http_executors")
        .help("take only executors that show the token they were given"),
    Spec::list("http_authenticators")
        .help("how callers of HTTP endpoints authenticate: basic, jwt"),
    Spec::path("jwt_secret_key")
        .help("a file with the key that tokens are signed with (HS256): executors', and others'"),
    TOKEN_OPTIONS[0],
    TOKEN_OPTIONS[1],
    Spec::choice("authorizer", &["local"])
        .default("local")
        .help("who decides what callers may do"),
    Spec::json("acls").help("the rules of the local authorizer, as JSON or file:///path"),
    Spec::switch("allow_calls_of_containers").help(
        "processes in containers may launch containers, enter and attach to them without credentials, as in Mesos",
    ),
];

/// How an agent is secured.
#[derive(Debug, Clone)]
pub struct Security {
    /// What it shows the master; `None` registers without.
    pub credential: Option<Credential>,
    /// How long the master may take to answer.
    pub patience: Patience,
    /// What executors' tokens are signed with; `None` gives them none.
    pub executor_key: Option<Secret>,
    /// Decides what callers may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// `mesos-agent-readonly`
    pub readonly: Option<Arc<dyn Authenticator>>,
    /// `mesos-agent-readwrite`
    pub readwrite: Option<Arc<dyn Authenticator>>,
    /// `mesos-agent-executor`
    pub executor: Option<Arc<dyn Authenticator>>,
    /// Processes in containers may do without credentials what others may: launch containers, enter and attach to
    /// them; otherwise custom executors may, in their own.
    pub allow_calls_of_containers: bool,
}

/// How long a try to authenticate may take: a random time, whose upper bound grows with each try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The least time.
    pub min: Duration,
    /// The most time.
    pub max: Duration,
    /// Half of what the first try may take beyond the least time.
    pub factor: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            min: Duration::from_secs(5),
            max: Duration::from_mins(1),
            factor: Duration::from_secs(1),
        }
    }
}

impl Default for Security {
    /// Everybody may do everything, as in Mesos; but for what leads from one container to another.
    fn default() -> Self {
        Self {
            credential: None,
            patience: Patience::default(),
            executor_key: None,
            authorizer: Arc::new(AllowAll),
            readonly: None,
            readwrite: None,
            executor: None,
            allow_calls_of_containers: false,
        }
    }
}

impl Security {
    /// What values of [`SECURITY_OPTIONS`] say.
    ///
    /// # Errors
    /// The first that makes no sense.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let wrong = |key, error: &dyn std::error::Error| ConfigError {
            key,
            problem: chain(error).to_string(),
        };
        let credential = values.opt_path("credential");
        let credential = credential.map(|path| Credential::read(&path)).transpose();
        let known = values.opt_path("http_credentials");
        let known = known.map(|path| Credentials::read(&path)).transpose();
        let known = known.map_err(|error| wrong("http_credentials", &error))?;
        let guards = Guards {
            executors: true,
            ..Guards::new("http_credentials", known).with_keys(values)?
        };
        let (known, key) = (&guards.credentials, guards.keys.shared.clone());
        // Executors have tokens if there is a key, and without rules those would be good for the whole node.
        let none = || key.is_some().then(|| json!({}));
        let authorizer: Arc<dyn Authorizer> = match values.opt_json("acls").or_else(none) {
            Some(json) => Arc::new(Acls::from_json(&json).map_err(|error| wrong("acls", &error))?),
            None => Arc::new(AllowAll),
        };
        let executors = values.switch("authenticate_http_executors");
        if executors && key.is_none() {
            return Err(ConfigError {
                key: "jwt_secret_key",
                problem: "it must be specified when --authenticate_http_executors is set to true"
                    .to_owned(),
            });
        }
        let names = values.opt_list("http_authenticators").unwrap_or_else(|| {
            let both = ["basic", "jwt"].map(ToOwned::to_owned);
            // Executors show tokens, and nothing else knows them.
            both[..if executors && known.is_some() { 2 } else { 1 }].to_vec()
        });
        let asked = |flag, realm| {
            let wanted = values.switch(flag);
            wanted.then(|| guards.guard(realm, &names)).transpose()
        };
        let executor = if executors && known.is_none() {
            Some(guards.guard(realms::EXECUTOR, &["jwt".to_owned()])?)
        } else {
            asked("authenticate_http_executors", realms::EXECUTOR)?
        };
        Ok(Self {
            credential: credential.map_err(|error| wrong("credential", &error))?,
            patience: Patience {
                min: values.duration("authentication_timeout_min"),
                max: values.duration("authentication_timeout_max"),
                factor: values.duration("authentication_backoff_factor"),
            },
            readonly: asked("authenticate_http_readonly", realms::READONLY)?,
            readwrite: asked("authenticate_http_readwrite", realms::READWRITE)?,
            executor,
            executor_key: key,
            authorizer,
            allow_calls_of_containers: values.switch("allow_calls_of_containers"),
        })
    }
}

impl From<FlagError> for ConfigError {
    fn from(FlagError { flag, reason }: FlagError) -> Self {
        Self {
            key: flag,
            problem: reason,
        }
    }
}

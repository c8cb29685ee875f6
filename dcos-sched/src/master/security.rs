//! How a master is secured: whom it knows, what they may do, how often they may speak.

use std::sync::Arc;
use std::time::Duration;

use dcos_core::config::{Spec, Values};
use dcos_core::error::chain;
use dcos_security::{
    Acls, AllowAll, Authenticator, Authorizer, Credentials, FlagError, Guards, RateLimits,
    TOKEN_OPTIONS,
};

use super::ConfigError;
use super::http::realms;

/// The flags of Mesos 1.11 about it.
pub const SECURITY_OPTIONS: &[Spec] = &[
    Spec::path("credentials")
        .help("Principals and their secrets: JSON, or `principal secret` on each line."),
    Spec::switch("authenticate_frameworks")
        .help("Take only v0 drivers that authenticate (CRAM-MD5)."),
    Spec::switch("authenticate_agents").help("Take only agents that authenticate (CRAM-MD5)."),
    Spec::duration("authentication_v0_timeout")
        .default("15secs")
        .help("How long a driver or agent may take to authenticate."),
    Spec::choice("authenticators", &["crammd5"])
        .default("crammd5")
        .help("How drivers and agents authenticate."),
    Spec::switch("authenticate_http_readonly").help("Ask for credentials on endpoints that read."),
    Spec::switch("authenticate_http_readwrite")
        .help("Ask for credentials on endpoints that change something, and on /api/v1."),
    Spec::switch("authenticate_http_frameworks").help("Ask schedulers of API v1 for credentials."),
    Spec::list("http_authenticators")
        .default("basic")
        .help("How callers of HTTP endpoints authenticate: basic, jwt, or both."),
    Spec::list("http_framework_authenticators")
        .help("The same for schedulers; has to be set with --authenticate_http_frameworks."),
    Spec::path("jwt_secret_key").help("A file with the key that tokens are signed with (HS256)."),
    TOKEN_OPTIONS[0],
    TOKEN_OPTIONS[1],
    Spec::choice("authorizers", &["local"])
        .default("local")
        .help("Who decides what callers may do."),
    Spec::json("acls")
        .help("The rules of the local authorizer, as a JSON document or file:///path."),
    Spec::json("rate_limits").help(
        "How often the frameworks of each principal may speak, as a JSON document or file:///path.",
    ),
];

/// What the core must know about security.
#[derive(Debug, Clone)]
pub struct Security {
    /// Decides what callers and frameworks may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// Whom drivers and agents may authenticate as; `None` if they can't authenticate.
    pub credentials: Option<Credentials>,
    /// Whether drivers have to.
    pub authenticate_frameworks: bool,
    /// Whether agents have to.
    pub authenticate_agents: bool,
    /// How long they may take.
    pub authentication_timeout: Duration,
    /// How often the frameworks of each principal may speak.
    pub rate_limits: RateLimits,
}

impl Default for Security {
    /// Everybody may do everything, as in Mesos.
    fn default() -> Self {
        Self {
            authorizer: Arc::new(AllowAll),
            credentials: None,
            authenticate_frameworks: false,
            authenticate_agents: false,
            authentication_timeout: Duration::from_secs(15),
            rate_limits: RateLimits::default(),
        }
    }
}

/// Who guards the realms of the HTTP endpoints; `None` leaves one open.
#[derive(Debug, Clone, Default)]
pub struct HttpSecurity {
    /// `mesos-master-readonly`
    pub readonly: Option<Arc<dyn Authenticator>>,
    /// `mesos-master-readwrite`
    pub readwrite: Option<Arc<dyn Authenticator>>,
    /// `mesos-master-scheduler`
    pub scheduler: Option<Arc<dyn Authenticator>>,
}

impl HttpSecurity {
    /// What flags in the form of [`SECURITY_OPTIONS`] say.
    pub(super) fn from_values(
        values: &Values,
        credentials: Option<&Credentials>,
    ) -> Result<Self, ConfigError> {
        let names = values.opt_list("http_authenticators").unwrap_or_default();
        let guards = Guards::new("credentials", credentials.cloned()).with_keys(values)?;
        let guard = |flag, realm, names: &[String]| {
            let wanted = values.switch(flag);
            wanted.then(|| guards.guard(realm, names)).transpose()
        };
        let scheduler = values.opt_list("http_framework_authenticators");
        if values.switch("authenticate_http_frameworks") && scheduler.is_none() {
            return Err(ConfigError {
                flag: "http_framework_authenticators",
                reason: "it has to be set with --authenticate_http_frameworks".to_owned(),
            });
        }
        Ok(Self {
            readonly: guard("authenticate_http_readonly", realms::READONLY, &names)?,
            readwrite: guard("authenticate_http_readwrite", realms::READWRITE, &names)?,
            scheduler: guard(
                "authenticate_http_frameworks",
                realms::SCHEDULER,
                &scheduler.unwrap_or_default(),
            )?,
        })
    }
}

impl From<FlagError> for ConfigError {
    fn from(FlagError { flag, reason }: FlagError) -> Self {
        Self { flag, reason }
    }
}

impl Security {
    /// What flags in the form of [`SECURITY_OPTIONS`] say.
    pub(super) fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let wrong = |flag, error: &dyn std::error::Error| ConfigError {
            flag,
            reason: chain(error).to_string(),
        };
        let credentials = values
            .opt_path("credentials")
            .map(|path| Credentials::read(&path))
            .transpose()
            .map_err(|error| wrong("credentials", &error))?;
        let authorizer: Arc<dyn Authorizer> = match values.opt_json("acls") {
            Some(json) => Arc::new(Acls::from_json(&json).map_err(|error| wrong("acls", &error))?),
            None => Arc::new(AllowAll),
        };
        let rate_limits = match values.opt_json("rate_limits") {
            Some(json) => {
                RateLimits::from_json(&json).map_err(|error| wrong("rate_limits", &error))?
            }
            None => RateLimits::default(),
        };
        let security = Self {
            authorizer,
            credentials,
            authenticate_frameworks: values.switch("authenticate_frameworks"),
            authenticate_agents: values.switch("authenticate_agents"),
            authentication_timeout: values.duration("authentication_v0_timeout"),
            rate_limits,
        };
        if security.credentials.is_none()
            && (security.authenticate_frameworks || security.authenticate_agents)
        {
            return Err(ConfigError {
                flag: "credentials",
                reason: "it has to be set with --authenticate_frameworks and --authenticate_agents"
                    .to_owned(),
            });
        }
        Ok(security)
    }
}

//! TLS as the environment variables of libprocess say it (`LIBPROCESS_SSL_*`).
//!
//! Source: Mesos 1.11 `3rdparty/libprocess/src/openssl.cpp`, `docs/ssl.md`. Departures: TLS 1.3 is
//! on unless switched off; nothing older than TLS 1.2; a peer found by its address need not be
//! named by reverse DNS, since whoever answers for the address may answer that question too.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, ClientConfig, NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use super::identity::Identity;
use super::verify::{Check, Verifier};
use super::{TlsError, certificates, provider};

/// TLS for every port and every connection of a process.
///
/// Its certificates and key are read anew when their files change, for the connections that come
/// later; whom it trusts is read once.
#[derive(Debug, Clone)]
pub struct Ssl {
    /// For those who connect to this process.
    pub server: Arc<ServerConfig>,
    /// For the connections this process opens to others of the cluster.
    pub client: Arc<ClientConfig>,
    /// Whether peers without TLS are served too, and tried without.
    pub downgrade: bool,
}

/// Why `LIBPROCESS_SSL_*` can't be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SslError {
    /// A switch is neither on nor off.
    #[error("LIBPROCESS_SSL_{name}={value} is neither true nor false")]
    Switch {
        /// What comes behind the prefix.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// TLS is on, and something it needs is not there.
    #[error("LIBPROCESS_SSL_ENABLED needs LIBPROCESS_SSL_{name}")]
    Missing {
        /// What comes behind the prefix.
        name: &'static str,
    },
    /// What is asked for is not offered here.
    #[error("LIBPROCESS_SSL_{name}={value} is not supported: {reason}")]
    Unsupported {
        /// What comes behind the prefix.
        name: &'static str,
        /// Its value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// Files with keys and certificates are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

const PREFIX: &str = "LIBPROCESS_SSL_";

impl Ssl {
    /// What the environment of this process says; `None` if TLS is off there.
    ///
    /// # Errors
    /// [`SslError`], naming the variable.
    pub fn from_env() -> Result<Option<Self>, SslError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// How servers of the cluster are reached if nobody says it: `https` if the environment
    /// switches TLS on.
    pub fn scheme() -> &'static str {
        let enabled = std::env::var(format!("{PREFIX}ENABLED"));
        match enabled.as_deref() {
            Ok("true" | "1") => "https",
            _ => "http",
        }
    }

    /// The same with variables from anywhere.
    ///
    /// # Errors
    /// [`SslError`], naming the variable.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SslError> {
        let variables = Variables(&get);
        if !variables.switch("ENABLED", false)? {
            return Ok(None);
        }
        variables.refuse_old_versions()?;
        variables.refuse_other_checks()?;
        let provider = Arc::new(variables.provider()?);
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        if variables.switch("ENABLE_TLS_V1_2", true)? {
            versions.push(&TLS12);
        }
        if variables.switch("ENABLE_TLS_V1_3", true)? {
            versions.push(&TLS13);
        }
        if versions.is_empty() {
            return Err(SslError::Unsupported {
                name: "ENABLE_TLS_V1_2",
                value: "false".to_owned(),
                reason: "no version of TLS is left",
            });
        }
        let chain = variables.path("CERT_FILE")?;
        let key = variables.path("KEY_FILE")?;
        let roots = variables.roots()?;
        let identity = Identity::read(&chain, &key, &provider)?;
        let require = variables.switch("REQUIRE_CLIENT_CERT", false)?
            || variables.switch("REQUIRE_CERT", false)?;
        // Whoever asks others for a signed certificate wants one of those it speaks to as well.
        let verify = variables.switch("VERIFY_SERVER_CERT", false)?
            || variables.switch("VERIFY_CERT", false)?
            || require;
        let check = if verify {
            Check::Signed {
                roots: roots.clone(),
                addresses: variables.switch("VERIFY_IPADD", false)?,
            }
        } else {
            Check::Nothing
        };
        let clients = require.then_some(roots);
        Ok(Some(Self {
            server: server(Arc::clone(&identity), clients, &provider, &versions)?,
            client: client(identity, check, &provider, &versions)?,
            downgrade: variables.switch("SUPPORT_DOWNGRADE", false)?,
        }))
    }
}

fn unusable(source: rustls::Error) -> TlsError {
    TlsError::Unusable { source }
}

fn server(
    identity: Arc<Identity>,
    clients: Option<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let provider = Arc::clone(provider);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.map_err(|source| TlsError::Verifier { source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn client(
    identity: Arc<Identity>,
    check: Check,
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = Verifier {
        check,
        provider: Arc::clone(provider),
    };
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(identity);
    Ok(Arc::new(config))
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.0)(&format!("{PREFIX}{name}"))?;
        (!value.is_empty()).then_some(value)
    }

    fn switch(&self, name: &'static str, default: bool) -> Result<bool, SslError> {
        match self.get(name).as_deref() {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(value) => Err(SslError::Switch {
                name,
                value: value.to_owned(),
            }),
        }
    }

    fn path(&self, name: &'static str) -> Result<PathBuf, SslError> {
        let path = self.get(name).ok_or(SslError::Missing { name })?;
        Ok(path.strip_prefix("file://").unwrap_or(&path).into())
    }

    fn refuse_old_versions(&self) -> Result<(), SslError> {
        for name in ["ENABLE_SSL_V3", "ENABLE_TLS_V1_0", "ENABLE_TLS_V1_1"] {
            if self.switch(name, false)? {
                return Err(SslError::Unsupported {
                    name,
                    value: "true".to_owned(),
                    reason: "there are TLS 1.2 and 1.3",
                });
            }
        }
        Ok(())
    }

    fn refuse_other_checks(&self) -> Result<(), SslError> {
        let scheme = self.get("HOSTNAME_VALIDATION_SCHEME");
        if let Some(value) = scheme.filter(|scheme| !["legacy", "openssl"].contains(&&**scheme)) {
            return Err(SslError::Unsupported {
                name: "HOSTNAME_VALIDATION_SCHEME",
                value,
                reason: "there are legacy and openssl, which mean the same here",
            });
        }
        for name in ["VERIFICATION_DEPTH", "VERIFY_DEPTH"] {
            if let Some(value) = self.get(name)
                && value.parse::<u32>().is_ok_and(|depth| depth < 4)
            {
                return Err(SslError::Unsupported {
                    name,
                    value,
                    reason: "chains of up to 6 certificates are followed",
                });
            }
        }
        Ok(())
    }

    /// Who may have signed a peer's certificate.
    fn roots(&self) -> Result<RootCertStore, SslError> {
        let mut files = Vec::new();
        files.extend(self.get("CA_FILE").map(PathBuf::from));
        if let Some(folder) = self.get("CA_DIR").map(PathBuf::from) {
            let unreadable = |error: std::io::Error| TlsError::Read {
                path: folder.clone(),
                source: rustls::pki_types::pem::Error::Io(error),
            };
            for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
                let path = entry.map_err(unreadable)?.path();
                files.extend(path.is_file().then_some(path));
            }
            files.sort();
        }
        let mut roots = RootCertStore::empty();
        if files.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        for file in files {
            for certificate in certificates(&file)? {
                roots.add(certificate).map_err(unusable)?;
            }
        }
        Ok(roots)
    }

    /// What of aws-lc is used: all, unless suites or curves are chosen.
    fn provider(&self) -> Result<CryptoProvider, SslError> {
        let mut provider = CryptoProvider::clone(&provider());
        if let Some(value) = self.get("CIPHERS") {
            let named: Vec<&str> = value.split([':', ',', ' ']).collect();
            provider.cipher_suites.retain(|suite| {
                suite.tls13().is_some()
                    || named
                        .iter()
                        .any(|name| suite_of(name) == Some(suite.suite()))
            });
            if provider
                .cipher_suites
                .iter()
                .all(|suite| suite.tls13().is_some())
                && !self.switch("ENABLE_TLS_V1_3", true)?
            {
                let reason = "none of these suites is safe; leave it out for those that are";
                return Err(SslError::Unsupported {
                    name: "CIPHERS",
                    value,
                    reason,
                });
            }
        }
        let curves = self.get("ECDH_CURVES").filter(|curves| curves != "auto");
        if let Some(value) = curves {
            let named: Vec<&str> = value.split(':').collect();
            let chosen = |group: NamedGroup| named.iter().any(|name| curve_of(name) == Some(group));
            provider.kx_groups.retain(|group| chosen(group.name()));
            if provider.kx_groups.is_empty() {
                return Err(SslError::Unsupported {
                    name: "ECDH_CURVES",
                    value,
                    reason: "there are X25519, P-256 and P-384",
                });
            }
        }
        Ok(provider)
    }
}

/// The suite of TLS 1.2 with OpenSSL's name.
fn suite_of(name: &str) -> Option<CipherSuite> {
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES256-GCM-SHA384" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-CHACHA20-POLY1305" => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "ECDHE-RSA-AES128-GCM-SHA256" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES256-GCM-SHA384" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-CHACHA20-POLY1305" => CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        _ => return None,
    })
}

fn curve_of(name: &str) -> Option<NamedGroup> {
    Some(match name {
        "X25519" | "x25519" => NamedGroup::X25519,
        "P-256" | "prime256v1" | "secp256r1" => NamedGroup::secp256r1,
        "P-384" | "secp384r1" => NamedGroup::secp384r1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(variables: &[(&str, &str)]) -> String {
        let found = Ssl::from_variables(|name| {
            let name = name.strip_prefix(PREFIX).unwrap();
            let all = [("ENABLED", "true")];
            let mut all = all.iter().chain(variables);
            all.find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        });
        found.unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (name, value, expected) in [
            ("SUPPORT_DOWNGRADE_", "", "needs LIBPROCESS_SSL_CERT_FILE"),
            (
                "ENABLE_TLS_V1_3",
                "maybe",
                "ENABLE_TLS_V1_3=maybe is neither",
            ),
            (
                "ENABLE_SSL_V3",
                "true",
                "ENABLE_SSL_V3=true is not supported",
            ),
            (
                "HOSTNAME_VALIDATION_SCHEME",
                "dns",
                "there are legacy and openssl",
            ),
            (
                "VERIFICATION_DEPTH",
                "1",
                "VERIFICATION_DEPTH=1 is not supported",
            ),
            ("ECDH_CURVES", "P-521", "there are X25519, P-256 and P-384"),
        ] {
            let found = error(&[(name, value)]);
            assert!(found.contains(expected), "{name}={value}: {found}");
        }
        let off = Ssl::from_variables(|_| None).unwrap();
        assert!(off.is_none());
        let weak = [("CIPHERS", "RC4-SHA:AES128-SHA"), ("ENABLE_TLS_V1_3", "0")];
        assert!(error(&weak).contains("none of these suites"));
    }
}

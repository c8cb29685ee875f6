//! Keys and certificates for either side of a connection, with one crypto provider: aws-lc.

mod identity;
mod ssl;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use identity::Identity;
pub use ssl::{Ssl, SslError};
use verify::{Check, Verifier};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file holds no certificate or key, or can't be read.
    #[error("reading {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{path:?} holds no certificate")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Certificates and key do not fit each other, or are not usable.
    #[error("certificates or key are not usable")]
    Unusable {
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The certificates that clients must be signed by are not usable.
    #[error("the authority for clients is not usable")]
    Verifier {
        /// What is wrong with it.
        source: rustls::server::VerifierBuilderError,
    },
}

/// Whom a client trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// What the operating system trusts.
    #[default]
    System,
    /// Who is signed by a certificate in this file (PEM), such as the cluster's own authority.
    File(PathBuf),
    /// Anybody: the connection is encrypted, and nothing is known of the other side. For asking
    /// somebody whose address says enough, such as a task's health on its own loopback device.
    Anyone,
}

/// A server that shows the certificates in `chain` (its own first) and owns `key`, both in PEM;
/// when these files change, it shows what they hold then.
/// With `clients`, only those signed by a certificate in that file get in.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn server(
    chain: &Path,
    key: &Path,
    clients: Option<&Path>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let identity = Identity::read(chain, key, &provider())?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Unusable { source })?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider())
                    .build()
                    .map_err(|source| TlsError::Verifier { source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts `trust`.
///
/// # Errors
/// [`TlsError`], naming the file.
pub fn client(trust: &Trust) -> Result<ClientConfig, TlsError> {
    let roots = match trust {
        Trust::File(path) => roots(path)?,
        Trust::Anyone => return anyone(),
        Trust::System => {
            // A certificate the system can't read is one nobody can be signed by.
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Unusable { source })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A client that accepts every certificate.
fn anyone() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Unusable { source })?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            check: Check::Nothing,
            provider: provider(),
        }))
        .with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Unusable { source })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

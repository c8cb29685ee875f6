//! The certificates and the key that a process shows to others, read anew when their files change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, certificates};

/// A chain of certificates (its own first) and the key of the first, both in PEM files.
///
/// The files are looked at in each handshake: two calls of the system beside a handshake's
/// milliseconds. As long as what they hold is not usable (one of the two is new already, or half
/// written), what they held before is shown.
#[derive(Debug)]
pub(super) struct Identity {
    chain: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Shown>,
}

#[derive(Debug)]
struct Shown {
    certified: Arc<CertifiedKey>,
    /// How the files were when they were read last, whether they could be used or not.
    stamps: Stamps,
}

/// What tells a file from what it was before; `None` if it is not there.
type Stamps = [Option<(SystemTime, u64, u64)>; 2];

impl Identity {
    pub(super) fn read(
        chain: &Path,
        key: &Path,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, TlsError> {
        // First, so that a change while they are read is one.
        let stamps = stamps(chain, key);
        let certified = certified(chain, key, provider)?;
        Ok(Arc::new(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            provider: Arc::clone(provider),
            shown: RwLock::new(Shown { certified, stamps }),
        }))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now = stamps(&self.chain, &self.key);
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        if shown.stamps == now {
            return Arc::clone(&shown.certified);
        }
        drop(shown);
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        if shown.stamps != now {
            let chain = &self.chain;
            match certified(chain, &self.key, &self.provider) {
                Ok(certified) => {
                    tracing::info!(?chain, "certificates have changed");
                    shown.certified = certified;
                }
                Err(error) => {
                    let error = dcos_core::error::chain(&error);
                    tracing::warn!(?chain, %error, "changed certificates are not usable; the former are shown");
                }
            }
            shown.stamps = now;
        }
        Arc::clone(&shown.certified)
    }
}

fn stamps(chain: &Path, key: &Path) -> Stamps {
    [chain, key].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    })
}

fn certified(
    chain: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let certificates = certificates(chain)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Read {
        path: key.to_owned(),
        source,
    })?;
    let certified = CertifiedKey::from_der(certificates, key, provider);
    certified
        .map(Arc::new)
        .map_err(|source| TlsError::Unusable { source })
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

//! TLS between a machine and the servers of its ensemble: whom it trusts, and who it says it is.

use std::{fs, io, path::PathBuf};

/// Files in PEM that say how an ensemble is spoken to over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signs the servers' certificates; whoever the system trusts, if there is no file.
    pub ca: Option<PathBuf>,
    /// Our certificate, those that lead to the authority behind it, for servers that want one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Why an ensemble can't be spoken to over TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("reading {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is a certificate without a key, or the other way round.
    #[error("a certificate needs its key, and a key its certificate")]
    Half,
    /// The files do not hold what they should.
    #[error("certificates or key are not usable: {reason}")]
    Unusable {
        /// What is wrong with them.
        reason: String,
    },
}

/// What the files hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    /// The files of libprocess: `LIBPROCESS_SSL_CA_FILE`, `..._CERT_FILE` and `..._KEY_FILE`.
    pub fn from_env() -> Self {
        let file = |name: &str| {
            let file = std::env::var_os(format!("LIBPROCESS_SSL_{name}_FILE"))?;
            (!file.is_empty()).then(|| file.into())
        };
        Self {
            ca: file("CA"),
            cert: file("CERT"),
            key: file("KEY"),
        }
    }

    pub(crate) fn read(&self) -> Result<Tls, TlsError> {
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|source| TlsError::Read {
                path: path.clone(),
                source,
            })
        };
        let ca = self.ca.as_ref().map(read).transpose()?;
        let holds_some = |pem: &Vec<u8>| {
            let begin = b"-----BEGIN CERTIFICATE-----";
            pem.windows(begin.len()).any(|part| part == begin)
        };
        if let (Some(path), Some(false)) = (&self.ca, ca.as_ref().map(holds_some)) {
            let reason = format!("{} holds no certificate", path.display());
            return Err(TlsError::Unusable { reason });
        }
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err(TlsError::Half),
        };
        Ok(Tls { ca, identity })
    }
}

//! Sessions: how long one may be silent, what it may do, and what its errors mean.

use std::time::Duration;

use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{sync::Mutex, time::timeout};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error, Permission, TlsOptions};

use crate::{Ensemble, MediumError, TlsError, tls::Tls};

/// How long a single request may take.
pub(super) const REQUEST: Duration = Duration::from_secs(5);

/// Connects with a session of its own, which ends when the last clone of the client is dropped.
pub(super) async fn connect(ensemble: &Ensemble) -> Result<Client, Error> {
    let mut connector = Client::connector().with_session_timeout(ensemble.session_timeout);
    if let Some((user, password)) = &ensemble.user {
        connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
    }
    let servers = ensemble.servers.join(",");
    let connecting = async {
        match &ensemble.tls {
            Some(tls) => {
                let connector = connector.with_tls(options(tls)?);
                connector.secure_connect(&servers).await
            }
            None => connector.connect(&servers).await,
        }
    };
    let patience = ensemble.session_timeout.max(REQUEST);
    let connected = timeout(patience, connecting).await;
    let connected = connected.unwrap_or(Err(Error::Timeout));
    // The client keeps to itself why a handshake failed.
    if ensemble.tls.is_some() && matches!(connected, Err(Error::Timeout)) {
        tracing::warn!(
            servers,
            "ZooKeeper does not answer over TLS; RUST_LOG=info,zookeeper_client=debug tells why"
        );
    }
    connected
}

/// Whether certificates and key of an ensemble can be used.
pub(crate) fn check_tls(ensemble: &Ensemble) -> Result<(), TlsError> {
    let Some(tls) = &ensemble.tls else {
        return Ok(());
    };
    let unusable = |error: &dyn std::error::Error| TlsError::Unusable {
        reason: error.to_string(),
    };
    options(tls).map_err(|error| unusable(&error))?;
    if let Some((certificates, key)) = &tls.identity {
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(certificates).collect();
        let certificates = certificates.map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(&error))?;
        let both = CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider());
        both.map_err(|error| unusable(&error))?;
    }
    Ok(())
}

fn options(tls: &Tls) -> Result<TlsOptions, Error> {
    let text = String::from_utf8_lossy;
    let nobody = Error::BadArguments(&"who signs the certificates of its servers has to be said");
    let ca = tls.ca.as_deref().ok_or(nobody)?;
    let options = TlsOptions::new().with_pem_ca(&text(ca))?;
    match &tls.identity {
        Some((certificates, key)) => options.with_pem_identity(&text(certificates), &text(key)),
        None => Ok(options),
    }
}

/// The request's answer, or a timeout if none comes.
pub(super) async fn within<T, E: From<Error>>(
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    timeout(REQUEST, request)
        .await
        .unwrap_or_else(|_| Err(Error::Timeout.into()))
}

/// Who may do what with our nodes: everybody, or with a password, everybody reads and the creator does all.
#[derive(Debug)]
pub(super) struct Rights(Vec<Acl>);

impl Rights {
    pub(super) fn of(ensemble: &Ensemble) -> Self {
        let anyone = |permission| Acl::new(permission, AuthId::anyone());
        Self(match ensemble.user {
            None => vec![anyone(Permission::ALL)],
            Some(_) => vec![
                anyone(Permission::READ),
                Acl::new(Permission::ALL, AuthId::authed()),
            ],
        })
    }

    pub(super) fn acls(&self) -> Acls<'_> {
        Acls::new(&self.0)
    }
}

/// Makes the folder at `path` and those above it.
pub(super) async fn make_folder(client: &Client, path: &str, rights: &Rights) -> Result<(), Error> {
    if within(client.check_stat(path)).await?.is_some() {
        return Ok(());
    }
    let options = CreateMode::Persistent.with_acls(rights.acls());
    within(client.mkdir(path, &options)).await
}

/// Whether trying again could help, if with another session.
pub(super) fn is_transient(error: &Error) -> bool {
    !matches!(
        error,
        Error::NoAuth
            | Error::AuthFailed
            | Error::InvalidAcl
            | Error::BadArguments(_)
            | Error::QuotaExceeded
            | Error::Unimplemented
            | Error::NoChildrenForEphemerals
            | Error::UnmarshalError { .. }
    )
}

impl From<Error> for MediumError {
    fn from(error: Error) -> Self {
        let text = format!("ZooKeeper: {error}");
        if is_transient(&error) {
            Self::Unreachable(text)
        } else {
            Self::Refused(text)
        }
    }
}

/// A session that is made anew whenever it has ended.
#[derive(Debug)]
pub(super) struct Sessions {
    ensemble: Ensemble,
    /// Made once in each session.
    folder: String,
    present: Mutex<Option<Client>>,
}

impl Sessions {
    pub(super) fn new(ensemble: Ensemble, folder: String) -> Self {
        Self {
            ensemble,
            folder,
            present: Mutex::new(None),
        }
    }

    pub(super) async fn client(&self) -> Result<Client, Error> {
        let mut present = self.present.lock().await;
        if let Some(client) = present
            .as_ref()
            .filter(|client| !client.state().is_terminated())
        {
            return Ok(client.clone());
        }
        let client = connect(&self.ensemble).await?;
        make_folder(&client, &self.folder, &Rights::of(&self.ensemble)).await?;
        *present = Some(client.clone());
        Ok(client)
    }
}

//! [`Leader`]: who the leading master is, as configured or as an election shows it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use dcos_proto::mesos::MasterInfo;
use dcos_wire::libprocess::Upid;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::shell::AgentError;

/// The leading master, now and later.
#[derive(Debug)]
pub(super) enum Leader {
    Fixed(SocketAddr),
    Followed(watch::Receiver<Option<Arc<MasterInfo>>>),
}

impl Leader {
    pub(super) async fn of(config: &Config) -> Result<Self, AgentError> {
        match &config.leading {
            Some(leading) => Ok(Self::Followed(leading.clone())),
            None => Ok(Self::Fixed(find(&config.master).await?)),
        }
    }

    /// Its UPID, if anybody leads.
    pub(super) fn upid(&mut self) -> Option<String> {
        match self {
            Self::Fixed(address) => Some(format!("master@{address}")),
            Self::Followed(leading) => leading.borrow_and_update().as_deref().and_then(upid),
        }
    }

    /// Waits until another one leads, or nobody; for ever if that cannot be.
    pub(super) async fn changed(&mut self) -> Option<String> {
        if let Self::Followed(leading) = self
            && leading.changed().await.is_ok()
        {
            return self.upid();
        }
        std::future::pending().await
    }

    /// Where it is; waits until somebody leads, or `cancel`.
    pub(super) async fn address(&mut self, cancel: &CancellationToken) -> Option<SocketAddr> {
        loop {
            if let Self::Fixed(address) = self {
                return Some(*address);
            }
            let upid = self.upid().and_then(|upid| upid.parse::<Upid>().ok());
            if let Some(upid) = upid {
                return Some(upid.address());
            }
            tracing::info!("waiting for a master to be elected");
            tokio::select! {
                _ = self.changed() => {}
                () = cancel.cancelled() => return None,
            }
        }
    }
}

fn upid(info: &MasterInfo) -> Option<String> {
    if let Some(pid) = &info.pid {
        return Some(pid.clone());
    }
    let address = info.address.as_ref()?;
    let ip = address.ip.as_ref()?.parse().ok()?;
    let port = u16::try_from(address.port).ok()?;
    Some(Upid::new("master", SocketAddr::new(ip, port)).to_string())
}

/// The address of the master that `text` names.
async fn find(text: &str) -> Result<SocketAddr, AgentError> {
    let failed = |source| AgentError::Master {
        master: text.to_owned(),
        source,
    };
    if let Ok(upid) = text.parse::<Upid>() {
        return Ok(upid.address());
    }
    let mut found = tokio::net::lookup_host(text).await.map_err(failed)?;
    let none = || {
        failed(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ))
    };
    found.next().ok_or_else(none)
}

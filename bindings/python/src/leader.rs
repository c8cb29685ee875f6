//! Masters that are named by where they elect their leader: `zk://…` and `etcd://…`.

use std::time::Duration;

use dcos_proto::mesos::MasterInfo;
use dcos_sched::sdk::{LeadingMaster, master_url};
use dcos_store::{Ensemble, TlsFiles};
use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;

/// How long a leader is waited for: as long as electing one takes after the last was killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who leads, from now on, if `address` names an ensemble.
pub(crate) fn followed(address: &str) -> PyResult<Option<LeadingMaster>> {
    if !Ensemble::is_named_by(address) {
        return Ok(None);
    }
    let ensemble = Ensemble::parse(address);
    let ensemble = ensemble.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let ensemble = ensemble.with_tls(&TlsFiles::from_env());
    let ensemble = ensemble
        .map_err(|error| PyValueError::new_err(dcos_core::error::chain(&error).to_string()))?;
    let _inside = crate::runtime()?.enter();
    Ok(Some(dcos_store::masters(&ensemble)))
}

/// A server of the cluster.
#[derive(Debug)]
pub(crate) enum Server {
    /// At a URL without a slash at the end.
    At(String),
    /// On the machine of the leading master; at the master's own port if none is given.
    OfLeader(LeadingMaster, Option<u16>),
}

impl Server {
    pub(crate) async fn url(&self) -> PyResult<String> {
        match self {
            Self::At(url) => Ok(url.clone()),
            Self::OfLeader(leading, port) => {
                let mut leading = leading.clone();
                let elected = leading.wait_for(Option::is_some);
                let elected = tokio::time::timeout(PATIENCE, elected).await;
                let leader = elected.ok().and_then(|leader| leader.ok()?.clone());
                let nobody = "no master leads there, or nobody answers";
                let leader = leader.ok_or_else(|| PyConnectionError::new_err(nobody))?;
                let port = port.map_or(leader.port, u32::from);
                let leader = MasterInfo {
                    port,
                    ..MasterInfo::clone(&leader)
                };
                let nowhere = "the leading master names no address";
                master_url(&leader).ok_or_else(|| PyConnectionError::new_err(nowhere))
            }
        }
    }
}

//! Where the leading master is, if all that is known is where masters elect their leader.
//!
//! `zk://…` and `etcd://…` stand wherever a master's address may. They are read only: the original's command line asks
//! its detector in the same way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dcos_proto::mesos::MasterInfo;
use dcos_store::{Ensemble, TlsFiles, masters};
use dcos_wire::tls::Ssl;

/// How long a leader is waited for: as long as electing one takes after the last was killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// `address` as it is, or where the leader that is elected in the ensemble it names is reached.
pub(crate) async fn resolve(address: &str) -> anyhow::Result<String> {
    let Some(leader) = detect(address, PATIENCE).await? else {
        return Ok(address.to_owned());
    };
    let address = leader.address.as_ref();
    let host = leader
        .hostname
        .as_deref()
        .or_else(|| address.and_then(|address| address.hostname.as_deref()))
        .or_else(|| address.and_then(|address| address.ip.as_deref()));
    let host = host.context("the leading master has no address")?;
    Ok(format!("{}://{host}:{}", Ssl::scheme(), leader.port))
}

/// How `address` is shown to people: an ensemble without the credentials to it.
pub(crate) fn shown(address: &str) -> String {
    match Ensemble::parse(address) {
        Ok(ensemble) => ensemble.to_string(),
        Err(_) => address.to_owned(),
    }
}

/// What the leader says of itself that is elected in the ensemble `address` names, after waiting for it no longer than
/// `patience`; `None` if that is a master's address.
pub(crate) async fn detect(
    address: &str,
    patience: Duration,
) -> anyhow::Result<Option<Arc<MasterInfo>>> {
    if !Ensemble::is_named_by(address) {
        return Ok(None);
    }
    let ensemble = Ensemble::parse(address)?.with_tls(&TlsFiles::from_env())?;
    let mut leading = masters(&ensemble);
    let known = tokio::time::timeout(patience, leading.wait_for(Option::is_some)).await;
    let none = || format!("no master leads at {ensemble}, or nobody answers there");
    Ok(known.with_context(none)?.with_context(none)?.clone())
}

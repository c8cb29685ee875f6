//! Where the leading master is, if all that is known is where masters elect their leader.
//!
//! `zk://…` and `etcd://…` stand wherever a master's address may. They are read only: the original's command line asks
//! its detector in the same way.

use std::time::Duration;

use anyhow::Context as _;
use dcos_store::{Ensemble, masters};
use dcos_wire::tls::Ssl;

/// How long a leader is waited for: as long as electing one takes after the last was killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// `address` as it is, or where the leader that is elected in the ensemble it names is reached.
pub(crate) async fn resolve(address: &str) -> anyhow::Result<String> {
    if !Ensemble::is_named_by(address) {
        return Ok(address.to_owned());
    }
    let ensemble = Ensemble::parse(address)?;
    let mut leading = masters(&ensemble);
    let known = tokio::time::timeout(PATIENCE, leading.wait_for(Option::is_some)).await;
    let none = || format!("no master leads at {ensemble}, or nobody answers there");
    let leader = known.with_context(none)?.with_context(none)?.clone();
    let leader = leader.with_context(none)?;
    let address = leader.address.as_ref();
    let host = leader
        .hostname
        .as_deref()
        .or_else(|| address.and_then(|address| address.hostname.as_deref()))
        .or_else(|| address.and_then(|address| address.ip.as_deref()));
    let host = host.with_context(|| format!("the leader at {ensemble} has no address"))?;
    Ok(format!("{}://{host}:{}", Ssl::scheme(), leader.port))
}

//! A master's part in the nodes' gossip, and where it is told who is there.

use std::net::SocketAddr;

use axum::Router;
use dcos_gossip::{About, Kind};
use dcos_program::Part;
use dcos_proto::mesos::MasterInfo;
use dcos_sched::master::Stance;
use dcos_wire::libprocess::Upid;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Components;

/// Takes part, if there is a key for it.
pub(crate) async fn start(parts: &Components) -> anyhow::Result<Option<Part>> {
    let values = &parts.values;
    // Agents join the leading master where it says that it is.
    let about = About {
        hostname: parts.hostname.clone(),
        ..About::new(Kind::Master, parts.known)
    };
    let memory = values.path("work_dir").join("gossip/members.json");
    dcos_program::gossip(values, parts.ip, about, memory, &parts.stop).await
}

/// What the master answers of it at its own port.
pub(crate) fn routes(part: &Part) -> Router {
    Router::new().nest("/net", dcos_gossip::router(part.view()))
}

/// Joins whoever leads.
pub(crate) async fn follow(
    tell: impl Fn(&str),
    mut stance: watch::Receiver<Stance>,
    stop: CancellationToken,
) {
    let following = async {
        loop {
            if let Stance::Standby(Some(leader)) = &*stance.borrow_and_update()
                && let Some(address) = address(leader)
            {
                tell(&address.to_string());
            }
            if stance.changed().await.is_err() {
                return;
            }
        }
    };
    stop.run_until_cancelled(following).await;
}

/// Where a master is reached.
fn address(info: &MasterInfo) -> Option<SocketAddr> {
    let upid: Upid = info.pid.as_deref()?.parse().ok()?;
    Some(upid.address())
}

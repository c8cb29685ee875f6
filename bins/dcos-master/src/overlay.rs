//! The overlays' desk: open while the master of this process leads.

use std::sync::Arc;

use anyhow::Context as _;
use dcos_core::config::Values;
use dcos_overlay::{Desk, NetworkConfig};
use dcos_sched::master::{RunError, Stance};
use dcos_store::{Election, StateStore};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One, if there are overlays.
pub(crate) fn desk(values: &Values) -> anyhow::Result<Option<Desk>> {
    let Some(json) = values.opt_json("overlay") else {
        return Ok(None);
    };
    let config = NetworkConfig::from_json(json).context("--overlay")?;
    let patience = values.duration("overlay_agent_timeout");
    Ok(Some(Desk::new(config, patience)))
}

/// Opens the desk once the master leads, under a leadership of its own: what is stored here is
/// nothing the master writes.
pub(crate) async fn serve(
    desk: Desk,
    mut stance: watch::Receiver<Stance>,
    election: Arc<dyn Election>,
    store: Arc<dyn StateStore>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let leadership = async {
        let led = stance.wait_for(|stance| *stance == Stance::Leading);
        led.await.context("the master ended")?;
        let campaign = election.campaign("overlay".into()).await;
        campaign.context("leading as overlay")
    };
    let leadership = tokio::select! {
        leadership = leadership => leadership?,
        () = stop.cancelled() => return Ok(()),
    };
    tokio::select! {
        ended = desk.lead(store, leadership.fence(), stop) => ended.context("the overlays"),
        () = leadership.lost() => Err(RunError::Deposed).context("the overlays"),
    }
}

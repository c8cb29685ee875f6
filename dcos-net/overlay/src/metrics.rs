//! What a node counts of its overlays, as Prometheus reads it.
//!
//! Source: the registry `overlay` of dcos-net (`dcos_overlay_poller`, `dcos_overlay_lashup_kv_listener`), names without its prefix.
//! Departures: nothing is polled, so there is nothing of polls; durations are summaries without quantiles; `peers` and
//! `repaired_entries_total` are ours.

use std::fmt::Write as _;
use std::time::Duration;

/// How the work of a node went since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// News of other nodes that were carried out, or tried, and how long that took in all.
    pub(crate) updates: u64,
    pub(crate) took: Duration,
    /// Those that failed.
    pub(crate) failed_updates: u64,
    /// How often the node's own part could not be made as it should be.
    pub(crate) failed_configurations: u64,
    /// Entries that were not as they should be when all was compared.
    pub(crate) repaired: u64,
    /// Other nodes in the overlays.
    pub(crate) peers: usize,
}

/// The text, of a node that has so many overlays.
pub(crate) fn exposition(networks: usize, counted: &Counted) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "networks_configured",
            "gauge",
            "The number of overlay networks configured.",
            networks as u64,
        ),
        (
            "peers",
            "gauge",
            "The number of other nodes in the overlays.",
            counted.peers as u64,
        ),
        (
            "network_configuration_failures_total",
            "counter",
            "Total number of failures while configuring overlay networks.",
            counted.failed_configurations,
        ),
        (
            "update_failures_total",
            "counter",
            "Total number of overlay update failures.",
            counted.failed_updates,
        ),
        (
            "repaired_entries_total",
            "counter",
            "Total number of ways to other nodes that were not as they should be.",
            counted.repaired,
        ),
    ] {
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }
    let (name, seconds) = (
        "update_processing_duration_seconds",
        counted.took.as_secs_f64(),
    );
    let _ = write!(
        text,
        "# HELP {name} The time spent processing overlay updates.\n# TYPE {name} summary\n\
         {name}_sum {seconds}\n{name}_count {}\n",
        counted.updates
    );
    text
}

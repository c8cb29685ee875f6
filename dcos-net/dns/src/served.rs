//! [`Served`]: what the latest good snapshot says, and the loop that keeps it so.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dcos_net::Snapshot;
use dcos_net::names::{self, Published};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Pace;
use crate::hosts::Hosts;

/// The zones that are answered from.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) names: Published,
    /// Grows with each publication.
    pub(crate) serial: u32,
    /// Whether there was a snapshot with a leader yet: from then on one without says nothing.
    pub(crate) led: bool,
    /// How long it took to make them.
    pub(crate) took: Duration,
}

impl Served {
    pub(crate) fn nothing(config: &names::Config) -> Self {
        let names = names::publish(&Snapshot::default(), config);
        Self {
            names,
            serial: 0,
            led: false,
            took: Duration::ZERO,
        }
    }
}

/// Publishes the latest snapshot whenever there is a new one.
pub(crate) async fn publish(
    config: names::Config,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    served: watch::Sender<Arc<Served>>,
    stop: CancellationToken,
) {
    let config = Arc::new(config);
    let mut hosts = Hosts::default();
    loop {
        let pace = Pace::begin();
        let snapshot = snapshots.borrow_and_update().clone();
        let led = snapshot.leader.is_some();
        if led || !served.borrow().led {
            hosts.want(&snapshot.frameworks);
            let (config, hosts) = (Arc::clone(&config), hosts.addresses());
            let make = move || {
                let begin = Instant::now();
                let names = names::publish(&found(snapshot, &hosts), &config);
                (names, begin.elapsed())
            };
            match tokio::task::spawn_blocking(make).await {
                Ok((names, took)) => {
                    let serial = next_serial(served.borrow().serial);
                    tracing::debug!(serial, tasks = tasks(&names), "names published");
                    served.send_replace(Arc::new(Served {
                        names,
                        serial,
                        led,
                        took,
                    }));
                }
                Err(error) => tracing::error!(%error, "names could not be made; keeping the last"),
            }
        }
        let turn = pace.next();
        let next = async {
            tokio::time::sleep_until(turn).await;
            tokio::select! {
                changed = snapshots.changed() => changed.is_ok(),
                () = hosts.changed() => true,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            more = next => if !more {
                // Whoever told us of the cluster has ended; what it last said goes on being served.
                return stop.cancelled().await;
            },
        }
    }
}

/// The same with the addresses of hosts that are known.
fn found(snapshot: Arc<Snapshot>, hosts: &BTreeMap<String, IpAddr>) -> Arc<Snapshot> {
    if hosts.is_empty() {
        return snapshot;
    }
    let mut snapshot = Arc::unwrap_or_clone(snapshot);
    for framework in &mut snapshot.frameworks {
        let host = framework.host.as_ref().filter(|_| framework.ip.is_none());
        framework.ip = framework
            .ip
            .or(host.and_then(|host| hosts.get(host)).copied());
    }
    Arc::new(snapshot)
}

fn tasks(names: &Published) -> usize {
    names
        .enumeration
        .iter()
        .map(|framework| framework.tasks.len())
        .sum()
}

/// Serials follow the clock, as in Mesos-DNS, but never stand still.
fn next_serial(last: u32) -> u32 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "serials wrap, RFC 1982")]
    let now = now.as_secs() as u32;
    now.max(last.wrapping_add(1))
}

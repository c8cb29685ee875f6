//! What is counted of roles: their shares, what their frameworks refuse, their quotas.
//!
//! Source: Mesos 1.11 `src/master/allocator/mesos/metrics.cpp`, `sorter/drf/metrics.cpp`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::allocator::Metrics;
use crate::master::Snapshot;
use crate::master::breakdown::Breakdown;
use crate::master::shell::{Command, MasterHandle, MasterStopped};

/// For how long one answer of the allocator does for all who ask: it is made where offers are decided.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The allocator's figures, as they were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<Option<(Instant, Arc<Metrics>)>>);

impl Figures {
    /// The figures of now, or of a moment ago.
    pub(crate) async fn of(&self, master: &MasterHandle) -> Result<Arc<Metrics>, MasterStopped> {
        let last = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((asked, metrics)) = last
            && asked.elapsed() < GOOD_FOR
        {
            return Ok(metrics);
        }
        let asked = Instant::now();
        let metrics = Arc::new(master.ask(Command::Measure).await?);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((asked, Arc::clone(&metrics)));
        Ok(metrics)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are doubles, as in Mesos"
)]
pub(super) fn put(metrics: &mut BTreeMap<String, f64>, snapshot: &Snapshot, allocator: &Metrics) {
    for (role, figures) in &allocator.roles {
        let share = format!("allocator/mesos/roles/{role}/shares/dominant");
        metrics.insert(share, figures.share);
        let filters = format!("allocator/mesos/offer_filters/roles/{role}/active");
        metrics.insert(filters, figures.refusals as f64);
    }
    let quotas = &snapshot.standing.quotas;
    if quotas.is_empty() {
        return;
    }
    let breakdown = Breakdown::of(&snapshot.frameworks, &snapshot.agents, &snapshot.offers);
    let mut put = |role: &str, name: &str, what: &str, value: f64| {
        let key = format!("allocator/mesos/quota/roles/{role}/resources/{name}/{what}");
        metrics.insert(key, value);
    };
    for (role, held) in breakdown.roles() {
        for (name, amount) in held.consumed().iter() {
            put(role, name, "consumed", amount.as_f64());
        }
    }
    for (role, quota) in quotas {
        let held = breakdown.role(role);
        let limits = quota.limits.iter();
        let limits = limits.map(|(name, amount)| (&**name, *amount, "limit"));
        let guarantees = quota.guarantees.iter();
        let guarantees = guarantees.map(|(name, amount)| (name, amount, "guarantee"));
        for (name, amount, what) in guarantees.chain(limits) {
            put(role, name, what, amount.as_f64());
            let used = held.allocated.get(name) + held.offered.get(name);
            put(role, name, "offered_or_allocated", used.as_f64());
        }
    }
}

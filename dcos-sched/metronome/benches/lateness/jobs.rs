//! A store with jobs in it, as a Metronome leaves it that they were created in.

use std::sync::Arc;

use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_core::time::steady;
use dcos_marathon::engine::Machine as _;
use dcos_metronome::core::JobScheduler;
use dcos_metronome::{Config, read};
use dcos_store::{EmbeddedStore, Fence, StateStore as _, Transaction};
use serde_json::json;

/// Jobs without a schedule, to be run beside the others.
pub(crate) const BESIDE: usize = 2_000;
/// How many are created between two writes.
const AT_ONCE: usize = 10_000;

/// Creates `jobs` jobs with schedules, of which `due` run each minute and the others once a year, and some without.
pub(crate) async fn create(store: &EmbeddedStore, fence: &Fence, jobs: usize, due: usize) {
    let config = Arc::new(Config::default());
    let mut core = JobScheduler::recover(config, Seed::new(1), steady(), []).unwrap();
    let scheduled = (0..jobs).map(|job| {
        let (id, cron) = if job < due {
            (format!("due-{job}"), "* * * * *".to_owned())
        } else {
            // Not this month, whenever that is.
            let month = (steady().as_secs() / 86_400 / 31 + 4) % 12 + 1;
            let cron = format!(
                "{} {} {} {month} *",
                job % 60,
                job / 60 % 24,
                job / 1_440 % 28 + 1
            );
            (format!("job-{job}"), cron)
        };
        (id, json!([{"id": "s", "cron": cron}]))
    });
    let beside = (0..BESIDE).map(|job| (format!("beside-{job}"), json!([])));
    for (number, (id, schedules)) in scheduled.chain(beside).enumerate() {
        let document = json!({"id": id, "schedules": schedules,
            "run": {"cmd": "run", "cpus": 0.01, "mem": 32, "disk": 0}});
        core.create(steady(), read::job(document, None).unwrap())
            .unwrap();
        if (number + 1).is_multiple_of(AT_ONCE) {
            keep(&mut core, store, fence).await;
        }
    }
    keep(&mut core, store, fence).await;
}

async fn keep(core: &mut JobScheduler, store: &EmbeddedStore, fence: &Fence) {
    let mut rows = std::collections::BTreeMap::new();
    for row in core.take(steady()).rows {
        rows.insert(row.key, row.value);
    }
    let mut transaction = Transaction::new(fence.clone());
    for (key, value) in rows {
        transaction = match value {
            Some(value) => transaction.put(key, Bytes::from(value)),
            None => transaction.delete(key),
        };
    }
    store.transact(transaction).await.unwrap();
}

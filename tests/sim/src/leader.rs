//! The master: a core that may be killed, and the store it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::MasterInfo;
use dcos_sched::allocator::{Allocator, Config, HierarchicalDrf};
use dcos_sched::master::{Action, Input, Master, Settings};
use dcos_store::{Entry, Revision, Snapshot, Write};

use crate::sabotage::{Generous, Sabotage};

pub(crate) const ADDRESS: &str = "master@10.0.0.1:5050";

/// The one who leads, or the place where one would.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) master: Option<Master>,
    /// Which life this is: what was meant for an earlier one gets lost.
    pub(crate) life: u64,
    store: BTreeMap<String, Bytes>,
    revision: u64,
    /// Written, and not yet durable.
    pending: Vec<Write>,
    seed: Seed,
    sabotage: Option<Sabotage>,
}

impl Leader {
    pub(crate) fn new(seed: &Seed, sabotage: Option<Sabotage>) -> Self {
        Self {
            master: None,
            life: 0,
            store: BTreeMap::new(),
            revision: 0,
            pending: Vec::new(),
            seed: seed.stream("leader"),
            sabotage,
        }
    }

    /// Starts a master on what the store holds.
    pub(crate) fn start(&mut self, now: Time) {
        self.life += 1;
        let mut seed = self.seed.stream(&format!("life {}", self.life));
        let info = MasterInfo {
            id: seed.uuid(),
            pid: Some(ADDRESS.to_owned()),
            hostname: Some("10.0.0.1".to_owned()),
            port: 5050,
            ..MasterInfo::default()
        };
        let mut allocator: Box<dyn Allocator> =
            Box::new(HierarchicalDrf::new(Config::default(), &seed));
        if self.sabotage == Some(Sabotage::Allocator) {
            allocator = Box::new(Generous::new(allocator));
        }
        let settings = Settings {
            offer_timeout: Some(Duration::from_secs(30)),
            ..Settings::new(info)
        };
        let mut master = Master::new(settings, allocator, &seed, now);
        let entries = self.store.iter().map(|(key, value)| Entry {
            key: Arc::from(key.as_str()),
            value: value.clone(),
            revision: Revision(self.revision),
        });
        let snapshot = Snapshot {
            revision: Revision(self.revision),
            entries: entries.collect(),
        };
        master.handle(now, Input::Recovered(snapshot));
        self.master = Some(master);
    }

    /// Kills the master. What was being written may be there, or not.
    pub(crate) fn crash(&mut self) {
        self.master = None;
        if self.seed.chance(0.5) {
            self.commit();
        }
        self.pending.clear();
    }

    /// What the master wants done next.
    pub(crate) fn poll(&mut self) -> Option<Action> {
        self.master.as_mut()?.poll()
    }

    /// Begins to write.
    pub(crate) fn write(&mut self, writes: Vec<Write>) -> Duration {
        self.pending = writes;
        Duration::from_micros(self.seed.range(100..10_000))
    }

    /// What was being written is durable.
    pub(crate) fn commit(&mut self) -> Revision {
        self.revision += 1;
        for write in self.pending.drain(..) {
            match write {
                Write::Put(key, value) => _ = self.store.insert(key, value),
                Write::Delete(key) => _ = self.store.remove(&key),
            }
        }
        Revision(self.revision)
    }
}

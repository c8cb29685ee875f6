//! A machine for a master: the core, while it leads, and its clock.

use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::MasterInfo;
use dcos_sched::allocator::{Allocator, Config, HierarchicalDrf};
use dcos_sched::master::{Input, Master, Security, Settings};
use dcos_store::Snapshot;

use crate::auditor::{Auditor, Complaint};
use crate::clock::Clock;
use crate::guard;
use crate::sabotage::{Crooked, Sabotage};
use crate::world::Plan;

/// A machine that is a candidate, and maybe the leader.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) address: String,
    /// The core, from its election until it learns that it was deposed.
    pub(crate) master: Option<Master>,
    /// The term it believes to lead.
    pub(crate) term: u64,
    /// Whether its process runs.
    pub(crate) is_up: bool,
    /// Which life this is: what was meant for an earlier one gets lost.
    pub(crate) life: u64,
    pub(crate) clock: Clock,
    /// Whether it waits for the store.
    pub(crate) writes: bool,
    settings: Settings,
    sharing: Config,
    seed: Seed,
    sabotage: Option<Sabotage>,
    /// What was wrong with what its allocator granted.
    pub(crate) complaint: Complaint,
}

impl Host {
    pub(crate) fn new(number: usize, plan: &Plan, seed: &Seed, now: Time) -> Self {
        let ip = format!("10.0.0.{}", number + 1);
        let address = format!("master@{ip}:5050");
        let info = MasterInfo {
            pid: Some(address.clone()),
            hostname: Some(ip),
            port: 5050,
            ..MasterInfo::default()
        };
        Self {
            address,
            master: None,
            term: 0,
            is_up: false,
            life: 0,
            clock: Clock::right(now),
            writes: false,
            settings: Settings {
                security: if plan.guarded {
                    guard::security()
                } else {
                    Security::default()
                },
                offer_timeout: Some(Duration::from_secs(30)),
                agent_reregister_timeout: plan.reregister,
                ..Settings::new(info)
            },
            sharing: sharing(plan),
            seed: seed.stream(&format!("master {number}")),
            sabotage: plan.sabotage,
            complaint: Complaint::default(),
        }
    }

    /// Which machine a UPID names.
    pub(crate) fn number_of(address: &str) -> Option<usize> {
        let rest = address.strip_prefix("master@10.0.0.")?;
        let number: usize = rest.strip_suffix(":5050")?.parse().ok()?;
        number.checked_sub(1)
    }

    /// A process begins: whatever was meant for the one before gets lost.
    pub(crate) fn begin(&mut self, now: Time) {
        self.end();
        self.is_up = true;
        self.clock = Clock::some(now, &mut self.seed);
    }

    /// Leads `term` from what the store holds.
    pub(crate) fn lead(&mut self, now: Time, term: u64, registry: Snapshot) {
        self.term = term;
        let mut seed = self.seed.stream(&format!("life {}", self.life));
        let mut settings = self.settings.clone();
        settings.info.id = seed.uuid();
        let priorities = self.sharing.priorities.clone();
        let sharing = self.sharing.clone();
        let mut allocator: Box<dyn Allocator> = Box::new(HierarchicalDrf::new(sharing, &seed));
        if let Some(sabotage) = self.sabotage {
            allocator = Box::new(Crooked::new(allocator, sabotage));
        }
        allocator = Box::new(Auditor::new(allocator, priorities, self.complaint.clone()));
        let now = self.clock.show(now);
        let mut master = Master::new(settings, allocator, &seed, now);
        master.handle(now, Input::Recovered(registry));
        self.master = Some(master);
    }

    /// The process is gone.
    pub(crate) fn end(&mut self) {
        self.master = None;
        self.writes = false;
        self.is_up = false;
        self.life += 1;
    }
}

/// How resources are shared: with priorities, what is wished for is made room for after a while.
fn sharing(plan: &Plan) -> Config {
    if !plan.preempts {
        return Config::default();
    }
    let priorities = [("eng", 1), ("ops", 2)];
    let priorities = priorities.map(|(role, priority)| (role.to_owned(), priority));
    Config {
        priorities: priorities.into(),
        preempt_after: Some(Duration::from_secs(10)),
        ..Config::default()
    }
}

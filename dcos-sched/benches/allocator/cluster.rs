//! An allocator with its own time, and what feeds it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_sched::allocator::{
    AgentSpec, Allocator, Capabilities, Config, Event, FrameworkSpec, Grant, HierarchicalDrf,
};

/// As long as a refusal can last.
pub(crate) const FOR_EVER: Duration = Duration::from_hours(365 * 24);

pub(crate) struct Cluster {
    pub(crate) allocator: HierarchicalDrf,
    pub(crate) now: Time,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            allocator: HierarchicalDrf::new(Config::default(), &Seed::new(1)),
            now: Time::from_secs(1),
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.allocator.handle(self.now, event);
    }

    /// A cycle, a second after the one before, and how many milliseconds it took.
    pub(crate) fn cycle(&mut self) -> (Vec<Grant>, f64) {
        self.now += Duration::from_secs(1);
        timed(|| self.allocator.poll(self.now).grants)
    }

    /// An offer is declined, or comes back otherwise.
    pub(crate) fn give_back(&mut self, grant: &Grant, refuse: Option<Duration>) {
        self.answer(grant);
        self.tell(Event::Recover {
            framework: grant.framework.clone(),
            agent: grant.agent.clone(),
            resources: grant.resources.clone(),
            refuse,
        });
    }

    pub(crate) fn answer(&mut self, grant: &Grant) {
        self.tell(Event::Answered {
            framework: grant.framework.clone(),
            agent: grant.agent.clone(),
            resources: grant.resources.clone(),
        });
    }
}

pub(crate) fn framework_id(at: usize) -> FrameworkId {
    FrameworkId::from(format!("framework-{at:05}"))
}

pub(crate) fn framework(id: FrameworkId, role: &str) -> FrameworkSpec {
    FrameworkSpec {
        id,
        roles: BTreeSet::from([role.to_owned()]),
        capabilities: Capabilities {
            multi_role: true,
            ..Capabilities::default()
        },
        ..FrameworkSpec::default()
    }
}

pub(crate) fn agent(at: usize, total: &Resources) -> AgentSpec {
    AgentSpec {
        id: AgentId::from(format!("agent-{at:05}")),
        hostname: format!("host-{at}"),
        // Messages of different agents share no memory.
        total: Resources::from_messages(total.to_messages()),
        multi_role: true,
        hierarchical_role: true,
        ..AgentSpec::default()
    }
}

pub(crate) fn resources(text: &str) -> Resources {
    Resources::parse(text).expect("the bench's resources are well formed")
}

/// What came of it, and how many milliseconds it took.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed().as_secs_f64() * 1000.0)
}

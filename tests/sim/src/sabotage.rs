//! Broken parts, to see whether the checks notice.

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_sched::allocator::{Allocator, Decisions, Event, Grant, NonOffer, NotFree};

/// Which part is broken in a world.
///
/// The master's store is not on the list: agents and frameworks bring back what it forgot, so that
/// no promise checked here depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The allocator grants everything to two frameworks.
    Allocator,
    /// The disks of nodes say "written" and sometimes are not.
    Disk,
    /// Agents forget who they were whenever they start.
    Memory,
}

/// Grants everything once more, to whoever was granted something before.
#[derive(Debug)]
pub(crate) struct Generous {
    inner: Box<dyn Allocator>,
    last: Option<FrameworkId>,
}

impl Generous {
    pub(crate) fn new(inner: Box<dyn Allocator>) -> Self {
        Self { inner, last: None }
    }
}

impl Allocator for Generous {
    fn handle(&mut self, now: Time, event: Event) {
        self.inner.handle(now, event);
    }

    fn convert_free(
        &mut self,
        now: Time,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree> {
        self.inner.convert_free(now, agent, consumed, converted)
    }

    fn poll(&mut self, now: Time) -> Decisions {
        let mut decisions = self.inner.poll(now);
        for grant in decisions.grants.clone() {
            if let Some(other) = self.last.replace(grant.framework.clone())
                && other != grant.framework
            {
                decisions.grants.push(Grant {
                    framework: other,
                    ..grant
                });
            }
        }
        decisions
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        self.inner.explain(now, framework, role)
    }
}

//! Broken parts, to see whether the checks notice.

use dcos_core::time::Time;
use dcos_proto::mesos::FrameworkId;
use dcos_sched::allocator::{Allocator, Event, Grant, NonOffer};

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

    fn poll(&mut self, now: Time) -> Vec<Grant> {
        let mut grants = self.inner.poll(now);
        for grant in grants.clone() {
            if let Some(other) = self.last.replace(grant.framework.clone())
                && other != grant.framework
            {
                grants.push(Grant {
                    framework: other,
                    ..grant
                });
            }
        }
        grants
    }

    fn next_deadline(&self) -> Option<Time> {
        self.inner.next_deadline()
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        self.inner.explain(now, framework, role)
    }
}

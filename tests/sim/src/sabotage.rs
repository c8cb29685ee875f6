//! Broken parts, to see whether the checks notice.

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_sched::allocator::{Allocator, Decisions, Event, Grant, NonOffer, NotFree};

/// Which part is broken in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The allocator grants everything to two frameworks.
    Allocator,
    /// The allocator forgets some of what comes back.
    Leak,
    /// The disks of nodes say "written" and sometimes are not.
    Disk,
    /// Agents forget who they were whenever they start.
    Memory,
    /// The store says "written" before it is.
    Hasty,
    /// The store takes writes of deposed leaders.
    Fence,
    /// The store loses which agents are gone for good.
    Gone,
    /// Updates are acknowledged by somebody who is not the framework.
    Acknowledger,
    /// Updates that are sent again are swallowed.
    Swallower,
    /// Ends are told in another way the second time.
    Fickle,
    /// Frameworks that come back are taken for gone, and their tasks ended.
    Killer,
    /// Kills get lost on their way to agents.
    Deaf,
    /// Containers are launched twice.
    Twins,
    /// A Metronome leaves moments out while a run goes on, though its user allowed runs side by side.
    Strict,
    /// Of the write at which a service is killed the store keeps one half.
    Torn,
    /// Services tell what they decided before it is written.
    Rash,
    /// Services leave out some of the events they owe to listeners.
    Mute,
    /// Services kill some of what they launch.
    Trigger,
    /// A Marathon upgrades apps without regard to how many instances have to serve.
    Reckless,
    /// A Marathon forgets all deadlines of deployments whenever it starts.
    Patient,
    /// A Marathon gives nothing back of what was kept for instances that are gone.
    Hoarder,
    /// A Marathon gives back some of what it has just reserved for instances.
    Spender,
    /// Agents forget some of what is kept for instances.
    Eraser,
    /// Some of what the leader tells of tasks gets lost on its way to nodes.
    Unheard,
    /// Kernels of nodes keep backends that they are told to take away.
    Clinging,
    /// Nodes give no names to tasks that begin while they listen.
    Nameless,
    /// Nodes forget everything whenever they hear of a new leader.
    Giddy,
    /// Nodes that begin anew remember what was so some time ago.
    Outdated,
    /// What agents have of the overlays is told although it was not stored.
    Unkept,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::Allocator,
        Self::Leak,
        Self::Disk,
        Self::Memory,
        Self::Hasty,
        Self::Fence,
        Self::Gone,
        Self::Acknowledger,
        Self::Swallower,
        Self::Fickle,
        Self::Killer,
        Self::Deaf,
        Self::Twins,
        Self::Strict,
        Self::Torn,
        Self::Rash,
        Self::Mute,
        Self::Trigger,
        Self::Reckless,
        Self::Patient,
        Self::Hoarder,
        Self::Spender,
        Self::Eraser,
        Self::Unheard,
        Self::Clinging,
        Self::Nameless,
        Self::Giddy,
        Self::Outdated,
        Self::Unkept,
    ];

    /// Whether it breaks services: only worlds that have some can notice.
    pub fn is_of_services(self) -> bool {
        matches!(
            self,
            Self::Strict
                | Self::Torn
                | Self::Rash
                | Self::Mute
                | Self::Trigger
                | Self::Reckless
                | Self::Patient
                | Self::Hoarder
                | Self::Spender
                | Self::Eraser
        )
    }

    /// Whether it breaks what nodes make of what they are told.
    pub fn is_of_nodes(self) -> bool {
        matches!(
            self,
            Self::Unheard
                | Self::Clinging
                | Self::Nameless
                | Self::Giddy
                | Self::Outdated
                | Self::Unkept
        )
    }
}

/// An allocator that is wrong in one way.
#[derive(Debug)]
pub(crate) struct Crooked {
    inner: Box<dyn Allocator>,
    sabotage: Sabotage,
    last: Option<FrameworkId>,
    recovered: u64,
}

impl Crooked {
    pub(crate) fn new(inner: Box<dyn Allocator>, sabotage: Sabotage) -> Self {
        Self {
            inner,
            sabotage,
            last: None,
            recovered: 0,
        }
    }
}

impl Allocator for Crooked {
    fn handle(&mut self, now: Time, event: Event) {
        if self.sabotage == Sabotage::Leak && matches!(event, Event::Recover { .. }) {
            self.recovered += 1;
            if self.recovered.is_multiple_of(20) {
                return;
            }
        }
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
        if self.sabotage != Sabotage::Allocator {
            return decisions;
        }
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

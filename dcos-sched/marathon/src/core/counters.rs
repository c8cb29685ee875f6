//! How often things happened since this Marathon started; names are Marathon's.

use crate::engine::Spoken;

/// Counters for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Deployments started.
    pub deployments: u64,
    /// Deployments canceled, by users or by later ones.
    pub deployments_dismissed: u64,
    /// Offers that arrived.
    pub offers_incoming: u64,
    /// Offers nothing was launched with.
    pub offers_declined: u64,
    /// Offers something was launched with.
    pub offers_used: u64,
    /// Tasks launched.
    pub tasks_launched: u64,
    /// Times offers were asked for.
    pub revives: u64,
    /// Times no offers were asked for.
    pub suppresses: u64,
    /// Instances killed for failing checks.
    pub unhealthy_kills: u64,
    /// What was said to the master and by it.
    pub spoken: Spoken,
}

impl Counters {
    /// Names and values of those that are counted here.
    pub fn named(&self) -> [(&'static str, u64); 9] {
        [
            ("marathon.deployments.counter", self.deployments),
            (
                "marathon.deployments.dismissed.counter",
                self.deployments_dismissed,
            ),
            (
                "marathon.mesos.offers.incoming.counter",
                self.offers_incoming,
            ),
            (
                "marathon.mesos.offers.declined.counter",
                self.offers_declined,
            ),
            ("marathon.mesos.offers.used.counter", self.offers_used),
            ("marathon.tasks.launched.counter", self.tasks_launched),
            ("marathon.mesos.calls.revive.counter", self.revives),
            ("marathon.mesos.calls.suppress.counter", self.suppresses),
            (
                "marathon.instances.unhealthy-kills.counter",
                self.unhealthy_kills,
            ),
        ]
    }
}

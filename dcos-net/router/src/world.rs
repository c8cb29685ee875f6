//! What the router knows of the cluster at one moment. Immutable, shared, cheap to take.
//!
//! Each part comes from a stream of its own and may be unknown: `None` until first heard of. What was heard once
//! stays when its stream breaks, since an old address is better than none.

mod apps;
mod base;
mod cluster;
mod name;

pub use apps::{AppService, Apps, AppsError, apps};
pub use base::{BadUrl, Base, Scheme};
pub(crate) use base::{address, is_off_limits};
#[cfg(test)]
pub(crate) use cluster::tests::cluster as cluster_of;
pub use cluster::{AgentAddress, Cluster, Framework};
pub use name::{Named, normalize, segments};

use std::sync::Arc;

/// The cluster, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Services that Marathon runs.
    pub apps: Option<Arc<Apps>>,
    /// Frameworks and agents of the leading master.
    pub cluster: Option<Cluster>,
    /// Where the leading master is.
    pub mesos_leader: Option<Base>,
    /// Where the leading Marathon is.
    pub marathon_leader: Option<Base>,
}

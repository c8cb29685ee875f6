//! State and election in `ZooKeeper`.
//!
//! ```text
//! <path>/json.info_0000000007      a candidate: ephemeral, in the order of their numbers, MasterInfo as JSON
//! <path>/log_replicas/registry     the register of the store; below it `pages`
//! <path>/log_replicas/<office>     the candidates of offices other than `master`
//! ```
//!
//! The first is the original's layout (Mesos 1.11 `src/master/constants.hpp`, `src/zookeeper/group.cpp`), by which every
//! Mesos client finds the leader. Of all other names below the path, clients ignore one for
//! certain: `log_replicas`, where the original's registry introduces its replicas. So everything of ours is there.

mod election;
mod medium;
mod nodes;
mod session;

pub use election::ZooKeeperElection;
pub(crate) use medium::ZooKeeperMedium;
pub(crate) use session::check_tls;

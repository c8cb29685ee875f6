//! Durable cluster state and leader election behind two traits.
//!
//! What a cluster must not forget goes through [`StateStore`]: keys with versions, transactions
//! that compare and set, scans that are true at one revision, and watches without gaps.
//! Who may write is decided by [`Election`]; the term it hands out is the fence that every
//! [`Transaction`] carries, so that a leader that was replaced cannot write any more.
//!
//! | trait | for one machine | for several | for users' tests |
//! |---|---|---|---|
//! | [`StateStore`] | [`EmbeddedStore`]: one file, synced before `Ok` | [`Ensemble::store`]: `ZooKeeper`, etcd | [`MemoryStore`] |
//! | [`Election`] | [`SingleElection`]: a lock file and a term that only grows | [`Ensemble::election`] | [`MemoryElection`] |
//!
//! What is for several machines needs the feature `zookeeper` or `etcd`. Another engine takes an implementation of
//! [`Medium`], which is a register with compare-and-set and pages beside it.
//!
//! A new implementation runs every promise of the `testkit` module (feature `testkit`).
//!
//! ```
//! use dcos_store::{Election, MemoryElection, MemoryStore, StateStore, Transaction};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let leadership = MemoryElection::new().campaign("127.0.0.1:5050".into()).await?;
//! let store = MemoryStore::new();
//! let written = store
//!     .transact(Transaction::new(leadership.fence()).expect_absent("agents/a1").put("agents/a1", "cpus:4"))
//!     .await?;
//! let agents = store.scan("agents/").await?;
//! assert_eq!((agents.revision, agents.entries.len()), (written, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

#[cfg(feature = "ensemble")]
mod campaign;
mod election;
mod embedded;
#[cfg(feature = "ensemble")]
mod ensemble;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "ensemble")]
mod follow;
mod lease;
#[cfg(feature = "ensemble")]
mod masters;
mod memory;
#[cfg(feature = "ensemble")]
mod replicated;
mod state;
mod store;
#[cfg(feature = "testkit")]
pub mod testkit;
#[cfg(feature = "ensemble")]
mod tls;
mod watch;
#[cfg(feature = "zookeeper")]
mod zookeeper;

pub use election::{Election, Fence, Leader, Leadership, MemoryElection, SingleElection, Term};
pub use embedded::EmbeddedStore;
pub use error::{ElectionError, StoreError};
pub use lease::Lease;
pub use memory::MemoryStore;
pub use store::{
    Change, Check, Commit, Entry, MAX_KEY_BYTES, MAX_VALUE_BYTES, Revision, Snapshot, StateStore,
    Transaction, Write,
};
pub use watch::Watch;

#[cfg(feature = "ensemble")]
pub use ensemble::{Engine, Ensemble, EnsembleError, SESSION_TIMEOUT};
#[cfg(feature = "etcd")]
pub use etcd::EtcdElection;
#[cfg(feature = "ensemble")]
pub use masters::{LeadingMaster, StandingMasters, electorate, masters};
#[cfg(all(feature = "ensemble", any(test, feature = "testkit")))]
pub use replicated::MemoryMedium;
#[cfg(feature = "ensemble")]
pub use replicated::{Medium, MediumError, ReplicatedStore, Swapped, Version};
#[cfg(feature = "ensemble")]
pub use tls::{TlsError, TlsFiles};
#[cfg(feature = "zookeeper")]
pub use zookeeper::ZooKeeperElection;

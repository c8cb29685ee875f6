//! [`Dataplane`]: what carries out what the table of VIPs says. A plug point.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use dcos_net::vip::{Change, Service};

/// Services and the backends that take new connections to them, in order.
pub type Services = BTreeMap<Service, Vec<SocketAddr>>;

/// How many connections each backend of each service was given since it became one.
pub type Connections = BTreeMap<(Service, SocketAddr), u64>;

/// What balances connections on a node.
///
/// Calls may block; they are made one at a time. A change is in effect for new connections when its call returns, and
/// connections that stand are never disturbed by it. Flows nobody answers at a backend that is gone may be told to choose
/// anew after that. After an error the data path may be anywhere
/// between before and after: whoever called reconciles.
pub trait Dataplane: Send + 'static {
    /// Compares the data path with `services`, and makes it so. Without `strict`, services that are
    /// not among them are left as they are.
    ///
    /// # Errors
    /// What the system said.
    fn reconcile(&mut self, services: &Services, strict: bool) -> Result<Repairs, DataplaneError>;

    /// Which of these services there are, and where they lead, as an earlier process left them. Changes nothing: from then on
    /// that is what it was told of these services.
    ///
    /// # Errors
    /// What the system said.
    fn adopt(&mut self, services: &BTreeSet<Service>) -> Result<Services, DataplaneError>;

    /// Carries out changes to what it was told before.
    ///
    /// # Errors
    /// What the system said.
    fn apply(&mut self, changes: &[Change]) -> Result<(), DataplaneError>;

    /// Takes away every service at these addresses, those that an earlier process left included. What it was told of
    /// services stays as it was.
    ///
    /// # Errors
    /// What the system said.
    fn withdraw(&mut self, addresses: &[IpAddr]) -> Result<(), DataplaneError>;

    /// Whether nobody else can have changed the data path since it was last told anything.
    ///
    /// # Errors
    /// What the system said.
    fn is_untouched(&mut self) -> Result<bool, DataplaneError>;

    /// What reads how much was balanced, beside the changes: none waits for it. It sees the network namespace of this thread.
    ///
    /// # Errors
    /// What the system said.
    fn reader(&mut self) -> Result<Box<dyn Reader>, DataplaneError>;
}

/// Reads what a [`Dataplane`] has done. Calls may block.
pub trait Reader: std::fmt::Debug + Send + 'static {
    /// What was balanced so far.
    ///
    /// # Errors
    /// What the system said.
    fn connections(&mut self) -> Result<Connections, DataplaneError>;
}

/// What had to be put right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Services that were not as they should be.
    pub services: usize,
    /// Entries of services that should not be there.
    pub strangers: usize,
}

/// Why a data path does not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataplaneError {
    /// Another process balances in this network namespace.
    #[error("taking the virtual addresses of this node (another process may have them)")]
    Taken {
        /// What the system said.
        source: io::Error,
    },
    /// There is no way to the kernel's netfilter: that takes root.
    #[error("opening a netlink socket to netfilter (that takes root)")]
    Open {
        /// What the system said.
        source: io::Error,
    },
    /// The program that makes rules did not.
    #[error("making the table of virtual addresses")]
    Rules {
        /// Why.
        #[from]
        source: dcos_netlink::NftError,
    },
    /// The kernel does not let us balance at `connect()`: that takes root and Linux 5.14.
    #[error("balancing connections at connect() (that takes root and Linux 5.14)")]
    Connect {
        /// What the system said.
        source: io::Error,
    },
    /// Nobody would see connections fail.
    #[error("listening to the kernel's connection tracking (--l4lb_failure_detection)")]
    Watch {
        /// What the system said.
        source: io::Error,
    },
    /// The way to virtual addresses stays.
    #[error("taking away the way to virtual addresses")]
    Way {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's state cannot be read.
    #[error("reading the kernel's table of virtual addresses")]
    Read {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a change, and did none of it.
    #[error("changing the kernel's table of virtual addresses")]
    Write {
        /// What the kernel said.
        source: io::Error,
    },
}

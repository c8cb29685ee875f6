//! Balances connections and datagrams to virtual addresses (VIPs) in the kernel of one node.
//!
//! ```text
//! a master's events ─► dcos_net::vip::{Follower, VipTable} ─► changes ─► Dataplane ─► the kernel's maps
//! ```
//!
//! [`Balancer`] is the loop, [`Kernel`] the data path: nftables, its table made once by the `nft`
//! program, its elements changed by netlink; where it is wished, eBPF at `connect()` before that.
//! Which VIPs there are and who is behind them is decided in `dcos_net::vip`, without I/O.
//!
//! ```no_run
//! use dcos_l4lb::{Balancer, Config, DataPath, Kernel, WAITING};
//! use dcos_wire::{Client, Masters};
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn run() -> Result<(), dcos_l4lb::DataplaneError> {
//! let (sender, told) = tokio::sync::mpsc::channel(WAITING);
//! let masters = Masters::Fixed("10.0.0.1:5050".to_owned());
//! tokio::spawn(masters.tell(Client::new(), vec![sender]));
//! let config = Config {
//!     told,
//!     own: vec![[10, 0, 0, 7].into()],
//!     unreachable: None,
//!     reserved: None,
//!     memory: None,
//! };
//! let balancer = Balancer::new(config, Kernel::open(DataPath::Auto)?);
//! balancer.run(CancellationToken::new()).await;
//! # Ok(()) }
//! ```

mod balancer;
mod dataplane;
pub mod detector;
mod http;
mod kernel;
mod trial;
mod watcher;

pub use balancer::{Balancer, Config, Failures, Reserved, View, WAITING};
pub use dataplane::{Connections, Dataplane, DataplaneError, Reader, Repairs, Services};
pub use http::router;
pub use kernel::{DataPath, Kernel};
pub use watcher::{Begun, Lookout, Watcher};

/// What a node's firewall has to let pass of balanced connections.
pub fn passage() -> dcos_netlink::Passage {
    kernel::passage()
}

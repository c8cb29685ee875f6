//! Who is in the cluster, told from node to node without any master.
//!
//! ```text
//! datagrams ─► Keyring ─► Window ─► Core: foca (SWIM), records, anti-entropy ─► datagrams
//!              opens      no replay        └─► Members ─► Membership: VIPs, /v1/nodes, `dcos net members`
//! ```
//!
//! [`Membership`] is what others use: the members with what they say of themselves, and changes as a
//! stream. [`Gossip`] is the one that works between nodes, [`Fixed`] a list for tests. [`Core`] decides
//! everything, without clock, socket or randomness of its own; what goes over the wire, and why that
//! is safe, is in `docs/protocol.md`.
//!
//! ```
//! use dcos_gossip::{About, Changes, Fixed, Kind, Member, Membership, unreachable};
//!
//! let agent = Member::alive(([10, 0, 0, 7], 62501), About::new(Kind::Agent, [10, 0, 0, 7]));
//! let list = Fixed::new([agent.clone()]);
//! assert!(unreachable(&list.watch().borrow()).is_empty());
//! list.put(agent.dead());
//! assert_eq!(unreachable(&list.watch().borrow()).len(), 1);
//! # let _ = Changes::of(&list);
//! ```

mod codec;
mod core;
mod http;
mod id;
mod keys;
mod letter;
mod membership;
mod record;
mod shell;
mod window;

pub use crate::core::{Action, Config, Core, Counters, PACKET};
pub use crate::http::router;
pub use keys::{KEYS, Keyring, KeysError};
pub use membership::{
    About, Change, Changes, Fixed, Kind, Member, Members, Membership, Presence, unreachable,
};
pub use record::{ABOUT, TooLarge};
pub use shell::{Gossip, GossipError, LookUp, REVIEW, Resolver, Setup, System, View};

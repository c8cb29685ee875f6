//! State and election in etcd.
//!
//! ```text
//! <path>/registry/head                  the register of the store
//! <path>/registry/pages/<name>          its pages
//! <path>/election/<office>/<lease>      the candidates, in the order of their creation; each lives as long as its lease
//! ```

mod client;
mod election;
mod medium;
mod words;

pub(crate) use client::check_tls;
pub use election::EtcdElection;
pub(crate) use medium::EtcdMedium;

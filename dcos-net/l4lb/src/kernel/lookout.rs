//! [`Tracking`]: sees connections by the kernel's connection tracking, and counts them by our own table.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use dcos_netlink::{Events, Protocol as Family, Socket};

use super::conntrack;
use super::counters::Counters;
use crate::dataplane::Services;
use crate::watcher::{Begun, Lookout};

/// One network namespace's.
#[derive(Debug)]
pub(super) struct Tracking {
    pub(super) socket: Socket,
    pub(super) ended: Events,
    pub(super) counters: Counters,
    /// Whether connections are balanced at `connect()`.
    pub(super) at_connect: bool,
}

impl Lookout for Tracking {
    fn waiting(&mut self) -> io::Result<Vec<Begun>> {
        conntrack::waiting(&mut self.socket)
    }

    fn ended(&mut self) -> io::Result<Vec<Begun>> {
        let mut ended = Vec::new();
        let take = |entry: &[u8]| ended.extend(conntrack::read_begun(entry));
        let is_all = self.ended.drain(take)?;
        if !is_all {
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        Ok(ended)
    }

    fn given(
        &mut self,
        backends: &[SocketAddr],
        services: &Services,
    ) -> io::Result<Option<BTreeMap<SocketAddr, u64>>> {
        match self.counters.given(backends, services) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            given => given.map(Some),
        }
    }

    fn is_behind_connect(&self) -> bool {
        self.at_connect
    }

    /// What a socket still has to say after an error belongs to nothing that is asked next: all are new ones.
    fn reopen(&mut self) -> io::Result<()> {
        self.socket = Socket::open(Family::Netfilter)?;
        self.ended = conntrack::unanswered()?;
        self.counters.reopen()
    }
}

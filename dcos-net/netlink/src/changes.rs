//! [`Changes`]: who else changes the rules of nftables, as the kernel tells it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::net::RecvFlags;

use crate::{Protocol, Socket, attribute, parts};

/// `NFNLGRP_NFTABLES`, as a bit of the groups that a socket hears.
const NFTABLES: u32 = 1 << (7 - 1);
/// `NFNL_SUBSYS_NFTABLES`, in the upper half of a message's kind.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWRULE` and `…DELRULE` are the last of those about tables, chains and rules; elements of sets follow.
const LAST: u16 = 8;
/// `ENOBUFS`: more was told than waited for us.
const OVERFLOWED: i32 = 105;

/// Hears of each table, chain and rule that anybody makes or takes away in the network namespace of the thread that
/// opened it. Ready for reading when something was told.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
}

impl Changes {
    /// Listens from now on.
    ///
    /// # Errors
    /// What the system said; without root, that it is not permitted.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::bound(Protocol::Netfilter, NFTABLES)?;
        Ok(Self { socket })
    }

    /// Takes in all that was told, without waiting for more; says whether it was about a table of that name, of any
    /// family. What was too much to be kept may have been.
    ///
    /// # Errors
    /// What the system said.
    pub fn concern(&mut self, table: &str) -> io::Result<bool> {
        let mut concerned = false;
        loop {
            match self.socket.receive(RecvFlags::DONTWAIT) {
                Ok(length) => {
                    let told = parts(&self.socket.buffer[..length]);
                    concerned |= told
                        .filter(|part| part.kind >> 8 == SUBSYSTEM && part.kind & 0xff <= LAST)
                        .filter_map(|part| attribute(part.body.get(4..)?, 1))
                        .any(|name| name.strip_suffix(b"\0") == Some(table.as_bytes()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(concerned),
                Err(error) if error.raw_os_error() == Some(OVERFLOWED) => concerned = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.socket.as_raw_fd()
    }
}

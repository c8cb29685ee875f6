//! [`Events`]: what the kernel tells unasked.

use std::io;

use rustix::net::{RecvFlags, sockopt};
use socket2::{SockFilter, SockRef};

use crate::{Protocol, Socket, parts};

/// Room for what is told between two times of taking it in.
const BUFFER: usize = 8 << 20;
/// `ENOBUFS`: more was told than waited for us.
const OVERFLOWED: i32 = 105;

/// Hears what concerns one group, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
}

impl Events {
    /// Listens from now on, to what `filter` lets pass: it sees a message from its header on.
    ///
    /// # Errors
    /// What the system said; without root, that it is not permitted.
    pub fn open(protocol: Protocol, group: u32, filter: &[SockFilter]) -> io::Result<Self> {
        let socket = Socket::bound(protocol, 1 << (group - 1))?;
        sockopt::set_socket_recv_buffer_size_force(&socket.socket, BUFFER)?;
        SockRef::from(&socket.socket).attach_filter(filter)?;
        Ok(Self { socket })
    }

    /// Gives what was told since the last time to `take`, each the header of its kind and its attributes, without waiting for
    /// more. Says whether that was all: what was too much to be kept is lost.
    ///
    /// # Errors
    /// What the system said.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut is_all = true;
        loop {
            match self.socket.receive(RecvFlags::DONTWAIT) {
                Ok(length) => {
                    parts(&self.socket.buffer[..length]).for_each(|part| take(part.body));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(is_all),
                Err(error) if error.raw_os_error() == Some(OVERFLOWED) => is_all = false,
                Err(error) => return Err(error),
            }
        }
    }
}

//! Netlink, as far as it is needed: messages are put together and taken apart by hand, and a socket
//! carries them. The layouts are those of `linux/netlink.h`, `nfnetlink.h` and `nf_tables.h`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
    sockopt,
};

/// The kernel is to do something.
pub(super) const REQUEST: u16 = 1;
/// It is to say that it did.
pub(super) const ACK: u16 = 4;
/// It is to tell everything there is.
pub(super) const DUMP: u16 = 0x300;
/// What is named may be made.
pub(super) const CREATE: u16 = 0x400;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// What was told changed meanwhile.
const INTERRUPTED: u16 = 0x10;
const NESTED: u16 = 0x8000;

const HEADER: usize = 16;
/// The header of netfilter's messages, behind that of netlink.
const FAMILY_HEADER: usize = 4;

/// Every family.
pub(super) const UNSPEC: u8 = 0;

/// Messages that are sent at once.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// Where the message being written begins.
    begin: usize,
    /// Where the open attributes begin.
    open: Vec<usize>,
    sequence: u32,
}

impl Messages {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a message of a subsystem of netfilter; `resource` is zero but in batches.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, family: u8, resource: u16) -> &mut Self {
        self.begin = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self
    }

    /// Adds an attribute.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.close_at(at);
        self
    }

    /// Adds an attribute that is text.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.put(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Begins an attribute that consists of others.
    pub(super) fn open(&mut self, kind: u16) -> &mut Self {
        self.open.push(self.bytes.len());
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        self
    }

    /// Ends it.
    pub(super) fn close(&mut self) -> &mut Self {
        if let Some(at) = self.open.pop() {
            self.close_at(at);
        }
        self
    }

    /// Ends the message.
    pub(super) fn end(&mut self) {
        let length =
            u32::try_from(self.bytes.len() - self.begin).expect("messages are far below 4 GiB");
        self.bytes[self.begin..self.begin + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Has the kernel say of the message that was ended last that it did as told.
    pub(super) fn acknowledge_last(&mut self) {
        let flags = self.begin + 6;
        if let Some(low) = self.bytes.get_mut(flags..flags + 2) {
            let set = u16::from_ne_bytes([low[0], low[1]]) | ACK;
            low.copy_from_slice(&set.to_ne_bytes());
        }
    }

    fn close_at(&mut self, at: usize) {
        // Whoever writes keeps attributes far below the 64 KiB that fit.
        let length = u16::try_from(self.bytes.len() - at).expect("attributes are below 64 KiB");
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The attributes in `bytes`, each with its kind; what is garbled ends them.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attribute of a kind.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A number in network order.
pub(super) fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// A socket to netfilter, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// The kernel reads a transaction from one message, and answers to every part of it that fails.
const SOCKET_BUFFER: usize = 16 << 20;

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(NETFILTER),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER)?;
        sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER)?;
        Ok(Self {
            socket,
            buffer: vec![0; 256 << 10],
        })
    }

    /// Sends messages and waits for the acknowledgement of the last. The first error counts: the
    /// kernel has done nothing then, if they are a transaction.
    pub(super) fn transact(&mut self, messages: &Messages, last: u32) -> io::Result<()> {
        self.send(messages)?;
        let mut failed = None;
        loop {
            // Everything was done, and answered, before sending returned.
            let length = match self.receive(RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let silent = || io::Error::other("the kernel did not answer a transaction");
                    return Err(failed.unwrap_or_else(silent));
                }
                Err(error) => return Err(error),
            };
            let mut done = false;
            for message in parts(&self.buffer[..length]) {
                if message.kind != ERROR {
                    continue;
                }
                match message.error() {
                    0 if message.sequence == last => done = true,
                    0 => {}
                    code => {
                        failed.get_or_insert_with(|| io::Error::from_raw_os_error(code));
                    }
                }
            }
            if done {
                return failed.map_or(Ok(()), Err);
            }
        }
    }

    /// Sends one request and gives each message of the answer (without its headers) to `take`.
    pub(super) fn ask(
        &mut self,
        messages: &Messages,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.send(messages)?;
        let mut interrupted = false;
        loop {
            let length = self.receive(RecvFlags::empty())?;
            for message in parts(&self.buffer[..length]) {
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    ERROR if message.error() == 0 => return Ok(()),
                    ERROR => return Err(io::Error::from_raw_os_error(message.error())),
                    DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    DONE => return Ok(()),
                    _ => take(message.body.get(FAMILY_HEADER..).unwrap_or_default()),
                }
            }
        }
    }

    fn send(&self, messages: &Messages) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = sendto(&self.socket, &messages.bytes, SendFlags::empty(), &kernel)?;
        debug_assert_eq!(sent, messages.bytes.len(), "netlink sends all or nothing");
        Ok(())
    }

    fn receive(&mut self, flags: RecvFlags) -> io::Result<usize> {
        let (length, _) = recv(&self.socket, self.buffer.as_mut_slice(), flags)?;
        Ok(length)
    }
}

struct Part<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Part<'_> {
    /// What an error message says: zero is an acknowledgement.
    fn error(&self) -> i32 {
        let code = self.body.get(..4).and_then(|code| code.try_into().ok());
        -i32::from_ne_bytes(code.unwrap_or_default())
    }
}

/// The messages in a datagram.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let word = |at: usize| {
            let word = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(word))
        };
        let half = |at: usize| Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let length = usize::try_from(word(0)?).ok()?;
        let part = Part {
            kind: half(4)?,
            flags: half(6)?,
            sequence: word(8)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    })
}

impl Messages {
    /// The number of the message written last.
    pub(super) fn last(&self) -> u32 {
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut messages = Messages::new();
        messages.begin(7, 0, 1, 0).text(1, "table");
        messages
            .open(3)
            .put(1, &[1, 2, 3])
            .put(2, &[])
            .close()
            .end();
        let found: Vec<Part<'_>> = parts(&messages.bytes).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].kind, found[0].flags, found[0].sequence),
            (7, REQUEST, 1)
        );
        let body = &found[0].body[FAMILY_HEADER..];
        assert_eq!(attribute(body, 1), Some(&b"table\0"[..]));
        let inner: Vec<_> = attributes(attribute(body, 3).unwrap()).collect();
        assert_eq!(inner, [(1, &[1, 2, 3][..]), (2, &[][..])]);
    }

    #[test]
    fn garbled_attributes_end_the_list() {
        for bytes in [&[][..], &[1], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2], &[0; 8]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}

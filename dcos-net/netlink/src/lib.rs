//! Netlink, as far as a node's network needs it: messages are put together and taken apart by hand,
//! and a socket carries them, many in one call where there are many.
//!
//! What kinds and attributes mean is known to those who use it: `dcos-l4lb` speaks to netfilter,
//! `dcos-overlay` to routing. The layouts are those of `linux/netlink.h`. What is made once a start is
//! left to the program [`nft`].
//!
//! ```no_run
//! use dcos_netlink::{DUMP, Messages, Protocol, Socket, attribute};
//!
//! /// Every link: `RTM_GETLINK`, the header `ifinfomsg`, the attribute `IFLA_IFNAME`.
//! let mut request = Messages::new();
//! request.begin(18, DUMP, &[0; 16]).end();
//! let mut socket = Socket::open(Protocol::Route)?;
//! socket.ask(&request, |link| println!("{:?}", attribute(&link[16..], 3)))?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod changes;
mod events;
mod link;
mod nft;
mod passage;
mod program;

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

pub use changes::Changes;
pub use events::Events;
pub use link::{made, remove_link, stand_link};
pub use nft::{NftError, listing, nft, without};
pub use passage::{Passage, PassageError, Porter};

/// One instruction of what [`Events`] are filtered by.
pub use socket2::SockFilter;

use rustix::net::netlink::{NETFILTER, SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
    sockopt,
};

/// The kernel is to do something.
pub const REQUEST: u16 = 1;
/// It is to say that it did.
pub const ACK: u16 = 4;
/// It is to tell everything there is.
pub const DUMP: u16 = 0x300;
/// What is there already is replaced.
pub const REPLACE: u16 = 0x100;
/// It is an error if it is there already.
pub const EXCLUSIVE: u16 = 0x200;
/// What is named may be made.
pub const CREATE: u16 = 0x400;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// What was told changed meanwhile.
const INTERRUPTED: u16 = 0x10;
const NESTED: u16 = 0x8000;

const HEADER: usize = 16;

/// Messages that are sent at once.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// Where the message being written begins.
    begin: usize,
    /// Where the open attributes begin.
    open: Vec<usize>,
    sequence: u32,
}

impl Messages {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins a message of a kind, with the header that kind has.
    pub fn begin(&mut self, kind: u16, flags: u16, header: &[u8]) -> &mut Self {
        self.begin = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(header);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.close_at(at);
        self
    }

    /// Adds an attribute that is text.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.put(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Begins an attribute that consists of others.
    pub fn open(&mut self, kind: u16) -> &mut Self {
        self.open.push(self.bytes.len());
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        self
    }

    /// Ends it.
    pub fn close(&mut self) -> &mut Self {
        if let Some(at) = self.open.pop() {
            self.close_at(at);
        }
        self
    }

    /// Ends the message.
    pub fn end(&mut self) {
        let length =
            u32::try_from(self.bytes.len() - self.begin).expect("messages are far below 4 GiB");
        self.bytes[self.begin..self.begin + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Has the kernel say of the message that was ended last that it did as told.
    pub fn acknowledge_last(&mut self) {
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
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
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
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A number in network order.
pub fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// What one process of a network namespace has at a time; others have it when its process ends.
#[derive(Debug)]
pub struct Lock {
    _name: UnixDatagram,
}

impl Lock {
    /// Takes what has a name, in the network namespace of this thread.
    ///
    /// # Errors
    /// If another process has it: [`io::ErrorKind::AddrInUse`].
    pub fn take(name: &str) -> io::Result<Self> {
        let name = SocketAddr::from_abstract_name(name)?;
        Ok(Self {
            _name: UnixDatagram::bind_addr(&name)?,
        })
    }

    /// Whether a process has it, in the network namespace of this thread. Nobody who takes it meanwhile is in anybody's way.
    pub fn is_taken(name: &str) -> bool {
        let asked = SocketAddr::from_abstract_name(name)
            .and_then(|name| UnixDatagram::unbound()?.connect_addr(&name));
        asked.is_ok()
    }
}

/// Whom a socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and connection tracking.
    Netfilter,
    /// Sockets of all processes.
    Diagnosis,
}

/// What the kernel did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number of the message.
    pub sequence: u32,
    /// Why, as an `errno`.
    pub code: i32,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::from_raw_os_error(failure.code)
    }
}

/// A socket to the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// How often a list is asked for that changes while it is told.
const ATTEMPTS: usize = 6;

/// The kernel reads a transaction from one message, and answers to every part of it that fails.
const SOCKET_BUFFER: usize = 16 << 20;

impl Socket {
    /// Opens one.
    ///
    /// # Errors
    /// What the system said; without root, that it is not permitted.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let opened = Self::bound(protocol, 0)?;
        sockopt::set_socket_send_buffer_size_force(&opened.socket, SOCKET_BUFFER)?;
        sockopt::set_socket_recv_buffer_size_force(&opened.socket, SOCKET_BUFFER)?;
        Ok(opened)
    }

    /// One that asks for little, and changes nothing: anybody may open it.
    ///
    /// # Errors
    /// What the system said.
    pub fn open_to_ask(protocol: Protocol) -> io::Result<Self> {
        Self::bound(protocol, 0)
    }

    /// One that hears what the kernel tells these groups, and has room for little.
    fn bound(protocol: Protocol, groups: u32) -> io::Result<Self> {
        let protocol = match protocol {
            // `NETLINK_ROUTE` is zero.
            Protocol::Route => None,
            Protocol::Netfilter => Some(NETFILTER),
            Protocol::Diagnosis => Some(SOCK_DIAG),
        };
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self {
            socket,
            buffer: vec![0; 256 << 10],
        })
    }

    /// Sends messages, of which the one numbered `last` is acknowledged (and none of the others), and
    /// waits until the kernel is through with them. Says which it did not do: of routing, all others
    /// are done then; of a transaction of nftables, none.
    ///
    /// # Errors
    /// What the system said, or that the kernel said nothing.
    pub fn transact(&mut self, messages: &Messages, last: u32) -> io::Result<Vec<Failure>> {
        self.send(messages)?;
        let mut failures = Vec::new();
        loop {
            // Everything was done, and answered, before sending returned.
            let length = match self.receive(RecvFlags::DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if failures.is_empty() {
                        return Err(io::Error::other("the kernel did not answer a transaction"));
                    }
                    return Ok(failures);
                }
                Err(error) => return Err(error),
            };
            let mut done = false;
            for message in parts(&self.buffer[..length]) {
                if message.kind != ERROR {
                    continue;
                }
                let sequence = message.sequence;
                match message.error() {
                    0 => done |= sequence == last,
                    code => failures.push(Failure { sequence, code }),
                }
            }
            if done {
                return Ok(failures);
            }
        }
    }

    /// Sends one request and gives each message of the answer to `take`: the header of its kind, and
    /// its attributes.
    ///
    /// # Errors
    /// What the kernel said; [`io::ErrorKind::Interrupted`] if what it told changed meanwhile.
    pub fn ask(&mut self, messages: &Messages, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(messages)?;
        let mut interrupted = false;
        loop {
            let length = self.receive(RecvFlags::empty())?;
            for message in parts(&self.buffer[..length]) {
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    // A list that cannot be told to its end says so there.
                    ERROR | DONE if message.error() != 0 => {
                        return Err(io::Error::from_raw_os_error(message.error()));
                    }
                    DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    ERROR | DONE => return Ok(()),
                    _ => take(message.body),
                }
            }
        }
    }

    /// Sends a request for all there is, and gives back what `read` makes of each part of the answer. Asks again if
    /// that changed while it was told.
    ///
    /// # Errors
    /// What the kernel said; [`io::ErrorKind::Interrupted`] if it changes all the time.
    pub fn list<T>(
        &mut self,
        messages: &Messages,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            let mut found = Vec::new();
            match self.ask(messages, |body| found.extend(read(body))) {
                Ok(()) => return Ok(found),
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted && attempts.next().is_some() => {}
                Err(error) => return Err(error),
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
    /// What an error message, or the end of a list, says: zero is an acknowledgement.
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
    pub fn last(&self) -> u32 {
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut messages = Messages::new();
        messages.begin(7, 0, &[1, 0, 0, 0]).text(1, "table");
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
        let body = &found[0].body[4..];
        assert_eq!(attribute(body, 1), Some(&b"table\0"[..]));
        let inner: Vec<_> = attributes(attribute(body, 3).unwrap()).collect();
        assert_eq!(inner, [(1, &[1, 2, 3][..]), (2, &[][..])]);
    }

    #[test]
    fn one_has_a_lock_at_a_time() {
        let name = format!("dcos-netlink-test-{}", std::process::id());
        let held = Lock::take(&name).unwrap();
        let refused = Lock::take(&name).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(held);
        Lock::take(&name).unwrap();
    }

    #[test]
    fn a_list_the_kernel_cannot_tell_is_an_error() {
        let Ok(mut socket) = Socket::open(Protocol::Route) else {
            eprintln!("skipped: netlink sockets with large buffers need root");
            return;
        };
        // Links of a network namespace that nobody named: `IFLA_TARGET_NETNSID`.
        let mut request = Messages::new();
        request
            .begin(18, DUMP, &[0; 16])
            .put(46, &9i32.to_ne_bytes())
            .end();
        assert!(socket.list(&request, |_| Some(())).is_err());
        let mut request = Messages::new();
        request.begin(18, DUMP, &[0; 16]).end();
        let names = socket.list(&request, |link| {
            attribute(&link[16..], 3).map(<[u8]>::to_vec)
        });
        assert!(names.unwrap().contains(&b"lo\0".to_vec()));
    }

    #[test]
    fn garbled_attributes_end_the_list() {
        for bytes in [&[][..], &[1], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2], &[0; 8]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}

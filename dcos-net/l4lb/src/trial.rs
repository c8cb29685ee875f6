//! [`Trial`]: a connection of the node's own to a backend, to see whether it is answered.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::detector::Outcome;

/// So long it waits for an answer: the kernel asks again after a second.
const LIMIT: Duration = Duration::from_secs(3);

/// One that was begun.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) backend: SocketAddr,
    /// Its own end, if it could be made.
    pub(crate) own: Option<SocketAddr>,
    socket: io::Result<Socket>,
    begun: Instant,
}

impl Trial {
    /// Begins one, in the network namespace of this thread.
    pub(crate) fn begin(backend: SocketAddr) -> Self {
        let (begun, mut own) = (Instant::now(), None);
        let socket = connect(backend, &mut own);
        Self {
            backend,
            own,
            socket,
            begun,
        }
    }

    /// What became of it, if that is known.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let error = match &self.socket {
            Err(error) => Some(verdict(error)),
            Ok(socket) => match socket.take_error() {
                Ok(Some(error)) | Err(error) => Some(verdict(&error)),
                // One that still waits has no other end.
                Ok(None) if socket.peer_addr().is_ok() => Some(Outcome::Answered),
                Ok(None) => None,
            },
        };
        error.or_else(|| (self.begun.elapsed() >= LIMIT).then_some(Outcome::Failed))
    }
}

fn connect(backend: SocketAddr, own: &mut Option<SocketAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(backend), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let any: IpAddr = match backend {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    socket.bind(&SocketAddr::new(any, 0).into())?;
    *own = socket.local_addr()?.as_socket();
    match socket.connect(&backend.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// What an error says of the backend, and not of this node.
fn verdict(error: &io::Error) -> Outcome {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused | ConnectionReset | HostUnreachable | TimedOut => Outcome::Failed,
        _ => Outcome::Unknown,
    }
}

//! Where connections come from.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::peer::{Peer, PeerAddress};
use crate::io::Stream;

/// A bound socket that takes connections.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        _file: SocketFile,
    },
}

/// The file of a Unix socket, removed with its listener.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Listener {
    /// Binds a TCP port; port 0 takes a free one, see [`Listener::address`].
    ///
    /// # Errors
    /// The address is taken, or not one of this host.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Kind::Tcp(TcpListener::bind(address).await?)))
    }

    /// Takes over a TCP socket that was bound elsewhere, such as by a service manager.
    ///
    /// # Errors
    /// The socket can't be used without blocking.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(Kind::Tcp(TcpListener::from_std(listener)?)))
    }

    /// Binds a Unix socket at `path`, taking the place of a socket nobody listens on any more. The
    /// file is removed when the listener is dropped.
    ///
    /// # Errors
    /// Somebody listens there, the path is no socket, or the directory can't be written.
    pub fn unix(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead_socket(&path) => {
                std::fs::remove_file(&path)?;
                UnixListener::bind(&path)?
            }
            bound => bound?,
        };
        Ok(Self(Kind::Unix {
            socket: listener,
            _file: SocketFile(path),
        }))
    }

    /// The address it is bound to, if it is a TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix { .. } => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // A client on a dual-stack listener is known by its IPv4 address.
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                Ok((Stream::tcp(stream), Peer::new(PeerAddress::Tcp(address))))
            }
            Kind::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                let credentials = stream.peer_cred()?;
                let address = PeerAddress::Unix {
                    pid: credentials.pid(),
                    uid: credentials.uid(),
                    gid: credentials.gid(),
                };
                Ok((Stream::new(stream), Peer::new(address)))
            }
        }
    }
}

/// Whether `path` is a socket that refuses connections.
fn is_dead_socket(path: &Path) -> bool {
    let refused = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    let is_socket = std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()));
    refused && is_socket
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already, which is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

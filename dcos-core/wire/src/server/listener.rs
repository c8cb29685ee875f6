//! Where connections come from.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use http::Uri;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, mpsc};

use super::peer::{Peer, PeerAddress};
use crate::client::Dial;
use crate::io::Stream;

/// A bound socket that takes connections.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix {
        socket: UnixListener,
        /// Absent if somebody else made it.
        _file: Option<SocketFile>,
    },
    Pipe(Mutex<mpsc::Receiver<Stream>>),
}

/// Opens connections to a [`Listener`] of the same process, without a socket: a [`Dial`] for
/// clients, or bare streams.
///
/// ```
/// use std::sync::Arc;
/// use dcos_wire::{Client, ClientConfig, Listener, Server};
/// use tokio_util::sync::CancellationToken;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let (pipe, listener) = Listener::pipe();
/// let router = axum::Router::new().route("/ping", axum::routing::get(async || "pong"));
/// tokio::spawn(Server::new(router).serve(listener, CancellationToken::new()));
///
/// let config = ClientConfig { dial: Some(Arc::new(pipe)), ..ClientConfig::default() };
/// let answer = Client::with_config(config)?.get("http://anything/ping").await?;
/// assert_eq!(answer.text().await?, "pong");
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Pipe(mpsc::Sender<Stream>);

/// Connections that wait to be accepted, as in a socket's queue.
const BACKLOG: usize = 128;
/// Bytes on their way in each direction of a connection, as in a socket's buffer.
const BUFFER: usize = 64 * 1024;

impl Pipe {
    /// Opens a connection.
    ///
    /// # Errors
    /// The listener is gone.
    pub async fn connect(&self) -> io::Result<Stream> {
        let (near, far) = tokio::io::duplex(BUFFER);
        let sent = self.0.send(Stream::new(far)).await;
        sent.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(Stream::new(near))
    }
}

#[async_trait]
impl Dial for Pipe {
    async fn dial(&self, _: &Uri) -> io::Result<Stream> {
        self.connect().await
    }
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

    /// Another listener on the same TCP socket: each connection is taken by one of the two. What is served may so change
    /// while nobody who connects is turned away.
    ///
    /// # Errors
    /// It is no TCP socket, or the process has too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        let Kind::Tcp(listener) = &self.0 else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let socket = listener.as_fd().try_clone_to_owned()?;
        Self::from_std(socket.into())
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
            _file: Some(SocketFile(path)),
        }))
    }

    /// Takes over a Unix socket that was bound elsewhere, such as by a service manager; its file stays.
    ///
    /// # Errors
    /// The socket can't be used without blocking.
    pub fn unix_from_std(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(Kind::Unix {
            socket: UnixListener::from_std(listener)?,
            _file: None,
        }))
    }

    /// A listener whose connections are opened through the [`Pipe`] beside it.
    pub fn pipe() -> (Pipe, Self) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Pipe(sender), Self(Kind::Pipe(Mutex::new(receiver))))
    }

    /// The address it is bound to, if it is a TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().ok(),
            Kind::Unix { .. } | Kind::Pipe(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Kind::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let peer = Peer::tcp(address, stream.local_addr().ok());
                Ok((Stream::tcp(stream), peer))
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
            Kind::Pipe(streams) => match streams.lock().await.recv().await {
                Some(stream) => Ok((stream, Peer::new(PeerAddress::Local))),
                // Nobody can connect any more.
                None => std::future::pending().await,
            },
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

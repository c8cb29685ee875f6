//! Byte streams whose kind (TCP, Unix, TLS, a pipe in a test) no longer matters.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What a connection must be able to do.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection of any kind.
pub struct Stream(Box<dyn Io>);

impl Stream {
    /// Hides the kind of `io`.
    pub fn new(io: impl Io + 'static) -> Self {
        Self(Box::new(io))
    }

    /// A TCP connection with the options every one of ours has: no waiting to fill packets (a
    /// first record would come 40 ms late), and probes that notice a dead host.
    pub(crate) fn tcp(tcp: TcpStream) -> Self {
        tune(&tcp);
        Self::new(tcp)
    }
}

/// A silent peer is probed after this long, ...
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// ... then this often, ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and given up after this many unanswered probes.
const KEEPALIVE_PROBES: u32 = 3;

fn tune(tcp: &TcpStream) {
    use rustix::net::sockopt;
    // Each of these only makes a failure show later if it does not take.
    let _ = tcp.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(tcp, true);
    let _ = sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE);
    let _ = sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_PROBES);
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

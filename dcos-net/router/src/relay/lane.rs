//! [`Lane`]: a connection to somebody behind the router on which the relay itself speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::shelf::Reusable;
use crate::upstream::{Conn, is_silent, look_now};

/// A connection that takes one request after another.
pub(crate) enum Lane {
    /// Most, without the layers that the others need.
    Tcp(TcpStream),
    Other(Box<TokioIo<MaybeHttpsStream<Conn>>>),
}

impl Lane {
    /// HTTP on a new connection.
    pub(crate) fn new(stream: MaybeHttpsStream<Conn>) -> Self {
        match stream {
            MaybeHttpsStream::Http(Conn::Tcp(stream)) => Self::Tcp(stream.into_inner()),
            stream => Self::Other(Box::new(TokioIo::new(stream))),
        }
    }

    /// Sends some of these bytes.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    /// Sends what was not sent yet.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
}

impl AsyncRead for Lane {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl Reusable for Lane {
    fn is_ready(&mut self) -> bool {
        // Between requests there is nothing to be said: neither words nor the end.
        match self {
            Self::Tcp(stream) => is_silent(&*stream),
            Self::Other(stream) => look_now(|cx| {
                let mut byte = [0];
                Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut byte))
            })
            .is_pending(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_the_runtime_has_not_heard_of_is_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut far_tcp, _) = listener.accept().unwrap();
        let (unix, mut far_unix) = UnixStream::pair().unwrap();
        unix.set_nonblocking(true).unwrap();
        let unix = tokio::net::UnixStream::from_std(unix).unwrap();
        let unix = MaybeHttpsStream::Http(Conn::Unix(TokioIo::new(unix)));
        let (mut tcp, mut unix) = (Lane::Tcp(tcp), Lane::new(unix));
        assert!(tcp.is_ready() && unix.is_ready());
        // The runtime hears of nothing before this task waits.
        far_tcp.write_all(b"x").unwrap();
        far_unix.write_all(b"x").unwrap();
        assert!(!tcp.is_ready() && !unix.is_ready());
    }
}

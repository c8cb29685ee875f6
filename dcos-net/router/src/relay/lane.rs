//! [`Lane`]: a connection to somebody behind the router on which the relay itself speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use crate::shelf::Reusable;
use crate::upstream::Conn;

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
        let mut byte = [0];
        let mut read = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut cx, &mut read).is_pending()
    }
}

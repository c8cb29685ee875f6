//! How a client's connections are opened.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tower::{Service, ServiceExt};

use crate::io::Stream;

/// Opens the connections of a [`Client`](crate::Client): TCP and Unix sockets here, a pipe or a
/// simulated network in tests.
///
/// # Contract
/// 1. Each call opens a connection of its own to the host and port in `url`, or to whatever stands
///    in for it.
/// 2. For an `https` URL it opens the bare connection; TLS is spoken on top by the client.
/// 3. A future dropped half-way leaves nothing open.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens a connection.
    ///
    /// # Errors
    /// Nobody answers there.
    async fn dial(&self, url: &Uri) -> io::Result<Stream>;
}

/// TCP to the host in the URL.
#[derive(Debug)]
pub(super) struct TcpDial(HttpConnector);

impl TcpDial {
    pub(super) fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(timeout));
        Self(connector)
    }
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, url: &Uri) -> io::Result<Stream> {
        let connected = self.0.clone().oneshot(url.clone()).await;
        let stream = connected.map_err(io::Error::other)?;
        Ok(Stream::tcp(stream.into_inner()))
    }
}

/// One Unix socket for every URL.
#[derive(Debug)]
pub(super) struct UnixDial(pub(super) PathBuf);

#[async_trait]
impl Dial for UnixDial {
    async fn dial(&self, _: &Uri) -> io::Result<Stream> {
        Ok(Stream::new(UnixStream::connect(&self.0).await?))
    }
}

/// A [`Dial`] as hyper wants it.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    dial: Arc<dyn Dial>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(dial: Arc<dyn Dial>, timeout: Duration) -> Self {
        Self { dial, timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = Conn;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Conn>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let (dial, timeout) = (Arc::clone(&self.dial), self.timeout);
        async move {
            let stream = tokio::time::timeout(timeout, dial.dial(&url)).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(Conn(TokioIo::new(stream)))
        }
        .boxed()
    }
}

/// An open connection, as hyper wants it.
pub(super) struct Conn(TokioIo<Stream>);

impl Connection for Conn {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Conn {
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

//! The task of one connection to another process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::actor::Event;
use super::message::{self, Message, Renderer};
use super::pool::{Peer, Shared};
use crate::io::Stream;
use crate::tls::Ssl;

/// A message on its way. It becomes a request when its turn comes, so that whoever sends it has
/// nothing to do with that.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// To whom, in the process at the peer's address.
    pub(super) actor: String,
    pub(super) message: Message,
}

impl Outgoing {
    /// About how many bytes it has as a request.
    pub(super) fn size(&self) -> usize {
        self.message.body.len() + message::HEAD
    }
}

/// Connects, writes what is queued, and tells the linked actors when it is over.
pub(super) async fn run(shared: Arc<Shared>, peer: Arc<Peer>, mut queue: mpsc::Receiver<Outgoing>) {
    let ended = tokio::select! {
        () = peer.cut.cancelled() => Ok(()),
        ended = converse(&shared, &peer, &mut queue) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(address = %peer.address, %error, "connection to a peer ended");
    }
    for (actor, upid) in shared.ended(&peer) {
        shared.directory.deliver(&actor, Event::Exited(upid)).await;
    }
}

async fn converse(
    shared: &Shared,
    peer: &Arc<Peer>,
    queue: &mut mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    if peer.address == shared.own {
        return deliver(shared, peer, queue).await;
    }
    let connect = connect(peer.address, shared.config.tls.as_ref());
    let stream = tokio::time::timeout(shared.config.connect_timeout, connect).await;
    let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        ended = drain(reader) => ended,
        ended = write(shared, peer, queue, writer) => ended,
    }
}

/// A connection to a peer: encrypted if `tls` says so, and plain if the peer does not speak TLS and
/// that may be.
async fn connect(address: SocketAddr, tls: Option<&Ssl>) -> io::Result<Stream> {
    let plain = async || Ok(Stream::tcp(TcpStream::connect(address).await?));
    let Some(tls) = tls else {
        return plain().await;
    };
    let connector = TlsConnector::from(Arc::clone(&tls.client));
    let name = ServerName::from(address.ip());
    match connector.connect(name, plain().await?).await {
        Ok(encrypted) => Ok(Stream::new(encrypted)),
        // A certificate that is refused is no reason to go on without one.
        Err(error) if tls.downgrade && !is_refusal(&error) => plain().await,
        Err(error) => Err(error),
    }
}

/// Whether a handshake failed because of who the other side is.
fn is_refusal(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// Messages to this very process, which has no connection to break.
async fn deliver(
    shared: &Shared,
    peer: &Peer,
    queue: &mut mpsc::Receiver<Outgoing>,
) -> io::Result<()> {
    while let Some(outgoing) = queue.recv().await {
        peer.waiting.fetch_sub(outgoing.size(), Ordering::AcqRel);
        let event = Event::Message(outgoing.message);
        shared.directory.deliver(&outgoing.actor, event).await;
    }
    Ok(())
}

/// Reads the answers, which say nothing that is of use, until the peer closes.
async fn drain(mut reader: ReadHalf<Stream>) -> io::Result<()> {
    let mut answers = vec![0; 8 * 1024];
    while reader.read(&mut answers).await? > 0 {}
    Ok(())
}

/// Small messages are written together up to this size.
const BATCH: usize = 64 * 1024;

async fn write(
    shared: &Shared,
    peer: &Arc<Peer>,
    queue: &mut mpsc::Receiver<Outgoing>,
    mut writer: WriteHalf<Stream>,
) -> io::Result<()> {
    let config = &shared.config;
    let mut renderer = Renderer::new(peer.address);
    loop {
        let next = tokio::time::timeout(config.idle_timeout, queue.recv()).await;
        let first = match next {
            Ok(Some(outgoing)) => outgoing,
            Ok(None) => return Ok(()),
            Err(_) if shared.retire(peer, queue) => return Ok(()),
            Err(_) => continue,
        };
        let (batch, size) = gather(&mut renderer, first, queue);
        let written = tokio::time::timeout(config.write_timeout, writer.write_all(&batch)).await;
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        peer.waiting.fetch_sub(size, Ordering::AcqRel);
    }
}

/// The requests for `first` and what else is queued, if it is small; and what they counted in the
/// outbox.
fn gather(
    renderer: &mut Renderer,
    first: Outgoing,
    queue: &mut mpsc::Receiver<Outgoing>,
) -> (BytesMut, usize) {
    // Mostly those that wait are alike: room for all of them at once, within a batch.
    let room = (queue.len() + 1) * first.size();
    let room = room.min(BATCH + first.size());
    let (mut batch, mut size) = (BytesMut::with_capacity(room), 0);
    let mut next = Some(first);
    while let Some(outgoing) = next {
        size += outgoing.size();
        renderer.render(&mut batch, &outgoing.actor, &outgoing.message);
        next = if batch.len() < BATCH {
            queue.try_recv().ok()
        } else {
            None
        };
    }
    (batch, size)
}

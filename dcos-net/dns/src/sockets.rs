//! The loops on UDP and TCP sockets: packets in, packets out.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{Rules, Verdict, failure, judge, plain};
use crate::forward::Forwarder;
use crate::metrics::Answers;
use crate::served::Served;

/// How long a TCP client may take for its next query, or to take its answer (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// What all loops share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) served: watch::Receiver<Arc<Served>>,
    pub(crate) rules: Rules,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) forwards: Arc<Semaphore>,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    fn judge(&self, packet: &[u8], tcp: bool) -> Verdict {
        let served = Arc::clone(&self.served.borrow());
        judge(packet, &served, self.rules, tcp)
    }
}

/// The thread that answers queries on a UDP socket. It waits in the kernel for each query: to be woken by a runtime costs
/// more than most answers do. It ends, after the query it is at, when this is dropped.
#[derive(Debug)]
pub(crate) struct UdpThread {
    socket: Arc<UdpSocket>,
    stopped: Arc<AtomicBool>,
}

impl UdpThread {
    /// Begins answering.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start(shared: Arc<Shared>, socket: UdpSocket) -> io::Result<Self> {
        let thread = Self {
            socket: Arc::new(socket),
            stopped: Arc::default(),
        };
        let (socket, stopped) = (Arc::clone(&thread.socket), Arc::clone(&thread.stopped));
        let (runtime, running) = (Handle::current(), shared.tasks.token());
        std::thread::Builder::new()
            .name("dns-udp".to_owned())
            .spawn(move || {
                udp(&shared, &socket, &stopped, &runtime);
                drop(running);
            })?;
        Ok(thread)
    }
}

impl Drop for UdpThread {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Linux says that the socket is not connected, and wakes whoever waits for a packet all the same.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// Answers queries until it is `stopped`.
fn udp(shared: &Arc<Shared>, socket: &Arc<UdpSocket>, stopped: &AtomicBool, runtime: &Handle) {
    let mut latest = shared.served.clone();
    let mut served = Arc::clone(&latest.borrow_and_update());
    let (mut packet, mut room) = (vec![0; 65_535], Vec::new());
    loop {
        let received = socket.recv_from(&mut packet);
        if stopped.load(Ordering::Acquire) {
            return;
        }
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                // Such as the word of an earlier client that its port is closed.
                tracing::debug!(%error, "receiving a query");
                continue;
            }
        };
        if latest.has_changed().unwrap_or_default() {
            served = Arc::clone(&latest.borrow_and_update());
        }
        let packet = &packet[..length];
        if plain::answer(packet, &served, shared.rules, &mut room) {
            shared.answers.udp.fetch_add(1, Ordering::Relaxed);
            send(socket, &room, client);
            continue;
        }
        match judge(packet, &served, shared.rules, false) {
            Verdict::Ignore => {}
            Verdict::Answer(answer) => {
                shared.answers.udp.fetch_add(1, Ordering::Relaxed);
                send(socket, &answer, client);
            }
            Verdict::Forward { name, refusal } => {
                let query = Query {
                    packet,
                    name,
                    client,
                };
                forward(shared, socket, query, refusal, runtime);
            }
        }
    }
}

/// A query that others know the answer to.
struct Query<'a> {
    packet: &'a [u8],
    name: String,
    client: SocketAddr,
}

/// Has others asked in a task.
fn forward(
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    query: Query<'_>,
    refusal: Box<Message>,
    runtime: &Handle,
) {
    let Query {
        packet,
        name,
        client,
    } = query;
    if !shared.forwarder.knows_whom_to_ask(&name) {
        return send(socket, &failure(*refusal, ResponseCode::Refused), client);
    }
    let Ok(slot) = Arc::clone(&shared.forwards).try_acquire_owned() else {
        tracing::warn!("too many forwarded queries in flight");
        return send(socket, &failure(*refusal, ResponseCode::ServFail), client);
    };
    let (socket, query) = (Arc::clone(socket), packet.to_vec());
    let forwarding = Arc::clone(shared);
    let forwarded = async move {
        let answer = forwarding.forwarder.ask(&query, &name, false).await;
        let answer = answer.unwrap_or_else(|| failure(*refusal, ResponseCode::ServFail));
        send(&socket, &answer, client);
        drop(slot);
    };
    let stop = shared.stop.clone();
    shared
        .tasks
        .spawn_on(stop.run_until_cancelled_owned(forwarded), runtime);
}

/// Sends an answer, or, where packets leave more slowly than they are answered, does not: its client asks again.
fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = rustix::net::sendto(socket, answer, SendFlags::DONTWAIT, &client) {
        tracing::debug!(%client, %error, "sending an answer");
    }
}

/// Takes TCP clients until told to stop.
pub(crate) async fn tcp(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accept = async {
            let slot = Arc::clone(&shared.connections).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                let serving = Arc::clone(&shared);
                let connection = async move {
                    if let Err(error) = converse(&serving, stream).await {
                        tracing::debug!(%client, %error, "a TCP client went away");
                    }
                    drop(slot);
                };
                shared
                    .tasks
                    .spawn(shared.stop.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => {
                // Out of file descriptors, most likely: a pause keeps the loop from spinning.
                tracing::warn!(%error, "a TCP client could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One query after the other, until the client closes, is silent, or sends what is no query.
async fn converse(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let query = match timeout(IDLE, read(&mut stream)).await {
            Ok(query) => query?,
            Err(_) => return Ok(()),
        };
        let answer = match shared.judge(&query, true) {
            Verdict::Ignore => return Ok(()),
            Verdict::Answer(answer) => {
                shared.answers.tcp.fetch_add(1, Ordering::Relaxed);
                answer
            }
            Verdict::Forward { name, refusal } => {
                let known = shared.forwarder.knows_whom_to_ask(&name);
                let code = if known {
                    ResponseCode::ServFail
                } else {
                    ResponseCode::Refused
                };
                let answer = match shared.forwards.try_acquire() {
                    Ok(_slot) if known => shared.forwarder.ask(&query, &name, true).await,
                    _ => None,
                };
                answer.unwrap_or_else(|| failure(*refusal, code))
            }
        };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        timeout(IDLE, stream.write_all(&framed))
            .await
            .map_err(io::Error::from)??;
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut query = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut query).await?;
    Ok(query)
}

//! The loops on UDP and TCP sockets: packets in, packets out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::{Rules, Verdict, failure, judge, plain};
use crate::forward::Forwarder;
use crate::served::Served;

/// How long a TCP client may take for its next query, or to take its answer (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// Queries that are answered before it is looked again whether to stop.
const BURST: usize = 64;

/// What all loops share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) served: watch::Receiver<Arc<Served>>,
    pub(crate) rules: Rules,
    pub(crate) forwarder: Arc<Forwarder>,
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

/// Answers queries on a UDP socket until told to stop.
pub(crate) async fn udp(shared: Arc<Shared>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut latest = shared.served.clone();
    let mut served = Arc::clone(&latest.borrow_and_update());
    let (mut packet, mut room) = (vec![0; 65_535], Vec::new());
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            readable = socket.readable() => if let Err(error) = readable {
                tracing::debug!(%error, "waiting for queries");
            },
        }
        for _ in 0..BURST {
            let (length, client) = match socket.try_recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
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
                send(&socket, &room, client).await;
                continue;
            }
            let verdict = judge(packet, &served, shared.rules, false);
            carry_out(verdict, &shared, &socket, packet, client).await;
        }
    }
}

/// Does about a packet what was found right.
async fn carry_out(
    verdict: Verdict,
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    packet: &[u8],
    client: SocketAddr,
) {
    let (name, refusal) = match verdict {
        Verdict::Ignore => return,
        Verdict::Answer(answer) => return send(socket, &answer, client).await,
        Verdict::Forward { name, refusal } => (name, refusal),
    };
    if !shared.forwarder.knows_whom_to_ask(&name) {
        return send(socket, &failure(*refusal, ResponseCode::Refused), client).await;
    }
    let Ok(slot) = Arc::clone(&shared.forwards).try_acquire_owned() else {
        tracing::warn!("too many forwarded queries in flight");
        return send(socket, &failure(*refusal, ResponseCode::ServFail), client).await;
    };
    let (socket, query) = (Arc::clone(socket), packet.to_vec());
    let forwarding = Arc::clone(shared);
    let forwarded = async move {
        let answer = forwarding.forwarder.ask(&query, &name, false).await;
        let answer = answer.unwrap_or_else(|| failure(*refusal, ResponseCode::ServFail));
        send(&socket, &answer, client).await;
        drop(slot);
    };
    shared
        .tasks
        .spawn(shared.stop.clone().run_until_cancelled_owned(forwarded));
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    let sent = match socket.try_send_to(answer, client) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            socket.send_to(answer, client).await
        }
        sent => sent,
    };
    if let Err(error) = sent {
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
            Verdict::Answer(answer) => answer,
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

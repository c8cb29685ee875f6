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

use crate::answer::{Rules, Verdict, failure, judge};
use crate::forward::Forwarder;
use crate::served::Served;

/// How long a TCP client may take for its next query, or to take its answer (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

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
    let mut packet = vec![0; 65_535];
    loop {
        let received = tokio::select! {
            () = shared.stop.cancelled() => return,
            received = socket.recv_from(&mut packet) => received,
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                // Such as the word of an earlier client that its port is closed.
                tracing::debug!(%error, "receiving a query");
                continue;
            }
        };
        let packet = &packet[..length];
        match shared.judge(packet, false) {
            Verdict::Ignore => {}
            Verdict::Answer(answer) => send(&socket, &answer, client).await,
            Verdict::Forward { name, refusal } => {
                if !shared.forwarder.knows_whom_to_ask(&name) {
                    send(&socket, &failure(*refusal, ResponseCode::Refused), client).await;
                    continue;
                }
                let Ok(slot) = Arc::clone(&shared.forwards).try_acquire_owned() else {
                    tracing::warn!("too many forwarded queries in flight");
                    send(&socket, &failure(*refusal, ResponseCode::ServFail), client).await;
                    continue;
                };
                let (socket, query) = (Arc::clone(&socket), packet.to_vec());
                let forwarding = Arc::clone(&shared);
                let forwarded = async move {
                    let answer = forwarding.forwarder.ask(&query, &name, false).await;
                    let answer =
                        answer.unwrap_or_else(|| failure(*refusal, ResponseCode::ServFail));
                    send(&socket, &answer, client).await;
                    drop(slot);
                };
                shared
                    .tasks
                    .spawn(shared.stop.clone().run_until_cancelled_owned(forwarded));
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client).await {
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

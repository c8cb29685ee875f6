//! The loops on UDP and TCP sockets: packets in, packets out.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dcos_net::Subnet;
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
use crate::batch::{Inbox, Outbox};
use crate::clients::Clients;
use crate::forward::Forwarder;
use crate::metrics::Answers;
use crate::question::Question;
use crate::served::Served;

/// How long a TCP client may take for its next query, or to take its answer (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// Between two tries at what the kernel refuses.
const PAUSE: Duration = Duration::from_millis(50);

/// What all loops share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) served: watch::Receiver<Arc<Served>>,
    pub(crate) rules: Rules,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) answers: Arc<Answers>,
    /// Whose questions about other names are taken, unless it is everybody's.
    pub(crate) allow: Option<Vec<Subnet>>,
    /// Where this listens.
    pub(crate) own: Vec<IpAddr>,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) clients: Clients,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    fn judge(&self, packet: &[u8], tcp: bool) -> Verdict {
        let served = Arc::clone(&self.served.borrow());
        judge(packet, &served, self.rules, tcp)
    }

    /// Whether this client may have others asked about a name, and there are such.
    fn may_ask(&self, client: SocketAddr, name: &str) -> bool {
        let ip = client.ip().to_canonical();
        let networks = self.allow.as_ref();
        networks.is_none_or(|all| {
            all.iter().any(|network| network.contains(ip)) || self.is_of_this_host(ip)
        }) && self.forwarder.knows_whom_to_ask(name)
    }

    /// Whether a client has an address that this listens at, as the host's own programs do that ask there: the kernel takes
    /// a local target for the source. What comes from elsewhere with such a one it drops, or answers to itself (IPv6). Of all
    /// addresses (0.0.0.0) those of loopback are known.
    fn is_of_this_host(&self, client: IpAddr) -> bool {
        self.own.iter().any(|own| {
            *own == client
                || own.is_unspecified()
                    && client.is_loopback()
                    && (own.is_ipv6() || client.is_ipv4())
        })
    }

    /// Sends an answer, or, where packets leave more slowly than they are answered, does not: its client asks again.
    fn send(&self, socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
        if let Err(error) = rustix::net::sendto(socket, answer, SendFlags::DONTWAIT, &client) {
            self.not_sent(client, &error.into());
        }
    }

    /// Says so, and counts it.
    fn not_sent(&self, client: SocketAddr, error: &io::Error) {
        self.answers.dropped.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%client, %error, "sending an answer");
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
    let answer = |packet: &[u8], client, outbox: &mut Outbox| {
        if latest.has_changed().unwrap_or_default() {
            served = Arc::clone(&latest.borrow_and_update());
        }
        if plain::answer(packet, &served, shared.rules, outbox.room()) {
            return outbox.keep(client);
        }
        match judge(packet, &served, shared.rules, false) {
            Verdict::Ignore => {}
            Verdict::Answer(answer) => {
                *outbox.room() = answer;
                outbox.keep(client);
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
    };
    let send = |outbox: &mut Outbox| {
        let answers = outbox.len().try_into().unwrap_or(u64::MAX);
        shared.answers.udp.fetch_add(answers, Ordering::Relaxed);
        outbox.send(socket, |client, error| shared.not_sent(client, &error));
    };
    let has_stopped = || stopped.load(Ordering::Acquire);
    let pause = || std::thread::sleep(PAUSE);
    each_packet(
        |inbox| inbox.receive(socket),
        has_stopped,
        pause,
        answer,
        send,
    );
}

/// Has each packet answered that is received, until somebody stopped it; what waits is received at once, and the answers
/// are sent at once. A panic costs a packet its answer, no more.
fn each_packet(
    mut receive: impl FnMut(&mut Inbox) -> io::Result<()>,
    has_stopped: impl Fn() -> bool,
    pause: impl Fn(),
    mut answer: impl FnMut(&[u8], SocketAddr, &mut Outbox),
    mut send: impl FnMut(&mut Outbox),
) {
    let (mut inbox, mut outbox, mut fails) = (Inbox::new(), Outbox::default(), false);
    loop {
        let received = receive(&mut inbox);
        if has_stopped() {
            return;
        }
        match received {
            Ok(()) => fails = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // Such as a want of memory: a pause keeps the loop from spinning.
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(%error, "queries over UDP cannot be received");
                }
                pause();
                continue;
            }
        }
        for (packet, client) in inbox.packets() {
            let answering = AssertUnwindSafe(|| answer(packet, client, &mut outbox));
            if catch_unwind(answering).is_err() {
                let begin = &packet[..packet.len().min(512)];
                tracing::error!(%client, query = ?begin, "answering a query panicked: it gets no answer");
            }
        }
        send(&mut outbox);
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
    if !shared.may_ask(client, &name) {
        return shared.send(socket, &failure(*refusal, ResponseCode::Refused), client);
    }
    let Some(question) = Question::new(packet, name, false) else {
        return;
    };
    // What is known takes no room from what has to be asked.
    if let Some(answer) = shared.forwarder.recall(&question) {
        return shared.send(socket, &answer, client);
    }
    let (socket, sending) = (Arc::clone(socket), Arc::clone(shared));
    let answer = shared.forwarder.ask(question);
    let forwarded = async move {
        let answer = answer
            .await
            .unwrap_or_else(|| failure(*refusal, ResponseCode::ServFail));
        sending.send(&socket, &answer, client);
    };
    let stop = shared.stop.clone();
    shared
        .tasks
        .spawn_on(stop.run_until_cancelled_owned(forwarded), runtime);
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
                let Some(admitted) = shared.clients.admit(client.ip()) else {
                    tracing::debug!(%client, "it has as many connections as one may have");
                    continue;
                };
                let serving = Arc::clone(&shared);
                let connection = async move {
                    if let Err(error) = converse(&serving, stream, client).await {
                        tracing::debug!(%client, %error, "a TCP client went away");
                    }
                    drop((slot, admitted));
                };
                shared
                    .tasks
                    .spawn(shared.stop.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => {
                // Out of file descriptors, most likely: a pause keeps the loop from spinning.
                tracing::warn!(%error, "a TCP client could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// One query after the other, until the client closes, is silent, or sends what is no query.
async fn converse(shared: &Shared, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
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
                let may_ask = shared.may_ask(client, &name);
                let code = if may_ask {
                    ResponseCode::ServFail
                } else {
                    ResponseCode::Refused
                };
                let Some(question) = Question::new(&query, name, true) else {
                    return Ok(());
                };
                let answer = if !may_ask {
                    None
                } else if let Some(recalled) = shared.forwarder.recall(&question) {
                    Some(recalled)
                } else {
                    shared.forwarder.ask(question).await
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn neither_a_panic_nor_an_error_ends_it() {
        let script = [vec!["a panic", "good"], vec![], vec![], vec!["better"]];
        let script = RefCell::new(VecDeque::from(script));
        let (pauses, sent) = (Cell::new(0), RefCell::new(Vec::new()));
        let receive = |inbox: &mut Inbox| {
            let packets = script.borrow_mut().pop_front().unwrap_or_default();
            if packets.is_empty() {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            let client = SocketAddr::from(([127, 0, 0, 1], 1));
            inbox.fill(packets.iter().map(|packet| (packet.as_bytes(), client)));
            Ok(())
        };
        let answer = |packet: &[u8], client, outbox: &mut Outbox| {
            outbox.room().extend_from_slice(packet);
            assert_ne!(packet, b"a panic", "which is meant");
            outbox.keep(client);
        };
        let send = |outbox: &mut Outbox| {
            sent.borrow_mut().push(outbox.take());
        };
        let has_stopped = || sent.borrow().len() == 2;
        let pause = || pauses.set(pauses.get() + 1);
        each_packet(receive, has_stopped, pause, answer, send);
        assert_eq!(*sent.borrow(), [[b"good".to_vec()], [b"better".to_vec()]]);
        assert_eq!(pauses.get(), 2);
    }
}

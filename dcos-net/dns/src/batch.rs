//! [`Inbox`], [`Outbox`]: many packets with one call of the kernel, which costs more than most answers do.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

/// How many packets are taken at once. The first waits for the answer to the last: some 30 us.
const PACKETS: usize = 32;
/// How packets are sent.
const DONT_WAIT: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
/// The longest packet there is.
const LONGEST: usize = 65_535;

/// Packets that came.
pub(crate) struct Inbox {
    room: Vec<u8>,
    headers: MultiHeaders<SockaddrStorage>,
    came: Vec<(usize, Option<SocketAddr>)>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            room: vec![0; PACKETS * LONGEST],
            headers: MultiHeaders::preallocate(PACKETS, None),
            came: Vec::with_capacity(PACKETS),
        }
    }

    /// Waits for a packet, and takes those that wait behind it, too.
    ///
    /// # Errors
    /// What the kernel says; a socket that is shut down is not connected.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.came.clear();
        let mut rooms = self.room.chunks_exact_mut(LONGEST);
        let mut rooms: [[IoSliceMut<'_>; 1]; PACKETS] =
            std::array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())]);
        let came = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            rooms.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        )?;
        self.came
            .extend(came.map(|packet| (packet.bytes, packet.address.as_ref().and_then(sender))));
        Ok(())
    }

    /// The packets in the order they came, with who sent them.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let rooms = self.room.chunks_exact(LONGEST).zip(&self.came);
        rooms.filter_map(|(room, (length, sender))| Some((room.get(..*length)?, (*sender)?)))
    }
}

/// Without one: what wakes a socket that is shut down.
fn sender(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    })
}

/// Answers on their way out.
#[derive(Default)]
pub(crate) struct Outbox {
    /// Those behind the first `kept` are room for more.
    answers: Vec<Vec<u8>>,
    clients: Vec<SocketAddr>,
}

impl Outbox {
    /// Empty room for the next answer.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        let next = self.clients.len();
        if self.answers.len() == next {
            self.answers.push(Vec::new());
        }
        let room = &mut self.answers[next];
        room.clear();
        room
    }

    /// What is in the [room](Self::room) is for this client.
    pub(crate) fn keep(&mut self, client: SocketAddr) {
        self.clients.push(client);
    }

    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Sends all of them that the kernel has room for, and waits for none: it may hold packets for seconds while it looks
    /// for hosts that are not there. One that cannot be sent costs its client an answer, and is told of.
    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        mut refused: impl FnMut(SocketAddr, io::Error),
    ) {
        let addresses: Vec<SocketAddrAny> =
            self.clients.iter().map(SocketAddrArg::as_any).collect();
        let bytes: Vec<[IoSlice<'_>; 1]> = self
            .answers()
            .map(|answer| [IoSlice::new(answer)])
            .collect();
        let mut nothing: Vec<SendAncillaryBuffer<'_, '_, '_>> = Vec::new();
        nothing.resize_with(bytes.len(), SendAncillaryBuffer::default);
        let parts = addresses.iter().zip(&bytes).zip(&mut nothing);
        let mut headers: Vec<MMsgHdr<'_>> = parts
            .map(|((address, bytes), nothing)| MMsgHdr::new_with_addr(address, bytes, nothing))
            .collect();
        let mut at = 0;
        while at < headers.len() {
            match sendmmsg(socket, &mut headers[at..], DONT_WAIT) {
                Ok(sent) => at += sent.max(1),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    refused(self.clients[at], error.into());
                    at += 1;
                }
            }
        }
        self.clients.clear();
    }

    fn answers(&self) -> impl Iterator<Item = &[u8]> {
        let kept = self.answers.iter().take(self.clients.len());
        kept.map(Vec::as_slice)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Inbox {
        /// As if these had come.
        pub(crate) fn fill<'a>(
            &mut self,
            packets: impl IntoIterator<Item = (&'a [u8], SocketAddr)>,
        ) {
            self.came.clear();
            for (room, (packet, sender)) in self.room.chunks_exact_mut(LONGEST).zip(packets) {
                room[..packet.len()].copy_from_slice(packet);
                self.came.push((packet.len(), Some(sender)));
            }
        }
    }

    impl Outbox {
        /// Takes them out, as if they were sent.
        pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
            let answers = self.answers().map(<[u8]>::to_vec).collect();
            self.clients.clear();
            answers
        }
    }

    #[test]
    fn what_waits_comes_at_once_and_goes_at_once() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let (server, clients) = (UdpSocket::bind(loopback).unwrap(), [(); 3]);
            let clients = clients.map(|()| UdpSocket::bind(loopback).unwrap());
            let at = server.local_addr().unwrap();
            let (mut inbox, mut outbox) = (Inbox::new(), Outbox::default());
            for round in 0_u8..3 {
                for (number, client) in (0_u8..).zip(&clients) {
                    client
                        .send_to(&vec![number; 1 + usize::from(round) * 30_000], at)
                        .unwrap();
                }
                inbox.receive(&server).unwrap();
                let mut senders = Vec::new();
                for (packet, client) in inbox.packets() {
                    outbox.room().extend([packet[0], round]);
                    outbox.keep(client);
                    assert_eq!(packet.len(), 1 + usize::from(round) * 30_000);
                    senders.push(client);
                }
                let expected = clients
                    .each_ref()
                    .map(|client| client.local_addr().unwrap());
                assert_eq!(senders, expected);
                outbox.send(&server, |client, error| panic!("{client}: {error}"));
                assert_eq!(outbox.len(), 0);
                for (number, client) in (0_u8..).zip(&clients) {
                    let mut answer = [0; 16];
                    assert_eq!(client.recv_from(&mut answer).unwrap(), (2, at));
                    assert_eq!(answer[..2], [number, round]);
                }
            }
        }
    }

    /// Has this thread be in a network where nobody else is; false without the right to make one.
    fn alone() -> bool {
        let ip = |words: &str| {
            let mut ip = std::process::Command::new("ip");
            ip.args(words.split(' ')).output()
        };
        let name = format!("dcos-dns-{}", std::process::id());
        let made = ip(&format!("netns add {name}"));
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("skipped: a network of one's own takes root and `ip`");
            return false;
        }
        let network = std::fs::File::open(format!("/var/run/netns/{name}")).unwrap();
        // It lives as long as the thread.
        ip(&format!("netns del {name}")).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), kind)
            .unwrap();
        for words in [
            "link add here type veth peer name there",
            "address add 10.9.0.1/16 dev here",
            "link set here up",
            "link set there up",
        ] {
            assert!(ip(words).unwrap().status.success(), "{words}");
        }
        true
    }

    #[test]
    fn answers_to_hosts_that_are_not_there_hold_up_nobody() {
        if !alone() {
            return;
        }
        let absent = (1..9_u8).flat_map(|high| (1..251).map(move |low| [10, 9, high, low]));
        let absent: Vec<SocketAddr> = absent.map(|ip| (ip, 9).into()).collect();
        let refused = |socket: &UdpSocket| {
            let (mut outbox, mut refused) = (Outbox::default(), Vec::new());
            for clients in absent.chunks(PACKETS) {
                for client in clients {
                    outbox.room().extend([1; 100]);
                    outbox.keep(*client);
                }
                outbox.send(socket, |_, error| refused.push(error.kind()));
            }
            refused
        };
        let narrow = UdpSocket::bind("10.9.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&narrow, 1).unwrap();
        let without_room = refused(&narrow);
        let full = |kind: &io::ErrorKind| *kind == io::ErrorKind::WouldBlock;
        assert!(without_room.len() > absent.len() / 2 && without_room.iter().all(full));
        let wide = UdpSocket::bind("10.9.0.1:0").unwrap();
        crate::server::widen(&wide);
        assert_eq!(refused(&wide), []);
    }

    #[test]
    fn an_answer_that_cannot_be_sent_costs_the_others_nothing() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut outbox = Outbox::default();
        for to in [nobody, client.local_addr().unwrap(), nobody] {
            outbox.room().push(1);
            outbox.keep(to);
        }
        let mut refused = Vec::new();
        outbox.send(&server, |client, _| refused.push(client));
        assert_eq!(refused, [nobody, nobody]);
        assert_eq!(client.recv(&mut [0; 2]).unwrap(), 1);
    }

    #[test]
    fn what_wakes_a_socket_that_is_shut_down_is_no_packet() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).is_err());
        let mut inbox = Inbox::new();
        inbox.receive(&socket).ok();
        assert_eq!(inbox.packets().count(), 0);
    }
}

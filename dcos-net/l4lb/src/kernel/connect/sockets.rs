//! Sockets that wait for an answer of a backend that is none any more. The layouts are those of `linux/inet_diag.h`.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dcos_net::vip::{Protocol, Service};
use dcos_netlink::{ACK, DUMP, Messages, Socket, attribute};

use super::super::conntrack::Losers;
use super::program::{PEER, PLACE};
use super::sys::Map;

/// `SOCK_DIAG_BY_FAMILY`, `SOCK_DESTROY`
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// `AF_INET`, `AF_INET6`
const FAMILIES: [u8; 2] = [2, 10];
const TCP: u8 = 6;
/// `TCP_SYN_SENT`
const WAITING: u8 = 2;
/// Who has asked again so often without an answer is waiting in vain: each of two packets had a second at least, so that
/// neither a backend that is slow nor one lost packet looks like it.
const IN_VAIN: u8 = 2;
/// A socket's ports, addresses, interface and cookie.
const ID: usize = 48;
/// `struct inet_diag_msg`, with the socket behind the first word.
const MESSAGE: usize = 72;
/// `INET_DIAG_REQ_SK_BPF_STORAGES`, and `INET_DIAG_SK_BPF_STORAGES` in answers.
const WITH_STORAGES: u16 = 2;
const STORAGES: u16 = 20;
/// `ENOENT`: it went by itself.
const GONE: i32 = 2;

/// What sockets carry, read from outside.
#[derive(Debug)]
pub(in super::super) struct Peers(Map<4, PEER>);

impl Peers {
    pub(super) fn new(map: Map<4, PEER>) -> Self {
        Self(map)
    }

    /// Those that nobody has answered yet at a backend their service has lost, in the network namespace of this thread.
    pub(in super::super) fn stuck(
        &self,
        socket: &mut Socket,
        losers: &Losers,
    ) -> io::Result<Vec<Stuck>> {
        let mut stuck = Vec::new();
        if losers
            .keys()
            .all(|service| service.protocol != Protocol::Tcp)
        {
            return Ok(stuck);
        }
        for family in FAMILIES {
            let mut request = Messages::new();
            let message = request.begin(BY_FAMILY, DUMP, &header(family, &[0; ID]));
            message.open(WITH_STORAGES);
            message.put(1, &self.0.number().to_ne_bytes());
            message.close().end();
            // Only those that wait are listed.
            stuck.extend(socket.list(&request, |told| {
                let (service, backend) = carried(told.get(MESSAGE..)?)?;
                let id = told.get(4..4 + ID)?.to_vec();
                let is_lost = !losers.get(&service)?.contains(&backend);
                is_lost.then_some(Stuck {
                    service,
                    backend,
                    is_in_vain: is_in_vain(told),
                    family,
                    id,
                })
            })?);
        }
        Ok(stuck)
    }
}

/// A socket that waits for the answer of a backend that is none any more.
#[derive(Debug)]
pub(in super::super) struct Stuck {
    pub(in super::super) service: Service,
    pub(in super::super) backend: SocketAddr,
    /// Whether nobody will give it. A backend that closes goes on answering whom it has been given, most often.
    pub(in super::super) is_in_vain: bool,
    family: u8,
    id: Vec<u8>,
}

impl Stuck {
    /// Ends the waiting: `ECONNABORTED`. Packets cannot be led elsewhere here, for the socket has chosen.
    pub(in super::super) fn abort(&self, socket: &mut Socket) -> io::Result<()> {
        // The kernel ends a socket whatever its state is: so it is asked once more, right before.
        let mut still = false;
        self.ask(socket, BY_FAMILY, |told| still = is_in_vain(told))?;
        if still {
            self.ask(socket, DESTROY, |_| {})?;
        }
        Ok(())
    }

    fn ask(&self, socket: &mut Socket, kind: u16, take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut request = Messages::new();
        request
            .begin(kind, ACK, &header(self.family, &self.id))
            .end();
        match socket.ask(&request, take) {
            Err(error) if error.raw_os_error() != Some(GONE) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a socket that was told of waits in vain.
fn is_in_vain(told: &[u8]) -> bool {
    matches!(told, [_, WAITING, _, again, ..] if *again >= IN_VAIN)
}

/// `struct inet_diag_req_v2`
fn header(family: u8, id: &[u8]) -> Vec<u8> {
    let mut header = vec![family, TCP, 0, 0];
    header.extend((1_u32 << WAITING).to_ne_bytes());
    header.extend(id);
    header
}

/// What a socket asked for, and what it was given.
fn carried(attributes: &[u8]) -> Option<(Service, SocketAddr)> {
    let storage = attribute(attribute(attributes, STORAGES)?, 1)?;
    let peer: &[u8; PEER] = attribute(storage, 3)?.try_into().ok()?;
    let (service, backend) = peer.split_at(PLACE);
    Some((service_of(service)?, place_of(backend)?))
}

/// A service out of the first bytes of its key.
pub(super) fn service_of(key: &[u8]) -> Option<Service> {
    Some(Service {
        protocol: Protocol::from_number(*key.get(18)?)?,
        address: place_of(key)?,
    })
}

/// The address and port that bytes begin with.
pub(super) fn place_of(bytes: &[u8]) -> Option<SocketAddr> {
    let ip: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
    let port: [u8; 2] = bytes.get(16..18)?.try_into().ok()?;
    let ip = IpAddr::from(Ipv6Addr::from(ip)).to_canonical();
    Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
}

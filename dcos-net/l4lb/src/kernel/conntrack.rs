//! The kernel's connection tracking, as far as flows need to be told that a backend is gone.
//! The layouts are those of `linux/netfilter/nfnetlink_conntrack.h`.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dcos_net::vip::{Protocol, Service};
use dcos_netlink::{DUMP, Events, Messages, Protocol as Family, SockFilter, Socket, attribute};
use rustix::net::AddressFamily;

use super::{UNSPEC, behind_header, header};
use crate::watcher::Begun;

/// `NFNL_SUBSYS_CTNETLINK`, in the upper half of a message's kind.
const CONNTRACK: u16 = 1;
const GET: u16 = CONNTRACK << 8 | 1;
const DELETE: u16 = CONNTRACK << 8 | 2;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const STATE: u16 = 4;
const ID: u16 = 12;
const FILTER: u16 = 25;
const STATUS_MASK: u16 = 26;
/// `IPS_SEEN_REPLY`: somebody has answered.
const ANSWERED: u32 = 2;
/// `TCP_CONNTRACK_SYN_SENT`, and `TCP_CONNTRACK_CLOSE`, which is what it ends with that is refused.
const BEGUN: [u8; 2] = [1, 8];
/// `NFNLGRP_CONNTRACK_DESTROY`
const DESTROYED: u32 = 3;
/// `CTA_FILTER_FLAG`: the original destination.
const TO_ADDRESS: u32 = 1 << 1;
/// The protocol, and the port it goes to.
const TO_PORT: u32 = 1 << 3 | 1 << 5;
/// `ENOENT`: it went by itself.
const GONE: i32 = 2;

/// What a filter of a socket reads for an attribute, and for one in another: `SKF_AD_NLATTR` and `SKF_AD_NLATTR_NEST`.
const ATTRIBUTE: u32 = 0xffff_f00c;
const NESTED: u32 = 0xffff_f010;

/// Services that lost backends, and those they have.
pub(super) type Losers = HashMap<Service, Vec<SocketAddr>>;

/// A flow to a backend that is none any more.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) service: Service,
    pub(super) backend: SocketAddr,
    family: u8,
    original: Vec<u8>,
    id: Vec<u8>,
}

/// One direction of what is tracked.
struct Tuple {
    protocol: Protocol,
    source: SocketAddr,
    destination: SocketAddr,
}

/// The flows that go to none of the backends that services have. Of connections it is those that nobody has answered:
/// who waits for a dead backend begins again at another, and so does the next one with the same port, which the kernel
/// would take for the same. Those that stand are their backend's.
pub(super) fn stale(socket: &mut Socket, losers: &Losers) -> io::Result<Vec<Flow>> {
    let mut stale = Vec::new();
    socket.ask(&question(losers), |entry| {
        stale.extend(read_stale(entry, losers));
    })?;
    Ok(stale)
}

/// Asks for no more than concerns the services. Kernels before 5.8 tell of other services, too, and before 5.13 of
/// connections that stand.
fn question(losers: &Losers) -> Messages {
    let all = |test: fn(&Service) -> bool| losers.keys().all(test);
    let family = match losers.keys().next() {
        Some(first) if all(|service| service.address.is_ipv4()) => family(first),
        Some(first) if all(|service| service.address.is_ipv6()) => family(first),
        // One way through the table for both.
        _ => UNSPEC,
    };
    let mut request = Messages::new();
    let message = request.begin(GET, DUMP, &header(family, 0));
    if all(|service| service.protocol == Protocol::Tcp) {
        message
            .put(STATUS, &0_u32.to_be_bytes())
            .put(STATUS_MASK, &ANSWERED.to_be_bytes());
    }
    if losers.len() == 1
        && let Some(service) = losers.keys().next()
    {
        message.open(ORIGINAL);
        let filter = match service.address.ip() {
            IpAddr::V4(ip) => {
                message.open(1).put(2, &ip.octets()).close();
                TO_ADDRESS | TO_PORT
            }
            // The kernel (seen with 6.18) then tells of all flows but those to the address.
            IpAddr::V6(_) => TO_PORT,
        };
        message
            .open(2)
            .put(1, &[service.protocol.number()])
            .put(3, &service.address.port().to_be_bytes())
            .close()
            .close()
            .open(FILTER)
            .put(1, &filter.to_ne_bytes())
            .close();
    }
    message.end();
    request
}

fn family(service: &Service) -> u8 {
    let family = match service.address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    u8::try_from(family.as_raw()).expect("families have small numbers")
}

/// What has the kernel forget flows; nothing if there are none.
pub(super) fn deletion<'a>(flows: impl Iterator<Item = &'a Flow>) -> Messages {
    let mut request = Messages::new();
    for flow in flows {
        let message = request.begin(DELETE, 0, &header(flow.family, 0));
        // A later one between the same ports is another.
        message
            .put(ORIGINAL | 0x8000, &flow.original)
            .put(ID, &flow.id)
            .end();
    }
    if !request.is_empty() {
        request.acknowledge_last();
    }
    request
}

/// Sends it; says how many flows were there.
pub(super) fn delete(socket: &mut Socket, deletion: &Messages) -> io::Result<usize> {
    if deletion.is_empty() {
        return Ok(0);
    }
    let asked = deletion.last();
    let failures = socket.transact(deletion, asked)?;
    if let Some(failure) = failures.iter().find(|failure| failure.code != GONE) {
        return Err((*failure).into());
    }
    Ok(usize::try_from(asked).unwrap_or(usize::MAX) - failures.len())
}

/// A flow of theirs that has to go elsewhere.
fn read_stale(entry: &[u8], losers: &Losers) -> Option<Flow> {
    let family = *entry.first()?;
    let entry = behind_header(entry);
    let original = attribute(entry, ORIGINAL)?;
    let to = read(original)?;
    let service = Service {
        protocol: to.protocol,
        address: to.destination,
    };
    let left = losers.get(&service)?;
    if to.protocol != Protocol::Udp && is_answered(entry) {
        return None;
    }
    let backend = read(attribute(entry, REPLY)?)?.source;
    if left.contains(&backend) {
        return None;
    }
    Some(Flow {
        service,
        backend,
        family,
        original: original.to_vec(),
        id: attribute(entry, ID)?.to_vec(),
    })
}

/// The connections that nobody has answered yet, whomever they are for. Kernels before 5.13 are asked for all.
pub(super) fn waiting(socket: &mut Socket) -> io::Result<Vec<Begun>> {
    let mut request = Messages::new();
    let message = request.begin(GET, DUMP, &header(UNSPEC, 0));
    message
        .put(STATUS, &0_u32.to_be_bytes())
        .put(STATUS_MASK, &ANSWERED.to_be_bytes())
        .end();
    let mut waiting = Vec::new();
    socket.ask(&request, |entry| waiting.extend(read_begun(entry)))?;
    Ok(waiting)
}

/// Hears of connections that end and were never answered; [`read_begun`] reads what it tells.
pub(super) fn unanswered() -> io::Result<Events> {
    // What is answered is not even given to us: the status, its third attribute, says so. Nor is what is no connection: of the packets
    // of a tunnel none is ever answered, and there may be thousands a second.
    let filter = [
        // A: where attributes begin; X: which one; then where that is, or none.
        SockFilter::new(0x00, 0, 0, 20),
        SockFilter::new(0x01, 0, 0, STATUS.into()),
        SockFilter::new(0x20, 0, 0, ATTRIBUTE),
        SockFilter::new(0x15, 4, 0, 0),
        // Its value, and the bit in it.
        SockFilter::new(0x07, 0, 0, 0),
        SockFilter::new(0x40, 0, 0, 4),
        SockFilter::new(0x54, 0, 0, ANSWERED),
        SockFilter::new(0x15, 0, 10, 0),
        // The same of the protocol: in the original direction, the second one in there, the first one in that.
        SockFilter::new(0x00, 0, 0, 20),
        SockFilter::new(0x01, 0, 0, ORIGINAL.into()),
        SockFilter::new(0x20, 0, 0, ATTRIBUTE),
        SockFilter::new(0x01, 0, 0, 2),
        SockFilter::new(0x20, 0, 0, NESTED),
        SockFilter::new(0x01, 0, 0, 1),
        SockFilter::new(0x20, 0, 0, NESTED),
        SockFilter::new(0x07, 0, 0, 0),
        SockFilter::new(0x50, 0, 0, 4),
        SockFilter::new(0x15, 1, 0, Protocol::Tcp.number().into()),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    Events::open(Family::Netfilter, DESTROYED, &filter)
}

pub(super) fn read_begun(entry: &[u8]) -> Option<Begun> {
    let entry = behind_header(entry);
    if is_answered(entry) {
        return None;
    }
    let original = attribute(entry, ORIGINAL)?;
    let tuple = read(original)?;
    // One that is taken up in its midst is not begun. Older kernels do not tell of the state at the end.
    let state = attribute(entry, STATE).and_then(|state| attribute(attribute(state, 1)?, 1));
    if tuple.protocol != Protocol::Tcp
        || state.is_some_and(|state| !state.iter().all(|state| BEGUN.contains(state)))
    {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (original, attribute(entry, ID)).hash(&mut hasher);
    Some(Begun {
        flow: hasher.finish(),
        client: tuple.source,
        to: tuple.destination,
        backend: read(attribute(entry, REPLY)?)?.source,
    })
}

fn is_answered(entry: &[u8]) -> bool {
    let status = attribute(entry, STATUS).and_then(|status| status.try_into().ok());
    status.is_some_and(|status| u32::from_be_bytes(status) & ANSWERED != 0)
}

fn read(tuple: &[u8]) -> Option<Tuple> {
    let (ip, proto) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    let v4 = |kind| {
        Some(IpAddr::from(Ipv4Addr::from(
            <[u8; 4]>::try_from(attribute(ip, kind)?).ok()?,
        )))
    };
    let v6 = |kind| {
        Some(IpAddr::from(Ipv6Addr::from(
            <[u8; 16]>::try_from(attribute(ip, kind)?).ok()?,
        )))
    };
    let port = |kind| Some(u16::from_be_bytes(attribute(proto, kind)?.try_into().ok()?));
    Some(Tuple {
        protocol: Protocol::from_number(*attribute(proto, 1)?.first()?)?,
        source: SocketAddr::new(v4(1).or_else(|| v6(3))?, port(2)?),
        destination: SocketAddr::new(v4(2).or_else(|| v6(4))?, port(3)?),
    })
}

//! The kernel's connection tracking, as far as flows need to be told that a backend is gone.
//! The layouts are those of `linux/netfilter/nfnetlink_conntrack.h`.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dcos_net::vip::Protocol;
use dcos_netlink::{ACK, DUMP, Messages, Socket, attribute};

use super::{behind_header, header};

/// `NFNL_SUBSYS_CTNETLINK`, in the upper half of a message's kind.
const CONNTRACK: u16 = 1;
const GET: u16 = CONNTRACK << 8 | 1;
const DELETE: u16 = CONNTRACK << 8 | 2;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const STATUS_MASK: u16 = 26;
/// `IPS_SEEN_REPLY`: somebody has answered.
const ANSWERED: u32 = 2;
/// `ENOENT`: it went by itself.
const GONE: i32 = 2;

/// A virtual address and the backends it has now.
pub(super) type Left<'a> = HashMap<(u8, SocketAddr), &'a [SocketAddr]>;

/// One direction of what is tracked.
struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

/// Forgets what goes to none of the backends that services have `left`; says how many flows that were. Of connections
/// it is those that nobody has answered: who waits for a dead backend begins again at another, and so does the next one
/// with the same port, which the kernel would take for the same. Those that stand are their backend's.
pub(super) fn forget(socket: &mut Socket, left: &Left<'_>) -> io::Result<usize> {
    let datagrams = left
        .keys()
        .any(|(protocol, _)| *protocol == Protocol::Udp.number());
    let mut stale: Vec<(u8, Vec<u8>)> = Vec::new();
    for family in [
        rustix::net::AddressFamily::INET,
        rustix::net::AddressFamily::INET6,
    ] {
        let family = u8::try_from(family.as_raw()).expect("families have small numbers");
        let mut request = Messages::new();
        let message = request.begin(GET, DUMP, &header(family, 0));
        if !datagrams {
            // Kernels before 5.13 tell of the others, too.
            message
                .put(STATUS, &0_u32.to_be_bytes())
                .put(STATUS_MASK, &ANSWERED.to_be_bytes());
        }
        message.end();
        let told = socket.ask(&request, |entry| {
            let entry = behind_header(entry);
            let Some(original) = attribute(entry, ORIGINAL) else {
                return;
            };
            let Some((to, from)) = read(original).zip(attribute(entry, REPLY).and_then(read))
            else {
                return;
            };
            let stands = to.protocol != Protocol::Udp.number() && is_answered(entry);
            let backends = left.get(&(to.protocol, to.destination));
            if !stands && backends.is_some_and(|backends| !backends.contains(&from.source)) {
                stale.push((family, original.to_vec()));
            }
        });
        match told {
            // Changed while it was told, which it always does: what was missed ends by itself.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            told => told?,
        }
    }
    let mut forgotten = 0;
    for (family, original) in &stale {
        let mut request = Messages::new();
        let message = request.begin(DELETE, ACK, &header(*family, 0));
        message.put(ORIGINAL | 0x8000, original).end();
        match socket.ask(&request, |_| {}) {
            Ok(()) => forgotten += 1,
            Err(error) if error.raw_os_error() == Some(GONE) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
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
        protocol: *attribute(proto, 1)?.first()?,
        source: SocketAddr::new(v4(1).or_else(|| v6(3))?, port(2)?),
        destination: SocketAddr::new(v4(2).or_else(|| v6(4))?, port(3)?),
    })
}

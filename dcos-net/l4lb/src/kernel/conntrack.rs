//! The kernel's connection tracking, as far as datagrams need to be told that a backend is gone.
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
/// `ENOENT`: it went by itself.
const GONE: i32 = 2;

/// One direction of what is tracked.
struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

/// Forgets the datagrams to any of `services` that go to none of its backends; says how many.
pub(super) fn forget_datagrams(
    socket: &mut Socket,
    services: &HashMap<SocketAddr, &[SocketAddr]>,
) -> io::Result<usize> {
    let mut stale: Vec<(u8, Vec<u8>)> = Vec::new();
    for family in [
        rustix::net::AddressFamily::INET,
        rustix::net::AddressFamily::INET6,
    ] {
        let family = u8::try_from(family.as_raw()).expect("families have small numbers");
        let mut request = Messages::new();
        request.begin(GET, DUMP, &header(family, 0)).end();
        let told = socket.ask(&request, |entry| {
            let entry = behind_header(entry);
            let Some(original) = attribute(entry, ORIGINAL) else {
                return;
            };
            let Some((to, from)) = read(original).zip(attribute(entry, REPLY).and_then(read))
            else {
                return;
            };
            let backends = services.get(&to.destination);
            let udp = to.protocol == Protocol::Udp.number();
            if udp && backends.is_some_and(|backends| !backends.contains(&from.source)) {
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

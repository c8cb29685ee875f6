//! The tunnel end itself: a link, and its addresses. Layouts: `linux/if_link.h`, `if_addr.h`.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use dcos_netlink::{ACK, CREATE, DUMP, EXCLUSIVE, Messages, Socket, attribute, made};

use super::{INET, INET6};
use crate::{DataplaneError, Mac, Own, PORT, Subnet, VNI, VTEP};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;

/// Lengths of the headers of messages about links and addresses.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// `IFF_UP`
const UP: u32 = 1;
/// `IFA_F_NODAD`: nobody else can have the address.
const NO_DETECTION: u8 = 2;
/// `RT_SCOPE_LINK`: addresses a link gives itself.
const SCOPE_LINK: u8 = 253;
/// `ENODEV`
const NO_DEVICE: i32 = 19;

/// Whether this host has IPv6 switched off.
const V6_OFF: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/// How strictly the way back of what comes through the tunnel end is checked, and through any link: the higher number counts.
const WAY_BACK: &str = "/proc/sys/net/ipv4/conf/vtep1024/rp_filter";
const WAY_BACK_OF_ALL: &str = "/proc/sys/net/ipv4/conf/all/rp_filter";
const STRICT: &str = "1";

/// A tunnel end that stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) index: u32,
    /// Whether the host has IPv6.
    pub(super) v6: bool,
}

/// A link, as far as it matters here.
#[derive(Debug, PartialEq)]
struct Link {
    index: u32,
    is_up: bool,
    mac: Option<Mac>,
    mtu: Option<u32>,
    /// Identifier and port, if it is a tunnel end.
    tunnel: Option<(u32, u16)>,
}

/// Makes the tunnel end as it should be; says whether it was not.
pub(super) fn establish(socket: &mut Socket, own: &Own) -> Result<(Place, bool), DataplaneError> {
    let read = |source| DataplaneError::Read {
        what: "links",
        source,
    };
    let write = |source| DataplaneError::Write {
        what: format!("link {VTEP}"),
        source,
    };
    let v6 = std::fs::read_to_string(V6_OFF).is_ok_and(|off| off.trim() == "0");
    let mut changed = false;
    let mut found = named(socket, VTEP).map_err(read)?;
    if let Some(link) = &found
        && link.tunnel != Some((VNI, PORT))
    {
        remove(socket)?;
        found = None;
    }
    let link = if let Some(link) = found {
        let (mac, mtu) = (Some(own.vtep.mac), Some(own.mtu));
        if (link.mac, link.mtu, link.is_up) != (mac, mtu, true) {
            changed = true;
            change(socket, link.index, own).map_err(write)?;
        }
        link
    } else {
        changed = true;
        create(socket, own).map_err(write)?;
        let made = named(socket, VTEP).map_err(read)?;
        made.ok_or_else(|| read(io::ErrorKind::NotFound.into()))?
    };
    let wanted = [Some(own.vtep.ip), own.vtep.ip6.filter(|_| v6)];
    let wanted: BTreeSet<Subnet> = wanted.into_iter().flatten().collect();
    let there = addresses(socket).map_err(read)?.into_iter();
    let there: BTreeSet<Subnet> = there
        .filter(|(index, _)| *index == link.index)
        .map(|(_, ip)| ip)
        .collect();
    // Of IPv6 a link has an address once, whichever network it is said to be of.
    let is_twin = |old: &&Subnet| !old.is_v4() && wanted.iter().any(|new| new.ip() == old.ip());
    let (twins, gone): (Vec<&Subnet>, Vec<&Subnet>) = there.difference(&wanted).partition(is_twin);
    let new = wanted.difference(&there).collect();
    // What is new is there before what else is old goes, or routes would go with it.
    for (kind, flags, subnets) in [
        (DELETE_ADDRESS, 0, twins),
        (NEW_ADDRESS, CREATE | EXCLUSIVE, new),
        (DELETE_ADDRESS, 0, gone),
    ] {
        for subnet in subnets {
            changed = true;
            let done = address(socket, kind, flags, link.index, subnet);
            done.map_err(|source| DataplaneError::Write {
                what: format!("address {subnet} of {VTEP}"),
                source,
            })?;
        }
    }
    // Answers of a node come through its tunnel end, where packets to it would not go: "loose" lets them in. A host that does
    // not look at all is left so: it costs a look-up for each packet. Where it is not allowed to be set, what others set counts.
    let set = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (own, all) = (set(WAY_BACK), set(WAY_BACK_OF_ALL));
    if own.trim() == STRICT || own.trim() == "0" && all.trim() == STRICT {
        match std::fs::write(WAY_BACK, "2") {
            Ok(()) => changed = true,
            Err(error) => tracing::debug!(%error, WAY_BACK),
        }
    }
    let place = Place {
        index: link.index,
        v6,
    };
    Ok((place, changed))
}

/// Takes the tunnel end away, if there is one.
pub(super) fn remove(socket: &mut Socket) -> Result<(), DataplaneError> {
    let mut request = Messages::new();
    request
        .begin(DELETE_LINK, ACK, &[0; LINK_HEADER])
        .text(3, VTEP)
        .end();
    match socket.ask(&request, |_| {}) {
        Err(error) if error.raw_os_error() != Some(NO_DEVICE) => Err(DataplaneError::Write {
            what: format!("link {VTEP}"),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// What fits into a packet on the link that has an address.
pub(super) fn mtu_below(socket: &mut Socket, node: IpAddr) -> io::Result<Option<u32>> {
    let addresses = addresses(socket)?;
    let Some((index, _)) = addresses.iter().find(|(_, subnet)| subnet.ip() == node) else {
        return Ok(None);
    };
    let mut request = Messages::new();
    request
        .begin(GET_LINK, ACK, &link_header(*index, 0, 0))
        .end();
    let link = one(socket, &request)?;
    Ok(link.and_then(|link| link.mtu))
}

fn named(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    let mut request = Messages::new();
    request
        .begin(GET_LINK, ACK, &[0; LINK_HEADER])
        .text(3, name)
        .end();
    one(socket, &request)
}

fn one(socket: &mut Socket, request: &Messages) -> io::Result<Option<Link>> {
    let mut found = None;
    match socket.ask(request, |body| found = read(body)) {
        Err(error) if error.raw_os_error() != Some(NO_DEVICE) => Err(error),
        _ => Ok(found),
    }
}

fn read(body: &[u8]) -> Option<Link> {
    let attributes = body.get(LINK_HEADER..)?;
    let info = attribute(attributes, 18);
    let tunnel = info.and_then(|info| {
        let data = attribute(info, 2).filter(|_| attribute(info, 1) == Some(b"vxlan\0"))?;
        let port = attribute(data, 15)?.try_into().ok()?;
        Some((native(attribute(data, 1)?)?, u16::from_be_bytes(port)))
    });
    let mac = attribute(attributes, 1).and_then(|mac| mac.try_into().ok());
    Some(Link {
        index: native(body.get(4..)?)?,
        is_up: native(body.get(8..)?)? & UP != 0,
        mac: mac.map(Mac),
        mtu: attribute(attributes, 4).and_then(native),
        tunnel,
    })
}

fn create(socket: &mut Socket, own: &Own) -> io::Result<()> {
    let mut request = Messages::new();
    let message = request.begin(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link_header(0, UP, UP));
    message
        .text(3, VTEP)
        .put(1, &own.vtep.mac.0)
        .put(4, &own.mtu.to_ne_bytes());
    message.open(18).text(1, "vxlan").open(2);
    message.put(1, &VNI.to_ne_bytes());
    // As the original: what is not known is learned.
    message.put(7, &[1]).put(15, &PORT.to_be_bytes());
    // Packets within have checksums of their own; those around them cost a tenth of the throughput.
    message.put(18, &[0]);
    message.close().close().end();
    made(socket, &request)
}

fn change(socket: &mut Socket, index: u32, own: &Own) -> io::Result<()> {
    let mut request = Messages::new();
    let message = request.begin(NEW_LINK, ACK, &link_header(index, UP, UP));
    message
        .put(1, &own.vtep.mac.0)
        .put(4, &own.mtu.to_ne_bytes())
        .end();
    socket.ask(&request, |_| {})
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

/// The addresses of all links but those they gave themselves, with the number of the link.
fn addresses(socket: &mut Socket) -> io::Result<Vec<(u32, Subnet)>> {
    let mut request = Messages::new();
    request.begin(GET_ADDRESS, DUMP, &[0; ADDRESS_HEADER]).end();
    socket.list(&request, |body| {
        let (header, attributes) = body.split_at_checked(ADDRESS_HEADER)?;
        // The own end of a link between two, where there are two.
        let ip = attribute(attributes, 2).or_else(|| attribute(attributes, 1))?;
        let subnet = Subnet::new(ip_of(ip)?, header[1])?;
        let is_own = header[3] == SCOPE_LINK;
        (!is_own).then_some((native(&header[4..])?, subnet))
    })
}

fn address(
    socket: &mut Socket,
    kind: u16,
    flags: u16,
    index: u32,
    subnet: &Subnet,
) -> io::Result<()> {
    let (family, about) = if subnet.is_v4() {
        (INET, 0)
    } else {
        (INET6, NO_DETECTION)
    };
    let [a, b, c, d] = index.to_ne_bytes();
    let header = [family, subnet.prefix(), about, 0, a, b, c, d];
    let ip = bytes_of(subnet.ip());
    let mut request = Messages::new();
    request
        .begin(kind, ACK | flags, &header)
        .put(2, &ip)
        .put(1, &ip)
        .end();
    // One that somebody else added since it was looked is there, too.
    made(socket, &request)
}

/// A number as the host has it in memory.
pub(super) fn native(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

pub(super) fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

pub(super) fn bytes_of(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

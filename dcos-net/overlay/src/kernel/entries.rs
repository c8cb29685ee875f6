//! What leads to other nodes: neighbours, forwarding entries, routes, rules; as messages, and as the
//! kernel tells them. Layouts: `linux/neighbour.h`, `rtnetlink.h`, `fib_rules.h`.

use std::io;
use std::net::IpAddr;

use dcos_netlink::{CREATE, DUMP, EXCLUSIVE, Messages, REPLACE, Socket, attribute};

use super::links::{Place, bytes_of, ip_of, native};
use super::{BRIDGE, INET, INET6};
use crate::{DataplaneError, Entry, Mac, Step, Subnet, TABLE, Tunnels};

const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
const NEW_RULE: u16 = 32;
const GET_RULE: u16 = 34;

/// All these headers have the same length.
const HEADER: usize = 12;
/// `NUD_PERMANENT`
const PERMANENT: u16 = 0x80;
/// `NTF_SELF`: the entry is the tunnel end's own, not that of a bridge it is part of.
const SELF: u8 = 2;
/// `RT_TABLE_MAIN`
const MAIN: u8 = 254;
/// `RTPROT_STATIC`
const STATIC: u8 = 4;
/// `RTN_UNICAST`
const UNICAST: u8 = 1;
/// `RT_SCOPE_NOWHERE`: of any scope, where something is deleted.
const ANY_SCOPE: u8 = 255;
/// `FR_ACT_TO_TBL`
const TO_TABLE: u8 = 1;

/// Adds the message for a step on the link `index`.
pub(super) fn write(messages: &mut Messages, index: u32, step: Step) {
    let put = matches!(step, Step::Put(_));
    // What takes away has the number after what puts.
    let kind = |new: u16| if put { new } else { new + 1 };
    let flags = if put { CREATE | REPLACE } else { 0 };
    match *step.entry() {
        Entry::Neighbour(ip, mac) => {
            let header = neighbour(family(ip), index, 0);
            let message = messages.begin(kind(NEW_NEIGHBOUR), flags, &header);
            message.put(1, &bytes_of(ip)).put(2, &mac.0).end();
        }
        Entry::Forward(mac, node) => {
            let header = neighbour(BRIDGE, index, SELF);
            let message = messages.begin(kind(NEW_NEIGHBOUR), flags, &header);
            message.put(2, &mac.0).put(1, &bytes_of(node)).end();
        }
        Entry::Route(subnet, via) => {
            let header = route(subnet, MAIN, put);
            let message = messages.begin(kind(NEW_ROUTE), flags, &header);
            way(message, subnet.ip(), via, index);
        }
        Entry::Agent(agent, via) => {
            let Some(subnet) = Subnet::new(agent, if agent.is_ipv4() { 32 } else { 128 }) else {
                return;
            };
            let message = messages.begin(kind(NEW_ROUTE), flags, &route(subnet, TABLE, put));
            way(message, agent, via, index);
        }
        Entry::Rule(overlay) => {
            let flags = if put { CREATE | EXCLUSIVE } else { 0 };
            let family = family(overlay.ip());
            let header = [
                family,
                0,
                overlay.prefix(),
                0,
                TABLE,
                0,
                0,
                TO_TABLE,
                0,
                0,
                0,
                0,
            ];
            let message = messages.begin(kind(NEW_RULE), flags, &header);
            message.put(2, &bytes_of(overlay.ip())).end();
        }
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { INET } else { INET6 }
}

fn neighbour(family: u8, index: u32, flags: u8) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
    header[10] = flags;
    header
}

fn route(subnet: Subnet, table: u8, put: bool) -> [u8; HEADER] {
    let (protocol, scope, kind) = if put {
        (STATIC, 0, UNICAST)
    } else {
        (0, ANY_SCOPE, 0)
    };
    let (family, length) = (family(subnet.ip()), subnet.prefix());
    [
        family, length, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0,
    ]
}

fn way(message: &mut Messages, to: IpAddr, via: IpAddr, index: u32) {
    message.put(1, &bytes_of(to)).put(5, &bytes_of(via));
    message.put(4, &index.to_ne_bytes()).end();
}

/// What the kernel has on a link, and rules.
pub(super) fn found(socket: &mut Socket, link: Place) -> Result<Tunnels, DataplaneError> {
    let mut entries = Vec::new();
    let dumps: [(&'static str, u16, &[u8], Read); 3] = [
        (
            "neighbours",
            GET_NEIGHBOUR,
            &[INET, INET6, BRIDGE],
            read_neighbour,
        ),
        ("routes", GET_ROUTE, &[INET, INET6], read_route),
        ("rules", GET_RULE, &[INET, INET6], read_rule),
    ];
    for (what, kind, families, read) in dumps {
        // A kernel without IPv6 has nothing to tell of it, and says so by an error.
        for family in families.iter().filter(|it| link.v6 || **it != INET6) {
            let dumped = dump(socket, kind, *family, |header, attributes| {
                read(header, attributes, link.index)
            });
            let dumped = dumped.map_err(|source| DataplaneError::Read { what, source })?;
            entries.extend(dumped);
        }
    }
    Ok(entries.into_iter().collect())
}

type Read = fn(&[u8], &[u8], u32) -> Option<Entry>;

/// What there is of a kind, in a family of addresses.
fn dump(
    socket: &mut Socket,
    kind: u16,
    family: u8,
    read: impl Fn(&[u8], &[u8]) -> Option<Entry>,
) -> io::Result<Vec<Entry>> {
    let mut header = [0; HEADER];
    header[0] = family;
    let mut request = Messages::new();
    request.begin(kind, DUMP, &header).end();
    socket.list(&request, |body| {
        let (header, attributes) = body.split_at_checked(HEADER)?;
        read(header, attributes)
    })
}

/// Only those that were put there: what the kernel learned is its own.
fn read_neighbour(header: &[u8], attributes: &[u8], index: u32) -> Option<Entry> {
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if native(&header[4..]) != Some(index) || state & PERMANENT == 0 {
        return None;
    }
    let mac = Mac(attribute(attributes, 2)?.try_into().ok()?);
    let ip = attribute(attributes, 1).and_then(ip_of)?;
    Some(if header[0] == BRIDGE {
        Entry::Forward(mac, ip)
    } else {
        Entry::Neighbour(ip, mac)
    })
}

/// Only those by way of another tunnel end.
fn read_route(header: &[u8], attributes: &[u8], index: u32) -> Option<Entry> {
    let through = attribute(attributes, 4).and_then(native);
    if through != Some(index) || header[7] != UNICAST {
        return None;
    }
    let via = attribute(attributes, 5).and_then(ip_of)?;
    let to = attribute(attributes, 1).and_then(ip_of)?;
    match header[4] {
        MAIN => Some(Entry::Route(Subnet::new(to, header[1])?, via)),
        TABLE => Some(Entry::Agent(to, via)),
        _ => None,
    }
}

fn read_rule(header: &[u8], attributes: &[u8], _: u32) -> Option<Entry> {
    // Ours look at where a packet is from, and at nothing else: not at its destination, its links or its mark.
    let others = [1, 3, 10, 17];
    if others
        .into_iter()
        .any(|kind| attribute(attributes, kind).is_some())
    {
        return None;
    }
    let overlay = Subnet::new(attribute(attributes, 2).and_then(ip_of)?, header[2])?;
    (header[4] == TABLE && header[7] == TO_TABLE).then_some(Entry::Rule(overlay))
}

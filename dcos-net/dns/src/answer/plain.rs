//! The questions that nearly all are: for the addresses or the services of one name, whether there is such a name or not,
//! with an answer that fits. They are answered without a message being made of them, and say what
//! [`judge`](super::judge) would, which has all others.

use std::net::{Ipv4Addr, Ipv6Addr};

use dcos_net::{Found, Service, Zone};

use super::{EDNS_PAYLOAD, MAX_UDP, Rules, SHORTEST};
use crate::served::Served;

const HEADER: usize = 12;
/// The longest name in a packet.
const LONGEST: usize = 255;
const A: [u8; 2] = [0, 1];
const SOA: [u8; 2] = [0, 6];
const AAAA: [u8; 2] = [0, 28];
const SRV: [u8; 2] = [0, 33];
const IN: [u8; 2] = [0, 1];
/// Where the name of the question is.
const THE_NAME: usize = HEADER;
/// The code that there is no such name.
const NO_NAME: u8 = 3;
/// Whoever says nothing takes so many bytes over UDP.
const LEAST: u16 = 512;

/// Writes the answer into `room`, in place of what is there, if this is such a question.
pub(crate) fn answer(packet: &[u8], served: &Served, rules: Rules, room: &mut Vec<u8>) -> bool {
    room.clear();
    write(packet, served, rules, room).is_some()
}

fn write(packet: &[u8], served: &Served, rules: Rules, room: &mut Vec<u8>) -> Option<()> {
    let (head, rest) = packet.split_first_chunk::<HEADER>()?;
    let [id_high, id_low, flags, more_flags, counts @ ..] = *head;
    // A query whose sender may want recursion, unchecked or authentic data, and nothing else.
    let is_plain = flags & !1 == 0 && more_flags & !0x30 == 0;
    let has_edns = match counts {
        [0, 1, 0, 0, 0, 0, 0, 0] => false,
        [0, 1, 0, 0, 0, 0, 0, 1] => true,
        _ => return None,
    };
    let mut text = [0; LONGEST];
    let (name, rest) = name(rest, &mut text)?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let (class, rest) = rest.split_first_chunk::<2>()?;
    let question = packet.get(HEADER..packet.len() - rest.len())?;
    let edns = if has_edns { Some(edns(rest)?) } else { None };
    if !is_plain || *class != IN || !has_edns && !rest.is_empty() {
        return None;
    }
    if !matches!(*kind, A | AAAA | SRV) {
        return None;
    }
    let found = served.names.find(name)?;
    if !found.exists() && found.zone.is_partial() {
        return None;
    }
    let limit = edns.map_or(LEAST, |edns| edns.payload.clamp(LEAST, MAX_UDP));
    let recursion = u8::from(rules.external) << 7;
    let code = if found.exists() { 0 } else { NO_NAME };
    let more_flags = recursion | more_flags & 0x10 | code;
    room.extend([id_high, id_low, 0x84 | flags, more_flags]);
    let turn = usize::from(u16::from_be_bytes([id_high, id_low]));
    room.extend([0; HEADER - 4]);
    room.extend(question);
    let (answers, more) = match found.records() {
        None => (0, 0),
        Some(records) => match *kind {
            A => {
                let all = fitting(&records.a, limit)?;
                (put(room, &found, A, all, turn, Ipv4Addr::octets)?, 0)
            }
            AAAA => {
                let all = fitting(&records.aaaa, limit)?;
                (put(room, &found, AAAA, all, turn, Ipv6Addr::octets)?, 0)
            }
            _ => {
                let all = fitting(&records.srv, limit)?;
                put_services(room, &found, all, turn, served, limit)?
            }
        },
    };
    if answers == 0 {
        put_soa(room, found.zone, name, served.serial)?;
    }
    let counts = [
        1,
        answers,
        u16::from(answers == 0),
        more.checked_add(u16::from(has_edns))?,
    ];
    let places = room.get_mut(4..HEADER)?.chunks_exact_mut(2);
    for (place, count) in places.zip(counts) {
        place.copy_from_slice(&count.to_be_bytes());
    }
    if let Some(edns) = edns {
        let [high, low] = EDNS_PAYLOAD.to_be_bytes();
        let secure = u8::from(edns.wants_signatures) << 7;
        room.extend([0, 0, 41, high, low, 0, 0, secure, 0, 0, 0]);
    }
    (room.len() <= usize::from(limit)).then_some(())
}

/// Adds a record of the name asked for with each, beginning with the one whose turn it is.
fn put<T, const N: usize>(
    room: &mut Vec<u8>,
    found: &Found<'_>,
    kind: [u8; 2],
    all: &[T],
    turn: usize,
    bytes: fn(&T) -> [u8; N],
) -> Option<u16> {
    let (last, first) = all.split_at(turn % all.len().max(1));
    for one in first.iter().chain(last) {
        put_head(room, THE_NAME, kind, found.zone.ttl(), N)?;
        room.extend(bytes(one));
    }
    u16::try_from(all.len()).ok()
}

/// All of them, if so many may fit into an answer at all.
fn fitting<T>(all: &[T], limit: u16) -> Option<&[T]> {
    (all.len() <= usize::from(limit) / SHORTEST).then_some(all)
}

/// What stands before the data of a record whose name is written at `owner`.
fn put_head(
    room: &mut Vec<u8>,
    owner: usize,
    kind: [u8; 2],
    ttl: u32,
    length: usize,
) -> Option<()> {
    room.extend(pointer(owner)?);
    room.extend(kind);
    room.extend(IN);
    room.extend(ttl.to_be_bytes());
    room.extend(u16::try_from(length).ok()?.to_be_bytes());
    Some(())
}

/// The name that is written at `place`.
fn pointer(place: usize) -> Option<[u8; 2]> {
    let place = u16::try_from(place).ok().filter(|place| *place < 0x4000)?;
    Some((0xC000 | place).to_be_bytes())
}

/// Adds services, and the addresses of their targets; how many of each.
fn put_services(
    room: &mut Vec<u8>,
    found: &Found<'_>,
    all: &[Service],
    turn: usize,
    served: &Served,
    limit: u16,
) -> Option<(u16, u16)> {
    const BEFORE_TARGET: usize = 6;
    let mut more = 0_u16;
    // Where the target of each is written, in the order of the records.
    let mut targets = vec![0; all.len()];
    let turn = turn % all.len().max(1);
    for place in (turn..all.len()).chain(0..turn) {
        let service = &all[place];
        let length = BEFORE_TARGET + service.target.len() + 1;
        put_head(room, THE_NAME, SRV, found.zone.ttl(), length)?;
        room.extend([0, 0, 0, 1]);
        room.extend(service.port.to_be_bytes());
        targets[place] = room.len();
        // Whole: RFC 2782 wants no pointers there.
        put_name(room, &service.target, None)?;
    }
    let mut last = None;
    for (service, owner) in all.iter().zip(targets) {
        if last.replace(&service.target) == Some(&service.target) {
            continue;
        }
        let target = served.names.find(&service.target);
        let Some((target, records)) = target.and_then(|found| Some((found, found.records()?)))
        else {
            continue;
        };
        let ttl = target.zone.ttl();
        let (a, aaaa) = (fitting(&records.a, limit)?, fitting(&records.aaaa, limit)?);
        for ip in a {
            put_head(room, owner, A, ttl, ip.octets().len())?;
            room.extend(ip.octets());
        }
        for ip in aaaa {
            put_head(room, owner, AAAA, ttl, ip.octets().len())?;
            room.extend(ip.octets());
        }
        more = more.checked_add(u16::try_from(a.len() + aaaa.len()).ok()?)?;
        if room.len() > usize::from(limit) {
            return None;
        }
    }
    Some((u16::try_from(all.len()).ok()?, more))
}

/// Adds what the zone says of itself, for how long it may be remembered that there is nothing.
fn put_soa(room: &mut Vec<u8>, zone: &Zone, asked: &str, serial: u32) -> Option<()> {
    let origin = zone.origin();
    // The name asked for has as many letters and dots as bytes in the packet before any place in it. It may be another
    // word for one of the zone.
    let origin_at = if zone.holds(asked) {
        let at = THE_NAME + asked.len() - origin.len();
        room.extend(pointer(at)?);
        at
    } else {
        let at = room.len();
        put_name(room, origin, None)?;
        at
    };
    room.extend(SOA);
    room.extend(IN);
    room.extend(zone.ttl().to_be_bytes());
    let length_at = room.len();
    room.extend([0, 0]);
    let soa = zone.soa();
    for name in [&soa.mname, &soa.rname] {
        put_name(room, name, Some((origin, origin_at)))?;
    }
    let seconds = |seconds: u32| seconds.min(i32::MAX.unsigned_abs());
    let (refresh, retry, expire) = (soa.refresh, soa.retry, soa.expire);
    let numbers = [seconds(refresh), seconds(retry), seconds(expire)];
    room.extend(serial.to_be_bytes());
    room.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    room.extend(soa.minimum.to_be_bytes());
    let length = u16::try_from(room.len() - length_at - 2).ok()?;
    room.get_mut(length_at..length_at + 2)?
        .copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// Adds a name with a final dot; the part of it that is `written` somewhere as a pointer. None if it is no name DNS can have.
fn put_name(room: &mut Vec<u8>, name: &str, written: Option<(&str, usize)>) -> Option<()> {
    if name.len() >= LONGEST {
        return None;
    }
    let above = |part: &str| {
        let above = name.strip_suffix(part)?;
        (above.is_empty() || above.ends_with('.')).then_some(above)
    };
    let written = written.and_then(|(part, at)| Some((above(part)?, at)));
    let mut rest = written.map_or(name, |(above, _)| above);
    while !rest.is_empty() {
        let (label, behind) = rest.split_once('.')?;
        let length = u8::try_from(label.len()).ok();
        room.push(length.filter(|length| (1..64).contains(length))?);
        room.extend(label.as_bytes());
        rest = behind;
    }
    match written {
        Some((_, at)) => room.extend(pointer(at)?),
        None => room.push(0),
    }
    Some(())
}

/// The name as zones have it, lower case with a final dot, and what comes behind it. Only letters, digits, `-` and `_`
/// are plain.
fn name<'t, 'p>(packet: &'p [u8], text: &'t mut [u8; LONGEST]) -> Option<(&'t str, &'p [u8])> {
    let (mut rest, mut length) = (packet, 0);
    loop {
        let (size, behind) = rest.split_first()?;
        if *size == 0 {
            let name = str::from_utf8(text.get(..length)?).ok()?;
            return (length > 0).then_some((name, behind));
        }
        // Longer ones are pointers.
        let (label, behind) = behind
            .split_at_checked(usize::from(*size))
            .filter(|_| *size < 64)?;
        // As many bytes as in the packet, where a final zero comes.
        let into = text.get_mut(length..length + label.len() + 1)?;
        for (to, byte) in into.iter_mut().zip(label) {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            *to = plain.then(|| byte.to_ascii_lowercase())?;
        }
        *into.last_mut()? = b'.';
        length += label.len() + 1;
        if length >= LONGEST {
            return None;
        }
        rest = behind;
    }
}

#[derive(Clone, Copy)]
struct Edns {
    payload: u16,
    wants_signatures: bool,
}

/// A record of EDNS version 0 without options, and nothing behind it.
fn edns(rest: &[u8]) -> Option<Edns> {
    let [0, 0, 41, high, low, 0, 0, flags, 0, 0, 0] = *rest else {
        return None;
    };
    matches!(flags, 0 | 0x80).then_some(Edns {
        payload: u16::from_be_bytes([high, low]),
        wants_signatures: flags != 0,
    })
}

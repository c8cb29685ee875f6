//! The questions that nearly all are: for the addresses of one name, with an answer that fits. They are answered without
//! a message being made of them, byte for byte as [`judge`](super::judge) would, which has all others.

use std::net::{Ipv4Addr, Ipv6Addr};

use dcos_net::Found;

use super::{EDNS_PAYLOAD, MAX_UDP, Rules};
use crate::served::Served;

const HEADER: usize = 12;
/// The longest name in a packet.
const LONGEST: usize = 255;
const A: [u8; 2] = [0, 1];
const AAAA: [u8; 2] = [0, 28];
const IN: [u8; 2] = [0, 1];
/// Where the name of the question is, as a pointer to it.
const THE_NAME: [u8; 2] = [0xC0, 12];
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
    let found = served.names.find(name)?;
    let limit = edns.map_or(LEAST, |edns| edns.payload.clamp(LEAST, MAX_UDP));
    let recursion = u8::from(rules.external) << 7;
    room.extend([id_high, id_low, 0x84 | flags, recursion | more_flags & 0x10]);
    let turn = usize::from(u16::from_be_bytes([id_high, id_low]));
    room.extend([0; HEADER - 4]);
    room.extend(question);
    let records = found.records()?;
    let count = match *kind {
        A => put(room, &found, A, &records.a, turn, Ipv4Addr::octets),
        AAAA => put(room, &found, AAAA, &records.aaaa, turn, Ipv6Addr::octets),
        _ => return None,
    }?;
    let [high, low] = count.to_be_bytes();
    let counts = [0, 1, high, low, 0, 0, 0, u8::from(has_edns)];
    room.get_mut(4..HEADER)?.copy_from_slice(&counts);
    if let Some(edns) = edns {
        let [high, low] = EDNS_PAYLOAD.to_be_bytes();
        let secure = u8::from(edns.wants_signatures) << 7;
        room.extend([0, 0, 41, high, low, 0, 0, secure, 0, 0, 0]);
    }
    (room.len() <= usize::from(limit)).then_some(())
}

/// Adds a record for each, beginning with the one whose turn it is; none is no answer of this kind.
fn put<T, const N: usize>(
    room: &mut Vec<u8>,
    found: &Found<'_>,
    kind: [u8; 2],
    all: &[T],
    turn: usize,
    bytes: fn(&T) -> [u8; N],
) -> Option<u16> {
    // So many fit into no answer over UDP.
    let count = u16::try_from(all.len())
        .ok()
        .filter(|count| (1..=MAX_UDP).contains(count))?;
    let (last, first) = all.split_at(turn % all.len());
    let ttl = found.zone.ttl().to_be_bytes();
    let length = u16::try_from(N).ok()?.to_be_bytes();
    for one in first.iter().chain(last) {
        room.extend(THE_NAME);
        room.extend(kind);
        room.extend(IN);
        room.extend(ttl);
        room.extend(length);
        room.extend(bytes(one));
    }
    Some(count)
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

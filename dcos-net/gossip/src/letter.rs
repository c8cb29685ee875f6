//! [`Letter`]: what is in a packet once it is opened, and the messages that are not SWIM's.

use std::net::SocketAddr;

use bytes::Buf;
use foca::Member;

use crate::codec::{read_member, write_member};
use crate::id::{Id, Malformed, read_address, read_u8, read_u48, write_address, write_u48};
use crate::record::Record;

/// What stands before everything else: kind and number.
pub(crate) const HEAD: usize = 1 + 6;

/// What a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One of SWIM's; foca knows which.
    Swim = 1,
    /// "You say you live your life `n`; a later one is known of you."
    Outdated = 2,
    /// A number for all that the sender knows.
    Summary = 3,
    /// What the sender knows of the members between two addresses.
    Digest = 4,
    /// What members say of themselves.
    Records = 5,
    /// Whose records the sender wants.
    Want = 6,
}

/// A packet that was opened. Sender and receiver stand where SWIM's messages have them, too.
#[derive(Debug)]
pub(crate) struct Letter<'a> {
    pub(crate) kind: Kind,
    /// Counts the packets of the sender's process.
    pub(crate) number: u64,
    pub(crate) from: Id,
    pub(crate) to: Id,
    /// All behind the head: for foca.
    pub(crate) swim: &'a [u8],
    /// All behind the addresses: for others.
    pub(crate) body: &'a [u8],
}

impl<'a> Letter<'a> {
    pub(crate) fn read(mut plain: &'a [u8]) -> Result<Self, Malformed> {
        let buf = &mut plain;
        let kind = match read_u8(buf)? {
            1 => Kind::Swim,
            2 => Kind::Outdated,
            3 => Kind::Summary,
            4 => Kind::Digest,
            5 => Kind::Records,
            6 => Kind::Want,
            _ => return Err(Malformed),
        };
        let number = read_u48(buf)?;
        let swim = *buf;
        let (from, to) = (Id::read(buf)?, Id::read(buf)?);
        let body = *buf;
        Ok(Self {
            kind,
            number,
            from,
            to,
            swim,
            body,
        })
    }
}

pub(crate) fn head(kind: Kind, number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(kind as u8);
    write_u48(number, &mut out);
    out
}

/// What is known of one member, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) member: Member<Id>,
    /// Of its record; 0 if there is none.
    pub(crate) version: u64,
    /// If it is dead, for how many seconds.
    pub(crate) age: u16,
}

impl Line {
    fn write(&self, out: &mut Vec<u8>) {
        write_member(&self.member, out);
        write_u48(self.version, out);
        out.extend(self.age.to_be_bytes());
    }

    fn read(buf: &mut impl Buf) -> Result<Self, Malformed> {
        Ok(Self {
            member: read_member(buf)?,
            version: read_u48(buf)?,
            age: buf.try_get_u16().map_err(|_| Malformed)?,
        })
    }
}

/// Lines of all members the sender knows between two addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Those behind it; from the first on if absent.
    pub(crate) after: Option<SocketAddr>,
    /// Those up to it; to the last if absent.
    pub(crate) until: Option<SocketAddr>,
    pub(crate) lines: Vec<Line>,
}

impl Digest {
    /// As many as it takes to tell `lines`, sorted by address, in bodies of `room` bytes.
    pub(crate) fn bodies(lines: &[Line], room: usize) -> Vec<Vec<u8>> {
        // Two addresses and a line of IPv6, the largest.
        const BOUNDS: usize = 2 * 19;
        const LARGEST: usize = 25 + 3 + 6 + 2;
        let most = (room.saturating_sub(BOUNDS) / LARGEST).max(1);
        let mut chunks: Vec<&[Line]> = lines.chunks(most).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        let bound = |lines: &[Line]| lines.last().map(|line| line.member.id().address);
        let mut after = None;
        let mut bodies = Vec::with_capacity(chunks.len());
        for (place, chunk) in chunks.iter().enumerate() {
            let until = bound(chunk).filter(|_| place < last);
            let mut out = Vec::with_capacity(room);
            write_bound(after, &mut out);
            write_bound(until, &mut out);
            for line in *chunk {
                line.write(&mut out);
            }
            after = until;
            bodies.push(out);
        }
        bodies
    }

    pub(crate) fn read(mut body: &[u8]) -> Result<Self, Malformed> {
        let buf = &mut body;
        let (after, until) = (read_bound(buf)?, read_bound(buf)?);
        let mut lines = Vec::new();
        while buf.has_remaining() {
            lines.push(Line::read(buf)?);
        }
        Ok(Self {
            after,
            until,
            lines,
        })
    }

    /// Whether it would have a line for this member, if the sender knew it.
    pub(crate) fn covers(&self, address: SocketAddr) -> bool {
        self.after.is_none_or(|after| address > after)
            && self.until.is_none_or(|until| address <= until)
    }
}

fn write_bound(bound: Option<SocketAddr>, out: &mut Vec<u8>) {
    match bound {
        Some(address) => write_address(address, out),
        None => out.push(0),
    }
}

fn read_bound(buf: &mut &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    if buf.first() == Some(&0) {
        buf.advance(1);
        return Ok(None);
    }
    read_address(buf).map(Some)
}

/// A member and its words, if it said any.
pub(crate) type Told = (Member<Id>, Option<Record>);

/// Members with their records, in bodies of at most `room` bytes.
pub(crate) fn records(told: impl IntoIterator<Item = Told>, room: usize) -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for (member, record) in told {
        let mut one = Vec::new();
        write_member(&member, &mut one);
        let mut words = Vec::new();
        if let Some(record) = &record {
            record.write(&mut words);
        }
        let length = u16::try_from(words.len()).expect("a record is smaller than a packet");
        one.extend(length.to_be_bytes());
        one.extend(words);
        match bodies.last_mut() {
            Some(body) if body.len() + one.len() <= room => body.extend(one),
            _ => bodies.push(one),
        }
    }
    bodies
}

pub(crate) fn read_records(mut body: &[u8]) -> Result<Vec<Told>, Malformed> {
    let buf = &mut body;
    let mut told = Vec::new();
    while buf.has_remaining() {
        let member = read_member(buf)?;
        let length = usize::from(buf.try_get_u16().map_err(|_| Malformed)?);
        let words = buf.split_off(..length).ok_or(Malformed)?;
        let record = (!words.is_empty())
            .then(|| Record::read(words))
            .transpose()?;
        if record
            .as_ref()
            .is_some_and(|record| record.address != member.id().address)
        {
            return Err(Malformed);
        }
        told.push((member, record));
    }
    Ok(told)
}

/// Addresses, in bodies of at most `room` bytes.
pub(crate) fn wants(addresses: &[SocketAddr], room: usize) -> Vec<Vec<u8>> {
    let chunks = addresses.chunks((room / 19).max(1));
    let body = |chunk: &[SocketAddr]| {
        let mut out = Vec::new();
        for address in chunk {
            write_address(*address, &mut out);
        }
        out
    };
    chunks.map(body).collect()
}

pub(crate) fn read_wants(mut body: &[u8]) -> Result<Vec<SocketAddr>, Malformed> {
    let buf = &mut body;
    let mut addresses = Vec::new();
    while buf.has_remaining() {
        addresses.push(read_address(buf)?);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, Kind as Role};
    use std::sync::Arc;

    fn line(last: u8) -> Line {
        let id = Id {
            address: ([10, 0, 0, last], 1).into(),
            life: 5,
        };
        Line {
            member: Member::alive(id),
            version: u64::from(last),
            age: 0,
        }
    }

    #[test]
    fn digests_cover_each_address_once() {
        for count in [0, 1, 27, 28, 200] {
            let lines: Vec<Line> = (0..count).map(line).collect();
            let bodies = Digest::bodies(&lines, 1024);
            assert!(bodies.iter().all(|body| body.len() <= 1024));
            let digests: Vec<Digest> = bodies
                .iter()
                .map(|body| Digest::read(body).unwrap())
                .collect();
            for last in 0..=255 {
                let address = line(last).member.id().address;
                let covering = digests.iter().filter(|digest| digest.covers(address));
                assert_eq!(covering.count(), 1, "{address} of {count}");
            }
            let read: Vec<Line> = digests
                .into_iter()
                .flat_map(|digest| digest.lines)
                .collect();
            assert_eq!(read, lines);
        }
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let told: Vec<_> = (0..9)
            .map(|last| {
                let member = line(last).member;
                let record = Record {
                    address: member.id().address,
                    version: 77,
                    leaving: last % 2 == 0,
                    about: Arc::new(About::new(Role::PublicAgent, [10, 0, 0, last])),
                };
                (member, (last != 3).then_some(record))
            })
            .collect();
        let bodies = records(told.clone(), 300);
        assert!(bodies.len() > 1 && bodies.iter().all(|body| body.len() <= 300));
        let read = bodies.iter().flat_map(|body| read_records(body).unwrap());
        assert_eq!(read.collect::<Vec<_>>(), told);
        let addresses: Vec<SocketAddr> =
            (0..90).map(|last| line(last).member.id().address).collect();
        let bodies = wants(&addresses, 300);
        let read = bodies.iter().flat_map(|body| read_wants(body).unwrap());
        assert_eq!(read.collect::<Vec<_>>(), addresses);
    }
}

//! How SWIM's messages look: what foca calls a codec.

use std::sync::mpsc;

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};

use crate::id::{Id, Malformed, read_u8};

/// Numbers in network order, addresses as in [`Id`]: nothing that is not needed.
#[derive(Debug)]
pub(crate) struct Codec {
    suspects: mpsc::Sender<Id>,
}

impl Codec {
    /// One, and where the suspects it reads of come out: foca does not tell of them. They are taken out after each
    /// packet, so that no more wait than one has.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Id>) {
        let (suspects, told) = mpsc::channel();
        (Self { suspects }, told)
    }
}

impl foca::Codec<Id> for Codec {
    type Error = Malformed;

    fn encode_header(&mut self, header: &Header<Id>, buf: impl BufMut) -> Result<(), Malformed> {
        let mut out = Vec::with_capacity(64);
        header.src.write(&mut out);
        header.dst.write(&mut out);
        out.extend(header.src_incarnation.to_be_bytes());
        write_message(&header.message, &mut out);
        put(&out, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, Malformed> {
        Ok(Header {
            src: Id::read(&mut buf)?,
            dst: Id::read(&mut buf)?,
            src_incarnation: buf.try_get_u16().map_err(|_| Malformed)?,
            message: read_message(&mut buf)?,
        })
    }

    fn encode_member(&mut self, member: &Member<Id>, buf: impl BufMut) -> Result<(), Malformed> {
        let mut out = Vec::with_capacity(32);
        write_member(member, &mut out);
        put(&out, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, Malformed> {
        let member = read_member(&mut buf)?;
        if member.state() == State::Suspect {
            // Whoever has the other end has this one.
            let _ = self.suspects.send(*member.id());
        }
        Ok(member)
    }
}

/// All of it, or nothing.
fn put(bytes: &[u8], mut buf: impl BufMut) -> Result<(), Malformed> {
    if buf.remaining_mut() < bytes.len() {
        return Err(Malformed);
    }
    buf.put_slice(bytes);
    Ok(())
}

pub(crate) fn write_member(member: &Member<Id>, out: &mut Vec<u8>) {
    member.id().write(out);
    out.extend(member.incarnation().to_be_bytes());
    out.push(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

pub(crate) fn read_member(buf: &mut impl Buf) -> Result<Member<Id>, Malformed> {
    let id = Id::read(buf)?;
    let incarnation = buf.try_get_u16().map_err(|_| Malformed)?;
    let state = match read_u8(buf)? {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        _ => return Err(Malformed),
    };
    Ok(Member::new(id, incarnation, state))
}

fn write_message(message: &Message<Id>, out: &mut Vec<u8>) {
    let (tag, number, other) = match message {
        Message::Ping(number) => (0, Some(*number), None),
        Message::Ack(number) => (1, Some(*number), None),
        Message::PingReq {
            target,
            probe_number,
        } => (2, Some(*probe_number), Some(*target)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (3, Some(*probe_number), Some(*origin)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (4, Some(*probe_number), Some(*target)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (5, Some(*probe_number), Some(*origin)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    };
    out.push(tag);
    out.extend(number);
    if let Some(id) = other {
        id.write(out);
    }
}

fn read_message(buf: &mut impl Buf) -> Result<Message<Id>, Malformed> {
    let tag = read_u8(buf)?;
    let probe_number = if tag < 6 { read_u8(buf)? } else { 0 };
    Ok(match tag {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq {
            target: Id::read(buf)?,
            probe_number,
        },
        3 => Message::IndirectPing {
            origin: Id::read(buf)?,
            probe_number,
        },
        4 => Message::IndirectAck {
            target: Id::read(buf)?,
            probe_number,
        },
        5 => Message::ForwardedAck {
            origin: Id::read(buf)?,
            probe_number,
        },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return Err(Malformed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Codec as _;

    #[test]
    fn what_is_written_is_read() {
        let id = |last: u8, life| Id {
            address: ([10, 0, 0, last], 62501).into(),
            life,
        };
        let six = Id {
            address: ("fd00::1".parse::<std::net::IpAddr>().unwrap(), 9).into(),
            life: crate::id::LAST,
        };
        let (mut codec, _suspects) = Codec::new();
        let (target, origin, probe_number) = (id(3, 3), six, 7);
        for message in [
            Message::Ping(1),
            Message::Ack(2),
            Message::PingReq {
                target,
                probe_number,
            },
            Message::IndirectPing {
                origin,
                probe_number,
            },
            Message::IndirectAck {
                target,
                probe_number,
            },
            Message::ForwardedAck {
                origin,
                probe_number,
            },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ] {
            let header = Header {
                src: id(1, 1),
                src_incarnation: 5,
                dst: six,
                message,
            };
            let mut bytes = Vec::new();
            codec.encode_header(&header, &mut bytes).unwrap();
            assert_eq!(codec.decode_header(bytes.as_slice()), Ok(header));
            for cut in 0..bytes.len() {
                assert_eq!(codec.decode_header(&bytes[..cut]), Err(Malformed));
            }
        }
        for state in [State::Alive, State::Suspect, State::Down] {
            let member = Member::new(six, 9, state);
            let mut bytes = Vec::new();
            codec.encode_member(&member, &mut bytes).unwrap();
            assert_eq!(codec.decode_member(bytes.as_slice()), Ok(member));
        }
    }
}

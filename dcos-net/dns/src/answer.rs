//! From a query to an answer, without a socket: pure, given what is served.

use std::net::{Ipv4Addr, Ipv6Addr};

use dcos_net::{Found, RecordSet, Service, Zone};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::served::Served;

pub(crate) mod plain;

/// The most a UDP answer may hold whatever the client says: larger ones are cut to pieces on the
/// way, and those get lost.
pub(crate) const MAX_UDP: u16 = 4096;

/// No record takes less: its name as a pointer, type, class, how long it is good, and how long its data are.
const SHORTEST: usize = 12;

/// What is offered to clients that say how much they can take (DNS flag day 2020).
const EDNS_PAYLOAD: u16 = 1232;

/// What is to be done about a packet.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Send this back.
    Answer(Vec<u8>),
    /// Somebody else knows. The name is in lower case with a final dot.
    Forward { name: String, refusal: Box<Message> },
    /// Not a query: an answer to it might be answered in turn, for ever.
    Ignore,
}

/// Rules for answering that do not depend on the query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) external: bool,
    pub(crate) set_truncate_bit: bool,
}

/// Judges a packet; over TCP an answer may have any size.
pub(crate) fn judge(packet: &[u8], served: &Served, rules: Rules, tcp: bool) -> Verdict {
    let Ok(query) = Message::from_vec(packet) else {
        return garbled(packet);
    };
    if query.metadata.message_type == MessageType::Response {
        return Verdict::Ignore;
    }
    let mut reply = reply_to(&query);
    let limit = if tcp {
        u16::MAX
    } else {
        query.max_payload().min(MAX_UDP)
    };
    let done = |reply: Message| Verdict::Answer(encode(reply, limit, rules.set_truncate_bit));
    let refuse = |mut reply: Message, code| {
        reply.metadata.response_code = code;
        done(reply)
    };
    reply.metadata.recursion_available = rules.external;
    if query.version() > 0 {
        return refuse(reply, ResponseCode::BADVERS);
    }
    if query.metadata.op_code != OpCode::Query {
        return refuse(reply, ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else {
        return refuse(reply, ResponseCode::FormErr);
    };
    if question.query_class != DNSClass::IN {
        return refuse(reply, ResponseCode::Refused);
    }
    let name = text(&question.name);
    let Some(found) = served.names.find(&name) else {
        if rules.external {
            return Verdict::Forward {
                name,
                refusal: Box::new(reply),
            };
        }
        return refuse(reply, ResponseCode::Refused);
    };
    if matches!(question.query_type, RecordType::AXFR | RecordType::IXFR) {
        return refuse(reply, ResponseCode::Refused);
    }
    if !found.exists() && found.zone.is_partial() {
        return refuse(reply, ResponseCode::ServFail);
    }
    reply.metadata.authoritative = true;
    fill(&mut reply, question, &name, found, served, limit);
    done(reply)
}

/// An answer that says only that there is none, to what [`judge`] let through.
pub(crate) fn failure(mut reply: Message, code: ResponseCode) -> Vec<u8> {
    reply.metadata.response_code = code;
    encode(reply, 512, true)
}

/// If the header can be read, its sender is told; else the packet is no DNS at all.
fn garbled(packet: &[u8]) -> Verdict {
    let Some(&[high, low, flags]) = packet.first_chunk::<3>() else {
        return Verdict::Ignore;
    };
    if packet.len() < 12 || flags & 0x80 != 0 {
        return Verdict::Ignore;
    }
    let op_code = OpCode::from_u8((flags >> 3) & 0x0F);
    let reply = Message::response(u16::from_be_bytes([high, low]), op_code);
    Verdict::Answer(failure(reply, ResponseCode::FormErr))
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.checking_disabled = query.metadata.checking_disabled;
    reply.add_queries(query.queries.iter().cloned());
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(EDNS_PAYLOAD);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        reply.set_edns(edns);
    }
    reply
}

/// The name as zones have it: lower case, with a final dot.
fn text(name: &Name) -> String {
    let mut text = String::with_capacity(name.len() + 1);
    for label in name {
        text.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
        text.push('.');
    }
    // Mesos-DNS takes `_web.*.marathon.mesos` for `_web.marathon.mesos` (`cleanWild`).
    if text.contains(".*") {
        text.replace(".*", "")
    } else {
        text
    }
}

/// Adds what is asked for, as far as it may fit into so many bytes, and one more, so that it shows that there is more:
/// a cluster has names of thousands of addresses, and packing them costs more than all else.
fn fill(
    reply: &mut Message,
    question: &Query,
    name: &str,
    found: Found<'_>,
    served: &Served,
    limit: u16,
) {
    let (zone, kind) = (found.zone, question.query_type);
    let most = usize::from(limit) / SHORTEST;
    let owner = &question.name;
    let record = |data| Record::from_rdata(owner.clone(), zone.ttl(), data);
    if let Some(records) = found.records() {
        // Clients take the first answer, so each query gets another one there.
        let count = asked(records, kind).count().max(1);
        let turn = usize::from(reply.metadata.id) % count;
        let (first, last) = (
            asked(records, kind).skip(turn),
            asked(records, kind).take(turn),
        );
        let data = first.chain(last).filter_map(One::data);
        reply.add_answers(data.take(most + 1).map(record));
    }
    let any = kind == RecordType::ANY;
    // What is more does not fit anyway, and is cut first.
    if (any || kind == RecordType::SRV) && reply.answers.len() <= most {
        add_targets(reply, found.records(), served, most);
    }
    if name == zone.origin() {
        if any || kind == RecordType::SOA {
            reply.add_answers(soa(zone, served.serial));
        }
        if any || kind == RecordType::NS {
            let server = wire(&zone.soa().mname).map(|name| record(RData::NS(NS(name))));
            reply.add_answers(server);
            add_addresses(reply, &zone.soa().mname, served, most);
        }
    }
    if reply.answers.is_empty() {
        reply.add_authorities(soa(zone, served.serial));
        if !found.exists() {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
    }
}

/// A record of a name.
enum One<'a> {
    A(&'a Ipv4Addr),
    Aaaa(&'a Ipv6Addr),
    Srv(&'a Service),
    Ptr(&'a String),
    Txt(&'a Vec<String>),
}

impl One<'_> {
    fn data(self) -> Option<RData> {
        match self {
            Self::A(ip) => Some(RData::A(A(*ip))),
            Self::Aaaa(ip) => Some(RData::AAAA(AAAA(*ip))),
            Self::Srv(srv) => service(srv),
            Self::Ptr(name) => Some(RData::PTR(PTR(wire(name)?))),
            Self::Txt(texts) => Some(RData::TXT(TXT::new(texts.clone()))),
        }
    }
}

/// The records of this type, or all.
fn asked(records: &RecordSet, kind: RecordType) -> impl Iterator<Item = One<'_>> {
    fn of<T>(is_asked: bool, all: &[T]) -> &[T] {
        if is_asked { all } else { &[] }
    }
    let is = |one| kind == one || kind == RecordType::ANY;
    let a = of(is(RecordType::A), &records.a).iter().map(One::A);
    let aaaa = of(is(RecordType::AAAA), &records.aaaa)
        .iter()
        .map(One::Aaaa);
    let srv = of(is(RecordType::SRV), &records.srv).iter().map(One::Srv);
    let ptr = of(is(RecordType::PTR), &records.ptr).iter().map(One::Ptr);
    let txt = of(is(RecordType::TXT), &records.txt).iter().map(One::Txt);
    a.chain(aaaa).chain(srv).chain(ptr).chain(txt)
}

fn service(service: &Service) -> Option<RData> {
    Some(RData::SRV(SRV::new(
        0,
        1,
        service.port,
        wire(&service.target)?,
    )))
}

/// The addresses of what SRV records point at, so that clients need not ask again; all, or more than fit.
fn add_targets(reply: &mut Message, records: Option<&RecordSet>, served: &Served, most: usize) {
    let mut targets: Vec<&str> = records
        .iter()
        .flat_map(|records| &records.srv)
        .map(|srv| srv.target.as_str())
        .collect();
    targets.dedup();
    for target in targets {
        add_addresses(reply, target, served, most);
        if reply.additionals.len() > most {
            return;
        }
    }
}

fn add_addresses(reply: &mut Message, name: &str, served: &Served, most: usize) {
    let Some(found) = served.names.find(name) else {
        return;
    };
    let (Some(records), Some(owner)) = (found.records(), wire(name)) else {
        return;
    };
    let record = |data| Record::from_rdata(owner.clone(), found.zone.ttl(), data);
    let a = records.a.iter().map(|ip| RData::A(A(*ip)));
    let aaaa = records.aaaa.iter().map(|ip| RData::AAAA(AAAA(*ip)));
    reply.add_additionals(a.chain(aaaa).take(most + 1).map(record));
}

fn soa(zone: &Zone, serial: u32) -> Option<Record> {
    let soa = zone.soa();
    let seconds = |seconds: u32| i32::try_from(seconds).unwrap_or(i32::MAX);
    let data = SOA::new(
        wire(&soa.mname)?,
        wire(&soa.rname)?,
        serial,
        seconds(soa.refresh),
        seconds(soa.retry),
        seconds(soa.expire),
        soa.minimum,
    );
    Some(Record::from_rdata(
        wire(zone.origin())?,
        zone.ttl(),
        RData::SOA(data),
    ))
}

/// A name people chose may not fit DNS (a label of 64 letters); it has no records then.
fn wire(name: &str) -> Option<Name> {
    let labels = name.trim_end_matches('.').split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// Makes the answer fit: first without what was not asked for, then with as many answers as fit.
fn encode(mut reply: Message, limit: u16, set_truncate_bit: bool) -> Vec<u8> {
    let limit = usize::from(limit);
    let bytes = |reply: &Message| reply.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    if let Some(whole) = bytes(&reply) {
        return whole;
    }
    reply.additionals.clear();
    if let Some(whole) = bytes(&reply) {
        return whole;
    }
    reply.metadata.truncation = set_truncate_bit;
    let answers = std::mem::take(&mut reply.answers);
    let (mut fitting, mut too_many) = (0, answers.len());
    while too_many - fitting > 1 {
        let middle = fitting.midpoint(too_many);
        reply.answers = answers[..middle].to_vec();
        if bytes(&reply).is_some() {
            fitting = middle;
        } else {
            too_many = middle;
        }
    }
    reply.answers = answers[..fitting].to_vec();
    bytes(&reply).unwrap_or_else(|| {
        // Not even the question fits, or something cannot be encoded.
        let code = ResponseCode::ServFail;
        let bare = Message::error_msg(reply.metadata.id, reply.metadata.op_code, code);
        bare.to_vec().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests;

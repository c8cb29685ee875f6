//! [`Cache`]: what others answered, for as long as it may be remembered.
//!
//! Whole answers to whole questions: all bytes but the id, so that each client gets what it would have been sent. Their
//! times to live count down. That there is no such name, or nothing of a kind, is remembered for what the zone says of
//! itself (RFC 2308); that a resolver is in trouble is not. What is out of date is still good while nobody can be asked
//! (RFC 8767). Pure: the caller says what time it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::question::Key;
use crate::resolvers::All;

/// Nothing is remembered for longer, whatever it says of itself.
const LONGEST: u32 = 86_400;
/// Nor, that there is nothing (RFC 2308, 5).
const LONGEST_NOTHING: u32 = 3600;
/// What is out of date is good for so long (RFC 8767, 5: one to three days).
const STALE: Duration = Duration::from_secs(86_400);
/// The time to live of what is out of date (RFC 8767, 4).
const STALE_TTL: u32 = 30;
/// Who could not be asked is not asked again sooner (RFC 8767, 5).
const RECHECK: Duration = Duration::from_secs(30);
/// What an entry takes beside its question and its answer, in bytes: a guess.
const BESIDE: usize = 256;

const HEADER: usize = 12;
const SOA: u16 = 6;
const OPT: u16 = 41;
/// `SIG`, `TKEY`, `TSIG`: of one answer to one client.
const SIGNED: [u16; 3] = [24, 249, 250];
const NO_NAME: u8 = 3;

/// Answers in two halves. What is asked for moves to the younger one; when that is full the other one goes.
#[derive(Debug)]
pub(crate) struct Cache {
    /// How many bytes a half may take.
    limit: usize,
    young: Half,
    old: Half,
}

#[derive(Debug, Default)]
struct Half {
    answers: HashMap<Key, Arc<Remembered>>,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Remembered {
    answer: Vec<u8>,
    /// Where its times to live are.
    ttls: Vec<usize>,
    since: Instant,
    good_for: Duration,
    /// Who was asked: others may know other things.
    of: All,
    /// When nobody could be asked the last time.
    failed: Option<Instant>,
}

/// What is remembered of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The answer, with an id of somebody else.
    Fresh(Vec<u8>),
    /// One that is out of date, for times when nobody can be asked.
    Stale(Vec<u8>),
    /// One that is out of date, and nobody could be asked a moment ago.
    Resigned(Vec<u8>),
    Nothing,
}

impl Cache {
    /// One that takes so many bytes; none remembers nothing.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit / 2,
            young: Half::default(),
            old: Half::default(),
        }
    }

    /// How many answers there are.
    pub(crate) fn len(&self) -> usize {
        self.young.answers.len() + self.old.answers.len()
    }

    /// What those who are asked now have answered before.
    pub(crate) fn recall(&mut self, question: &Key, asked: &All, now: Instant) -> Memory {
        let found = self.young.answers.get(question).map(Arc::clone);
        let found = found.or_else(|| {
            let kept = self.old.take(question)?;
            self.keep(question.clone(), Arc::clone(&kept));
            Some(kept)
        });
        let Some(found) = found.filter(|found| Arc::ptr_eq(&found.of, asked)) else {
            return Memory::Nothing;
        };
        let age = now.saturating_duration_since(found.since);
        if age < found.good_for {
            let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
            Memory::Fresh(found.answer_with(|ttl| ttl.saturating_sub(seconds)))
        } else if age < found.good_for + STALE {
            let since = |failed| now.saturating_duration_since(failed);
            let resigned = found.failed.is_some_and(|failed| since(failed) < RECHECK);
            let answer = found.answer_with(|_| STALE_TTL);
            if resigned {
                Memory::Resigned(answer)
            } else {
                Memory::Stale(answer)
            }
        } else {
            Memory::Nothing
        }
    }

    /// Remembers an answer, if it may be.
    pub(crate) fn note(&mut self, question: Key, answer: &[u8], asked: &All, now: Instant) {
        let Some((seconds, ttls)) = lifetime(answer) else {
            // Not to be remembered, but later than what is.
            if is_usable(answer) {
                self.young.take(&question);
                self.old.take(&question);
            }
            return;
        };
        let remembered = Remembered {
            answer: answer.to_vec(),
            ttls,
            since: now,
            good_for: Duration::from_secs(seconds.into()),
            of: Arc::clone(asked),
            failed: None,
        };
        self.old.take(&question);
        self.keep(question, Arc::new(remembered));
    }

    /// Nobody could be asked for what is out of date.
    pub(crate) fn note_failure(&mut self, question: &Key, now: Instant) {
        for half in [&mut self.young, &mut self.old] {
            if let Some(found) = half.answers.get_mut(question)
                && now.saturating_duration_since(found.since) >= found.good_for
            {
                Arc::make_mut(found).failed = Some(now);
            }
        }
    }

    fn keep(&mut self, question: Key, remembered: Arc<Remembered>) {
        let size = size(&question, &remembered);
        if size > self.limit {
            return;
        }
        self.young.take(&question);
        if self.young.bytes + size > self.limit {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.bytes += size;
        self.young.answers.insert(question, remembered);
    }
}

impl Half {
    fn take(&mut self, question: &Key) -> Option<Arc<Remembered>> {
        let taken = self.answers.remove(question)?;
        self.bytes -= size(question, &taken);
        Some(taken)
    }
}

fn size((_, question): &Key, remembered: &Remembered) -> usize {
    let places = remembered.ttls.len() * size_of::<usize>();
    BESIDE + question.len() + remembered.answer.len() + places
}

impl Remembered {
    fn answer_with(&self, ttl: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut answer = self.answer.clone();
        for place in &self.ttls {
            if let Some(bytes) = answer[*place..].first_chunk_mut::<4>() {
                *bytes = ttl(u32::from_be_bytes(*bytes)).to_be_bytes();
            }
        }
        answer
    }
}

/// Whether an answer is about the name, rather than about trouble of the resolver.
pub(crate) fn is_usable(answer: &[u8]) -> bool {
    const SERVER_FAILURE: u8 = 2;
    const REFUSED: u8 = 5;
    let code = answer.get(3).map(|byte| byte & 0x0F);
    code.is_some_and(|code| !matches!(code, SERVER_FAILURE | REFUSED))
}

/// For how many seconds an answer may be remembered, and where in it times to live are; `None` if it may not be.
fn lifetime(answer: &[u8]) -> Option<(u32, Vec<usize>)> {
    let head = answer.first_chunk::<HEADER>()?;
    let count = |place: usize| usize::from(u16::from_be_bytes([head[place], head[place + 1]]));
    let (truncated, code) = (head[2] & 2 != 0, head[3] & 0x0F);
    if truncated || !matches!(code, 0 | NO_NAME) || count(4) != 1 {
        return None;
    }
    let (answers, authorities, more) = (count(6), count(8), count(10));
    let mut place = name_end(answer, HEADER)? + 4;
    let (mut seconds, mut ttls, mut says_what_there_is_not) = (LONGEST, Vec::new(), false);
    for record in 0..answers + authorities + more {
        let head_at = name_end(answer, place)?;
        let head = answer.get(head_at..)?.first_chunk::<10>()?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let ttl = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let data_at = head_at + head.len();
        place = data_at + usize::from(u16::from_be_bytes([head[8], head[9]]));
        let data = answer.get(data_at..place)?;
        if kind == OPT {
            // Its first byte belongs to the code.
            if head[4] != 0 {
                return None;
            }
            continue;
        }
        if SIGNED.contains(&kind) {
            return None;
        }
        // RFC 2181, 8: what is so large is none.
        seconds = seconds.min(if ttl > i32::MAX.unsigned_abs() {
            0
        } else {
            ttl
        });
        ttls.push(head_at + 4);
        let is_authority = (answers..answers + authorities).contains(&record);
        if kind == SOA && is_authority {
            let minimum = data.last_chunk::<4>().filter(|_| data.len() >= 22)?;
            seconds = seconds.min(u32::from_be_bytes(*minimum));
            says_what_there_is_not = true;
        }
    }
    if says_what_there_is_not {
        seconds = seconds.min(LONGEST_NOTHING);
    } else if answers == 0 || code == NO_NAME {
        return None;
    }
    (seconds > 0 && place == answer.len()).then_some((seconds, ttls))
}

/// Where the name that begins at a place ends.
pub(crate) fn name_end(packet: &[u8], mut place: usize) -> Option<usize> {
    loop {
        match *packet.get(place)? {
            0 => return Some(place + 1),
            length @ 1..64 => place += usize::from(length) + 1,
            192.. => return Some(place + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    use super::*;
    use crate::resolvers::all;

    fn name() -> Name {
        Name::from_ascii("www.example.org.").unwrap()
    }

    fn question() -> Key {
        (false, b"the question".to_vec())
    }

    fn message() -> Message {
        let mut message = Message::query();
        message.metadata.message_type = MessageType::Response;
        message.add_query(Query::query(name(), RecordType::A));
        message
    }

    fn address(ttl: u32) -> Record {
        Record::from_rdata(name(), ttl, RData::A(A::new(192, 0, 2, 1)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let zone = Name::from_ascii("example.org.").unwrap();
        let data = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, minimum);
        Record::from_rdata(zone, ttl, RData::SOA(data))
    }

    /// How long it is remembered, in seconds.
    fn seconds(message: &Message) -> Option<u32> {
        lifetime(&message.to_vec().unwrap()).map(|(seconds, _)| seconds)
    }

    #[test]
    fn it_says_itself_for_how_long_it_is_good() {
        let mut good = message();
        good.add_answer(address(300));
        good.add_answer(address(60));
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(true);
        good.set_edns(edns);
        assert_eq!(seconds(&good), Some(60), "the first that ends");
        let mut long = message();
        long.add_answer(address(1 << 30));
        assert_eq!(seconds(&long), Some(LONGEST));
        for ttl in [0, u32::MAX] {
            let mut none = message();
            none.add_answer(address(ttl));
            assert_eq!(seconds(&none), None);
        }
        let mut cut = good.clone();
        cut.metadata.truncation = true;
        assert_eq!(seconds(&cut), None);
        let mut trouble = good;
        trouble.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(seconds(&trouble), None);
    }

    #[test]
    fn that_there_is_nothing_is_good_for_as_long_as_the_zone_says() {
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            let mut nothing = message();
            nothing.metadata.response_code = code;
            assert_eq!(seconds(&nothing), None, "nobody says for how long");
            for (ttl, minimum, expected) in [(900, 60, 60), (30, 900, 30), (9999, 9999, 3600)] {
                let mut nothing = nothing.clone();
                nothing.add_authority(soa(ttl, minimum));
                assert_eq!(seconds(&nothing), Some(expected), "{ttl} {minimum}");
            }
        }
    }

    #[test]
    fn times_to_live_count_down_and_what_is_old_is_for_need_only() {
        let (mut cache, asked, begin) = (Cache::new(1 << 20), all(&[]), Instant::now());
        let mut message = message();
        message.add_answer(address(60));
        message.add_answer(address(90));
        cache.note(question(), &message.to_vec().unwrap(), &asked, begin);
        let mut ttls = |seconds, asked: &All| {
            let now = begin + Duration::from_secs(seconds);
            let (word, answer) = match cache.recall(&question(), asked, now) {
                Memory::Fresh(answer) => ("fresh", answer),
                Memory::Stale(answer) => ("stale", answer),
                Memory::Resigned(answer) => ("resigned", answer),
                Memory::Nothing => return None,
            };
            let answers = Message::from_vec(&answer).unwrap().answers;
            let ttls: Vec<u32> = answers.iter().map(|record| record.ttl).collect();
            Some((word, ttls))
        };
        assert_eq!(ttls(0, &asked), Some(("fresh", vec![60, 90])));
        assert_eq!(ttls(59, &asked), Some(("fresh", vec![1, 31])));
        assert_eq!(ttls(60, &asked), Some(("stale", vec![30, 30])));
        assert_eq!(ttls(60 + 86_400, &asked), None);
        assert_eq!(ttls(0, &all(&[])), None, "others are asked now");
    }

    #[test]
    fn who_could_not_be_asked_is_left_alone_for_a_while() {
        let (mut cache, asked, begin) = (Cache::new(1 << 20), all(&[]), Instant::now());
        let mut message = message();
        message.add_answer(address(60));
        let answer = message.to_vec().unwrap();
        let after = |seconds| begin + Duration::from_secs(seconds);
        cache.note(question(), &answer, &asked, begin);
        cache.note_failure(&question(), after(59));
        let known = cache.recall(&question(), &asked, after(60));
        assert!(matches!(known, Memory::Stale(_)), "{known:?}");
        cache.note_failure(&question(), after(61));
        for (seconds, resigned) in [(61, true), (90, true), (91, false)] {
            let known = cache.recall(&question(), &asked, after(seconds));
            assert_eq!(matches!(known, Memory::Resigned(_)), resigned, "{seconds}");
            assert_eq!(matches!(known, Memory::Stale(_)), !resigned, "{seconds}");
        }
        cache.note(question(), &answer, &asked, after(95));
        let known = cache.recall(&question(), &asked, after(96));
        assert!(matches!(known, Memory::Fresh(_)), "{known:?}");
    }

    #[test]
    fn what_was_contradicted_is_forgotten_and_failures_contradict_nothing() {
        let (mut cache, asked, now) = (Cache::new(1 << 20), all(&[]), Instant::now());
        let mut good = message();
        good.add_answer(address(60));
        cache.note(question(), &good.to_vec().unwrap(), &asked, now);
        let mut failed = message();
        failed.metadata.response_code = ResponseCode::ServFail;
        cache.note(question(), &failed.to_vec().unwrap(), &asked, now);
        let known = cache.recall(&question(), &asked, now);
        assert!(matches!(known, Memory::Fresh(_)), "{known:?}");
        let mut passing = message();
        passing.add_answer(address(0));
        cache.note(question(), &passing.to_vec().unwrap(), &asked, now);
        assert_eq!(cache.recall(&question(), &asked, now), Memory::Nothing);
    }

    #[test]
    fn it_never_takes_more_than_it_may_and_keeps_what_is_asked_for() {
        let (mut cache, asked, now) = (Cache::new(64 << 10), all(&[]), Instant::now());
        let mut message = message();
        message.add_answer(address(60));
        let answer = message.to_vec().unwrap();
        let often = question();
        cache.note(often.clone(), &answer, &asked, now);
        for number in 0..10_000_u32 {
            let other = (true, number.to_be_bytes().to_vec());
            cache.note(other, &answer, &asked, now);
            assert!(cache.young.bytes + cache.old.bytes <= 64 << 10);
            let known = cache.recall(&often, &asked, now);
            assert!(matches!(known, Memory::Fresh(_)), "after {number}");
        }
        assert!(cache.len() > 100);
        let of =
            |half: &Half| -> usize { half.answers.iter().map(|(key, one)| size(key, one)).sum() };
        assert_eq!(
            (cache.young.bytes, cache.old.bytes),
            (of(&cache.young), of(&cache.old))
        );
        let mut none = Cache::new(0);
        none.note(often.clone(), &answer, &asked, now);
        assert_eq!(none.recall(&often, &asked, now), Memory::Nothing);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_breaks_it(bytes: Vec<u8>, place in 0_usize..80, byte: u8) {
            lifetime(&bytes);
            let mut message = message();
            message.add_answer(address(60));
            message.add_authority(soa(60, 60));
            let mut answer = message.to_vec().unwrap();
            let place = place % answer.len();
            answer[place] = byte;
            if let Some((seconds, ttls)) = lifetime(&answer) {
                assert!((1..=LONGEST).contains(&seconds));
                assert!(ttls.iter().all(|place| place + 4 <= answer.len()));
            }
        }
    }

    #[test]
    fn what_is_an_answer_is_recalled_as_it_was_said() {
        let mut query = Message::query();
        query.add_query(Query::query(name(), RecordType::A));
        let mut answer = message();
        answer.metadata.id = query.metadata.id;
        let kept = |answer: &Message| {
            let (query, answer) = (query.to_vec().unwrap(), answer.to_vec().unwrap());
            crate::testkit::check_answer(&query, &answer)
        };
        assert!(!kept(&answer), "it says nothing");
        answer.add_answer(address(60));
        assert!(kept(&answer));
        answer.metadata.id ^= 1;
        assert!(!kept(&answer), "to somebody else's question");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_resolvers_say_breaks_it(
            code in 0..16_u8,
            counts: [u8; 3],
            records in proptest::collection::vec((0..8_usize, 0..4_u8, proptest::collection::vec(0..=255_u8, 0..30)), 0..6),
            rest: Vec<u8>,
        ) {
            let question = b"\x07\x07\x01\0\0\x01\0\0\0\0\0\0\x01x\x04corp\0\0\x01\0\x01";
            let mut answer = question.to_vec();
            (answer[2], answer[3]) = (0x81, code);
            for (place, count) in [7, 9, 11].into_iter().zip(counts) {
                answer[place] = count & 3;
            }
            for (kind, high, data) in records {
                let kind = [1, 2, 5, 6, 16, 28, 41, 250][kind];
                let length = u8::try_from(data.len()).unwrap();
                answer.extend([0xC0, 12, 0, kind, 0, 1, 0, high, 0, 7, 0, length]);
                answer.extend(data);
            }
            crate::testkit::check_answer(question, &answer);
            crate::testkit::check_answer(question, &[&answer, &rest[..]].concat());
            crate::testkit::check_answer(question, &rest);
        }
    }
}

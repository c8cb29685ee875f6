//! What every answer must hold to, for tests and for those who look for packets that break it.

use std::time::{Duration, Instant};

use dcos_net::Snapshot;
use dcos_net::names::{self, publish};
use hickory_proto::op::Message;

use crate::answer::{MAX_UDP, Rules, Verdict, judge, plain};
use crate::cache::{Cache, Memory};
use crate::forward::is_answer;
use crate::question::Question;
use crate::resolvers;
use crate::served::Served;

/// Names to be asked for, without a socket.
#[derive(Debug)]
pub struct Names(Served);

impl Names {
    /// Those of a cluster.
    pub fn publish(snapshot: &Snapshot, config: &names::Config) -> Self {
        Self(Served {
            names: publish(snapshot, config),
            serial: 7,
            led: snapshot.leader.is_some(),
            took: Duration::ZERO,
        })
    }

    /// Answers a packet in every way there is, and says whether it is among those that are answered without a message being
    /// made of them. With `external` other names are somebody else's to answer; they are refused otherwise.
    ///
    /// # Panics
    /// If the ways say different things, if what is sent back is no message or does not fit where it is sent, or if an
    /// answer is answered.
    pub fn check(&self, packet: &[u8], external: bool) -> bool {
        let rules = Rules {
            external,
            set_truncate_bit: true,
        };
        check(packet, &self.0, rules)
    }
}

/// Takes in what a resolver says to a question, as far as it is taken for the answer, and recalls it at several times; says
/// whether it is remembered.
///
/// # Panics
/// If what is recalled is not what was said, but for times to live, or is good for more than was said, or for ever.
pub fn check_answer(question: &[u8], answer: &[u8]) -> bool {
    const DAY: u64 = 86_400;
    let Some(asked) = Question::new(question, ".".to_owned(), false) else {
        return false;
    };
    if !is_answer(answer, question) {
        return false;
    }
    let (mut cache, resolvers) = (Cache::new(1 << 20), resolvers::all(&[]));
    let begin = Instant::now();
    cache.note(asked.key.clone(), answer, &resolvers, begin);
    let mut recall = |seconds| {
        let now = begin + Duration::from_secs(seconds);
        cache.recall(&asked.key, &resolvers, now)
    };
    let first = recall(0);
    for seconds in [1, 59, 3600, DAY - 1, DAY] {
        match recall(seconds) {
            Memory::Fresh(said) => {
                assert!(
                    matches!(first, Memory::Fresh(_)) && seconds < DAY,
                    "{answer:?}"
                );
                assert_eq!(said.len(), answer.len());
            }
            Memory::Stale(said) => assert_eq!(said.len(), answer.len()),
            Memory::Resigned(_) => panic!("somebody could be asked: {answer:?}"),
            Memory::Nothing => assert_eq!(first, Memory::Nothing, "after {seconds} s: {answer:?}"),
        }
    }
    assert_eq!(recall(2 * DAY), Memory::Nothing, "for ever: {answer:?}");
    match first {
        Memory::Fresh(said) => {
            assert_eq!(said, answer, "not what was said");
            true
        }
        other => {
            assert_eq!(other, Memory::Nothing, "{answer:?}");
            false
        }
    }
}

/// See [`Names::check`].
pub(crate) fn check(packet: &[u8], served: &Served, rules: Rules) -> bool {
    let asked = Message::from_vec(packet).ok();
    let limit = asked.as_ref().map_or(512, Message::max_payload);
    let limit = usize::from(limit.min(MAX_UDP));
    let mut whole = None;
    for tcp in [false, true] {
        let Verdict::Answer(answer) = judge(packet, served, rules, tcp) else {
            continue;
        };
        let is_answer = packet.get(2).is_some_and(|flags| flags & 0x80 != 0);
        assert!(!is_answer, "an answer is answered: {packet:?}");
        let said = Message::from_vec(&answer);
        let said = said.unwrap_or_else(|error| panic!("{error}: {answer:?} to {packet:?}"));
        assert_eq!(packet[..2], answer[..2], "of another question: {packet:?}");
        assert!(tcp || answer.len() <= limit, "too large: {packet:?}");
        whole = Some(said).filter(|_| tcp);
    }
    let mut room = b"left".to_vec();
    let is_plain = plain::answer(packet, served, rules, &mut room);
    if is_plain {
        // As over TCP, where all fits: pointers to names may spare more here than there.
        let whole = whole.unwrap_or_else(|| panic!("not to be answered: {packet:?}"));
        let said = Message::from_vec(&room);
        let said = said.unwrap_or_else(|error| panic!("{error}: {room:?} to {packet:?}"));
        assert_eq!(said, whole, "{packet:?}");
        assert!(room.len() <= limit, "too large: {packet:?}");
    }
    is_plain
}

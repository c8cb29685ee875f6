//! [`Question`]: what is asked of others on behalf of a client.

use crate::cache::name_end;

/// What makes two questions the same: whether they are asked over TCP, and all bytes but the id.
pub(crate) type Key = (bool, Vec<u8>);

/// Where the counts of records are, and the question, in a query without its id.
const COUNTS: std::ops::Range<usize> = 2..10;
/// How long a record is that has no name and no data.
const LEAST: usize = 11;
const OPT: [u8; 2] = [0, 41];
/// Options that concern a client and the server that it asks, and nobody else: cookies, keep-alive, padding
/// (RFC 7873, 7828, 7830).
const OF_CLIENTS: [[u8; 2]; 3] = [[0, 10], [0, 11], [0, 12]];

/// A client's query, as it goes on to others.
#[derive(Debug)]
pub(crate) struct Question {
    /// The client's.
    pub(crate) id: [u8; 2],
    /// Its name, in small letters.
    pub(crate) name: String,
    pub(crate) key: Key,
}

impl Question {
    /// `None` for what is too short to be one.
    pub(crate) fn new(query: &[u8], name: String, tcp: bool) -> Option<Self> {
        let (&id, rest) = query.split_first_chunk()?;
        let rest = without_options_of_clients(rest).unwrap_or_else(|| rest.to_vec());
        let key = (tcp, rest);
        Some(Self { id, name, key })
    }
}

/// A query without these options: else each client would ask a question of its own. `None` if it has none.
fn without_options_of_clients(query: &[u8]) -> Option<Vec<u8>> {
    if query.get(COUNTS)? != [0, 1, 0, 0, 0, 0, 0, 1] {
        return None;
    }
    let opt = name_end(query, COUNTS.end)? + 4;
    let (head, mut options) = query.get(opt..)?.split_first_chunk::<LEAST>()?;
    let [0, high, low, .., length_high, length_low] = *head else {
        return None;
    };
    let length = u16::from_be_bytes([length_high, length_low]);
    if [high, low] != OPT || usize::from(length) != options.len() {
        return None;
    }
    let mut kept = Vec::new();
    while !options.is_empty() {
        let (&[code @ .., high, low], _) = options.split_first_chunk::<4>()?;
        let length = 4 + usize::from(u16::from_be_bytes([high, low]));
        let (option, rest) = options.split_at_checked(length)?;
        if !OF_CLIENTS.contains(&code) {
            kept.extend(option);
        }
        options = rest;
    }
    let length = u16::try_from(kept.len()).ok()?;
    let until_length = query.get(..opt + LEAST - 2)?;
    Some([until_length, &length.to_be_bytes(), &kept].concat())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, Message, Query};
    use hickory_proto::rr::rdata::opt::EdnsOption;
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    const COOKIE: u16 = 10;
    const PADDING: u16 = 12;
    const SUBNET: u16 = 8;

    fn query(options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = Message::query();
        let name = Name::from_ascii("www.example.org.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(true);
        for &(code, data) in options {
            let option = EdnsOption::Unknown(code, data.to_vec());
            edns.options_mut().insert(option);
        }
        message.set_edns(edns);
        message.to_vec().unwrap()
    }

    fn key(query: &[u8]) -> Vec<u8> {
        let question = Question::new(query, "www.example.org.".into(), false).unwrap();
        assert_eq!(question.id, query[..2]);
        question.key.1
    }

    #[test]
    fn clients_with_cookies_of_their_own_ask_the_same() {
        let plain = query(&[]);
        for options in [
            &[(COOKIE, b"12345678".as_slice())][..],
            &[(COOKIE, b"87654321"), (PADDING, b"")],
        ] {
            assert_eq!(key(&query(options)), plain[2..], "{options:?}");
        }
        let subnet = (SUBNET, b"\0\x01\x08\0\x0A".as_slice());
        let asked = key(&query(&[subnet, (COOKIE, b"12345678")]));
        assert_eq!(
            asked,
            query(&[subnet])[2..],
            "what others are to know stays"
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_no_such_query_stays_as_it_is(place in 0_usize..70, byte: u8, cut in 2_usize..70) {
            let mut query = query(&[(COOKIE, b"12345678")]);
            let place = place % query.len();
            query[place] = byte;
            query.truncate(cut.max(12));
            let asked = key(&query);
            proptest::prop_assert!(asked == query[2..] || asked.len() < query.len() - 2);
        }
    }
}

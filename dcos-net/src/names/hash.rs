//! The tag that tells tasks of one name apart: the first letters of a hash of the task id.

use sha1::{Digest, Sha1};

/// The alphabet of zbase32 (Zooko O'Whielacronx, "human-oriented base-32 encoding").
const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// Five letters, as in Mesos-DNS (`hashString` in `records/generator.go`).
pub(super) fn tag(task_id: &str) -> String {
    let hash = Sha1::digest(task_id);
    let bits = hash
        .iter()
        .take(4)
        .fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
    let letter = |place: u32| char::from(ALPHABET[(bits >> (27 - 5 * place)) as usize & 31]);
    (0..5).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn tags_are_those_of_mesos_dns() {
        // sha1("") begins with da39a3ee: 11011 01000 11100 11010 00111
        assert_eq!(tag(""), "5eh48");
        // sha1("abc") begins with a9993e36: 10101 00110 01100 10011 11100
        assert_eq!(tag("abc"), "igcuh");
    }
}

//! Erlang's portable hash of a binary, from which the addresses of named VIPs are derived.

/// The golden ratio, by which Bob Jenkins' hash begins.
const GOLDEN: u32 = 0x9e37_79b9;

/// What `erlang:phash2/2` says of a binary with a range of 2^32 (Erlang/OTP `make_hash2`: the hash
/// Bob Jenkins published as lookup2, begun with a number that stands for "binary").
///
/// ```
/// // Erlang/OTP `hash_SUITE:phash2_test`
/// assert_eq!(dcos_net::vip::phash2(b"abc"), 1_306_188_027);
/// ```
pub fn phash2(bytes: &[u8]) -> u32 {
    let begin = GOLDEN.wrapping_mul(13);
    if bytes.is_empty() {
        return begin;
    }
    let (mut a, mut b, mut c) = (GOLDEN, GOLDEN, begin);
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        a = a.wrapping_add(word(&block[..4]));
        b = b.wrapping_add(word(&block[4..8]));
        c = c.wrapping_add(word(&block[8..]));
        mix(&mut a, &mut b, &mut c);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as in Erlang; names are short"
    )]
    let length = bytes.len() as u32;
    let mut rest = [0; 12];
    rest[..blocks.remainder().len()].copy_from_slice(blocks.remainder());
    a = a.wrapping_add(word(&rest[..4]));
    b = b.wrapping_add(word(&rest[4..8]));
    // The lowest byte of the last word is where the length was added.
    c = c.wrapping_add(length).wrapping_add(word(&rest[8..]) << 8);
    mix(&mut a, &mut b, &mut c);
    c
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| (word << 8) | u32::from(*byte))
}

fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    for (right, left, last) in [(13, 8, 13), (12, 16, 5), (3, 10, 15)] {
        *a = a.wrapping_sub(*b).wrapping_sub(*c) ^ (*c >> right);
        *b = b.wrapping_sub(*c).wrapping_sub(*a) ^ (*a << left);
        *c = c.wrapping_sub(*a).wrapping_sub(*b) ^ (*b >> last);
    }
}

#[cfg(test)]
mod tests {
    use super::phash2;

    #[test]
    fn hashes_are_those_of_erlang() {
        // Erlang/OTP `hash_SUITE:phash2_test`.
        for (bytes, hash) in [
            (&b""[..], 147_926_629),
            (&[0], 2_914_887_855),
            (&[0; 4], 2_014_511_533),
            (b"abc", 1_306_188_027),
            (b"12345678901234567890", 3_021_061_640),
        ] {
            assert_eq!(phash2(bytes), hash, "{bytes:?}");
        }
    }
}

//! What goes over a line.
//!
//! Whoever connects says first what the line is for ([`Greeting`], one byte) and hears one byte
//! back ([`ACCEPTED`] or [`BUSY`]). Then frames follow: a kind (8 bits), a length (32 bits, big
//! endian) and as many bytes. The end of a stream is the end of the connection.

/// Bytes of a frame before its payload.
pub(super) const HEAD: usize = 5;
/// The longest payload that may be sent.
pub(super) const MAX_PAYLOAD: usize = 64 << 10;

/// The line stands.
pub(super) const ACCEPTED: u8 = b'+';
/// There is an input line already.
pub(super) const BUSY: u8 = b'!';

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Frames of kind [`STDOUT`] and [`STDERR`] come from the switchboard.
    Output = b'O' as isize,
    /// Frames of kind [`DATA`], [`END`] and [`WINDOW`] go to it.
    Input = b'I' as isize,
    /// The container has ended: nobody is waited for any more.
    Ended = b'E' as isize,
}

impl Greeting {
    pub(super) fn of(byte: u8) -> Option<Self> {
        [Self::Output, Self::Input, Self::Ended]
            .into_iter()
            .find(|greeting| greeting.byte() == byte)
    }

    pub(super) fn byte(self) -> u8 {
        self as u8
    }
}

/// To the switchboard: bytes for standard input.
pub(super) const DATA: u8 = 0;
/// To the switchboard: standard input ends.
pub(super) const END: u8 = 1;
/// To the switchboard: rows and columns of the terminal, 16 bits each.
pub(super) const WINDOW: u8 = 2;
/// From the switchboard: bytes of standard output.
pub(super) const STDOUT: u8 = 3;
/// From the switchboard: bytes of standard error.
pub(super) const STDERR: u8 = 4;

/// A frame's head.
pub(super) fn head(kind: u8, length: usize) -> [u8; HEAD] {
    let length = u32::try_from(length).expect("payloads are cut to size");
    let [a, b, c, d] = length.to_be_bytes();
    [kind, a, b, c, d]
}

/// Kind and length of a payload, if the head makes sense.
pub(super) fn parse(head: [u8; HEAD]) -> Option<(u8, usize)> {
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (length <= MAX_PAYLOAD).then_some((kind, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_way_and_giants_are_refused() {
        assert_eq!(parse(head(DATA, 70_000 - 5_000)), Some((DATA, 65_000)));
        assert_eq!(parse(head(STDERR, MAX_PAYLOAD + 1)), None);
        assert_eq!(Greeting::of(b'I'), Some(Greeting::Input));
        assert_eq!(Greeting::of(b'?'), None);
    }
}

//! Frames over a Unix stream socket, file descriptors included.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::plan::MAX_PLAN;

/// File descriptors a frame may carry: the standard three and a few to hand down.
pub(crate) const MAX_FDS: usize = 16;
/// Bytes of a message; a plan and a little around it.
const MAX_FRAME: usize = MAX_PLAN + 4096;
const HEADER: usize = 5;

/// The bytes of a frame around `body`.
pub(crate) fn encode(body: &[u8], fds: usize) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "the message is too large");
    if body.len() > MAX_FRAME || fds > MAX_FDS {
        return Err(too_large());
    }
    let length = u32::try_from(body.len()).expect("MAX_FRAME is below 4 GiB");
    let count = u8::try_from(fds).expect("MAX_FDS is below 256");
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&length.to_le_bytes());
    out.push(count);
    out.extend_from_slice(body);
    Ok(out)
}

/// What arrived on a socket and was not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Incoming {
    /// Reads once from `socket`; how many bytes, 0 at its end.
    pub(crate) fn fill(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            recvmsg(&socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(&buffer[..received.bytes]);
        Ok(received.bytes)
    }

    /// Takes the next whole frame.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let refused = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, fds] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let fds = usize::from(fds);
        if length > MAX_FRAME || fds > MAX_FDS {
            return refused("the peer sent a message that is too large");
        }
        if rest.len() < length {
            return Ok(None);
        }
        if fds > self.fds.len() {
            return refused("the peer sent fewer file descriptors than it said");
        }
        let body = rest[..length].to_vec();
        self.bytes.drain(..HEADER + length);
        Ok(Some((body, self.fds.drain(..fds).collect())))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::client::send;

    #[test]
    fn frames_arrive_whole_and_with_their_descriptors() {
        let (left, right) = UnixStream::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(&left, b"first", &[file.as_fd(), file.as_fd()]).unwrap();
        send(&left, b"", &[]).unwrap();
        send(&left, b"third", &[file.as_fd()]).unwrap();
        drop(left);
        let mut incoming = Incoming::default();
        while incoming.fill(&right).unwrap() > 0 {}
        let taken: Vec<_> = std::iter::from_fn(|| incoming.next().unwrap())
            .map(|(body, fds)| (body, fds.len()))
            .collect();
        assert_eq!(
            taken,
            [
                (b"first".to_vec(), 2),
                (Vec::new(), 0),
                (b"third".to_vec(), 1)
            ]
        );
    }

    #[test]
    fn false_lengths_are_refused() {
        let mut incoming = Incoming {
            bytes: vec![255; 5],
            ..Incoming::default()
        };
        assert!(incoming.next().is_err());
        let mut incoming = Incoming {
            bytes: vec![0, 0, 0, 0, 1],
            ..Incoming::default()
        };
        assert!(
            incoming.next().is_err(),
            "a descriptor was promised and did not come"
        );
    }

    proptest::proptest! {
        /// Whatever a peer sends, in whatever pieces: messages, or an end; never a panic.
        #[test]
        fn bytes_of_strangers_are_read_or_refused(
            pieces in proptest::collection::vec(
                proptest::collection::vec(proptest::num::u8::ANY, 0..40), 0..8),
            framed in proptest::num::u8::ANY,
        ) {
            use crate::codec::{Input, Wire};
            use crate::message::{Message, Request};

            let mut incoming = Incoming::default();
            for piece in pieces {
                // Half of them are frames, so that what is inside is looked at as well.
                let bytes = if framed % 2 == 0 { piece } else { encode(&piece, 0).unwrap() };
                incoming.bytes.extend(bytes);
                while let Ok(Some((body, _))) = incoming.next() {
                    let mut input = Input::new(&body);
                    if let Ok(request) = Request::take(&mut input) {
                        let again = Request::from_bytes(&request.to_bytes());
                        proptest::prop_assert_eq!(again, Ok(request));
                    }
                    if let Ok(message) = Message::from_bytes(&body) {
                        proptest::prop_assert_eq!(message.to_bytes(), body);
                    }
                }
            }
        }
    }
}

//! Requests that carry messages, cut out of the bytes of a connection.
//!
//! Reads what libprocess and its likes send: a `POST` whose body has a length or is chunked. All
//! else is [`Cut::Foreign`], with nothing taken off, for an HTTP server to make sense of.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::Upid;
use super::message::{self, Message};

/// More headers, or chunks of one body, than this are for an HTTP server.
const MANY: usize = 16;

/// Bodies up to this size are copied, so that what was read can make room for more.
const SMALL: usize = 4096;

/// What stands first among the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A message, which is taken off.
    Message(Request),
    /// Part of something that may be a message.
    Part {
        /// Of a body; otherwise of a head, if it is of anything.
        body: bool,
        /// At least so many bytes are missing.
        missing: usize,
    },
    /// Something else.
    Foreign,
}

/// A message and how it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) actor: String,
    pub(super) message: Message,
    /// Whether the sender is libprocess itself, which reads past what it is answered.
    pub(super) reads_no_answers: bool,
}

/// The head of a request whose body may not have come yet.
#[derive(Debug)]
struct Head {
    length: usize,
    body: Framing,
    actor: String,
    name: String,
    from: Upid,
    reads_no_answers: bool,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

/// Cuts messages, one after the other.
#[derive(Debug)]
pub(super) struct Cutter {
    /// The largest head and body in bytes.
    head_limit: usize,
    body_limit: usize,
    /// The head that the bytes begin with, if it was read already.
    head: Option<Head>,
}

impl Cutter {
    pub(super) fn new(head_limit: usize, body_limit: u64) -> Self {
        Self {
            head_limit,
            body_limit: usize::try_from(body_limit).unwrap_or(usize::MAX),
            head: None,
        }
    }

    /// Takes the first message off `bytes`, if its sender may be who it says.
    pub(super) fn cut(&mut self, bytes: &mut BytesMut, may_be: impl Fn(&Upid) -> bool) -> Cut {
        let head = match self.head.take() {
            Some(head) => head,
            None => match head(bytes) {
                Some(Begin::Message(head)) if !may_be(&head.from) => return Cut::Foreign,
                Some(Begin::Message(head)) => head,
                Some(Begin::Part) if bytes.len() < self.head_limit => {
                    let (body, missing) = (false, 1);
                    return Cut::Part { body, missing };
                }
                Some(Begin::Part) | None => return Cut::Foreign,
            },
        };
        let body = match head.body {
            Framing::Length(length) => fixed(bytes.len(), head.length, length),
            Framing::Chunked => chunked(bytes, head.length),
        };
        match body {
            Body::Whole(parts, end) if size(&parts) <= self.body_limit => {
                let body = take(bytes, &parts, end);
                let (from, name) = (head.from, head.name);
                Cut::Message(Request {
                    actor: head.actor,
                    message: Message { from, name, body },
                    reads_no_answers: head.reads_no_answers,
                })
            }
            Body::Part { missing, known } if known <= self.body_limit => {
                self.head = Some(head);
                let body = true;
                Cut::Part { body, missing }
            }
            Body::Whole(..) | Body::Part { .. } | Body::Foreign => Cut::Foreign,
        }
    }
}

/// What is known of a head.
enum Begin {
    Message(Head),
    /// It has not come whole.
    Part,
}

/// The head at the beginning of `bytes`, unless it is no message's.
fn head(bytes: &[u8]) -> Option<Begin> {
    const METHOD: &[u8] = b"POST /";
    let begun = bytes.len().min(METHOD.len());
    if bytes[..begun] != METHOD[..begun] {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; MANY];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes).ok()? {
        httparse::Status::Partial => return Some(Begin::Part),
        httparse::Status::Complete(length) => length,
    };
    if request.version != Some(1) {
        return None;
    }
    let (actor, name) = message::address(request.path?)?;
    let (mut from, mut agent, mut size, mut is_chunked) = (None, None, None, false);
    for header in request.headers {
        let value = std::str::from_utf8(header.value).ok()?;
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is(message::LIBPROCESS_FROM) {
            from = Some(value);
        } else if is("user-agent") {
            agent = value.strip_prefix(message::AGENT_PREFIX);
        } else if is("content-length") && size.is_none() {
            size = Some(value.parse().ok()?);
        } else if is("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            is_chunked = true;
        } else if is("connection") && value.eq_ignore_ascii_case("keep-alive") {
        } else if [
            "content-length",
            "transfer-encoding",
            "connection",
            "expect",
            // Of a browser's page, which sends no messages.
            "origin",
        ]
        .map(is)
        .contains(&true)
        {
            return None;
        }
    }
    let body = match size {
        Some(_) if is_chunked => return None,
        Some(size) => Framing::Length(size),
        None if is_chunked => Framing::Chunked,
        None => Framing::Length(0),
    };
    Some(Begin::Message(Head {
        length,
        body,
        actor,
        name,
        from: from.or(agent)?.parse().ok()?,
        reads_no_answers: agent.is_some(),
    }))
}

/// What is known of a body.
enum Body {
    /// Where its parts are, and where it ends.
    Whole(Vec<Range<usize>>, usize),
    /// At least so many bytes are missing of it, and so many it has.
    Part {
        missing: usize,
        known: usize,
    },
    Foreign,
}

fn size(parts: &[Range<usize>]) -> usize {
    parts.iter().map(ExactSizeIterator::len).sum()
}

fn fixed(available: usize, start: usize, length: usize) -> Body {
    let end = start.saturating_add(length);
    match end.checked_sub(available) {
        None | Some(0) => {
            let whole = start..end;
            Body::Whole(vec![whole], end)
        }
        Some(missing) => {
            let known = length;
            Body::Part { missing, known }
        }
    }
}

fn chunked(bytes: &[u8], start: usize) -> Body {
    let (mut parts, mut at) = (Vec::new(), start);
    while parts.len() < MANY {
        let known = size(&parts);
        let (head, length) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete((head, length))) => (head, length),
            Ok(httparse::Status::Partial) => return Body::Part { missing: 1, known },
            Err(_) => return Body::Foreign,
        };
        let Ok(length) = usize::try_from(length) else {
            return Body::Foreign;
        };
        let part = at + head..(at + head).saturating_add(length);
        let end = part.end.saturating_add(2);
        if let Some(missing @ 1..) = end.checked_sub(bytes.len()) {
            let known = known.saturating_add(length);
            return Body::Part { missing, known };
        }
        // Behind the last chunk, that may be a trailer.
        if bytes[part.end..end] != *b"\r\n" {
            return Body::Foreign;
        }
        if part.is_empty() {
            return Body::Whole(parts, end);
        }
        parts.push(part);
        at = end;
    }
    Body::Foreign
}

/// Takes a request off `bytes`, and returns its body.
fn take(bytes: &mut BytesMut, parts: &[Range<usize>], end: usize) -> Bytes {
    match parts {
        [part] if part.len() > SMALL => bytes.split_to(end).freeze().slice(part.clone()),
        [part] => {
            let body = Bytes::copy_from_slice(&bytes[part.clone()]);
            bytes.advance(end);
            body
        }
        parts => {
            let body: Vec<&[u8]> = parts.iter().map(|part| &bytes[part.clone()]).collect();
            let body = body.concat().into();
            bytes.advance(end);
            body
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /master/test.Hello HTTP/1.1\r\nLibprocess-From: a@1.2.3.4:5\r\n";

    fn cut(bytes: &str) -> Cut {
        Cutter::new(1024, 1024).cut(&mut bytes.into(), |_| true)
    }

    /// How much each try says is missing, while the bytes come in pieces of `step`.
    fn in_pieces(whole: &str, step: usize) -> (Request, BytesMut) {
        let mut cutter = Cutter::new(1024, 1024);
        let mut bytes = BytesMut::new();
        for piece in whole.as_bytes().chunks(step) {
            let before = bytes.len();
            bytes.extend_from_slice(piece);
            match cutter.cut(&mut bytes, |_| true) {
                Cut::Message(request) => return (request, bytes),
                Cut::Part { missing, .. } => {
                    assert!(before + missing <= whole.len(), "{missing} after {before}");
                }
                Cut::Foreign => panic!("foreign after {before} bytes"),
            }
        }
        panic!("nothing came of {whole:?}")
    }

    #[test]
    fn messages_come_whole_however_their_bytes_come() {
        let bodies = [
            ("\r\n", ""),
            ("Content-Length: 5\r\n\r\nhello", "hello"),
            (
                "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "hello",
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
                "hello",
            ),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ""),
            ("Connection: Keep-Alive\r\nHost: x\r\n\r\n", ""),
        ];
        for (rest, body) in bodies {
            let whole = format!("{HEAD}{rest}");
            for step in 1..=whole.len() {
                let (request, left) = in_pieces(&whole, step);
                assert_eq!(request.actor, "master");
                assert_eq!(request.message.name, "test.Hello");
                assert_eq!(request.message.from.to_string(), "a@1.2.3.4:5");
                assert_eq!(request.message.body, body);
                assert!(left.is_empty());
            }
        }
    }

    #[test]
    fn messages_are_cut_one_after_the_other() {
        let mut bytes = BytesMut::new();
        let from: Upid = "slave(1)@1.2.3.4:5".parse().unwrap();
        let mut renderer = message::Renderer::new("1.2.3.4:6".parse().unwrap());
        let large = "x".repeat(SMALL + 1);
        for body in ["", "small", &large] {
            let message = Message {
                from: from.clone(),
                name: "test.A".to_owned(),
                body: body.to_owned().into(),
            };
            renderer.render(&mut bytes, "master", &message);
        }
        let mut cutter = Cutter::new(1024, 1 << 20);
        for body in ["", "small", &large] {
            let Cut::Message(request) = cutter.cut(&mut bytes, |_| true) else {
                panic!("no message")
            };
            assert!(request.reads_no_answers);
            assert_eq!(request.message.from, from);
            assert_eq!(request.message.body, body);
        }
        assert!(bytes.is_empty());
        let (body, missing) = (false, 1);
        assert_eq!(
            cutter.cut(&mut bytes, |_| true),
            Cut::Part { body, missing }
        );
    }

    #[test]
    fn what_is_no_message_or_unusual_is_left_alone() {
        let long = "x".repeat(1025);
        let many = "1\r\nx\r\n".repeat(MANY + 1);
        for bytes in [
            "GET /state HTTP/1.1\r\n\r\n",
            "G",
            "PRI * HTTP/2.0\r\n\r\n",
            "POST /state HTTP/1.1\r\n\r\n",
            "POST /master/test.Hello HTTP/1.1\r\n\r\n",
            "POST /master/test.Hello HTTP/1.0\r\nLibprocess-From: a@1.2.3.4:5\r\n\r\n",
            "POST /master/test.Hello HTTP/1.1\r\nLibprocess-From: nobody\r\n\r\n",
            &format!("{HEAD}Connection: close\r\n\r\n"),
            &format!("{HEAD}Origin: null\r\nContent-Length: 2\r\n\r\nhi"),
            &format!("{HEAD}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
            &format!("{HEAD}Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"),
            &format!("{HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi"),
            &format!("{HEAD}Content-Length: 1025\r\n\r\n"),
            &format!("{HEAD}Content-Length: -1\r\n\r\n"),
            &format!("{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            &format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n401\r\n"),
            &format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
            &format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n"),
            &format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\nhixx0\r\n\r\n"),
            &format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{many}0\r\n\r\n"),
            &format!("{HEAD}X: {long}"),
        ] {
            assert_eq!(cut(bytes), Cut::Foreign, "{bytes:?}");
        }
    }
}

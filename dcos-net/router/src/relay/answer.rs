//! What somebody behind the router answers: its head, and how its body is framed (RFC 9112 sections 6.3, 9.3); pure.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use super::buffer::Buffer;
use super::chunks::Chunks;

/// Headers of an answer at most, as of hyper's client.
pub(crate) const MOST: usize = 100;
/// What `Connection` may name beside what is known: nobody names more than a few.
const MOST_NAMED: usize = 32;

/// Room for the headers of an answer.
pub(crate) type Room<'b> = [MaybeUninit<Header<'b>>; MOST];

/// Room in which nothing is.
pub(crate) const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; MOST]
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a [Header<'a>],
    pub(crate) body: Body,
    /// What its `Content-Length` says.
    pub(crate) announced: Option<u64>,
    /// Whether the connection takes another request afterwards.
    pub(crate) keeps: bool,
    /// What `Connection` names beside `close` and `keep-alive`: whether there is anything.
    pub(crate) names_others: bool,
    /// Bytes of it.
    pub(crate) length: usize,
}

/// What some bytes are.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    /// The beginning of a head.
    Partial,
    /// So many bytes that only say that the answer is still to come.
    Interim(usize),
    Head(Head<'a>),
}

/// An answer that is none: why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// Looks at bytes that answer a request; `bare` answers are without a body, whatever they say (HEAD).
pub(crate) fn listen<'a>(
    bytes: &'a [u8],
    room: &'a mut Room<'a>,
    bare: bool,
) -> Result<Heard<'a>, Broken> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        room,
    );
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(Heard::Partial),
        Err(_) => return Err(Broken("it is not HTTP")),
    };
    let status = response.code.unwrap_or_default();
    match status {
        101 => return Err(Broken("nobody asked for another protocol")),
        100..=199 => return Ok(Heard::Interim(length)),
        0..=99 => return Err(Broken("its status is none")),
        _ => {}
    }
    let headers: &'a [Header<'a>] = response.headers;
    let old = response.version != Some(1);
    let said = Said::by(headers.iter().map(|header| (header.name, header.value)))?;
    let (mut keeps, announced) = (said.keeps(old) && !said.is_ambiguous(), said.length);
    let body = match (said.coding, announced) {
        _ if bare || status == 204 || status == 304 => {
            // Who announces a body may send it by mistake, and late: it would answer the next request.
            keeps &= !said.announces_body();
            Body::Length(0)
        }
        (Some(_), _) if old => return Err(Broken("HTTP/1.0 knows no transfer coding")),
        (Some(Coding::Chunked), _) => Body::Chunked(Chunks::new()),
        (None, Some(length)) => Body::Length(length),
        (Some(Coding::Identity) | None, _) => {
            keeps = false;
            Body::UntilEnd
        }
    };
    Ok(Heard::Head(Head {
        status,
        headers,
        body,
        // The coding counts (RFC 9112 section 6.3).
        announced: announced.filter(|_| said.coding.is_none()),
        keeps,
        names_others: said.others > 0,
        length,
    }))
}

/// Codings of bodies on their way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Coding {
    Chunked,
    Identity,
}

/// What headers say of the connection and of the body.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) coding: Option<Coding>,
    pub(crate) length: Option<u64>,
    close: bool,
    keep_alive: bool,
    /// Names of others.
    others: usize,
}

impl Said {
    pub(crate) fn by<'h>(
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Self, Broken> {
        let mut said = Self::default();
        for (name, value) in headers {
            match name.len() {
                10 if name.eq_ignore_ascii_case("connection") => {
                    for word in words(value) {
                        if word.eq_ignore_ascii_case(b"close") {
                            said.close = true;
                        } else if word.eq_ignore_ascii_case(b"keep-alive") {
                            said.keep_alive = true;
                        } else if !word.is_empty() {
                            said.others += 1;
                        }
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    for word in words(value) {
                        let length = number(word).ok_or(Broken("its length is none"))?;
                        if said
                            .length
                            .replace(length)
                            .is_some_and(|other| other != length)
                        {
                            return Err(Broken("it has two lengths"));
                        }
                    }
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    let coding = if value.eq_ignore_ascii_case(b"chunked") {
                        Coding::Chunked
                    } else if value.eq_ignore_ascii_case(b"identity") {
                        Coding::Identity
                    } else {
                        return Err(Broken("its transfer coding is not just chunked"));
                    };
                    if said.coding.replace(coding).is_some() {
                        return Err(Broken("it has two transfer codings"));
                    }
                }
                _ => {}
            }
        }
        if said.others > MOST_NAMED {
            return Err(Broken("it names too many headers of this connection"));
        }
        Ok(said)
    }

    /// Whether it may be read in two ways: nobody else's request goes where that came from.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.coding.is_some() && self.length.is_some()
    }

    /// Whether a body follows, if there may be one at all.
    pub(crate) fn announces_body(&self) -> bool {
        self.coding.is_some() || self.length.unwrap_or(0) > 0
    }

    fn keeps(&self, old: bool) -> bool {
        !self.close && (!old || self.keep_alive)
    }
}

/// The words of a list.
pub(crate) fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// A number that is nothing but digits.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The body of an answer, as much of it as is still to come.
#[derive(Debug)]
pub(crate) enum Body {
    Length(u64),
    Chunked(Chunks),
    /// Until the connection ends.
    UntilEnd,
}

impl Body {
    /// Whether nothing is to come.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.has_ended(),
            Self::UntilEnd => false,
        }
    }

    /// Whether what came is none: nothing is to come, and the end is missing.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self, Self::Chunked(chunks) if chunks.is_broken())
    }

    /// How many bytes of data stand at the begin of `buffer`. They are the next ones; what follows them there is nothing
    /// any more, or behind the body: of that it is told whether there is any.
    pub(crate) fn take(&mut self, buffer: &mut Buffer) -> (usize, bool) {
        let here = buffer.bytes().len();
        match self {
            Self::Length(left) => {
                let data = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= data as u64;
                (data, data < here)
            }
            Self::Chunked(chunks) => {
                let found = chunks.unwrap(buffer.bytes_mut());
                (found.data, found.seen < here)
            }
            Self::UntilEnd => (here, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(head: &str, bare: bool) -> String {
        let mut room = room();
        match listen(head.as_bytes(), &mut room, bare) {
            Err(Broken(why)) => why.to_owned(),
            Ok(Heard::Partial) => "partial".to_owned(),
            Ok(Heard::Interim(length)) => format!("{length} bytes of no matter"),
            Ok(Heard::Head(head)) => {
                let body = match head.body {
                    Body::Length(length) => format!("{length}"),
                    Body::Chunked(_) => "chunks".to_owned(),
                    Body::UntilEnd => "the rest".to_owned(),
                };
                let keeps = if head.keeps { "keeps" } else { "closes" };
                format!("{} with {body}, {keeps}", head.status)
            }
        }
    }

    #[test]
    fn bodies_are_framed_as_their_heads_say() {
        for (head, expected) in [
            ("200 OK\r\nContent-Length: 5\r\n", "200 with 5, keeps"),
            ("200 OK\r\nContent-Length: 5, 5\r\n", "200 with 5, keeps"),
            (
                "200 OK\r\nConnection: x, Close\r\nContent-Length: 5\r\n",
                "200 with 5, closes",
            ),
            (
                "200 OK\r\nTransfer-Encoding: Chunked\r\n",
                "200 with chunks, keeps",
            ),
            (
                "200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "200 with chunks, closes",
            ),
            (
                "200 OK\r\nTransfer-Encoding: identity\r\n",
                "200 with the rest, closes",
            ),
            ("200\r\n", "200 with the rest, closes"),
            (
                "204 No Content\r\nContent-Length: 5\r\n",
                "204 with 0, closes",
            ),
            (
                "304 Not Modified\r\nTransfer-Encoding: chunked\r\n",
                "304 with 0, closes",
            ),
            ("100 Continue\r\n", "25 bytes of no matter"),
            (
                "101 Switching Protocols\r\n",
                "nobody asked for another protocol",
            ),
            (
                "200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
                "it has two lengths",
            ),
            ("200 OK\r\nContent-Length: +5\r\n", "its length is none"),
            (
                "200 OK\r\nContent-Length: 99999999999999999999\r\n",
                "its length is none",
            ),
            (
                "200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
                "its transfer coding is not just chunked",
            ),
            ("200 OK\r\nA: b\r\n c\r\n", "it is not HTTP"),
        ] {
            assert_eq!(
                told(&format!("HTTP/1.1 {head}\r\n"), false),
                expected,
                "{head:?}"
            );
        }
        let old = |rest: &str| told(&format!("HTTP/1.0 200 OK\r\n{rest}\r\n"), false);
        assert_eq!(old("Content-Length: 5\r\n"), "200 with 5, closes");
        assert_eq!(
            old("Content-Length: 5\r\nConnection: keep-alive\r\n"),
            "200 with 5, keeps"
        );
        assert_eq!(
            old("Transfer-Encoding: chunked\r\n"),
            "HTTP/1.0 knows no transfer coding"
        );
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(told(long, true), "200 with 0, closes");
        for bare in [
            "204 No Content\r\n",
            "304 Not Modified\r\nContent-Length: 0\r\n",
        ] {
            let said = told(&format!("HTTP/1.1 {bare}\r\n"), false);
            assert!(said.ends_with("with 0, keeps"), "{bare:?}: {said}");
        }
        assert_eq!(told(&long[..long.len() - 1], true), "partial");
        assert_eq!(told("SMTP ready\r\n", false), "it is not HTTP");
    }
}

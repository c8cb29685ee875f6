//! Heads as they are sent on: the rules of [`crate::headers`] for plain messages, without a map of headers; pure.

use http::header;
use http::{HeaderMap, Method, StatusCode};
use httparse::Header;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::answer::{Body, Head, words};
use super::asked::Name;
use crate::decide::{Forward, Redirects};
use crate::headers::{self, is_ambiguous, without_own_cookies};
use crate::location::relocate;
use crate::world::Scheme;

/// Whom a request comes from, as headers tell those behind the router.
pub(crate) struct From<'a> {
    /// The bytes its headers are in; none if they are elsewhere.
    pub(crate) bytes: &'a [u8],
    /// Its address, if it has one.
    pub(crate) address: Option<&'a str>,
    pub(crate) scheme: Scheme,
}

/// Writes the head that somebody behind the router gets. `headers` are those of a plain request.
pub(crate) fn onward<'h>(
    out: &mut Vec<u8>,
    method: &Method,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    from: &From<'_>,
    forward: &Forward,
) {
    out.clear();
    for part in [method.as_str(), " ", &forward.path, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut lines = Lines::of(from.bytes);
    let mut hops: &[u8] = &[];
    for (name, value) in headers {
        let kind = Name::of(name);
        let passes = match kind {
            Name::Host => true,
            Name::Other => !is_ambiguous(name),
            Name::Authorization => !forward.ways.anonymous,
            Name::AcceptEncoding => !forward.unpacked,
            Name::ForwardedFor => from.address.is_none(),
            _ => false,
        };
        match kind {
            _ if passes => lines.pass(out, name, value),
            Name::Cookie => {
                let kept = without_own_cookies(&String::from_utf8_lossy(value));
                match kept.as_deref() {
                    None => lines.pass(out, name, value),
                    Some("") => {}
                    Some(kept) => {
                        lines.flush(out);
                        line(out, name, kept.as_bytes());
                    }
                }
            }
            Name::ForwardedFor => hops = value,
            _ => {}
        }
    }
    lines.flush(out);
    if let Some(address) = from.address {
        out.extend_from_slice(b"X-Forwarded-For: ");
        if !hops.is_empty() {
            out.extend_from_slice(hops);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(address.as_bytes());
        out.extend_from_slice(b"\r\nX-Real-IP: ");
        out.extend_from_slice(address.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    line(out, "X-Forwarded-Proto", from.scheme.as_str().as_bytes());
    if forward.marked {
        line(out, headers::FORWARDED.as_str(), b"true");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head, found in `bytes`, of an answer that the client gets, which asked `host`; behind it the connection
/// `closes` or not.
pub(crate) fn back(
    out: &mut Vec<u8>,
    bytes: &[u8],
    head: &Head<'_>,
    forward: &Forward,
    host: &str,
    closes: bool,
) {
    out.clear();
    status(out, head.status);
    let mut dated = false;
    let mut lines = Lines::of(bytes);
    // The first location counts: where it leads elsewhere for the client, others are not told.
    let (mut placed, mut moved) = (false, None);
    let named = if head.names_others {
        named(head.headers)
    } else {
        Vec::new()
    };
    let is_named = |name: &str| {
        let mut named = named.iter();
        named.any(|word| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    for Header { name, value } in head.headers {
        match Back::of(name) {
            Back::Length | Back::Hop => {}
            _ if is_named(name) => {}
            Back::Order if !forward.ways.accel => {}
            Back::Freshness if forward.ways.uncached => {}
            Back::Location if moved.is_some() => {}
            Back::Location if !placed && forward.redirects != Redirects::Kept => {
                placed = true;
                let text = std::str::from_utf8(value).ok();
                moved = text.and_then(|text| relocate(text, &forward.redirects, host));
                lines.flush(out);
                line(out, name, moved.as_deref().map_or(value, str::as_bytes));
            }
            kind => {
                dated |= kind == Back::Date;
                lines.pass(out, name, value);
            }
        }
    }
    lines.flush(out);
    if forward.ways.uncached {
        line(out, "Cache-Control", headers::NEVER_KEPT.as_bytes());
        line(out, "Pragma", b"no-cache");
        line(out, "Expires", b"0");
    }
    frame(out, head);
    end(out, dated, closes);
}

/// Writes the head of an answer of the router itself, whose body has `size` bytes.
pub(crate) fn whole(out: &mut Vec<u8>, code: u16, headers: &HeaderMap, size: usize, closes: bool) {
    out.clear();
    status(out, code);
    for (name, value) in headers {
        match *name {
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION => {}
            _ => line(out, name.as_str(), value.as_bytes()),
        }
    }
    length(out, size as u64);
    end(out, headers.contains_key(header::DATE), closes);
}

/// Writes data as the next piece of a body in chunks: what stands before and behind it.
pub(crate) fn around(out: &mut Vec<u8>, data: usize, last: bool) -> &'static [u8] {
    if data > 0 {
        hexadecimal(out, data);
        out.extend_from_slice(b"\r\n");
    }
    match (data > 0, last) {
        (true, false) => b"\r\n",
        (true, true) => b"\r\n0\r\n\r\n",
        (false, true) => b"0\r\n\r\n",
        (false, false) => b"",
    }
}

/// How the client is told where the body ends.
fn frame(out: &mut Vec<u8>, head: &Head<'_>) {
    match (&head.body, head.announced) {
        _ if head.status == 204 || head.status == 304 => {}
        // Of a body that is not sent only its length is told.
        (Body::Length(0), Some(announced)) => length(out, announced),
        (Body::Length(0), None) => {}
        (Body::Length(known), _) => length(out, *known),
        (Body::Chunked(_) | Body::UntilEnd, _) => line(out, "Transfer-Encoding", b"chunked"),
    }
}

fn end(out: &mut Vec<u8>, dated: bool, closes: bool) {
    if !dated {
        // A proxy with a clock says when an answer without a date came (RFC 9110 section 6.6.1).
        let now = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
        line(out, "Date", now.unwrap_or_default().as_bytes());
    }
    if closes {
        line(out, "Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

fn status(out: &mut Vec<u8>, code: u16) {
    if code == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, code.into());
    // The words of those behind are not passed on: hyper, which does the rest, does not either.
    let reason = StatusCode::from_u16(code).ok();
    let reason = reason.and_then(|code| code.canonical_reason());
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or("<none>").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Lines that pass as they are: those that stand together are copied together.
struct Lines<'a> {
    /// Where they stand.
    bytes: &'a [u8],
    /// Those that are to be copied.
    begin: usize,
    end: usize,
}

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let (begin, end) = (0, 0);
        Self { bytes, begin, end }
    }

    /// Passes a header on, which may be written in a form of its own: then it is written anew.
    fn pass(&mut self, out: &mut Vec<u8>, name: &str, value: &[u8]) {
        let length = name.len() + value.len() + 4;
        let begin = name
            .as_ptr()
            .addr()
            .wrapping_sub(self.bytes.as_ptr().addr());
        let found = self.bytes.get(begin..begin.wrapping_add(length));
        let as_written = found.is_some_and(|found| {
            let behind = &found[name.len()..];
            behind.starts_with(b": ")
                && behind[2..].as_ptr() == value.as_ptr()
                && behind.ends_with(b"\r\n")
        });
        if !as_written || begin != self.end {
            self.flush(out);
            (self.begin, self.end) = (begin, begin);
        }
        if as_written {
            self.end += length;
        } else {
            line(out, name, value);
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes.get(self.begin..self.end).unwrap_or_default());
        self.begin = self.end;
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn hexadecimal(out: &mut Vec<u8>, number: usize) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        let digit = (number >> (4 * digit)) & 0xf;
        out.push(b"0123456789abcdef"[digit]);
    }
}

/// The headers that `Connection` names, which are few. What frames and places an answer can't be named away.
fn named<'h>(headers: &[Header<'h>]) -> Vec<&'h [u8]> {
    let kept: [&[u8]; 3] = [b"", b"host", b"authorization"];
    let connections = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("connection"));
    let named = connections.flat_map(|header| words(header.value));
    named
        .filter(|word| !kept.iter().any(|kept| word.eq_ignore_ascii_case(kept)))
        .collect()
}

/// Headers of answers that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    Other,
    Hop,
    Length,
    Date,
    Location,
    /// What says for how long it may be kept.
    Freshness,
    /// What orders the router to do something.
    Order,
}

impl Back {
    fn of(name: &str) -> Self {
        let named: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Hop)],
            4 => &[("date", Self::Date)],
            6 => &[("pragma", Self::Freshness)],
            7 => &[
                ("expires", Self::Freshness),
                ("trailer", Self::Hop),
                ("upgrade", Self::Hop),
            ],
            8 => &[("location", Self::Location)],
            10 => &[("connection", Self::Hop), ("keep-alive", Self::Hop)],
            13 => &[("cache-control", Self::Freshness)],
            14 => &[("content-length", Self::Length)],
            15 => &[("x-accel-expires", Self::Order)],
            16 => &[
                ("x-accel-redirect", Self::Order),
                ("proxy-connection", Self::Hop),
            ],
            17 => &[
                ("transfer-encoding", Self::Hop),
                ("x-accel-buffering", Self::Order),
            ],
            18 => &[
                ("x-accel-limit-rate", Self::Order),
                ("proxy-authenticate", Self::Hop),
            ],
            19 => &[("proxy-authorization", Self::Hop)],
            _ => &[],
        };
        let found = named
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or(Self::Other, |(_, kind)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written() {
        for number in [0, 7, 10, 65_535, usize::MAX] {
            let (mut tens, mut sixteens) = (Vec::new(), Vec::new());
            decimal(&mut tens, number as u64);
            hexadecimal(&mut sixteens, number.max(1));
            assert_eq!(tens, number.to_string().into_bytes());
            assert_eq!(sixteens, format!("{:x}", number.max(1)).into_bytes());
        }
    }

    #[test]
    fn lines_pass_alike_wherever_they_stand() {
        let text = "A: 1\r\nB:2\r\nC: 3\r\nD: 4 \r\nE: 5\nF: 6\r\nG: 7\r\nH: \r\n\r\n";
        let mut headers = [httparse::EMPTY_HEADER; 8];
        httparse::parse_headers(text.as_bytes(), &mut headers).unwrap();
        // Each of them passes or does not, by the bits of a number.
        for kept in 0..256 {
            let (mut out, mut plain) = (Vec::new(), Vec::new());
            let mut lines = Lines::of(text.as_bytes());
            for (at, Header { name, value }) in headers.iter().enumerate() {
                if kept >> at & 1 == 1 {
                    lines.pass(&mut out, name, value);
                    line(&mut plain, name, value);
                }
            }
            lines.flush(&mut out);
            assert_eq!(
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(&plain)
            );
        }
    }

    #[test]
    fn chunks_are_framed_anew() {
        for (data, last, expected) in [
            ("hello", false, "5\r\nhello\r\n"),
            ("hello", true, "5\r\nhello\r\n0\r\n\r\n"),
            ("", true, "0\r\n\r\n"),
            ("", false, ""),
        ] {
            let mut out = Vec::new();
            let behind = around(&mut out, data.len(), last);
            out.extend_from_slice(data.as_bytes());
            out.extend_from_slice(behind);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}

//! What a client asks, if it is unmistakably plain; pure.
//!
//! Plain is a GET or HEAD without a body, of HTTP/1.1, with lines that end in CR LF, a path of ordinary characters and one
//! `Host`, and without any header that could frame a message, change the protocol, or say such things of others. All else
//! is for hyper and the rules around it, which see the same bytes.

use std::mem::MaybeUninit;

use http::Method;
use httparse::{Header, Status};

/// Headers of a plain request at most.
pub(crate) const MOST: usize = 64;

/// Room for the headers of a request.
pub(crate) type Room<'b> = [MaybeUninit<Header<'b>>; MOST];

/// Room in which nothing is.
pub(crate) const fn room<'b>() -> Room<'b> {
    [const { MaybeUninit::uninit() }; MOST]
}

/// A plain request.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: Method,
    /// As it was sent: path and query.
    pub(crate) target: &'a str,
    pub(crate) host: &'a [u8],
    /// Whether the client wants the connection to end.
    pub(crate) closes: bool,
    /// Whether another router sent it here.
    pub(crate) forwarded: bool,
    pub(crate) headers: &'a [Header<'a>],
    /// The head.
    pub(crate) bytes: &'a [u8],
}

/// What some bytes are.
#[derive(Debug)]
pub(crate) enum Looked<'a> {
    /// The beginning of what may be a plain request.
    Partial,
    /// Something else.
    Unfit,
    /// A plain request, and perhaps more behind it.
    Plain(Asked<'a>),
}

/// So many routers and proxies have passed a plain request on at most.
const MOST_HOPS: usize = 8;

/// Looks at bytes.
pub(crate) fn look<'a>(bytes: &'a [u8], room: &'a mut Room<'a>) -> Looked<'a> {
    let begins = |word: &[u8]| bytes.iter().zip(word).all(|(one, other)| one == other);
    if !begins(b"GET ") && !begins(b"HEAD ") {
        return Looked::Unfit;
    }
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Looked::Partial,
        Err(_) => return Looked::Unfit,
    };
    let method = match request.method {
        Some("GET") => Method::GET,
        Some("HEAD") => Method::HEAD,
        _ => return Looked::Unfit,
    };
    let target = request.path.unwrap_or_default();
    if request.version != Some(1) || !is_plain_target(target) || !ends_in_crlf(&bytes[..length]) {
        return Looked::Unfit;
    }
    let headers: &'a [Header<'a>] = request.headers;
    let Some((host, closes, forwarded)) = sift(headers) else {
        return Looked::Unfit;
    };
    Looked::Plain(Asked {
        method,
        target,
        host,
        closes,
        forwarded,
        headers,
        bytes: &bytes[..length],
    })
}

/// Host, whether the connection ends, and whether another router sent it; `None` if that is not plain.
fn sift<'a>(headers: &[Header<'a>]) -> Option<(&'a [u8], bool, bool)> {
    let (mut host, mut connection, mut forwarded) = (None, None, None);
    let (mut hops, mut cookies) = (None, None);
    for header in headers {
        let value = header.value;
        match Name::of(header.name) {
            Name::Unfit => return None,
            Name::Host => once(&mut host, value)?,
            Name::Connection => once(&mut connection, connection_of(value)?)?,
            Name::Forwarded => once(&mut forwarded, value == b"true")?,
            Name::ForwardedFor => once(&mut hops, value)?,
            Name::Cookie => once(&mut cookies, value)?,
            _ => {}
        }
    }
    let hops = hops.unwrap_or_default();
    let few = hops.split(|byte| *byte == b',').count() <= MOST_HOPS;
    let plain = few && is_visible(hops) && cookies.is_none_or(is_visible);
    plain.then_some((
        host?,
        connection.unwrap_or(false),
        forwarded.unwrap_or(false),
    ))
}

/// Takes what may be there once.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// Whether a connection ends, by a `Connection` that says just that or the contrary.
fn connection_of(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"keep-alive") {
        Some(false)
    } else if value.eq_ignore_ascii_case(b"close") {
        Some(true)
    } else {
        None
    }
}

/// Headers that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// It passes.
    Other,
    /// It makes a request unfit.
    Unfit,
    /// It is of one connection only.
    Hop,
    Connection,
    Host,
    Cookie,
    Authorization,
    AcceptEncoding,
    ForwardedFor,
    ForwardedProto,
    RealIp,
    Forwarded,
}

impl Name {
    pub(crate) fn of(name: &str) -> Self {
        let named: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Hop)],
            4 => &[("host", Self::Host)],
            6 => &[("cookie", Self::Cookie), ("expect", Self::Unfit)],
            7 => &[("upgrade", Self::Unfit), ("trailer", Self::Hop)],
            9 => &[("x-real-ip", Self::RealIp)],
            10 => &[("connection", Self::Connection), ("keep-alive", Self::Hop)],
            13 => &[("authorization", Self::Authorization)],
            14 => &[
                ("content-length", Self::Unfit),
                ("dcos-forwarded", Self::Forwarded),
            ],
            15 => &[
                ("accept-encoding", Self::AcceptEncoding),
                ("x-forwarded-for", Self::ForwardedFor),
            ],
            16 => &[("proxy-connection", Self::Hop)],
            17 => &[
                ("transfer-encoding", Self::Unfit),
                ("x-forwarded-proto", Self::ForwardedProto),
            ],
            18 => &[("proxy-authenticate", Self::Hop)],
            19 => &[("proxy-authorization", Self::Hop)],
            _ => &[],
        };
        let found = named
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or(Self::Other, |(_, name)| *name)
    }
}

/// Characters that mean the same in a path or query to everybody, so that nobody need parse it again.
static ORDINARY: [bool; 256] = {
    let mut table = [false; 256];
    let known =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/%?[]";
    let mut at = 0;
    while at < known.len() {
        table[known[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether a path, with its query, is of ordinary characters.
pub(crate) fn is_plain_target(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(|byte| ORDINARY[usize::from(byte)])
}

/// Whether text holds what can be seen only.
fn is_visible(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Whether each line ends as it must: the parser would take a bare LF.
fn ends_in_crlf(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().all(|byte| {
        let right = *byte != b'\n' || before == b'\r';
        before = *byte;
        right
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8]) -> String {
        match look(bytes, &mut room()) {
            Looked::Partial => "partial".to_owned(),
            Looked::Unfit => "unfit".to_owned(),
            Looked::Plain(asked) => format!(
                "{} {} of {}, {} headers, {} bytes{}",
                asked.method,
                asked.target,
                String::from_utf8_lossy(asked.host),
                asked.headers.len(),
                asked.bytes.len(),
                if asked.closes { ", closes" } else { "" }
            ),
        }
    }

    #[test]
    fn plain_requests_are_taken() {
        for (bytes, expected) in [
            (
                "GET /a?b=%20 HTTP/1.1\r\nHost: h:1\r\n\r\nGET",
                "GET /a?b=%20 of h:1, 1 headers, 36 bytes",
            ),
            (
                "HEAD / HTTP/1.1\r\nhOST: h\r\nX: 1\r\nConnection: Close\r\n\r\n",
                "HEAD / of h, 3 headers, 53 bytes, closes",
            ),
            ("GET / HTTP/1.1\r\nHost: h\r\n\r", "partial"),
            ("GE", "partial"),
        ] {
            assert_eq!(told(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn all_else_is_left_to_others() {
        for line in [
            "POST / HTTP/1.1",
            "GET / HTTP/1.0",
            "GET http://h/ HTTP/1.1",
            "GET * HTTP/1.1",
        ]
        .into_iter()
        .chain([
            "PRI * HTTP/2.0",
            "GET /a#b HTTP/1.1",
            "GET /\"a HTTP/1.1",
            "\r\nGET / HTTP/1.1",
        ])
        .chain([
            "GET  / HTTP/1.1",
            "GETTER / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET /\u{e4} HTTP/1.1",
        ]) {
            let request = format!("{line}\r\nHost: h\r\n\r\n");
            assert_eq!(told(request.as_bytes()), "unfit", "{line:?}");
        }
        let hops = "X-Forwarded-For: 1, 2, 3, 4, 5, 6, 7, 8, 9";
        for lines in [
            "Content-Length: 0",
            "transfer-encoding: chunked",
            "Expect: 100-continue",
            "Upgrade: h2c",
        ]
        .into_iter()
        .chain([
            "Host: h",
            "Connection: x-hop",
            "Connection: close, te",
            "Connection: close\r\nConnection: close",
        ])
        .chain([
            "Cookie: a=b\r\nCookie: c=d",
            "Cookie: \u{e4}",
            "X: 1\nY: 2",
            "X: 1\r\n folded",
            "X : 1",
        ])
        .chain([
            "X-Forwarded-For: a\r\nX-Forwarded-For: b",
            hops,
            "Dcos-Forwarded: a\r\nDcos-Forwarded: a",
        ]) {
            let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n");
            assert_eq!(told(request.as_bytes()), "unfit", "{lines:?}");
        }
        assert_eq!(told(b"GET / HTTP/1.1\r\n\r\n"), "unfit", "no host");
        assert_eq!(
            told(b"GET / HTTP/1.1\r\nHost: h\r\n\n"),
            "unfit",
            "a bare LF"
        );
    }
}

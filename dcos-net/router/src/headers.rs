//! Headers on their way: what is refused, what stays behind, what is added.
//!
//! Source: RFC 9110 sections 7.2, 7.6; RFC 9112 sections 3.2, 6.1, 6.3; dcos/dcos 2.2 `proxy-headers.conf`,
//! `lib/util.lua` (`clear_dcos_cookies`).

use std::borrow::Cow;
use std::net::IpAddr;

use dcos_wire::Origins;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT,
    EXPIRES, HOST, HeaderName, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::decide::Forward;
use crate::world::Scheme;

/// A request that is not passed on: status and why.
pub type Refused = (StatusCode, Cow<'static, str>);

/// Whether a header speaks of one connection only.
fn is_of_a_hop(name: &HeaderName) -> bool {
    // Those the library knows are numbers to it.
    match *name {
        PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRAILER | TRANSFER_ENCODING | UPGRADE => {
            true
        }
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
    }
}

const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Which says that a router sent the request already.
pub const FORWARDED: HeaderName = HeaderName::from_static("dcos-forwarded");

/// What somebody behind the router may tell it to do.
const ORDERS: [&str; 4] = [
    "x-accel-buffering",
    "x-accel-redirect",
    "x-accel-expires",
    "x-accel-limit-rate",
];

/// What is said of answers that nobody may keep.
pub(crate) const NEVER_KEPT: &str = "no-cache, no-store, must-revalidate";

/// The cookies of the router itself: nobody behind it may see them.
const OWN_COOKIES: [&str; 2] = ["dcos-acs-auth-cookie", "dcos-acs-info-cookie"];

/// So many proxies have seen a request at most; it runs in circles otherwise.
const MOST_HOPS: usize = 30;

/// The host a request is for; an error if it is one that two servers could read in two ways, or one that asks for a change, or a
/// WebSocket, and is of a web page from neither here nor `origins`.
///
/// hyper has refused already what can't be read at all: broken chunks, lengths that differ, folded lines, a transfer
/// coding that does not end in `chunked`.
///
/// # Errors
/// Status and why.
pub fn check(parts: &Parts, origins: &Origins) -> Result<Authority, Refused> {
    let bad = |why: &'static str| Err((StatusCode::BAD_REQUEST, why.into()));
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        let why = "CONNECT and TRACE are not served here";
        return Err((StatusCode::METHOD_NOT_ALLOWED, why.into()));
    }
    let headers = &parts.headers;
    if headers.contains_key(TRANSFER_ENCODING) {
        if headers.contains_key(CONTENT_LENGTH) {
            return bad("both Content-Length and Transfer-Encoding");
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !codings.next().is_some_and(chunked) || codings.next().is_some() {
            return Err((
                StatusCode::NOT_IMPLEMENTED,
                "a transfer coding that is not just chunked".into(),
            ));
        }
    }
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return bad("more than one Content-Length");
    }
    let hops = headers.get_all(FORWARDED_FOR).iter();
    let hops = hops.map(|value| value.as_bytes().split(|byte| *byte == b',').count());
    if hops.sum::<usize>() > MOST_HOPS {
        return Err((
            StatusCode::LOOP_DETECTED,
            "the request was forwarded too often".into(),
        ));
    }
    if let Some(foreign) = origins.foreign(&parts.method, &parts.uri, headers) {
        return Err((StatusCode::FORBIDDEN, foreign.why(Origins::OPTION).into()));
    }
    host(parts).map_err(|why| (StatusCode::BAD_REQUEST, why.into()))
}

fn host(parts: &Parts) -> Result<Authority, &'static str> {
    let mut named = parts.headers.get_all(HOST).iter();
    let first = named.next();
    if named.next().is_some() {
        return Err("more than one Host");
    }
    let authority = match (parts.uri.authority(), first) {
        // It goes before the header (RFC 9112 section 3.2.2), and HTTP/2 has nothing else.
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => return self::authority(host.as_bytes()),
        (None, None) if parts.version == Version::HTTP_10 => Authority::from_static("localhost"),
        (None, None) => return Err("no Host"),
    };
    usable(authority)
}

/// The host that a header names.
pub(crate) fn authority(host: &[u8]) -> Result<Authority, &'static str> {
    usable(Authority::try_from(host).map_err(|_| "a bad Host")?)
}

fn usable(authority: Authority) -> Result<Authority, &'static str> {
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err("a bad Host");
    }
    Ok(authority)
}

/// What the client wants the connection to become, such as `websocket`, if it asks for that in a way that is passed on.
pub fn upgrade(parts: &Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 {
        return None;
    }
    let wanted =
        listed(&parts.headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade"));
    let protocol = parts.headers.get(UPGRADE).filter(|_| wanted)?;
    let name = protocol.to_str().ok()?;
    // HTTP inside of HTTP would be read past every rule here.
    let http = ["h2c", "h2", "http", "tls"];
    let name = name.split('/').next().unwrap_or_default().trim();
    let plain = !name.is_empty() && !name.contains(',');
    (plain && !http.iter().any(|http| name.eq_ignore_ascii_case(http))).then(|| protocol.clone())
}

/// The words of a header that is a list.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether those behind the router may take a name for another one: to many (CGI, WSGI) `X_Real_IP` is `X-Real-IP`, of which
/// only the router may say what it is. nginx, and so the original, forgets such headers, too.
pub(crate) fn is_ambiguous(name: &str) -> bool {
    name.contains('_')
}

/// Removes what speaks of one connection only, as it says itself and as everybody knows; and what is `unwanted` beside.
fn end_to_end(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = listed(headers, &CONNECTION)
            // Which goes anyway, and is what most say.
            .filter(|word| !word.eq_ignore_ascii_case("keep-alive"))
            .filter_map(|word| word.parse().ok())
            // A client can't have us forget what we say ourselves, or whom the request is for.
            .filter(|name: &HeaderName| {
                *name != HOST && *name != CONTENT_LENGTH && *name != AUTHORIZATION
            })
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    // One look at each: most requests have none of them.
    let found = headers
        .keys()
        .filter(|name| is_of_a_hop(name) || unwanted(name));
    let found: Vec<HeaderName> = found.cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Makes a client's headers those that somebody behind the router gets.
pub fn onward(
    headers: &mut HeaderMap,
    host: &Authority,
    client: Option<IpAddr>,
    scheme: Scheme,
    forward: &Forward,
) {
    end_to_end(headers, |name| {
        *name == EXPECT
            || is_ambiguous(name.as_str())
            || (*name == FORWARDED && !forward.marked)
            || (*name == AUTHORIZATION && forward.ways.anonymous)
            || (*name == ACCEPT_ENCODING && forward.unpacked)
    });
    if headers.get(HOST).is_none_or(|named| named != host.as_str())
        && let Ok(host) = HeaderValue::from_str(host.as_str())
    {
        headers.insert(HOST, host);
    }
    if let Some(client) = client.and_then(shown) {
        let mut hops = String::new();
        for value in headers.get_all(FORWARDED_FOR) {
            if let Ok(value) = value.to_str()
                && !value.is_empty()
            {
                hops.push_str(value);
                hops.push_str(", ");
            }
        }
        let hops = if hops.is_empty() {
            Ok(client.clone())
        } else {
            hops.push_str(client.to_str().unwrap_or_default());
            HeaderValue::try_from(hops)
        };
        if let Ok(hops) = hops {
            headers.insert(FORWARDED_FOR, hops);
        }
        headers.insert(REAL_IP, client);
    } else {
        headers.remove(REAL_IP);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    if forward.marked {
        headers.insert(FORWARDED, HeaderValue::from_static("true"));
    }
    forget_cookies(headers);
}

/// An address as a header has it. Written by hand: the library's way takes 1300 instructions.
fn shown(ip: IpAddr) -> Option<HeaderValue> {
    let IpAddr::V4(ip) = ip else {
        return HeaderValue::try_from(ip.to_string()).ok();
    };
    let mut text = Vec::with_capacity(15);
    for octet in ip.octets() {
        if !text.is_empty() {
            text.push(b'.');
        }
        if octet > 99 {
            text.push(b'0' + octet / 100);
        }
        if octet > 9 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
    HeaderValue::from_bytes(&text).ok()
}

/// Removes the router's own cookies; the others become one header.
fn forget_cookies(headers: &mut HeaderMap) {
    let mut values = headers.get_all(COOKIE).iter();
    let Some(first) = values.next() else {
        return;
    };
    let mut text = String::from_utf8_lossy(first.as_bytes()).into_owned();
    let mut several = false;
    // HTTP/2 may have them in pieces, HTTP/1 may not (RFC 9113 section 8.2.3).
    for value in values {
        several = true;
        text.push(';');
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    let kept = match without_own_cookies(&text) {
        Some(kept) => kept,
        None if several => pairs(&text, |_| true),
        None => return,
    };
    headers.remove(COOKIE);
    if let Ok(kept) = HeaderValue::try_from(kept)
        && !kept.is_empty()
    {
        headers.insert(COOKIE, kept);
    }
}

/// What is left of cookies without the router's own; `None` if there is none of those among them.
pub(crate) fn without_own_cookies(cookies: &str) -> Option<String> {
    let is_own = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default().trim();
        OWN_COOKIES.contains(&name)
    };
    cookies
        .split(';')
        .any(is_own)
        .then(|| pairs(cookies, |pair| !is_own(pair)))
}

fn pairs(cookies: &str, is_kept: impl Fn(&str) -> bool) -> String {
    let pairs = cookies.split(';').filter(|pair| is_kept(pair));
    let pairs: Vec<&str> = pairs
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .collect();
    pairs.join("; ")
}

/// Makes an answer's headers those that the client gets.
pub fn back(headers: &mut HeaderMap, forward: &Forward) {
    // Orders to the router, of which it takes none.
    end_to_end(headers, |name| {
        !forward.ways.accel && ORDERS.contains(&name.as_str())
    });
    if forward.ways.uncached {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(NEVER_KEPT));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        headers.insert(EXPIRES, HeaderValue::from_static("0"));
    }
}

#[cfg(test)]
mod tests;

//! `/cache/master/…`: many browsers that ask the same of the master cost it one answer in five seconds.
//!
//! Source: `location /cache/master/` of dcos/dcos 2.2, nginx `proxy_cache`: answers of 200 are kept, one request asks
//! while the others wait, a `Cache-Control` in the request goes around it, and `X-Cache-Status` says what happened.
//! There one answer was for all; here each set of credentials has its own (RFC 9111 3.5).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

/// How long an answer is kept.
const FRESH: Duration = Duration::from_secs(5);
/// Answers kept; further ones are asked for each time.
const MOST: usize = 64;
/// The largest answer that is kept.
pub(crate) const LARGEST: usize = 64 << 20;

/// An answer that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    until: Instant,
}

impl Kept {
    pub(crate) fn new(headers: HeaderMap, body: Bytes) -> Self {
        let until = Instant::now() + FRESH;
        Self {
            headers,
            body,
            until,
        }
    }

    /// The answer, and how it came about.
    pub(crate) fn answer(self, status: &'static str) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.headers_mut() = self.headers;
        mark(&mut response, status);
        response
    }
}

/// Says how an answer came about.
pub(crate) fn mark(response: &mut Response, status: &'static str) {
    let status = HeaderValue::from_static(status);
    response.headers_mut().insert("x-cache-status", status);
}

/// Whether an answer may be kept for others.
pub(crate) fn is_keepable(response: &Response) -> bool {
    let control = response.headers().get(http::header::CACHE_CONTROL);
    let control = control
        .and_then(|control| control.to_str().ok())
        .unwrap_or_default();
    let private = ["no-store", "private", "no-cache"]
        .iter()
        .any(|word| control.contains(word));
    let cookies = response.headers().contains_key(http::header::SET_COOKIE);
    response.status() == StatusCode::OK && !private && !cookies
}

type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// What an answer depends on: two requests that agree in it get the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Path and query there.
    path: String,
    /// Whether the client takes it packed.
    packed: bool,
    /// Who asks, by the words the master is told: it shows to each what they may see.
    credentials: Vec<HeaderValue>,
}

impl Key {
    /// That of a request for `path` with these headers.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let words = |name| headers.get_all(name).iter().cloned();
        // An empty value between the two: what is a cookie is no credential.
        let between = std::iter::once(HeaderValue::from_static(""));
        let credentials = words(AUTHORIZATION).chain(between).chain(words(COOKIE));
        Self {
            path: path.to_owned(),
            packed: dcos_wire::accepts_gzip(headers),
            credentials: credentials.collect(),
        }
    }
}

/// Answers that are kept.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<BTreeMap<Key, Slot>>);

impl Cache {
    /// The place of an answer; who holds its lock asks for all. `None` if there are too many.
    pub(crate) fn slot(&self, key: Key) -> Option<Slot> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST {
            slots.retain(|_, slot| {
                slot.try_lock()
                    .map_or(true, |kept| kept.as_ref().is_some_and(is_fresh))
            });
        }
        if slots.len() >= MOST {
            return None;
        }
        Some(Arc::clone(slots.entry(key).or_default()))
    }
}

/// Whether an answer is not too old.
pub(crate) fn is_fresh(kept: &Kept) -> bool {
    Instant::now() < kept.until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shared_and_limited() {
        let cache = Cache::default();
        let key = |path: &str, packed: bool| {
            let mut headers = HeaderMap::new();
            if packed {
                headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
            }
            Key::of(path, &headers)
        };
        let slot = |path: &str, packed| cache.slot(key(path, packed));
        let first = slot("/a", true).unwrap();
        assert!(Arc::ptr_eq(&first, &slot("/a", true).unwrap()));
        assert!(!Arc::ptr_eq(&first, &slot("/a", false).unwrap()));
        let fresh = || Some(Kept::new(HeaderMap::new(), Bytes::new()));
        for index in 0..MOST - 2 {
            *slot(&index.to_string(), true).unwrap().try_lock().unwrap() = fresh();
        }
        *first.try_lock().unwrap() = fresh();
        *slot("/a", false).unwrap_or_default().try_lock().unwrap() = fresh();
        let held: Vec<_> = (0..4)
            .filter_map(|index| slot(&format!("/{index}"), true))
            .collect();
        assert!(
            held.len() < 4,
            "a cache full of fresh answers takes no more"
        );
    }
}

//! `/cache/master/…`: many browsers that ask the same of the master cost it one answer in five seconds.
//!
//! Source: `location /cache/master/` of dcos/dcos 2.2, nginx `proxy_cache`: answers of 200 are kept, one request asks
//! while the others wait, a `Cache-Control` in the request goes around it, and `X-Cache-Status` says what happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
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

/// Answers that are kept, by path and whether they are packed.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<BTreeMap<(String, bool), Slot>>);

impl Cache {
    /// The place of an answer; who holds its lock asks for all. `None` if there are too many.
    pub(crate) fn slot(&self, path: &str, packed: bool) -> Option<Slot> {
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
        Some(Arc::clone(
            slots.entry((path.to_owned(), packed)).or_default(),
        ))
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
        let first = cache.slot("/a", true).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.slot("/a", true).unwrap()));
        assert!(!Arc::ptr_eq(&first, &cache.slot("/a", false).unwrap()));
        let fresh = || Some(Kept::new(HeaderMap::new(), Bytes::new()));
        for index in 0..MOST - 2 {
            *cache
                .slot(&index.to_string(), true)
                .unwrap()
                .try_lock()
                .unwrap() = fresh();
        }
        *first.try_lock().unwrap() = fresh();
        *cache
            .slot("/a", false)
            .unwrap_or_default()
            .try_lock()
            .unwrap() = fresh();
        let held: Vec<_> = (0..4)
            .filter_map(|index| cache.slot(&format!("/{index}"), true))
            .collect();
        assert!(
            held.len() < 4,
            "a cache full of fresh answers takes no more"
        );
    }
}

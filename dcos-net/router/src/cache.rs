//! `/cache/master/…`: many browsers that ask the same of the master cost it one answer in five seconds.
//!
//! Source: `location /cache/master/` of dcos/dcos 2.2, nginx `proxy_cache`: answers of 200 are kept, one request asks
//! while the others wait, a `Cache-Control` in the request goes around it, and `X-Cache-Status` says what happened.
//! There one answer was for all; here each set of credentials has its own (RFC 9111 3.5). The master reads no cookie, and
//! is sent none here: people who show no other credentials see the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;

/// How long an answer is kept.
const FRESH: Duration = Duration::from_secs(5);
/// Answers kept; further ones are asked for each time.
const MOST: usize = 64;
/// Memory of all answers that are kept, gathered, or still being sent after that: the router shares the master's process.
/// What finds no room is passed on as it comes.
const ROOM: usize = 128 << 20;
/// How long one who asks waits for another's answer before asking without keeping it (nginx `proxy_cache_lock_timeout`).
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

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

/// Bytes that may still be held.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<AtomicUsize>);

impl Default for Room {
    fn default() -> Self {
        Self::of(ROOM)
    }
}

impl Room {
    fn of(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }
}

/// Bytes that are held; their room is free again when the last who has them lets go.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    room: Room,
    taken: usize,
}

impl Held {
    fn new(room: &Room) -> Self {
        Self {
            bytes: Vec::new(),
            room: room.clone(),
            taken: 0,
        }
    }

    /// Adds a piece if there is room.
    fn take(&mut self, piece: &[u8]) -> bool {
        let length = self.bytes.len() + piece.len();
        // By steps, since each may move all that is there.
        let step = length.max(self.taken + self.taken / 4);
        let fits = length <= self.taken || self.grow(step) || self.grow(length);
        if fits {
            self.bytes.extend_from_slice(piece);
        }
        fits
    }

    /// Makes room for so many bytes in all, if there is.
    fn grow(&mut self, bytes: usize) -> bool {
        // While it moves there are two of it.
        let left = |left: usize| left.checked_sub(bytes);
        let order = Ordering::Relaxed;
        if self.room.0.fetch_update(order, order, left).is_err() {
            return false;
        }
        self.bytes.reserve_exact(bytes - self.bytes.len());
        let before = std::mem::replace(&mut self.taken, bytes);
        self.room.0.fetch_add(before, order);
        true
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.fetch_add(self.taken, Ordering::Relaxed);
    }
}

/// A body as far as it could be gathered.
pub(crate) enum Gathered {
    /// All of it.
    Whole(Bytes),
    /// There was no room for all of it: what was read, and what comes.
    Streamed(Body),
    /// It broke off.
    Broken,
}

/// Reads a body to its end while there is room.
pub(crate) async fn gather(mut body: Body, room: &Room) -> Gathered {
    let mut held = Held::new(room);
    let announced = body.size_hint().exact();
    if let Some(length) = announced.filter(|length| *length > 0) {
        let fits = usize::try_from(length).is_ok_and(|length| held.grow(length));
        if !fits {
            return Gathered::Streamed(body);
        }
    }
    loop {
        let piece = match body.frame().await {
            None => return Gathered::Whole(Bytes::from_owner(held)),
            Some(Err(_)) => return Gathered::Broken,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => piece,
                // Trailers are of this connection only.
                Err(_) => continue,
            },
        };
        if !held.take(&piece) {
            let begun = stream::iter([Ok(Bytes::from_owner(held)), Ok(piece)]);
            return Gathered::Streamed(Body::from_stream(begun.chain(body.into_data_stream())));
        }
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

/// The place of an answer.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) kept: Option<Kept>,
    /// Whether there was an answer before.
    pub(crate) stale: bool,
}

impl Place {
    /// Keeps an answer, until [`Cache::sweep`] finds it too old.
    pub(crate) fn keep(&mut self, answer: Kept) {
        self.kept = Some(answer);
        self.stale = true;
    }
}

pub(crate) type Slot = Arc<tokio::sync::Mutex<Place>>;

/// What an answer depends on: two requests that agree in it get the same one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Path and query there.
    path: String,
    /// Whether the client takes it packed.
    packed: bool,
    /// Who asks, by the words the master is told: it shows to each what they may see.
    credentials: Vec<HeaderValue>,
    /// The page that asks: the answer says whether it may read it.
    origins: Vec<HeaderValue>,
}

impl Key {
    /// That of a request for `path` with these headers.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let all = |name| headers.get_all(name).iter().cloned().collect();
        Self {
            path: path.to_owned(),
            packed: dcos_wire::accepts_gzip(headers),
            credentials: all(AUTHORIZATION),
            origins: all(ORIGIN),
        }
    }
}

/// Answers that are kept.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    slots: Mutex<BTreeMap<Key, Slot>>,
    pub(crate) room: Room,
}

impl Cache {
    /// The place of an answer; who holds its lock asks for all. `None` if there are too many.
    pub(crate) fn slot(&self, key: Key) -> Option<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST {
            slots.retain(|_, slot| {
                slot.try_lock()
                    .map_or(true, |place| place.kept.as_ref().is_some_and(is_fresh))
            });
        }
        if slots.len() >= MOST {
            return None;
        }
        Some(Arc::clone(slots.entry(key).or_default()))
    }

    /// Lets go of what is too old, whether anybody asks again or not.
    pub(crate) fn sweep(&self) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.values() {
            // Whoever has it asks for a new one, and holds none.
            if let Ok(mut place) = slot.try_lock() {
                place.kept.take_if(|kept| !is_fresh(kept));
            }
        }
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
        let keep = |slot: &Slot| slot.try_lock().unwrap().kept = fresh();
        for index in 0..MOST - 2 {
            keep(&slot(&index.to_string(), true).unwrap());
        }
        keep(&first);
        keep(&slot("/a", false).unwrap_or_default());
        let held: Vec<_> = (0..4)
            .filter_map(|index| slot(&format!("/{index}"), true))
            .collect();
        assert!(
            held.len() < 4,
            "a cache full of fresh answers takes no more"
        );
    }

    #[test]
    fn each_origin_has_its_own_answer() {
        let key = |origin: &'static str| {
            let origin = (ORIGIN, HeaderValue::from_static(origin));
            Key::of("/state", &HeaderMap::from_iter([origin]))
        };
        assert_eq!(key("https://a.example"), key("https://a.example"));
        assert_ne!(key("https://a.example"), key("https://b.example"));
        assert_ne!(
            key("https://a.example"),
            Key::of("/state", &HeaderMap::new())
        );
    }

    #[tokio::test]
    async fn what_finds_no_room_streams_and_room_comes_back() {
        let room = Room::of(20);
        let left = || room.0.load(Ordering::Relaxed);
        let body = |pieces: &[&'static str]| {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|piece| Ok::<_, axum::Error>(*piece))
                .collect();
            Body::from_stream(stream::iter(pieces))
        };
        let Gathered::Whole(first) = gather(body(&["abc", "def"]), &room).await else {
            panic!("there was room");
        };
        assert_eq!((&first[..], left()), (&b"abcdef"[..], 14));
        let copy = first.clone();
        drop(first);
        assert_eq!(left(), 14, "a client still reads it");

        let Gathered::Streamed(rest) = gather(body(&["12", "34", "5678", "9"]), &room).await else {
            panic!("there was no room");
        };
        // What is there, and as much again for it to move, would not fit.
        assert_eq!(left(), 6);
        let whole = rest.collect().await.unwrap().to_bytes();
        assert_eq!((&whole[..], left()), (&b"123456789"[..], 14));
        // One that says that it is too large is not gathered at all.
        let large = gather(Body::from("123456789012345"), &room).await;
        assert!(matches!(large, Gathered::Streamed(_)));
        drop(copy);
        assert_eq!(left(), 20);
    }

    #[tokio::test]
    async fn nothing_outlives_its_time() {
        let cache = Cache::default();
        let slot = cache.slot(Key::of("/", &HeaderMap::new())).unwrap();
        let room = Room::of(10);
        let Gathered::Whole(body) = gather(Body::from("abc"), &room).await else {
            panic!("there was room");
        };
        let mut answer = Kept::new(HeaderMap::new(), body);
        answer.until = Instant::now();
        slot.lock().await.keep(answer);
        assert_eq!(room.0.load(Ordering::Relaxed), 7);
        cache.sweep();
        assert_eq!(room.0.load(Ordering::Relaxed), 10);
        assert!(slot.lock().await.stale);
    }
}

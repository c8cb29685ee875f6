//! One request, from its head to the end of its answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use dcos_wire::{Origins, Peer, PeerAddress};
use futures::future::BoxFuture;
use http::header::USER_AGENT;
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode};
use tokio::sync::watch;
use tower::Service;

use crate::auth::Authenticate;
use crate::body::{AtEnd, Passing, counted};
use crate::cache::{
    Cache, Gathered, Kept, Key, LOCK_PATIENCE, gather, is_fresh, is_keepable, mark,
};
use crate::counters::Counters;
use crate::decide::{Asked, Decision, Forward, Permission, Records, Rules, Step, Target};
use crate::headers::{FORWARDED, check};
use crate::journal::{Journal, Line};
use crate::own::{About, document, redirect, text};
use crate::path::normalize;
use crate::proxy::{Origin, Proxy};
use crate::records::Asker;
use crate::world::{Scheme, World};

/// Everything a request may need.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) rules: Rules,
    pub(crate) world: watch::Receiver<Arc<World>>,
    pub(crate) proxy: Proxy,
    pub(crate) asker: Asker,
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    pub(crate) about: About,
    pub(crate) cache: Cache,
    pub(crate) counters: Counters,
    pub(crate) journal: Option<Journal>,
    /// How long a request waits for what is not known yet.
    pub(crate) patience: Duration,
}

/// What serves a listener.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) house: Arc<House>,
    /// How clients speak to this listener.
    pub(crate) scheme: Scheme,
    /// The port clients are sent to, since they should speak TLS.
    pub(crate) elsewhere: Option<u16>,
}

impl Service<Request<Body>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

impl Door {
    async fn answer(self, request: Request<Body>) -> Result<Response, Infallible> {
        let begun = Instant::now();
        let passing = Passing::new(begun);
        let mut note = self.house.journal.is_some().then(|| Note::of(&request));
        let mut tag = "Own";
        let response = self.serve(request, &passing, &mut tag, &mut note).await;
        let done = Done {
            house: Arc::clone(&self.house),
            tag,
            note,
            begun,
            until_head: begun.elapsed(),
            status: response.status().as_u16(),
        };
        let end = Ending { done, passing };
        Ok(response.map(|body| counted(body, end)))
    }

    async fn serve(
        &self,
        mut request: Request<Body>,
        passing: &Arc<Passing>,
        tag: &mut &'static str,
        note: &mut Option<Note>,
    ) -> Response {
        let peer = request.extensions_mut().remove::<Peer>();
        let Some(peer) = peer else {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "500 Internal Server Error",
            );
        };
        let (mut parts, body) = request.into_parts();
        let host = match check(&parts, &self.house.rules.origins) {
            Ok(host) => host,
            Err((status, why)) => return refuse(status, &why),
        };
        if let Some(port) = self.elsewhere {
            return to_tls(&host, port, &parts.uri);
        }
        let uri = parts.uri.clone();
        let path = match normalize(uri.path()) {
            Ok(path) => path,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, &why.to_string()),
        };
        let origin = Origin {
            host: &host,
            peer: &peer,
            scheme: self.scheme,
        };
        let method = parts.method.clone();
        let asking = Asking {
            path: &path,
            query: uri.query(),
            method: &method,
            forwarded: parts
                .headers
                .get(FORWARDED)
                .is_some_and(|value| value == "true"),
        };
        let decision = match self.decide(&asking) {
            Some(decision) => decision,
            // Of its own, as all below that is seldom: every request is as large as what it may become.
            None => match Box::pin(self.find_out(&asking, &mut parts.headers, &peer)).await {
                Ok(decision) => decision,
                Err(response) => return response,
            },
        };
        *tag = decision.tag;
        let house = &self.house;
        if house.authenticate.is_some() {
            let admitting = self.admit(&mut parts.headers, &peer, &decision.permission);
            if let Some(refused) = Box::pin(admitting).await {
                return refused;
            }
        }
        match decision.step {
            Step::Answer(status, words) => text(code(status), &words),
            Step::Document(status, media, body) => document(code(status), media, body),
            Step::Unknown(words) => text(StatusCode::SERVICE_UNAVAILABLE, words),
            Step::Redirect(status, to) => redirect(code(status), &to),
            Step::Own(own) => {
                let about = &house.about;
                let (headers, counters) = (&parts.headers, &house.counters);
                Box::pin(about.answer(own, &path, &method, headers, counters)).await
            }
            Step::Cached(forward) => {
                // The master would ask, but not where the answer is kept.
                let origins = &house.rules.origins;
                if let Some(foreign) = origins.refused(&method, &parts.uri, &parts.headers) {
                    return text(StatusCode::FORBIDDEN, &foreign.why(Origins::OPTION));
                }
                // What is kept is a whole answer; of that only the head is shown to whoever asks for no more.
                parts.method = http::Method::GET;
                let request = Request::from_parts(parts, body);
                let answer = Box::pin(self.cached(request, &forward, &origin, passing)).await;
                if method == http::Method::HEAD {
                    return head_of(answer);
                }
                answer
            }
            Step::Forward(forward) => {
                if let Some(note) = note {
                    note.upstream = shown(&forward.to);
                }
                let request = Request::from_parts(parts, body);
                house
                    .proxy
                    .forward(request, &forward, &origin, passing)
                    .await
            }
            // Each has been asked.
            Step::LookUp(_) => text(StatusCode::SERVICE_UNAVAILABLE, "503 Service Unavailable"),
        }
    }

    /// What becomes of the request, if that is known.
    pub(crate) fn decide(&self, asking: &Asking<'_>) -> Option<Decision> {
        let house = &self.house;
        let asked = asking.asked(&NO_RECORDS);
        let decision = house.rules.decide(asked, &house.world.borrow());
        let is_known = !matches!(decision.step, Step::LookUp(_) | Step::Unknown(_));
        is_known.then_some(decision)
    }

    /// What becomes of the request; waits for what is about to be known, and asks for records.
    async fn find_out(
        &self,
        asking: &Asking<'_>,
        headers: &mut HeaderMap,
        peer: &Peer,
    ) -> Result<Decision, Response> {
        let house = &self.house;
        let mut world = None;
        let mut records = BTreeMap::new();
        let mut admitted = false;
        let deadline = tokio::time::Instant::now() + house.patience;
        loop {
            let now = match &mut world {
                None => Arc::clone(&house.world.borrow()),
                Some(world) => Arc::clone(&watch::Receiver::borrow_and_update(world)),
            };
            let decision = house.rules.decide(asking.asked(&records), &now);
            if !matches!(decision.step, Step::LookUp(_) | Step::Unknown(_)) {
                return Ok(decision);
            }
            // Nobody makes the router wait or ask who may not ask at all.
            if !admitted && let Some(refused) = self.admit(headers, peer, &Permission::User).await {
                return Err(refused);
            }
            admitted = true;
            if let Step::LookUp(name) = decision.step {
                let found = Box::pin(house.asker.ask(&name)).await;
                records.insert(name, found);
                continue;
            }
            match &mut world {
                // What is known may have changed between the two looks: look again before waiting.
                None => world = Some(house.world.clone()),
                Some(world) => {
                    if !matches!(
                        tokio::time::timeout_at(deadline, world.changed()).await,
                        Ok(Ok(()))
                    ) {
                        return Ok(decision);
                    }
                }
            }
        }
    }

    /// The answer for who may not ask.
    async fn admit(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        permission: &Permission,
    ) -> Option<Response> {
        let authenticate = self.house.authenticate.as_ref()?;
        if *permission == Permission::Open {
            return None;
        }
        authenticate.admit(headers, peer, permission).await.err()
    }

    async fn cached(
        &self,
        mut request: Request<Body>,
        forward: &Forward,
        origin: &Origin<'_>,
        passing: &Arc<Passing>,
    ) -> Response {
        request.headers_mut().remove(http::header::COOKIE);
        let house = &self.house;
        let around = request.headers().contains_key(http::header::CACHE_CONTROL);
        let slot = if around {
            None
        } else {
            let key = Key::of(&forward.path, request.headers());
            house.cache.slot(key)
        };
        let Some(slot) = slot else {
            let mut answer = house.proxy.forward(request, forward, origin, passing).await;
            mark(&mut answer, "BYPASS");
            return answer;
        };
        let waiting = tokio::time::timeout(LOCK_PATIENCE, slot.lock()).await;
        let Ok(mut place) = waiting else {
            let mut answer = house.proxy.forward(request, forward, origin, passing).await;
            mark(&mut answer, "MISS");
            return answer;
        };
        if let Some(fresh) = place.kept.as_ref().filter(|kept| is_fresh(kept)) {
            return fresh.clone().answer("HIT");
        }
        place.kept = None;
        let status = if place.stale { "EXPIRED" } else { "MISS" };
        let mut answer = house.proxy.forward(request, forward, origin, passing).await;
        if !is_keepable(&answer) {
            mark(&mut answer, status);
            return answer;
        }
        let (parts, body) = answer.into_parts();
        match gather(body, &house.cache.room).await {
            Gathered::Whole(whole) => {
                let answer = Kept::new(parts.headers, whole);
                place.keep(answer.clone());
                answer.answer(status)
            }
            Gathered::Streamed(body) => {
                let mut answer = Response::from_parts(parts, body);
                mark(&mut answer, status);
                answer
            }
            Gathered::Broken => text(StatusCode::BAD_GATEWAY, "502 Bad Gateway"),
        }
    }
}

/// What a request asks for.
pub(crate) struct Asking<'a> {
    /// Normalised.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) method: &'a http::Method,
    /// Whether another router sent it here.
    pub(crate) forwarded: bool,
}

static NO_RECORDS: BTreeMap<String, Records> = BTreeMap::new();

impl<'a> Asking<'a> {
    fn asked(&self, records: &'a BTreeMap<String, Records>) -> Asked<'a> {
        Asked {
            method: self.method,
            path: self.path,
            query: self.query,
            forwarded: self.forwarded,
            records,
        }
    }
}

/// What a whole answer says before its body.
fn head_of(answer: Response) -> Response {
    let length = http_body::Body::size_hint(answer.body()).exact();
    let mut head = answer.map(|_| Body::empty());
    if let Some(length) = length {
        let headers = head.headers_mut();
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    head
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The request can't be trusted, so neither can what follows it on its connection.
fn refuse(status: StatusCode, why: &str) -> Response {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut response = text(status, &format!("{} {reason}: {why}", status.as_u16()));
    let close = http::HeaderValue::from_static("close");
    response
        .headers_mut()
        .insert(http::header::CONNECTION, close);
    response
}

/// The same place, with TLS.
fn to_tls(host: &Authority, port: u16, uri: &http::Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let name = host.host();
    let to = match port {
        443 => format!("https://{name}{path}"),
        _ => format!("https://{name}:{port}{path}"),
    };
    redirect(StatusCode::TEMPORARY_REDIRECT, &to)
}

/// Whom a request is sent to, as the log has it.
pub(crate) fn shown(to: &Target) -> String {
    match to {
        Target::Member(base) | Target::Service(base) => base.authority.to_string(),
        Target::Socket(part) => part.name().to_owned(),
    }
}

/// What the log tells of a request.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) client: Option<std::net::SocketAddr>,
    pub(crate) host: String,
    pub(crate) request: String,
    pub(crate) agent: String,
    pub(crate) upstream: String,
}

impl Note {
    fn of(request: &Request<Body>) -> Self {
        let header = |name| {
            let value = request.headers().get(name);
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let peer = request.extensions().get::<Peer>().map(|peer| peer.address);
        let (method, uri, version) = (request.method(), request.uri(), request.version());
        Self {
            client: match peer {
                Some(PeerAddress::Tcp(address)) => Some(address),
                _ => None,
            },
            host: uri
                .authority()
                .map(|authority| authority.as_str().to_owned())
                .or_else(|| header(http::header::HOST))
                .unwrap_or_default(),
            request: format!("{method} {uri} {version:?}"),
            agent: header(USER_AGENT).unwrap_or_default(),
            upstream: "-".to_owned(),
        }
    }
}

/// What is told of a request when its answer has ended.
pub(crate) struct Done {
    pub(crate) house: Arc<House>,
    pub(crate) tag: &'static str,
    pub(crate) note: Option<Note>,
    pub(crate) begun: Instant,
    pub(crate) until_head: Duration,
    pub(crate) status: u16,
}

impl Done {
    /// Counts it, with so many bytes of its body and of its answer's, and writes it down.
    pub(crate) fn tell(&mut self, received: u64, sent: u64) {
        let (house, whole) = (&self.house, self.begun.elapsed());
        house
            .counters
            .count(self.tag, self.status, (received, sent), whole);
        if let (Some(journal), Some(note)) = (&house.journal, self.note.take()) {
            journal.write(Line {
                client: note.client,
                host: note.host,
                request: note.request,
                agent: note.agent,
                tag: self.tag,
                upstream: note.upstream,
                status: self.status,
                received,
                sent,
                until_head: self.until_head,
                whole,
            });
        }
    }
}

/// What is done when an answer has ended.
struct Ending {
    done: Done,
    passing: Arc<Passing>,
}

impl AtEnd for Ending {
    fn ended(&mut self, sent: u64) {
        self.done.tell(self.passing.bytes(), sent);
    }
}

//! [`Plan`]: what becomes of a plain request; decided by the rules of the [`Door`], without waiting for anybody.

use std::time::Duration;

use dcos_wire::Peer;
use http::Method;
use http::uri::Authority;
use tokio::time::Instant;

use super::asked::{self, Asked, Looked, is_plain_target};
use super::inbox::Inbox;
use super::write;
use crate::decide::{Forward, Permission, Step};
use crate::door::{Asking, Door, Note, shown};
use crate::headers::authority;
use crate::path::normalize;

/// Who asks.
pub(super) struct Caller {
    pub(super) peer: Peer,
    /// Its address as headers have it.
    pub(super) address: Option<String>,
    /// Whom it asked last, which mostly is whom it asks next.
    pub(super) host: Option<Authority>,
}

/// A request that is sent on.
pub(super) struct Plan {
    pub(super) method: Method,
    pub(super) forward: Forward,
    /// Whom to ask before.
    pub(super) permission: Option<Permission>,
    pub(super) tag: &'static str,
    pub(super) note: Option<Note>,
    pub(super) begun: Instant,
    /// Whether the client wants the connection to end.
    pub(super) closes: bool,
    /// Bytes of its head.
    pub(super) length: usize,
    /// Whether the client is told anything.
    pub(super) answered: bool,
}

/// What becomes of what a client said.
pub(super) enum Planned {
    /// There must be more of it.
    Wait,
    /// It is not for here.
    Unfit,
    Send(Box<Plan>),
}

impl Plan {
    /// How long others may take for what is theirs to do.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.forward.ways.patience.into())
    }
}

impl Caller {
    /// Looks at what the client said. If it is sent on without asking anybody, its head is written to `onward`.
    pub(super) fn plan(
        &mut self,
        inbox: &mut Inbox,
        door: &Door,
        onward: &mut Vec<u8>,
        now: Instant,
    ) -> Planned {
        let mut room = asked::room();
        let asked = match inbox.look(&mut room) {
            Looked::Partial => return Planned::Wait,
            Looked::Unfit => return Planned::Unfit,
            Looked::Plain(asked) => asked,
        };
        let known = self.host.as_ref().map(Authority::as_str);
        if known.is_none_or(|known| known.as_bytes() != asked.host) {
            match authority(asked.host) {
                Ok(host) => self.host = Some(host),
                Err(_) => return Planned::Unfit,
            }
        }
        let (path, query) = match asked.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (asked.target, None),
        };
        let Ok(path) = normalize(path) else {
            return Planned::Unfit;
        };
        let asking = Asking {
            path: &path,
            query,
            method: &asked.method,
            forwarded: asked.forwarded,
        };
        let Some(decision) = door.decide(&asking) else {
            return Planned::Unfit;
        };
        let forward = match decision.step {
            // What frameworks say of themselves is part of the path.
            Step::Forward(forward) if is_plain_target(&forward.path) => forward,
            _ => return Planned::Unfit,
        };
        let house = &door.house;
        let open = house.authenticate.is_none() || decision.permission == Permission::Open;
        if open {
            let headers = asked.headers.iter();
            let headers = headers.map(|header| (header.name, header.value));
            let from = write::From {
                bytes: asked.bytes,
                address: self.address.as_deref(),
                scheme: door.scheme,
            };
            write::onward(onward, &asked.method, headers, &from, &forward);
        }
        let note = house.journal.is_some().then(|| Note {
            upstream: shown(&forward.to),
            ..note(&asked, &self.peer)
        });
        Planned::Send(Box::new(Plan {
            method: asked.method,
            forward,
            permission: (!open).then_some(decision.permission),
            tag: decision.tag,
            note,
            begun: now,
            closes: asked.closes,
            length: asked.bytes.len(),
            answered: false,
        }))
    }
}

/// What the log tells of a request.
fn note(asked: &Asked<'_>, peer: &Peer) -> Note {
    let shown = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut headers = asked.headers.iter();
    let agent = headers.find(|header| header.name.eq_ignore_ascii_case("user-agent"));
    Note {
        client: peer.socket_address(),
        host: shown(asked.host),
        request: format!("{} {} HTTP/1.1", asked.method, asked.target),
        agent: agent.map(|header| shown(header.value)).unwrap_or_default(),
        upstream: "-".to_owned(),
    }
}

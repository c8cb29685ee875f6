//! [`Exchange`]: one request that is sent on, and its answer on the way back, between reading and writing; pure.

use std::io;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::answer::{self, Body, Broken, Heard, listen};
use super::buffer::{Buffer, ROOM};
use super::plan::Plan;
use super::write;
use crate::upstream::{MOST_INTERIM, ONLY_PROMISES, SendError};

/// The largest head of an answer in bytes: as of hyper's client, all but.
const HEAD: usize = 512 << 10;
/// Data of an answer up to so many bytes is copied behind what stands before it: that costs less than a second piece.
const SMALL: usize = 4 << 10;
/// Who closes a used connection within this time has not begun with the request that went out on it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A request and its answer.
///
/// The request's head is written to `onward`, and [`begin`](Self::begin) called for each connection that it goes out on.
/// Until there is a piece that is the last one, whoever has the connection sends there what is [`unsent`](Self::unsent), and
/// reads into `answer`. Each time that something [`came`](Self::came), or the connection [`ended`](Self::ended), there may
/// be [`pieces`](Self::pieces) for the client; once they are sent they are [`passed`](Self::passed).
#[derive(Default)]
pub(super) struct Exchange {
    pub(super) onward: Vec<u8>,
    /// So much of that was sent.
    sent: usize,
    /// What somebody behind the router said.
    pub(super) answer: Buffer,
    /// How much of that was looked at and is no whole head.
    seen: usize,
    /// Whether the answer has no body, whatever it says (HEAD).
    bare: bool,
    /// Until when a used connection that ends without a word has not begun with the request.
    untouched: Option<Instant>,
    /// When the head of the answer must have come, until it has.
    pub(super) deadline: Option<Instant>,
    /// Heads that only said that the answer is still to come.
    interim: usize,
    /// What follows the head of the answer, once that has come.
    passing: Option<Passing>,
    /// The way back: an answer's head, what frames its body, and data if that is short.
    pub(super) back: Vec<u8>,
    /// Bytes of the answer that stand behind that, ...
    data: usize,
    /// ... and what stands behind those.
    behind: &'static [u8],
}

struct Passing {
    status: u16,
    body: Body,
    /// Whether the connection takes another request afterwards.
    keeps: bool,
    closes: bool,
}

/// There are pieces for the client: so many bytes of the answer's body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) status: u16,
    pub(super) data: usize,
    pub(super) rest: Rest,
}

/// What follows a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// More of the answer.
    More,
    /// Nothing: that was all of it. Whether the connection takes another request, and whether the client's ends.
    Done { keeps: bool, closes: bool },
    /// It breaks off there, for the client as well.
    Cut,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// The client has gone.
    Gone,
    /// The connection was closed in the moment it was taken. What is plain may be asked twice: a new one answers. Whoever has
    /// had the time to work on it, and died of it perhaps, is not asked again.
    Again,
    Of(SendError),
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Of(broken.into())
    }
}

impl Exchange {
    /// The request goes out `now` on a connection, which had others before if it is `used`.
    pub(super) fn begin(&mut self, plan: &Plan, used: bool, now: Instant) {
        (self.sent, self.seen, self.interim) = (0, 0, 0);
        self.bare = plan.method == Method::HEAD;
        self.untouched = used.then(|| now + AT_ONCE);
        self.deadline = Some(now + plan.patience());
        self.passing = None;
        self.answer.clear();
    }

    /// What is still to be sent of the request. An answer ends it.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.onward[self.sent..]
    }

    /// So many bytes more were sent.
    pub(super) fn sent(&mut self, length: usize) {
        self.sent += length;
    }

    /// Takes in what was read into `answer`. The client asked `host`; its connection ends behind an answer that begins where
    /// the router `stops`.
    pub(super) fn came(
        &mut self,
        plan: &Plan,
        host: &str,
        stops: bool,
        now: Instant,
    ) -> Result<Option<Piece>, Failed> {
        self.untouched = None;
        let first = self.passing.is_none();
        if first {
            self.hear(plan, host, plan.closes || stops)?;
        }
        let Some(passing) = &mut self.passing else {
            // Who never stops to speak has no more time than others.
            let is_late = self.deadline.is_some_and(|deadline| now >= deadline);
            return if is_late {
                Err(Failed::Of(SendError::Late))
            } else {
                Ok(None)
            };
        };
        let (data, beyond) = passing.body.take(&mut self.answer);
        let rest = if passing.body.has_ended() {
            let (keeps, closes) = (passing.keeps && !beyond, passing.closes);
            Rest::Done { keeps, closes }
        } else if !passing.body.is_broken() {
            Rest::More
        } else if first {
            // Nothing was said yet.
            return Err(Broken("its chunks are broken").into());
        } else {
            Rest::Cut
        };
        Ok(self.piece(data, rest))
    }

    /// Takes in that the connection ended, by an error or not.
    pub(super) fn ended(
        &mut self,
        error: Option<io::Error>,
        now: Instant,
    ) -> Result<Option<Piece>, Failed> {
        match &self.passing {
            Some(passing) => {
                let whole = error.is_none() && matches!(passing.body, Body::UntilEnd);
                let (keeps, closes) = (false, passing.closes);
                let rest = if whole {
                    Rest::Done { keeps, closes }
                } else {
                    Rest::Cut
                };
                Ok(self.piece(0, rest))
            }
            None if self.untouched.is_some_and(|until| now < until) => Err(Failed::Again),
            None => {
                let error = error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                Err(Failed::Of(SendError::Speaking(error)))
            }
        }
    }

    /// What is to be sent to the client, one after another.
    pub(super) fn pieces(&self) -> [&[u8]; 3] {
        [&self.back, &self.answer.bytes()[..self.data], self.behind]
    }

    /// All of that was sent.
    pub(super) fn passed(&mut self) {
        self.back.clear();
        // The head of one answer in a thousand is large.
        self.back.shrink_to(ROOM);
        self.answer.clear();
        (self.data, self.behind) = (0, b"");
    }

    /// Looks for the head of the answer; the client's is written if it has come.
    fn hear(&mut self, plan: &Plan, host: &str, closes: bool) -> Result<(), Broken> {
        loop {
            let mut room = answer::room();
            let heard = if self.answer.may_end_head(self.seen) {
                listen(self.answer.bytes(), &mut room, self.bare)?
            } else {
                Heard::Partial
            };
            match heard {
                Heard::Partial => {
                    self.seen = self.answer.bytes().len();
                    if self.answer.is_full() && !self.answer.grow(HEAD) {
                        return Err(Broken("its head is too large"));
                    }
                    return Ok(());
                }
                Heard::Interim(length) => {
                    self.interim += 1;
                    if self.interim > MOST_INTERIM {
                        return Err(Broken(ONLY_PROMISES));
                    }
                    self.answer.skip(length);
                    self.seen = 0;
                }
                Heard::Head(head) => {
                    let bytes = self.answer.bytes();
                    write::back(&mut self.back, bytes, &head, &plan.forward, host, closes);
                    let length = head.length;
                    self.deadline = None;
                    self.passing = Some(Passing {
                        status: head.status,
                        body: head.body,
                        keeps: head.keeps && self.sent == self.onward.len(),
                        closes,
                    });
                    self.answer.skip(length);
                    return Ok(());
                }
            }
        }
    }

    /// Puts data that stands at the begin of the answer on its way, framed as the client was told.
    fn piece(&mut self, data: usize, rest: Rest) -> Option<Piece> {
        let passing = self.passing.as_ref()?;
        if matches!(passing.body, Body::Chunked(_) | Body::UntilEnd) {
            let last = matches!(rest, Rest::Done { .. });
            self.behind = write::around(&mut self.back, data, last);
        }
        self.data = data;
        if data <= SMALL {
            self.back.extend_from_slice(&self.answer.bytes()[..data]);
            self.back.extend_from_slice(self.behind);
            (self.data, self.behind) = (0, b"");
        }
        let status = passing.status;
        Some(Piece { status, data, rest })
    }
}

#[cfg(test)]
mod tests;

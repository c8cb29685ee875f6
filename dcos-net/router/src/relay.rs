//! [`Relay`]: the short way for plain requests, from socket to socket.
//!
//! What is unmistakably plain ([`asked`]) and goes to somebody behind the router is sent on from here: the same decision,
//! the same rules for headers, but bytes instead of maps of headers and boxes of bodies, one read and one write on either
//! side, and no task beside the connection's own. All else, and what the router answers by itself, is left as it came to
//! hyper and [`Door`].
//!
//! [`talk`] reads and writes. What that leads to is decided without a socket or a clock: [`inbox`] (what a client says),
//! [`plan`] (what becomes of it), [`exchange`] (a request and its answer).

mod answer;
mod asked;
mod buffer;
mod chunks;
mod exchange;
mod inbox;
mod lane;
mod plan;
mod talk;
mod write;

use std::sync::Arc;

use dcos_wire::{Left, Shortcut, Visit};
use futures::future::BoxFuture;

use crate::door::Door;
use talk::Talk;

pub(crate) use answer::{Broken, Said};
pub(crate) use lane::Lane;

/// Serves plain requests by itself.
#[derive(Debug)]
pub(crate) struct Relay {
    door: Door,
}

impl Relay {
    /// The short way through that door.
    pub(crate) fn new(door: Door) -> Self {
        Self { door }
    }
}

impl Shortcut for Relay {
    fn serve(self: Arc<Self>, visit: Visit) -> BoxFuture<'static, Left> {
        Box::pin(Talk::new(self, visit).run())
    }
}

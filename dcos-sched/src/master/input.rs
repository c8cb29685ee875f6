//! What reaches the master's core and what leaves it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dcos_proto::Message;
use dcos_proto::mesos::FrameworkId;
use dcos_proto::scheduler::{Call, Event};
use dcos_store::{Revision, Snapshot as StoreSnapshot, Write};

use super::{News, Returning, Snapshot};
use crate::allocator::Metrics;
use crate::why::Wish;
use dcos_security::Principal;

/// Names a request until it is answered; chosen by whoever asks.
pub type RequestId = u64;

/// Who wants to know something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reader {
    /// A part of this process: it may know everything.
    Inside,
    /// A caller, by its principal if it authenticated: it hears what the authorizer lets it see.
    Caller(Option<Principal>),
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The registry as it was read, once, before anything else.
    Recovered(StoreSnapshot),
    /// A call of the scheduler API that has been read and is well-formed. Answered by
    /// [`Action::Reply`].
    Call {
        /// What the answer names.
        request: RequestId,
        /// The stream it claims to belong to (the `Mesos-Stream-Id` header).
        stream_id: Option<String>,
        /// Who authenticated, if anybody did.
        principal: Option<String>,
        /// The call.
        call: Box<Call>,
    },
    /// From now on only agents of these names are offered; `None` for all.
    Whitelist(Option<BTreeSet<String>>),
    /// The reader of an event stream went away.
    StreamClosed {
        /// Which one.
        stream_id: String,
    },
    /// A libprocess message arrived from an agent or a scheduler driver.
    Message {
        /// The sender's UPID.
        from: String,
        /// The message.
        message: Packet,
    },
    /// An agent that has an id comes back, and what it says has been read already. The same as
    /// [`Input::Message`] with what it came as.
    Returning {
        /// The agent's UPID.
        from: String,
        /// What it says.
        returning: Box<Returning>,
    },
    /// The connection to a linked UPID broke.
    Exited {
        /// Whose connection.
        pid: String,
    },
    /// An operator orders something; the call has been read and has what its type needs. Answered
    /// by [`Action::Reply`].
    Operator {
        /// What the answer names.
        request: RequestId,
        /// Who authenticated, if anybody did.
        principal: Option<String>,
        /// The order.
        call: Box<dcos_proto::master::Call>,
    },
    /// An operator orders other priorities of roles. Answered by [`Action::Reply`].
    Priorities {
        /// What the answer names.
        request: RequestId,
        /// Who authenticated, if anybody did.
        principal: Option<String>,
        /// Roles and their priorities; of several for one role the last counts.
        priorities: Vec<(String, i32)>,
    },
    /// Somebody wants to read. Answered by [`Action::Snapshot`].
    Read {
        /// What the answer names.
        request: RequestId,
    },
    /// Somebody asks what the allocator counts. Answered by [`Action::Measured`].
    Measure {
        /// What the answer names.
        request: RequestId,
    },
    /// Somebody asks why a framework is offered nothing. Answered by [`Action::Explained`].
    Explain {
        /// What the answer names.
        request: RequestId,
        /// Only this framework.
        framework_id: Option<FrameworkId>,
        /// Only this role.
        role: Option<String>,
        /// What the framework would want to be offered.
        wish: Option<Wish>,
        /// Who asks.
        reader: Reader,
    },
    /// The writes of [`Action::Persist`] are durable.
    Stored {
        /// The number of the action.
        id: u64,
        /// The store's revision that holds them.
        revision: Revision,
    },
    /// A deadline may have come.
    Tick,
}

/// Something to do. Actions are carried out in the order in which they are polled.
#[derive(Debug, Clone)]
pub enum Action {
    /// Write these together; nothing else is polled before [`Input::Stored`] says it is done.
    Persist {
        /// What the answer names.
        id: u64,
        /// What to write.
        writes: Vec<Write>,
    },
    /// Answer a request.
    Reply {
        /// Which one.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// Deliver an event on a stream.
    Event {
        /// The stream.
        stream_id: String,
        /// The event.
        event: Arc<Event>,
    },
    /// End a stream after what was sent on it.
    Close {
        /// The stream.
        stream_id: String,
    },
    /// Send a libprocess message.
    Send {
        /// The receiver's UPID.
        to: String,
        /// The message.
        message: Packet,
    },
    /// Keep a connection to this UPID and tell when it breaks ([`Input::Exited`]).
    Link {
        /// Whose.
        pid: String,
    },
    /// What [`Input::Read`] asked for.
    Snapshot {
        /// Which request this answers.
        request: RequestId,
        /// Everything there is to read.
        snapshot: Arc<Snapshot>,
    },
    /// What [`Input::Measure`] asked for.
    Measured {
        /// Which request this answers.
        request: RequestId,
        /// The allocator's figures.
        metrics: Metrics,
    },
    /// What [`Input::Explain`] asked for.
    Explained {
        /// Which request this answers.
        request: RequestId,
        /// The answer as JSON.
        answer: serde_json::Value,
    },
    /// Tell the subscribers of the operator API.
    Publish(News),
    /// End: this master must not lead, and somebody has to look why.
    Stop {
        /// For people.
        reason: String,
    },
}

/// How a request was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// 202: it will be done; failures come as events.
    Accepted,
    /// 200: it is done.
    Done,
    /// 200: a stream of events is open from here on.
    Subscribed {
        /// Its name.
        stream_id: String,
    },
    /// It is refused.
    Refused {
        /// The HTTP status code.
        status: u16,
        /// Why, for people.
        text: String,
    },
}

impl Reply {
    pub(crate) fn refused(status: u16, text: impl Into<String>) -> Self {
        Self::Refused {
            status,
            text: text.into(),
        }
    }
}

/// A libprocess message as it travels: its v0 name and its protobuf bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Such as `mesos.internal.RegisterSlaveMessage`.
    pub name: String,
    /// The encoded message.
    pub body: Bytes,
}

impl Packet {
    /// The packet that carries `message`.
    pub fn of<M: Message>(message: &M) -> Self {
        Self {
            name: M::V0_NAME.to_owned(),
            body: message.encode_to_vec().into(),
        }
    }
}

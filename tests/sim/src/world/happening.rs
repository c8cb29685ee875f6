//! What can happen in a world.

use std::sync::Arc;

use dcos_containerizer::agent::Input as AgentInput;
use dcos_proto::mesos::ContainerId;
use dcos_proto::scheduler::{Call, Event};
use dcos_sched::master::{Packet, Reply};
use dcos_store::{Revision, Write};

use crate::fault::Fault;
use crate::network::End;

/// Something that will happen. `at` is the number of a master, `life` the life of whom it was
/// meant for.
#[derive(Debug)]
pub(super) enum Happening {
    StartMaster {
        at: usize,
    },
    Elected {
        at: usize,
        life: u64,
        term: u64,
    },
    Deposed {
        at: usize,
        life: u64,
    },
    SessionEnds {
        at: usize,
        life: u64,
    },
    /// A write reaches the store, whatever has become of who sent it.
    Commit {
        at: usize,
        life: u64,
        term: u64,
        id: u64,
        writes: Vec<Write>,
    },
    /// The store's answer comes back; it has none if the write failed.
    Stored {
        at: usize,
        life: u64,
        id: u64,
        revision: Option<Revision>,
    },
    ToMaster {
        at: usize,
        life: u64,
        node: usize,
        packet: Packet,
        connection: u32,
    },
    MasterLosesNode {
        at: usize,
        life: u64,
        node: usize,
    },
    MasterLosesStream {
        at: usize,
        life: u64,
        stream: String,
    },
    /// A framework's driver says something.
    ToMasterFromDriver {
        at: usize,
        life: u64,
        pid: String,
        packet: Packet,
    },
    /// A master says something to a framework's driver.
    ToDriver {
        party: usize,
        at: usize,
        pid: String,
        event: Arc<Event>,
    },
    ToNode {
        node: usize,
        life: u64,
        at: usize,
        packet: Packet,
        connection: u32,
    },
    NodeLosesMaster {
        node: usize,
        life: u64,
        at: usize,
    },
    /// A detector hears of the change with this number; it never goes back to an older one.
    NodeHears {
        node: usize,
        change: u64,
        leader: Option<usize>,
    },
    Agent {
        node: usize,
        life: u64,
        input: Box<AgentInput>,
    },
    End {
        node: usize,
        container: ContainerId,
        status: i32,
    },
    StartAgent {
        node: usize,
    },
    Call {
        at: usize,
        life: u64,
        party: usize,
        stream: Option<String>,
        call: Box<Call>,
    },
    Reply {
        party: usize,
        at: usize,
        reply: Reply,
    },
    Event {
        party: usize,
        stream: String,
        event: Arc<Event>,
    },
    StreamBreaks {
        party: usize,
        stream: String,
    },
    PartyHears {
        party: usize,
        change: u64,
        leader: Option<usize>,
    },
    /// An operator's call arrives.
    Order {
        at: usize,
        life: u64,
        call: Box<dcos_proto::master::Call>,
    },
    /// The operator looks whether something is left to be put right.
    Tidy,
    Fault(Fault),
}

/// Stands for "a connection that is gone": what travels on it arrives whatever happens.
pub(super) const STRAY: u32 = u32::MAX;

impl Happening {
    /// The process it happens to, if it is one that may be frozen.
    pub(super) fn whose(&self) -> Option<End> {
        match self {
            Self::StartMaster { .. }
            | Self::StartAgent { .. }
            | Self::SessionEnds { .. }
            | Self::Commit { .. }
            | Self::End { .. }
            | Self::Tidy
            | Self::Fault(_) => None,
            Self::Elected { at, .. }
            | Self::Deposed { at, .. }
            | Self::Stored { at, .. }
            | Self::ToMaster { at, .. }
            | Self::ToMasterFromDriver { at, .. }
            | Self::MasterLosesNode { at, .. }
            | Self::MasterLosesStream { at, .. }
            | Self::Order { at, .. }
            | Self::Call { at, .. } => Some(End::Master(*at)),
            Self::ToNode { node, .. }
            | Self::NodeLosesMaster { node, .. }
            | Self::NodeHears { node, .. }
            | Self::Agent { node, .. } => Some(End::Node(*node)),
            Self::Reply { party, .. }
            | Self::Event { party, .. }
            | Self::ToDriver { party, .. }
            | Self::StreamBreaks { party, .. }
            | Self::PartyHears { party, .. } => Some(End::Party(*party)),
        }
    }

    /// What tells it from others: its kind, whom it concerns, what it carries.
    pub(super) fn gist(&self) -> (u64, u64, &[u8]) {
        let number = |at: &usize| *at as u64;
        match self {
            Self::ToMaster { node, packet, .. } => (0, number(node), &packet.body),
            Self::ToNode { node, packet, .. } => (1, number(node), &packet.body),
            Self::MasterLosesNode { node, .. } => (2, number(node), &[]),
            Self::NodeLosesMaster { node, .. } => (3, number(node), &[]),
            Self::NodeHears { node, .. } => (4, number(node), &[]),
            Self::Stored { id, .. } => (5, *id, &[]),
            Self::Agent { node, .. } => (6, number(node), &[]),
            Self::End {
                node, container, ..
            } => (7, number(node), container.value.as_bytes()),
            Self::Call { party, .. } => (8, number(party), &[]),
            Self::Reply { party, .. } => (9, number(party), &[]),
            Self::Event { party, stream, .. } => (10, number(party), stream.as_bytes()),
            Self::MasterLosesStream { stream, .. } => (11, 0, stream.as_bytes()),
            Self::StreamBreaks { party, .. } => (12, number(party), &[]),
            Self::StartMaster { at } => (13, number(at), &[]),
            Self::StartAgent { node } => (14, number(node), &[]),
            Self::Fault(_) => (15, 0, &[]),
            Self::Elected { at, .. } => (16, number(at), &[]),
            Self::Deposed { at, .. } => (17, number(at), &[]),
            Self::SessionEnds { at, .. } => (18, number(at), &[]),
            Self::Commit { id, .. } => (19, *id, &[]),
            Self::PartyHears { party, .. } => (20, number(party), &[]),
            Self::Order { at, .. } => (21, number(at), &[]),
            Self::Tidy => (22, 0, &[]),
            Self::ToMasterFromDriver { at, packet, .. } => (23, number(at), &packet.body),
            Self::ToDriver { party, pid, .. } => (24, number(party), pid.as_bytes()),
        }
    }
}

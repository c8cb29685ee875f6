//! What can happen in a world.

use std::sync::Arc;

use dcos_containerizer::agent::Input as AgentInput;
use dcos_proto::mesos::ContainerId;
use dcos_proto::scheduler::{Call, Event};
use dcos_sched::master::{Packet, Reply};

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Happening {
    ToMaster {
        life: u64,
        node: usize,
        packet: Packet,
    },
    ToNode {
        node: usize,
        life: u64,
        packet: Packet,
    },
    MasterLosesNode {
        life: u64,
        node: usize,
    },
    NodeLosesMaster {
        node: usize,
        life: u64,
    },
    Mend {
        node: usize,
    },
    Stored {
        life: u64,
        id: u64,
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
    Call {
        life: u64,
        framework: usize,
        stream: Option<String>,
        call: Box<Call>,
    },
    Reply {
        framework: usize,
        reply: Reply,
    },
    Event {
        framework: usize,
        stream: String,
        event: Arc<Event>,
    },
    MasterLosesStream {
        life: u64,
        stream: String,
    },
    StreamBreaks {
        framework: usize,
        stream: String,
    },
    StartMaster,
    StartAgent {
        node: usize,
    },
    Fault,
}

impl Happening {
    /// What tells it from others: its kind, whom it concerns, what it carries.
    pub(super) fn gist(&self) -> (u64, u64, &[u8]) {
        let number = |at: &usize| *at as u64;
        match self {
            Self::ToMaster { node, packet, .. } => (0, number(node), &packet.body),
            Self::ToNode { node, packet, .. } => (1, number(node), &packet.body),
            Self::MasterLosesNode { node, .. } => (2, number(node), &[]),
            Self::NodeLosesMaster { node, .. } => (3, number(node), &[]),
            Self::Mend { node } => (4, number(node), &[]),
            Self::Stored { id, .. } => (5, *id, &[]),
            Self::Agent { node, .. } => (6, number(node), &[]),
            Self::End {
                node, container, ..
            } => (7, number(node), container.value.as_bytes()),
            Self::Call { framework, .. } => (8, number(framework), &[]),
            Self::Reply { framework, .. } => (9, number(framework), &[]),
            Self::Event {
                framework, stream, ..
            } => (10, number(framework), stream.as_bytes()),
            Self::MasterLosesStream { stream, .. } => (11, 0, stream.as_bytes()),
            Self::StreamBreaks { framework, .. } => (12, number(framework), &[]),
            Self::StartMaster => (13, 0, &[]),
            Self::StartAgent { node } => (14, number(node), &[]),
            Self::Fault => (15, 0, &[]),
        }
    }
}

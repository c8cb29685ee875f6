//! A readable account of what happened.

use std::collections::VecDeque;

use dcos_core::resources::{Resources, operation};
use dcos_proto::internal::{
    AcknowledgeOperationStatusMessage, ApplyOperationMessage, ReconcileOperationsMessage,
    ReregisterSlaveMessage, RunTaskMessage, StatusUpdateMessage, UpdateOperationStatusMessage,
    UpdateSlaveMessage,
};
use dcos_proto::mesos::Uuid;
use dcos_proto::scheduler::{Call, Event};
use dcos_proto::{Message, decode};
use dcos_sched::master::Packet;

use super::happening::Happening;
use super::{BEGIN, World};

/// The last lines.
#[derive(Debug)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    most: usize,
    /// Whether lines are made at all: that takes longer than what they tell of.
    is_on: bool,
    /// Whether they are shown at once.
    is_loud: bool,
}

impl Trace {
    pub(super) fn new(most: usize) -> Self {
        let is_loud = std::env::var_os("SIM_TRACE").is_some();
        Self {
            lines: VecDeque::new(),
            most,
            is_on: is_loud,
            is_loud,
        }
    }

    fn add(&mut self, line: String) {
        if self.is_loud {
            eprintln!("{line}");
        }
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines).into()
    }
}

impl World {
    /// Keeps an account of what happens from here on.
    #[must_use]
    pub fn traced(mut self) -> Self {
        self.trace.is_on = true;
        self
    }

    /// Adds a happening to the digest and, if asked, to the trace.
    pub(super) fn note(&mut self, happening: &Happening) {
        let (kind, whose, body) = happening.gist();
        let numbers = [self.now.as_nanos(), kind, whose].map(u64::to_be_bytes);
        let digest = |digest: u64, byte: &u8| {
            (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        };
        self.digest = numbers.as_flattened().iter().fold(self.digest, digest);
        // The length and the last bytes stand for the whole, which takes longer than the cores.
        let tail = &body[body.len().saturating_sub(16)..];
        self.digest = tail.iter().fold(self.digest ^ body.len() as u64, digest);
        if self.trace.is_on
            && let Some(text) = tell(happening)
        {
            let time = (self.now - BEGIN).as_secs_f64();
            self.trace.add(format!("{time:10.4} {text}"));
        }
    }
}

/// A line about a happening; none for what happens all the time and tells nothing.
fn tell(happening: &Happening) -> Option<String> {
    Some(match happening {
        Happening::StartMaster { at } => format!("master {at} starts"),
        Happening::Elected { at, term, .. } => format!("master {at} is elected for term {term}"),
        Happening::Deposed { at, .. } => format!("master {at} learns that it was deposed"),
        Happening::SessionEnds { at, .. } => format!("the session of master {at} ends"),
        Happening::Commit {
            at, term, writes, ..
        } => {
            format!(
                "a write of {} keys of master {at} in term {term} arrives",
                writes.len()
            )
        }
        Happening::Stored {
            revision: Some(_), ..
        }
        | Happening::Agent { .. }
        | Happening::Tidy => return None,
        Happening::Stored { at, .. } => format!("master {at} cannot write"),
        Happening::ToMaster {
            at, node, packet, ..
        } => {
            format!("node {node} → master {at}: {}", tell_packet(packet)?)
        }
        Happening::ToNode {
            node, at, packet, ..
        } => {
            format!("master {at} → node {node}: {}", tell_packet(packet)?)
        }
        Happening::MasterLosesNode { at, node, .. } => format!("master {at} loses node {node}"),
        Happening::MasterLosesStream { at, stream, .. } => {
            format!("master {at} loses stream {stream}")
        }
        Happening::NodeLosesMaster { node, at, .. } => format!("node {node} loses master {at}"),
        Happening::NodeHears { node, leader, .. } => {
            format!("node {node} hears that {leader:?} leads")
        }
        Happening::End {
            node,
            container,
            status,
        } => {
            format!(
                "container {} on node {node} ends: {status}",
                container.value
            )
        }
        Happening::StartAgent { node } => format!("the agent on node {node} starts"),
        Happening::Call {
            at, party, call, ..
        } => {
            format!("framework {party} → master {at}: {}", tell_call(call)?)
        }
        Happening::Reply { party, at, reply } => match reply {
            dcos_sched::master::Reply::Accepted => return None,
            _ => format!("master {at} → framework {party}: {reply:?}"),
        },
        Happening::Event { party, event, .. } => {
            format!("framework {party} hears {}", tell_event(event)?)
        }
        Happening::ToMasterFromDriver {
            at, pid, packet, ..
        } => {
            let text = match decode::<Call>(&packet.body) {
                Ok(call) if packet.name == Call::V0_NAME => tell_call(&call)?,
                _ => tell_packet(packet)?,
            };
            format!("{pid} → master {at}: {text}")
        }
        Happening::ToDriver { pid, event, .. } => {
            format!("{pid} hears {}", tell_event(event)?)
        }
        Happening::StreamBreaks { party, .. } => format!("the stream of framework {party} breaks"),
        Happening::PartyHears { party, leader, .. } => {
            format!("framework {party} hears that {leader:?} leads")
        }
        Happening::Order { at, call, .. } => {
            format!("operator → master {at}: {}", tell_order(call))
        }
        Happening::Fault(fault) => format!("*** {fault}"),
    })
}

fn tell_packet(packet: &Packet) -> Option<String> {
    let name = packet.name.trim_start_matches("mesos.internal.");
    match name {
        "PingSlaveMessage" | "PongSlaveMessage" | "UpdateFrameworkMessage" => None,
        "StatusUpdateMessage" => {
            let update = decode::<StatusUpdateMessage>(&packet.body).ok()?.update;
            let (state, id) = (update.status.state().as_str_name(), update.status.task_id);
            Some(format!("{name} {state} {id}"))
        }
        "RunTaskMessage" => {
            let message = decode::<RunTaskMessage>(&packet.body).ok()?;
            Some(format!("{name} {}", message.task.task_id))
        }
        "ApplyOperationMessage"
        | "UpdateOperationStatusMessage"
        | "AcknowledgeOperationStatusMessage"
        | "ReconcileOperationsMessage"
        | "UpdateSlaveMessage"
        | "ReregisterSlaveMessage" => Some(format!("{name} {}", tell_operations(name, packet)?)),
        _ => Some(name.to_owned()),
    }
}

/// What a message says of operations and of what an agent keeps.
fn tell_operations(name: &str, packet: &Packet) -> Option<String> {
    let short = |uuid: &Uuid| match *uuid.value {
        [a, b, c, ..] => format!("{a:02x}{b:02x}{c:02x}"),
        _ => "?".to_owned(),
    };
    let body = &packet.body;
    Some(match name {
        "ApplyOperationMessage" => {
            let message = decode::<ApplyOperationMessage>(body).ok()?;
            let info = message.operation_info;
            let kind = info.r#type().as_str_name();
            let consumed = operation::consumed(&info).unwrap_or_default();
            format!("{} {kind} of {consumed}", short(&message.operation_uuid))
        }
        "UpdateOperationStatusMessage" => {
            let message = decode::<UpdateOperationStatusMessage>(body).ok()?;
            let (state, text) = (message.status.state(), message.status.message());
            let uuid = message.operation_uuid.unwrap_or_default();
            format!("{} {} {text}", short(&uuid), state.as_str_name())
        }
        "AcknowledgeOperationStatusMessage" => {
            let message = decode::<AcknowledgeOperationStatusMessage>(body).ok()?;
            short(&message.operation_uuid)
        }
        "ReconcileOperationsMessage" => {
            let message = decode::<ReconcileOperationsMessage>(body).ok()?;
            let asked = message.operations.into_iter();
            let asked = asked.map(|it| short(&it.operation_uuid.unwrap_or_default()));
            format!("{:?}", asked.collect::<Vec<_>>())
        }
        "UpdateSlaveMessage" => {
            let message = decode::<UpdateSlaveMessage>(body).ok()?;
            let listed = message.operations.unwrap_or_default().operations;
            let listed = listed.iter().map(|it| short(&it.uuid));
            format!("{:?}", listed.collect::<Vec<_>>())
        }
        _ => {
            let message = decode::<ReregisterSlaveMessage>(body).ok()?;
            Resources::from(&message.checkpointed_resources).to_string()
        }
    })
}

fn tell_order(call: &dcos_proto::master::Call) -> String {
    let text = dcos_proto::json::to_string(call, dcos_proto::json::Dialect::V1);
    text.chars().take(2000).collect()
}

fn tell_call(call: &Call) -> Option<String> {
    let name = call.r#type().as_str_name();
    if let Some(accept) = &call.accept {
        let launches = accept.operations.iter().filter_map(|it| it.launch.as_ref());
        let tasks: Vec<&str> = launches
            .flat_map(|launch| &launch.task_infos)
            .map(|task| task.task_id.as_str())
            .collect();
        let others = accept.operations.iter().filter(|it| it.launch.is_none());
        let others: Vec<String> = others
            .map(|it| {
                let id = it.id.as_ref().map_or("-", |id| &id.value);
                format!("{} {id}", it.r#type().as_str_name())
            })
            .collect();
        return Some(format!("{name} {tasks:?} {others:?}"));
    }
    if let Some(kill) = &call.kill {
        return Some(format!("{name} {}", kill.task_id));
    }
    if let Some(acknowledge) = &call.acknowledge {
        return Some(format!("{name} {}", acknowledge.task_id));
    }
    (call.decline.is_none()).then(|| name.to_owned())
}

fn tell_event(event: &Event) -> Option<String> {
    let name = event.r#type().as_str_name();
    if let Some(update) = &event.update {
        let status = &update.status;
        let (state, id) = (status.state().as_str_name(), &status.task_id);
        let reason = status.reason.map(|_| status.reason().as_str_name());
        return Some(format!(
            "{name} {state} {id} {}",
            reason.unwrap_or_default()
        ));
    }
    if let Some(update) = &event.update_operation_status {
        let status = &update.status;
        let id = status.operation_id.as_ref().map_or("-", |id| &id.value);
        let (state, text) = (status.state().as_str_name(), status.message());
        return Some(format!("{name} {state} {id} {text}"));
    }
    (!matches!(name, "HEARTBEAT" | "OFFERS")).then(|| name.to_owned())
}

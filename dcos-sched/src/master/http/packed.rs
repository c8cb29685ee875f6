//! Packed tasks as v0 endpoints and [answers](answer) of v1 show them, written straight from their bytes.
//!
//! The first reader of `/state` after a failover is shown half a million tasks that nobody has looked at; making
//! messages of them first would take longer than all the rest. What most tasks consist of is understood here. A
//! task that has more is read, and written as all others are ([`json::task`](super::json::task)): that is what this has
//! to be equal to, byte for byte.

pub(super) mod answer;

use dcos_core::resources::{Scalar, append_endpoint_scalars, endpoint_scalar};
use dcos_proto::json::JsonEnum as _;
use dcos_proto::mesos::{CheckStatusInfo, ContainerStatus, TaskState, value};
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::json;
use super::text::{Object, object};
use crate::master::TaskRecord;

/// Appends a task.
pub(super) fn task(out: &mut Vec<u8>, record: &TaskRecord) {
    let begin = out.len();
    let written = record.bytes().and_then(|bytes| {
        let task = Task::parse(bytes)?;
        task.write(out, record.state())
    });
    if written.is_none() {
        out.truncate(begin);
        json::task(out, &record.read());
    }
}

/// What a field of a message holds.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bits([u8; 8]),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The text in a message that has nothing else, such as an id.
    fn inner(self) -> Option<&'a str> {
        let mut text = None;
        for field in Fields(self.bytes()?) {
            if let (1, value) = field? {
                text = Some(value.text()?);
            }
        }
        text
    }

    fn double(self) -> Option<f64> {
        match self {
            Self::Bits(bits) => Some(f64::from_le_bytes(bits)),
            _ => None,
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }

    fn state(self) -> Option<TaskState> {
        TaskState::try_from(i32::try_from(self.number()?).ok()?).ok()
    }
}

/// The fields of a message, as they come; `None` for what is not understood here.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (number, kind) = decode_key(&mut self.0).ok()?;
        let value = match kind {
            WireType::Varint => Value::Number(decode_varint(&mut self.0).ok()?),
            WireType::SixtyFourBit => {
                let (bits, rest) = self.0.split_first_chunk()?;
                self.0 = rest;
                Value::Bits(*bits)
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Takes a field that can be there once: parts of one that is there twice would have to be merged.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

/// A task as most are.
#[derive(Default)]
struct Task<'a> {
    /// All of it.
    bytes: &'a [u8],
    name: &'a str,
    id: Option<&'a str>,
    framework: Option<&'a str>,
    executor: Option<&'a str>,
    agent: Option<&'a str>,
    scalars: [Option<Scalar>; 4],
    resources: usize,
    /// That of the first resource.
    role: Option<&'a str>,
    user: Option<&'a str>,
    labels: Option<&'a [u8]>,
}

impl<'a> Task<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut task = Self {
            bytes,
            ..Self::default()
        };
        for field in Fields(bytes) {
            let (number, value) = field?;
            match number {
                1 => task.name = value.text()?,
                2 => once(&mut task.id, value.inner()?)?,
                3 => once(&mut task.framework, value.inner()?)?,
                4 => once(&mut task.executor, value.inner()?)?,
                5 => once(&mut task.agent, value.inner()?)?,
                7 => task.add_resource(value.bytes()?)?,
                11 => once(&mut task.labels, value.bytes()?)?,
                14 => task.user = Some(value.text()?),
                // The state is known; statuses are written from the bytes; what was told last, and how the task is
                // killed, is not shown.
                6 | 8 | 9 | 10 | 16 => {}
                _ => return None,
            }
        }
        Some(task)
    }

    /// A scalar of those that are always shown.
    fn add_resource(&mut self, bytes: &'a [u8]) -> Option<()> {
        let (mut name, mut amount, mut role) = (None, None, None);
        for field in Fields(bytes) {
            let (number, value) = field?;
            match number {
                1 => name = Some(value.text()?),
                2 => {
                    let is_scalar = value.number()? == value::Type::Scalar as u64;
                    is_scalar.then_some(())?;
                }
                3 => {
                    for field in Fields(value.bytes()?) {
                        if let (1, value) = field? {
                            amount = Some(value.double()?);
                        }
                    }
                }
                // For whom it is kept is not shown of a task.
                6 | 8 | 13 => {}
                11 => role = Some(value.inner()?),
                _ => return None,
            }
        }
        if self.resources == 0 {
            self.role = role;
        }
        self.resources += 1;
        let at = endpoint_scalar(name?)?;
        let amount = Scalar::from_f64(amount?);
        if amount < Scalar::ZERO {
            return None;
        }
        if amount > Scalar::ZERO {
            let sum = &mut self.scalars[at];
            *sum = Some(sum.map_or(amount, |sum| sum + amount));
        }
        Some(())
    }

    fn write(&self, out: &mut Vec<u8>, state: TaskState) -> Option<()> {
        let mut written = Some(());
        object(out, |o| {
            o.text("id", self.id.unwrap_or_default());
            o.text("name", self.name);
            o.text("framework_id", self.framework.unwrap_or_default());
            o.text("executor_id", self.executor.unwrap_or_default());
            o.text("slave_id", self.agent.unwrap_or_default());
            o.text("state", state.name());
            append_endpoint_scalars(&self.scalars, o.plain_key("resources"));
            o.text("role", self.role.unwrap_or("*"));
            written = self.write_statuses(o);
            if let Some(user) = self.user {
                o.text("user", user);
            }
            if let Some(labels) = self.labels {
                written = written.and_then(|()| write_labels(o, labels));
            }
        });
        written
    }

    fn write_statuses(&self, o: &mut Object<'_>) -> Option<()> {
        let mut written = Some(());
        let statuses = Fields(self.bytes).filter_map(|field| match field {
            Some((8, value)) => value.bytes(),
            _ => None,
        });
        o.list("statuses", statuses, |out, status| {
            object(out, |o| {
                written = written.and_then(|()| write_status(o, status));
            });
        });
        written
    }
}

fn write_status(o: &mut Object<'_>, status: &[u8]) -> Option<()> {
    let mut state = None;
    let (mut timestamp, mut labels, mut healthy) = (None, None, None);
    let (mut container, mut check) = (None, None);
    for field in Fields(status) {
        let (number, value) = field?;
        match number {
            2 => state = Some(value.state()?),
            6 => timestamp = Some(value.double()?),
            8 => healthy = Some(value.number()? != 0),
            12 => once(&mut labels, value.bytes()?)?,
            13 => once(
                &mut container,
                ContainerStatus::decode(value.bytes()?).ok()?,
            )?,
            15 => once(&mut check, CheckStatusInfo::decode(value.bytes()?).ok()?)?,
            // Not shown.
            _ => {}
        }
    }
    o.text("state", state?.name());
    o.put("timestamp", timestamp.unwrap_or_default());
    if let Some(labels) = labels {
        write_labels(o, labels)?;
    }
    o.message("container_status", container.as_ref());
    o.put_some("healthy", healthy);
    o.message("check_status", check.as_ref());
    Some(())
}

fn write_labels(o: &mut Object<'_>, labels: &[u8]) -> Option<()> {
    let is_label = |field| matches!(field, Some((1, Value::Bytes(_))));
    Fields(labels).all(is_label).then_some(())?;
    let mut written = Some(());
    let items = Fields(labels).filter_map(|field| field?.1.bytes());
    o.list("labels", items, |out, label| {
        object(out, |o| {
            written = written.and_then(|()| write_label(o, label));
        });
    });
    written
}

fn write_label(o: &mut Object<'_>, label: &[u8]) -> Option<()> {
    let (mut key, mut text) = ("", None);
    for field in Fields(label) {
        match field? {
            (1, value) => key = value.text()?,
            (2, value) => text = Some(value.text()?),
            _ => {}
        }
    }
    o.text("key", key);
    if let Some(text) = text {
        o.text("value", text);
    }
    Some(())
}

#[cfg(test)]
mod tests;

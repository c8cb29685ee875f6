//! Packed tasks as answers of API v1 show them in JSON: what [`json::append`](dcos_proto::json::append) writes of
//! [`views::task`], byte for byte.
//!
//! Fields are written in the order of their numbers, which is the order they come in: bytes in which they come
//! otherwise are not understood here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dcos_core::resources::convert::{to_endpoint, upgrade};
use dcos_proto::json::{Dialect, Json, JsonEnum, append};
use dcos_proto::mesos::{self, CheckStatusInfo, ContainerStatus, Resource, task_status, value};
use prost::Message;

use super::super::text::{Object, object};
use super::super::views;
use super::{Fields, TaskRecord, Value, write_labels};

/// Appends a task.
pub(in super::super) fn task(out: &mut Vec<u8>, record: &TaskRecord) {
    let begin = out.len();
    let written = record.bytes().and_then(|bytes| write(out, bytes, record));
    if written.is_none() {
        out.truncate(begin);
        append(out, &views::task(record), Dialect::V1);
    }
}

/// The fields of a message in order; `None` for what is out of it. Those for which `many` holds may be there more
/// than once.
fn in_order(
    bytes: &[u8],
    many: impl Fn(u32) -> bool,
) -> impl Iterator<Item = Option<(u32, Value<'_>)>> {
    let mut last = 0;
    Fields(bytes).map(move |field| {
        let (number, value) = field?;
        let follows = number > last || (number == last && many(number));
        last = number;
        follows.then_some((number, value))
    })
}

/// Writes an object; `None` if a part of it is not understood.
fn whole(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>) -> Option<()>) -> Option<()> {
    let mut written = None;
    object(out, |o| written = fill(o));
    written
}

/// Which fields of a message have been there.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    fn add(&mut self, number: u32) {
        self.0 |= 1_u32.checked_shl(number).unwrap_or(0);
    }

    fn all(&self, numbers: &[u32]) -> Option<()> {
        let all = numbers.iter().all(|number| self.0 & (1 << number) != 0);
        all.then_some(())
    }
}

pub(super) fn write(out: &mut Vec<u8>, bytes: &[u8], record: &TaskRecord) -> Option<()> {
    whole(out, |o| {
        let (mut seen, mut list, mut told) = (Seen::default(), 0, false);
        for field in in_order(bytes, |number| matches!(number, 7 | 8)) {
            let (number, value) = field?;
            if list != 0 && list != number {
                o.raw().push(b']');
                list = 0;
            }
            if number > 8 && !told {
                told = true;
                if number != 9 {
                    // As it is kept: what is told is the state itself.
                    o.text("status_update_state", record.state().name());
                }
            }
            match number {
                1 => o.text("name", value.text()?),
                2 => id(o, "task_id", value)?,
                3 => id(o, "framework_id", value)?,
                4 => id(o, "executor_id", value)?,
                5 => id(o, "agent_id", value)?,
                6 => o.text("state", name::<mesos::TaskState>(value)?),
                7 => {
                    let out = item(o, "resources", list == 0);
                    resource(out, value.bytes()?)?;
                    list = 7;
                }
                8 => {
                    let out = item(o, "statuses", list == 0);
                    status(out, value.bytes()?)?;
                    list = 8;
                }
                9 => o.text("status_update_state", name::<mesos::TaskState>(value)?),
                10 => base64(o, "status_update_uuid", value)?,
                11 => labels(o, value.bytes()?)?,
                14 => o.text("user", value.text()?),
                16 => message::<mesos::KillPolicy>(o, "kill_policy", value)?,
                _ => return None,
            }
            seen.add(number);
        }
        if list != 0 {
            o.raw().push(b']');
        }
        if !told {
            o.text("status_update_state", record.state().name());
        }
        seen.all(&[1, 2, 3, 5, 6])
    })
}

/// Where to write the next item of a list, which begins with the first.
fn item<'a>(o: &'a mut Object<'_>, key: &'static str, first: bool) -> &'a mut Vec<u8> {
    if first {
        let out = o.plain_key(key);
        out.push(b'[');
        out
    } else {
        let out = o.raw();
        out.push(b',');
        out
    }
}

fn resource(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let begin = out.len();
    if plain_resource(out, bytes).is_none() {
        out.truncate(begin);
        let mut resource = Resource::decode(bytes).ok()?;
        upgrade(&mut resource);
        to_endpoint(&mut resource);
        append(out, &resource, Dialect::V1);
    }
    Some(())
}

/// A scalar that nobody reserved.
fn plain_resource(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    whole(out, |o| {
        let (mut seen, mut role) = (Seen::default(), false);
        for field in in_order(bytes, |_| false) {
            let (number, value) = field?;
            if number > 6 && !role {
                role = true;
                o.text("role", "*");
            }
            match number {
                1 => o.text("name", value.text()?),
                2 => o.text("type", name::<value::Type>(value)?),
                3 => {
                    let amount = scalar(value.bytes()?)?;
                    o.object("scalar", |o| o.put("value", amount));
                }
                6 => (value.text()? == "*").then_some(())?,
                11 => {
                    let role = value.inner()?;
                    o.object("allocation_info", |o| o.text("role", role));
                }
                _ => return None,
            }
            seen.add(number);
        }
        if !role {
            o.text("role", "*");
        }
        seen.all(&[1, 2])
    })
}

/// The finite number in a message that has nothing else.
fn scalar(bytes: &[u8]) -> Option<f64> {
    let mut fields = Fields(bytes);
    let (1, value) = fields.next()?? else {
        return None;
    };
    let number = value.double().filter(|number| number.is_finite());
    fields.next().is_none().then_some(number?)
}

fn status(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let begin = out.len();
    if plain_status(out, bytes).is_none() {
        out.truncate(begin);
        append(out, &mesos::TaskStatus::decode(bytes).ok()?, Dialect::V1);
    }
    Some(())
}

fn plain_status(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    whole(out, |o| {
        let mut seen = Seen::default();
        for field in in_order(bytes, |_| false) {
            let (number, value) = field?;
            match number {
                1 => id(o, "task_id", value)?,
                2 => o.text("state", name::<mesos::TaskState>(value)?),
                3 => base64(o, "data", value)?,
                4 => o.text("message", value.text()?),
                5 => id(o, "agent_id", value)?,
                6 => o.put("timestamp", value.double().filter(|time| time.is_finite())?),
                7 => id(o, "executor_id", value)?,
                8 => o.put("healthy", value.number()? != 0),
                9 => o.text("source", name::<task_status::Source>(value)?),
                10 => o.text("reason", name::<task_status::Reason>(value)?),
                11 => base64(o, "uuid", value)?,
                12 => labels(o, value.bytes()?)?,
                13 => message::<ContainerStatus>(o, "container_status", value)?,
                15 => message::<CheckStatusInfo>(o, "check_status", value)?,
                _ => return None,
            }
            seen.add(number);
        }
        seen.all(&[1, 2])
    })
}

/// An id, which is an object here.
fn id(o: &mut Object<'_>, key: &'static str, value: Value<'_>) -> Option<()> {
    let mut fields = Fields(value.bytes()?);
    let (1, text) = fields.next()?? else {
        return None;
    };
    let text = text.text()?;
    fields.next().is_none().then_some(())?;
    o.plain_object(key, |o| o.text("value", text));
    Some(())
}

fn name<E: JsonEnum>(value: Value<'_>) -> Option<&'static str> {
    let number = i32::try_from(value.number()?).ok()?;
    Some(E::try_from(number).ok()?.name())
}

fn base64(o: &mut Object<'_>, key: &'static str, value: Value<'_>) -> Option<()> {
    o.text(key, &STANDARD.encode(value.bytes()?));
    Some(())
}

fn message<M: Json + Message + Default>(
    o: &mut Object<'_>,
    key: &'static str,
    value: Value<'_>,
) -> Option<()> {
    let message = M::decode(value.bytes()?).ok()?;
    append(o.plain_key(key), &message, Dialect::V1);
    Some(())
}

/// Labels, which are an object around their list here; an empty list is left out.
fn labels(o: &mut Object<'_>, bytes: &[u8]) -> Option<()> {
    let mut written = Some(());
    o.plain_object("labels", |o| {
        if !bytes.is_empty() {
            written = write_labels(o, bytes);
        }
    });
    written
}

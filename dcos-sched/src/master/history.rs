//! What agents remember of tasks that ended: taken over by a new master as far as it keeps such
//! things, and not even read beyond that.
//!
//! An agent sends along up to 50 × 150 × 200 ended tasks, of which a master keeps 1000 for each
//! framework: a cluster of 40,000 agents comes back with millions, and reading them all would
//! take longer than everything else. So they are cut out of the message before it is decoded.
//!
//! Source: Mesos 1.11 `Master::__reregisterSlave`, "Re-add completed tasks reported by the slave".
//! Departure: the first that come are kept, not the last.

use std::borrow::Cow;

use bytes::Bytes;
use dcos_proto::decode;
use dcos_proto::internal::archive;
use dcos_proto::mesos::Task;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::Master;

/// `completed_frameworks` of `ReregisterSlaveMessage`.
const COMPLETED_FRAMEWORKS: u32 = 5;

/// `tasks` of `Archive.Framework`.
const TASKS: u32 = 3;

/// The messages in field `wanted` of a message; `None` if it is not well-formed.
pub(crate) fn values(mut message: &[u8], wanted: u32) -> Option<Vec<&[u8]>> {
    let mut values = Vec::new();
    while !message.is_empty() {
        let (field, kind) = decode_key(&mut message).ok()?;
        if field == wanted && kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (value, rest) = message.split_at_checked(length)?;
            values.push(value);
            message = rest;
        } else {
            skip_field(kind, field, &mut message, DecodeContext::default()).ok()?;
        }
    }
    Some(values)
}

/// A message without a repeated field, and the values of that.
struct Split<'a> {
    rest: Cow<'a, [u8]>,
    values: Vec<&'a [u8]>,
}

/// Takes the messages in field `wanted` out of a message; `None` if it is not well-formed.
fn split(message: &[u8], wanted: u32) -> Option<Split<'_>> {
    let mut left = message;
    let (mut rest, mut values) = (Vec::new(), Vec::new());
    while !left.is_empty() {
        let begin = left;
        let (field, kind) = decode_key(&mut left).ok()?;
        if field == wanted && kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut left).ok()?).ok()?;
            values.push(left.get(..length)?);
            left = &left[length..];
        } else {
            skip_field(kind, field, &mut left, DecodeContext::default()).ok()?;
            rest.extend_from_slice(&begin[..begin.len() - left.len()]);
        }
    }
    let rest = if values.is_empty() {
        message.into()
    } else {
        rest.into()
    };
    Some(Split { rest, values })
}

/// A `ReregisterSlaveMessage` without its history, and the history.
pub(crate) fn apart(message: &[u8]) -> (Cow<'_, [u8]>, Vec<&[u8]>) {
    match split(message, COMPLETED_FRAMEWORKS) {
        Some(Split { rest, values }) => (rest, values),
        None => (message.into(), Vec::new()),
    }
}

impl Master {
    /// Takes over ended tasks of frameworks that are known and have room for more.
    pub(crate) fn remember_history(&mut self, history: &[Bytes]) {
        let most = self.settings.max_completed_tasks;
        for completed in history {
            let Some(Split { rest, values }) = split(completed, TASKS) else {
                continue;
            };
            let Ok(completed) = decode::<archive::Framework>(&rest) else {
                continue;
            };
            let Some(id) = &completed.framework_info.id else {
                continue;
            };
            let kept = self
                .frameworks
                .get(id)
                .map(|known| known.completed_tasks.len());
            let Some(room) = kept.and_then(|kept| most.checked_sub(kept)) else {
                continue;
            };
            if room == 0 {
                continue;
            }
            let Some(framework) = self.framework_mut(id) else {
                continue;
            };
            for task in values.into_iter().take(room) {
                if let Ok(task) = decode::<Task>(task) {
                    framework.remember_completed(task.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dcos_core::seed::Seed;
    use dcos_core::time::Time;
    use dcos_proto::internal::ReregisterSlaveMessage;
    use dcos_proto::mesos::{AgentInfo, FrameworkInfo, MasterInfo};
    use prost::Message as _;

    use super::*;
    use crate::allocator::{self, HierarchicalDrf};
    use crate::master::recent::Recent;
    use crate::master::{Framework, Settings};

    #[test]
    fn history_is_cut_out_and_the_rest_stays() {
        let archived = |name: &str, tasks: usize| archive::Framework {
            framework_info: FrameworkInfo {
                name: name.to_owned(),
                ..FrameworkInfo::default()
            },
            pid: None,
            tasks: vec![Task::default(); tasks],
        };
        let mut message = ReregisterSlaveMessage {
            agent: AgentInfo {
                hostname: "host".to_owned(),
                ..AgentInfo::default()
            },
            tasks: vec![Task::default(); 3],
            completed_frameworks: vec![archived("one", 2), archived("two", 0)],
            version: Some("1.11.0".to_owned()),
            ..ReregisterSlaveMessage::default()
        };
        let bytes = message.encode_to_vec();
        let (rest, history) = apart(&bytes);
        let completed = std::mem::take(&mut message.completed_frameworks);
        assert_eq!(ReregisterSlaveMessage::decode(&*rest), Ok(message));
        let read: Vec<_> = history
            .iter()
            .map(|bytes| archive::Framework::decode(*bytes).expect("it is whole"))
            .collect();
        assert_eq!(read, completed);
        // What is cut off in the middle is left to the decoder to refuse.
        let (whole, none) = apart(&bytes[..bytes.len() - 1]);
        assert_eq!((&*whole, none.len()), (&bytes[..bytes.len() - 1], 0));
    }

    #[test]
    fn as_much_is_taken_over_as_is_kept() {
        for (most, kept) in [(1, 1), (2000, 1500)] {
            let seed = Seed::new(1);
            let allocator = HierarchicalDrf::new(allocator::Config::default(), &seed);
            let settings = Settings {
                max_completed_tasks: most,
                ..Settings::new(MasterInfo::default())
            };
            let mut master = Master::new(settings, Box::new(allocator), &seed, Time::from_secs(1));
            let info = FrameworkInfo {
                id: Some("f".into()),
                ..FrameworkInfo::default()
            };
            let mut framework = Framework::new(info.clone(), Time::from_secs(1));
            framework.completed_tasks = Recent::new(most);
            let id = framework.id();
            master.frameworks.insert(id.clone(), Arc::new(framework));
            let task = |number: u32| Task {
                task_id: number.to_string().into(),
                ..Task::default()
            };
            let archived = archive::Framework {
                framework_info: info,
                pid: None,
                tasks: (0..1500).map(task).collect(),
            };
            master.remember_history(&[archived.encode_to_vec().into()]);
            assert_eq!(master.frameworks[&id].completed_tasks.len(), kept);
        }
    }
}

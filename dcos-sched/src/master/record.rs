//! [`TaskRecord`]: a task as the master keeps it.
//!
//! After a failover half a million tasks come back, of which most are only listed now and then until they end. As
//! messages they would be fifty pieces of memory each; as bytes they are one, of a fifth of the size. So a
//! task that came with its agent stays packed until it changes.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use dcos_core::resources::convert::upgrade_all;
use dcos_proto::mesos::{AgentId, Task, TaskState};
use prost::Message as _;

/// A task; a clone is the same one until it changes.
///
/// It can be used like a [`Task`]. That unpacks it for as long as it lives; whoever looks at many
/// [reads](Self::read) them.
#[derive(Clone)]
pub struct TaskRecord(Arc<Kept>);

#[derive(Clone)]
enum Kept {
    Open(Box<Task>),
    Packed(Packed),
}

#[derive(Clone)]
struct Packed {
    /// A message that was decoded before.
    bytes: Box<[u8]>,
    state: i32,
    since: Option<f64>,
    agent: Arc<AgentId>,
    opened: OnceLock<Box<Task>>,
}

fn since(task: &Task) -> Option<f64> {
    task.statuses.first()?.timestamp
}

/// The task that was packed.
fn open(bytes: &[u8]) -> Task {
    let mut task = Task::decode(bytes).expect("it was decoded before");
    prepare(&mut task);
    task
}

/// Makes of a task that an agent tells of what the master keeps: resources are refined, lists give back
/// the room that decoding left behind them, and what it was told last is known.
fn prepare(task: &mut Task) {
    upgrade_all(&mut task.resources);
    task.statuses.shrink_to_fit();
    task.resources.shrink_to_fit();
    if let Some(labels) = &mut task.labels {
        labels.labels.shrink_to_fit();
    }
    if task.status_update_state.is_none() {
        task.status_update_state = Some(task.state);
    }
}

impl TaskRecord {
    /// A task that an agent tells of. `bytes` are what `task` was decoded from, and `agent` is its agent.
    pub(crate) fn packed(bytes: &[u8], task: &Task, agent: Arc<AgentId>) -> Self {
        Self(Arc::new(Kept::Packed(Packed {
            bytes: bytes.into(),
            state: task.state,
            since: since(task),
            agent,
            opened: OnceLock::new(),
        })))
    }

    /// The task, which stays packed if it is.
    pub fn read(&self) -> Cow<'_, Task> {
        match &*self.0 {
            Kept::Open(task) => Cow::Borrowed(task),
            Kept::Packed(packed) => match packed.opened.get() {
                Some(task) => Cow::Borrowed(task),
                None => Cow::Owned(open(&packed.bytes)),
            },
        }
    }

    /// The bytes of a packed task, of which some things have to be made up when it is [read](Self::read).
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match &*self.0 {
            Kept::Packed(packed) if packed.opened.get().is_none() => Some(&packed.bytes),
            _ => None,
        }
    }

    /// Its state, without unpacking it.
    pub fn state(&self) -> TaskState {
        match &*self.0 {
            Kept::Open(task) => task.state(),
            Kept::Packed(packed) => TaskState::try_from(packed.state).unwrap_or_default(),
        }
    }

    /// When it was first heard of, without unpacking it.
    pub(crate) fn since(&self) -> Option<f64> {
        match &*self.0 {
            Kept::Open(task) => since(task),
            Kept::Packed(packed) => packed.since,
        }
    }

    /// Where it runs, without unpacking it.
    pub fn agent_id(&self) -> &AgentId {
        match &*self.0 {
            Kept::Open(task) => &task.agent_id,
            Kept::Packed(packed) => &packed.agent,
        }
    }

    /// The task to be changed: it is unpacked, and a copy if others hold it.
    pub(crate) fn to_mut(&mut self) -> &mut Task {
        if matches!(&*self.0, Kept::Packed(_)) {
            *self = self.read().into_owned().into();
        }
        match Arc::make_mut(&mut self.0) {
            Kept::Open(task) => task,
            Kept::Packed(_) => unreachable!("it was unpacked just now"),
        }
    }

    /// The task alone.
    pub(crate) fn into_task(self) -> Task {
        match Arc::try_unwrap(self.0) {
            Ok(Kept::Open(task)) => *task,
            Ok(Kept::Packed(packed)) => match packed.opened.into_inner() {
                Some(task) => *task,
                None => open(&packed.bytes),
            },
            Err(shared) => Self(shared).read().into_owned(),
        }
    }
}

impl From<Task> for TaskRecord {
    fn from(task: Task) -> Self {
        Self(Arc::new(Kept::Open(Box::new(task))))
    }
}

impl Deref for TaskRecord {
    type Target = Task;

    fn deref(&self) -> &Task {
        match &*self.0 {
            Kept::Open(task) => task,
            Kept::Packed(packed) => packed.opened.get_or_init(|| Box::new(open(&packed.bytes))),
        }
    }
}

impl PartialEq for TaskRecord {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.read() == other.read()
    }
}

impl fmt::Debug for TaskRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use dcos_core::resources::scalar_resource;
    use dcos_proto::mesos::{Label, Labels, TaskStatus};

    use super::*;

    fn task() -> Task {
        let mut cpus = scalar_resource("cpus", 0.5);
        cpus.role = Some("role".to_owned());
        Task {
            task_id: "t".into(),
            agent_id: "a".into(),
            state: TaskState::TaskRunning.into(),
            resources: vec![cpus],
            statuses: vec![TaskStatus {
                timestamp: Some(0.5),
                ..TaskStatus::default()
            }],
            labels: Some(Labels {
                labels: vec![Label::default()],
            }),
            ..Task::default()
        }
    }

    fn packed() -> TaskRecord {
        let task = task();
        TaskRecord::packed(&task.encode_to_vec(), &task, Arc::new("a".into()))
    }

    fn is_packed(record: &TaskRecord) -> bool {
        matches!(&*record.0, Kept::Packed(packed) if packed.opened.get().is_none())
    }

    #[test]
    fn a_packed_task_is_what_the_open_one_would_be() {
        let mut open = task();
        prepare(&mut open);
        assert!(open.resources[0].role.is_none() && open.status_update_state.is_some());
        let (record, open) = (packed(), TaskRecord::from(open));
        assert_eq!(
            (record.state(), record.agent_id()),
            (open.state(), open.agent_id())
        );
        assert_eq!((record.since(), open.since()), (Some(0.5), Some(0.5)));
        assert_eq!(record.read(), open.read());
        assert_eq!(record, open);
        assert!(is_packed(&record), "looking at it leaves it packed");
        assert_eq!(*record, *open);
        assert!(!is_packed(&record), "using it does not");
        assert_eq!(record.read(), open.read());
        assert_eq!(packed().into_task(), open.into_task());
    }

    #[test]
    fn a_change_is_seen_by_nobody_else() {
        let mut record = packed();
        let before = record.clone();
        record.to_mut().state = TaskState::TaskKilling.into();
        assert_eq!(record.state(), TaskState::TaskKilling);
        assert_eq!(before.state(), TaskState::TaskRunning);
        assert!(is_packed(&before));
        let mut alone = TaskRecord::from(task());
        alone.to_mut().agent_id = "b".into();
        assert_eq!(alone.agent_id(), &AgentId::from("b"));
    }
}

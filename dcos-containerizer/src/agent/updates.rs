//! Status updates on their way to the master: kept, in order, sent again until acknowledged.
//!
//! Each task has a stream. Only the oldest unacknowledged update of a stream is under way; it is
//! sent again after 10 s, 20 s, 40 s, ... up to 10 minutes. What is written to disk, and when, is
//! the caller's: an update that [`Updates::receive`] calls new must be on disk before it is sent.
//!
//! Source: Mesos 1.11 `TaskStatusUpdateManager` (`src/slave/task_status_update_manager.cpp`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::internal::{StatusUpdate, StatusUpdateRecord, status_update_record};
use dcos_proto::mesos::{ExecutorId, FrameworkId, TaskId};

use dcos_core::states::is_terminal;

const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_mins(10);

/// The streams of all tasks.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    streams: BTreeMap<Key, Stream>,
    /// When which stream is due, soonest first: thousands wait for acknowledgements.
    due: BTreeSet<(Time, Key)>,
    paused: bool,
}

/// Whose, and which task's.
type Key = (FrameworkId, TaskId);

#[derive(Debug, Default)]
struct Stream {
    /// Not acknowledged, oldest first.
    pending: VecDeque<StatusUpdate>,
    /// The uuids of all updates of this task's life. None of them may be forgotten before its end: an executor sends
    /// again what it does not know to have arrived, after a restart of the agent too, and the log on disk has them all.
    received: BTreeSet<Vec<u8>>,
    /// When the oldest is sent (again), and how long to wait after that.
    due: Option<(Time, Duration)>,
}

/// What to do with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// Write it down; it will be sent.
    New,
    /// It is known already; whoever sent it may forget it.
    Duplicate,
}

/// What an acknowledgement led to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Acknowledged {
    /// The update is done with; write that down. `terminal` ends the stream.
    Done {
        terminal: bool,
        /// Whose update it was.
        executor: Option<ExecutorId>,
    },
    /// It was acknowledged before, or is not the one under way.
    Stale,
    /// There is no such stream.
    Unknown,
}

impl Updates {
    /// Takes in an update that has a uuid.
    pub(crate) fn receive(&mut self, now: Time, update: StatusUpdate) -> Receipt {
        let key = key_of(&update);
        let uuid = update.uuid.clone().unwrap_or_default();
        let stream = self.streams.entry(key.clone()).or_default();
        if !stream.received.insert(uuid) {
            return Receipt::Duplicate;
        }
        stream.pending.push_back(update);
        if stream.pending.len() == 1 {
            stream.due = Some((now, RETRY_MIN));
            self.due.insert((now, key));
        }
        Receipt::New
    }

    /// Takes in the scheduler's acknowledgement.
    pub(crate) fn acknowledge(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        task: &TaskId,
        uuid: &[u8],
    ) -> Acknowledged {
        let key = (framework.clone(), task.clone());
        let Some(stream) = self.streams.get_mut(&key) else {
            return Acknowledged::Unknown;
        };
        let under_way = stream
            .pending
            .front()
            .and_then(|front| front.uuid.as_deref());
        if under_way != Some(uuid) {
            return Acknowledged::Stale;
        }
        let before = stream.due;
        let Some(update) = stream.acknowledge_front(now) else {
            return Acknowledged::Unknown;
        };
        let after = stream.due;
        let terminal = is_terminal(update.status.state());
        if terminal {
            self.streams.remove(&key);
        }
        if let Some((at, _)) = before {
            self.due.remove(&(at, key.clone()));
        }
        if let Some((at, _)) = after.filter(|_| !terminal) {
            self.due.insert((at, key));
        }
        Acknowledged::Done {
            terminal,
            executor: update.executor_id,
        }
    }

    /// Holds everything back: there is no master to send to.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Sends what is under way again, all of it at once.
    pub(crate) fn resume(&mut self, now: Time) {
        self.paused = false;
        self.due.clear();
        for (key, stream) in &mut self.streams {
            stream.due = (!stream.pending.is_empty()).then_some((now, RETRY_MIN));
            self.due.extend(stream.due.map(|(at, _)| (at, key.clone())));
        }
    }

    /// An update to send now.
    pub(crate) fn poll(&mut self, now: Time) -> Option<StatusUpdate> {
        if self.paused {
            return None;
        }
        while let Some((at, _)) = self.due.first()
            && at.is_due(now)
        {
            let (_, key) = self.due.pop_first()?;
            let Some(stream) = self.streams.get_mut(&key) else {
                continue;
            };
            let wait = stream.due.map_or(RETRY_MIN, |(_, wait)| wait);
            stream.due = Some((now + wait, (wait * 2).min(RETRY_MAX)));
            self.due.insert((now + wait, key));
            if let Some(update) = stream.pending.front() {
                return Some(update.clone());
            }
        }
        None
    }

    /// When [`poll`](Self::poll) has something next.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        if self.paused {
            return None;
        }
        self.due.first().map(|(at, _)| *at)
    }

    /// Rebuilds a stream from what was written down. False if it has ended: its terminal update
    /// was acknowledged.
    pub(crate) fn recover(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        records: &[StatusUpdateRecord],
    ) -> bool {
        let mut stream = Stream::default();
        for record in records {
            match record.r#type() {
                status_update_record::Type::Update => {
                    let Some(update) = record.update.clone() else {
                        continue;
                    };
                    if stream
                        .received
                        .insert(update.uuid.clone().unwrap_or_default())
                    {
                        stream.pending.push_back(update);
                    }
                }
                status_update_record::Type::Ack => {
                    let uuid = record.uuid.as_deref();
                    let front = stream
                        .pending
                        .front()
                        .and_then(|front| front.uuid.as_deref());
                    if front == uuid
                        && let Some(update) = stream.acknowledge_front(Time::EPOCH)
                        && is_terminal(update.status.state())
                    {
                        return false;
                    }
                }
            }
        }
        let key = (framework.clone(), task.clone());
        if !records.is_empty() {
            self.due.extend(stream.due.map(|(at, _)| (at, key.clone())));
            self.streams.insert(key, stream);
        }
        true
    }

    /// Whether a task has an update that nobody acknowledged.
    pub(crate) fn has_pending(&self, framework: &FrameworkId, task: &TaskId) -> bool {
        let stream = self.streams.get(&(framework.clone(), task.clone()));
        stream.is_some_and(|stream| !stream.pending.is_empty())
    }

    /// Forgets all streams of a framework: nobody is left to acknowledge them.
    pub(crate) fn forget_framework(&mut self, framework: &FrameworkId) {
        self.streams.retain(|(owner, _), _| owner != framework);
        self.due.retain(|(_, (owner, _))| owner != framework);
    }
}

impl Stream {
    /// Takes off the oldest update.
    fn acknowledge_front(&mut self, now: Time) -> Option<StatusUpdate> {
        let update = self.pending.pop_front()?;
        self.due = (!self.pending.is_empty()).then_some((now, RETRY_MIN));
        Some(update)
    }
}

fn key_of(update: &StatusUpdate) -> (FrameworkId, TaskId) {
    (update.framework_id.clone(), update.status.task_id.clone())
}

/// The line of the log that tells of an update.
pub(crate) fn update_record(update: StatusUpdate) -> StatusUpdateRecord {
    StatusUpdateRecord {
        r#type: status_update_record::Type::Update.into(),
        update: Some(update),
        uuid: None,
    }
}

/// The line of the log that tells of an acknowledgement.
pub(crate) fn ack_record(uuid: Vec<u8>) -> StatusUpdateRecord {
    StatusUpdateRecord {
        r#type: status_update_record::Type::Ack.into(),
        update: None,
        uuid: Some(uuid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::mesos::{TaskState, TaskStatus};
    use proptest::prelude::*;

    fn update(task: &str, number: u8, state: TaskState) -> StatusUpdate {
        StatusUpdate {
            framework_id: "f".into(),
            status: TaskStatus {
                task_id: task.into(),
                state: state.into(),
                ..TaskStatus::default()
            },
            uuid: Some(vec![number; 16]),
            ..StatusUpdate::default()
        }
    }

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    fn number(update: &StatusUpdate) -> u8 {
        update.uuid.as_ref().unwrap()[0]
    }

    #[test]
    fn an_update_is_sent_again_with_growing_pauses() {
        let mut updates = Updates::default();
        updates.receive(at(0), update("t", 1, TaskState::TaskRunning));
        let mut sent = Vec::new();
        while sent.len() < 10 {
            let now = updates.next_deadline().unwrap();
            assert!(updates.poll(now).is_some());
            assert!(updates.poll(now).is_none());
            sent.push(now.as_secs());
        }
        assert_eq!(sent, [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430]);
    }

    #[test]
    fn one_update_of_a_task_is_under_way_at_a_time() {
        let (f, t) = (FrameworkId::from("f"), TaskId::from("t"));
        let mut updates = Updates::default();
        updates.receive(at(0), update("t", 1, TaskState::TaskRunning));
        updates.receive(at(0), update("t", 2, TaskState::TaskFinished));
        assert_eq!(number(&updates.poll(at(0)).unwrap()), 1);
        assert!(updates.poll(at(1)).is_none());
        assert_eq!(
            updates.acknowledge(at(1), &f, &t, &[2; 16]),
            Acknowledged::Stale
        );
        let done = updates.acknowledge(at(1), &f, &t, &[1; 16]);
        assert_eq!(
            done,
            Acknowledged::Done {
                terminal: false,
                executor: None
            }
        );
        assert_eq!(number(&updates.poll(at(1)).unwrap()), 2);
        let done = updates.acknowledge(at(2), &f, &t, &[2; 16]);
        assert_eq!(
            done,
            Acknowledged::Done {
                terminal: true,
                executor: None
            }
        );
        assert_eq!(
            updates.acknowledge(at(2), &f, &t, &[2; 16]),
            Acknowledged::Unknown
        );
        assert_eq!(updates.next_deadline(), None);
    }

    #[test]
    fn a_uuid_counts_once() {
        let mut updates = Updates::default();
        assert_eq!(
            updates.receive(at(0), update("t", 1, TaskState::TaskRunning)),
            Receipt::New
        );
        let again = updates.receive(at(0), update("t", 1, TaskState::TaskRunning));
        assert_eq!(again, Receipt::Duplicate);
    }

    /// What may happen to a manager and the log beside it.
    #[derive(Debug, Clone)]
    enum Step {
        Receive(u8),
        AckFront,
        AckWrong(u8),
        Pass(u16),
        Disconnect,
        Reconnect,
        Crash,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..20_u8).prop_map(Step::Receive),
            4 => Just(Step::AckFront),
            1 => (0..20_u8).prop_map(Step::AckWrong),
            2 => (0..2000_u16).prop_map(Step::Pass),
            1 => Just(Step::Disconnect),
            1 => Just(Step::Reconnect),
            1 => Just(Step::Crash),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// However it is disturbed: updates are first sent in the order they came, each is
        /// acknowledged once, and whatever is not acknowledged is still sent in the end.
        #[test]
        fn nothing_is_lost_doubled_or_reordered(steps in steps()) {
            let (f, t) = (FrameworkId::from("f"), TaskId::from("t"));
            let mut now = at(0);
            let mut updates = Updates::default();
            let (mut log, mut came, mut acked) = (Vec::new(), Vec::new(), Vec::new());
            let mut last = None;
            for step in steps {
                match step {
                    Step::Receive(n) => {
                        let update = update("t", n, TaskState::TaskRunning);
                        let receipt = updates.receive(now, update.clone());
                        prop_assert_eq!(receipt == Receipt::New, !came.contains(&n));
                        if receipt == Receipt::New {
                            came.push(n);
                            log.push(update_record(update));
                        }
                    }
                    Step::AckFront => {
                        if let Some(n) = last.take()
                            && updates.acknowledge(now, &f, &t, &[n; 16]) != Acknowledged::Stale
                        {
                            acked.push(n);
                            log.push(ack_record(vec![n; 16]));
                        }
                    }
                    Step::AckWrong(n) => if came.get(acked.len()) != Some(&n) {
                        let answer = updates.acknowledge(now, &f, &t, &[n; 16]);
                        let done = matches!(answer, Acknowledged::Done { .. });
                        prop_assert!(!done);
                    },
                    Step::Pass(secs) => now += Duration::from_secs(secs.into()),
                    Step::Disconnect => updates.pause(),
                    Step::Reconnect => updates.resume(now),
                    Step::Crash => {
                        updates = Updates::default();
                        updates.recover(&f, &t, &log);
                        updates.resume(now);
                    }
                }
                while let Some(sent) = updates.poll(now) {
                    prop_assert_eq!(number(&sent), came[acked.len()]);
                    last = Some(number(&sent));
                }
                prop_assert_eq!(&came[..acked.len()], &acked[..]);
            }
            updates.resume(now);
            while acked.len() < came.len() {
                let sent = number(&updates.poll(now).expect("what is not acknowledged is sent"));
                updates.acknowledge(now, &f, &t, &[sent; 16]);
                acked.push(sent);
            }
            prop_assert_eq!(acked, came);
        }
    }
}

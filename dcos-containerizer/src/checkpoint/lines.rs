//! What the journal says: facts of frameworks and of launches of executors, a line each.
//!
//! ```text
//! /frameworks/F                                    whom the lines below are about
//! framework {"framework_info": ..., "pid": ...}
//! /frameworks/F/executors/E/runs/C
//! executor {"executor_info": ..., "hosted": ...}   it was launched
//! connected {"pid": ...}                           a custom one subscribed
//! adopted {"pid": ..., "generated": ...}           an original agent had launched it
//! task {"task_info": ..., "container_id": ..., "group": ...}
//! update {"task_id": ..., "record": ...}           a status update, or its acknowledgement
//! ended {"at": <nanoseconds since 1970>}
//! deleted {}                                       nothing is left of it
//! ```

use std::io::Write as _;

use dcos_core::time::Time;
use dcos_proto::internal::StatusUpdateRecord;
use dcos_proto::json::{self, Dialect, Json as ToJson};
use dcos_proto::mesos::{ContainerId, ExecutorInfo, FrameworkId, FrameworkInfo, TaskId};
use serde_json::Value;

use super::store::hosted_name;
use super::{
    Adopted, ExecutorCheckpoint, FrameworkCheckpoint, Run, RunCheckpoint, TaskCheckpoint, Write,
};
use crate::executor::HostedKind;

/// What the lines of a framework begin with.
pub(super) const FRAMEWORK: &str = "framework";
/// What the first line of a launch begins with.
pub(super) const EXECUTOR: &str = "executor";
/// What a line begins with that names a task of a launch.
pub(super) const TASK: &str = "task";
/// What the lines begin with that tell of a task.
pub(super) const UPDATE: &str = "update";
/// What the last line of a launch begins with.
pub(super) const DELETED: &str = "deleted";

/// Lines on their way to the journal.
#[derive(Debug, Default)]
pub(super) struct Lines {
    body: Vec<u8>,
    owner: String,
}

/// As much room is kept for the next batch.
const ROOM: usize = 1 << 20;

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// What a batch holds.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Takes all away, for the next batch.
    pub(super) fn clear(&mut self) {
        self.body.clear();
        self.body.shrink_to(ROOM);
        self.owner.clear();
    }

    /// Takes in a fact, if it is one for the journal; `now` is when it is told.
    pub(super) fn write(&mut self, write: &Write, now: Time) -> bool {
        match write {
            Write::Framework(info, pid) => self.framework(info, pid.as_deref()),
            Write::Executor(run, info, hosted) => self.executor(run, info, *hosted),
            Write::Connected(run, pid) => self.connected(run, pid.as_deref()),
            Write::Adopted(run, adopted) => self.adopted(run, *adopted),
            Write::Task(run, task) => self.task(run, task),
            Write::Update(run, task, record) => self.update(run, task, record),
            Write::Sentinel(run) => self.ended(run, now),
            Write::Deleted(run) => self.forget(run),
            Write::Agent(_) | Write::Resources(..) | Write::Drain(_) => return false,
        }
        true
    }

    /// Nothing is left of a launch.
    pub(super) fn forget(&mut self, run: &Run) {
        self.push(&place(run), DELETED, format_args!("{{}}"));
    }

    /// All that is known of a framework.
    pub(super) fn all(&mut self, framework: &FrameworkCheckpoint) {
        self.framework(&framework.info, framework.pid.as_deref());
        for executor in &framework.executors {
            let mut runs: Vec<_> = executor.runs.iter().collect();
            runs.sort_by_key(|run| (run.ended.is_none(), run.ended));
            for run in runs {
                self.launch(framework, executor, run);
            }
        }
    }

    fn launch(
        &mut self,
        framework: &FrameworkCheckpoint,
        executor: &ExecutorCheckpoint,
        known: &RunCheckpoint,
    ) {
        let run = Run {
            framework: framework.info.id.clone().unwrap_or_default(),
            executor: executor.info.executor_id.clone(),
            container: known.container.clone(),
        };
        self.executor(&run, &executor.info, executor.hosted);
        if let Some(adopted) = known.adopted {
            self.adopted(&run, adopted);
        }
        if known.pid.is_some() {
            self.connected(&run, known.pid.as_deref());
        }
        for task in &known.tasks {
            self.task(&run, &task.checkpoint);
            for record in &task.updates {
                self.update(&run, &task.checkpoint.task.task_id, record);
            }
        }
        if let Some(at) = known.ended {
            self.ended(&run, at);
        }
    }

    fn framework(&mut self, info: &FrameworkInfo, pid: Option<&str>) {
        let id = info.id.clone().unwrap_or_default();
        let (info, pid) = (text(info), Value::from(pid));
        let contents = format_args!("{{\"framework_info\":{info},\"pid\":{pid}}}");
        self.push(&format!("/frameworks/{id}"), FRAMEWORK, contents);
    }

    fn executor(&mut self, run: &Run, info: &ExecutorInfo, hosted: Option<HostedKind>) {
        let (info, hosted) = (text(info), Value::from(hosted.map(hosted_name)));
        let contents = format_args!("{{\"executor_info\":{info},\"hosted\":{hosted}}}");
        self.push(&place(run), EXECUTOR, contents);
    }

    fn connected(&mut self, run: &Run, pid: Option<&str>) {
        let pid = Value::from(pid);
        self.push(&place(run), "connected", format_args!("{{\"pid\":{pid}}}"));
    }

    fn adopted(&mut self, run: &Run, Adopted { pid, generated }: Adopted) {
        let contents = format_args!("{{\"pid\":{pid},\"generated\":{generated}}}");
        self.push(&place(run), "adopted", contents);
    }

    fn task(&mut self, run: &Run, task: &TaskCheckpoint) {
        let info = text(&task.task);
        let container = task.container.as_ref().map_or("null".to_owned(), text);
        let group = task.group;
        let contents =
            format_args!("{{\"task_info\":{info},\"container_id\":{container},\"group\":{group}}}");
        self.push(&place(run), TASK, contents);
    }

    fn update(&mut self, run: &Run, task: &TaskId, record: &StatusUpdateRecord) {
        // Most of what is written are these.
        self.speak_of(&place(run));
        self.body.extend_from_slice(UPDATE.as_bytes());
        self.body.extend_from_slice(b" {\"task_id\":");
        json::append_text(&mut self.body, task.as_str());
        self.body.extend_from_slice(b",\"record\":");
        json::append(&mut self.body, record, Dialect::V1);
        self.body.extend_from_slice(b"}\n");
    }

    fn ended(&mut self, run: &Run, at: Time) {
        let at = at.as_nanos();
        self.push(&place(run), "ended", format_args!("{{\"at\":{at}}}"));
    }

    /// One more line. Neighbours of one owner share its name.
    pub(super) fn push(&mut self, owner: &str, word: &str, contents: impl std::fmt::Display) {
        self.speak_of(owner);
        let written = writeln!(self.body, "{word} {contents}");
        written.expect("memory takes whatever is written to it");
    }

    fn speak_of(&mut self, owner: &str) {
        if self.owner != owner {
            self.body.extend_from_slice(owner.as_bytes());
            self.body.push(b'\n');
            owner.clone_into(&mut self.owner);
        }
    }
}

/// The lines of a body: whom each is about, its word, its contents.
pub(super) fn lines(body: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut owner = "";
    body.lines().filter_map(move |line| {
        if line.starts_with('/') {
            owner = line;
            return None;
        }
        let (word, contents) = line.split_once(' ')?;
        Some((owner, word, contents))
    })
}

/// The name of a launch: where an original agent would keep it.
fn place(run: &Run) -> String {
    let [framework, executor] = [run.framework.as_str(), run.executor.as_str()];
    let container = &run.container.value;
    format!("/frameworks/{framework}/executors/{executor}/runs/{container}")
}

/// The launch of that name.
pub(super) fn run_at(place: &str) -> Option<Run> {
    let parts: Vec<_> = place.split('/').collect();
    match parts[..] {
        [
            "",
            "frameworks",
            framework,
            "executors",
            executor,
            "runs",
            container,
        ] => Some(Run {
            framework: framework.into(),
            executor: executor.into(),
            container: ContainerId::root(container),
        }),
        _ => None,
    }
}

/// The framework that a line is about, itself or by one of its launches.
pub(super) fn framework_at(place: &str) -> Option<FrameworkId> {
    let mut parts = place.strip_prefix("/frameworks/")?.split('/');
    parts.next().map(FrameworkId::from)
}

fn text<M: ToJson>(message: &M) -> String {
    json::to_string(message, Dialect::V1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_the_name_of_their_owner() {
        let mut written = Lines::default();
        for (owner, word) in [("/a", "x"), ("/a", "y"), ("/b", "x"), ("/a", "z")] {
            written.push(owner, word, "{}");
        }
        let text = str::from_utf8(written.as_bytes()).unwrap();
        assert_eq!(text, "/a\nx {}\ny {}\n/b\nx {}\n/a\nz {}\n");
        let read: Vec<_> = lines(text).collect();
        let expected = [("/a", "x"), ("/a", "y"), ("/b", "x"), ("/a", "z")];
        assert_eq!(read, expected.map(|(owner, word)| (owner, word, "{}")));
    }

    #[test]
    fn places_lead_back_to_launches() {
        let run = Run {
            framework: "f x".into(),
            executor: "e".into(),
            container: ContainerId::root("c"),
        };
        assert_eq!(run_at(&place(&run)), Some(run));
        assert_eq!(run_at("/frameworks/f"), None);
        assert_eq!(framework_at("/frameworks/f/executors/e"), Some("f".into()));
    }
}

//! From the lines of the journal to what is known of frameworks.

use std::collections::{BTreeMap, HashMap};

use dcos_core::time::Time;
use dcos_proto::Message;
use dcos_proto::internal::{StatusUpdateRecord, status_update_record};
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::{ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, TaskId};
use serde_json::Value;

use super::format::FormatError;
use super::lines::{DELETED, EXECUTOR, FRAMEWORK, lines, run_at};
use super::read::hosted_kind;
use super::{
    Adopted, ExecutorCheckpoint, FrameworkCheckpoint, Run, RunCheckpoint, TaskCheckpoint,
    TaskHistory,
};
use crate::executor::HostedKind;
use dcos_core::states::is_terminal;

/// What the lines read so far say.
#[derive(Debug, Default)]
pub(super) struct Replay {
    frameworks: BTreeMap<FrameworkId, (FrameworkInfo, Option<String>)>,
    /// In the order they were launched.
    launches: Vec<Launch>,
    /// Which is where, by its name. Deleted ones are in no list.
    known: HashMap<String, usize>,
}

#[derive(Debug)]
struct Launch {
    run: Run,
    executor: ExecutorInfo,
    hosted: Option<HostedKind>,
    checkpoint: RunCheckpoint,
    /// Which task is where.
    tasks: BTreeMap<TaskId, usize>,
    deleted: bool,
}

impl Replay {
    /// Takes in the next batch.
    ///
    /// # Errors
    /// A line that was written as it is, and makes no sense.
    pub(super) fn take(&mut self, body: &str) -> Result<(), FormatError> {
        for (owner, word, contents) in lines(body) {
            let contents: Value =
                serde_json::from_str(contents).map_err(|error| unexpected(word, &error))?;
            match word {
                FRAMEWORK => {
                    let info: FrameworkInfo = message(word, &contents["framework_info"])?;
                    let id = info.id.clone().unwrap_or_default();
                    let pid = contents["pid"].as_str().map(ToOwned::to_owned);
                    self.frameworks.insert(id, (info, pid));
                }
                EXECUTOR => self.launched(owner, &contents)?,
                _ => {
                    // What comes late for one that is gone is for nobody.
                    let launch = self.known.get(owner);
                    if let Some(launch) = launch.and_then(|at| self.launches.get_mut(*at)) {
                        launch.take(word, &contents)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn launched(&mut self, owner: &str, contents: &Value) -> Result<(), FormatError> {
        let run = run_at(owner).ok_or_else(|| unexpected(EXECUTOR, &owner))?;
        let executor = message(EXECUTOR, &contents["executor_info"])?;
        let hosted = contents["hosted"].as_str().map(hosted_kind).transpose();
        let checkpoint = RunCheckpoint {
            container: run.container.clone(),
            ended: None,
            pid: None,
            adopted: None,
            tasks: Vec::new(),
        };
        self.known.insert(owner.to_owned(), self.launches.len());
        self.launches.push(Launch {
            run,
            executor,
            hosted: hosted?,
            checkpoint,
            tasks: BTreeMap::new(),
            deleted: false,
        });
        Ok(())
    }

    /// All frameworks with what is left of their executors.
    pub(super) fn finish(self) -> BTreeMap<FrameworkId, FrameworkCheckpoint> {
        let mut frameworks: BTreeMap<_, _> = self
            .frameworks
            .into_iter()
            .map(|(id, (info, pid))| {
                let executors = Vec::new();
                let framework = FrameworkCheckpoint {
                    info,
                    pid,
                    executors,
                };
                (id, framework)
            })
            .collect();
        let mut places: HashMap<(FrameworkId, ExecutorId), usize> = HashMap::new();
        for launch in self.launches.into_iter().filter(|launch| !launch.deleted) {
            let Some(framework) = frameworks.get_mut(&launch.run.framework) else {
                continue;
            };
            let key = (launch.run.framework, launch.run.executor);
            if let Some(at) = places.get(&key) {
                let executor = &mut framework.executors[*at];
                executor.info = launch.executor;
                executor.hosted = launch.hosted;
                executor.runs.push(launch.checkpoint);
            } else {
                places.insert(key, framework.executors.len());
                framework.executors.push(ExecutorCheckpoint {
                    info: launch.executor,
                    hosted: launch.hosted,
                    runs: vec![launch.checkpoint],
                });
            }
        }
        frameworks
    }
}

impl Launch {
    fn take(&mut self, word: &str, contents: &Value) -> Result<(), FormatError> {
        match word {
            "connected" => {
                let pid = contents["pid"].as_str();
                self.checkpoint.pid = pid.map(ToOwned::to_owned);
            }
            "adopted" => {
                let pid = contents["pid"].as_u64().unwrap_or(0);
                self.checkpoint.adopted = Some(Adopted {
                    pid: u32::try_from(pid).unwrap_or(0),
                    generated: contents["generated"].as_bool().unwrap_or_default(),
                });
            }
            "task" => self.task(contents)?,
            "update" => {
                let task = contents["task_id"].as_str().unwrap_or_default();
                let record: StatusUpdateRecord = message(word, &contents["record"])?;
                if let Some(at) = self.tasks.get(&TaskId::from(task)) {
                    self.checkpoint.tasks[*at].updates.push(record);
                }
            }
            "ended" => {
                let at = contents["at"].as_u64();
                let at = at.ok_or_else(|| unexpected(word, &contents))?;
                self.checkpoint.ended = Some(Time::from_nanos(at));
            }
            DELETED => self.deleted = true,
            _ => return Err(unexpected(word, &contents)),
        }
        Ok(())
    }

    fn task(&mut self, contents: &Value) -> Result<(), FormatError> {
        let container = match &contents["container_id"] {
            Value::Null => None,
            value => Some(message("task", value)?),
        };
        let checkpoint = TaskCheckpoint {
            task: message("task", &contents["task_info"])?,
            container,
            group: contents["group"].as_u64().unwrap_or_default(),
        };
        let id = checkpoint.task.task_id.clone();
        let updates = Vec::new();
        let task = TaskHistory {
            checkpoint,
            updates,
        };
        let all = &mut self.checkpoint.tasks;
        match self.tasks.get(&id) {
            // Launched again under its name, which was free.
            Some(at) if is_over(&all[*at].updates) => all[*at] = task,
            Some(at) => all[*at].checkpoint = task.checkpoint,
            None => {
                self.tasks.insert(id, all.len());
                all.push(task);
            }
        }
        Ok(())
    }
}

/// Whether a task has ended, and nobody waits for a word of it.
pub(super) fn is_over(updates: &[StatusUpdateRecord]) -> bool {
    let acknowledged = updates
        .last()
        .is_some_and(|record| record.r#type() == status_update_record::Type::Ack);
    let mut told = updates
        .iter()
        .rev()
        .filter_map(|record| record.update.as_ref());
    acknowledged
        && told
            .next()
            .is_some_and(|update| is_terminal(update.status.state()))
}

fn message<M: Message>(word: &str, value: &Value) -> Result<M, FormatError> {
    json::from_value(value, Dialect::V1).map_err(|error| unexpected(word, &error))
}

fn unexpected(word: &str, what: &dyn std::fmt::Display) -> FormatError {
    FormatError::Contents(format!("a line `{word}`: {what}"))
}

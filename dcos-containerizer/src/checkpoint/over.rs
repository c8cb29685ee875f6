//! Tasks that ended long ago, of executors that go on: what the journal says of them may be forgotten, or an
//! executor that runs one task after the other for years would fill the disk.
//!
//! A task is over once its last update is terminal and acknowledged. As many as an agent shows of an executor
//! are remembered all the same.

use std::collections::{HashMap, HashSet};

use dcos_proto::internal::{StatusUpdateRecord, status_update_record};
use dcos_proto::json::{self, Dialect};
use serde_json::Value;

use super::lines::{DELETED, TASK, UPDATE};
use crate::agent::MAX_COMPLETED_TASKS;
use dcos_core::states::is_terminal;

/// What becomes of tasks, line by line.
#[derive(Debug, Default)]
pub(super) struct Over {
    launches: HashMap<String, HashMap<String, Stage>>,
    ended: u64,
}

#[derive(Debug)]
enum Stage {
    Open,
    /// Told, not acknowledged: the uuid of the update.
    Told(Vec<u8>),
    /// The how manieth to be.
    Over(u64),
}

impl Over {
    /// Takes in the next line. One that makes no sense is nobody's end.
    pub(super) fn take(&mut self, owner: &str, word: &str, contents: &str) {
        if word == DELETED {
            self.launches.remove(owner);
        }
        let Some((task, contents)) = read(word, contents) else {
            return;
        };
        let tasks = self.launches.entry(owner.to_owned()).or_default();
        if word == TASK {
            tasks.insert(task, Stage::Open);
            return;
        }
        let record = json::from_value(&contents["record"], Dialect::V1);
        let Ok::<StatusUpdateRecord, _>(record) = record else {
            return;
        };
        let Some(stage) = tasks.get_mut(&task) else {
            return;
        };
        match (record.r#type(), record.update, &stage) {
            (status_update_record::Type::Update, Some(update), _) => {
                *stage = if is_terminal(update.status.state()) {
                    Stage::Told(update.uuid.unwrap_or_default())
                } else {
                    Stage::Open
                };
            }
            (status_update_record::Type::Ack, _, Stage::Told(uuid))
                if record.uuid.as_ref() == Some(uuid) =>
            {
                self.ended += 1;
                *stage = Stage::Over(self.ended);
            }
            _ => {}
        }
    }

    /// Who may be forgotten.
    pub(super) fn finish(self) -> Forgotten {
        let of = |(owner, tasks): (String, HashMap<String, Stage>)| {
            let mut over: Vec<_> = tasks
                .into_iter()
                .filter_map(|(task, stage)| match stage {
                    Stage::Over(at) => Some((at, task)),
                    _ => None,
                })
                .collect();
            over.sort_unstable();
            over.truncate(over.len().saturating_sub(MAX_COMPLETED_TASKS));
            let tasks: HashSet<_> = over.into_iter().map(|(_, task)| task).collect();
            (!tasks.is_empty()).then_some((owner, tasks))
        };
        Forgotten(self.launches.into_iter().filter_map(of).collect())
    }
}

/// Tasks that may be forgotten, by their launches.
#[derive(Debug)]
pub(super) struct Forgotten(HashMap<String, HashSet<String>>);

impl Forgotten {
    /// Whether a line is about one of them.
    pub(super) fn holds(&self, owner: &str, word: &str, contents: &str) -> bool {
        self.0.get(owner).is_some_and(|tasks| {
            let task = read(word, contents);
            task.is_some_and(|(task, _)| tasks.contains(&task))
        })
    }
}

/// The task that a line is about, if it is about one.
fn read(word: &str, contents: &str) -> Option<(String, Value)> {
    if ![TASK, UPDATE].contains(&word) {
        return None;
    }
    let contents: Value = serde_json::from_str(contents).ok()?;
    let task = match word {
        TASK => &contents["task_info"]["task_id"]["value"],
        _ => &contents["task_id"],
    };
    let task = task.as_str()?.to_owned();
    Some((task, contents))
}

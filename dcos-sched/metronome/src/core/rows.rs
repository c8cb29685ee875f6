//! The rows of the store: what must survive, one row for each thing that changes on its own.
//!
//! | key | value |
//! |---|---|
//! | `metronome/framework` | the framework's id; empty once somebody ended it, so that the next one takes over what it had |
//! | `metronome/job/<job>` | what users want |
//! | `metronome/progress/<job>` | counts, the newest run, the moment last triggered |
//! | `metronome/run/<job>/<run>` | a run that goes on |
//! | `metronome/success/<job>/<run>` | a run that ended well |
//! | `metronome/failure/<job>/<run>` | a run that did not |

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_marathon::Timestamp;
use dcos_marathon::core::Row;
use dcos_marathon::instance::Instance;
use dcos_store::MAX_VALUE_BYTES;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::model::{JobId, JobSpec, Progress, Run, RunId, RunInfo, RunKey, RunStatus, RunTask};

/// What all keys begin with.
pub const PREFIX: &str = "metronome/";

/// A run in the store: whole, since its job may change meanwhile.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunRow<Spec> {
    id: RunId,
    job: Spec,
    status: RunStatus,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starts_until: Option<Timestamp>,
    #[serde(default)]
    tasks: BTreeMap<String, RunTask>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<Instance>,
}

impl From<RunRow<JobSpec>> for Run {
    fn from(row: RunRow<JobSpec>) -> Self {
        Self {
            id: row.id,
            job: Arc::new(row.job),
            status: row.status,
            created_at: row.created_at,
            completed_at: None,
            starts_until: row.starts_until,
            tasks: row.tasks,
            instance: row.instance,
        }
    }
}

pub(crate) fn framework(id: &str) -> Row {
    Row::put(format!("{PREFIX}framework"), &id)
}

pub(crate) fn job(spec: &JobSpec) -> Row {
    Row::put(job_key(&spec.id), spec)
}

/// What the row of a run may take beside the job: its task, where that is, and the hundred before it, but for the job's id
/// in their names.
const ROOM: usize = 64 * 1024;

/// How often the id of a job may be in the row of a run beside the job: in each task's name, and in those of the last.
const NAMES: usize = 128;

/// How much the row of a run that is launched may still grow: by how its task is, and when that began.
const GROWS: usize = 1024;

/// Whether the store takes not only a job, but whatever becomes of its runs, which are stored with it.
///
/// # Errors
/// [`Error::Unprocessable`] with the size.
pub(crate) fn check_job(spec: &JobSpec) -> Result<(), Error> {
    let bytes = job(spec).value.map_or(0, |value| value.len());
    let most = MAX_VALUE_BYTES.saturating_sub(ROOM + NAMES * spec.id.as_str().len());
    if bytes <= most {
        return Ok(());
    }
    let id = &spec.id;
    Err(Error::Unprocessable(format!(
        "job {id} takes {bytes} bytes in the store; at most {most} leave room for its runs"
    )))
}

pub(crate) fn job_key(id: &JobId) -> String {
    format!("{PREFIX}job/{id}")
}

pub(crate) fn progress(id: &JobId, progress: &Progress) -> Row {
    Row::put(progress_key(id), progress)
}

pub(crate) fn progress_key(id: &JobId) -> String {
    format!("{PREFIX}progress/{id}")
}

pub(crate) fn run(run: &Run) -> Row {
    let row = RunRow {
        id: run.id.clone(),
        job: &*run.job,
        status: run.status,
        created_at: run.created_at,
        starts_until: run.starts_until,
        tasks: run.tasks.clone(),
        instance: run.instance.clone(),
    };
    Row::put(run_key(&run.key()), &row)
}

/// Whether the store takes a run with the place it is to be launched at, and how its task gets on there.
pub(super) fn fits(run: &Run) -> bool {
    let bytes = self::run(run).value.map_or(0, |value| value.len());
    bytes + GROWS + run.job.id.as_str().len() <= MAX_VALUE_BYTES
}

pub(crate) fn run_key(key: &RunKey) -> String {
    format!("{PREFIX}run/{}/{}", key.job, key.run)
}

pub(crate) fn ended(job: &JobId, info: &RunInfo, well: bool) -> Row {
    Row::put(ended_key(job, &info.id, well), info)
}

pub(crate) fn ended_key(job: &JobId, run: &RunId, well: bool) -> String {
    let kind = if well { "success" } else { "failure" };
    format!("{PREFIX}{kind}/{job}/{run}")
}

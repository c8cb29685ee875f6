//! One run of a job, and what is remembered of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use dcos_marathon::Timestamp;
use dcos_marathon::instance::{Condition, Instance};
use serde::{Deserialize, Serialize};

use super::{JobId, JobSpec, RunId, RunKey};

/// One run of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// The job as it was when the run began; later changes are for later runs.
    pub job: Arc<JobSpec>,
    /// How it stands.
    pub status: RunStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Until when it must have started; scheduled runs only.
    pub starts_until: Option<Timestamp>,
    /// Its tasks, by name: one, and another one after each failure.
    pub tasks: BTreeMap<String, RunTask>,
    /// What runs it now.
    pub instance: Option<Instance>,
}

impl Run {
    /// Its name among all runs.
    pub fn key(&self) -> RunKey {
        RunKey {
            job: self.job.id.clone(),
            run: self.id.clone(),
        }
    }

    /// What is read at `now` was written by another clock, which may have been fast, see [`Instance::told_at`]: a run that
    /// waits has all its time left then.
    pub(crate) fn told_at(&mut self, now: Timestamp) {
        if self.created_at > now {
            let time = self.starts_until.map(|until| until.since(self.created_at));
            (self.created_at, self.starts_until) = (now, time.map(|time| now + time));
        }
        for task in self.tasks.values_mut() {
            task.started_at = now.min(task.started_at);
            task.completed_at = task.completed_at.map(|at| now.min(at));
        }
        if let Some(instance) = &mut self.instance {
            instance.told_at(now);
        }
    }

    /// Whether it waits to be launched.
    pub fn waits(&self) -> bool {
        self.completed_at.is_none() && self.instance.is_none()
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunStatus {
    /// It was just made.
    Initial,
    /// It waits for an agent.
    Starting,
    /// It runs.
    Active,
    /// A task of it ended well.
    Success,
    /// No task of it ended well, and there will be no more.
    Failed,
}

/// A task of a run, as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunTask {
    /// When it was first heard of.
    pub started_at: Timestamp,
    /// When it ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// How it is.
    pub status: TaskState,
}

/// How a task is, in the few words of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// Launched, not yet heard of.
    #[serde(rename = "TASK_CREATED")]
    Created,
    /// The agent has it.
    #[serde(rename = "TASK_STAGING")]
    Staging,
    /// Its executor starts it.
    #[serde(rename = "TASK_STARTING")]
    Starting,
    /// It runs.
    #[serde(rename = "TASK_RUNNING")]
    Running,
    /// It ended well.
    #[serde(rename = "TASK_FINISHED")]
    Finished,
    /// It ended badly, or is lost.
    #[serde(rename = "TASK_FAILED")]
    Failed,
    /// It was killed.
    #[serde(rename = "TASK_KILLED")]
    Killed,
}

impl From<Condition> for TaskState {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Provisioned => Self::Created,
            Condition::Staging => Self::Staging,
            Condition::Starting => Self::Starting,
            Condition::Running | Condition::Killing => Self::Running,
            Condition::Finished => Self::Finished,
            Condition::Killed => Self::Killed,
            Condition::Error
            | Condition::Failed
            | Condition::Gone
            | Condition::Dropped
            | Condition::Unknown
            | Condition::Unreachable
            | Condition::UnreachableInactive
            | Condition::Reserved => Self::Failed,
        }
    }
}

/// What is remembered of a run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunInfo {
    /// Its name.
    pub id: RunId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Its tasks.
    pub tasks: Vec<String>,
    /// Its place among those that ended, where that is not when it ended: later than all before it, whatever clocks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Timestamp>,
}

impl RunInfo {
    /// Its place among those that ended.
    pub fn place(&self) -> Timestamp {
        self.place.unwrap_or(self.finished_at)
    }
}

/// The runs of a job that ended, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Those that ended well.
    pub successful: VecDeque<Arc<RunInfo>>,
    /// Those that did not.
    pub failed: VecDeque<Arc<RunInfo>>,
}

/// What changes about a job with each of its runs; a row of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Runs that ended well.
    pub success_count: u64,
    /// Runs that did not.
    pub failure_count: u64,
    /// When one last ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Timestamp>,
    /// When one last did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure_at: Option<Timestamp>,
    /// When one last began, or ended well; later than all that happened before, whatever clocks say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_started_at: Option<Timestamp>,
    /// How the newest run stands, for jobs that depend on this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Newest>,
    /// The moment of the schedule that was last dealt with: it is not dealt with again, whatever crashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggered: Option<Timestamp>,
}

/// The newest run of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Newest {
    /// Its name.
    pub id: RunId,
    /// When it ended well; later than all that happened before, whatever clocks say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_at: Option<Timestamp>,
}

/// A job and all that is known of it.
#[derive(Clone, Debug)]
pub struct Job {
    /// What users want.
    pub spec: Arc<JobSpec>,
    /// The runs that go on.
    pub runs: Arc<BTreeMap<RunId, Arc<Run>>>,
    /// The runs that ended.
    pub history: Arc<History>,
    /// Counts and moments.
    pub progress: Arc<Progress>,
    /// Why it never runs: an earlier Metronome, or that of a migration, took it in larger than the store takes a run of it.
    pub too_large: Option<Arc<str>>,
}

impl Job {
    /// A job that never ran.
    pub fn new(spec: JobSpec) -> Self {
        Self {
            spec: Arc::new(spec),
            runs: Arc::default(),
            history: Arc::default(),
            progress: Arc::default(),
            too_large: None,
        }
    }

    /// Its name.
    pub fn id(&self) -> &JobId {
        &self.spec.id
    }
}

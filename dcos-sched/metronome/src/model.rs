//! What users describe, and what becomes of it: jobs, schedules, runs.
//!
//! Field names and defaults are Metronome 0.6's; the specs are both the documents of the HTTP API and the rows of the
//! store. [`crate::read`] makes them of what users send, and says every rule they break.

mod id;
mod job;
mod run;
mod run_spec;

pub use id::{JobId, RunId, RunKey};
pub use job::{ConcurrencyPolicy, Dependency, JobSpec, Missed, ScheduleSpec, Zone};
pub use run::{History, Job, Newest, Progress, Run, RunInfo, RunStatus, RunTask, TaskState};
pub use run_spec::{
    Artifact, Constraint, Docker, Image, Operator, Placement, Restart, RestartPolicy, RunSpec, Ucr,
    Volume,
};

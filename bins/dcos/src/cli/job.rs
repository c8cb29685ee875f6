//! The words of `dcos job`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// Create a job.
    Add {
        /// A file or URL with its definition; standard input if absent.
        file: Option<String>,
    },
    /// Change a job; its schedules stay as they are.
    Update {
        /// A file or URL with its definition; standard input if absent.
        file: Option<String>,
    },
    /// Remove a job and its history.
    Remove {
        /// The job.
        id: String,
        /// End the runs that go on.
        #[arg(long)]
        stop_current_job_runs: bool,
    },
    /// All jobs.
    List,
    /// A job's definition, or with `runs` the runs that go on.
    Show {
        /// The job, or `runs`.
        what: String,
        /// The job, after `runs`.
        id: Option<String>,
        /// Only this run, after `runs`.
        #[arg(long)]
        run_id: Option<String>,
    },
    /// Run a job now.
    Run {
        /// The job.
        id: String,
    },
    /// End a run.
    Kill {
        /// The job.
        id: String,
        /// The run.
        #[arg(required_unless_present = "all")]
        run: Option<String>,
        /// All runs of the job that go on.
        #[arg(long, conflicts_with = "run")]
        all: bool,
    },
    /// The runs that ended.
    History {
        /// The job.
        id: String,
        /// Only the last one.
        #[arg(long)]
        last: bool,
        /// Those that failed, too.
        #[arg(long, alias = "show-failures")]
        failures: bool,
    },
    /// The runs that wait to be launched.
    Queue {
        /// Only those of this job.
        id: Option<String>,
    },
    /// When a job runs by itself.
    #[command(subcommand)]
    Schedule(Schedule),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// Give a job a schedule.
    Add {
        /// The job.
        id: String,
        /// A file or URL with the schedule; standard input if absent.
        file: Option<String>,
    },
    /// Change a job's schedule.
    Update {
        /// The job.
        id: String,
        /// A file or URL with the schedule; standard input if absent.
        file: Option<String>,
    },
    /// A job's schedules.
    Show {
        /// The job.
        id: String,
    },
    /// Take a schedule away.
    Remove {
        /// The job.
        id: String,
        /// The schedule.
        schedule: String,
    },
}

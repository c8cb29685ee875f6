//! A slice of systemd's for containers, so that a restart of the agent's unit does not end them.
//!
//! systemd ends what is in a unit's control group when the unit stops (`KillMode=control-group`, as DC/OS's unit has
//! it). The launcher begins in [`SLICE`] instead, and with it all that it clones:
//!
//! | hierarchy | where |
//! |---|---|
//! | version 1, `name=systemd` | `mesos_executors.slice` |
//! | version 2, of systemd alone or beside the above | `mesos_executors.slice/launcher`; containers in `mesos_executors.slice/<cgroups_root>` |
//!
//! Controllers of version 1 are none of systemd's business there, for the unit says `Delegate=true`.
//!
//! # Source
//! Mesos 1.11 `src/linux/systemd.cpp`: the slice, its unit, the flags. Version 2 is ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dcos_core::config::{Spec, Values};
use tokio::process::Command;

use crate::isolator::IsolatorError;
use crate::isolator::cgroup::Cgroups;

/// What the slice is called, and its folder in each hierarchy that systemd keeps.
pub const SLICE: &str = "mesos_executors.slice";
const UNIT: &str = "[Unit]\nDescription=Mesos Executors Slice\n";
/// How long systemd may take to start a unit that starts nothing: as long as it gives its own.
const PATIENCE: Duration = Duration::from_secs(90);

/// The options, under Mesos's names.
pub const OPTIONS: &[Spec] = &[
    Spec::switch("systemd_enable_support").default("true").help(
        "where systemd runs, containers live in mesos_executors.slice and go on when the agent's unit is restarted",
    ),
    Spec::path("systemd_runtime_directory")
        .default("/run/systemd/system")
        .help("where systemd finds units until the next boot; it runs if that is there"),
];

/// Why there is no slice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemdError {
    /// The unit could not be written, or its folder could not be made.
    #[error("{doing} {path:?}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// `systemctl` could not be run, or took too long.
    #[error("running `systemctl {words}`")]
    Run {
        /// What was asked of it.
        words: String,
        /// The system's reason.
        source: io::Error,
    },
    /// `systemctl` refused.
    #[error("`systemctl {words}` said: {said}")]
    Refused {
        /// What was asked of it.
        words: String,
        /// Its answer.
        said: String,
    },
    /// The slice has started, and is in no hierarchy.
    #[error("mesos_executors.slice is in none of the cgroup hierarchies that are mounted")]
    Nowhere,
    /// The hierarchies cannot be read.
    #[error(transparent)]
    Cgroups(#[from] IsolatorError),
}

/// A slice that has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    folders: Vec<PathBuf>,
}

impl Slice {
    /// The slice of this host, started if it was not: `None` where no systemd runs, without root, and where
    /// `--systemd_enable_support` says no.
    ///
    /// # Errors
    /// [`SystemdError`]: systemd runs, and containers would end with the agent's unit.
    pub async fn from_values(values: &Values) -> Result<Option<Self>, SystemdError> {
        let runtime = values.path("systemd_runtime_directory");
        let wanted = values.switch("systemd_enable_support");
        if !wanted || !rustix::process::geteuid().is_root() || !runtime.is_dir() {
            return Ok(None);
        }
        Self::start(&runtime).await.map(Some)
    }

    async fn start(runtime: &Path) -> Result<Self, SystemdError> {
        let file = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| SystemdError::File {
                doing,
                path,
                source,
            }
        };
        let unit = runtime.join(SLICE);
        if fs::read(&unit).ok().as_deref() != Some(UNIT.as_bytes()) {
            fs::write(&unit, UNIT).map_err(file("writing", &unit))?;
            systemctl(&["daemon-reload"]).await?;
        }
        systemctl(&["start", SLICE]).await?;
        let folders = Cgroups::discover(SLICE.as_ref())?.of_unit(SLICE.as_ref());
        if folders.is_empty() {
            return Err(SystemdError::Nowhere);
        }
        for folder in &folders {
            fs::create_dir_all(folder).map_err(file("making", folder))?;
        }
        tracing::info!(slice = SLICE, "containers outlive the agent's unit");
        Ok(Self { folders })
    }

    /// What the launcher is told, so that it begins there.
    pub fn arguments(&self) -> Vec<String> {
        let folders = self.folders.iter();
        let words = folders.flat_map(|folder| ["--join".into(), folder.to_string_lossy().into()]);
        words.collect()
    }
}

async fn systemctl(words: &[&str]) -> Result<(), SystemdError> {
    let asked = || words.join(" ");
    let mut command = Command::new("systemctl");
    command.args(words).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output());
    let output = output.await.unwrap_or_else(|_| {
        let late = format!("no answer within {} s", PATIENCE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, late))
    });
    let output = output.map_err(|source| SystemdError::Run {
        words: asked(),
        source,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(SystemdError::Refused {
        words: asked(),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

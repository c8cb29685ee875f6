//! Under which names sandboxes are shown.
//!
//! A sandbox is found by its path on the host and, for people and programs that know ids only,
//! below `/frameworks/<framework>/executors/<executor>/runs/<container>` (or `latest`). A task of
//! a default executor has its own below `tasks/<task>` of its executor's.
//!
//! Source: Mesos 1.11 `paths::getExecutorVirtualPath`, `Slave::attachTaskVolumeDirectory`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use dcos_wire::files::Files;

use super::records::ExecutorKey;

/// A directory to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Whose.
    pub key: ExecutorKey,
    /// In which container.
    pub run: String,
    /// Where the executor's sandbox is.
    pub directory: PathBuf,
    /// The tasks with sandboxes of their own, and where they are.
    pub tasks: Vec<(String, PathBuf)>,
}

impl Sandbox {
    /// Shows it.
    pub(super) fn attach(&self, files: &Files) {
        let virtual_runs = format!(
            "/frameworks/{}/executors/{}/runs",
            self.key.framework, self.key.executor
        );
        let real = self.directory.display().to_string();
        let names = [
            real,
            format!("{virtual_runs}/{}", self.run),
            format!("{virtual_runs}/latest"),
        ];
        for name in names {
            files.attach(&name, &self.directory);
            for (task, directory) in &self.tasks {
                let name = format!("{name}/tasks/{task}");
                // The way to it is the executor's to change.
                match directory.strip_prefix(&self.directory) {
                    Ok(below) => {
                        files.attach_below(&name, &self.directory, &below.to_string_lossy())
                    }
                    Err(_) => files.attach(&name, directory),
                }
            }
        }
    }
}

/// Shows nothing below any of `directories` any more.
pub(super) fn detach(files: &Files, directories: &BTreeSet<&Path>) {
    for (name, real) in files.attached() {
        if real.ancestors().any(|above| directories.contains(above)) {
            files.detach(&name);
        }
    }
}

//! Foreign runtimes: `crun`, `runc`, or any program that has their command line makes a container.
//!
//! Isolators shape a [`Draft`](crate::isolator::Draft) as ever; it becomes a complete OCI bundle
//! instead of a plan. A *monitor*, a process of ours beside each such container, calls the runtime
//! and tells how the container ended:
//!
//! ```text
//! launcher ─► monitor ─► RUNTIME create   the container's first process waits; isolators act on it
//!                     ─► RUNTIME start    its program runs
//!                     ─► RUNTIME kill     for each signal the monitor gets
//! agent               ─► RUNTIME state, delete   recovery, clean-up
//! ```
//!
//! The launcher stays the parent of everything and outlives the agent. Which runtime makes a
//! container is said by [`Runtimes`]; `docs/runtimes.md` has the rest.

mod bundle;
mod command;
mod host;
mod monitor;
mod spec;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dcos_core::config::{Spec, Values};
use serde::{Deserialize, Serialize};

pub use monitor::main;

pub(crate) use bundle::Bundle;
pub(crate) use command::{Command, Status};
pub(crate) use monitor::{Said, arguments};

/// The label of a task or executor that names its runtime.
pub const LABEL: &str = "oci_runtime";
/// What our own launcher is called there.
pub const NATIVE: &str = "native";

/// Options of ours; Mesos has no foreign runtimes.
pub const OPTIONS: &[Spec] = &[
    Spec::text("oci_runtimes").help(
        "OCI runtimes that tasks may name in their label `oci_runtime`, separated by commas: `crun`, \
         `name=/path/to/runtime` (ours).",
    ),
    Spec::text("oci_runtime").help(
        "What makes containers whose task names no runtime: one of `--oci_runtimes`, or `native`, the \
         agent's own launcher. native by default (ours).",
    ),
];

/// A program that makes containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// What tasks call it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
}

/// What calls [`main`].
#[derive(Debug, Clone, Default)]
pub struct MonitorProgram {
    /// The program.
    pub program: PathBuf,
    /// Arguments before those that the containerizer adds.
    pub arguments: Vec<String>,
}

/// The runtimes of a node, and which is for whom. The default has our own launcher only.
#[derive(Debug, Clone, Default)]
pub struct Runtimes {
    known: BTreeMap<String, PathBuf>,
    default: Option<String>,
    /// What is executed beside a container of a foreign runtime.
    pub monitor: MonitorProgram,
}

/// Why there is no such runtime.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No file in `PATH`, or not one that can be executed.
    #[error("--oci_runtimes: `{0}` is not found: install it, or say `name=/path/to/it`")]
    Absent(String),
    /// The agent does not offer it.
    #[error("this agent has no OCI runtime `{asked}`, but {known}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
}

impl Runtimes {
    /// As `--oci_runtimes` and `--oci_runtime` say.
    ///
    /// # Errors
    /// [`RuntimeError`] for a program that is not there, or a default that is none of them.
    pub fn from_values(values: &Values, monitor: MonitorProgram) -> Result<Self, RuntimeError> {
        let named = values.opt_text("oci_runtimes").unwrap_or_default();
        let default = values.opt_text("oci_runtime");
        Self::parse(&named, default.as_deref(), monitor)
    }

    fn parse(
        named: &str,
        default: Option<&str>,
        monitor: MonitorProgram,
    ) -> Result<Self, RuntimeError> {
        let mut all = Self {
            monitor,
            ..Self::default()
        };
        let words = named.split(',').map(str::trim);
        for word in words.filter(|word| !word.is_empty()) {
            let (name, program) = word.split_once('=').unwrap_or((word, word));
            all.known.insert(name.to_owned(), find(program)?);
        }
        if let Some(name) = default.filter(|name| *name != NATIVE) {
            all.named(name)?;
            all.default = Some(name.to_owned());
        }
        Ok(all)
    }

    /// Who makes a container whose task asks for `asked`; none is our own launcher.
    ///
    /// # Errors
    /// [`RuntimeError::Unknown`].
    pub fn choose(&self, asked: Option<&str>) -> Result<Option<Runtime>, RuntimeError> {
        match asked.or(self.default.as_deref()) {
            None | Some(NATIVE) => Ok(None),
            Some(name) => self.named(name).map(Some),
        }
    }

    fn named(&self, name: &str) -> Result<Runtime, RuntimeError> {
        let program = self.known.get(name).ok_or_else(|| {
            let mut known: Vec<_> = self.known.keys().map(String::as_str).collect();
            known.push(NATIVE);
            RuntimeError::Unknown {
                asked: name.to_owned(),
                known: format!("`{}`", known.join("`, `")),
            }
        })?;
        Ok(Runtime {
            name: name.to_owned(),
            program: program.clone(),
        })
    }
}

/// The program itself if it is a path, else the first of that name in `PATH`.
fn find(program: &str) -> Result<PathBuf, RuntimeError> {
    let absent = || RuntimeError::Absent(program.to_owned());
    let path = Path::new(program);
    if path.is_absolute() {
        return path.exists().then(|| path.to_owned()).ok_or_else(absent);
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps `runc` where only root looks.
    let places = std::env::split_paths(&places).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut found = places.map(|place| place.join(path));
    found.find(|file| file.exists()).ok_or_else(absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes(named: &str, default: Option<&str>) -> Result<Runtimes, RuntimeError> {
        Runtimes::parse(named, default, MonitorProgram::default())
    }

    #[test]
    fn a_task_may_name_what_the_agent_offers() {
        let all = runtimes("one=/bin/sh, two=/bin/cat", Some("one")).unwrap();
        let chosen = |asked| all.choose(asked).map(|it| it.map(|runtime| runtime.name));
        assert_eq!(chosen(None).unwrap().as_deref(), Some("one"));
        assert_eq!(chosen(Some("two")).unwrap().as_deref(), Some("two"));
        assert_eq!(chosen(Some("native")).unwrap(), None);
        let error = chosen(Some("kata")).unwrap_err().to_string();
        let expected = "this agent has no OCI runtime `kata`, but `one`, `two`, `native`";
        assert_eq!(error, expected);
    }

    #[test]
    fn without_a_word_containers_are_our_own() {
        let all = runtimes("sh", None).unwrap();
        assert_eq!(all.choose(None), Ok(None));
        assert!(all.choose(Some("sh")).unwrap().is_some());
    }

    #[test]
    fn what_is_not_there_is_said_at_the_start() {
        let absent = RuntimeError::Absent("/no/such/runtime".into());
        assert_eq!(runtimes("x=/no/such/runtime", None).unwrap_err(), absent);
        assert!(runtimes("", Some("crun")).is_err());
    }
}

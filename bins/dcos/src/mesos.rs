//! Helpers that Mesos installs beside its servers, under the names, flags and output scripts know.
//!
//! `dcos` is each of them when it is called by its name (`ln -s dcos mesos-execute`), or when that is its first word
//! (`dcos mesos-execute --master=… --name=…`).
//!
//! Source: Mesos 1.11 `src/cli/execute.cpp`, `src/cli/resolve.cpp`; the flags are those of stout, not of `dcos`.

mod execute;
mod order;
mod resolve;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use dcos_core::config::{Loaded, Schema, Sources, Values};

use crate::output;

/// One of them, and what it was called with.
#[derive(Debug)]
pub(crate) struct Helper {
    name: Name,
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Execute,
    Resolve,
}

impl Name {
    fn of(word: &OsString) -> Option<Self> {
        match Path::new(word).file_name()?.to_str()? {
            "mesos-execute" => Some(Self::Execute),
            "mesos-resolve" => Some(Self::Resolve),
            _ => None,
        }
    }
}

impl Helper {
    /// Which one this command line calls; `None` if it is one of `dcos` itself.
    pub(crate) fn called(words: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        let program = words.next()?;
        let name = Name::of(&program).or_else(|| Name::of(&words.next()?))?;
        let arguments = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        Some(Self { name, arguments })
    }

    /// Does its work.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.name {
            Name::Execute => execute::run(self.arguments).await,
            Name::Resolve => resolve::run(self.arguments).await,
        }
    }
}

/// The values of `flags`, or how the program ends without them. Like the originals', they come from nowhere else.
fn load(schema: &Schema, flags: Vec<String>) -> anyhow::Result<Result<Values, ExitCode>> {
    match schema.load(&Sources::new(flags))? {
        Loaded::Run(values) => return Ok(Ok(values)),
        Loaded::Help(text) => output::line(text.trim_end()),
        Loaded::Version => output::line(env!("CARGO_PKG_VERSION")),
        _ => {}
    }
    Ok(Err(ExitCode::SUCCESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(words: &[&str]) -> Option<(Name, Vec<String>)> {
        let helper = Helper::called(words.iter().map(OsString::from))?;
        Some((helper.name, helper.arguments))
    }

    #[test]
    fn a_helper_is_called_by_its_name_or_named_first() {
        let arguments = vec!["--master=m".to_owned()];
        let expected = Some((Name::Execute, arguments));
        assert_eq!(called(&["/usr/bin/mesos-execute", "--master=m"]), expected);
        assert_eq!(called(&["dcos", "mesos-execute", "--master=m"]), expected);
        assert_eq!(
            called(&["mesos-resolve"]),
            Some((Name::Resolve, Vec::new()))
        );
        assert_eq!(called(&["dcos", "task", "mesos-execute"]), None);
        assert_eq!(called(&["dcos"]), None);
    }
}

//! Configuration with one meaning, wherever it was written: flags, environment or file.
//!
//! A crate declares its options once, as a table of [`Spec`]s. A program puts tables together in a
//! [`Schema`] and loads it; the result is either [`Values`] with every option checked, or all
//! mistakes at once, each with its key and where it was written.
//!
//! ```
//! use dcos_core::config::{Loaded, Schema, Sources, Spec};
//!
//! const OPTIONS: &[Spec] = &[
//!     Spec::text("work_dir").required().help("Where the agent keeps its state."),
//!     Spec::duration("registration_backoff_factor").default("1secs").help("First retry."),
//! ];
//!
//! let schema = Schema::new("dcos-agent", "The working node.").with(OPTIONS);
//! let sources = Sources::new(["--work_dir=/var/lib/dcos"]).env([("MESOS_PORT", "1")]);
//! let Loaded::Run(values) = schema.load(&sources).unwrap() else { panic!("no help asked") };
//! assert_eq!(values.text("work_dir"), "/var/lib/dcos");
//! assert_eq!(values.duration("registration_backoff_factor").as_secs(), 1);
//! ```
//!
//! # Meaning
//! 1. A flag beats the environment, the environment beats the file, the file beats the default.
//! 2. Flags are `--name=value`; a switch also takes `--name` and `--no-name`. Dashes inside a
//!    name read as underscores.
//! 3. The environment is `DCOS_<NAME>`, then `MESOS_<NAME>`. Other variables are ignored, as in
//!    Mesos, because executors inherit them.
//! 4. The file is TOML, or JSON if its first character is `{`; `--config=<path>` names it. A
//!    [section](Schema::section)'s options may stand in a table of its name.
//! 5. A value `file:///path` stands for that file's content, except where a path is wanted.
//!    A JSON document may also be given as the absolute path of a file that holds it, as in Mesos.
//! 6. Unknown flags and file keys are refused, with the nearest known name.
//! 7. [Former names](Former) of options mean the option; those of options there are no more are told
//!    ([`Values::notices`]) or refused, wherever they are written, with what to do instead.
//!
//! Source: Mesos 1.11 stout `flags` (appendix A of the conformance inventory). `--help`,
//! `--version` and `--check-config` exist everywhere; the last one and the file are ours.

mod former;
mod help;
mod load;
mod schema;
mod values;

pub use former::{Former, Notice};
pub use load::{Loaded, Mistake, Mistakes, Sources};
pub use schema::{Kind, Schema, Spec};
pub use values::{Origin, Values};

#[cfg(test)]
mod tests;

//! The words of `dcos migrate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Take over apps, pods, groups and what runs of a Marathon 1.11.
    Marathon(MigrateArgs),
    /// Take over jobs, schedules, histories and what runs of a Metronome 0.6.
    Metronome(MigrateArgs),
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of a command line are independent"
)]
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Where the original keeps its state, as it was told by `--zk`: `zk://user:password@host:2181/marathon`, or
    /// `file:///path` of a file with that in it, so that the password is in no list of processes.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,

    /// The master's `--work_dir`, if there is one master; it must not run meanwhile.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["into", "dry_run"], conflicts_with = "into")]
    pub(crate) work_dir: Option<PathBuf>,

    /// The masters' `--zk` or `--etcd`, if there are several, or `file:///path` likewise; ours of that kind must not run
    /// meanwhile.
    #[arg(long, value_name = "URL")]
    pub(crate) into: Option<String>,

    /// Only tell what would be taken over; the original may run on.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Register as a new framework: what runs is left to the old one, and all is launched anew.
    #[arg(long)]
    pub(crate) new_framework: bool,

    /// Replace what our store holds already.
    #[arg(long)]
    pub(crate) overwrite: bool,

    /// Even if something that runs would end, because it cannot be taken over.
    #[arg(long)]
    pub(crate) force: bool,
}

//! `mesos-resolve zk://…`: the address of the leading master, as `ip:port`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use dcos_core::config::{Schema, Spec};

use crate::{leader, output};

const OPTIONS: &[Spec] = &[
    Spec::duration("timeout")
        .default("5secs")
        .help("How long a leader is waited for."),
    Spec::switch("verbose").help("Accepted, as by the original; there is nothing more to say."),
];

pub(super) async fn run(arguments: Vec<String>) -> anyhow::Result<ExitCode> {
    let (flags, masters): (Vec<_>, Vec<_>) = arguments
        .into_iter()
        .partition(|argument| argument.starts_with("--"));
    let schema = Schema::new("mesos-resolve", "mesos-resolve [options] <master>").with(OPTIONS);
    let values = match super::load(&schema, flags)? {
        Ok(values) => values,
        Err(ended) => return Ok(ended),
    };
    let [master] = &*masters else {
        bail!("There must be only one argument: <master>, an address, zk://… or etcd://…");
    };
    let leader = leader::detect(master, values.duration("timeout")).await;
    let leader = leader
        .with_context(|| format!("Failed to detect master from '{}'", leader::shown(master)))?;
    // What the original's election shows, and ours: `master@ip:port`.
    let pid = leader.as_ref().and_then(|leader| leader.pid.as_deref());
    let address = pid.unwrap_or(master);
    output::line(address.strip_prefix("master@").unwrap_or(address));
    Ok(ExitCode::SUCCESS)
}

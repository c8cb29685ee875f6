//! Rules between values, with the words of Metronome 0.6 for those that are broken.

use std::collections::BTreeSet;

use dcos_marathon::Violation;
use dcos_marathon::model::{EnvValue, NetworkMode};

use super::fail;
use crate::model::{JobSpec, RunSpec, ScheduleSpec, Volume};

pub(super) fn job(job: &JobSpec) -> Vec<Violation> {
    let mut out = Vec::new();
    for (at, one) in job.schedules.iter().enumerate() {
        out.extend(schedule(one, &format!("/schedules({at})")));
    }
    run(&job.run, &mut out);
    if job.schedules.len() > 1 {
        let text = format!("has size {}, expected 1 or less", job.schedules.len());
        fail(&mut out, "/schedules".to_owned(), text);
    }
    let different: BTreeSet<_> = job.dependencies.iter().collect();
    if different.len() < job.dependencies.len() {
        fail(&mut out, "/dependencies".to_owned(), "has double entries");
    }
    if !job.schedules.is_empty() && !job.dependencies.is_empty() {
        let text = "Jobs may not have both dependencies and schedules specified";
        fail(&mut out, "/".to_owned(), text);
    }
    out
}

pub(super) fn schedule(schedule: &ScheduleSpec, path: &str) -> Vec<Violation> {
    let mut out = Vec::new();
    let seconds = schedule.starting_deadline_seconds;
    if seconds < 60 {
        let unit = if seconds == 1 { "second" } else { "seconds" };
        let text = format!("got {seconds} {unit}, expected 1 minute or more");
        fail(&mut out, format!("{path}/startingDeadline"), text);
    }
    out
}

fn run(run: &RunSpec, out: &mut Vec<Violation>) {
    let path = || "/run".to_owned();
    networks(run, out);
    if run.gpus != 0 && run.docker.is_some() {
        let text = "GPUs are not supported with Docker";
        fail(out, "/run/gpus".to_owned(), text);
    }
    let secret = |volume: &Volume| matches!(volume, Volume::Secret { .. });
    if run.docker.is_some() && run.volumes.iter().any(secret) {
        let text = "File based secrets are only supported by UCR";
        fail(out, "/run/volumes".to_owned(), text);
    }
    let image = run
        .docker
        .as_ref()
        .is_some_and(|docker| !docker.image.is_empty());
    if run.cmd.is_none() && !image && run.ucr.is_none() {
        fail(out, path(), "Cmd, Docker or UCR image must be specified");
    }
    if run.docker.is_some() && run.ucr.is_some() {
        let text = "Either Docker or UCR should be provided, but not both";
        fail(out, path(), text);
    }
    if let Some(text) = secrets(run) {
        fail(out, path(), text);
    }
}

/// Every secret that is used must be declared, and every one that is declared must be used.
fn secrets(run: &RunSpec) -> Option<String> {
    let in_env = run.env.values().filter_map(|value| match value {
        EnvValue::Secret { secret } => Some(secret),
        EnvValue::Text(_) => None,
    });
    let in_volumes = run.volumes.iter().filter_map(|volume| match volume {
        Volume::Secret { secret, .. } => Some(secret),
        Volume::Host { .. } => None,
    });
    let used: BTreeSet<&str> = in_env.chain(in_volumes).map(String::as_str).collect();
    let declared: BTreeSet<&str> = run.secrets.keys().map(String::as_str).collect();
    let list = |names: Vec<&str>| names.join(", ");
    let undefined: Vec<&str> = used.difference(&declared).copied().collect();
    let unused: Vec<&str> = declared.difference(&used).copied().collect();
    let mut text = String::new();
    if !undefined.is_empty() {
        text += &format!(
            "The following secrets are referenced, but undefined: {}. Please add them to the secrets field.",
            list(undefined)
        );
    }
    if !unused.is_empty() {
        text += &format!(
            "The following secrets are defined, but not referenced: {}. Please remove them from the secrets field.",
            list(unused)
        );
    }
    (!text.is_empty()).then_some(text)
}

fn networks(run: &RunSpec, out: &mut Vec<Violation>) {
    let modes = || run.networks.iter().map(|network| network.mode);
    let path = || "/run/networks".to_owned();
    let several = run.networks.len() > 1;
    if modes().any(|mode| Some(mode) != modes().next()) {
        let text = "You may not mix host, container, or container/bridge networking. Only define one kind of network.";
        fail(out, path(), text);
    }
    let contained = run.docker.is_some() || run.ucr.is_some();
    if !contained && modes().any(|mode| mode != NetworkMode::Host) {
        let text = "Only containers may join container or bridge networks";
        fail(out, path(), text);
    }
    if run.docker.is_some() && several && modes().all(|mode| mode == NetworkMode::Container) {
        let text = "Docker does not allow specification of multiple networks";
        fail(out, path(), text);
    }
    if several && modes().any(|mode| mode != NetworkMode::Container) {
        let text = "Only one host or container/bridge network modes are allowed";
        fail(out, path(), text);
    }
    let names: Vec<&String> = run
        .networks
        .iter()
        .filter_map(|one| one.name.as_ref())
        .collect();
    let different: BTreeSet<_> = names.iter().collect();
    if different.len() < names.len() {
        fail(out, path(), "network names must be unique");
    }
    for (at, network) in run.networks.iter().enumerate() {
        let name = || format!("/run/networks({at})/name");
        match network.mode {
            NetworkMode::Host => {
                if network.name.is_some() {
                    fail(out, name(), "must be empty for host network");
                }
                if !network.labels.is_empty() {
                    let path = format!("/run/networks({at})/labels");
                    fail(out, path, "must be empty for host network");
                }
            }
            NetworkMode::Bridge => {
                if network.name.is_some() {
                    fail(out, name(), "must be empty for container/bridge networks");
                }
            }
            NetworkMode::Container => {
                if network.name.as_ref().is_none_or(String::is_empty) {
                    fail(out, name(), "must not be empty for container networks");
                }
            }
        }
    }
}

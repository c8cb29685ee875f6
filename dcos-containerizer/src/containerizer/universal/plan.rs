//! A draft as the launcher takes it, as long as nothing but the process is shaped.

use dcos_launcher::{Credentials, Plan, Variable};

use crate::isolator::Draft;

pub(super) fn plan(draft: &Draft, name: &str) -> Plan {
    let mut plan = Plan {
        id: name.to_owned(),
        ..Plan::default()
    };
    let Some(process) = draft.spec.process() else {
        return plan;
    };
    plan.arguments = process.args().clone().unwrap_or_default();
    plan.environment = process
        .env()
        .iter()
        .flatten()
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| Variable {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect();
    plan.directory = Some(process.cwd().clone());
    let user = process.user();
    plan.credentials = rustix::process::geteuid().is_root().then(|| Credentials {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
    });
    plan.cgroups.clone_from(&draft.cgroups);
    plan.seccomp.clone_from(&draft.seccomp);
    plan
}

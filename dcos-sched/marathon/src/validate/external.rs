//! Rules for volumes of drivers (`external`), which outlive whatever uses them.
//!
//! Served is the provider `dvdi`, a volume of a Docker volume plugin by name; for Mesos's containers the agent needs the
//! isolator `docker/volume`. Source: Marathon 1.11 `DVDIProvider`, `ProviderValidationHelpers`.

use std::collections::BTreeMap;

use super::{Violations, fail};
use crate::PathId;
use crate::model::{
    App, DRIVER_OPTION, DVDI, EngineType, ExternalVolume, RootGroup, Volume, VolumeMode,
};

/// Rules for one volume of a container of `engine`.
pub(super) fn volume(
    volume: &Volume,
    external: &ExternalVolume,
    engine: EngineType,
    path: &str,
    out: &mut Violations,
) {
    if external.provider != DVDI {
        let text = format!("provider {} is not served, only {DVDI}", external.provider);
        fail(out, format!("{path}/external/provider"), text);
        return;
    }
    if matches!(volume.container_path.as_str(), "." | "..") {
        let text = "must not be one of (.,..)";
        fail(out, format!("{path}/containerPath"), text);
    }
    if external.name.is_empty() {
        fail(out, format!("{path}/external/name"), "must not be empty");
    }
    let options = format!("{path}/external/options");
    let texts = external.options.values().all(serde_json::Value::is_string);
    if !texts {
        fail(out, &options, "values must be texts");
    }
    if external.driver().is_none_or(str::is_empty) {
        fail(
            out,
            format!("{options}(\"{DRIVER_OPTION}\")"),
            "not defined",
        );
    }
    match engine {
        EngineType::Mesos if volume.mode == Some(VolumeMode::Ro) => {
            fail(out, format!("{path}/mode"), "got RO, expected RW");
        }
        EngineType::Mesos => {}
        EngineType::Docker => {
            if external
                .options
                .keys()
                .any(|option| option != DRIVER_OPTION)
            {
                fail(out, &options, format!("must only contain {DRIVER_OPTION}"));
            }
            if external.size.is_some() {
                let text = "must be undefined for Docker containers";
                fail(out, format!("{path}/external/size"), text);
            }
        }
    }
}

/// Rules for an app with such volumes: two tasks must never write to one of them.
pub(super) fn app(app: &App, out: &mut Violations) {
    let mut names = BTreeMap::<&str, usize>::new();
    for external in app.external_volumes().filter(|external| !external.shared) {
        *names.entry(&external.name).or_default() += 1;
    }
    if app.external_volumes().next().is_none() {
        return;
    }
    for (name, _) in names.iter().filter(|(_, count)| **count > 1) {
        let text = format!(
            "Requested DVDI volume '{name}' is declared more than once within app {}",
            app.id
        );
        fail(out, "/", text);
    }
    if app.instances > 1 {
        let text = format!(
            "Number of instances is limited to 1 when declaring DVDI volumes in app [{}]",
            app.id
        );
        fail(out, "/", text);
    }
    let over = app.upgrade_strategy.maximum_over_capacity;
    if over != 0.0 && !app.is_resident() {
        let text = format!("got {over:?}, expected 0.0");
        fail(out, "/upgradeStrategy/maximumOverCapacity", text);
    }
}

/// A volume belongs to one app, unless both say that it is shared.
pub(super) fn root(before: &RootGroup, root: &RootGroup, out: &mut Violations) {
    let mut new = before.differences(root).filter_map(|(_, _, new)| new);
    if !new.any(|app| app.external_volumes().any(|external| !external.shared)) {
        return;
    }
    let mut owners = BTreeMap::<&str, &PathId>::new();
    for app in root.plain_apps() {
        for external in app.external_volumes().filter(|external| !external.shared) {
            let other = owners.insert(&external.name, &app.id);
            if let Some(other) = other.filter(|other| **other != app.id) {
                let text = format!(
                    "Volume name '{}' in {} conflicts with volume(s) of same name in app(s): {other}",
                    external.name, app.id
                );
                fail(out, "/", text);
            }
        }
    }
}

//! What a new tree gets from us: versions for what changed, service ports where none are given.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Core;
use crate::model::{App, RootGroup, VersionInfo};
use crate::{Error, PathId, Timestamp};

impl Core {
    /// Gives each app that changed its version, and each that did not its old definition back.
    pub(super) fn set_versions(&self, target: &mut RootGroup) {
        let version = target.version;
        let mut touched = BTreeSet::new();
        let different = self.root.differences(target);
        let different: Vec<PathId> = different.map(|(id, ..)| id.clone()).collect();
        for id in &different {
            let old = self.root.app(id);
            let Some(app) = target.apps.get_mut(id) else {
                touched.insert(id.parent());
                continue;
            };
            // A definition that already has its versions is an earlier one that comes back.
            if app.version_info.is_none() {
                let info = match old {
                    Some(old) if app.version != RESTART && old.same_config(app) => {
                        if old.instances == app.instances {
                            *app = Arc::clone(old);
                            continue;
                        }
                        VersionInfo {
                            last_scaling_at: version,
                            last_config_change_at: old.config_version(),
                        }
                    }
                    _ => VersionInfo {
                        last_scaling_at: version,
                        last_config_change_at: version,
                    },
                };
                let app = Arc::make_mut(app);
                (app.version, app.version_info) = (version, Some(info));
            }
            touched.insert(id.parent());
        }
        let changed = target
            .groups
            .iter()
            .filter(|(id, group)| self.root.groups.get(*id) != Some(group));
        touched.extend(changed.map(|(id, _)| id.clone()));
        for group in touched
            .iter()
            .flat_map(PathId::ancestors)
            .chain([PathId::root()])
        {
            if let Some(group) = target.groups.get_mut(&group) {
                group.version = version;
            }
        }
    }

    /// Replaces service ports of 0: by the one the app had, else by one nobody has.
    pub(super) fn give_service_ports(&self, target: &mut RootGroup) -> Result<(), Error> {
        // An app that was there has its ports.
        let different = self.root.differences(target);
        let unassigned: Vec<PathId> = different
            .filter_map(|(_, _, new)| new)
            .filter(|app| app.service_ports().contains(&0))
            .map(|app| app.id.clone())
            .collect();
        if unassigned.is_empty() {
            return Ok(());
        }
        let mut used: BTreeSet<u16> = target
            .apps
            .values()
            .flat_map(|app| app.service_ports())
            .collect();
        let mut candidates = self.config.local_port_min..=self.config.local_port_max;
        for id in unassigned {
            let mut kept = self
                .root
                .app(&id)
                .map(|old| old.service_ports())
                .unwrap_or_default();
            kept.retain(|port| *port != 0);
            let Some(app) = target.apps.get_mut(&id).map(Arc::make_mut) else {
                continue;
            };
            let own = app.service_ports();
            kept.retain(|port| !own.contains(port));
            kept.reverse();
            for port in service_ports_mut(app).filter(|port| **port == 0) {
                let next = kept
                    .pop()
                    .or_else(|| candidates.find(|port| !used.contains(port)));
                let Some(next) = next else {
                    return Err(Error::Unprocessable(
                        "No more free service ports".to_owned(),
                    ));
                };
                used.insert(next);
                *port = next;
            }
        }
        Ok(())
    }
}

/// The version of a definition that shall be restarted although nothing in it changed.
pub(crate) const RESTART: Timestamp = Timestamp::from_millis(i64::MIN);

fn service_ports_mut(app: &mut App) -> Box<dyn Iterator<Item = &mut u16> + '_> {
    if app.port_mappings().is_empty() {
        Box::new(
            app.port_definitions
                .iter_mut()
                .flatten()
                .map(|port| &mut port.port),
        )
    } else {
        let mappings = app
            .container
            .iter_mut()
            .filter_map(|c| c.port_mappings.as_mut())
            .flatten();
        Box::new(mappings.map(|mapping| &mut mapping.service_port))
    }
}

//! What a new tree gets from us: versions for what changed, service ports where none are given.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use imbl::OrdMap;

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
        let mut used = self.service_ports.clone();
        used.follow(&self.root, target);
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
                let next = kept.pop().or_else(|| used.first_free(&mut candidates));
                let Some(next) = next else {
                    return Err(Error::Unprocessable(
                        "No more free service ports".to_owned(),
                    ));
                };
                used.add(next);
                *port = next;
            }
        }
        Ok(())
    }
}

/// How often apps have each service port. A copy costs nothing, however many there are.
#[derive(Clone, Debug, Default)]
pub(super) struct ServicePorts(OrdMap<u16, usize>);

impl ServicePorts {
    /// Counts what the apps of a new tree have, and no longer what those of the one before had.
    pub(super) fn follow(&mut self, before: &RootGroup, after: &RootGroup) {
        for (_, old, new) in before.differences(after) {
            for port in new.into_iter().flat_map(|app| app.service_ports()) {
                self.add(port);
            }
            for port in old.into_iter().flat_map(|app| app.service_ports()) {
                if let Some(count) = self.0.get_mut(&port) {
                    *count -= 1;
                    if *count == 0 {
                        self.0.remove(&port);
                    }
                }
            }
        }
    }

    fn add(&mut self, port: u16) {
        *self.0.entry(port).or_insert(0) += 1;
    }

    /// The first of `candidates` that no app has; those before it are no candidates any more.
    fn first_free(&self, candidates: &mut RangeInclusive<u16>) -> Option<u16> {
        if RangeInclusive::is_empty(candidates) {
            return None;
        }
        let mut used = self.0.range(candidates.clone()).map(|(port, _)| *port);
        candidates.find(|candidate| used.next() != Some(*candidate))
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

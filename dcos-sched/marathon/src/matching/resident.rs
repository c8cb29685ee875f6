//! Matching what is reserved: disks for new volumes, and instances that come back to what is kept for them.
//!
//! A new instance takes unreserved resources only and has them reserved, labelled with its name; from then on it runs
//! on exactly those. Labels and rules are Marathon 1.11's (`TaskLabels`, `PersistentVolumeMatcher`).

use std::collections::BTreeMap;

use dcos_core::seed::Seed;
use dcos_proto::mesos::resource::disk_info::{Source, source};
use dcos_proto::mesos::resource::{self, ReservationInfo};
use dcos_proto::mesos::{Label, Labels, Resource};

use super::constraints::full_match;
use super::{Match, Reason, Reasons, Site, Supply, chosen, missing};
use crate::instance::{InstanceId, LocalVolume, task_instance};
use crate::model::{App, DiskType, Operator, PersistentVolume};

const FRAMEWORK: &str = "marathon_framework_id";
const INSTANCE: &str = "marathon_task_id";

/// Who something is reserved for.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The framework.
    pub framework: &'a str,
    /// The principal it registered as.
    pub principal: Option<&'a str>,
    /// The role.
    pub role: &'a str,
    /// The instance.
    pub instance: &'a InstanceId,
}

impl Owner<'_> {
    /// `resource`, reserved for the owner.
    pub fn reserve(&self, resource: &Resource) -> Resource {
        let label = |key: &str, value: &str| Label {
            key: key.to_owned(),
            value: Some(value.to_owned()),
        };
        Resource {
            role: Some(self.role.to_owned()),
            reservation: Some(ReservationInfo {
                principal: self.principal.map(str::to_owned),
                labels: Some(Labels {
                    labels: vec![
                        label(FRAMEWORK, self.framework),
                        label(INSTANCE, self.instance.as_str()),
                    ],
                }),
                ..ReservationInfo::default()
            }),
            reservations: Vec::new(),
            ..resource.clone()
        }
    }
}

/// The instance that `resource` is reserved for in the name of one of `frameworks`.
pub fn owner(resource: &Resource, frameworks: &[String]) -> Option<InstanceId> {
    let reservation = resource
        .reservations
        .last()
        .or(resource.reservation.as_ref())?;
    let labels = &reservation.labels.as_ref()?.labels;
    let of = |key: &str| {
        let label = labels.iter().find(|label| label.key == key)?;
        label.value.clone()
    };
    frameworks.contains(&of(FRAMEWORK)?).then_some(())?;
    let instance = of(INSTANCE)?;
    Some(task_instance(&instance).unwrap_or_else(|| InstanceId::from(instance)))
}

/// The disks for the volumes of a new instance, taken out of `supply`; `None` if there are not enough.
pub fn disks(wanted: &[&PersistentVolume], supply: &mut Supply) -> Option<Vec<Resource>> {
    let mut disks = Vec::new();
    for volume in wanted {
        let disk = disk(volume, supply)?;
        supply.take(&disk);
        disks.extend(disk);
    }
    Some(disks)
}

/// One disk for one volume: part of one that can be divided, or a whole one that comes closest.
fn disk(volume: &PersistentVolume, supply: &Supply) -> Option<Vec<Resource>> {
    #[expect(clippy::cast_precision_loss, reason = "disks are far below the limit")]
    let (size, most) = (
        volume.size as f64,
        volume.max_size.map_or(f64::INFINITY, |most| most as f64),
    );
    let amount = |disk: &Resource| disk.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
    if volume.disk == DiskType::Root {
        // A volume lies on one resource.
        let single = supply.scalar("disk", size, &["*"])?;
        return (single.len() == 1).then_some(single);
    }
    let kind = match volume.disk {
        DiskType::Path => source::Type::Path,
        _ => source::Type::Mount,
    };
    let fits = |disk: &&Resource| {
        let source = disk.disk.as_ref().and_then(|disk| disk.source.as_ref());
        source.is_some_and(|source| {
            source.r#type() == kind
                && source.profile == volume.profile_name
                && volume.constraints.iter().all(|constraint| {
                    let value = constraint.value.as_deref().unwrap_or_default();
                    let matches = full_match(value, path(source));
                    matches == (constraint.operator == Operator::Like)
                })
        }) && amount(disk) >= size
    };
    let fitting = supply.disks().filter(fits);
    if volume.disk == DiskType::Path {
        let disk = fitting.into_iter().next()?;
        return Some(vec![Supply::part(disk, size)]);
    }
    let whole = fitting.filter(|disk| amount(disk) <= most);
    let smallest = whole.min_by(|a, b| amount(a).total_cmp(&amount(b)))?;
    Some(vec![smallest.clone()])
}

fn path(source: &Source) -> &str {
    let path = source.path.as_ref().and_then(|path| path.root.as_deref());
    let mount = source
        .mount
        .as_ref()
        .and_then(|mount| mount.root.as_deref());
    path.or(mount).unwrap_or_default()
}

/// A disk as the volume called `id`.
pub fn volume(disk: Resource, id: &str, container_path: &str, principal: Option<&str>) -> Resource {
    dcos_sched::sdk::operations::volume(disk, id, principal, container_path)
}

/// A volume as the disk it was made of.
pub fn without_volume(volume: &Resource) -> Resource {
    let source = volume.disk.as_ref().and_then(|disk| disk.source.clone());
    Resource {
        disk: source.map(|source| {
            Box::new(resource::DiskInfo {
                source: Some(source),
                ..resource::DiskInfo::default()
            })
        }),
        shared: None,
        ..volume.clone()
    }
}

/// Whether `resource` is a volume.
pub fn is_volume(resource: &Resource) -> bool {
    persistence(resource).is_some()
}

fn persistence(resource: &Resource) -> Option<&str> {
    let persistence = resource.disk.as_ref()?.persistence.as_ref()?;
    Some(&persistence.id)
}

/// Matches `app` against what is kept for one of its instances in an offer, in the name of one of `frameworks`: all its
/// volumes, and what it needs besides. The resources include the volumes.
///
/// # Errors
/// Every reason against it.
pub fn comes_back(
    app: &App,
    site: &Site,
    offered: &[Resource],
    frameworks: &[String],
    instance: &InstanceId,
    volumes: &[LocalVolume],
    seed: &mut Seed,
) -> Result<Match, Reasons> {
    if site.maintenance {
        return Err(Reason::AgentMaintenance.into());
    }
    let own = |resource: &&Resource| owner(resource, frameworks).as_ref() == Some(instance);
    let kept: Vec<&Resource> = offered.iter().filter(own).collect();
    let found: BTreeMap<&str, &Resource> = kept
        .iter()
        .filter_map(|resource| Some((persistence(resource)?, *resource)))
        .collect();
    let mut all = Vec::new();
    for volume in volumes {
        let resource = found.get(volume.persistence_id.as_str());
        all.push((*resource.ok_or(Reason::NoCorrespondingReservationFound)?).clone());
    }
    let plain = kept.iter().filter(|resource| !is_volume(resource));
    let supply = Supply::kept(plain.map(|resource| (*resource).clone()).collect());
    let roles = [app.role.as_str()];
    let found = chosen(app, &supply, &roles, seed, missing(app, &supply, &roles))?;
    all.extend(found.resources);
    Ok(Match {
        resources: all,
        ..found
    })
}

#[cfg(test)]
#[path = "resident_tests.rs"]
mod tests;

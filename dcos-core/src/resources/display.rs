//! How resources are printed in messages and logs: `cpus(allocated: web):4; mem:1024`.
//!
//! Source: the stream operators of Mesos 1.11 `common/resources.cpp`.

use std::fmt;

use dcos_proto::mesos::resource::disk_info::{Source, source};
use dcos_proto::mesos::resource::{DiskInfo, ReservationInfo};
use dcos_proto::mesos::{Resource, Volume, value, volume};

use super::Resources;
use super::resource::{ResourceExt, items, ranges, scalar};
use crate::labels;

/// A resource, ready to be displayed.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a Resource);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(resource) = self;
        f.write_str(&resource.name)?;
        if let Some(allocation) = &resource.allocation_info {
            write!(
                f,
                "(allocated: {})",
                allocation.role.as_deref().unwrap_or_default()
            )?;
        }
        if !resource.reservations.is_empty() {
            let shown: Vec<String> = resource.reservations.iter().map(reservation).collect();
            write!(f, "(reservations: [{}])", shown.join(","))?;
        }
        if let Some(info) = &resource.disk {
            write!(f, "[{}]", disk(info))?;
        }
        if resource.is_revocable() {
            f.write_str("{REV}")?;
        }
        if resource.is_shared() {
            f.write_str("<SHARED>")?;
        }
        match resource.r#type() {
            value::Type::Scalar => write!(f, ":{}", scalar(resource)),
            value::Type::Ranges => write!(f, ":{}", ranges(resource)),
            value::Type::Set => write!(f, ":{{{}}}", items(resource).join(", ")),
            value::Type::Text => f.write_str(":"),
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (at, entry) in self.entries().iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}", Shown(&entry.resource))?;
            if entry.resource.is_shared() {
                write!(f, "<{}>", entry.count)?;
            }
        }
        Ok(())
    }
}

fn reservation(reservation: &ReservationInfo) -> String {
    let mut text = format!(
        "({},{}",
        reservation.r#type().as_str_name(),
        reservation.role.as_deref().unwrap_or_default()
    );
    if let Some(principal) = &reservation.principal {
        text.push(',');
        text.push_str(principal);
    }
    if let Some(all) = &reservation.labels {
        text.push(',');
        text.push_str(&labels::display(all));
    }
    text.push(')');
    text
}

fn disk(disk: &DiskInfo) -> String {
    let mut text = disk.source.as_ref().map(disk_source).unwrap_or_default();
    if let Some(persistence) = &disk.persistence {
        if disk.source.is_some() {
            text.push(',');
        }
        text.push_str(&persistence.id);
    }
    if let Some(used) = &disk.volume {
        text.push(':');
        text.push_str(&volume_text(used));
    }
    text
}

fn disk_source(source: &Source) -> String {
    let kind = source.r#type();
    let name = kind.as_str_name();
    if source.id.is_some() || source.profile.is_some() {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        return format!(
            "{name}({},{},{})",
            text(&source.vendor),
            text(&source.id),
            text(&source.profile)
        );
    }
    let root = match kind {
        source::Type::Mount => source.mount.as_ref().and_then(|mount| mount.root.as_ref()),
        source::Type::Path => source.path.as_ref().and_then(|path| path.root.as_ref()),
        _ => None,
    };
    root.map_or_else(|| name.to_owned(), |root| format!("{name}:{root}"))
}

fn volume_text(used: &Volume) -> String {
    let Some(host) = &used.host_path else {
        return used.container_path.clone();
    };
    let mode = if used.mode() == volume::Mode::Ro {
        "ro"
    } else {
        "rw"
    };
    format!("{host}:{}:{mode}", used.container_path)
}

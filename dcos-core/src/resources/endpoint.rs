//! Resources as v0 endpoints show them: `{"cpus": 4.0, "gpus": 0, "ports": "[1-9]", ...}`.

use std::collections::BTreeMap;
use std::io::Write as _;

use dcos_proto::mesos::{Resource, value};
use serde_json::{Map, Value as Json};

use super::Resources;
use super::resource::{ResourceExt, items, ranges, scalar};
use super::value::{Ranges, Scalar, set_plus};

/// The scalars that are always there, in the order of the object's keys.
const ALWAYS: [&str; 4] = ["cpus", "disk", "gpus", "mem"];

/// What stands before each of them.
const HEADS: [&str; 4] = ["{\"cpus\":", ",\"disk\":", ",\"gpus\":", ",\"mem\":"];

/// Appends the object of [`Resources::to_endpoint_json`] for messages that were checked before,
/// without making a bag of them if they are as plain as those of most tasks: this is what takes
/// the time when a cluster's state is written.
pub fn append_endpoint_json(resources: &[Resource], document: &mut Vec<u8>) {
    if !append_plain(resources.iter(), document) {
        Resources::from(resources).append_endpoint_json(document);
    }
}

/// Appends the object if it has nothing but ports and plain scalars; `false` if there is more.
fn append_plain<'a>(resources: impl Iterator<Item = &'a Resource>, document: &mut Vec<u8>) -> bool {
    let found = plain(resources);
    if let Some((scalars, ports)) = &found {
        let totals = HEADS.iter().zip(scalars);
        for (head, total) in totals {
            document.extend_from_slice(head.as_bytes());
            match total {
                Some(total) => serde_json::to_writer(&mut *document, &total.as_f64())
                    .expect("writing to memory does not fail"),
                None => document.push(b'0'),
            }
        }
        if let Some(ports) = ports {
            write(document, format_args!(",\"ports\":\"{ports}\""));
        }
        document.push(b'}');
    }
    found.is_some()
}

fn write(document: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    document
        .write_fmt(text)
        .expect("writing to memory does not fail");
}

/// The sums of scalars and the ports, if there is nothing else.
fn plain<'a>(
    resources: impl Iterator<Item = &'a Resource>,
) -> Option<([Option<Scalar>; 4], Option<Ranges>)> {
    let (mut scalars, mut ports) = ([None; 4], None);
    for resource in resources {
        if resource.is_revocable() || resource.is_shared() {
            return None;
        }
        if resource.r#type() == value::Type::Scalar {
            let at = ALWAYS.iter().position(|name| *name == resource.name)?;
            let amount = scalar(resource);
            if amount < Scalar::ZERO {
                return None;
            }
            if amount > Scalar::ZERO {
                scalars[at] = Some(scalars[at].map_or(amount, |sum: Scalar| sum + amount));
            }
        } else if resource.name == "ports"
            && resource.r#type() == value::Type::Ranges
            && ports.is_none()
        {
            ports = Some(ranges(resource)).filter(|ranges| !ranges.is_empty());
        } else {
            return None;
        }
    }
    Some((scalars, ports))
}

enum Total {
    Scalar(Scalar),
    Ranges(Ranges),
    Set(Vec<String>),
}

impl Resources {
    /// The object of v0 endpoints: totals by name, revocable ones under `<name>_revocable`.
    /// `cpus`, `gpus`, `mem` and `disk` are always there.
    pub fn to_endpoint_json(&self) -> Map<String, Json> {
        let mut object: Map<String, Json> = ALWAYS
            .map(|name| (name.to_owned(), 0.into()))
            .into_iter()
            .collect();
        for (name, total) in self.totals() {
            let json = match total {
                Total::Scalar(amount) => amount.as_f64().into(),
                Total::Ranges(ranges) => ranges.to_string().into(),
                Total::Set(items) => format!("{{{}}}", items.join(", ")).into(),
            };
            object.insert(name, json);
        }
        object
    }

    /// Appends the object of v0 endpoints.
    pub fn append_endpoint_json(&self, document: &mut Vec<u8>) {
        if !append_plain(self.iter(), document) {
            let object = Json::Object(self.to_endpoint_json());
            write(document, format_args!("{object}"));
        }
    }

    /// For each role that resources are kept for, the object of those.
    pub fn reservations_to_endpoint_json(&self) -> Map<String, Json> {
        self.reservations()
            .into_iter()
            .map(|(role, resources)| (role, Json::Object(resources.to_endpoint_json())))
            .collect()
    }

    fn totals(&self) -> BTreeMap<String, Total> {
        let mut totals: BTreeMap<String, Total> = BTreeMap::new();
        for resource in self.iter() {
            let suffix = if resource.is_revocable() {
                "_revocable"
            } else {
                ""
            };
            let name = format!("{}{suffix}", resource.name);
            match (resource.r#type(), totals.get_mut(&name)) {
                (value::Type::Scalar, Some(Total::Scalar(total))) => *total += scalar(resource),
                (value::Type::Ranges, Some(Total::Ranges(total))) => {
                    *total = total.plus(&ranges(resource));
                }
                (value::Type::Set, Some(Total::Set(total))) => set_plus(total, items(resource)),
                (value::Type::Scalar, _) => {
                    totals.insert(name, Total::Scalar(scalar(resource)));
                }
                (value::Type::Ranges, _) => {
                    totals.insert(name, Total::Ranges(ranges(resource)));
                }
                (value::Type::Set, _) => {
                    totals.insert(name, Total::Set(items(resource).to_vec()));
                }
                (value::Type::Text, _) => {}
            }
        }
        totals
    }
}

//! Resources as v0 endpoints show them: `{"cpus": 4.0, "gpus": 0, "ports": "[1-9]", ...}`.

use std::collections::BTreeMap;

use dcos_proto::mesos::value;
use serde_json::{Map, Value as Json};

use super::Resources;
use super::resource::{ResourceExt, items, ranges, scalar};
use super::value::{Ranges, Scalar, set_plus};

enum Total {
    Scalar(Scalar),
    Ranges(Ranges),
    Set(Vec<String>),
}

impl Resources {
    /// The object of v0 endpoints: totals by name, revocable ones under `<name>_revocable`.
    /// `cpus`, `gpus`, `mem` and `disk` are always there.
    pub fn to_endpoint_json(&self) -> Map<String, Json> {
        let mut object: Map<String, Json> = ["cpus", "disk", "gpus", "mem"]
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

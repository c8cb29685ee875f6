//! What is answered of Cosmos's API where there is no Cosmos: what the cluster can do, and that it has no packages.
//!
//! Source: Cosmos of DC/OS 2.2 (`CapabilitiesHandler`, `CosmosError`). Clients ask `/capabilities` before they speak of jobs, and
//! compare the media type letter by letter.

use serde_json::json;

use super::{Asked, Rules, Step};
use crate::route::Part;
use crate::world::World;

const CAPABILITIES: &str = "application/vnd.dcos.capabilities+json;charset=utf-8;version=v1";
const ERROR: &str = "application/vnd.dcos.package.error+json;charset=utf-8;version=v1";

impl Rules {
    pub(super) fn without_packages(&self, asked: Asked<'_>, world: &World) -> Step {
        if asked.path != "/capabilities" {
            let message = "This cluster has no package management (Cosmos). \
                           An administrator can say by --router_parts=cosmos=http://host:port where one is.";
            let document = json!({"type": "PackageManagementAbsent", "message": message});
            return Step::Document(404, ERROR, document.to_string());
        }
        let metronome = match self.is_there("metronome", asked, world) {
            Ok(is_there) => is_there,
            Err(step) => return *step,
        };
        let has = |part| self.parts.contains_key(&part);
        let logs = has(Part::Logs);
        let names = [
            ("SUPPORT_CLUSTER_REPORT", has(Part::Diagnostics)),
            ("METRONOME", metronome),
            ("LOGGING", logs),
            ("LOGGING_V2", logs),
        ];
        let names = names.into_iter().filter(|(_, is_there)| *is_there);
        let capabilities: Vec<_> = names.map(|(name, _)| json!({"name": name})).collect();
        let document = json!({"capabilities": capabilities});
        Step::Document(200, CAPABILITIES, document.to_string())
    }
}

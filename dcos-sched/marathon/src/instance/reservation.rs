//! What is kept for an instance on its agent: resources and volumes that outlive its tasks.

use serde::{Deserialize, Serialize};

/// What is reserved for one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reservation {
    /// How many tasks were launched on it.
    pub incarnation: u32,
    /// Whether an agent ever spoke of one of them; until then nobody knows that it was made.
    pub confirmed: bool,
    /// Whether the last of those tasks is known to have ended: what is said of it after that is old news. One that was
    /// given up, or lost, may run after all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// Its volumes, in the order of the app's.
    pub volumes: Vec<LocalVolume>,
}

/// A volume made for one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolume {
    /// Where it appears in the container.
    pub container_path: String,
    /// The part of its name that makes it unique.
    pub uuid: String,
    /// Its name to Mesos.
    pub persistence_id: String,
}

//! Containers, their volumes, networks and ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Constraint;

/// The container an instance runs in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Who runs it.
    #[serde(rename = "type", default)]
    pub engine: EngineType,
    /// The image and what goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerContainer>,
    /// Security settings of the Mesos containerizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux_info: Option<LinuxInfo>,
    /// What is mounted.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Ports, unless the host's network is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mappings: Option<Vec<PortMapping>>,
}

impl Container {
    /// A container of the Mesos containerizer without an image.
    pub fn mesos() -> Self {
        Self {
            engine: EngineType::Mesos,
            docker: None,
            linux_info: None,
            volumes: Vec::new(),
            port_mappings: None,
        }
    }
}

/// Who runs a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EngineType {
    /// The agent itself.
    Mesos,
    /// The Docker Engine.
    #[default]
    Docker,
}

/// An image and what goes with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerContainer {
    /// Deprecated, refused: use `pull_config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Value>,
    /// The secret with the registry's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_config: Option<PullConfig>,
    /// Whether to pull even what is there.
    #[serde(default)]
    pub force_pull_image: bool,
    /// The image.
    pub image: String,
    /// Deprecated: [`crate::model::App::networks`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<DockerNetwork>,
    /// Free options of the Docker Engine.
    #[serde(default)]
    pub parameters: Vec<DockerParameter>,
    /// Deprecated: [`Container::port_mappings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mappings: Option<Vec<PortMapping>>,
    /// Whether the Docker Engine gives all privileges.
    #[serde(default)]
    pub privileged: bool,
}

/// Where the registry's credentials are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullConfig {
    /// A name among the app's secrets.
    pub secret: String,
}

/// The deprecated way to name a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DockerNetwork {
    /// Docker's own bridge.
    Bridge,
    /// The host's network.
    Host,
    /// None.
    None,
    /// A named one.
    User,
}

/// An option of the Docker Engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerParameter {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Security settings of the Mesos containerizer, passed on as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxInfo {
    /// The seccomp profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Value>,
    /// The IPC namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipc_info: Option<Value>,
}

/// Something mounted into the container; which kind it is shows in which field is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Where it appears.
    pub container_path: String,
    /// A directory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// A reserved disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<PersistentVolume>,
    /// A volume of a driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalVolume>,
    /// A name among the app's secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Read-only or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<VolumeMode>,
}

/// The provider whose volumes are those of Docker volume plugins.
pub const DVDI: &str = "dvdi";
/// The option that names the plugin.
pub const DRIVER_OPTION: &str = "dvdi/driver";

/// A volume of a driver, which outlives whatever uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalVolume {
    /// Its size in GiB, for drivers that make it when it is first used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its name to the driver.
    #[serde(default)]
    pub name: String,
    /// Who speaks to the driver: [`DVDI`].
    #[serde(default)]
    pub provider: String,
    /// What the provider wants to know; texts for [`DVDI`].
    #[serde(default)]
    pub options: BTreeMap<String, Value>,
    /// Whether several may use it at once.
    #[serde(default)]
    pub shared: bool,
}

impl ExternalVolume {
    /// The driver's name.
    pub fn driver(&self) -> Option<&str> {
        self.options.get(DRIVER_OPTION)?.as_str()
    }

    /// What the driver is told, by its own names: what stands behind `dvdi/`, and the size.
    pub fn driver_options(&self) -> BTreeMap<String, String> {
        let told = self.options.iter().filter_map(|(name, value)| {
            let own = name.strip_prefix(DVDI)?.strip_prefix('/')?;
            let value = value.as_str()?.trim().to_owned();
            (!name.eq_ignore_ascii_case(DRIVER_OPTION)).then(|| (own.to_owned(), value))
        });
        let size = self.size.map(|size| ("size".to_owned(), size.to_string()));
        told.chain(size).collect()
    }
}

/// A disk that is reserved for an instance and outlives its tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolume {
    /// What it is made of.
    #[serde(rename = "type", default)]
    pub disk: DiskType,
    /// Its size in MB; at least, for a whole disk.
    pub size: u64,
    /// The largest whole disk that will do, in MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// The profile of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_name: Option<String>,
    /// Rules about the disk's path.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
}

/// What a persistent volume is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskType {
    /// A directory of the agent's own disk.
    #[default]
    Root,
    /// A directory of another disk.
    Path,
    /// A disk as a whole.
    Mount,
}

/// Read-only or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VolumeMode {
    /// Read-only.
    Ro,
    /// Read and write.
    Rw,
}

/// A port of a container that does not share the host's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port inside; 0 is the same as on the host.
    #[serde(default)]
    pub container_port: u16,
    /// The port on the host; 0 is any, absent is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// Free names and values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `tcp`, `udp` or `udp,tcp`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// The port load balancers use; 0 is chosen once and kept.
    #[serde(default)]
    pub service_port: u16,
    /// The networks it belongs to; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_names: Vec<String>,
}

/// A port on the host, with host networking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDefinition {
    /// The port load balancers use, and that on the host if ports are required; 0 is chosen once.
    #[serde(default)]
    pub port: u16,
    /// Free names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `tcp`, `udp` or `udp,tcp`.
    #[serde(default = "tcp")]
    pub protocol: String,
}

impl PortDefinition {
    /// A port by number only.
    pub fn number(port: u16) -> Self {
        Self {
            port,
            labels: BTreeMap::new(),
            name: None,
            protocol: tcp(),
        }
    }
}

/// A network an instance joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name, for [`NetworkMode::Container`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its kind.
    #[serde(default)]
    pub mode: NetworkMode,
    /// Free names and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// The host's own network.
    pub fn host() -> Self {
        Self {
            name: None,
            mode: NetworkMode::Host,
            labels: BTreeMap::new(),
        }
    }

    /// Whether it is the host's own.
    pub fn is_host(&self) -> bool {
        self.mode == NetworkMode::Host
    }
}

/// A kind of network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// A named network with an address for each container.
    #[default]
    #[serde(rename = "container")]
    Container,
    /// The containerizer's default bridge.
    #[serde(rename = "container/bridge")]
    Bridge,
    /// The host's own.
    #[serde(rename = "host")]
    Host,
}

/// The deprecated way to ask for an address for each container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpAddress {
    /// Its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<IpDiscovery>,
    /// Ignored, as in the original since 1.5.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Free names and values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The network's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_name: Option<String>,
}

/// Ports of an [`IpAddress`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpDiscovery {
    /// The ports.
    #[serde(default)]
    pub ports: Vec<IpDiscoveryPort>,
}

/// A port of an [`IpAddress`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpDiscoveryPort {
    /// Its number.
    #[serde(default)]
    pub number: u16,
    /// Its name.
    pub name: String,
    /// `tcp` or `udp`.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// Free names and values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

pub(crate) fn tcp() -> String {
    "tcp".to_owned()
}

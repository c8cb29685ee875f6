//! [`Networks`]: where containers get their part of the overlays. A plug point, and what it does for
//! the agent's own containers: CNI configurations.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_netlink::Passage;
use serde_json::{Value, json};

use crate::{AgentNetwork, Bridge, NetworkConfig, Subnet};

/// The chain of `iptables` that lets packets of containers in overlays pass.
const PASSAGE: &str = "DCOS-OVERLAY";
/// The one for those of Docker.
const DOCKER_PASSAGE: &str = "DCOS-DOCKER";

/// An overlay, as containers of one node see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerNetwork {
    /// Its name.
    pub name: String,
    /// For containers of the agent's own containerizer.
    pub mesos_bridge: Option<Bridge>,
    /// For Docker's.
    pub docker_bridge: Option<Bridge>,
    /// The whole of it, of IPv4 and IPv6, with what other nodes have.
    pub whole: Vec<Subnet>,
    /// What a packet may have, in bytes.
    pub mtu: u32,
}

impl ContainerNetwork {
    /// What a node's firewall has to let pass of these: all from and to containers of this node, which is all of them that a
    /// node forwards.
    pub fn passage(networks: &[Self]) -> Passage {
        let mut passage = Passage::closed(PASSAGE);
        let bridges = networks
            .iter()
            .flat_map(|network| network.mesos_bridge.iter().chain(&network.docker_bridge));
        for subnet in bridges.flat_map(|bridge| bridge.ip.iter().chain(&bridge.ip6)) {
            let rules = if subnet.is_v4() {
                &mut passage.v4
            } else {
                &mut passage.v6
            };
            let subnet = subnet.network();
            rules.extend(["-s", "-d"].map(|way| format!("{way} {subnet}")));
        }
        passage
    }

    /// What Docker refuses of these, as of all that comes to its bridges from elsewhere.
    pub fn docker_passage(networks: &[Self]) -> Passage {
        let mut passage = Passage::closed(DOCKER_PASSAGE);
        passage.before_docker = true;
        for bridge in networks.iter().filter_map(|one| one.docker_bridge.as_ref()) {
            for subnet in bridge.ip.iter().chain(&bridge.ip6) {
                let rules = if subnet.is_v4() {
                    &mut passage.v4
                } else {
                    &mut passage.v6
                };
                rules.push(format!("-d {} -o {}", subnet.network(), bridge.name));
            }
        }
        passage
    }

    /// Those of an agent.
    pub(crate) fn all(config: &NetworkConfig, own: &AgentNetwork, mtu: u32) -> Vec<Self> {
        let parts = config.enabled().filter_map(|overlay| {
            let part = own.overlays.get(&overlay.name)?;
            Some(Self {
                name: overlay.name.clone(),
                mesos_bridge: part.mesos_bridge.clone(),
                docker_bridge: part.docker_bridge.clone(),
                whole: overlay.subnet.into_iter().chain(overlay.subnet6).collect(),
                mtu,
            })
        });
        parts.collect()
    }
}

/// Why containers cannot join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworksError {
    /// A file could not be written.
    #[error("writing {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever runs the containers refused.
    #[error("network {network:?} for {containers}")]
    Refused {
        /// Which.
        network: String,
        /// Of whom, such as `Docker`.
        containers: &'static str,
        /// Its reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes overlays joinable for containers of some kind.
///
/// Called whenever a node's part in the overlays is known or reviewed, with all of them: what is
/// right already is left as it is.
#[async_trait]
pub trait Networks: fmt::Debug + Send + Sync + 'static {
    /// Provides `networks`, and those only.
    ///
    /// # Errors
    /// [`NetworksError`]; it is tried again later.
    async fn provide(&self, networks: &[ContainerNetwork]) -> Result<(), NetworksError>;
}

/// A CNI configuration for each overlay, as the original's agent module writes it: the plugins
/// `mesos-cni-port-mapper`, `bridge` and `host-local`.
#[derive(Debug)]
pub struct CniConfigurations {
    folder: PathBuf,
    leases: PathBuf,
}

impl CniConfigurations {
    /// Configurations in `folder`; `host-local` notes in `leases` which addresses are given out.
    pub fn new(folder: impl Into<PathBuf>, leases: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            leases: leases.into(),
        }
    }

    /// Whether a file is one of these configurations, not somebody else's of such a name.
    fn wrote(&self, path: &Path) -> bool {
        let text = std::fs::read(path).unwrap_or_default();
        let found: Value = serde_json::from_slice(&text).unwrap_or_default();
        let leases = &found["delegate"]["ipam"]["dataDir"];
        found["type"] == "mesos-cni-port-mapper" && *leases == json!(self.leases)
    }

    fn configuration(&self, network: &ContainerNetwork, bridge: &Bridge) -> Value {
        let subnets: Vec<Subnet> = bridge.ip.into_iter().chain(bridge.ip6).collect();
        let ranges = subnets.iter().map(|subnet| json!([{ "subnet": subnet }]));
        let routes = subnets.iter().map(|subnet| {
            let everywhere = if subnet.is_v4() { "0.0.0.0/0" } else { "::/0" };
            json!({ "dst": everywhere })
        });
        json!({
            "name": network.name,
            "cniVersion": "0.3.1",
            "type": "mesos-cni-port-mapper",
            "excludeDevices": [bridge.name],
            "chain": format!("M-{}", network.name.to_uppercase()),
            "delegate": {
                "type": "bridge",
                "bridge": bridge.name,
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "mtu": network.mtu,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.leases,
                    "ranges": ranges.collect::<Vec<_>>(),
                    "routes": routes.collect::<Vec<_>>(),
                },
            },
        })
    }
}

/// By this an overlay's file is told from those of operators.
const PREFIX: &str = "overlay-";

/// The file of an overlay's configuration.
pub(crate) fn file_name(overlay: &str) -> String {
    format!("{PREFIX}{overlay}.conf")
}

#[async_trait]
impl Networks for CniConfigurations {
    async fn provide(&self, networks: &[ContainerNetwork]) -> Result<(), NetworksError> {
        std::fs::create_dir_all(&self.folder).map_err(write_failed(&self.folder))?;
        let mut kept = Vec::new();
        for network in networks {
            let Some(bridge) = &network.mesos_bridge else {
                continue;
            };
            let path = self.folder.join(file_name(&network.name));
            let text = format!("{:#}\n", self.configuration(network, bridge));
            if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                replace(&path, text.as_bytes()).map_err(write_failed(&path))?;
            }
            kept.push(path);
        }
        // Overlays that are no more: nobody can join them.
        let entries = std::fs::read_dir(&self.folder).map_err(write_failed(&self.folder))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if is_ours(name) && !kept.contains(&path) && self.wrote(&path) {
                std::fs::remove_file(&path).map_err(write_failed(&path))?;
            }
        }
        Ok(())
    }
}

/// What to say of a file that cannot be written.
pub(crate) fn write_failed(path: &Path) -> impl FnOnce(io::Error) -> NetworksError {
    let path = path.to_owned();
    move |source| NetworksError::Write { path, source }
}

/// Whether a file of that name is an overlay's.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| rest.strip_suffix(".conf").is_some())
}

/// Writes a file so that whoever reads it sees the old text or the new.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Allocation, Wishes};

    #[tokio::test]
    async fn configurations_are_the_originals_and_go_with_their_overlay() {
        let folder = tempfile::tempdir().unwrap();
        let config = NetworkConfig::default();
        let mut allocation = Allocation::default();
        let ip = [10, 0, 0, 1].into();
        let own = allocation.register(&config, ip, Wishes::ALL, None).unwrap();
        let networks = ContainerNetwork::all(&config, own, 1420);
        let cni = CniConfigurations::new(folder.path(), "/leases");
        let foreign = folder.path().join("overlay-other.conf");
        std::fs::write(&foreign, "{}").unwrap();
        cni.provide(&networks).await.unwrap();
        let path = folder.path().join("overlay-dcos.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["type"], "mesos-cni-port-mapper");
        assert_eq!(found["chain"], "M-DCOS");
        assert_eq!(found["excludeDevices"], json!(["m-dcos"]));
        assert_eq!(found["delegate"]["mtu"], 1420);
        let ipam = &found["delegate"]["ipam"];
        assert_eq!(ipam["ranges"], json!([[{"subnet": "9.0.0.0/25"}]]));
        assert_eq!(ipam["routes"], json!([{"dst": "0.0.0.0/0"}]));

        let passage = ContainerNetwork::passage(&networks);
        let halves = ["9.0.0.0/25", "9.0.0.128/25"];
        let rules = halves.map(|half| [format!("-s {half}"), format!("-d {half}")]);
        assert_eq!(passage.v4, rules.concat());
        assert_eq!(passage.v6.len(), 4);
        let dockers = ContainerNetwork::docker_passage(&networks);
        assert_eq!(dockers.v4, ["-d 9.0.0.128/25 -o d-dcos"]);
        assert!(dockers.before_docker && !passage.before_docker);

        cni.provide(&networks[1..]).await.unwrap();
        assert!(!path.exists() && foreign.exists());
        assert!(folder.path().join("overlay-dcos6.conf").exists());
    }
}

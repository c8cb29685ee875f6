//! [`DefaultBridge`]: the network of a node that Marathon's `container/bridge` means.

use std::path::{Path, PathBuf};

use dcos_netlink::Passage;
use serde_json::{Value, json};

use crate::cni::{replace, write_failed};
use crate::{NetworksError, Subnet};

/// The file of its configuration, as in DC/OS.
const FILE: &str = "ucr-default-bridge.conf";
/// The bridge.
const BRIDGE: &str = "ucr-br0";
/// The chain of `iptables` that lets packets of its containers pass.
const PASSAGE: &str = "DCOS-BRIDGE";

/// A bridge that leads out of the node as if the node had sent it, and ports of the node to containers behind it.
///
/// Source: dcos/dcos `gen/dcos-config.yaml`, `ucr-default-bridge.conf`, but for `isDefaultGateway`, which beside the route is one too
/// many for plugins of today. The plugin `bridge` masquerades by `iptables`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultBridge {
    /// What apps call it: `mesos-bridge` (`dcos_ucr_default_bridge_network_name`).
    pub name: String,
    /// Its addresses, the same on each node: 172.31.254.0/24 (`dcos_ucr_default_bridge_subnet`).
    pub subnet: Subnet,
    /// Where `host-local` notes which addresses are given out (`dcos_cni_data_dir`).
    pub leases: PathBuf,
}

impl DefaultBridge {
    /// Writes its CNI configuration into `folder`, unless it is there; `None` takes away what was written before.
    ///
    /// # Errors
    /// [`NetworksError::Write`]
    pub fn provide(bridge: Option<&Self>, folder: &Path) -> Result<(), NetworksError> {
        let path = folder.join(FILE);
        let Some(bridge) = bridge else {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(write_failed(&path)(error))
                }
                _ => Ok(()),
            };
        };
        std::fs::create_dir_all(folder).map_err(write_failed(folder))?;
        let text = format!("{:#}\n", bridge.configuration());
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            replace(&path, text.as_bytes()).map_err(write_failed(&path))?;
        }
        Ok(())
    }

    /// What a node's firewall has to let pass: all from its containers; to them what belongs to a connection that stands, or
    /// what was sent to one of their ports of the node.
    pub fn passage() -> Passage {
        let rules = vec![
            format!("-i {BRIDGE}"),
            format!("-o {BRIDGE} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT"),
        ];
        Passage {
            v4: rules,
            ..Passage::closed(PASSAGE)
        }
    }

    fn configuration(&self) -> Value {
        json!({
            "name": self.name,
            "type": "mesos-cni-port-mapper",
            "excludeDevices": [BRIDGE],
            "chain": "UCR-DEFAULT-BRIDGE",
            "delegate": {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "subnet": self.subnet,
                    "dataDir": self.leases,
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_is_the_originals_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let bridge = DefaultBridge {
            name: "mesos-bridge".to_owned(),
            subnet: "172.31.254.0/24".parse().unwrap(),
            leases: "/leases".into(),
        };
        let folder = folder.path().join("cni");
        DefaultBridge::provide(Some(&bridge), &folder).unwrap();
        let path = folder.join("ucr-default-bridge.conf");
        let found: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let wanted = r#"{
          "name": "mesos-bridge", "type": "mesos-cni-port-mapper", "excludeDevices": ["ucr-br0"],
          "chain": "UCR-DEFAULT-BRIDGE",
          "delegate": {
            "type": "bridge", "bridge": "ucr-br0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": {"type": "host-local", "subnet": "172.31.254.0/24", "dataDir": "/leases",
                     "routes": [{"dst": "0.0.0.0/0"}]}}}"#;
        assert_eq!(found, serde_json::from_str::<Value>(wanted).unwrap());

        let other = folder.join("other.conf");
        std::fs::write(&other, "{}").unwrap();
        for _ in 0..2 {
            DefaultBridge::provide(None, &folder).unwrap();
            assert!(!path.exists() && other.exists());
        }
    }
}

//! Network configurations: what an operator writes, and what a plugin gets.

use std::fs;
use std::path::{Path, PathBuf};

use dcos_proto::json::{self, Dialect};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::{Attachment, NetworkError};

/// A network: plugins that are called one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Network {
    pub name: String,
    #[serde(rename = "cniVersion", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub plugins: Vec<Map<String, Value>>,
}

impl Network {
    /// The network of that name in a folder of configurations.
    pub(super) fn find(folder: &Path, name: &str) -> Result<Self, NetworkError> {
        let entries = fs::read_dir(folder)
            .map_err(|error| NetworkError::file("listing CNI configurations in", folder, error))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let mut others = Vec::new();
        for file in files.iter().filter(|file| file.is_file()) {
            let read = fs::read_to_string(file).map_err(|error| error.to_string());
            match read.and_then(|text| Self::parse(&text)) {
                Ok(network) if network.name == name => return Ok(network),
                Ok(network) => others.push(network.name),
                Err(why) => tracing::warn!(file = %file.display(), why, "no CNI configuration"),
            }
        }
        let others = if others.is_empty() {
            "there are none".to_owned()
        } else {
            format!("there are: {}", others.join(", "))
        };
        let folder = folder.display();
        Err(NetworkError(format!(
            "Unknown CNI network '{name}': no configuration in {folder} has that name; {others}"
        )))
    }

    /// A configuration of one plugin, or a list of several (`.conflist`).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(object) = value else {
            return Err("it is no JSON object".to_owned());
        };
        let text = |object: &Map<String, Value>, key: &str| {
            Some(object.get(key)?.as_str()?.to_owned()).filter(|text| !text.is_empty())
        };
        let name = text(&object, "name").ok_or("it has no `name`")?;
        let version = text(&object, "cniVersion");
        let plugins = match object.get("plugins") {
            None => vec![object],
            Some(list) => serde_json::from_value(list.clone())
                .map_err(|_| "`plugins` is no list of JSON objects")?,
        };
        if plugins.is_empty() {
            return Err("`plugins` is empty".to_owned());
        }
        for plugin in &plugins {
            text(plugin, "type").ok_or("a plugin has no `type`")?;
            let args = plugin.get("args");
            if args.is_some_and(|args| !args.is_object()) {
                return Err("`args` is no JSON object".to_owned());
            }
            if args.is_some_and(|args| args.get(MESOS).is_some()) {
                return Err(format!("`args` has `{MESOS}`, which is what agents set"));
            }
        }
        Ok(Self {
            name,
            version,
            plugins,
        })
    }

    /// What a plugin of it reads on its standard input.
    pub(super) fn request(
        &self,
        plugin: &Map<String, Value>,
        attachment: &Attachment,
        previous: Option<&Value>,
    ) -> Map<String, Value> {
        let mut request = plugin.clone();
        request.insert("name".into(), self.name.clone().into());
        if let Some(version) = &self.version {
            request.insert("cniVersion".into(), version.clone().into());
        }
        let args = request.entry("args").or_insert_with(|| json!({}));
        // The names in it are those of API v0, which are the same here.
        let info = json::to_value(&attachment.info, Dialect::V0);
        args[MESOS] = json!({ "network_info": info });
        if let Some(previous) = previous {
            request.insert("prevResult".into(), previous.clone());
        }
        // A capability is declared by the configuration and filled in by us.
        let capabilities = request.remove("capabilities");
        let maps_ports = |all: &Value| all.get("portMappings") == Some(&Value::Bool(true));
        if capabilities.as_ref().is_some_and(maps_ports) {
            let mappings = attachment.info.port_mappings.iter().map(|mapping| {
                let protocol = mapping.protocol().to_lowercase();
                json!({
                    "hostPort": mapping.host_port,
                    "containerPort": mapping.container_port,
                    "protocol": if protocol.is_empty() { "tcp" } else { &protocol },
                })
            });
            let mappings: Vec<_> = mappings.collect();
            request.insert("runtimeConfig".into(), json!({ "portMappings": mappings }));
        }
        request
    }
}

/// Whose arguments those in `args` are.
const MESOS: &str = "org.apache.mesos";

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_proto::mesos::network_info::PortMapping;
    use dcos_proto::mesos::{ContainerId, NetworkInfo};

    fn attachment() -> Attachment {
        Attachment {
            container: ContainerId::root("c"),
            network: "net".into(),
            interface: "eth0".into(),
            namespace: None,
            info: NetworkInfo {
                name: Some("net".into()),
                port_mappings: vec![PortMapping {
                    host_port: 8080,
                    container_port: 80,
                    protocol: Some("UDP".into()),
                }],
                ..NetworkInfo::default()
            },
            folder: PathBuf::new(),
        }
    }

    #[test]
    fn a_plugin_is_told_what_the_framework_asked_for() {
        let text = r#"{"name": "net", "type": "bridge", "args": {"own": 1}}"#;
        let network = Network::parse(text).unwrap();
        let request = network.request(&network.plugins[0], &attachment(), None);
        let expected = json!({
            "name": "net",
            "type": "bridge",
            "args": {
                "own": 1,
                "org.apache.mesos": {"network_info": {
                    "name": "net",
                    "port_mappings": [{"host_port": 8080, "container_port": 80, "protocol": "UDP"}],
                }},
            },
        });
        assert_eq!(Value::Object(request), expected);
    }

    #[test]
    fn plugins_of_a_list_hear_what_came_before_and_get_what_they_can_do() {
        let text = r#"{"cniVersion": "1.0.0", "name": "net", "plugins": [
            {"type": "bridge"},
            {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
        let network = Network::parse(text).unwrap();
        let previous = json!({"ips": []});
        let second = network.request(&network.plugins[1], &attachment(), Some(&previous));
        assert_eq!(second["prevResult"], previous);
        assert_eq!(second["cniVersion"], "1.0.0");
        let mappings = &second["runtimeConfig"]["portMappings"];
        assert_eq!(
            *mappings,
            json!([{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}])
        );
        assert!(!second.contains_key("capabilities"));
        let first = network.request(&network.plugins[0], &attachment(), None);
        assert!(!first.contains_key("runtimeConfig") && !first.contains_key("prevResult"));
    }

    #[test]
    fn what_is_no_configuration_is_said_to_be_none() {
        let why = |text| Network::parse(text).unwrap_err();
        assert_eq!(why("[]"), "it is no JSON object");
        assert_eq!(why(r#"{"type": "bridge"}"#), "it has no `name`");
        assert_eq!(why(r#"{"name": "a"}"#), "a plugin has no `type`");
        assert_eq!(why(r#"{"name": "a", "plugins": []}"#), "`plugins` is empty");
        let reserved = r#"{"name": "a", "type": "b", "args": {"org.apache.mesos": {}}}"#;
        assert!(why(reserved).contains("org.apache.mesos"));
    }
}

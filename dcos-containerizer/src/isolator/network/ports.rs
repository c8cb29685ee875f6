//! Ports of the node that lead into containers: what the plugin `mesos-cni-port-mapper` did.
//!
//! Its configuration names another plugin (`delegate`), which connects the container, a `chain`,
//! and devices whose traffic is left alone (`excludeDevices`). The original is a program that
//! writes rules for iptables, one a port; here a chain looks all its ports up in one map of
//! nftables, and a port costs an element of it.
//!
//! # Source
//! Mesos 1.11 docs/cni.md, "A port-mapper plugin for CNI networks".

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Stdio;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;

use super::{Address, Attachment, NetworkError};
use crate::containerizer::runtime;

/// A configuration of this plugin.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortMapper {
    chain: String,
    #[serde(default)]
    exclude_devices: Vec<String>,
    delegate: Map<String, Value>,
}

/// A file of the attachment: the address that ports were to lead to.
const LEADS_TO: &str = "ports-lead-to";

/// Our table.
const TABLE: &str = "ip dcos_ports";

impl PortMapper {
    /// Its name in configurations.
    pub(super) const TYPE: &str = "mesos-cni-port-mapper";

    pub(super) fn read(configuration: &Map<String, Value>) -> Result<Self, NetworkError> {
        let wrong = |why: &dyn std::fmt::Display| {
            NetworkError(format!("the configuration of {}: {why}", Self::TYPE))
        };
        let mapper: Self = serde_json::from_value(Value::Object(configuration.clone()))
            .map_err(|error| wrong(&error))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let starts = mapper.chain.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts || !mapper.chain.chars().all(plain) {
            return Err(wrong(&format!("`{}` cannot be a chain", mapper.chain)));
        }
        for device in &mapper.exclude_devices {
            if device.is_empty() || device.len() > 15 || !device.chars().all(plain) {
                return Err(wrong(&format!("`{device}` cannot be a device")));
            }
        }
        Ok(mapper)
    }

    /// What the plugin that connects the container is given.
    pub(super) fn delegate(&self, request: &Map<String, Value>) -> Map<String, Value> {
        let mut delegate = self.delegate.clone();
        for key in ["name", "cniVersion", "args", "prevResult"] {
            if let Some(value) = request.get(key) {
                delegate.insert(key.to_owned(), value.clone());
            }
        }
        delegate
    }

    /// Leads the ports that were asked for to the first IPv4 address.
    pub(super) async fn add(
        &self,
        attachment: &Attachment,
        addresses: &[Address],
    ) -> Result<(), NetworkError> {
        if attachment.info.port_mappings.is_empty() {
            return Ok(());
        }
        let address = addresses.iter().find(|address| address.ip.is_ipv4());
        let address = address.ok_or_else(|| {
            let network = &attachment.network;
            NetworkError(format!(
                "ports lead to IPv4 addresses, network '{network}' gave none"
            ))
        })?;
        let note = attachment.folder.join(LEADS_TO);
        runtime::replace(&note, address.ip.to_string().as_bytes())
            .map_err(|error| NetworkError::file("writing", &note, error))?;
        let added = nft(&["-f", "-"], &self.additions(attachment, address.ip)?).await;
        added.map(drop).map_err(|why| {
            let ports = ports(attachment).map(|(_, port, _)| port.to_string());
            let ports = ports.collect::<Vec<_>>().join(", ");
            NetworkError(format!("mapping host ports {ports}: {why}"))
        })
    }

    /// Forgets the ports that lead to the container.
    pub(super) async fn remove(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let Ok(address) = std::fs::read_to_string(attachment.folder.join(LEADS_TO)) else {
            return Ok(());
        };
        for (protocol, port, inside) in ports(attachment) {
            let element = format!("element {TABLE} {} {{ {protocol} . {port} }}", self.chain);
            // It may lead to another container, which had it first.
            let found = nft(&["-nn", "get", &element], "").await.unwrap_or_default();
            if found.contains(&format!(": {address} . {inside} ")) {
                let deleted = nft(&["delete", &element], "").await;
                deleted.map_err(|why| NetworkError(format!("unmapping port {port}: {why}")))?;
            }
        }
        Ok(())
    }

    /// Commands of nft(8) that take effect together or not at all.
    fn additions(&self, attachment: &Attachment, to: IpAddr) -> Result<String, NetworkError> {
        let chain = &self.chain;
        let mut text = format!("add table {TABLE}\n");
        let _ = writeln!(
            text,
            "add map {TABLE} {chain} {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}"
        );
        let excluded = self
            .exclude_devices
            .iter()
            .map(|name| format!("\"{name}\""));
        let excluded: Vec<_> = excluded.collect();
        let lead = format!("fib daddr type local dnat ip to meta l4proto . th dport map @{chain}");
        // From elsewhere, and from the node itself.
        let hooks = [
            ("prerouting", "dstnat", String::new()),
            ("output", "-100", "ip daddr != 127.0.0.0/8 ".to_owned()),
        ];
        for (hook, priority, only) in hooks {
            let name = format!("{TABLE} {chain}-{hook}");
            let _ = writeln!(
                text,
                "add chain {name} {{ type nat hook {hook} priority {priority}; policy accept; }}\n\
                 flush chain {name}"
            );
            if hook == "prerouting" && !excluded.is_empty() {
                let _ = writeln!(
                    text,
                    "add rule {name} iifname {{ {} }} return",
                    excluded.join(", ")
                );
            }
            let _ = writeln!(text, "add rule {name} {only}{lead}");
        }
        for (protocol, port, inside) in ports(attachment) {
            if !matches!(protocol.as_str(), "tcp" | "udp") {
                let why = format!("ports of protocol `{protocol}` cannot be mapped: tcp or udp");
                return Err(NetworkError(why));
            }
            if port == 0 || inside == 0 || port > 0xFFFF || inside > 0xFFFF {
                let why =
                    format!("port {port} to {inside} cannot be mapped: 1 to 65535 is possible");
                return Err(NetworkError(why));
            }
            let _ = writeln!(
                text,
                "create element {TABLE} {chain} {{ {protocol} . {port} : {to} . {inside} }}"
            );
        }
        Ok(text)
    }
}

/// Protocol, port of the node, port inside.
fn ports(attachment: &Attachment) -> impl Iterator<Item = (String, u32, u32)> {
    attachment.info.port_mappings.iter().map(|mapping| {
        let protocol = mapping.protocol.as_deref().unwrap_or("tcp").to_lowercase();
        (protocol, mapping.host_port, mapping.container_port)
    })
}

/// Runs nft(8); gives what it says.
async fn nft(arguments: &[&str], commands: &str) -> Result<String, String> {
    let mut child = tokio::process::Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("`nft` cannot be run (Debian's package nftables): {error}"))?;
    let mut input = child.stdin.take().expect("it is piped");
    // One that does not read says why on its output.
    input.write_all(commands.as_bytes()).await.ok();
    drop(input);
    let output = child.wait_with_output().await;
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(if said.contains("File exists") {
        "one of them leads to another container".to_owned()
    } else {
        format!("nft: {}", said.lines().next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<PortMapper, String> {
        PortMapper::read(value.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_would_be_read_as_a_command_is_refused() {
        let with = |chain: &str, device: &str| {
            read(&json!({"chain": chain, "excludeDevices": [device], "delegate": {}}))
        };
        assert!(with("M-MESOS-BRIDGE", "m-bridge").is_ok());
        assert!(with("a; flush ruleset", "m-bridge").is_err());
        assert!(with("1", "m-bridge").is_err() && with("", "m-bridge").is_err());
        assert!(with("a", "x\" }").is_err() && with("a", "longer-than-a-device").is_err());
        assert!(
            read(&json!({"chain": "a"}))
                .unwrap_err()
                .contains("delegate")
        );
    }

    #[test]
    fn the_delegate_gets_the_name_and_the_arguments() {
        let request = json!({
            "name": "net", "type": PortMapper::TYPE, "chain": "A", "args": {"a": 1},
            "delegate": {"type": "bridge", "bridge": "br0"},
        });
        let mapper = read(&request).unwrap();
        let expected = json!({"type": "bridge", "bridge": "br0", "name": "net", "args": {"a": 1}});
        let delegate = mapper.delegate(request.as_object().unwrap());
        assert_eq!(Value::Object(delegate), expected);
    }
}

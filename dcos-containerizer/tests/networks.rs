//! Containers on networks of their own, with the CNI plugins of Debian's
//! `containernetworking-plugins`. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dcos_containerizer::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, ContainerizerError, Universal,
};
use dcos_containerizer::isolator::network::{CniNetworks, testkit};
use dcos_proto::mesos::network_info::PortMapping;
use dcos_proto::mesos::{ContainerId, ContainerInfo, NetworkInfo, container_info};
use node::Node;
use serde_json::{Value, json};

const PLUGINS: &str = "/usr/lib/cni";
const ISOLATION: &str = "filesystem/linux,namespaces/pid";

/// A node with a network `net`: a bridge, addresses by host-local, ports mapped.
struct Networked {
    node: Node,
    bridge: String,
    ports: u16,
}

impl Networked {
    /// `number` tells the tests of this file apart; says why there can be none.
    fn new(number: u8) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        if !Path::new(PLUGINS).join("bridge").exists() {
            eprintln!("skipped: there is no Debian package containernetworking-plugins");
            return None;
        }
        let mut node = Node::new(ISOLATION);
        let bridge = format!("t{}-{number}", std::process::id());
        let configurations = node.dir.path().join("cni");
        std::fs::create_dir(&configurations).unwrap();
        let connect = json!({
            "type": "bridge",
            "bridge": bridge,
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "subnet": format!("10.254.{}.0/24", 100 + number),
                "dataDir": node.dir.path().join("leases"),
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        let save = |file: &str, value: Value| {
            std::fs::write(configurations.join(file), value.to_string()).unwrap();
        };
        save(
            "net.conf",
            json!({
                "name": "net",
                "type": "mesos-cni-port-mapper",
                "chain": bridge,
                "excludeDevices": [bridge],
                "delegate": connect,
            }),
        );
        // The plugin of the list comes second, and changes what the first one made.
        let tuned = json!({"type": "tuning", "mtu": 1400});
        save(
            "tuned.conflist",
            json!({"cniVersion": "0.4.0", "name": "tuned", "plugins": [connect, tuned]}),
        );
        save("broken.conf", json!("what is this"));
        node.networks = Arc::new(CniNetworks::new(configurations, PLUGINS));
        Some(Self {
            node,
            bridge,
            ports: 20_000 + u16::from(number),
        })
    }

    fn config(&self, id: &ContainerId, networks: &[&str], command: &str) -> ContainerConfig {
        let infos = networks.iter().map(|name| NetworkInfo {
            name: Some((*name).to_owned()),
            port_mappings: vec![PortMapping {
                host_port: self.ports.into(),
                container_port: 80,
                protocol: Some("tcp".into()),
            }],
            ..NetworkInfo::default()
        });
        ContainerConfig {
            container: Some(ContainerInfo {
                r#type: container_info::Type::Mesos.into(),
                network_infos: infos.collect(),
                hostname: Some("web".into()),
                ..ContainerInfo::default()
            }),
            ..self.node.task(id, command)
        }
    }

    fn mapped(&self) -> String {
        let out = Command::new("nft")
            .args(["list", "map", "ip", "dcos_ports", &self.bridge])
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    fn leases(&self) -> Vec<String> {
        let folder = self.node.dir.path().join("leases/net");
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("10.")).collect()
    }
}

impl Drop for Networked {
    fn drop(&mut self) {
        let nft = |command: String| Command::new("nft").arg(command).output();
        for hook in ["prerouting", "output"] {
            nft(format!("delete chain ip dcos_ports {}-{hook}", self.bridge)).ok();
        }
        nft(format!("delete map ip dcos_ports {}", self.bridge)).ok();
        Command::new("ip")
            .args(["link", "del", &self.bridge])
            .output()
            .ok();
    }
}

async fn address(universal: &Universal, id: &ContainerId) -> IpAddr {
    let status = universal.status(id).await.unwrap();
    let info = &status.network_infos[0];
    assert_eq!(info.name(), "net");
    info.ip_addresses[0].ip_address().parse().unwrap()
}

/// What a server that greets says at `address`.
async fn greeting(address: SocketAddr) -> std::io::Result<String> {
    for _ in 0..200 {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            return Ok(text);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(std::io::ErrorKind::TimedOut.into())
}

const GREET: &str = "python3 -c '
import socket
s = socket.create_server((\"0.0.0.0\", 80))
while True:
    c, peer = s.accept()
    c.sendall(socket.gethostname().encode())
    c.close()'";

/// An address of this host that is not loopback.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[tokio::test]
async fn debians_plugins_keep_the_promises() {
    let Some(net) = Networked::new(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    testkit::all(&*net.node.networks, "net", folder.path()).await;
    assert_eq!(net.leases(), [""; 0], "all addresses were given back");
}

#[tokio::test]
async fn a_container_is_reached_at_its_address_and_at_its_port() {
    let Some(net) = Networked::new(2) else { return };
    let universal = net.node.recovered(&[]).await;
    let id = ContainerId::root("web");
    universal
        .launch(&id, net.config(&id, &["net"], GREET))
        .await
        .unwrap();
    let inside = address(&universal, &id).await;
    assert_eq!(greeting((inside, 80).into()).await.unwrap(), "web");
    if let Some(own) = own_address() {
        assert_eq!(greeting((own, net.ports).into()).await.unwrap(), "web");
    }
    assert!(
        net.mapped().contains(&inside.to_string()),
        "{}",
        net.mapped()
    );
    let usage = universal.usage(&id).await.unwrap();
    assert!(
        usage.net_rx_packets > Some(0) && usage.net_tx_bytes > Some(0),
        "{usage:?}"
    );

    // The port is taken: another container cannot have it, and does not take it away.
    let second = ContainerId::root("second");
    let refused = universal
        .launch(&second, net.config(&second, &["net"], "true"))
        .await;
    let ContainerizerError::Launch { reason, .. } = refused.unwrap_err() else {
        panic!("the launch fails");
    };
    assert!(reason.contains("leads to another container"), "{reason}");
    assert!(
        net.mapped().contains(&inside.to_string()),
        "{}",
        net.mapped()
    );

    universal.destroy(&id).await.unwrap();
    assert!(
        !net.mapped().contains(&inside.to_string()),
        "{}",
        net.mapped()
    );
    assert_eq!(net.leases(), [""; 0]);
}

#[tokio::test]
async fn what_is_nested_shares_the_network() {
    let Some(net) = Networked::new(3) else { return };
    let universal = net.node.recovered(&[]).await;
    let pod = ContainerId::root("pod");
    let holder = ContainerConfig {
        class: ContainerClass::Holder,
        ..net.config(&pod, &["net"], "")
    };
    universal.launch(&pod, holder).await.unwrap();
    let (server, client) = (pod.child("server"), pod.child("client"));
    universal
        .launch(&server, net.node.task(&server, GREET))
        .await
        .unwrap();
    let inside = address(&universal, &server).await;
    assert_eq!(greeting((inside, 80).into()).await.unwrap(), "web");
    let ask = "hostname; cat /etc/hostname; grep web /etc/hosts; python3 -c '
import socket
print(socket.create_connection((\"localhost\", 80)).recv(10).decode())'";
    universal
        .launch(&client, net.node.task(&client, ask))
        .await
        .unwrap();
    let end = universal.wait(&client).await.unwrap();
    assert_eq!(
        end.exit_code(),
        Some(0),
        "{}",
        net.node.read(&client, "stderr")
    );
    let said = net.node.read(&client, "stdout");
    assert_eq!(said, format!("web\nweb\n{inside} web\nweb\n"));
    universal.destroy(&pod).await.unwrap();
    assert_eq!(net.leases(), [""; 0]);
}

#[tokio::test]
async fn networks_survive_the_agent_and_end_with_the_container() {
    let Some(net) = Networked::new(4) else { return };
    let universal = net.node.recovered(&[]).await;
    let (stays, goes) = (ContainerId::root("stays"), ContainerId::root("goes"));
    universal
        .launch(&stays, net.config(&stays, &["net"], GREET))
        .await
        .unwrap();
    let inside = address(&universal, &stays).await;
    let mut other = net.config(&goes, &["net"], "sleep 1000");
    other.container.as_mut().unwrap().network_infos[0]
        .port_mappings
        .clear();
    universal.launch(&goes, other).await.unwrap();
    assert_eq!(net.leases().len(), 2);

    let universal = net.node.recovered(&[&stays]).await;
    assert_eq!(address(&universal, &stays).await, inside);
    assert_eq!(greeting((inside, 80).into()).await.unwrap(), "web");
    assert_eq!(
        net.leases(),
        [inside.to_string()],
        "nobody knows the other one"
    );
    universal.destroy(&stays).await.unwrap();
    assert_eq!(net.leases(), [""; 0]);
}

#[tokio::test]
async fn plugins_of_a_list_follow_each_other() {
    let Some(net) = Networked::new(5) else { return };
    let universal = net.node.recovered(&[]).await;
    let id = ContainerId::root("tuned");
    let command = "ip addr show eth0";
    let config = net.config(&id, &["tuned"], command);
    universal.launch(&id, config).await.unwrap();
    universal.wait(&id).await.unwrap();
    let said = net.node.read(&id, "stdout");
    assert!(
        said.contains("10.254.105.") && said.contains("mtu 1400"),
        "{said}"
    );
    universal.remove(&id).await.unwrap();
}

#[tokio::test]
async fn a_network_that_is_not_there_is_named() {
    let Some(net) = Networked::new(6) else { return };
    let universal = net.node.recovered(&[]).await;
    let id = ContainerId::root("lost");
    let launched = universal
        .launch(&id, net.config(&id, &["nowhere"], "true"))
        .await;
    let ContainerizerError::Launch { reason, .. } = launched.unwrap_err() else {
        panic!("the launch fails");
    };
    assert!(
        reason.contains("'nowhere'") && reason.contains("there are: net, tuned"),
        "{reason}"
    );
}

//! From a task to what it claims: which VIPs, and where it answers.

use std::net::{IpAddr, SocketAddr};

use dcos_proto::mesos::{self, TaskState};

use super::ports::{self, TaskPort};
use super::{Backend, Claim, Host, Key};
use crate::label;

/// Whether a task can ever claim a VIP. Labels do not change while it runs.
pub fn declares(task: &mesos::Task) -> bool {
    ports::has_vip_labels(task)
}

/// The VIPs `task` is behind now: none unless it runs or is being killed.
///
/// `framework` is the name of its framework, `agent` the address of its agent. Labels that cannot be
/// understood claim nothing.
pub fn claims(task: &mesos::Task, framework: &str, agent: IpAddr) -> Vec<Claim> {
    let state = task.state();
    if !matches!(state, TaskState::TaskRunning | TaskState::TaskKilling) {
        return Vec::new();
    }
    let infos = network_infos(task);
    let ips = addresses(infos, agent);
    let own = |ip: &IpAddr| *ip != agent && ip.is_ipv4() == agent.is_ipv4();
    let of_container = ips.iter().copied().find(own);
    let of_container = of_container.filter(|_| !ports::is_docker(task));
    let open = state == TaskState::TaskRunning && is_healthy(task);
    let mut claims = Vec::new();
    for port in ports::ports(task, infos) {
        let backends: Vec<Backend> = backends(&port, &ips, agent)
            .map(|address| Backend {
                agent,
                address,
                inside: port
                    .outer
                    .and(of_container)
                    .zip(port.inner)
                    .map(SocketAddr::from),
                open,
            })
            .collect();
        for key in port
            .vips
            .iter()
            .filter_map(|vip| key(&port, vip, framework))
        {
            let fits = |backend: &&Backend| match &key.host {
                Host::Address(ip) => ip.is_ipv4() == backend.address.is_ipv4(),
                Host::Named(_) => true,
            };
            let claim = |backend: &Backend| Claim {
                key: key.clone(),
                backend: backend.clone(),
            };
            claims.extend(backends.iter().filter(fits).map(claim));
        }
    }
    claims
}

/// Where a port is reached: at the node if it has a port there, at each address of the task if not.
fn backends(
    port: &TaskPort,
    ips: &[IpAddr],
    agent: IpAddr,
) -> impl Iterator<Item = SocketAddr> + use<> {
    let (ips, number) = match port.outer {
        Some(outer) => (vec![agent], Some(outer)),
        None => (ips.to_vec(), port.inner),
    };
    let address = move |ip| number.map(|number| SocketAddr::new(ip, number));
    ips.into_iter().filter_map(address)
}

/// Reads the value of a label: `/name:port` or `address:port`.
fn key(port: &TaskPort, vip: &str, framework: &str) -> Option<Key> {
    let (host, number) = vip.rsplit_once(':')?;
    let number = number.trim().parse().ok().filter(|number| *number > 0)?;
    let bare = host.trim().trim_start_matches('[').trim_end_matches(']');
    let host = match bare.parse() {
        Ok(ip) => Host::Address(ip),
        Err(_) => Host::Named(name(host, framework)?),
    };
    Some(Key {
        protocol: port.protocol,
        host,
        port: number,
    })
}

/// `web.marathon` out of `/web` and `marathon`: each keeps its dots.
fn name(vip: &str, framework: &str) -> Option<String> {
    let of = |name| label::fragment(name, label::directory);
    let (vip, framework) = (of(vip), of(framework));
    (!vip.is_empty() && !framework.is_empty()).then(|| format!("{vip}.{framework}"))
}

/// What the newest status that speaks of networks says of them.
fn network_infos(task: &mesos::Task) -> &[mesos::NetworkInfo] {
    let told = task.statuses.iter().filter_map(|status| {
        let container = status.container_status.as_ref()?;
        (!container.network_infos.is_empty()).then_some((status.timestamp(), container))
    });
    let newest = told.max_by(|one, other| one.0.total_cmp(&other.0));
    newest.map_or(&[], |(_, container)| container.network_infos.as_slice())
}

/// The addresses of a task; its agent's if it has none of its own.
fn addresses(infos: &[mesos::NetworkInfo], agent: IpAddr) -> Vec<IpAddr> {
    let addresses = infos.iter().flat_map(|info| &info.ip_addresses);
    let addresses = addresses.filter_map(|address| address.ip_address.as_deref()?.parse().ok());
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        addresses.push(agent);
    }
    addresses
}

/// As its newest status says; if that says nothing, a task with a health check is not healthy yet.
fn is_healthy(task: &mesos::Task) -> bool {
    let newest = task
        .statuses
        .iter()
        .max_by(|one, other| one.timestamp().total_cmp(&other.timestamp()));
    let told = newest.and_then(|status| status.healthy);
    told.unwrap_or(task.health_check.is_none())
}

#[cfg(test)]
mod tests {
    use dcos_proto::json::{self, Dialect};

    use super::*;

    const AGENT: &str = "10.0.0.7";

    fn task(extra: &str) -> mesos::Task {
        let text = format!(
            r#"{{"name": "web", "task_id": {{"value": "web.1"}}, "framework_id": {{"value": "f"}},
              "agent_id": {{"value": "S0"}}, "state": "TASK_RUNNING", {extra}}}"#
        );
        json::from_slice(text.as_bytes(), Dialect::V1).unwrap()
    }

    /// Each claim as `protocol host:port -> address [inside] [closed]`.
    fn told(task: &mesos::Task) -> Vec<String> {
        let claims = claims(task, "Mara.thon", AGENT.parse().unwrap());
        let tell = |Claim { key, backend }: Claim| {
            let host = match &key.host {
                Host::Address(ip) => ip.to_string(),
                Host::Named(name) => name.clone(),
            };
            let (protocol, port) = (key.protocol.as_str(), key.port);
            let inside = backend.inside.map(|inside| format!(" ({inside})"));
            let closed = if backend.open { "" } else { " closed" };
            let inside = inside.unwrap_or_default();
            format!(
                "{protocol} {host}:{port} -> {}{inside}{closed}",
                backend.address
            )
        };
        claims.into_iter().map(tell).collect()
    }

    fn discovery(port: &str) -> String {
        format!(r#""discovery": {{"visibility": "CLUSTER", "ports": {{"ports": [{port}]}}}}"#)
    }

    fn status(more: &str, ip: &str) -> String {
        format!(
            r#""statuses": [{{"task_id": {{"value": "web.1"}}, "state": "TASK_RUNNING", "timestamp": 1.0 {more},
              "container_status": {{"network_infos": [{{"ip_addresses": [{{"ip_address": "{ip}"}}]}}]}}}}]"#
        )
    }

    const PORT: &str = r#"{"number": 8080, "protocol": "tcp", "labels": {"labels": [
        {"key": "VIP_0", "value": "/Group/web:80"}, {"key": "other", "value": "x:1"}]}}"#;

    #[test]
    fn a_task_on_the_network_of_its_node() {
        let task = task(&discovery(PORT));
        assert_eq!(told(&task), ["tcp groupweb.mara.thon:80 -> 10.0.0.7:8080"]);
    }

    #[test]
    fn a_container_with_an_address() {
        let task = task(&[discovery(PORT), status("", "9.0.1.5")].join(","));
        assert_eq!(told(&task), ["tcp groupweb.mara.thon:80 -> 9.0.1.5:8080"]);
    }

    #[test]
    fn a_port_that_leads_into_a_container() {
        let mapped = r#""container": {"type": "MESOS", "network_infos": [{"name": "mesos-bridge",
            "port_mappings": [{"host_port": 31005, "container_port": 8080, "protocol": "tcp"}]}]}"#;
        let own = [discovery(PORT), status("", "172.31.254.2"), mapped.into()].join(",");
        assert_eq!(
            told(&task(&own)),
            ["tcp groupweb.mara.thon:80 -> 10.0.0.7:31005 (172.31.254.2:8080)"]
        );
        // Docker's own proxy takes what is redirected to its port.
        let mapped = r#""container": {"type": "DOCKER", "docker": {"image": "i",
            "port_mappings": [{"host_port": 31005, "container_port": 8080, "protocol": "tcp"}]}}"#;
        let docker = [discovery(PORT), status("", "172.17.0.2"), mapped.into()].join(",");
        assert_eq!(
            told(&task(&docker)),
            ["tcp groupweb.mara.thon:80 -> 10.0.0.7:31005"]
        );
    }

    #[test]
    fn marathon_says_on_which_side_a_port_is() {
        let port = r#"{"number": 31005, "protocol": "udp", "labels": {"labels": [
            {"key": "VIP_0", "value": "10.1.2.3:53"}, {"key": "vip_1", "value": "/dns:53"},
            {"key": "VIP_2", "value": "fd00::1:53"}, {"key": "network-scope", "value": "host"}]}}"#;
        let task = task(&[discovery(port), status("", "9.0.1.5")].join(","));
        assert_eq!(
            told(&task),
            [
                "udp 10.1.2.3:53 -> 10.0.0.7:31005",
                "udp dns.mara.thon:53 -> 10.0.0.7:31005"
            ]
        );
    }

    #[test]
    fn labels_of_the_task_name_ports_by_their_place() {
        let task = task(
            r#""labels": {"labels": [{"key": "vip_port1", "value": "tcp://broker:9092"},
                {"key": "VIP_PORT7", "value": "tcp://none:1"}, {"key": "VIP_PORT0", "value": "broker:1"}]},
              "resources": [{"name": "ports", "type": "RANGES",
                "ranges": {"range": [{"begin": 31000, "end": 31000}, {"begin": 31007, "end": 31008}]}}]"#,
        );
        assert!(declares(&task));
        assert_eq!(told(&task), ["tcp broker.mara.thon:9092 -> 10.0.0.7:31007"]);
    }

    #[test]
    fn health_and_killing_close_a_backend() {
        let check = r#""health_check": {"type": "TCP", "tcp": {"port": 1}}"#;
        for (more, status_more, expected) in [
            ("", "", Some(true)),
            (check, "", Some(false)),
            (check, r#", "healthy": true"#, Some(true)),
            ("", r#", "healthy": false"#, Some(false)),
            (r#""state": "TASK_KILLING""#, "", Some(false)),
            (r#""state": "TASK_FINISHED""#, "", None),
            (r#""state": "TASK_STARTING""#, "", None),
        ] {
            let parts = [discovery(PORT), status(status_more, AGENT), more.to_owned()];
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            let claims = claims(&task(&parts.join(",")), "marathon", AGENT.parse().unwrap());
            assert_eq!(
                claims.first().map(|claim| claim.backend.open),
                expected,
                "{more} {status_more}"
            );
        }
    }

    #[test]
    fn what_is_no_vip_claims_nothing() {
        for value in ["web", "web:0", "web:x", "/:80", ":80", "web:70000", "!!:80"] {
            let port = format!(
                r#"{{"number": 1, "protocol": "tcp", "labels": {{"labels": [{{"key": "VIP_0", "value": "{value}"}}]}}}}"#
            );
            assert!(told(&task(&discovery(&port))).is_empty(), "{value}");
        }
    }
}

//! What a container on a network of its own sees as `/etc/hosts` and `/etc/resolv.conf`.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How names are found, as in resolv.conf(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Domains that short names are looked up in.
    pub search: Vec<String>,
    /// Options of the resolver: `ndots:2`.
    pub options: Vec<String>,
}

impl Dns {
    /// Adds another network's: lists are joined, the last domain stays.
    fn add(&mut self, other: &Self) {
        self.nameservers.extend_from_slice(&other.nameservers);
        self.search.extend_from_slice(&other.search);
        self.options.extend_from_slice(&other.options);
        if other.domain.is_some() {
            self.domain.clone_from(&other.domain);
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(domain) = &self.domain {
            let _ = writeln!(text, "domain {domain}");
        }
        for (word, list) in [("search", &self.search), ("options", &self.options)] {
            if !list.is_empty() {
                let _ = writeln!(text, "{word} {}", list.join(" "));
            }
        }
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        text
    }
}

/// Name servers for networks that name none (`--default_container_dns`, its `mesos` part).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct DefaultDns {
    #[serde(default)]
    mesos: Vec<OfNetwork>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct OfNetwork {
    network_mode: Mode,
    /// Absent: all networks that are not named.
    network_name: Option<String>,
    dns: Dns,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Mode {
    #[serde(rename = "CNI")]
    Cni,
}

impl DefaultDns {
    fn of(&self, network: &str) -> Option<&Dns> {
        let named = |name: Option<&str>| {
            let mut all = self.mesos.iter().filter(|of| of.network_mode == Mode::Cni);
            all.find(|of| of.network_name.as_deref() == name)
        };
        named(Some(network))
            .or_else(|| named(None))
            .map(|of| &of.dns)
    }
}

/// `/etc/resolv.conf` of a container on these networks; `None` if it is to see the node's.
pub(super) fn resolver<'a>(
    networks: impl Iterator<Item = (&'a str, &'a Dns)>,
    default: &DefaultDns,
) -> Option<String> {
    let mut dns = Dns::default();
    for (name, own) in networks {
        // Some plugins say an empty `dns` where they mean none.
        if own.nameservers.is_empty() {
            default
                .of(name)
                .into_iter()
                .for_each(|other| dns.add(other));
        } else {
            dns.add(own);
        }
    }
    (!dns.nameservers.is_empty()).then(|| dns.text())
}

/// `/etc/hosts` of a container with these addresses.
pub(super) fn hosts(hostname: &str, addresses: impl Iterator<Item = IpAddr>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    for address in addresses {
        let _ = writeln!(text, "{address} {hostname}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(nameservers: &[&str]) -> Dns {
        Dns {
            nameservers: nameservers.iter().map(ToString::to_string).collect(),
            ..Dns::default()
        }
    }

    #[test]
    fn networks_without_name_servers_get_the_default_ones() {
        let default: DefaultDns = serde_json::from_str(
            r#"{"mesos": [
                {"network_mode": "CNI", "dns": {"nameservers": ["1.1.1.1"], "search": ["a", "b"]}},
                {"network_mode": "CNI", "network_name": "x", "dns": {"nameservers": ["2.2.2.2"]}}
            ], "docker": []}"#,
        )
        .unwrap();
        let of = |networks: &[(&str, &Dns)]| resolver(networks.iter().copied(), &default);
        let (none, own) = (Dns::default(), servers(&["3.3.3.3"]));
        assert_eq!(of(&[("x", &none)]).unwrap(), "nameserver 2.2.2.2\n");
        assert_eq!(
            of(&[("y", &none)]).unwrap(),
            "search a b\nnameserver 1.1.1.1\n"
        );
        assert_eq!(
            of(&[("x", &own), ("x", &none)]).unwrap(),
            "nameserver 3.3.3.3\nnameserver 2.2.2.2\n"
        );
        assert_eq!(
            resolver([("x", &none)].into_iter(), &DefaultDns::default()),
            None
        );
    }

    #[test]
    fn hosts_name_the_container() {
        let text = hosts("web", ["10.0.0.5".parse().unwrap()].into_iter());
        assert!(text.starts_with("127.0.0.1 localhost\n"), "{text}");
        assert!(text.ends_with("10.0.0.5 web\n"), "{text}");
    }
}

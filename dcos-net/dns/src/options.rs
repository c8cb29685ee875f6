//! Options of every program that serves names, and what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use dcos_core::config::{Spec, Values};
use dcos_net::{NoSubnet, Subnet, names};
use serde_json::Value;

use crate::{MasterList, NoResolver, Upstream, named_resolvers};

/// The options.
pub const OPTIONS: &[Spec] = &[
    Spec::list("dns_resolvers")
        .help("Who is asked for other names: addresses; by default those of /etc/resolv.conf, which is read again when it changes."),
    Spec::json("dns_forward_zones")
        .help("Zones whose names others are asked for than --dns_resolvers: an object such as {\"corp.example\": [\"10.0.0.2\", \"10.0.0.3:5353\"]}."),
    Spec::list("dns_allow")
        .help("The networks whose clients may ask for other names; by default everybody, as in DC/OS: name some where strangers reach this server. On agents those of containers are to be among them, such as 9.0.0.0/8,172.16.0.0/12,10.0.0.0/8,127.0.0.0/8. Whoever asks from an address that the server listens at may always; nobody else if it is empty (ours)."),
    Spec::bytes("dns_cache_size")
        .default("4MB")
        .help("How much is remembered of what others answered, each answer for as long as it says; with 0B they are asked each time."),
    Spec::list("dns_reverse_networks")
        .help("The networks out of which the cluster gives addresses to containers: those there have names (PTR), alike on masters and agents; none if it is empty, by default DC/OS's overlays, 9.0.0.0/8 and fd01:b::/64."),
    Spec::list("dns_masters")
        .help("The addresses of all masters, for names such as master.mesos and zk-1.zk; by default of those that stand for election."),
];

/// What is answered here, whoever is named for it.
const OWN: &[&str] = &[
    "mesos",
    "thisdcos.directory",
    "thisdcos.global",
    "spartan",
    "zk",
];

/// Where a host says whom it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What an operator named is no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// To ask others instead, in silence, is what nobody meant.
    #[error("--dns_resolvers")]
    Resolver {
        /// Which.
        #[from]
        source: NoResolver,
    },
    /// Of a zone: what it is to be is no list of addresses.
    #[error("--dns_forward_zones: {zone}: {problem}")]
    Zone {
        /// Which.
        zone: String,
        /// What is wrong.
        problem: String,
    },
    /// Of a network whose clients are allowed something.
    #[error("--dns_allow")]
    Allow {
        /// Which.
        source: NoSubnet,
    },
    /// Of a network whose addresses have names.
    #[error("--dns_reverse_networks")]
    Network {
        /// Which.
        #[from]
        source: NoSubnet,
    },
    /// Of a master.
    #[error("--dns_masters: {text}")]
    Master {
        /// What stands there.
        text: String,
        /// Why it is none.
        source: std::net::AddrParseError,
    },
}

/// Who is asked for names that are not ours.
///
/// # Errors
/// A resolver that is named is no address.
pub fn upstream(values: &Values) -> Result<Upstream, OptionError> {
    match values.opt_list("dns_resolvers") {
        Some(named) if !named.is_empty() => Ok(Upstream::Named(named_resolvers(named)?)),
        _ => Ok(Upstream::File(RESOLV_CONF.into())),
    }
}

/// How many bytes may be spent on what others answered.
pub fn cache(values: &Values) -> usize {
    usize::try_from(values.bytes("dns_cache_size")).unwrap_or(usize::MAX)
}

/// Who is asked for names of which zone, as DC/OS's `dns_forward_zones` says it: an address, `address:port`, or a list of both.
///
/// # Errors
/// No such object, what is no address, a zone whose resolvers would never be asked.
pub fn forward_zones(values: &Values) -> Result<BTreeMap<String, Vec<SocketAddr>>, OptionError> {
    values
        .opt_json("dns_forward_zones")
        .map_or_else(|| Ok(BTreeMap::new()), |zones| zones_of(&zones))
}

fn zones_of(zones: &Value) -> Result<BTreeMap<String, Vec<SocketAddr>>, OptionError> {
    let wrong = |zone: &str, problem: String| OptionError::Zone {
        zone: zone.to_owned(),
        problem,
    };
    let Some(zones) = zones.as_object() else {
        return Err(wrong("", "it is no object".to_owned()));
    };
    let mut all = BTreeMap::new();
    for (zone, resolvers) in zones {
        let name = zone.trim_matches('.').to_ascii_lowercase();
        if name.is_empty() || name.split('.').any(|label| !(1..64).contains(&label.len())) {
            return Err(wrong(zone, "it is no name of a zone".to_owned()));
        }
        let is_within = |own: &&&str| {
            name.strip_suffix(**own)
                .is_some_and(|above| above.is_empty() || above.ends_with('.'))
        };
        if let Some(own) = OWN.iter().find(is_within) {
            return Err(wrong(
                zone,
                format!("names of {own} are answered here, nobody else would be asked"),
            ));
        }
        let listed = resolvers.as_array().map(Vec::as_slice).unwrap_or_default();
        if listed.is_empty() {
            return Err(wrong(zone, "it takes a list of addresses".to_owned()));
        }
        let texts = listed.iter().map(|one| match one {
            Value::String(text) => Ok(text.clone()),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(ip), Value::Number(port)] if ip.contains(':') => {
                    Ok(format!("[{ip}]:{port}"))
                }
                [Value::String(ip), Value::Number(port)] => Ok(format!("{ip}:{port}")),
                _ => Err(one),
            },
            _ => Err(one),
        });
        let texts: Result<Vec<String>, &Value> = texts.collect();
        let texts = texts.map_err(|one| wrong(zone, NoResolver(one.to_string()).to_string()))?;
        let addresses = named_resolvers(texts);
        let addresses = addresses.map_err(|error| wrong(zone, error.to_string()))?;
        if all.insert(name, addresses).is_some() {
            return Err(wrong(zone, "it stands there twice".to_owned()));
        }
    }
    Ok(all)
}

/// The networks whose clients may ask for names that are not ours; all if none are named.
///
/// # Errors
/// A network that is named is none.
pub fn allow(values: &Values) -> Result<Option<Vec<Subnet>>, OptionError> {
    let Some(named) = values.opt_list("dns_allow") else {
        return Ok(None);
    };
    let networks = named.iter().map(|text| text.trim().parse());
    let networks: Result<_, _> = networks.collect();
    networks
        .map(Some)
        .map_err(|source| OptionError::Allow { source })
}

/// How names are made.
///
/// # Errors
/// A network that is named is none.
pub fn naming(values: &Values) -> Result<names::Config, OptionError> {
    let mut config = names::Config::default();
    if let Some(networks) = values.opt_list("dns_reverse_networks") {
        let networks = networks.iter().map(|text| text.trim().parse());
        config.reverse_networks = networks.collect::<Result<_, _>>()?;
    }
    Ok(config)
}

/// The masters an operator named, or else those `found`.
///
/// # Errors
/// What is named is no address.
pub fn masters(
    values: &Values,
    found: impl FnOnce() -> MasterList,
) -> Result<MasterList, OptionError> {
    let Some(named) = values.opt_list("dns_masters") else {
        return Ok(found());
    };
    let parse = |text: &String| {
        let parsed = text.trim().parse();
        parsed.map_err(|source| OptionError::Master {
            text: text.clone(),
            source,
        })
    };
    let all: Result<BTreeSet<_>, _> = named.iter().map(parse).collect();
    Ok(MasterList::Fixed(all?))
}

#[cfg(test)]
mod tests {
    use dcos_core::config::{Loaded, Schema, Sources};
    use serde_json::json;

    use super::*;

    #[test]
    fn networks_whose_addresses_have_names_are_those_of_dcos_or_named() {
        let naming = |flags: &[&str]| {
            let sources = Sources::new(flags.iter().map(ToString::to_string));
            let loaded = Schema::new("test", "").with(OPTIONS).load(&sources);
            let Ok(Loaded::Run(values)) = loaded else {
                panic!("{flags:?}");
            };
            naming(&values)
        };
        let networks = |flags: &[&str]| {
            let networks = naming(flags).unwrap().reverse_networks;
            networks.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(networks(&[]), ["9.0.0.0/8", "fd01:b::/64"]);
        let named = networks(&["--dns_reverse_networks=10.8.0.0/16,fd00::/8"]);
        assert_eq!(named, ["10.8.0.0/16", "fd00::/8"]);
        assert!(networks(&["--dns_reverse_networks="]).is_empty());
        assert!(naming(&["--dns_reverse_networks=10.8.0.0"]).is_err());
    }

    #[test]
    fn all_may_ask_for_other_names_unless_some_networks_are_named() {
        let allowed = |flags: &[&str]| {
            let sources = Sources::new(flags.iter().map(ToString::to_string));
            let loaded = Schema::new("test", "").with(OPTIONS).load(&sources);
            let Ok(Loaded::Run(values)) = loaded else {
                panic!("{flags:?}");
            };
            allow(&values).map_err(|error| error.to_string())
        };
        assert_eq!(allowed(&[]), Ok(None));
        assert_eq!(allowed(&["--dns_allow="]), Ok(Some(Vec::new())));
        let named = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let flag = "--dns_allow=10.0.0.0/8, fd00::/8";
        assert_eq!(allowed(&[flag]), Ok(Some(named.into())));
        assert_eq!(
            allowed(&["--dns_allow=10.0.0.0"]),
            Err("--dns_allow".to_owned())
        );
    }

    #[test]
    fn zones_are_forwarded_to_whoever_is_named() {
        let zones = json!({
            "Corp.Example.": ["10.0.0.2", "10.0.0.3:5353", ["10.0.0.4", 54], ["fd00::2", 53]],
            "10.in-addr.arpa": ["fd00::2"],
        });
        let zones = zones_of(&zones).unwrap();
        let addresses = |zone: &str| {
            let addresses = zones[zone].iter().map(ToString::to_string);
            addresses.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            addresses("corp.example"),
            "10.0.0.2:53 10.0.0.3:5353 10.0.0.4:54 [fd00::2]:53"
        );
        assert_eq!(addresses("10.in-addr.arpa"), "[fd00::2]:53");
        for (wrong, word) in [
            (json!(["corp"]), "no object"),
            (json!({"corp": []}), "a list"),
            (json!({"corp": "10.0.0.2"}), "a list"),
            (json!({"corp": ["dns.corp"]}), "dns.corp"),
            (json!({"corp": [["10.0.0.2", 70_000]]}), "70000"),
            (json!({"corp": [7]}), "7"),
            (json!({"": ["10.0.0.2"]}), "no name"),
            (json!({"a..b": ["10.0.0.2"]}), "no name"),
            (
                json!({"corp": ["10.0.0.2"], "corp.": ["10.0.0.2"]}),
                "twice",
            ),
            (json!({"web.Mesos": ["10.0.0.2"]}), "answered here"),
        ] {
            let refused = zones_of(&wrong).unwrap_err().to_string();
            assert!(refused.contains(word), "{wrong}: {refused}");
        }
    }
}

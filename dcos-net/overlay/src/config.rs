//! [`NetworkConfig`]: which overlays a cluster has, as the original's `master.json` says it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Mac, Subnet};

/// The longest name of an overlay: a bridge is called `m-<name>`, and links have 15 letters.
const LONGEST: usize = 13;
/// Names that mean something else.
const RESERVED: [&str; 3] = ["host", "bridge", "default"];
/// The least any network carries.
const LEAST_MTU: u32 = 552;

/// The overlays of a cluster. What is not said is as in DC/OS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The addresses of tunnel ends, one a node.
    pub vtep_subnet: Subnet,
    /// The same for IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep_subnet6: Option<Subnet>,
    /// The upper half of their hardware addresses.
    pub vtep_mac_oui: Mac,
    /// What a tunnel carries at most, in bytes; absent, what is left of the network below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep_mtu: Option<u32>,
    /// The overlays.
    pub overlays: Vec<OverlayInfo>,
}

/// One overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayInfo {
    /// Its name.
    pub name: String,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
    /// How many bits those of one agent share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
    /// Its IPv6 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Subnet>,
    /// How many bits those of one agent share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix6: Option<u8>,
    /// Whether agents get a part of it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_yes(flag: &bool) -> bool {
    *flag
}

impl Default for NetworkConfig {
    /// As DC/OS: `dcos` 9.0.0.0/8 with a /24 an agent, and `dcos6` `fd01:b::/64` with a /80.
    fn default() -> Self {
        let subnet = |text: &str| text.parse().expect("a network");
        let overlay = |name: &str| OverlayInfo {
            name: name.to_owned(),
            subnet: None,
            prefix: None,
            subnet6: None,
            prefix6: None,
            enabled: true,
        };
        Self {
            vtep_subnet: subnet("44.128.0.0/20"),
            vtep_subnet6: Some(subnet("fd01:a::/64")),
            vtep_mac_oui: Mac([0x70, 0xb3, 0xd5, 0, 0, 0]),
            vtep_mtu: None,
            overlays: vec![
                OverlayInfo {
                    subnet: Some(subnet("9.0.0.0/8")),
                    prefix: Some(24),
                    ..overlay("dcos")
                },
                OverlayInfo {
                    subnet6: Some(subnet("fd01:b::/64")),
                    prefix6: Some(80),
                    ..overlay("dcos6")
                },
            ],
        }
    }
}

/// Why overlays cannot be as they are configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// Every tunnel end needs hardware address and address of its own.
    #[error("vtep_subnet must be an IPv4 network of 8 to 30 bits, vtep_subnet6 one of IPv6")]
    Vteps,
    /// The lower half is not zero.
    #[error("vtep_mac_oui: the lower three bytes must be 00:00:00")]
    Oui,
    /// Too small for IPv4.
    #[error("vtep_mtu must be at least {LEAST_MTU}")]
    Mtu,
    /// A name that cannot be one.
    #[error(
        "overlay {name:?}: a name has 1 to {LONGEST} letters, digits, `-`, `_` or `.`, begins with one of the former, and is not `host`, `bridge` or `default`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Two overlays of one name.
    #[error("there are two overlays {name:?}")]
    Twice {
        /// The name.
        name: String,
    },
    /// A part that is no part.
    #[error(
        "overlay {name:?}: {key} must be longer than that of its network, and leave room for two bridges"
    )]
    Prefix {
        /// The overlay.
        name: String,
        /// `prefix` or `prefix6`.
        key: &'static str,
    },
    /// Neither `subnet` nor `subnet6`, or one of the wrong family.
    #[error(
        "overlay {name:?} needs an IPv4 `subnet` with `prefix`, or an IPv6 `subnet6` with `prefix6`"
    )]
    NoSubnet {
        /// The overlay.
        name: String,
    },
    /// Two networks that are not apart.
    #[error("{one} and {other} overlap")]
    Overlap {
        /// A network.
        one: Subnet,
        /// Another.
        other: Subnet,
    },
}

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It has not the form of one.
    #[error("the overlays are not as in the original's master.json")]
    Form(#[from] serde_json::Error),
    /// It cannot be carried out.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Mistakes(Vec<Mistake>),
}

impl NetworkConfig {
    /// Reads the original's `master.json`, or the `network` of it alone. `{}` is what DC/OS has.
    ///
    /// # Errors
    /// [`ConfigError`], with all mistakes.
    pub fn from_json(mut value: Value) -> Result<Self, ConfigError> {
        let network = value.get_mut("network").map(Value::take);
        let mut config: Self = serde_json::from_value(network.unwrap_or(value))?;
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(ConfigError::Mistakes(mistakes));
        }
        config.vtep_subnet = config.vtep_subnet.network();
        config.vtep_subnet6 = config.vtep_subnet6.map(|subnet| subnet.network());
        for overlay in &mut config.overlays {
            overlay.subnet = overlay.subnet.map(|subnet| subnet.network());
            overlay.subnet6 = overlay.subnet6.map(|subnet| subnet.network());
        }
        Ok(config)
    }

    /// The overlays that agents have parts of.
    pub fn enabled(&self) -> impl Iterator<Item = &OverlayInfo> {
        self.overlays.iter().filter(|overlay| overlay.enabled)
    }

    /// Every mistake, in order.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let vtep = &self.vtep_subnet;
        let v6_fits = self
            .vtep_subnet6
            .is_none_or(|vtep| !vtep.is_v4() && vtep.prefix() <= 126);
        if !vtep.is_v4() || !(8..=30).contains(&vtep.prefix()) || !v6_fits {
            mistakes.push(Mistake::Vteps);
        }
        if self.vtep_mac_oui.0[3..] != [0; 3] {
            mistakes.push(Mistake::Oui);
        }
        if self.vtep_mtu.is_some_and(|mtu| mtu < LEAST_MTU) {
            mistakes.push(Mistake::Mtu);
        }
        let mut names = BTreeSet::new();
        for overlay in &self.overlays {
            let name = || overlay.name.clone();
            if !is_name(&overlay.name) {
                mistakes.push(Mistake::Name { name: name() });
            }
            if !names.insert(&overlay.name) {
                mistakes.push(Mistake::Twice { name: name() });
            }
            let families = [
                (overlay.subnet, overlay.prefix, "prefix", 30, true),
                (overlay.subnet6, overlay.prefix6, "prefix6", 126, false),
            ];
            let fits =
                |subnet: Option<Subnet>, v4| subnet.is_none_or(|subnet| subnet.is_v4() == v4);
            let wrong = families.iter().any(|(subnet, .., v4)| !fits(*subnet, *v4));
            if wrong || families.iter().all(|(subnet, ..)| subnet.is_none()) {
                mistakes.push(Mistake::NoSubnet { name: name() });
            }
            for (subnet, prefix, key, most, _) in families {
                // A part is halved for two bridges, and each has at least a gateway and a container.
                let fits = |subnet: Subnet| {
                    prefix.is_some_and(|prefix| (subnet.prefix()..most).contains(&prefix))
                };
                if subnet.is_some_and(|subnet| !fits(subnet)) {
                    mistakes.push(Mistake::Prefix { name: name(), key });
                }
            }
        }
        let overlays = self
            .overlays
            .iter()
            .flat_map(|overlay| [overlay.subnet, overlay.subnet6]);
        let all: Vec<Subnet> = overlays
            .chain([Some(*vtep), self.vtep_subnet6])
            .flatten()
            .collect();
        for (place, one) in all.iter().enumerate() {
            let others = all[place + 1..].iter().filter(|other| one.overlaps(other));
            mistakes.extend(others.map(|other| Mistake::Overlap {
                one: *one,
                other: *other,
            }));
        }
        mistakes
    }
}

fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && name.len() <= LONGEST && name.bytes().all(letter) && !RESERVED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_file_is_read() {
        let file = serde_json::json!({"replicated_log_dir": "/var/lib", "network": {
            "vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00", "vtep_mtu": 1500,
            "overlays": [{"name": "dcos", "subnet": "9.1.2.3/8", "prefix": 26}]}});
        let config = NetworkConfig::from_json(file).unwrap();
        assert_eq!(config.overlays[0].subnet.unwrap().to_string(), "9.0.0.0/8");
        assert_eq!(config.vtep_mtu, Some(1500));
        let empty = NetworkConfig::from_json(serde_json::json!({})).unwrap();
        assert_eq!(empty, NetworkConfig::default());
        let typo = NetworkConfig::from_json(serde_json::json!({"overlay": []}));
        assert!(matches!(typo, Err(ConfigError::Form(_))));
        let wrong = NetworkConfig::from_json(serde_json::json!({"vtep_mtu": 1}));
        assert_eq!(
            wrong.unwrap_err().to_string(),
            "vtep_mtu must be at least 552"
        );
    }

    #[test]
    fn mistakes_are_told() {
        assert!(NetworkConfig::default().mistakes().is_empty());
        let check = |change: fn(&mut NetworkConfig), expected: &str| {
            let mut config = NetworkConfig::default();
            change(&mut config);
            let told: Vec<String> = config.mistakes().iter().map(ToString::to_string).collect();
            assert!(
                told.iter().any(|mistake| mistake.contains(expected)),
                "{told:?}: {expected}"
            );
        };
        check(
            |config| config.vtep_subnet = "44.0.0.0/7".parse().unwrap(),
            "vtep_subnet must",
        );
        check(|config| config.vtep_mac_oui.0[5] = 1, "lower three bytes");
        check(|config| config.vtep_mtu = Some(500), "at least 552");
        check(|config| config.overlays[0].name = "host".into(), "\"host\"");
        check(|config| config.overlays[0].name = "a/b".into(), "\"a/b\"");
        check(
            |config| config.overlays[0].name = "fourteenletter".into(),
            "fourteen",
        );
        check(
            |config| config.overlays[1].name = "dcos".into(),
            "two overlays",
        );
        check(|config| config.overlays[0].prefix = Some(7), "prefix must");
        check(|config| config.overlays[0].prefix = Some(31), "prefix must");
        check(|config| config.overlays[0].prefix = None, "prefix must");
        check(|config| config.overlays[0].subnet = None, "needs an IPv4");
        check(
            |config| config.overlays[0].subnet6 = "10.0.0.0/8".parse().ok(),
            "needs an IPv4",
        );
        check(
            |config| config.vtep_subnet = "9.128.0.0/20".parse().unwrap(),
            "9.0.0.0/8 and 9.128.0.0/20 overlap",
        );
    }
}

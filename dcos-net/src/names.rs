//! The names of a cluster: from a [`Snapshot`] to the zones of Mesos-DNS and dcos-dns.

mod directory;
mod hash;
mod mesos;
mod reverse;

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::vip::Listed;
use crate::{Found, Snapshot, Subnet, Zone, label};

/// How names are made. The default is how DC/OS configures Mesos-DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The domain of the Mesos-DNS names, without dots at either end.
    pub domain: String,
    /// For how many seconds Mesos-DNS names may be remembered.
    pub ttl: u32,
    /// Where the address of a task comes from: the first of these that has any.
    pub ip_sources: Vec<IpSource>,
    /// Whether labels follow RFC 952 (24 letters) instead of RFC 1123 (63).
    pub enforce_rfc952: bool,
    /// The networks out of which the cluster gives addresses to containers: those there have names (PTR). Others are
    /// somebody else's to name, or of a bridge that each node has for itself.
    pub reverse_networks: Vec<Subnet>,
    /// Zones that others answer for, with or without dots at the ends: no address has its name there.
    pub zones_of_others: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: "mesos".to_owned(),
            ttl: 60,
            ip_sources: vec![IpSource::Host, IpSource::NetInfo],
            enforce_rfc952: false,
            reverse_networks: overlays().into_iter().flatten().collect(),
            zones_of_others: Vec::new(),
        }
    }
}

/// The overlays of DC/OS, `dcos` and `dcos6`.
fn overlays() -> [Option<Subnet>; 2] {
    let dcos6 = Ipv6Addr::new(0xfd01, 0xb, 0, 0, 0, 0, 0, 0);
    [
        Subnet::new([9, 0, 0, 0].into(), 8),
        Subnet::new(dcos6.into(), 64),
    ]
}

impl Config {
    fn label(&self, name: &str) -> String {
        if self.enforce_rfc952 {
            label::rfc952(name)
        } else {
            label::rfc1123(name)
        }
    }

    fn fragment(&self, name: &str) -> String {
        label::fragment(name, |part| self.label(part))
    }
}

/// A place the address of a task may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpSource {
    /// The address of its agent.
    Host,
    /// The addresses of its container.
    NetInfo,
    /// Labels of the Mesos containerizer before 0.25.
    Mesos,
    /// Labels of the Docker containerizer before 0.25.
    Docker,
}

impl IpSource {
    /// The word for it in configuration files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::NetInfo => "netinfo",
            Self::Mesos => "mesos",
            Self::Docker => "docker",
        }
    }
}

/// All zones of a cluster, and which task each record comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The names of Mesos-DNS, such as `web.marathon.mesos`.
    pub mesos: Zone,
    /// The names of dcos-dns: `thisdcos.directory`, `spartan` and `zk`; and those of addresses.
    pub others: Vec<Zone>,
    /// The Mesos-DNS records of each task, by framework.
    pub enumeration: Vec<EnumeratedFramework>,
    /// The virtual addresses.
    pub vips: Vec<Listed>,
}

impl Published {
    /// What is known of a name in lower case with a final dot; `None` if no zone of ours holds it.
    ///
    /// `thisdcos.global` is another word for `thisdcos.directory`, and `dclb` there for `l4lb`.
    pub fn find(&self, name: &str) -> Option<Found<'_>> {
        let name = preferred(name);
        self.zones().find_map(|zone| zone.find(&name))
    }

    /// Every zone.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        std::iter::once(&self.mesos).chain(&self.others)
    }
}

/// The word of today for a name that has several (dcos-net `dcos_dns_router`).
fn preferred(name: &str) -> Cow<'_, str> {
    const ZONE: &str = "thisdcos.directory.";
    let below = |name: &str, zone: &str| {
        let above = name.strip_suffix(zone)?;
        (above.is_empty() || above.ends_with('.')).then(|| above.to_owned())
    };
    let name = match below(name, "thisdcos.global.") {
        Some(above) => Cow::Owned(above + ZONE),
        None => Cow::Borrowed(name),
    };
    match below(&name, "dclb.thisdcos.directory.") {
        Some(above) => Cow::Owned(above + "l4lb." + ZONE),
        None => name,
    }
}

/// The tasks of a framework that have names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumeratedFramework {
    /// The name of the framework.
    pub name: String,
    /// Its running tasks.
    pub tasks: Vec<EnumeratedTask>,
}

/// The records made for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumeratedTask {
    /// The name of the task.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its records, without those that another task made before.
    pub records: Vec<EnumeratedRecord>,
}

/// One record of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumeratedRecord {
    /// The whole name.
    pub name: String,
    /// An address, or `name:port`.
    pub host: String,
    /// `A`, `AAAA` or `SRV`.
    pub rtype: &'static str,
}

/// Makes the zones of a cluster.
pub fn publish(snapshot: &Snapshot, config: &Config) -> Published {
    let (mesos, enumeration) = mesos::publish(snapshot, config);
    let vips = snapshot.vips();
    let mut others = directory::publish(snapshot, &mesos, &vips);
    others.extend(reverse::publish(snapshot, config, &vips));
    Published {
        mesos,
        others,
        enumeration,
        vips: vips.list().collect(),
    }
}

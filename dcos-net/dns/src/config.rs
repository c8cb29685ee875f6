//! What a name server is told before it starts.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dcos_net::{Subnet, names};

/// The port resolvers ask; binding it takes root or `CAP_NET_BIND_SERVICE`.
pub const PORT: u16 = 53;

/// The port the default configuration binds, which anybody may.
pub const UNPRIVILEGED_PORT: u16 = 5353;

/// How a name server listens and answers. The defaults are those of DC/OS, but for the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where DNS is served, UDP and TCP each. A host with several addresses should list them:
    /// answers from a wildcard address leave by the address the kernel prefers, and
    /// resolvers drop those that do not come from where they asked.
    pub listen: Vec<SocketAddr>,
    /// Where it may be that DNS is served later ([`Doors`](crate::Doors)): nobody else is asked there.
    pub later: Vec<SocketAddr>,
    /// Where the HTTP API is served, if at all.
    pub http: Option<SocketAddr>,
    /// How names are made.
    pub names: names::Config,
    /// Whether names of other zones are asked of `resolvers`; otherwise they are refused.
    pub external: bool,
    /// Whose questions about other names are taken, by the networks they come from; everybody's unless some are named. Others
    /// are refused; names of ours everybody may ask for, and the host's own programs for any: who asks from where it listens.
    pub allow: Option<Vec<Subnet>>,
    /// Who is asked for names that are not ours.
    pub upstream: Upstream,
    /// Zones (such as `corp.example`) that have resolvers of their own; the longest match counts. Addresses whose names are
    /// there (`10.in-addr.arpa`) have none here.
    pub zone_resolvers: BTreeMap<String, Vec<SocketAddr>>,
    /// How long a resolver may take. A client that waits longer gets SERVFAIL.
    pub timeout: Duration,
    /// How many bytes may be spent on remembering what resolvers answered, each answer for as long as it says; with 0 they are
    /// asked each time.
    pub cache: usize,
    /// Whether a cut answer says so. Some old clients cannot cope with being told.
    pub set_truncate_bit: bool,
    /// Whether the HTTP API lists all names (`/v1/enumerate`, `/v1/axfr`).
    pub enumeration: bool,
    /// Questions that others are being asked at a time; those beyond get SERVFAIL at once, and so do those beyond eight
    /// times as many who wait for answers. Half of the room is kept in equal parts for each of [`zone_resolvers`](Self::zone_resolvers)
    /// and for all other names: one whose resolvers are dead leaves the others theirs.
    pub max_forwards: usize,
    /// TCP clients at a time; those beyond wait in the kernel's queue.
    pub max_connections: usize,
    /// Of these, those of one address (of one /64, with IPv6); those beyond are closed.
    pub max_connections_per_host: usize,
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        Self {
            listen: vec![any(UNPRIVILEGED_PORT)],
            later: Vec::new(),
            http: Some(any(8123)),
            names: names::Config::default(),
            external: true,
            allow: None,
            upstream: Upstream::default(),
            zone_resolvers: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            cache: 4 << 20,
            set_truncate_bit: true,
            enumeration: true,
            max_forwards: 1024,
            max_connections: 1024,
            max_connections_per_host: 256,
        }
    }
}

/// Who is asked for names that are not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// These.
    Named(Vec<SocketAddr>),
    /// Whom a file as `/etc/resolv.conf` names ([`resolvers`]). It is read again when it changes; while it can't be
    /// read, is empty, or names only the server that reads it, those it named before are asked.
    File(PathBuf),
}

impl Upstream {
    /// Who is asked now.
    pub fn now(&self) -> Vec<SocketAddr> {
        match self {
            Self::Named(named) => named.clone(),
            Self::File(path) => resolvers(&std::fs::read_to_string(path).unwrap_or_default()),
        }
    }
}

/// Nobody.
impl Default for Upstream {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

/// The resolvers a `resolv.conf` names.
///
/// ```
/// let found = dcos_dns::resolvers("search corp\nnameserver 10.0.0.2\nnameserver ::1 # local\n");
/// assert_eq!(found, ["10.0.0.2:53".parse()?, "[::1]:53".parse()?]);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().map(str::split_whitespace);
    lines
        .filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next())?)
        .filter_map(|address| Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, PORT)))
        .collect()
}

/// What stands where an address should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a resolver, such as 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:53")]
pub struct NoResolver(pub String);

/// The resolvers an operator names, on port 53 unless they say otherwise.
///
/// ```
/// let named = |list: &[&str]| dcos_dns::named_resolvers(list.iter().copied());
/// assert_eq!(named(&["10.0.0.2", "[fd00::2]:5353"])?, ["10.0.0.2:53".parse()?, "[fd00::2]:5353".parse()?]);
/// assert!(named(&["10.0.0.2", "dns.example"]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first that is none.
pub fn named_resolvers(
    named: impl IntoIterator<Item: AsRef<str>>,
) -> Result<Vec<SocketAddr>, NoResolver> {
    let resolver = |text: &str| match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, PORT)),
        Err(_) => text.parse().map_err(|_| NoResolver(text.to_owned())),
    };
    let named = named.into_iter();
    named.map(|text| resolver(text.as_ref().trim())).collect()
}

//! Addresses that are nobody's VIP: who claimed one would take the connections of the node itself, such as an agent's
//! to its master with its credentials. dcos-net takes any address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of nodes, and how many nodes say so: several may share one.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserved(BTreeMap<IpAddr, usize>);

impl Reserved {
    pub(super) fn of<'a>(ips: impl IntoIterator<Item = &'a IpAddr>) -> Self {
        Self(ips.into_iter().map(|ip| (*ip, 1)).collect())
    }

    /// Whether that is new.
    pub(super) fn add(&mut self, ip: IpAddr) -> bool {
        let nodes = self.0.entry(ip).or_default();
        *nodes += 1;
        *nodes == 1
    }

    /// Whether it was the last one.
    pub(super) fn remove(&mut self, ip: IpAddr) -> bool {
        match self.0.get_mut(&ip) {
            Some(nodes) if *nodes > 1 => {
                *nodes -= 1;
                false
            }
            Some(_) => self.0.remove(&ip).is_some(),
            None => false,
        }
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains_key(&ip)
    }
}

/// Where DC/OS serves names on every node: 198.51.100.0/24.
const NAMES_V4: [u8; 3] = [198, 51, 100];
/// The same: `fd01:d::/32`.
const NAMES_V6: [u16; 2] = [0xfd01, 0xd];

/// Whether an address can't be a cluster's: it means this node only, or many, or none, or the name servers.
pub(super) fn is_never_virtual(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_never_virtual_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_never_virtual_v4(ip),
            None => is_never_virtual_v6(ip),
        },
    }
}

fn is_never_virtual_v4(ip: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is "this host", 240.0.0.0/4 and the broadcast address nobody has.
    ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.octets()[0] == 0
        || ip.octets()[0] >= 240
        || ip.octets()[..3] == NAMES_V4
}

fn is_never_virtual_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unicast_link_local()
        || ip.segments()[..2] == NAMES_V6
}

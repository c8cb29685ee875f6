//! [`Clients`]: no host has all connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections each host has. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Clients {
    /// So many for each at most.
    pub(crate) fn new(most: usize) -> Self {
        let taken = Arc::default();
        Self { most, taken }
    }

    /// One more of this host, if it may have one; one less when it is dropped.
    pub(crate) fn admit(&self, ip: IpAddr) -> Option<Admitted> {
        let host = host(ip);
        let mut taken = self.taken();
        let count = taken.entry(host).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        let clients = self.clone();
        Some(Admitted { clients, host })
    }

    /// Each change is whole.
    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose address it is: with IPv6 a host has a /64 to choose from.
fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(crate) struct Admitted {
    clients: Clients,
    host: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut taken = self.clients.taken();
        if let Some(count) = taken.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_connections_whichever_of_its_addresses_it_takes() {
        let clients = Clients::new(2);
        let admit = |ip: &str| clients.admit(ip.parse().unwrap());
        for (same, other) in [
            (["10.0.0.1", "10.0.0.1", "::ffff:10.0.0.1"], "10.0.0.2"),
            (["fd00::1", "fd00::2", "fd00::ffff:0:0:3"], "fd00:0:0:1::1"),
        ] {
            let [one, two, three] = same.map(&admit);
            assert!(
                one.is_some() && two.is_some() && three.is_none(),
                "{same:?}"
            );
            assert!(admit(other).is_some());
            drop(one);
            assert!(admit(same[2]).is_some());
        }
        assert!(clients.taken().is_empty(), "nobody is remembered");
    }
}

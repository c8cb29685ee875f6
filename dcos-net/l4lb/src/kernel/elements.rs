//! From a service and its backends to elements of the kernel's maps, and back.
//!
//! Two maps a family: `lots` leads from protocol, address and port to how many lots there are;
//! `backends` from the same and the lot to where the packet goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dcos_net::vip::{Protocol, Service};

/// The largest number of lots for which there is a chain of its own: each backend has one then.
pub(super) const EXACT: usize = 128;
/// Lots for more backends: so many that none has twice as many as another.
pub(super) const WIDE: [usize; 2] = [2048, 8192];
/// Backends beyond this get no connections.
const MOST: usize = 4096;

/// One of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Map {
    Lots4,
    Lots6,
    Backends4,
    Backends6,
}

impl Map {
    pub(super) const ALL: [Self; 4] = [Self::Lots4, Self::Lots6, Self::Backends4, Self::Backends6];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lots4 => "lots4",
            Self::Lots6 => "lots6",
            Self::Backends4 => "backends4",
            Self::Backends6 => "backends6",
        }
    }

    /// Those of the family of `ip`.
    fn of(ip: IpAddr) -> (Self, Self) {
        if ip.is_ipv4() {
            (Self::Lots4, Self::Backends4)
        } else {
            (Self::Lots6, Self::Backends6)
        }
    }

    fn is_v4(self) -> bool {
        matches!(self, Self::Lots4 | Self::Backends4)
    }
}

/// An element of a map. The bytes are those the kernel compares: each field fills up words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) map: Map,
    pub(super) key: Vec<u8>,
    /// How many lots there are, or an address and port.
    pub(super) value: Vec<u8>,
}

/// Above how many lots there are: nobody else's packets have priorities like these (`dc05:3` in nft's words).
const CLASS: u32 = 0xdc05;

/// A number of lots, as nft writes it.
pub(super) fn class(lots: usize) -> String {
    format!("{CLASS:x}:{lots:04x}")
}

/// The chain that draws among `lots`, or refuses if there are none.
pub(super) fn chain(v4: bool, lots: usize) -> String {
    let family = if v4 { '4' } else { '6' };
    match lots {
        0 => format!("none{family}"),
        lots => format!("to{family}-{lots}"),
    }
}

/// How many lots are drawn for so many backends.
fn lots(backends: usize) -> usize {
    match backends {
        0..=EXACT => backends,
        _ if backends * 4 <= WIDE[0] => WIDE[0],
        _ => WIDE[1],
    }
}

/// Everything that makes `service` lead to `backends`.
pub(super) fn elements(service: &Service, backends: &[SocketAddr]) -> Vec<Element> {
    let backends = &backends[..backends.len().min(MOST)];
    let (map, _) = Map::of(service.address.ip());
    let lots = lots(backends.len());
    let lot = |lot: usize| {
        let (map, key) = lot_key(service, lot);
        let value = place(backends[lot % backends.len()]);
        Element { map, key, value }
    };
    let count = u32::try_from(lots).expect("there are a few thousand lots");
    let vip = Element {
        map,
        key: key(service),
        value: (CLASS << 16 | count).to_ne_bytes().to_vec(),
    };
    std::iter::once(vip).chain((0..lots).map(lot)).collect()
}

/// Where `service` leads by the elements that are `found`; `None` if it is not there, or not as [`elements`] would have it.
pub(super) fn backends<'a>(
    service: &Service,
    found: impl Fn(Map, Vec<u8>) -> Option<&'a [u8]>,
) -> Option<Vec<SocketAddr>> {
    let (map, _) = Map::of(service.address.ip());
    let count = u32::from_ne_bytes(found(map, key(service))?.try_into().ok()?);
    let count = usize::try_from(count & 0xffff).ok()?;
    let mut backends: Vec<SocketAddr> = Vec::new();
    for lot in 0..count.min(MOST) {
        let (map, key) = lot_key(service, lot);
        let backend = place_of(map, found(map, key)?)?;
        if backends.first() == Some(&backend) {
            // From here on they have a second lot.
            break;
        }
        backends.push(backend);
    }
    let wanted = elements(service, &backends);
    let mut wanted = wanted.into_iter();
    wanted
        .all(|element| found(element.map, element.key) == Some(&*element.value))
        .then_some(backends)
}

/// How many they are.
pub(super) fn count(backends: &[SocketAddr]) -> usize {
    1 + lots(backends.len().min(MOST))
}

/// Where a lot of a service stands.
pub(super) fn lot_key(service: &Service, lot: usize) -> (Map, Vec<u8>) {
    let (_, places) = Map::of(service.address.ip());
    let lot = u32::try_from(lot).expect("there are a few thousand lots");
    let mut key = key(service);
    key.extend(lot.to_ne_bytes());
    (places, key)
}

fn key(service: &Service) -> Vec<u8> {
    let mut key = vec![service.protocol.number(), 0, 0, 0];
    key.extend(place(service.address));
    key
}

fn place(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// The service an element belongs to.
pub(super) fn service_of(map: Map, key: &[u8]) -> Option<Service> {
    Some(Service {
        protocol: Protocol::from_number(*key.first()?)?,
        address: place_of(map, key.get(4..)?)?,
    })
}

/// The address and port that bytes begin with.
pub(super) fn place_of(map: Map, bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, rest): (IpAddr, _) = if map.is_v4() {
        let (ip, rest) = bytes.split_first_chunk::<4>()?;
        (Ipv4Addr::from(*ip).into(), rest)
    } else {
        let (ip, rest) = bytes.split_first_chunk::<16>()?;
        (Ipv6Addr::from(*ip).into(), rest)
    };
    let port = u16::from_be_bytes(*rest.first_chunk()?);
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(address: &str) -> Service {
        Service {
            protocol: Protocol::Tcp,
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn a_backend_has_a_lot() {
        let backends = [
            "10.2.0.2:8000".parse().unwrap(),
            "10.1.0.1:8000".parse().unwrap(),
        ];
        let made = elements(&service("11.1.1.1:80"), &backends);
        assert_eq!(made[0].value, 0xdc05_0002_u32.to_ne_bytes());
        assert_eq!(class(2), "dc05:0002");
        assert_eq!(made[0].key, [6, 0, 0, 0, 11, 1, 1, 1, 0, 80, 0, 0]);
        assert_eq!(made[2].value, [10, 1, 0, 1, 31, 64, 0, 0]);
        assert_eq!(made[2].key[12..], 1_u32.to_ne_bytes());
        assert_eq!(elements(&service("[fd01:c::1]:80"), &[]).len(), 1);
        for element in made {
            let found = service_of(element.map, &element.key);
            assert_eq!(found, Some(service("11.1.1.1:80")));
        }
    }

    #[test]
    fn backends_are_read_from_their_lots() {
        let service = service("11.1.1.1:80");
        for count in [0_u16, 1, 2, 127, 128, 129, 512, 513, 2000, 4096] {
            let there: Vec<SocketAddr> = (0..count)
                .map(|port| ([10, 0, 0, 1], port).into())
                .collect();
            let made = elements(&service, &there);
            let mut found: std::collections::HashMap<(Map, Vec<u8>), Vec<u8>> = made
                .into_iter()
                .map(|element| ((element.map, element.key), element.value))
                .collect();
            let read = |found: &std::collections::HashMap<(Map, Vec<u8>), Vec<u8>>| {
                backends(&service, |map, key| {
                    found.get(&(map, key)).map(Vec::as_slice)
                })
            };
            assert_eq!(read(&found), Some(there));
            // Of what somebody else has changed nothing is known.
            if count > 0 {
                found.remove(&lot_key(&service, usize::from(count) - 1));
                assert_eq!(read(&found), None, "{count}");
            }
            assert_eq!(read(&std::collections::HashMap::new()), None);
        }
    }

    #[test]
    fn no_backend_of_many_has_twice_the_lots_of_another() {
        for count in [1_u16, 2, 127, 128, 129, 512, 513, 2000, 4096, 5000] {
            let backends: Vec<SocketAddr> = (0..count)
                .map(|port| ([10, 0, 0, 1], port).into())
                .collect();
            let made = elements(&service("11.1.1.1:80"), &backends);
            let mut lots = std::collections::BTreeMap::new();
            for element in &made[1..] {
                *lots.entry(element.value.clone()).or_insert(0) += 1;
            }
            assert_eq!(lots.len(), usize::from(count).min(MOST));
            let (most, least) = (lots.values().max().unwrap(), lots.values().min().unwrap());
            assert!(*most <= 2 * *least, "{count}: {least} to {most}");
        }
    }
}

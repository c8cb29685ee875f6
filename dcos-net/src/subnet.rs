//! [`Subnet`]: an address and how many of its bits a network shares.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network such as `9.0.1.0/24`, or an address in one, such as `44.128.0.2/20`.
///
/// ```
/// use dcos_net::Subnet;
///
/// let slice: Subnet = "9.0.1.0/24".parse()?;
/// let halves: Vec<String> = slice.parts(25).map(|half| half.to_string()).collect();
/// assert_eq!(halves, ["9.0.1.0/25", "9.0.1.128/25"]);
/// # Ok::<(), dcos_net::NoSubnet>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    ip: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network such as 9.0.0.0/8")]
pub struct NoSubnet {
    text: String,
}

impl Subnet {
    /// The network of `prefix` bits that `ip` is in, `ip` kept as it is; `None` if an address has
    /// fewer bits.
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        (u32::from(prefix) <= bits(ip)).then_some(Self { ip, prefix })
    }

    /// The address it was made with.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// How many bits its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is one of IPv4.
    pub fn is_v4(&self) -> bool {
        self.ip.is_ipv4()
    }

    /// The network alone: an address whose other bits are zero.
    pub fn network(&self) -> Self {
        Self {
            ip: address(self.first(), self.is_v4()),
            prefix: self.prefix,
        }
    }

    /// Whether `ip` is in the network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.is_v4() && (self.first()..=self.last()).contains(&number(ip))
    }

    /// Whether all addresses of `other` are in it.
    pub fn holds(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.ip)
    }

    /// Whether two networks have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_v4() == other.is_v4()
            && self.first() <= other.last()
            && other.first() <= self.last()
    }

    /// Its parts of `prefix` bits, in order; none if they were larger than itself.
    pub fn parts(&self, prefix: u8) -> impl Iterator<Item = Self> + use<> {
        let whole = bits(self.ip);
        let fits = prefix >= self.prefix && u32::from(prefix) <= whole;
        let step = 1_u128
            .checked_shl(whole.saturating_sub(prefix.into()))
            .unwrap_or(0);
        let (mut next, last, v4) = (fits.then(|| self.first()), self.last(), self.is_v4());
        std::iter::from_fn(move || {
            let first = next?;
            next = first
                .checked_add(step)
                .filter(|next| *next <= last && step > 0);
            Some(Self {
                ip: address(first, v4),
                prefix,
            })
        })
    }

    /// Its addresses but for the first and the last, in order, each with the network's prefix.
    pub fn hosts(&self) -> impl Iterator<Item = Self> + use<> {
        let (first, last, v4, prefix) = (self.first(), self.last(), self.is_v4(), self.prefix);
        let inner = first.saturating_add(1)..last;
        inner.map(move |host| Self {
            ip: address(host, v4),
            prefix,
        })
    }

    fn first(&self) -> u128 {
        number(self.ip) & !self.rest()
    }

    fn last(&self) -> u128 {
        number(self.ip) | self.rest()
    }

    /// The bits that differ within it.
    fn rest(&self) -> u128 {
        let free = bits(self.ip) - u32::from(self.prefix);
        1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1)
    }
}

fn bits(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    if !v4 {
        return Ipv6Addr::from_bits(number).into();
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "IPv4 addresses have 32 bits"
    )]
    let number = number as u32;
    Ipv4Addr::from_bits(number).into()
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = NoSubnet;

    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let read = || {
            let (ip, prefix) = text.split_once('/')?;
            Self::new(ip.parse().ok()?, prefix.parse().ok()?)
        };
        read().ok_or_else(|| NoSubnet {
            text: text.to_owned(),
        })
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_parts_and_hosts() {
        let subnet = |text: &str| text.parse::<Subnet>().unwrap();
        let text = |subnet: Option<Subnet>| subnet.map(|subnet| subnet.to_string());
        let all = subnet("9.0.0.0/8");
        assert_eq!(text(all.parts(24).nth(1)).as_deref(), Some("9.0.1.0/24"));
        assert_eq!(all.parts(24).count(), 1 << 16);
        assert_eq!(all.parts(7).count(), 0);
        assert_eq!(all.parts(33).count(), 0);
        assert_eq!(
            text(subnet("44.128.0.0/20").hosts().next()).as_deref(),
            Some("44.128.0.1/20")
        );
        assert_eq!(subnet("44.128.0.0/20").hosts().count(), 4094);
        assert_eq!(
            text(subnet("fd01:b::/64").parts(80).nth(2)).as_deref(),
            Some("fd01:b:0:0:2::/80")
        );
        assert_eq!(subnet("0.0.0.0/0").parts(1).count(), 2);
        assert_eq!(subnet("::/0").parts(0).count(), 1);
        assert_eq!(
            text(Some(subnet("9.1.2.3/8").network())).as_deref(),
            Some("9.0.0.0/8")
        );
        assert!(all.contains("9.255.0.1".parse().unwrap()));
        assert!(!all.contains("10.0.0.0".parse().unwrap()));
        assert!(all.overlaps(&subnet("9.1.0.0/16")) && !all.overlaps(&subnet("10.0.0.0/8")));
        for wrong in ["", "9.0.0.0", "9.0.0.0/33", "x/8", "fd01::/129"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }
}

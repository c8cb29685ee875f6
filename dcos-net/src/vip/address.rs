//! [`Addresses`]: which address each named VIP has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha1::{Digest, Sha1};

use super::phash2;

/// First and last IPv4 address of named VIPs.
pub const NAMED_V4: (Ipv4Addr, Ipv4Addr) =
    (Ipv4Addr::new(11, 0, 0, 0), Ipv4Addr::new(11, 255, 255, 254));

/// First and last IPv6 address of named VIPs.
pub const NAMED_V6: (Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0xffff, 0xffff, 0xffff, 0xffff),
);

/// The addresses of names, in one family.
///
/// A name has the address its hash says; if another name has that one, the next that is free. Nodes
/// must agree without speaking to each other, so the answer depends on the *set* of names alone,
/// not on the order in which they came (in the original it does): names take their turn in
/// alphabetic order. The price is that a new name can move one that stood on a neighbour's place;
/// of 1,000 names that takes a collision, which 3 % of such clusters have.
#[derive(Clone, Debug)]
pub struct Addresses {
    v6: bool,
    first: u128,
    last: u128,
    /// Without a place if all were taken.
    names: BTreeMap<String, Option<u128>>,
    taken: BTreeMap<u128, String>,
    /// How many names do not stand where their hash says.
    moved: usize,
}

impl Addresses {
    /// No names yet; IPv4 addresses of [`NAMED_V4`].
    pub fn v4() -> Self {
        let (first, last) = NAMED_V4;
        Self::between(first.into(), last.into())
    }

    /// No names yet; IPv6 addresses of [`NAMED_V6`].
    pub fn v6() -> Self {
        let (first, last) = NAMED_V6;
        Self::between(first.into(), last.into())
    }

    /// No names yet; addresses from `first` to `last`, both of the same family.
    pub fn between(first: IpAddr, last: IpAddr) -> Self {
        Self {
            v6: first.is_ipv6(),
            first: number(first),
            last: number(last).max(number(first) + 1),
            names: BTreeMap::new(),
            taken: BTreeMap::new(),
            moved: 0,
        }
    }

    /// The address of a name that was inserted.
    pub fn get(&self, name: &str) -> Option<IpAddr> {
        self.names.get(name)?.map(|place| self.address(place))
    }

    /// Whether names are given this address, now or once.
    pub fn include(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv6() == self.v6 && (self.first..=self.last).contains(&number(ip))
    }

    /// Every name with its address, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        self.names
            .iter()
            .filter_map(|(name, place)| Some((name.as_str(), self.address((*place)?))))
    }

    /// Adds a name; says which other names have moved. A name that finds no free address gets none.
    pub fn insert(&mut self, name: &str) -> Vec<String> {
        if self.names.contains_key(name) {
            return Vec::new();
        }
        let home = self.home(name);
        if self.taken.contains_key(&home) {
            let names = self.names.keys().cloned();
            return self.settle(names.chain([name.to_owned()]).collect());
        }
        self.names.insert(name.to_owned(), Some(home));
        self.taken.insert(home, name.to_owned());
        Vec::new()
    }

    /// Forgets a name; says which other names have moved.
    pub fn remove(&mut self, name: &str) -> Vec<String> {
        let Some(place) = self.names.remove(name) else {
            return Vec::new();
        };
        if let Some(place) = place {
            self.taken.remove(&place);
        }
        if self.moved == 0 {
            return Vec::new();
        }
        self.settle(self.names.keys().cloned().collect())
    }

    /// Gives every one of `names` its place anew.
    fn settle(&mut self, mut names: Vec<String>) -> Vec<String> {
        names.sort_unstable();
        let before = std::mem::take(&mut self.names);
        self.taken.clear();
        self.moved = 0;
        for name in names {
            let home = self.home(&name);
            let place = self.free_from(home);
            self.moved += usize::from(place != Some(home));
            if let Some(place) = place {
                self.taken.insert(place, name.clone());
            }
            self.names.insert(name, place);
        }
        let other = |(name, place): (String, Option<u128>)| {
            (self.names.get(&name) != Some(&place)).then_some(name)
        };
        before.into_iter().filter_map(other).collect()
    }

    fn free_from(&self, home: u128) -> Option<u128> {
        let later = home..=self.last;
        let around = self.first..home;
        let mut places = later.chain(around);
        places.find(|place| !self.taken.contains_key(place))
    }

    /// Where the hash of a name says it should be: the original's `init_ip`.
    fn home(&self, name: &str) -> u128 {
        let range = self.last - self.first;
        let hash = if self.v6 {
            sha1_modulo(name.as_bytes(), range)
        } else {
            u128::from(phash2(name.as_bytes())) % range
        };
        self.first + hash
    }

    fn address(&self, place: u128) -> IpAddr {
        if self.v6 {
            return Ipv6Addr::from_bits(place).into();
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "IPv4 addresses have 32 bits"
        )]
        let place = place as u32;
        Ipv4Addr::from_bits(place).into()
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The 160 bits of SHA-1 modulo `range`, which is less than 2^112.
fn sha1_modulo(bytes: &[u8], range: u128) -> u128 {
    let hash = Sha1::digest(bytes);
    hash.iter()
        .fold(0, |rest, byte| ((rest << 8) | u128::from(*byte)) % range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_their_hash_says() {
        let (mut v4, mut v6) = (Addresses::v4(), Addresses::v6());
        for addresses in [&mut v4, &mut v6] {
            assert!(addresses.insert("web.marathon").is_empty());
        }
        // phash2("web.marathon") is 3,470,861,299; modulo 16,777,214 that is 14,755,215: 0xe1258f.
        assert_eq!(v4.get("web.marathon"), Some([11, 225, 37, 143].into()));
        let v6 = v6.get("web.marathon").map(|ip| ip.to_string());
        assert!(v6.is_some_and(|ip| ip.starts_with("fd01:c::")));
    }

    #[test]
    fn sha1_is_taken_modulo_the_range() {
        // sha1("abc") = a9993e36 4706816a ba3e2571 7850c26c 9cd0d89d
        let words = [
            0xa999_3e36_u128,
            0x4706_816a_ba3e_2571,
            0x7850_c26c_9cd0_d89d,
        ];
        // Modulo 2^64 - 1, the words of 64 bits are added up.
        let range = u128::from(u64::MAX);
        assert_eq!(
            sha1_modulo(b"abc", range),
            words.iter().sum::<u128>() % range
        );
    }
}

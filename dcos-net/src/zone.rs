//! [`Zone`]: names under one origin and their records. It knows DNS, but not who is named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use indexmap::{IndexMap, IndexSet};

/// The records of all names under an origin.
///
/// Names are complete, in lower case and end with a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    origin: String,
    soa: Soa,
    ttl: u32,
    /// By hash, since each question looks a name up, and in the order in which they were added: the same cluster makes
    /// the same list.
    names: IndexMap<String, RecordSet>,
    /// Names without records above names with some: they exist, so they must not be denied.
    between: IndexSet<String>,
    partial: bool,
    scattered: bool,
}

/// What a zone says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// The primary name server.
    pub mname: String,
    /// The mail address of who is responsible, written as a name.
    pub rname: String,
    /// Seconds between two looks of a secondary server.
    pub refresh: u32,
    /// Seconds until it tries again.
    pub retry: u32,
    /// Seconds after which it gives up what it has.
    pub expire: u32,
    /// Seconds for which a denial may be remembered.
    pub minimum: u32,
}

/// What is recorded for one name, each kind in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSet {
    /// IPv4 addresses.
    pub a: Vec<Ipv4Addr>,
    /// IPv6 addresses.
    pub aaaa: Vec<Ipv6Addr>,
    /// Ports at other names.
    pub srv: Vec<Service>,
    /// Of an address: the names that lead there.
    pub ptr: Vec<String>,
    /// What is said beside: texts of up to 255 bytes each.
    pub txt: Vec<Vec<String>>,
}

impl RecordSet {
    /// How many records there are.
    pub fn count(&self) -> usize {
        self.a.len() + self.aaaa.len() + self.srv.len() + self.ptr.len() + self.txt.len()
    }
}

/// Where a service is offered: what an SRV record tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The name that has the address.
    pub target: String,
    /// The port there.
    pub port: u16,
}

/// What a zone knows of a name that belongs to it.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The zone the name belongs to.
    pub zone: &'a Zone,
    answer: Answer<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Answer<'a> {
    Records(&'a RecordSet),
    Between,
    Nothing,
}

impl<'a> Found<'a> {
    /// The records of the name, if it has any.
    pub fn records(&self) -> Option<&'a RecordSet> {
        match self.answer {
            Answer::Records(records) => Some(records),
            Answer::Between | Answer::Nothing => None,
        }
    }

    /// Whether there is such a name, with or without records.
    pub fn exists(&self) -> bool {
        !matches!(self.answer, Answer::Nothing)
    }
}

impl Zone {
    /// An empty zone; `origin` in lower case with a final dot, `ttl` in seconds.
    pub fn new(origin: impl Into<String>, soa: Soa, ttl: u32) -> Self {
        let origin = origin.into();
        let between = IndexSet::from([origin.clone()]);
        Self {
            origin,
            soa,
            ttl,
            names: IndexMap::new(),
            between,
            partial: false,
            scattered: false,
        }
    }

    /// The same, which has only some of the names below its origin: all others are of somebody else's zone.
    #[must_use]
    pub fn scattered(mut self) -> Self {
        self.scattered = true;
        self
    }

    /// The same, of which not all names are known: what is not found may be there.
    #[must_use]
    pub fn partial(mut self, partial: bool) -> Self {
        self.partial = partial;
        self
    }

    /// Whether names may be missing, so that none may be denied.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// The name all others of the zone end with.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What the zone says of itself.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// How many seconds answers may be remembered.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Every name with records, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = (&str, &RecordSet)> {
        (0..).map_while(|place| self.at(place))
    }

    /// The name with records that was added at this place, counted from 0: for who lists them in parts.
    pub fn at(&self, place: usize) -> Option<(&str, &RecordSet)> {
        let (name, records) = self.names.get_index(place)?;
        Some((name, records))
    }

    /// Whether `name` is the origin or lies below it.
    pub fn holds(&self, name: &str) -> bool {
        let above = name.strip_suffix(&self.origin);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    }

    /// What is known of `name` (in lower case, with a final dot), or `None` if it lies elsewhere.
    pub fn find(&self, name: &str) -> Option<Found<'_>> {
        if !self.holds(name) {
            return None;
        }
        let answer = match self.names.get(name) {
            Some(records) => Answer::Records(records),
            None if self.between.contains(name) => Answer::Between,
            None => Answer::Nothing,
        };
        if self.scattered && !matches!(answer, Answer::Records(_)) {
            return None;
        }
        Some(Found { zone: self, answer })
    }

    /// Adds an address; says whether it is new there.
    pub fn add_address(&mut self, name: &str, ip: IpAddr) -> bool {
        let records = self.records(name);
        match ip {
            IpAddr::V4(ip) => insert_new(&mut records.a, ip),
            IpAddr::V6(ip) => insert_new(&mut records.aaaa, ip),
        }
    }

    /// Adds a service; says whether it is new there.
    pub fn add_service(&mut self, name: &str, service: Service) -> bool {
        insert_new(&mut self.records(name).srv, service)
    }

    /// Adds the name that leads to an address, at the [name](reverse) of that; says whether it is new there.
    pub fn add_pointer(&mut self, ip: IpAddr, target: &str) -> bool {
        insert_new(&mut self.records(&reverse(ip)).ptr, target.to_owned())
    }

    /// Adds texts; says whether they are new there. Those above 255 bytes, which DNS cannot have, are left out.
    pub fn add_texts(&mut self, name: &str, texts: impl IntoIterator<Item = String>) -> bool {
        let texts = texts.into_iter().filter(|text| text.len() <= 255);
        insert_new(&mut self.records(name).txt, texts.collect())
    }

    /// A copy of `other` in which its origin is replaced by `origin`, in names and in targets.
    pub fn add_copy_of(&mut self, other: &Self, origin: &str) {
        let moved = |name: &str| {
            name.strip_suffix(&other.origin)
                .map_or_else(|| name.to_owned(), |above| format!("{above}{origin}"))
        };
        for (name, records) in other.names() {
            let copy = self.records(&moved(name));
            copy.a.clone_from(&records.a);
            copy.aaaa.clone_from(&records.aaaa);
            copy.txt.clone_from(&records.txt);
            let services = records.srv.iter();
            copy.srv = services
                .map(|srv| Service {
                    target: moved(&srv.target),
                    port: srv.port,
                })
                .collect();
        }
    }

    fn records(&mut self, name: &str) -> &mut RecordSet {
        let name = name.to_ascii_lowercase();
        if !self.names.contains_key(&name) {
            let mut above = name.as_str();
            while let Some((_, parent)) = above.split_once('.') {
                if !self.holds(parent) || !self.between.insert(parent.to_owned()) {
                    break;
                }
                above = parent;
            }
        }
        self.names.entry(name).or_default()
    }
}

/// The name of an address (RFC 1035, 3.5; RFC 3596, 2.5).
///
/// ```
/// use dcos_net::reverse;
/// assert_eq!(reverse("9.0.1.5".parse()?), "5.1.0.9.in-addr.arpa.");
/// let name = reverse("fd01::c5".parse()?);
/// assert!(name.starts_with("5.c.0.0.") && name.ends_with(".1.0.d.f.ip6.arpa."));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(ip) => {
            let mut name = String::with_capacity(73);
            for byte in ip.octets().into_iter().rev() {
                for half in [byte & 0xF, byte >> 4] {
                    name.extend(char::from_digit(half.into(), 16));
                    name.push('.');
                }
            }
            name + "ip6.arpa."
        }
    }
}

/// Keeps the list in order, so that the same cluster makes the same zone.
fn insert_new<T: Ord>(list: &mut Vec<T>, item: T) -> bool {
    let place = list.binary_search(&item);
    if let Err(place) = place {
        list.insert(place, item);
    }
    place.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let soa = Soa {
            mname: "ns.test.".into(),
            rname: "root.test.".into(),
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum: 1,
        };
        Zone::new("test.", soa, 60)
    }

    #[test]
    fn names_between_exist_without_records() {
        let mut zone = zone();
        assert!(zone.add_address("a.b.c.test.", [10, 0, 0, 1].into()));
        assert!(!zone.add_address("A.b.c.test.", [10, 0, 0, 1].into()));
        for (name, exists, records) in [
            ("a.b.c.test.", true, true),
            ("b.c.test.", true, false),
            ("c.test.", true, false),
            ("test.", true, false),
            ("x.test.", false, false),
            ("x.a.b.c.test.", false, false),
        ] {
            let found = zone.find(name).unwrap();
            assert_eq!(
                (found.exists(), found.records().is_some()),
                (exists, records),
                "{name}"
            );
        }
        assert!(zone.find("contest.").is_none(), "a suffix is no parent");
        assert!(zone.find(".").is_none());
    }

    #[test]
    fn of_a_scattered_zone_all_else_is_somebody_elses() {
        let mut zone = Zone::new("in-addr.arpa.", zone().soa().clone(), 5).scattered();
        let ip = IpAddr::from([9, 0, 1, 5]);
        assert!(zone.add_pointer(ip, "a.test."));
        assert!(!zone.add_pointer(ip, "a.test."));
        let found = zone.find("5.1.0.9.in-addr.arpa.").unwrap();
        assert_eq!(found.records().unwrap().ptr, ["a.test."]);
        for other in [
            "6.1.0.9.in-addr.arpa.",
            "1.0.9.in-addr.arpa.",
            "in-addr.arpa.",
        ] {
            assert!(zone.find(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_copy_moves_names_and_targets() {
        let mut zone = zone();
        zone.add_service(
            "_x._tcp.test.",
            Service {
                target: "a.test.".into(),
                port: 1,
            },
        );
        let mut copy = Zone::new("copy.", zone.soa().clone(), 5);
        copy.add_copy_of(&zone, "here.copy.");
        let found = copy.find("_x._tcp.here.copy.").unwrap();
        assert_eq!(found.records().unwrap().srv[0].target, "a.here.copy.");
    }
}

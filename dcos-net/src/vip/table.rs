//! [`VipTable`]: all VIPs and who is behind them, as one node sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::reserved::{Reserved, is_never_virtual};
use super::{Addresses, Backend, Claim, Host, Key, Protocol, Service, TaskKey, claims};
use crate::{Listener, Placed};

/// One in so many of a service's open backends may be avoided at a time.
const MOST_AVOIDED: usize = 2;

/// What has become of a service: its backends that take new connections, in order and each once, or
/// `None` if there is no such VIP any more. A VIP all of whose backends are closed has an empty list:
/// who connects is refused at once.
pub type Change = (Service, Option<Vec<SocketAddr>>);

/// All VIPs.
///
/// [`set`](Self::set) says what a task claims now; [`take_changes`](Self::take_changes) what that
/// changed since the last time it was asked. Costs grow with the change. The table itself, the
/// addresses of names included, depends on the claims it holds and not on how it came to hold them,
/// so that all nodes agree.
#[derive(Clone, Debug)]
pub struct VipTable {
    /// The addresses of this node.
    own: BTreeSet<IpAddr>,
    /// The addresses of nodes: nothing else may answer there.
    reserved: Reserved,
    /// Nodes that nobody reaches.
    unreachable: BTreeSet<IpAddr>,
    /// Where connections fail.
    avoided: BTreeSet<SocketAddr>,
    /// Where services were found to lead, which counts more than claims.
    found: BTreeMap<Service, Vec<SocketAddr>>,
    tasks: BTreeMap<TaskKey, Vec<Claim>>,
    keys: BTreeMap<Key, BTreeMap<(TaskKey, usize), Backend>>,
    v4: Family,
    v6: Family,
    /// Which keys stand behind a service: one, unless changes are being taken in.
    owners: BTreeMap<Service, BTreeSet<Key>>,
    services_of: BTreeMap<Key, BTreeSet<Service>>,
    /// What was told last.
    told: BTreeMap<Service, Vec<SocketAddr>>,
    dirty: BTreeSet<Key>,
    /// Services to be looked at anew, besides those of such keys: they were found, or no longer are.
    touched: BTreeSet<Service>,
    /// How often changes were taken.
    revision: u64,
    /// Those that are claimed and can't be had, as of the last changes.
    refused: BTreeMap<Key, Refusal>,
}

/// Why a VIP that is claimed has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// By its nature the address means one node, or many, or none; or it is DC/OS's for name servers.
    Nature,
    /// It is one of those that names are given. Who chose it would have connections of another service's clients as
    /// soon as a name falls there, or take them from one whose choice it was if names had it: whoever may choose a name
    /// chooses its address as well.
    OfNames,
    /// A node has it, a master, a server of the ensemble, or one that nodes ask for names.
    Taken,
    /// There are as many names as addresses.
    Full,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nature => "such an address means one node, or many, or none, or name servers",
            Self::OfNames => "addresses of 11.0.0.0/8 and fd01:c::/64 are given to names",
            Self::Taken => {
                "a node, a master, a server of ZooKeeper or one that is asked for names has this address"
            }
            Self::Full => "no address is left for names",
        })
    }
}

/// The names of one family, and how many backends each has there.
#[derive(Clone, Debug)]
struct Family {
    addresses: Addresses,
    backends: BTreeMap<String, usize>,
}

impl Family {
    fn new(addresses: Addresses) -> Self {
        Self {
            addresses,
            backends: BTreeMap::new(),
        }
    }

    /// Counts one more backend; says which other names moved.
    fn add(&mut self, name: &str) -> Vec<String> {
        let backends = self.backends.entry(name.to_owned()).or_default();
        *backends += 1;
        if *backends > 1 {
            return Vec::new();
        }
        self.addresses.insert(name)
    }

    /// Counts one less.
    fn remove(&mut self, name: &str) -> Vec<String> {
        match self.backends.get_mut(name) {
            Some(backends) if *backends > 1 => {
                *backends -= 1;
                Vec::new()
            }
            Some(_) => {
                self.backends.remove(name);
                self.addresses.remove(name)
            }
            None => Vec::new(),
        }
    }
}

/// A VIP as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name (`web.marathon`) or address.
    pub host: Host,
    /// Connections or datagrams.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Where packets go to: the addresses of a name, or the one address; none if that is [refused](VipTable::refused).
    pub addresses: Vec<IpAddr>,
    /// Why there are none.
    pub refused: Option<Refusal>,
    /// All backends, closed ones included.
    pub backends: Vec<Backend>,
    /// Those of them that this node gives no connections, because its connections to them fail.
    pub avoided: BTreeSet<SocketAddr>,
}

/// The addresses of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameAddresses {
    /// If it has backends with IPv4 addresses.
    pub v4: Option<Ipv4Addr>,
    /// If it has backends with IPv6 addresses.
    pub v6: Option<Ipv6Addr>,
}

/// A [`Follower`](crate::Follower)'s: tasks claim what they [declare](super::declares).
impl Listener for VipTable {
    fn reserve(&mut self, agent: IpAddr) {
        Self::reserve(self, agent);
    }

    fn release(&mut self, agent: IpAddr) {
        Self::release(self, agent);
    }

    fn set(&mut self, task: TaskKey, placed: Option<Placed<'_>>) {
        let claims = placed.map(|(task, framework, agent)| claims(task, &framework.name, agent));
        Self::set(self, task, claims.unwrap_or_default());
    }
}

impl VipTable {
    /// A table without VIPs, for a node with these addresses.
    pub fn new(own: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::with_addresses(own, Addresses::v4(), Addresses::v6())
    }

    /// The same with other addresses for names.
    pub fn with_addresses(
        own: impl IntoIterator<Item = IpAddr>,
        v4: Addresses,
        v6: Addresses,
    ) -> Self {
        let own: BTreeSet<IpAddr> = own.into_iter().collect();
        Self {
            reserved: Reserved::of(&own),
            own,
            unreachable: BTreeSet::new(),
            avoided: BTreeSet::new(),
            found: BTreeMap::new(),
            tasks: BTreeMap::new(),
            keys: BTreeMap::new(),
            v4: Family::new(v4),
            v6: Family::new(v6),
            owners: BTreeMap::new(),
            services_of: BTreeMap::new(),
            told: BTreeMap::new(),
            dirty: BTreeSet::new(),
            touched: BTreeSet::new(),
            revision: 0,
            refused: BTreeMap::new(),
        }
    }

    /// There is a node at `ip` (once more): that address is nobody's VIP.
    pub fn reserve(&mut self, ip: IpAddr) {
        if self.reserved.add(ip) {
            self.mark(ip);
        }
    }

    /// There is one node less at `ip`.
    pub fn release(&mut self, ip: IpAddr) {
        if self.reserved.remove(ip) {
            self.mark(ip);
        }
    }

    /// What is claimed and can't be had, as of the last [`take_changes`](Self::take_changes): addresses that mean one
    /// node or no node by their nature (loopback, link-local, multicast, those of name servers), those of nodes, and those
    /// that names are given.
    pub fn refused(&self) -> &BTreeMap<Key, Refusal> {
        &self.refused
    }

    /// These services lead where somebody who knew better than those who claim them had them led: there, but not to backends on
    /// nodes that nobody reaches, or where connections fail; if none is left, to those that are claimed, unless that is no better.
    pub fn adopt(&mut self, found: BTreeMap<Service, Vec<SocketAddr>>) {
        self.mark_found();
        self.found = found;
        self.mark_found();
    }

    /// What was [found](Self::adopt) does not count any more: somebody knows better.
    pub fn forget(&mut self) {
        self.adopt(BTreeMap::new());
    }

    fn mark_found(&mut self) {
        self.touched.extend(self.found.keys());
    }

    /// Whatever is claimed or found at `ip` is to be looked at anew.
    fn mark(&mut self, ip: IpAddr) {
        let found = self.found.keys().filter(|found| found.address.ip() == ip);
        self.touched.extend(found);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let at = |port| Key {
                protocol,
                host: Host::Address(ip),
                port,
            };
            let claimed = self.keys.range(at(0)..=at(u16::MAX));
            self.dirty.extend(claimed.map(|(key, _)| key.clone()));
        }
    }

    fn refusal(&self, key: &Key) -> Option<Refusal> {
        let Host::Address(ip) = key.host else {
            return None;
        };
        if is_never_virtual(ip) {
            Some(Refusal::Nature)
        } else if self.v4.addresses.include(ip) || self.v6.addresses.include(ip) {
            Some(Refusal::OfNames)
        } else {
            self.reserved.contains(ip).then_some(Refusal::Taken)
        }
    }

    /// What `task` claims now; nothing if it is gone.
    pub fn set(&mut self, task: TaskKey, claims: Vec<Claim>) {
        let before = self.tasks.remove(&task).unwrap_or_default();
        if before == claims {
            if !claims.is_empty() {
                self.tasks.insert(task, claims);
            }
            return;
        }
        // New ones first, so that a name that stays keeps its address.
        for claim in &claims {
            self.count(claim, Family::add);
        }
        for (place, claim) in before.iter().enumerate() {
            self.count(claim, Family::remove);
            self.dirty.insert(claim.key.clone());
            let Some(backends) = self.keys.get_mut(&claim.key) else {
                continue;
            };
            backends.remove(&(task.clone(), place));
            if backends.is_empty() {
                self.keys.remove(&claim.key);
            }
        }
        for (place, claim) in claims.iter().enumerate() {
            self.dirty.insert(claim.key.clone());
            let backends = self.keys.entry(claim.key.clone()).or_default();
            backends.insert((task.clone(), place), claim.backend.clone());
        }
        if !claims.is_empty() {
            self.tasks.insert(task, claims);
        }
    }

    /// The nodes that nobody reaches now: backends there are given no new connections, unless a VIP
    /// would have none left (`dcos_l4lb_mgr` does the same with what gossip does not reach).
    pub fn set_unreachable(&mut self, nodes: BTreeSet<IpAddr>) {
        let changed: BTreeSet<IpAddr> = nodes
            .symmetric_difference(&self.unreachable)
            .copied()
            .collect();
        let concerned = self.keys.iter().filter(|(_, backends)| {
            let mut agents = backends.values().map(|backend| backend.agent);
            agents.any(|agent| changed.contains(&agent))
        });
        self.dirty.extend(concerned.map(|(key, _)| key.clone()));
        if !changed.is_empty() {
            self.mark_found();
        }
        self.unreachable = nodes;
    }

    /// The nodes that nobody reaches.
    pub fn unreachable(&self) -> &BTreeSet<IpAddr> {
        &self.unreachable
    }

    /// Where connections of this node fail now, as the node reaches them: they are given no new ones, but for those of a VIP
    /// that are more than half of its open backends, or all of them: what fails everywhere is the node's own. Of datagrams
    /// nobody knows.
    pub fn set_avoided(&mut self, avoided: BTreeSet<SocketAddr>) {
        let changed: BTreeSet<SocketAddr> = avoided
            .symmetric_difference(&self.avoided)
            .copied()
            .collect();
        let concerned = self.keys.iter().filter(|(key, backends)| {
            let mut places = backends.values().map(|backend| self.place(backend));
            key.protocol == Protocol::Tcp && places.any(|place| changed.contains(&place))
        });
        let concerned: Vec<Key> = concerned.map(|(key, _)| key.clone()).collect();
        self.dirty.extend(concerned);
        if !changed.is_empty() {
            self.mark_found();
        }
        self.avoided = avoided;
    }

    /// Where connections of this node fail.
    pub fn avoided(&self) -> &BTreeSet<SocketAddr> {
        &self.avoided
    }

    /// The tasks that claim anything.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskKey> {
        self.tasks.keys()
    }

    /// What changed since this was called last.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut touched = std::mem::take(&mut self.touched);
        self.revision += u64::from(!self.dirty.is_empty() || !touched.is_empty());
        for key in std::mem::take(&mut self.dirty) {
            let now = self.services(&key);
            let is_claimed = self.keys.contains_key(&key);
            match self.refusal(&key).filter(|_| is_claimed) {
                Some(refusal) => self.refused.insert(key.clone(), refusal),
                None => self.refused.remove(&key),
            };
            let before = self.services_of.remove(&key).unwrap_or_default();
            for service in before.difference(&now) {
                if let Some(owners) = self.owners.get_mut(service) {
                    owners.remove(&key);
                    if owners.is_empty() {
                        self.owners.remove(service);
                    }
                }
            }
            for service in &now {
                self.owners.entry(*service).or_default().insert(key.clone());
            }
            touched.extend(before);
            touched.extend(now.iter().copied());
            if !now.is_empty() {
                self.services_of.insert(key, now);
            }
        }
        let cut_off = self.cut_off();
        let change = |service: Service| {
            let now = self.backends(service, &cut_off);
            let before = self.told.get(&service);
            if now.as_ref() == before {
                return None;
            }
            match &now {
                Some(now) => self.told.insert(service, now.clone()),
                None => self.told.remove(&service),
            };
            Some((service, now))
        };
        touched.into_iter().filter_map(change).collect()
    }

    /// Another number whenever there is anything else to say.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Where connections may be led to, avoided places included.
    pub fn connected(&self) -> BTreeSet<SocketAddr> {
        self.connected_by_vip().flatten().collect()
    }

    /// Those of them whose connections could be led elsewhere.
    pub fn replaceable(&self) -> BTreeSet<SocketAddr> {
        let places = self.connected_by_vip();
        places.filter(|places| places.len() > 1).flatten().collect()
    }

    fn connected_by_vip(&self) -> impl Iterator<Item = BTreeSet<SocketAddr>> {
        let of_connections = self
            .keys
            .iter()
            .filter(|(key, _)| key.protocol == Protocol::Tcp);
        let of_claims = of_connections.map(|(_, backends)| {
            let open = backends.values().filter(|backend| backend.open);
            open.map(|backend| self.place(backend)).collect()
        });
        let found = self.found.iter();
        let found = found.filter(|(service, _)| service.protocol == Protocol::Tcp);
        let of_found = found.map(|(service, places)| {
            let mut all = self.claimed(*service).unwrap_or_default();
            all.extend(places);
            all
        });
        of_claims.chain(of_found)
    }

    /// Every service with its open backends, as of the last [`take_changes`](Self::take_changes).
    pub fn told(&self) -> &BTreeMap<Service, Vec<SocketAddr>> {
        &self.told
    }

    /// The addresses of each name.
    pub fn names(&self) -> BTreeMap<&str, NameAddresses> {
        let mut names: BTreeMap<&str, NameAddresses> = BTreeMap::new();
        for (name, ip) in self.v4.addresses.iter().chain(self.v6.addresses.iter()) {
            let entry = names.entry(name).or_default();
            match ip {
                IpAddr::V4(ip) => entry.v4 = Some(ip),
                IpAddr::V6(ip) => entry.v6 = Some(ip),
            }
        }
        names
    }

    /// Every VIP, by protocol, then name or address, then port.
    pub fn list(&self) -> impl Iterator<Item = Listed> {
        self.keys.iter().map(|(key, backends)| {
            let services = self.services(key);
            let mut backends: Vec<Backend> = backends.values().cloned().collect();
            for service in &services {
                self.correct(&mut backends, *service);
            }
            backends.sort_unstable();
            backends.dedup();
            let is_refused = services.is_empty();
            let is_given = |place| {
                let mut told = services.iter().filter_map(|service| self.told.get(service));
                told.any(|given| given.contains(&place))
            };
            let is_avoided = |backend: &&Backend| {
                let place = self.place(backend);
                key.protocol == Protocol::Tcp && self.avoided.contains(&place) && !is_given(place)
            };
            let avoided = backends.iter().filter(|backend| backend.open);
            let avoided = avoided.filter(is_avoided).map(|backend| backend.address);
            Listed {
                avoided: avoided.collect(),
                refused: is_refused.then(|| self.refusal(key).unwrap_or(Refusal::Full)),
                host: key.host.clone(),
                protocol: key.protocol,
                port: key.port,
                addresses: services
                    .iter()
                    .map(|service| service.address.ip())
                    .collect(),
                backends,
            }
        })
    }

    /// Shows who is behind a service as it was found: who is given nothing is closed, and there may be others.
    fn correct(&self, backends: &mut Vec<Backend>, service: Service) {
        let Some(found) = self.found.get(&service) else {
            return;
        };
        let given = self.told.get(&service).map_or(&[][..], Vec::as_slice);
        let mut others: BTreeSet<SocketAddr> = found.iter().copied().collect();
        for backend in &mut *backends {
            let place = self.place(backend);
            others.remove(&place);
            if backend.address.is_ipv4() == service.address.is_ipv4() {
                backend.open &= found.contains(&place) || given.contains(&place);
            }
        }
        backends.extend(others.into_iter().map(|address| Backend {
            agent: address.ip(),
            address,
            inside: None,
            open: true,
        }));
    }

    /// Counts a claim's backend to its name, and marks all whose addresses changed by that.
    fn count(&mut self, claim: &Claim, how: impl Fn(&mut Family, &str) -> Vec<String>) {
        let Host::Named(name) = &claim.key.host else {
            return;
        };
        let family = if claim.backend.address.is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        };
        let moved = how(family, name);
        if moved.is_empty() {
            return;
        }
        let moved: BTreeSet<String> = moved.into_iter().collect();
        let concerned = self.keys.keys().filter(|key| match &key.host {
            Host::Named(name) => moved.contains(name),
            Host::Address(_) => false,
        });
        self.dirty.extend(concerned.cloned());
    }

    /// What packets are sent to for `key`: nothing if nobody claims it, or nobody may.
    fn services(&self, key: &Key) -> BTreeSet<Service> {
        let Some(backends) = self.keys.get(key) else {
            return BTreeSet::new();
        };
        if self.refusal(key).is_some() {
            return BTreeSet::new();
        }
        let has = |v4: bool| {
            backends
                .values()
                .any(|backend| backend.address.is_ipv4() == v4)
        };
        let ips = match &key.host {
            Host::Address(ip) => vec![Some(*ip)],
            Host::Named(name) => {
                let v4 = has(true).then(|| self.v4.addresses.get(name)).flatten();
                let v6 = has(false).then(|| self.v6.addresses.get(name)).flatten();
                vec![v4, v6]
            }
        };
        let service = |ip| Service {
            protocol: key.protocol,
            address: SocketAddr::new(ip, key.port),
        };
        ips.into_iter().flatten().map(service).collect()
    }

    /// Who takes new connections to `service`; `None` if nobody claims it, and it was not found.
    fn backends(
        &self,
        service: Service,
        cut_off: &BTreeSet<SocketAddr>,
    ) -> Option<Vec<SocketAddr>> {
        let is_free = !self.reserved.contains(service.address.ip());
        let open = match self.found.get(&service).filter(|_| is_free) {
            Some(found) => self.living(service, found, cut_off),
            None => self.claimed(service)?,
        };
        let avoided = match service.protocol {
            Protocol::Tcp => self.avoided_of(&open),
            Protocol::Udp => BTreeSet::new(),
        };
        Some(open.difference(&avoided).copied().collect())
    }

    /// The open backends of those who claim `service`, on nodes that are reached if there are any.
    fn claimed(&self, service: Service) -> Option<BTreeSet<SocketAddr>> {
        let owners = self.owners.get(&service)?;
        let backends = owners.iter().filter_map(|key| self.keys.get(key));
        let open: Vec<&Backend> = backends
            .flat_map(BTreeMap::values)
            .filter(|backend| {
                backend.open && backend.address.is_ipv4() == service.address.is_ipv4()
            })
            .collect();
        let open = preferred(open, |backend| !self.unreachable.contains(&backend.agent));
        Some(open.iter().map(|backend| self.place(backend)).collect())
    }

    /// Where a service is best led that was found to lead to `found`: it may lack who was avoided then, or not reached.
    fn living(
        &self,
        service: Service,
        found: &[SocketAddr],
        cut_off: &BTreeSet<SocketAddr>,
    ) -> BTreeSet<SocketAddr> {
        let found: BTreeSet<SocketAddr> = found.iter().copied().collect();
        let is_reached = |place: &SocketAddr| {
            !cut_off.contains(place) && !self.unreachable.contains(&place.ip())
        };
        let reached = |places: &BTreeSet<SocketAddr>| -> BTreeSet<SocketAddr> {
            places.iter().copied().filter(is_reached).collect()
        };
        let works = |places: &BTreeSet<SocketAddr>| {
            let fails = service.protocol == Protocol::Tcp && places.is_subset(&self.avoided);
            !places.is_empty() && !fails
        };
        let open = reached(&found);
        // Of one that led nowhere all had been closed.
        if found.is_empty() || works(&open) {
            return open;
        }
        let others = reached(&self.claimed(service).unwrap_or_default());
        if works(&others) || open.is_empty() && !others.is_empty() {
            others
        } else if open.is_empty() {
            found
        } else {
            open
        }
    }

    /// Where the backends are of nodes that nobody reaches, as long as it matters for what was found.
    fn cut_off(&self) -> BTreeSet<SocketAddr> {
        if self.found.is_empty() || self.unreachable.is_empty() {
            return BTreeSet::new();
        }
        let claimed = self.keys.values().flat_map(BTreeMap::values);
        let cut_off = claimed.filter(|backend| self.unreachable.contains(&backend.agent));
        cut_off.map(|backend| self.place(backend)).collect()
    }

    /// Which of the open backends of a service get no connections because these fail.
    fn avoided_of(&self, open: &BTreeSet<SocketAddr>) -> BTreeSet<SocketAddr> {
        let failing = open.intersection(&self.avoided).copied();
        let most = open.len() / MOST_AVOIDED;
        match failing.clone().count() {
            all if all == open.len() => BTreeSet::new(),
            _ => failing.take(most).collect(),
        }
    }

    /// Where this node reaches a backend.
    fn place(&self, backend: &Backend) -> SocketAddr {
        match backend.inside {
            Some(inside) if self.own.contains(&backend.agent) => inside,
            _ => backend.address,
        }
    }
}

/// Those that are `better`, or all if none is.
fn preferred(all: Vec<&Backend>, better: impl Fn(&Backend) -> bool) -> Vec<&Backend> {
    let some: Vec<&Backend> = all
        .iter()
        .copied()
        .filter(|backend| better(backend))
        .collect();
    if some.is_empty() { all } else { some }
}

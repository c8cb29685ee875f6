//! [`Connect`]: connections of the node's own processes, led to a backend where they begin, at `connect()`.
//!
//! The socket is the backend's from the start: no packet is looked up or changed. Everything else goes on
//! to be the table's of nftables: datagrams, whose flows can be led to another backend when theirs goes; containers with a
//! network of their own, whose packets have to come back through the node; services without a backend, which it refuses;
//! and all of it while no agent runs, for the kernel takes the programs away with the process. See `docs/data-path.md`.

mod locals;
mod program;
mod sockets;
mod sys;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use dcos_net::vip::{Change, Protocol, Service};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::dataplane::{Connections, Repairs, Services};
use locals::Locals;
use program::{CONNECT, COUNT, GETPEERNAME, LOT, Maps, PEER, PLACE};
pub(super) use sockets::Peers;
use sockets::{place_of, service_of};
use sys::Map;

/// So many there may be; the maps take memory for those that there are, and 16 bytes more for each that there may be.
const SERVICES: u32 = 1 << 16;
const LOTS: u32 = 1 << 18;

/// The connections of one network namespace, as long as this is kept.
#[derive(Debug)]
pub(super) struct Connect {
    /// The kernel asks the programs until these are closed.
    _links: Vec<OwnedFd>,
    services: Map<PLACE, 4>,
    lots: Map<LOT, PLACE>,
    counts: Map<COUNT, 8>,
    peers: Map<4, PEER>,
    /// What is balanced here, of what there is.
    held: Services,
    locals: Locals,
    /// Whether nothing was ever written.
    is_new: bool,
}

impl Connect {
    /// Balances nothing yet, in the network namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
            .or_else(|_| UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)))?;
        let namespace = sys::namespace(socket.as_fd())?;
        let cgroup = root()?;
        let services = Map::hash("l4lb_services", SERVICES)?;
        let lots = Map::hash("l4lb_lots", LOTS)?;
        let counts = Map::hash("l4lb_counts", LOTS)?;
        let peers = Map::of_sockets("l4lb_peers")?;
        let maps = Maps {
            services: services.number(),
            lots: lots.number(),
            counts: counts.number(),
            peers: peers.number(),
        };
        let mut links = Vec::new();
        let connect = CONNECT.map(|(at, family)| (at, program::connect(family, maps, namespace)));
        let name = GETPEERNAME.map(|(at, family)| (at, program::getpeername(family, maps)));
        for (at, instructions) in name.into_iter().chain(connect) {
            let program = sys::load(at, &instructions)?;
            links.push(sys::link(&program, cgroup.as_fd(), at)?);
        }
        Ok(Self {
            _links: links,
            services,
            lots,
            counts,
            peers,
            held: Services::new(),
            locals: Locals::open()?,
            is_new: true,
        })
    }

    /// What its sockets carry.
    pub(super) fn peers(&self) -> io::Result<Peers> {
        self.peers.share().map(Peers::new)
    }

    /// Looks which addresses are the node's own; says whether that changed, so that all has to be told again.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        self.locals.look()
    }

    /// Carries out changes. Each service is whole at every moment.
    pub(super) fn apply(&mut self, changes: &[Change]) -> io::Result<()> {
        let (mut before, mut after) = (Entries::default(), Entries::default());
        for (service, now) in changes {
            if let Some(backends) = self.held.remove(service) {
                before.add(service, &backends);
            }
            let now = now.as_deref().unwrap_or_default();
            if self.takes(service, now) {
                after.add(service, now);
                self.held.insert(*service, now.to_vec());
            }
        }
        self.lead(&before, &after)
    }

    /// Compares what the kernel holds with `services`, and makes it so. Without `strict` others stay.
    pub(super) fn reconcile(&mut self, services: &Services, strict: bool) -> io::Result<Repairs> {
        self.locals.look()?;
        let mut before = if self.is_new {
            Entries::default()
        } else {
            self.read()?
        };
        if strict {
            self.held.clear();
        } else {
            let known: BTreeSet<[u8; PLACE]> = services.keys().map(key).collect();
            before.retain(|key| known.contains(key));
            self.held
                .retain(|service, _| !services.contains_key(service));
        }
        let mut after = Entries::default();
        for (service, backends) in services {
            if self.takes(service, backends) {
                after.add(service, backends);
                self.held.insert(*service, backends.clone());
            }
        }
        self.lead(&before, &after)?;
        // What was never told has not to be put right.
        let repairs = if std::mem::take(&mut self.is_new) {
            Repairs::default()
        } else {
            before.repairs(&after)
        };
        Ok(repairs)
    }

    /// Takes services at these addresses away.
    pub(super) fn withdraw(&mut self, addresses: &[IpAddr]) -> io::Result<()> {
        let at = |service: &&Service| addresses.contains(&service.address.ip());
        let gone: Vec<Change> = self
            .held
            .keys()
            .filter(at)
            .map(|service| (*service, None))
            .collect();
        self.apply(&gone)
    }

    /// What was balanced here, for somebody else to read.
    pub(super) fn counts(&self) -> io::Result<Counts> {
        self.counts.share().map(Counts)
    }

    /// Whether connections to a service are balanced here.
    fn takes(&self, service: &Service, backends: &[SocketAddr]) -> bool {
        let ip = service.address.ip();
        service.protocol == Protocol::Tcp
            && !backends.is_empty()
            && backends.iter().all(|to| to.is_ipv4() == ip.is_ipv4())
            && !self.locals.contain(ip)
    }

    fn read(&self) -> io::Result<Entries> {
        let counts = self.counts.list()?.into_iter();
        Ok(Entries {
            services: self.services.list()?.into_iter().collect(),
            lots: self.lots.list()?.into_iter().collect(),
            counts: counts.map(|(key, _)| key).collect(),
        })
    }

    /// From some entries to others. Who comes meanwhile meets a service as it was or as it is: lots are there before they are
    /// drawn, and as long as they may be.
    fn lead(&self, before: &Entries, after: &Entries) -> io::Result<()> {
        let come = after.counts.difference(&before.counts);
        self.counts
            .put(&come.map(|key| (*key, [0; 8])).collect::<Vec<_>>())?;
        self.lots.put(&differing(&before.lots, &after.lots))?;
        self.services
            .put(&differing(&before.services, &after.services))?;
        self.services
            .remove(&gone(&before.services, &after.services))?;
        self.lots.remove(&gone(&before.lots, &after.lots))?;
        let gone = before.counts.difference(&after.counts);
        self.counts.remove(&gone.copied().collect::<Vec<_>>())
    }
}

/// How many connections were balanced.
#[derive(Debug)]
pub(super) struct Counts(Map<COUNT, 8>);

impl Counts {
    /// Adds them.
    pub(super) fn add_to(&self, connections: &mut Connections) -> io::Result<()> {
        for (key, count) in self.0.list()? {
            let found = service_of(&key).zip(place_of(&key[LOT..]));
            if let Some(found) = found {
                *connections.entry(found).or_default() += u64::from_ne_bytes(count);
            }
        }
        Ok(())
    }
}

/// What is in the maps.
#[derive(Debug, Default)]
struct Entries {
    services: BTreeMap<[u8; PLACE], [u8; 4]>,
    lots: BTreeMap<[u8; LOT], [u8; PLACE]>,
    counts: BTreeSet<[u8; COUNT]>,
}

impl Entries {
    /// Adds what makes `service` lead to `backends`, one lot to each.
    fn add(&mut self, service: &Service, backends: &[SocketAddr]) {
        let key = key(service);
        for (backend, lot) in backends.iter().zip(0_u32..) {
            let mut at = [0; COUNT];
            at[..PLACE].copy_from_slice(&key);
            at[LOT..].copy_from_slice(&place(*backend));
            self.counts.insert(at);
            let mut drawn = [0; LOT];
            drawn[..PLACE].copy_from_slice(&key);
            drawn[PLACE..].copy_from_slice(&lot.to_ne_bytes());
            self.lots.insert(drawn, place(*backend));
        }
        let lots = u32::try_from(backends.len()).unwrap_or(u32::MAX);
        self.services.insert(key, lots.to_ne_bytes());
    }

    /// Keeps what belongs to some services.
    fn retain(&mut self, of: impl Fn(&[u8; PLACE]) -> bool) {
        let of = |key: &[u8]| key.first_chunk().is_some_and(&of);
        self.services.retain(|key, _| of(key));
        self.lots.retain(|key, _| of(key));
        self.counts.retain(|key| of(key));
    }

    /// What had to be changed to make it another.
    fn repairs(&self, after: &Self) -> Repairs {
        let services = differing(&self.services, &after.services).into_iter();
        let lots = differing(&self.lots, &after.lots).into_iter();
        let counts = after.counts.difference(&self.counts);
        let services = services.map(|(key, _)| key.first_chunk::<PLACE>().copied());
        let lots = lots.map(|(key, _)| key.first_chunk().copied());
        let counts = counts.map(|key| key.first_chunk().copied());
        let repaired: BTreeSet<_> = services.chain(lots).chain(counts).collect();
        let strangers = gone(&self.services, &after.services).len()
            + gone(&self.lots, &after.lots).len()
            + self.counts.difference(&after.counts).count();
        Repairs {
            services: repaired.len(),
            strangers,
        }
    }
}

/// What is to be written so that what was becomes what is.
fn differing<K: Ord + Copy, V: Eq + Copy>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> Vec<(K, V)> {
    let entries = after.iter();
    entries
        .filter(|(key, value)| before.get(key) != Some(value))
        .map(|(key, value)| (*key, *value))
        .collect()
}

/// What is to be taken away.
fn gone<K: Ord + Copy, V>(before: &BTreeMap<K, V>, after: &BTreeMap<K, V>) -> Vec<K> {
    let keys = before.keys();
    keys.filter(|key| !after.contains_key(key))
        .copied()
        .collect()
}

fn key(service: &Service) -> [u8; PLACE] {
    let mut key = place(service.address);
    key[18] = service.protocol.number();
    key
}

fn place(address: SocketAddr) -> [u8; PLACE] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut place = [0; PLACE];
    place[..16].copy_from_slice(&ip.octets());
    place[16..18].copy_from_slice(&address.port().to_be_bytes());
    place
}

/// The cgroup that all processes are in, of the hierarchy that is asked. Where nobody mounted it, a mount that only this
/// process sees, and only now; another one beside what is there would change what the hierarchy was mounted with.
fn root() -> io::Result<OwnedFd> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let whole = mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(3);
        let (root, at) = (words.next()?, words.next()?);
        (source.starts_with("cgroup2 ") && root == "/").then_some(at)
    });
    if let Some(at) = whole {
        return Ok(File::open(at)?.into());
    }
    let hierarchy = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(hierarchy.as_fd())?;
    let (closed, plain) = (FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty());
    let mount = rustix::mount::fsmount(hierarchy.as_fd(), closed, plain)?;
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok(rustix::fs::openat(
        &mount,
        ".",
        flags,
        rustix::fs::Mode::empty(),
    )?)
}

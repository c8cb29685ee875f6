//! [`Kernel`]: the data path, in the nftables of the network namespace it was opened in.
//!
//! A packet that begins a connection is looked up twice: its address and port, which leads to
//! how many backends there are to draw lots among, and address, port and lot, which is
//! where it goes. Packets after that follow the connection tracking of the kernel, whatever becomes
//! of the maps. See `docs/data-path.md`.

mod connect;
mod conntrack;
mod counters;
mod elements;
mod forgetter;
mod lookout;
mod skeleton;
mod way;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::panic::resume_unwind;

use dcos_net::vip::{Change, Service};
use dcos_netlink::{
    ACK, CREATE, DUMP, Lock, Messages, Protocol as Family, Socket, attribute, attributes, number,
};
use rustix::net::netdevice::name_to_index;

use crate::Watcher;
use crate::dataplane::{Dataplane, DataplaneError, Reader, Repairs, Services};
use connect::Connect;
use counters::Counters;
use elements::{Element, Map, elements, service_of};
use forgetter::Forgetter;
use lookout::Tracking;
pub(crate) use skeleton::passage;
use way::Way;

/// `NFNL_SUBSYS_NFTABLES`, in the upper half of a message's kind.
const NFTABLES: u16 = 10;
const NEW_ELEMENT: u16 = NFTABLES << 8 | 0xc;
const GET_ELEMENT: u16 = NFTABLES << 8 | 0xd;
const DELETE_ELEMENT: u16 = NFTABLES << 8 | 0xe;
const GET_GENERATION: u16 = NFTABLES << 8 | 0x10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Every family.
const UNSPEC: u8 = 0;
/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;

/// Whether the kernel tells of connections that end: 0 if not.
const EVENTS: &str = "/proc/sys/net/netfilter/nf_conntrack_events";

/// What whoever changes the table has locked.
const LOCK: &str = "dcos-l4lb";

/// A transaction is closed when it is as large as this, between two services.
const TRANSACTION: usize = 1 << 20;
/// So many bytes of elements stand in a message; its attributes hold 64 KiB.
const MESSAGE: usize = 32 << 10;

/// Where connections of the node's own processes are balanced. All others always are in nftables, and datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataPath {
    /// In nftables, when their first packet leaves.
    #[default]
    Nftables,
    /// By eBPF, at `connect()`; in nftables where the kernel does not let us.
    Auto,
    /// The same, and without that it is not opened.
    Ebpf,
}

/// The data path of one node.
#[derive(Debug)]
pub struct Kernel {
    /// What is balanced before there are packets. It is closed before others may take the lock.
    connect: Option<Connect>,
    forgetter: Forgetter,
    /// One process a network namespace: two would undo each other's work.
    _lock: Lock,
    socket: Socket,
    way: Way,
    /// Whether it stood when it was looked at last.
    has_way: bool,
    /// What the kernel's maps hold, as far as this was their only writer.
    held: Services,
    /// Whether flows may go to backends that an earlier process took away, or a change that failed half-way, and that
    /// nobody has forgotten.
    inherited: bool,
    /// The generation of the kernel's tables after our last transaction.
    generation: u32,
}

/// The header of netfilter's messages; `resource` is zero but in batches.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The attributes behind it.
fn behind_header(body: &[u8]) -> &[u8] {
    body.get(4..).unwrap_or_default()
}

/// What is in a map: keys, and where they lead.
type Found = HashMap<(Map, Vec<u8>), Vec<u8>>;

/// The link of dcos-net. Behind it is a route to each VIP the original knew, by which the kernel takes them for addresses of
/// the node itself: those pass by the table.
const FORMER: &str = "minuteman";

fn warn_of_the_original() {
    let is_there = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .is_ok_and(|socket| name_to_index(&socket, FORMER).is_ok());
    if is_there {
        tracing::warn!(
            link = FORMER,
            "dcos-net was here: VIPs it had still lead to it, not here; stop it, then `ip link delete {FORMER}`"
        );
    }
}

impl Kernel {
    /// Opens the data path of the network namespace of this thread, and makes the table if it is not
    /// there. VIPs an earlier process left go on working as they were, unless its table has another layout.
    ///
    /// # Errors
    /// Without root, the `nft` program, or a kernel that has what the table needs; of [`DataPath::Ebpf`], without one that
    /// has what that needs.
    pub fn open(path: DataPath) -> Result<Self, DataplaneError> {
        let lock = Lock::take(LOCK).map_err(|source| DataplaneError::Taken { source })?;
        let socket =
            Socket::open(Family::Netfilter).map_err(|source| DataplaneError::Open { source })?;
        skeleton::stand()?;
        let way = Way::open().map_err(|source| DataplaneError::Open { source })?;
        warn_of_the_original();
        let connect = at_connect(path)?;
        let peers = connect.as_ref().map(Connect::peers).transpose();
        let forgetter = peers
            .and_then(Forgetter::start)
            .map_err(|source| DataplaneError::Open { source })?;
        let mut kernel = Self {
            connect,
            forgetter,
            _lock: lock,
            socket,
            way,
            has_way: true,
            held: Services::new(),
            inherited: true,
            generation: 0,
        };
        kernel.stand_way();
        kernel.generation = kernel.generation()?;
        Ok(kernel)
    }

    /// Takes the table and the way to it away: no VIP works any more, connections that stand go on.
    ///
    /// # Errors
    /// If `nft` or the kernel refuses.
    pub fn remove(mut self) -> Result<(), DataplaneError> {
        self.connect = None;
        skeleton::fall()?;
        let fallen = self.way.fall();
        fallen.map_err(|source| DataplaneError::Way { source })
    }

    /// What looks at connections to backends here, once it is [started](Watcher::start).
    ///
    /// # Errors
    /// The kernel tells nobody of connections that end (`nf_conntrack_netlink`), or not us.
    pub fn watcher(&self) -> Result<Watcher, DataplaneError> {
        if std::fs::read_to_string(EVENTS).is_ok_and(|set| set.trim() == "0") {
            tracing::warn!(
                "{EVENTS} is 0: connections that backends refuse go unseen, those that wait for an answer do not"
            );
        }
        let watcher = || {
            Ok(Watcher::new(Tracking {
                socket: Socket::open(Family::Netfilter)?,
                ended: conntrack::unanswered()?,
                counters: self.counters()?,
                at_connect: self.connect.is_some(),
            }))
        };
        watcher().map_err(|source| DataplaneError::Watch { source })
    }

    fn counters(&self) -> io::Result<Counters> {
        let at_connect = self.connect.as_ref().map(Connect::counts).transpose()?;
        Ok(Counters::new(Socket::open(Family::Netfilter)?, at_connect))
    }

    /// Makes the way to virtual addresses, where it is not. Nodes that have another one do without.
    fn stand_way(&mut self) {
        let stood = self.way.stand();
        match &stood {
            Ok(true) => tracing::info!(link = way::LINK, "there is a way to virtual addresses"),
            Err(error) if self.has_way => {
                tracing::warn!(%error, link = way::LINK, "no way to virtual addresses without a default route");
            }
            _ => {}
        }
        self.has_way = stood.is_ok();
    }

    /// Works with what balances at `connect()`, if it does. Once that fails the kernel is not asked there any more, and
    /// connections are the table's.
    fn with_connect<T>(&mut self, work: impl FnOnce(&mut Connect) -> io::Result<T>) -> Option<T> {
        let worked = work(self.connect.as_mut()?);
        worked
            .map_err(|error| {
                tracing::warn!(%error, "connections are balanced in nftables from now on: eBPF failed");
                self.connect = None;
            })
            .ok()
    }

    /// Makes the table so; says what had to be put right, and who lost backends.
    fn reconcile_table(
        &mut self,
        services: &Services,
        strict: bool,
    ) -> Result<(Repairs, BTreeSet<Service>), DataplaneError> {
        if self.generation()? != self.generation {
            skeleton::stand()?;
        }
        let generation = self.generation()?;
        let mut found = self.found()?;
        let wanted = services.values().map(|backends| elements::count(backends));
        // The kernel may leave entries out of a listing while it makes room in a table: what either of two has is there.
        if found.len() < wanted.sum() {
            found.extend(self.found()?);
        }
        self.generation = generation;
        let mut repairs = Repairs::default();
        let coming = services.iter();
        self.forgetter
            .expect(coming.map(|(service, now)| (service, now.as_slice())));
        let mut losers: BTreeSet<Service> = BTreeSet::new();
        let mut transaction = Transaction::new();
        for (service, backends) in services {
            let begun = (transaction.deleted.len(), transaction.added.len());
            let wanted = elements(service, backends);
            let lots = wanted.len() - 1;
            for element in wanted {
                let key = (element.map, element.key.clone());
                let value = found.remove(&key);
                if value.as_ref() == Some(&element.value) {
                    continue;
                }
                if let Some(value) = value {
                    transaction.deleted.push(Element {
                        value,
                        ..element.clone()
                    });
                }
                transaction.added.push(element);
            }
            // Lots the service had and has no more.
            for lot in lots.. {
                let key = elements::lot_key(service, lot);
                let Some(value) = found.remove(&key) else {
                    break;
                };
                transaction.deleted.push(Element {
                    map: key.0,
                    key: key.1,
                    value,
                });
            }
            let is_new = !self.held.contains_key(service) && transaction.added.len() > begun.1;
            if self.inherited || is_new || transaction.deleted.len() > begun.0 {
                losers.insert(*service);
            }
            repairs.services +=
                usize::from(begun != (transaction.deleted.len(), transaction.added.len()));
            if transaction.size() > TRANSACTION {
                self.commit(std::mem::replace(&mut transaction, Transaction::new()))?;
            }
        }
        // What is left belongs to nobody we know of.
        let unknown: Vec<Element> = found
            .into_iter()
            .map(|((map, key), value)| Element { map, key, value })
            .filter(|element| {
                let service = service_of(element.map, &element.key);
                strict || service.is_none_or(|service| services.contains_key(&service))
            })
            .collect();
        repairs.strangers = unknown.len();
        for element in &unknown {
            losers.extend(service_of(element.map, &element.key));
        }
        self.take_away(transaction, unknown)?;
        Ok((repairs, losers))
    }

    fn generation(&mut self) -> Result<u32, DataplaneError> {
        let mut request = Messages::new();
        request.begin(GET_GENERATION, ACK, &header(UNSPEC, 0)).end();
        let mut generation = 0;
        let take = |body: &[u8]| {
            generation = attribute(behind_header(body), 1)
                .and_then(number)
                .unwrap_or_default();
        };
        let asked = self.socket.ask(&request, take);
        asked.map_err(|source| DataplaneError::Read { source })?;
        Ok(generation)
    }

    fn read_all(&mut self) -> io::Result<Found> {
        let mut found = Found::new();
        for map in Map::ALL {
            read(&mut self.socket, map, |element| {
                if let Some((key, value)) = read_element(element) {
                    found.insert((map, key), value);
                }
            })?;
        }
        Ok(found)
    }

    /// Reads again what changed while it was read.
    fn found(&mut self) -> Result<Found, DataplaneError> {
        let mut attempts = 0..5;
        loop {
            match self.read_all() {
                Ok(found) => return Ok(found),
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted && attempts.next().is_some() => {}
                Err(source) => return Err(DataplaneError::Read { source }),
            }
        }
    }

    fn commit(&mut self, transaction: Transaction) -> Result<(), DataplaneError> {
        let Some((messages, last)) = transaction.finish() else {
            return Ok(());
        };
        let done = self.socket.transact(&messages, last);
        // Of a transaction that fails nothing is done, and the first reason is the reason.
        let done =
            done.and_then(|failures| failures.first().map_or(Ok(()), |one| Err((*one).into())));
        done.map_err(|source| {
            // Transactions before it may have taken backends away that nobody is told of.
            self.inherited = true;
            DataplaneError::Write { source }
        })?;
        self.generation = self.generation.wrapping_add(1);
        Ok(())
    }

    /// Commits the transaction, and takes these elements away.
    fn take_away(
        &mut self,
        mut transaction: Transaction,
        mut elements: Vec<Element>,
    ) -> Result<(), DataplaneError> {
        // The way to backends goes before they do.
        elements.sort_by_key(|element| element.map);
        for element in elements {
            transaction.deleted.push(element);
            if transaction.size() > TRANSACTION {
                self.commit(std::mem::replace(&mut transaction, Transaction::new()))?;
            }
        }
        self.commit(transaction)
    }

    /// Waits until the connection tracking has forgotten every flow to a backend that was taken away, which it does by
    /// itself after each change.
    pub fn wait_until_forgotten(&self) {
        self.forgetter.wait();
    }

    /// Whether flows may go elsewhere than a change wants: it takes a backend away, or a service comes, and what was sent there
    /// before was led nowhere.
    fn loses(&self, (service, now): &Change) -> bool {
        let now = now.as_deref().unwrap_or_default();
        match self.held.get(service) {
            Some(before) => before.iter().any(|backend| !now.contains(backend)),
            None => !now.is_empty(),
        }
    }
}

impl Dataplane for Kernel {
    fn reconcile(&mut self, services: &Services, strict: bool) -> Result<Repairs, DataplaneError> {
        let mut connect = self.connect.take();
        // Beside each other: of many VIPs either takes a third of a second.
        let (table, connected) = std::thread::scope(|scope| {
            let beside = connect.as_mut();
            let beside = beside.map(|connect| scope.spawn(|| connect.reconcile(services, strict)));
            let table = self.reconcile_table(services, strict);
            let joined = beside.map(|thread| thread.join().unwrap_or_else(|it| resume_unwind(it)));
            (table, joined)
        });
        self.connect = connect;
        let connected = connected.and_then(|done| self.with_connect(|_| done));
        let connected = connected.unwrap_or_default();
        let (mut repairs, losers) = table?;
        repairs.services += connected.services;
        repairs.strangers += connected.strangers;
        self.held.clone_from(services);
        self.inherited &= !strict;
        let gone = losers.iter().filter(|loser| !services.contains_key(loser));
        let now = services.iter().map(|(service, now)| {
            let loses = losers.contains(service);
            (service, now.as_slice(), loses)
        });
        self.forgetter
            .tell(now.chain(gone.map(|service| (service, [].as_slice(), true))));
        Ok(repairs)
    }

    fn adopt(&mut self, services: &BTreeSet<Service>) -> Result<Services, DataplaneError> {
        let found = self.found()?;
        let has = |service: &Service| {
            let backends = elements::backends(service, |map, key| {
                found.get(&(map, key)).map(Vec::as_slice)
            });
            Some((*service, backends?))
        };
        let there: Services = services.iter().filter_map(has).collect();
        self.held.retain(|service, _| !services.contains(service));
        self.held
            .extend(there.iter().map(|(service, now)| (*service, now.clone())));
        self.with_connect(|connect| connect.reconcile(&there, false));
        Ok(there)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), DataplaneError> {
        let coming = changes.iter();
        self.forgetter
            .expect(coming.map(|(service, now)| (service, now.as_deref().unwrap_or_default())));
        let mut transaction = Transaction::new();
        for (service, now) in changes {
            let before = self
                .held
                .get(service)
                .map(|before| elements(service, before));
            let after = now.as_ref().map(|now| elements(service, now));
            transaction.change(before.unwrap_or_default(), after.unwrap_or_default());
            if transaction.size() > TRANSACTION {
                self.commit(std::mem::replace(&mut transaction, Transaction::new()))?;
            }
        }
        self.commit(transaction)?;
        self.with_connect(|connect| connect.apply(changes));
        let now = changes.iter().map(|change| {
            let now = change.1.as_deref().unwrap_or_default();
            (&change.0, now, self.loses(change))
        });
        self.forgetter.tell(now);
        for (service, now) in changes {
            match now {
                Some(now) => self.held.insert(*service, now.clone()),
                None => self.held.remove(service),
            };
        }
        Ok(())
    }

    fn withdraw(&mut self, addresses: &[IpAddr]) -> Result<(), DataplaneError> {
        let found = self.found()?;
        let mut gone: BTreeSet<Service> = BTreeSet::new();
        let elements = found
            .into_iter()
            .map(|((map, key), value)| Element { map, key, value })
            .filter(|element| {
                let service = service_of(element.map, &element.key)
                    .filter(|service| addresses.contains(&service.address.ip()));
                gone.extend(service);
                service.is_some()
            })
            .collect();
        self.take_away(Transaction::new(), elements)?;
        self.with_connect(|connect| connect.withdraw(addresses));
        self.held.retain(|service, _| !gone.contains(service));
        let told = gone.iter().map(|service| (service, [].as_slice(), true));
        self.forgetter.tell(told);
        Ok(())
    }

    fn is_untouched(&mut self) -> Result<bool, DataplaneError> {
        self.stand_way();
        if self.with_connect(Connect::look) == Some(true) {
            let held = self.held.iter();
            let held = held.map(|(service, now)| (*service, Some(now.clone())));
            let all: Vec<Change> = held.collect();
            self.with_connect(|connect| connect.apply(&all));
        }
        Ok(self.generation()? == self.generation)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader>, DataplaneError> {
        let counters = self.counters();
        let counters = counters.map_err(|source| DataplaneError::Open { source })?;
        Ok(Box::new(counters))
    }
}

/// What balances at `connect()`, if that is wished and possible.
fn at_connect(path: DataPath) -> Result<Option<Connect>, DataplaneError> {
    if path == DataPath::Nftables {
        return Ok(None);
    }
    match Connect::open() {
        Ok(connect) => {
            tracing::info!("connections of this node's processes are balanced at connect()");
            Ok(Some(connect))
        }
        Err(error) if path == DataPath::Auto => {
            tracing::info!(%error, "connections are balanced in nftables: eBPF is not to be had");
            Ok(None)
        }
        Err(source) => Err(DataplaneError::Connect { source }),
    }
}

/// Gives each element of a map to `take`.
fn read(socket: &mut Socket, map: Map, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut request = Messages::new();
    let message = request.begin(GET_ELEMENT, DUMP, &header(INET, 0));
    message.text(1, skeleton::TABLE).text(2, map.name()).end();
    socket.ask(&request, |body| {
        let list = attribute(behind_header(body), 3).unwrap_or_default();
        attributes(list).for_each(|(_, element)| take(element));
    })
}

/// Key and value out of an element's attributes.
fn read_element(element: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let bytes = |kind| attribute(attribute(element, kind)?, 1).map(<[u8]>::to_vec);
    Some((bytes(1)?, bytes(2)?))
}

/// What happens at once, or not at all.
struct Transaction {
    deleted: Vec<Element>,
    added: Vec<Element>,
}

impl Transaction {
    fn new() -> Self {
        Self {
            deleted: Vec::new(),
            added: Vec::new(),
        }
    }

    /// Roughly, in bytes.
    fn size(&self) -> usize {
        (self.deleted.len() + self.added.len()) * 64
    }

    /// Leads from some elements of a service to others; both are ordered alike.
    fn change(&mut self, before: Vec<Element>, after: Vec<Element>) {
        let common = before.len().min(after.len());
        let mut before = before.into_iter();
        let mut after = after.into_iter();
        for (old, new) in before
            .by_ref()
            .take(common)
            .zip(after.by_ref().take(common))
        {
            if old != new {
                self.deleted.push(old);
                self.added.push(new);
            }
        }
        self.deleted.extend(before);
        self.added.extend(after);
    }

    /// Its messages and the number of the one that is acknowledged last; `None` if there is nothing
    /// to do.
    fn finish(self) -> Option<(Messages, u32)> {
        if self.deleted.is_empty() && self.added.is_empty() {
            return None;
        }
        let mut messages = Messages::new();
        messages
            .begin(BATCH_BEGIN, 0, &header(UNSPEC, NFTABLES))
            .end();
        for (kind, flags, mut elements) in [
            (DELETE_ELEMENT, 0, self.deleted),
            (NEW_ELEMENT, CREATE, self.added),
        ] {
            // Each map's elements in messages of their own; their order does not matter.
            elements.sort_by_key(|element| element.map);
            for of_map in elements.chunk_by(|one, other| one.map == other.map) {
                let mut rest = of_map;
                while !rest.is_empty() {
                    let message = messages.begin(kind, flags, &header(INET, 0));
                    message.text(1, skeleton::TABLE).text(2, rest[0].map.name());
                    let begin = message.len();
                    message.open(3);
                    while let Some((element, others)) = rest.split_first()
                        && message.len() - begin < MESSAGE
                    {
                        write_element(message, element, kind == NEW_ELEMENT);
                        rest = others;
                    }
                    message.close().end();
                }
            }
        }
        messages.acknowledge_last();
        let last = messages.last();
        messages
            .begin(BATCH_END, 0, &header(UNSPEC, NFTABLES))
            .end();
        Some((messages, last))
    }
}

fn write_element(message: &mut Messages, element: &Element, with_value: bool) {
    message.open(1).open(1).put(1, &element.key).close();
    if with_value {
        message.open(2).put(1, &element.value).close();
    }
    message.close();
}

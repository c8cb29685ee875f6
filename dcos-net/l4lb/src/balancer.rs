//! [`Balancer`]: keeps a node's data path as the cluster's tasks want it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dcos_core::time::{Time, steady};
use dcos_net::vip::{Change, Key, Listed, Refusal, Service, VipTable};
use dcos_net::{Around, Follower, Keeper, Keeping};
use dcos_wire::Told;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::dataplane::{Connections, Dataplane, DataplaneError, Reader};

/// How often it is looked whether somebody else changed the data path (as often as the original).
const REVIEW: Duration = Duration::from_secs(30);
/// Events that are taken in before the data path follows: of a storm, not each has its own change.
const BATCH: usize = 512;
/// How long a master may take to tell before the data path is filled with what is remembered: a leader that answers does so
/// sooner, and knows better.
const GRACE: Duration = Duration::from_secs(2);
/// What may wait to be taken in: what a busy master tells in the time of one large change.
pub const WAITING: usize = 4096;

/// Whom a balancer follows, and as which node.
#[derive(Debug)]
pub struct Config {
    /// What the leading master tells; see [`WAITING`].
    pub told: mpsc::Receiver<Told>,
    /// The addresses of this node.
    pub own: Vec<IpAddr>,
    /// Addresses that are nobody's VIP besides those of nodes and of masters that were asked, if anybody knows of such.
    pub reserved: Option<watch::Receiver<Reserved>>,
    /// The nodes that nobody reaches, if anybody knows.
    pub unreachable: Option<watch::Receiver<BTreeSet<IpAddr>>>,
    /// Where it is kept what VIPs are made of, for a node that starts while no master answers.
    pub memory: Option<Keeping>,
}

/// Addresses of those on whom the node depends, such as all masters and where they keep their state: a task that took
/// their connections would have the credentials that are shown there.
#[derive(Clone, Debug, Default)]
pub struct Reserved {
    /// Where they are. One that was told once stays reserved.
    pub addresses: BTreeSet<IpAddr>,
    /// How many who know of more have told nothing yet: before that, VIPs stay as an earlier process left them.
    pub awaited: usize,
    /// Whether it is not known yet which masters there are, which may be so as long as none is. VIPs stay as they were then
    /// as well, but for what is remembered together with where masters were.
    pub masters_awaited: bool,
}

/// What a balancer knows, for those who ask. Clones see the same.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) table: Arc<Mutex<VipTable>>,
    /// Nothing reads if it could not be made.
    reader: Option<Arc<Mutex<Box<dyn Reader>>>>,
    failures: Option<watch::Receiver<Failures>>,
    /// When what is known was so at last, if no master told since.
    remembered: Arc<Mutex<Option<Time>>>,
}

/// What became of connections to backends on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// The backends found dead: they are given no more, where a VIP may do without.
    pub avoided: BTreeSet<SocketAddr>,
    /// How many connections to each failed.
    pub counts: BTreeMap<SocketAddr, u64>,
    /// How many backends answered a connection of the node's own: of others none is avoided.
    pub reached: usize,
}

impl View {
    /// Every VIP.
    pub fn list(&self) -> Vec<Listed> {
        self.table().list().collect()
    }

    /// The nodes that nobody reaches.
    pub fn unreachable(&self) -> BTreeSet<IpAddr> {
        self.table().unreachable().clone()
    }

    /// What became of connections to backends, if anybody looks.
    pub fn failures(&self) -> Failures {
        let looks = |told: &&watch::Receiver<Failures>| told.has_changed().is_ok();
        let told = self.failures.as_ref().filter(looks);
        told.map(|told| told.borrow().clone()).unwrap_or_default()
    }

    /// How old what VIPs are made of is, if it is remembered: no master has told since this process began.
    pub fn remembered_for(&self) -> Option<Duration> {
        let written = *self.remembered();
        written.map(|written| steady() - written)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Option<Time>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections each backend was given.
    pub async fn connections(&self) -> Connections {
        let Some(reader) = self.reader.clone() else {
            return Connections::new();
        };
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.connections()
        });
        match read.await {
            Ok(Ok(connections)) => connections,
            Ok(Err(error)) => {
                tracing::warn!(
                    "connections are not counted: {}",
                    dcos_core::error::chain(&error)
                );
                Connections::new()
            }
            Err(_) => Connections::new(),
        }
    }

    /// Nobody panics while holding it; if somebody did, the table is whole all the same.
    fn table(&self) -> std::sync::MutexGuard<'_, VipTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A balancer that does not balance yet.
#[derive(Debug)]
pub struct Balancer<D> {
    config: Config,
    node: Node<D>,
    /// If anybody looks.
    failures: Option<watch::Receiver<Failures>>,
}

impl<D: Dataplane> Balancer<D> {
    /// One that will change this data path.
    pub fn new(config: Config, mut dataplane: D) -> Self {
        let reader = dataplane.reader().map_err(|error| {
            tracing::warn!(
                "connections are not counted: {}",
                dcos_core::error::chain(&error)
            );
        });
        let table = VipTable::new(config.own.iter().copied());
        let view = View {
            table: Arc::new(Mutex::new(table)),
            reader: reader.ok().map(|reader| Arc::new(Mutex::new(reader))),
            failures: None,
            remembered: Arc::default(),
        };
        let node = Node {
            follower: Follower::of_vips(),
            view,
            dataplane: Some(dataplane),
            state: State::Unknown,
            refused: BTreeMap::new(),
            masters: BTreeSet::new(),
            found: Vec::new(),
            is_awaiting: false,
            is_looking_up: false,
            keeper: config
                .memory
                .clone()
                .map(|memory| Keeper::new("virtual addresses", memory)),
            recalled: Recalled::default(),
        };
        Self {
            config,
            node,
            failures: None,
        }
    }

    /// Gives no connections to backends where they fail, as these say as long as anybody says it; [views](Self::view) from
    /// now on tell of it.
    pub fn avoid(&mut self, failures: watch::Receiver<Failures>) {
        self.node.view.failures = Some(failures.clone());
        self.failures = Some(failures);
    }

    /// What it knows, now and later.
    pub fn view(&self) -> View {
        self.node.view.clone()
    }

    /// Balances until `stop` is cancelled. VIPs go on working after that, as they were last.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            mut config,
            mut node,
            mut failures,
        } = self;
        let mut unreachable = config.unreachable.take();
        if let Some(nodes) = &mut unreachable {
            // Those of now count, too.
            nodes.mark_changed();
        }
        let mut reserved = config.reserved.take();
        let mut told = config.told;
        let work = async {
            if let Some(reserved) = &mut reserved {
                // Before anything is told.
                let now = reserved.borrow_and_update().clone();
                node.reserve(now).await;
            }
            let mut patience = node.recall().await.then(|| Instant::now() + GRACE);
            let mut review = interval(REVIEW);
            review.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut batch: Vec<Told> = Vec::with_capacity(BATCH);
            loop {
                let deadline = node.follower.next_deadline();
                let due = async {
                    match deadline {
                        Some(deadline) => tokio::time::sleep(deadline - steady()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    read = told.recv_many(&mut batch, BATCH) => {
                        if read == 0 {
                            return;
                        }
                        node.take_in(batch.drain(..)).await;
                    }
                    () = due => node.take_in(std::iter::empty()).await,
                    nodes = change(&mut unreachable) => {
                        node.view.table().set_unreachable(nodes);
                        node.take_in(std::iter::empty()).await;
                    }
                    now = change(&mut reserved) => node.reserve(now).await,
                    _ = review.tick() => node.review().await,
                    () = written(&mut node.keeper) => node.keep(),
                    () = until(patience) => {
                        patience = None;
                        node.recalled.is_due = true;
                        node.take_in(std::iter::empty()).await;
                    }
                    found = next_failures(&mut failures) => {
                        if found.avoided != *node.view.table().avoided() {
                            node.view.table().set_avoided(found.avoided);
                            node.take_in(std::iter::empty()).await;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
        node.finish().await;
    }
}

/// The address of a master that is not told by name.
fn address(master: &str) -> Option<IpAddr> {
    let address: Option<SocketAddr> = master.parse().ok();
    address.map(|address| address.ip())
}

/// Where connections fail from now on: nowhere, once nobody looks any more.
async fn next_failures(told: &mut Option<watch::Receiver<Failures>>) -> Failures {
    let Some(failures) = told else {
        return std::future::pending().await;
    };
    if failures.changed().await.is_ok() {
        return failures.borrow_and_update().clone();
    }
    tracing::warn!(
        "nobody looks at connections to backends any more: none that is dead is avoided"
    );
    *told = None;
    Failures::default()
}

/// What is told next; waits for ever if nobody will tell.
async fn change<T: Clone>(told: &mut Option<watch::Receiver<T>>) -> T {
    if let Some(nodes) = told
        && nodes.changed().await.is_ok()
    {
        return nodes.borrow_and_update().clone();
    }
    *told = None;
    std::future::pending().await
}

/// Waits for ever without a time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until what is being written is; for ever, if nothing is.
async fn written(keeper: &mut Option<Keeper>) {
    match keeper {
        Some(keeper) => drop(keeper.written().await),
        None => std::future::pending().await,
    }
}

/// What is known from before this process, until a master tells.
#[derive(Debug, Default)]
struct Recalled {
    /// What an earlier process led anywhere, as far as it was written down.
    services: BTreeSet<Service>,
    /// Addresses that were nobody's VIP.
    reserved: Vec<IpAddr>,
    /// Whether the data path is to be filled by it: no master told in time.
    is_due: bool,
}

/// How the data path stands to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody told of VIPs yet: those of an earlier process go on as they are.
    Unknown,
    /// What an earlier process left goes on, and services that were missing are there as far as they are remembered.
    Filled,
    /// They differ, or may.
    Differs,
    /// It has all that is in the table, and maybe more: not all is known yet.
    Has,
    /// They are the same.
    Is,
}

/// What goes with what is written down.
fn around(masters: &BTreeSet<IpAddr>) -> Around {
    Around {
        leader: None,
        addresses: masters.clone(),
    }
}

#[derive(Debug)]
struct Node<D> {
    follower: Follower,
    view: View,
    /// Elsewhere while it works.
    dataplane: Option<D>,
    state: State,
    /// Those whose refusal was told.
    refused: BTreeMap<Key, Refusal>,
    /// Where masters are, and what else is reserved: one that led stays a master, since it may lead again.
    masters: BTreeSet<IpAddr>,
    /// Those of them at which an earlier process may have left VIPs.
    found: Vec<IpAddr>,
    /// Whether somebody is to tell more of them before the data path is changed.
    is_awaiting: bool,
    /// Whether that is anybody but whoever knows of masters.
    is_looking_up: bool,
    /// Where what is known is written down.
    keeper: Option<Keeper>,
    recalled: Recalled,
}

impl<D: Dataplane> Node<D> {
    /// Begins with what an earlier process wrote down, and says whether there is anything. The data path stays as it is.
    async fn recall(&mut self) -> bool {
        let Some(keeper) = &self.keeper else {
            return false;
        };
        let Some((known, age)) = keeper.read().await else {
            return false;
        };
        let now = steady();
        *self.view.remembered() = Some(now - age);
        let mut table = self.view.table.lock();
        let table = table
            .as_deref_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        self.recalled.reserved = known.around.addresses.iter().copied().collect();
        for ip in &self.recalled.reserved {
            table.reserve(*ip);
        }
        self.follower.recall(now, *known, table);
        table.take_changes();
        self.recalled.services = table.told().keys().copied().collect();
        true
    }

    /// Adds the services that are remembered and missing. Those that are there an earlier process led where they go when it
    /// ended, which may have known better than what is written down: until a leader tells, they go on, less what is dead.
    async fn fill(&mut self) {
        let told: BTreeSet<Service> = self.view.table().told().keys().copied().collect();
        let found = self
            .with_dataplane(move |dataplane| dataplane.adopt(&told))
            .await;
        // As long as that is not known nothing is changed.
        let Some(found) = found else { return };
        let changes: Vec<Change> = {
            let mut table = self.view.table();
            table.adopt(found.clone());
            table.take_changes();
            let services = table.told().iter();
            let missing = services.filter(|(service, now)| found.get(service) != Some(now));
            let missing = missing.map(|(service, now)| (*service, Some(now.clone())));
            missing.collect()
        };
        let count = changes.len();
        let filled = self
            .with_dataplane(move |dataplane| {
                if changes.is_empty() {
                    return Ok(());
                }
                dataplane.apply(&changes)
            })
            .await;
        self.state = match filled {
            Some(()) => {
                tracing::info!(
                    services = count,
                    "no master tells of virtual addresses: those that were missing are as they are remembered"
                );
                State::Filled
            }
            None => State::Differs,
        };
    }

    /// Whether the data path is to be filled now.
    fn is_to_fill(&self) -> bool {
        !self.follower.is_begun()
            && self.recalled.is_due
            && !self.is_looking_up
            && self.state == State::Unknown
    }

    /// Writes down what is known, if a master told it.
    fn keep(&mut self) {
        let is_told = self.follower.is_begun() && !self.is_awaiting;
        if let Some(keeper) = self.keeper.as_mut().filter(|_| is_told) {
            keeper.keep(&around(&self.masters), &mut self.follower);
        }
    }

    async fn finish(&mut self) {
        let is_told = self.follower.is_begun() && !self.is_awaiting;
        if let Some(keeper) = self.keeper.as_mut().filter(|_| is_told) {
            let around = around(&self.masters);
            let follower = &mut self.follower;
            keeper.finish(|keeper| keeper.keep(&around, follower)).await;
        }
    }

    /// Keeps VIPs from these addresses.
    async fn reserve(&mut self, reserved: Reserved) {
        let all = reserved.addresses.into_iter();
        let new: Vec<IpAddr> = all.filter(|ip| self.masters.insert(*ip)).collect();
        {
            let mut table = self.view.table();
            for ip in &new {
                table.reserve(*ip);
            }
        }
        self.found.extend(new);
        self.is_looking_up = reserved.awaited > 0;
        self.is_awaiting = self.is_looking_up || reserved.masters_awaited;
        self.take_in(std::iter::empty()).await;
    }

    async fn take_in(&mut self, told: impl Iterator<Item = Told>) {
        let mut heeded = Vec::new();
        let (changes, refused) = {
            let mut table = self
                .view
                .table
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let now: Time = steady();
            for told in told {
                match told {
                    Told::Asked(addresses, heed) => {
                        let new = addresses.iter().filter(|ip| self.masters.insert(**ip));
                        self.found
                            .extend(new.inspect(|ip| table.reserve(**ip)).copied());
                        heeded.push(heed);
                    }
                    Told::Leader(leader) => {
                        if let Some(ip) = address(&leader).filter(|ip| self.masters.insert(*ip)) {
                            table.reserve(ip);
                        }
                    }
                    Told::Event(event) => self.follower.apply(now, &event, &mut *table),
                }
            }
            self.follower.poll(now, &mut *table);
            if self.follower.is_begun() {
                *self.view.remembered() = None;
                if !self.is_awaiting {
                    table.forget();
                    for ip in self.recalled.reserved.drain(..) {
                        table.release(ip);
                    }
                }
            }
            (table.take_changes(), table.refused().clone())
        };
        for (key, why) in &refused {
            if self.refused.get(key) != Some(why) {
                let (host, port) = (&key.host, key.port);
                tracing::warn!(?host, port, %why, "a task claims a virtual address that it cannot have");
            }
        }
        self.refused = refused;
        for (service, backends) in &changes {
            let backends = backends.as_deref();
            tracing::info!(%service, ?backends, "a virtual address changed");
        }
        if matches!(self.state, State::Filled | State::Has | State::Is) && !changes.is_empty() {
            let applied = if self.may_change() {
                self.with_dataplane(move |dataplane| dataplane.apply(&changes))
                    .await
            } else {
                None
            };
            if applied.is_none() {
                self.state = State::Differs;
            }
        }
        if self.state == State::Is {
            self.found.clear();
        }
        if !self.found.is_empty() {
            // What an earlier process left there is in no table.
            let found = self.found.clone();
            let withdrawn = self
                .with_dataplane(move |dataplane| dataplane.withdraw(&found))
                .await;
            if withdrawn.is_some() {
                self.found.clear();
            }
        }
        drop(heeded);
        if self.may_change() && self.state != State::Is && self.state != self.wanted() {
            self.reconcile().await;
        }
        if self.is_to_fill() {
            self.fill().await;
        }
        self.keep();
    }

    /// Whether enough is known for all that is.
    fn may_change(&self) -> bool {
        if self.follower.is_begun() {
            !self.is_awaiting
        } else {
            self.state != State::Unknown
        }
    }

    /// How the data path is to stand.
    fn wanted(&self) -> State {
        if self.follower.is_complete() {
            State::Is
        } else if self.follower.is_begun() {
            State::Has
        } else {
            State::Filled
        }
    }

    /// Puts right what somebody else changed, or what failed before.
    async fn review(&mut self) {
        if !self.found.is_empty() || self.is_to_fill() {
            self.take_in(std::iter::empty()).await;
        }
        // Though nothing happens, it is noted that it is so.
        self.keep();
        if !self.may_change() {
            return;
        }
        let untouched = self.with_dataplane(Dataplane::is_untouched).await;
        if untouched != Some(true) || self.state == State::Differs {
            self.reconcile().await;
        }
    }

    async fn reconcile(&mut self) {
        let strict = self.follower.is_complete();
        let (state, services) = (self.wanted(), self.view.table().told().clone());
        // What was there before and ended, while what else an earlier process left is not known to be anybody's.
        let ended: BTreeSet<Service> = self
            .recalled
            .services
            .iter()
            .filter(|service| !strict && !services.contains_key(service))
            .copied()
            .collect();
        let repaired = self
            .with_dataplane(move |dataplane| {
                if !ended.is_empty() {
                    let left = dataplane.adopt(&ended)?;
                    let gone = left.into_keys().map(|service| (service, None));
                    dataplane.apply(&gone.collect::<Vec<Change>>())?;
                }
                dataplane.reconcile(&services, strict)
            })
            .await;
        self.state = match repaired {
            Some(repairs) => {
                if repairs != crate::Repairs::default() {
                    let (services, strangers) = (repairs.services, repairs.strangers);
                    tracing::info!(services, strangers, "virtual addresses put right");
                }
                if self.follower.is_begun() {
                    self.recalled = Recalled {
                        reserved: std::mem::take(&mut self.recalled.reserved),
                        ..Recalled::default()
                    };
                }
                state
            }
            None => State::Differs,
        };
    }

    /// Works with the data path where blocking is no harm; `None` if that failed.
    async fn with_dataplane<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut D) -> Result<T, DataplaneError> + Send + 'static,
    ) -> Option<T> {
        let mut dataplane = self.dataplane.take()?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut dataplane);
            (dataplane, done)
        });
        let (dataplane, done) = match worked.await {
            Ok(worked) => worked,
            Err(error) => match error.try_into_panic() {
                // Nobody would ever put right what is there: whoever waits for this task must know.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return None,
            },
        };
        self.dataplane = Some(dataplane);
        done.map_err(|error| {
            tracing::warn!("virtual addresses: {}", dcos_core::error::chain(&error))
        })
        .ok()
    }
}

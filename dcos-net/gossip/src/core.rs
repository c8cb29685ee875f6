//! [`Core`]: decides what is sent to whom, and who is there.
//!
//! Failure detection is SWIM as `foca` has it (Das, Gupta, Motivala 2002, with suspicion and
//! incarnations). Around it stand three things of ours: packets are sealed and numbered, members
//! carry [records](crate::record), and what somebody missed is made good by comparing notes
//! (`core/sync.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use foca::{Foca, OwnedNotification, Timer};

use crate::codec::Codec;
use crate::id::{Id, LAST, Malformed, plain, read_u48, write_u48};
use crate::keys::{Keyring, SEAL};
use crate::letter::{HEAD, Kind, Letter, head};
use crate::membership::{About, Member, Members, Presence};
use crate::record::{Heard, Record, TooLarge};
use crate::window::Window;

mod swim;
mod sync;

use swim::Draws;

/// The largest packet, in bytes: what every IPv6 network carries whole (1280), less its headers.
pub const PACKET: usize = 1232;

/// How long whoever is said to be dead, and was suspected by nobody, may take to show a new life: when
/// a partition heals everybody is told of deaths that were none.
const GRACE: Duration = Duration::from_secs(3);
/// For how long a suspicion explains a death. The longest that members may take to contradict.
const SUSPICION: Duration = Duration::from_secs(10);
/// How long who left may take to come back: an agent that is upgraded.
const RETURN: Duration = Duration::from_secs(60);
/// How often notes are compared with somebody, more or less.
const SYNC: Duration = Duration::from_secs(10);
/// How long to wait for an answer of those who know the others, at first and at last.
const JOIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How often a seed that is no member is asked: two clusters that begin apart become one.
const REJOIN: Duration = Duration::from_secs(30);
/// Who is called later than this was kept from working, and blames nobody for what was not answered.
const STALL: Duration = Duration::from_secs(1);
/// How often one address is told of a later life at most: old packets that are played again bring
/// it no more than that.
const CORRECTED: Duration = Duration::from_secs(1);
/// Senders whose packets are told apart; more there are in no cluster.
const SENDERS: usize = 65_536;

/// Who a member is, and where it finds others.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where others reach it.
    pub address: SocketAddr,
    /// What it says of itself.
    pub about: About,
    /// Members that are there, as an operator says. Its own address among them is passed over.
    pub seeds: Vec<SocketAddr>,
    /// Members of an earlier life, asked while no other answers.
    pub remembered: Vec<SocketAddr>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What; at most [`PACKET`] bytes.
        packet: Vec<u8>,
    },
    /// Show this list: it differs from the last.
    Members(Arc<Members>),
}

/// What came and went, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets sent.
    pub sent: u64,
    /// Their bytes, without headers of UDP and below.
    pub sent_bytes: u64,
    /// Packets of members.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets that none of our keys opens, of other versions, or too large: nothing was done.
    pub strangers: u64,
    /// Packets of somebody with a key that say nothing we understand.
    pub malformed: u64,
    /// Packets that came before, or much too late.
    pub replayed: u64,
    /// Packets of a life that is over.
    pub outdated: u64,
    /// Packets of somebody who has our own address.
    pub impostors: u64,
}

/// One member's view of the cluster.
///
/// Call [`handle`](Self::handle) with each datagram, then [`poll`](Self::poll) until it returns
/// nothing; again at [`next_deadline`](Self::next_deadline). Time never goes back. Who is called
/// much later than it asked takes it that its process was kept from working: its deadlines move by
/// as much, since nobody can be blamed for answers that nobody read.
pub struct Core {
    swim: Foca<Id, Codec, Draws, Heard>,
    heard: mpsc::Receiver<Record>,
    suspects: mpsc::Receiver<Id>,
    keyring: Keyring,
    nonces: Seed,
    picks: Seed,
    due: BTreeMap<(Time, u64), Due>,
    scheduled: u64,
    sent: u64,
    windows: BTreeMap<SocketAddr, Window>,
    /// Who was told of a later life, and when.
    corrected: BTreeMap<SocketAddr, Time>,
    entries: BTreeMap<SocketAddr, Entry>,
    records: BTreeMap<SocketAddr, Record>,
    own: Record,
    seeds: Vec<SocketAddr>,
    remembered: Vec<SocketAddr>,
    /// When it looks for others, and how long it waits then.
    joins: Time,
    pause: Duration,
    is_connected: bool,
    has_left: bool,
    is_news: bool,
    actions: VecDeque<Action>,
    counters: Counters,
}

#[derive(Debug)]
enum Due {
    Swim(Timer<Id>),
    /// Look for others.
    Join,
    /// Compare notes with somebody.
    Sync,
    /// Have one of those who took us in tell all it knows.
    Greet,
    /// See whether this member is dead by now.
    Death(SocketAddr),
}

/// What is known of a member; foca knows the same of it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    life: u64,
    /// SWIM has it as down.
    is_down: bool,
    presence: Presence,
    since: Time,
    /// When it went down, if it is.
    fell: Time,
    /// When it counts as dead, if it is down.
    dies: Time,
    /// When somebody suspected it last.
    suspected: Time,
}

impl Core {
    /// A member that knows nobody yet. Two processes never get the same `seed`; `now` is the time of
    /// day, so that a later life is a later one.
    ///
    /// # Errors
    /// If what it says of itself fits in no packet.
    pub fn new(config: Config, keyring: Keyring, seed: &Seed, now: Time) -> Result<Self, TooLarge> {
        config.about.check()?;
        let life = now.as_millis().min(LAST);
        let address = plain(config.address);
        let own = Record {
            address,
            version: life,
            leaving: false,
            about: Arc::new(config.about),
        };
        let (hears, heard) = Heard::new();
        let (codec, suspects) = Codec::new();
        let swim = Foca::with_custom_broadcast(
            Id { address, life },
            swim::settings(1),
            Draws(seed.stream("swim")),
            codec,
            hears,
        );
        let mut core = Self {
            swim,
            heard,
            suspects,
            keyring,
            nonces: seed.stream("nonces"),
            picks: seed.stream("picks"),
            due: BTreeMap::new(),
            scheduled: 0,
            sent: 0,
            windows: BTreeMap::new(),
            corrected: BTreeMap::new(),
            entries: BTreeMap::new(),
            records: BTreeMap::new(),
            own,
            seeds: config.seeds,
            remembered: config.remembered,
            joins: now,
            pause: JOIN.0,
            is_connected: false,
            has_left: false,
            is_news: true,
            actions: VecDeque::new(),
            counters: Counters::default(),
        };
        core.publish();
        core.schedule(now, Due::Join);
        let first = core.about_every(SYNC);
        core.schedule(now + first, Due::Sync);
        Ok(core)
    }

    /// Takes in a datagram, whoever sent it.
    pub fn handle(&mut self, now: Time, packet: &[u8]) {
        if self.has_left {
            return;
        }
        let opened = (packet.len() <= PACKET).then(|| self.keyring.open(packet));
        let Some(opened) = opened.flatten() else {
            self.counters.strangers += 1;
            return;
        };
        let Ok(letter) = Letter::read(&opened) else {
            self.counters.malformed += 1;
            return;
        };
        if !self.admit(now, &letter) {
            return;
        }
        self.counters.received += 1;
        self.counters.received_bytes += packet.len() as u64;
        if self.read(now, &letter).is_err() {
            self.counters.malformed += 1;
        }
    }

    /// What to do next, or nothing until the next datagram or deadline.
    pub fn poll(&mut self, now: Time) -> Option<Action> {
        self.forgive(now);
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            let first = self.due.first_key_value().map(|(at, _)| *at);
            if let Some(at) = first.filter(|(at, _)| at.is_due(now)) {
                let due = self.due.remove(&at).expect("it is the first");
                self.run(now, due);
                continue;
            }
            if !std::mem::take(&mut self.is_news) {
                return None;
            }
            let members = Arc::new(self.members(now));
            self.actions.push_back(Action::Members(members));
        }
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Replaces the seeds.
    pub fn set_seeds(&mut self, now: Time, seeds: Vec<SocketAddr>) {
        if self.seeds != seeds {
            self.seeds = seeds;
            if !self.is_connected {
                self.hurry(now);
            }
        }
    }

    /// Replaces the keys.
    pub fn set_keyring(&mut self, keyring: Keyring) {
        self.keyring = keyring;
    }

    /// Says something else of this member.
    ///
    /// # Errors
    /// If no packet holds it; what was said before stands.
    pub fn set_about(&mut self, now: Time, about: About) -> Result<(), TooLarge> {
        about.check()?;
        self.own.about = Arc::new(about);
        self.own.version = now.as_millis().max(self.own.version + 1).min(LAST);
        self.publish();
        Ok(())
    }

    /// Tells some of the others that this member ends and may be back soon; takes in nothing more.
    pub fn leave(&mut self, now: Time) {
        self.own.leaving = true;
        self.own.version = now.as_millis().max(self.own.version + 1).min(LAST);
        self.publish();
        // What cannot be said to anybody need not be.
        let _ = self.swim(now, |swim, effects| swim.leave_cluster(effects));
        self.has_left = true;
        self.due.clear();
    }

    /// What came and went.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Where this member is reached.
    pub fn address(&self) -> SocketAddr {
        self.own.address
    }

    /// Whether the sender and number of a packet are ones to hear.
    fn admit(&mut self, now: Time, letter: &Letter<'_>) -> bool {
        let Id { address, life } = letter.from;
        if address == self.own.address {
            self.counters.impostors += 1;
            return false;
        }
        let window = self.windows.get(&address).map_or(0, |window| window.life);
        let entry = self.entries.get(&address).map_or(0, |entry| entry.life);
        let known = window.max(entry);
        if life < known {
            self.counters.outdated += 1;
            let last = self.corrected.get(&address);
            if last.is_none_or(|last| (*last + CORRECTED).is_due(now)) {
                self.corrected.insert(address, now);
                let mut body = Vec::new();
                write_u48(known, &mut body);
                self.tell(Kind::Outdated, letter.from, &body);
            }
            return false;
        }
        let is_full = self.windows.len() >= SENDERS;
        let fresh = match self.windows.get_mut(&address) {
            Some(window) if window.life == life => window.take(letter.number),
            None if is_full => false,
            _ => {
                self.windows
                    .insert(address, Window::new(life, letter.number));
                true
            }
        };
        self.counters.replayed += u64::from(!fresh);
        fresh
    }

    fn read(&mut self, now: Time, letter: &Letter<'_>) -> Result<(), Malformed> {
        if letter.kind == Kind::Swim {
            return self.swim(now, |swim, effects| swim.handle_data(letter.swim, effects));
        }
        if letter.to != *self.swim.identity() {
            return Ok(());
        }
        if letter.kind == Kind::Outdated {
            let known = read_u48(&mut &*letter.body)?;
            return self.outlive(now, known);
        }
        let tells = matches!(letter.kind, Kind::Digest | Kind::Records);
        let known = self.entries.get(&letter.from.address);
        if tells && known.is_none_or(|entry| entry.is_down || entry.life != letter.from.life) {
            // As in SWIM: who is dead may be wrong about others, too.
            return Ok(());
        }
        self.compare(now, letter)
    }

    fn run(&mut self, now: Time, due: Due) {
        match due {
            Due::Swim(timer) => {
                // It says so when a timer came late; it has gone on from there.
                let _ = self.swim(now, |swim, effects| swim.handle_timer(timer, effects));
            }
            Due::Join => {
                if !self.joins.is_due(now) {
                    return;
                }
                let pause = if self.is_connected {
                    self.pause = JOIN.0;
                    REJOIN
                } else {
                    let pause = self.pause;
                    self.pause = (pause * 2).min(JOIN.1);
                    pause
                };
                self.join(now);
                self.joins = now + self.about_every(pause);
                self.schedule(self.joins, Due::Join);
            }
            Due::Sync => {
                self.records
                    .retain(|address, _| self.entries.contains_key(address));
                self.corrected
                    .retain(|_, last| !(*last + CORRECTED).is_due(now));
                if self.windows.len() >= SENDERS {
                    // Those whom SWIM forgot: an old packet of theirs is a question at most.
                    self.windows
                        .retain(|address, _| self.entries.contains_key(address));
                }
                self.greet(now);
                let pause = self.about_every(SYNC);
                self.schedule(now + pause, Due::Sync);
            }
            Due::Greet => self.ask_all(),
            Due::Death(address) => {
                if let Some(entry) = self.entries.get_mut(&address)
                    && entry.is_down
                    && entry.presence != Presence::Dead
                    && entry.dies.is_due(now)
                {
                    entry.presence = Presence::Dead;
                    entry.since = now;
                    self.is_news = true;
                }
            }
        }
    }

    /// Looks for others at once: those who know it know a life that is over.
    fn hurry(&mut self, now: Time) {
        self.pause = JOIN.0;
        self.joins = now;
        self.schedule(now, Due::Join);
    }

    /// Looks for others where some should be.
    fn join(&mut self, now: Time) {
        let (own, entries) = (self.own.address, &self.entries);
        let is_there = |address: &SocketAddr| {
            let entry = entries.get(address);
            *address == own || entry.is_some_and(|entry| !entry.is_down)
        };
        let mut asked: Vec<SocketAddr> = self.seeds.iter().map(|seed| plain(*seed)).collect();
        if self.is_connected {
            asked.retain(|address| !is_there(address));
            let one = self.picks.pick(&asked).copied();
            asked = one.into_iter().collect();
        } else {
            // Those who would know us are not there: whoever was there before may be.
            let mut others: Vec<SocketAddr> = self.remembered.clone();
            others.extend(self.entries.keys());
            self.picks.shuffle(&mut others);
            asked.extend(others.into_iter().take(3).map(plain));
            asked.retain(|address| *address != own);
            asked.sort_unstable();
            asked.dedup();
        }
        for address in asked {
            let _ = self.swim(now, |swim, effects| {
                swim.announce(Id { address, life: 0 }, effects)
            });
        }
    }

    /// Takes up a life later than what others know of one at this address: before a restart the
    /// clock was ahead.
    fn outlive(&mut self, now: Time, known: u64) -> Result<(), Malformed> {
        let own = *self.swim.identity();
        if known < own.life || known >= LAST || self.has_left {
            return Ok(());
        }
        let life = known + 1;
        self.is_connected = false;
        self.swim(now, |swim, effects| {
            swim.change_identity(Id { life, ..own }, effects)
        })?;
        self.publish();
        self.hurry(now);
        Ok(())
    }

    /// Has foca tell others of what this member says of itself.
    fn publish(&mut self) {
        let mut words = Vec::new();
        self.own.write(&mut words);
        // Its length was checked, and nothing of this version was said before.
        let _ = self.swim.add_broadcast(&words);
        self.is_news = true;
    }

    /// Takes in a member's words, if they are its latest.
    fn hear(&mut self, now: Time, record: Record) {
        if record.address == self.own.address {
            if record.version > self.own.version {
                // Said by an earlier life whose clock was ahead.
                self.own.version = (record.version + 1).min(LAST);
                self.publish();
            }
            return;
        }
        let known = self.records.get(&record.address);
        if known.is_some_and(|known| known.version >= record.version) {
            return;
        }
        let (address, leaving) = (record.address, record.leaving);
        self.records.insert(address, record);
        self.is_news = true;
        let entry = self.entries.get(&address);
        // Who is new hears of a death first, and of the words before it a little later.
        let returns = |entry: &Entry| match entry.presence {
            Presence::Alive => entry.is_down,
            Presence::Left => false,
            Presence::Dead => !(entry.fell + RETURN).is_due(now),
        };
        if leaving && entry.is_some_and(returns) {
            self.fall(now, address);
        }
    }

    /// A member is down: it left, or is dead once nothing contradicts.
    fn fall(&mut self, now: Time, address: SocketAddr) {
        let leaves = self.records.get(&address).is_some_and(|said| said.leaving);
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        let was_suspected = !(entry.suspected + SUSPICION).is_due(now);
        entry.dies = match (leaves, was_suspected) {
            (true, _) => (entry.fell + RETURN).max(now),
            (false, true) => now,
            (false, false) => now + GRACE,
        };
        let dies = entry.dies;
        if leaves && entry.presence != Presence::Left {
            entry.presence = Presence::Left;
            entry.since = now;
            self.is_news = true;
        }
        self.schedule(dies, Due::Death(address));
    }

    fn members(&self, now: Time) -> Members {
        let others = self.entries.iter().map(|(address, entry)| {
            let record = self.records.get(address);
            Member {
                address: *address,
                presence: entry.presence,
                since: entry.since,
                about: record.map(|record| Arc::clone(&record.about)),
                updated: record.map_or(Time::EPOCH, |record| Time::from_millis(record.version)),
            }
        });
        let life = self.swim.identity().life;
        let own = Member {
            address: self.own.address,
            presence: Presence::Alive,
            since: Time::from_millis(life).min(now),
            about: Some(Arc::clone(&self.own.about)),
            updated: Time::from_millis(self.own.version),
        };
        // Of this address, others may know earlier lives.
        let all = others.chain([own]);
        all.map(|member| (member.address, member)).collect()
    }

    /// Sends a letter of ours.
    fn tell(&mut self, kind: Kind, to: Id, body: &[u8]) {
        let mut rest = Vec::with_capacity(PACKET);
        self.swim.identity().write(&mut rest);
        to.write(&mut rest);
        rest.extend(body);
        self.post(kind, to.address, &rest);
    }

    /// Numbers, seals and sends.
    fn post(&mut self, kind: Kind, to: SocketAddr, rest: &[u8]) {
        self.sent += 1;
        let mut plain = head(kind, self.sent);
        plain.extend(rest);
        let mut nonce = [0; 12];
        for word in nonce.chunks_mut(8) {
            word.copy_from_slice(&self.nonces.next_u64().to_be_bytes()[..word.len()]);
        }
        let packet = self.keyring.seal(nonce, &plain);
        debug_assert!(packet.len() <= PACKET, "{kind:?} has {}", packet.len());
        self.counters.sent += 1;
        self.counters.sent_bytes += packet.len() as u64;
        self.actions.push_back(Action::Send { to, packet });
    }

    fn schedule(&mut self, at: Time, due: Due) {
        self.scheduled += 1;
        self.due.insert((at, self.scheduled), due);
    }

    /// A time of about that length, so that not everybody does everything at once.
    fn about_every(&mut self, time: Duration) -> Duration {
        time.mul_f64(0.75 + self.picks.unit() / 2.0)
    }

    /// Moves all deadlines if this process was kept from working.
    fn forgive(&mut self, now: Time) {
        let late = self.next_deadline().map_or(Duration::ZERO, |at| now - at);
        if late < STALL {
            return;
        }
        let all = std::mem::take(&mut self.due).into_iter();
        self.due = all
            .map(|((at, order), due)| ((at + late, order), due))
            .collect();
    }
}

impl From<foca::Error> for Malformed {
    fn from(_: foca::Error) -> Self {
        Self
    }
}

/// The largest message of SWIM.
const SWIM: usize = PACKET - SEAL - HEAD;
/// What is left of a packet behind the addresses of sender and receiver.
const BODY: usize = SWIM - 2 * 25;

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("id", self.swim.identity())
            .field("members", &self.entries.len())
            .finish_non_exhaustive()
    }
}

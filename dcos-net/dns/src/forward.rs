//! [`Forwarder`]: asks those who know the rest of the names.
//!
//! Of up to two resolvers all are asked, of more the two that failed least; the first answer wins
//! ("dual dispatch", dcos-net `dcos_dns_handler`). Packets pass through unread but for their id,
//! which is drawn anew for each hop so that answers are hard to forge. A question that is on its way already waits
//! for that answer ([`Flights`]), and one that was answered lately has its answer ([`Cache`]).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::{Cache, Memory, is_usable};
use crate::flights::{Flight, Flights};
use crate::metrics::Fared;
use crate::question::{Key, Question};
use crate::resolvers::{All, Resolver, Resolvers, all};
use crate::shares::{Share, Shares};

/// With something out of date at hand nobody is waited for longer (RFC 8767, 5).
const PATIENCE: Duration = Duration::from_millis(1800);

/// How many may wait for each question that may be in flight: clients ask again, and many ask the same.
const WAITING: usize = 8;

/// Knows whom to ask, and how they fared.
#[derive(Debug)]
pub(crate) struct Forwarder {
    zones: BTreeMap<String, (All, Account)>,
    others: Resolvers,
    /// Of questions that are of none of the zones.
    rest: Account,
    timeout: Duration,
    flights: Flights,
    /// Room for questions in flight, and for those who wait.
    room: Shares,
    waiting: Shares,
    /// Flights that go on when nobody waits, and when they end.
    late: TaskTracker,
    end: CancellationToken,
    cache: Mutex<Cache>,
    /// How often nobody had to be asked, and how often nobody could be.
    recalled: AtomicU64,
    outdated: AtomicU64,
}

/// What belongs to a zone.
#[derive(Debug, Default)]
struct Account {
    /// Its number among those who share room.
    number: usize,
    /// How its questions fared.
    fared: Fared,
}

impl Forwarder {
    /// So many questions may be in flight, of which no zone takes what the others need to go on.
    pub(crate) fn new(
        others: Resolvers,
        zones: &BTreeMap<String, Vec<SocketAddr>>,
        timeout: Duration,
        cache: usize,
        flights: usize,
    ) -> Self {
        let zone = |(number, (zone, addresses)): (usize, (&String, &Vec<SocketAddr>))| {
            let zone = format!("{}.", zone.trim_matches('.').to_ascii_lowercase());
            let fared = Fared::default();
            (zone, (all(addresses), Account { number, fared }))
        };
        let users = zones.len() + 1;
        Self {
            zones: zones.iter().enumerate().map(zone).collect(),
            others,
            rest: Account {
                number: zones.len(),
                fared: Fared::default(),
            },
            timeout,
            flights: Flights::default(),
            room: Shares::new(flights, users),
            waiting: Shares::new(flights.saturating_mul(WAITING), users),
            late: TaskTracker::new(),
            end: CancellationToken::new(),
            cache: Mutex::new(Cache::new(cache)),
            recalled: AtomicU64::new(0),
            outdated: AtomicU64::new(0),
        }
    }

    /// Whether there is anybody to ask about `name`.
    pub(crate) fn knows_whom_to_ask(&self, name: &str) -> bool {
        !self.resolvers(name).is_empty()
    }

    /// What was answered before, while that is good, or nobody could be asked a moment ago; ready to be sent back.
    pub(crate) fn recall(&self, question: &Question) -> Option<Vec<u8>> {
        let resolvers = self.resolvers(&question.name);
        let known = self
            .cache()
            .recall(&question.key, &resolvers, Instant::now());
        let (mut answer, count) = match known {
            Memory::Fresh(answer) => (answer, &self.recalled),
            Memory::Resigned(answer) => (answer, &self.outdated),
            Memory::Stale(_) | Memory::Nothing => return None,
        };
        count.fetch_add(1, Ordering::Relaxed);
        *answer.first_chunk_mut()? = question.id;
        Some(answer)
    }

    /// The answer of the first resolver that has one, ready to be sent back; or one of before, if nobody answers. What
    /// is still good is to be [recalled](Self::recall) instead. The question is in flight as soon as this returns, so that who
    /// asks the same later joins it, whatever is polled first; unless too many are, or too many wait.
    pub(crate) fn ask(
        self: &Arc<Self>,
        question: Question,
    ) -> impl Future<Output = Option<Vec<u8>>> + use<> {
        let resolvers = self.resolvers(&question.name);
        let known = self
            .cache()
            .recall(&question.key, &resolvers, Instant::now());
        let outdated = match known {
            Memory::Fresh(answer) | Memory::Stale(answer) | Memory::Resigned(answer) => answer,
            Memory::Nothing => Vec::new(),
        };
        let (_, account) = self.whom(&question.name);
        let place = self.waiting.take(account.number);
        let flight = place.and_then(|place| {
            let flight = self.join(question.key.clone(), resolvers, account.number);
            Some((place, flight?))
        });
        let forwarder = Arc::clone(self);
        async move {
            let mut answer = match flight {
                Some((_place, flight)) => forwarder.wait(&question, flight, outdated).await?,
                None => forwarder.turn_away(&question, outdated)?,
            };
            *answer.first_chunk_mut()? = question.id;
            Some(answer)
        }
    }

    /// Has a question asked, if there is room, or waits with those who asked it.
    fn join(self: &Arc<Self>, question: Key, resolvers: All, number: usize) -> Option<Flight> {
        self.flights.join(question.clone(), || {
            let place: Share = self.room.take(number)?;
            let forwarder = Arc::clone(self);
            Some(async move {
                let _place = place;
                let answer = forwarder.fetch(&question, &resolvers).await?;
                let now = Instant::now();
                forwarder.cache().note(question, &answer, &resolvers, now);
                Some(answer)
            })
        })
    }

    /// What a question's flight brings; in need what is `outdated`, if there is such.
    async fn wait(
        &self,
        question: &Question,
        flight: Flight,
        outdated: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let begin = Instant::now();
        let answer = if outdated.is_empty() {
            flight.await
        } else if let Ok(answer) = timeout(PATIENCE, flight.clone()).await {
            answer
        } else {
            // Who asks next may have the answer.
            if self.flights.keep(&question.key) {
                let end = self.end.clone();
                self.late.spawn(end.run_until_cancelled_owned(flight));
            }
            None
        };
        let (_, account) = self.whom(&question.name);
        account.fared.note(begin.elapsed(), answer.is_some());
        match answer {
            Some(answer) if outdated.is_empty() || is_usable(&answer) => Some(answer.to_vec()),
            _ if outdated.is_empty() => None,
            _ => {
                self.outdated.fetch_add(1, Ordering::Relaxed);
                self.cache().note_failure(&question.key, Instant::now());
                Some(outdated)
            }
        }
    }

    /// What there is for whom nobody can be asked.
    fn turn_away(&self, question: &Question, outdated: Vec<u8>) -> Option<Vec<u8>> {
        tracing::debug!(name = %question.name, "too many forwarded queries in flight");
        let (_, account) = self.whom(&question.name);
        account.fared.note_turned_away();
        if outdated.is_empty() {
            return None;
        }
        self.outdated.fetch_add(1, Ordering::Relaxed);
        Some(outdated)
    }

    /// Ends what goes on though nobody waits.
    pub(crate) async fn end(&self) {
        self.end.cancel();
        self.late.close();
        self.late.wait().await;
    }

    /// Nobody panics while holding it; if somebody did, it is whole all the same.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers are remembered, how often one was given, and how often one that is out of date.
    pub(crate) fn remembered(&self) -> [u64; 3] {
        let entries = u64::try_from(self.cache().len()).unwrap_or(u64::MAX);
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        [entries, read(&self.recalled), read(&self.outdated)]
    }

    async fn fetch(&self, question: &Key, resolvers: &All) -> Option<Vec<u8>> {
        let mut candidates: Vec<&Resolver> = resolvers.iter().collect();
        // The sort is stable, so the turn decides among those that failed equally often.
        let turn = usize::from(random_id()) % candidates.len().max(1);
        candidates.rotate_left(turn);
        candidates.sort_by_key(|resolver| resolver.failures());
        let mut candidates = candidates.into_iter();
        match (candidates.next(), candidates.next()) {
            (Some(one), Some(other)) => {
                let (one, other) = (self.ask_one(one, question), self.ask_one(other, question));
                first(one, other).await
            }
            (Some(only), None) => self.ask_one(only, question).await,
            (None, _) => None,
        }
    }

    /// Those who are asked about names that are of no zone with resolvers of its own.
    pub(crate) fn others(&self) -> Vec<SocketAddr> {
        let others = self.others.now();
        others.iter().map(|resolver| resolver.address).collect()
    }

    /// How questions fared, by zone.
    pub(crate) fn fared(&self) -> impl Iterator<Item = (&str, &Fared)> {
        let zones = self.zones.iter();
        let zones = zones.map(|(zone, (_, account))| (&**zone, &account.fared));
        zones.chain([(".", &self.rest.fared)])
    }

    /// How often each resolver did not answer; one that several zones have counts for all of them.
    pub(crate) fn failures(&self) -> BTreeMap<SocketAddr, u64> {
        let others = self.others.now();
        let of_zones = self.zones.values().map(|(resolvers, _)| resolvers);
        let mut failures = BTreeMap::new();
        for resolver in of_zones.chain([&others]).flat_map(|all| all.iter()) {
            *failures.entry(resolver.address).or_default() += resolver.failures();
        }
        failures
    }

    fn resolvers(&self, name: &str) -> All {
        let (zone, _) = self.whom(name);
        zone.map_or_else(|| self.others.now(), Arc::clone)
    }

    /// Who is asked about a name, unless it is whoever is asked about all others.
    fn whom(&self, name: &str) -> (Option<&All>, &Account) {
        let mut suffix = name;
        loop {
            if let Some((resolvers, account)) = self.zones.get(suffix) {
                return (Some(resolvers), account);
            }
            match suffix.split_once('.') {
                Some((_, parent)) if !parent.is_empty() => suffix = parent,
                _ => return (None, &self.rest),
            }
        }
    }

    async fn ask_one(&self, resolver: &Resolver, (tcp, query): &Key) -> Option<Vec<u8>> {
        let packet = [&random_id().to_be_bytes(), query.as_slice()].concat();
        let exchange = async {
            if *tcp {
                over_tcp(resolver.address, &packet).await
            } else {
                over_udp(resolver.address, &packet).await
            }
        };
        let failure = match timeout(self.timeout, exchange).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        resolver.failed();
        tracing::debug!(resolver = %resolver.address, error = %failure, "a resolver did not answer");
        None
    }
}

/// The sooner answer that is not a server failure; else whatever answer there is.
async fn first(
    one: impl Future<Output = Option<Vec<u8>>>,
    other: impl Future<Output = Option<Vec<u8>>>,
) -> Option<Vec<u8>> {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    tokio::select! {
        answer = &mut one => settle(answer, other).await,
        answer = &mut other => settle(answer, one).await,
    }
}

async fn settle(
    sooner: Option<Vec<u8>>,
    later: impl Future<Output = Option<Vec<u8>>>,
) -> Option<Vec<u8>> {
    match sooner {
        Some(answer) if is_usable(&answer) => Some(answer),
        sooner => later.await.or(sooner),
    }
}

fn random_id() -> u16 {
    Message::query().metadata.id
}

/// A socket of its own each time: its random port is half of what a forger must guess.
async fn over_udp(resolver: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let any = match resolver {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(packet).await?;
    let mut answer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut answer).await?;
        if is_answer(&answer[..length], packet) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn over_tcp(resolver: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(resolver).await?;
    stream
        .write_all(&[&length.to_be_bytes(), packet].concat())
        .await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if is_answer(&answer, packet) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Whether a packet is the answer to this query: its id, and its question byte for byte.
pub(crate) fn is_answer(answer: &[u8], query: &[u8]) -> bool {
    const HEADER: usize = 12;
    let question = |packet: &[u8]| {
        let mut end = HEADER;
        while *packet.get(end)? != 0 {
            end += usize::from(packet[end]) + 1;
        }
        packet.get(HEADER..end + 5).map(<[u8]>::to_ascii_lowercase)
    };
    answer.len() >= HEADER
        && answer[..2] == query[..2]
        && answer[2] & 0x80 != 0
        && (question(answer) == question(query) || answer[4..6] == [0, 0])
}

//! [`Replica`]: the task that owns one machine's copy of the state. It judges and writes batches, and follows
//! what others write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Medium, MediumError, Swapped, Version,
    base::{self, Copy},
    format::{Base, Head, PAGE_BYTES, Record, RecordPage, format, part_name, read, record_name},
};
use crate::{
    Revision, StoreError, Transaction,
    state::{Batch, State},
    watch::Shared,
};

/// Between two tries to reach an engine.
const RETRY: Duration = Duration::from_millis(200);

/// Between two looks at a register that others move often.
const PAUSE: Duration = Duration::from_millis(20);

/// Transactions that are written together at most.
const BATCH: usize = 512;

/// Pages that are read at a time.
const READ_AHEAD: usize = 32;

/// The log may become as long as this before the state is written as a whole, ...
const LOG_RECORDS: u64 = 4096;

/// ... or as large as this, or as the state.
const LOG_BYTES: usize = 1 << 20;

/// What is asked of the replica.
pub(super) enum Request {
    Transact(Transaction, oneshot::Sender<Result<Revision, StoreError>>),
    /// Answered once everything that was acknowledged before is in memory.
    Refresh(oneshot::Sender<Result<(), StoreError>>),
}

type Verdict = Result<Revision, StoreError>;

/// What became of a record of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Written,
    NotWritten,
    /// The place where it would stand is no longer kept.
    Unknown,
}

/// What background work has done.
enum Done {
    /// The state stands beside the log, on so many bytes.
    Copied(Result<(Base, usize), MediumError>),
    Swept(Result<(), MediumError>),
}

pub(super) struct Replica {
    medium: Arc<dyn Medium>,
    shared: Arc<Shared>,
    /// How long the medium may be out of reach before a request is given up.
    patience: Duration,
    /// Why it was not reached the last time, while a request waits for it.
    heard: Option<String>,
    head: Head,
    version: Version,
    /// The record that was applied last.
    last: u64,
    /// What was written since the base, and how large that was.
    log: (u64, usize),
    base_bytes: usize,
    stamps: Stamps,
    seen: watch::Sender<Version>,
    background: JoinSet<Done>,
    copying: bool,
}

impl Replica {
    pub(super) fn new(medium: Arc<dyn Medium>, shared: Arc<Shared>, patience: Duration) -> Self {
        Self {
            medium,
            shared,
            patience,
            heard: None,
            head: Head {
                format: format(),
                ..Head::default()
            },
            version: None,
            last: 0,
            log: (0, 0),
            base_bytes: 0,
            stamps: Stamps::new(),
            seen: watch::Sender::new(None),
            background: JoinSet::new(),
            copying: false,
        }
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let news = Arc::new(Notify::new());
        let mut follower = JoinSet::new();
        follower.spawn(follow(
            Arc::clone(&self.medium),
            self.seen.subscribe(),
            Arc::clone(&news),
        ));
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = requests.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.serve(&mut batch).await;
                }
                () = news.notified() => {
                    if let Err(error) = self.catch_up(None, &mut Fate::NotWritten).await {
                        tracing::debug!(%error, "following the store");
                    }
                }
                Some(Ok(done)) = self.background.join_next() => self.done(done).await,
            }
            self.seen.send_if_modified(|seen| {
                let news = *seen != self.version;
                *seen = self.version;
                news
            });
        }
    }

    /// Answers every request.
    async fn serve(&mut self, requests: &mut Vec<Request>) {
        let (mut transactions, mut answers, mut refreshes) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests.drain(..) {
            match request {
                Request::Transact(transaction, answer) => {
                    transactions.push(transaction);
                    answers.push(answer);
                }
                Request::Refresh(answer) => refreshes.push(answer),
            }
        }
        // Whether a write is on its way of which nothing is known.
        let mut open = false;
        let patience = self.patience;
        self.heard = None;
        let settled = timeout(patience, self.settle(&transactions, &mut open)).await;
        let failure = match settled {
            Ok(Ok(verdicts)) => {
                for (verdict, answer) in verdicts.into_iter().zip(answers) {
                    // Whoever no longer waits has dropped its future, which is allowed.
                    let _ = answer.send(verdict);
                }
                for answer in refreshes {
                    let _ = answer.send(Ok(()));
                }
                return self.copy_if_long();
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => match self.heard.take() {
                Some(heard) => format!("not reached within {patience:?}: {heard}"),
                None => format!("no answer within {patience:?}"),
            },
        };
        tracing::warn!(reason = failure, "the store was not reached");
        let unavailable = StoreError::Unavailable {
            reason: failure.clone(),
        };
        let of_writes = if open {
            StoreError::Uncertain { reason: failure }
        } else {
            unavailable.clone()
        };
        for answer in answers {
            let _ = answer.send(Err(of_writes.clone()));
        }
        for answer in refreshes {
            let _ = answer.send(Err(unavailable.clone()));
        }
    }

    /// Judges the transactions against a state that nobody changed before the verdicts were durable.
    async fn settle(
        &mut self,
        transactions: &[Transaction],
        open: &mut bool,
    ) -> Result<Vec<Verdict>, MediumError> {
        loop {
            let (batch, verdicts) = self.judge(transactions);
            let settled = if batch.is_empty() {
                // Even a refusal must rest on what is true now.
                self.is_current().await?
            } else {
                self.write(batch, open).await?
            };
            if settled {
                return Ok(verdicts);
            }
        }
    }

    fn judge(&self, transactions: &[Transaction]) -> (Batch, Vec<Verdict>) {
        let state = self.shared.read();
        let mut batch = Batch::after(&state);
        let judge = |transaction: &Transaction| batch.judge(&state, transaction.clone());
        let verdicts = transactions.iter().map(judge).collect();
        (batch, verdicts)
    }

    /// Whether the state in memory is that of the register; if it was not, it is afterwards.
    async fn is_current(&mut self) -> Result<bool, MediumError> {
        let before = self.version;
        self.catch_up_patiently(None).await?;
        Ok(self.version == before)
    }

    /// Writes the batch as the next record; `false` if somebody else wrote that one.
    async fn write(&mut self, batch: Batch, open: &mut bool) -> Result<bool, MediumError> {
        let number = self.last + 1;
        let stamp = self.stamps.next();
        let page = self.record_page(number, &stamp, &batch).await?;
        let bytes = page.encoded_len();
        let (page, name) = (Bytes::from(page.encode_to_vec()), record_name(number));
        let head = Head {
            last: number,
            ..self.head.clone()
        };
        let register = Bytes::from(head.encode_to_vec());
        loop {
            let maybe_written = std::mem::replace(open, true);
            let page = Some((name.as_str(), page.clone()));
            match self.medium.swap(self.version, register.clone(), page).await {
                Ok(Swapped::Done(version)) => {
                    *open = false;
                    self.version = version;
                    self.head = head;
                    self.applied(number, bytes, batch);
                    return Ok(true);
                }
                Ok(Swapped::Moved) => {
                    // The version we expected is gone for good, so an earlier try cannot succeed any more.
                    let fate = self.catch_up_patiently(Some(&stamp)).await?;
                    if fate == Fate::Unknown && maybe_written {
                        let reason = "what became of it is no longer kept";
                        return Err(MediumError::Unreachable(reason.to_owned()));
                    }
                    *open = false;
                    return Ok(fate == Fate::Written);
                }
                // The same again: if it had happened, the register has moved, and we find our stamp.
                Err(MediumError::Unreachable(reason)) => {
                    tracing::debug!(reason, "writing once more");
                    self.heard = Some(reason);
                    sleep(RETRY).await;
                }
                Err(error) => {
                    *open = maybe_written;
                    return Err(error);
                }
            }
        }
    }

    /// The record as a page; what is too long for one goes ahead, on pages of its own.
    async fn record_page(
        &self,
        number: u64,
        stamp: &str,
        batch: &Batch,
    ) -> Result<RecordPage, MediumError> {
        let record = Bytes::from(Record::of(batch).encode_to_vec());
        let mut page = RecordPage {
            stamp: stamp.to_owned(),
            ..RecordPage::default()
        };
        if record.len() <= PAGE_BYTES {
            page.record = Some(record);
            return Ok(page);
        }
        for (index, begin) in (0..record.len()).step_by(PAGE_BYTES).enumerate() {
            let part = record.slice(begin..record.len().min(begin + PAGE_BYTES));
            let name = part_name(number, stamp, index);
            while let Err(error) = self.medium.put(&name, part.clone()).await {
                if let MediumError::Refused(_) = error {
                    return Err(error);
                }
                sleep(RETRY).await;
            }
            page.parts.push(name);
        }
        Ok(page)
    }

    fn applied(&mut self, number: u64, bytes: usize, batch: Batch) {
        self.shared.change(|state| state.apply(batch));
        self.last = number;
        self.log.0 += 1;
        self.log.1 += bytes;
    }

    async fn catch_up_patiently(&mut self, stamp: Option<&str>) -> Result<Fate, MediumError> {
        // What a try has applied, the next one does not see again.
        let mut fate = Fate::NotWritten;
        loop {
            match self.catch_up(stamp, &mut fate).await {
                Err(MediumError::Unreachable(reason)) => {
                    tracing::debug!(reason, "reading once more");
                    self.heard = Some(reason);
                    sleep(RETRY).await;
                }
                result => return result.map(|()| fate),
            }
        }
    }

    /// Brings the state to where the register is, and finds out what became of the record with `stamp`.
    async fn catch_up(&mut self, stamp: Option<&str>, fate: &mut Fate) -> Result<(), MediumError> {
        let mut missing = None;
        loop {
            let (version, register) = self.medium.read().await?;
            if version == self.version {
                return Ok(());
            }
            let head = Head::read(&register)?;
            if head.last < self.last {
                return Err(MediumError::Refused(format!(
                    "the store went back from record {} to {}: it was replaced, so restart",
                    self.last, head.last
                )));
            }
            if missing == Some(version) {
                // Nobody moved the register, so nobody has swept the page away either.
                return Err(MediumError::Refused(format!(
                    "a record between {} and {} is missing",
                    self.last, head.last
                )));
            }
            if !self.replay(&head, stamp, fate).await? {
                // The records are gone because the base stands for them.
                missing = Some(version);
                if let Some(base) = head.base.clone().filter(|base| base.number > self.last) {
                    if *fate == Fate::NotWritten {
                        *fate = Fate::Unknown;
                    }
                    if self.reload(base).await? {
                        missing = None;
                    }
                }
                continue;
            }
            self.version = version;
            self.head = head;
            return Ok(());
        }
    }

    /// Applies the records up to `head`; `false` if one is not there any more.
    async fn replay(
        &mut self,
        head: &Head,
        stamp: Option<&str>,
        fate: &mut Fate,
    ) -> Result<bool, MediumError> {
        if head.floor > self.last {
            return Ok(false);
        }
        let medium = Arc::clone(&self.medium);
        let mut records = stream::iter(self.last + 1..=head.last)
            .map(|number| {
                let medium = Arc::clone(&medium);
                async move { (number, record(&*medium, number).await) }
            })
            .buffered(READ_AHEAD);
        while let Some((number, record)) = records.next().await {
            let Some((page, record)) = record? else {
                return Ok(false);
            };
            if stamp.is_some_and(|stamp| stamp == page.stamp) {
                *fate = Fate::Written;
            }
            let bytes = record.encoded_len();
            self.applied(number, bytes, record.into_batch());
        }
        Ok(true)
    }

    /// Takes the state from a base; `false` if that was replaced meanwhile.
    async fn reload(&mut self, from: Base) -> Result<bool, MediumError> {
        let number = from.number;
        let Some(state) = base::load(&*self.medium, from).await? else {
            return Ok(false);
        };
        self.base_bytes = weight(&state);
        self.shared.change(|present| **present = state);
        self.last = number;
        self.log = (0, 0);
        Ok(true)
    }

    /// Writes the state as a whole beside the log, if that has become long.
    fn copy_if_long(&mut self) {
        let long = self.log.0 >= LOG_RECORDS || self.log.1 >= LOG_BYTES.max(self.base_bytes);
        if !long || self.copying {
            return;
        }
        self.copying = true;
        self.log = (0, 0);
        let (copy, bytes) = {
            let state = self.shared.read();
            (Copy::of(&state, self.last), weight(&state))
        };
        let (medium, stamp) = (Arc::clone(&self.medium), self.stamps.next());
        self.background.spawn(async move {
            let written = copy.write(&*medium, &stamp).await;
            Done::Copied(written.map(|base| (base, bytes)))
        });
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Copied(Ok((base, bytes))) => {
                self.copying = false;
                self.base_bytes = bytes;
                match timeout(self.patience, self.set_base(base)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "shortening the log of the store"),
                    Err(_) => tracing::warn!("shortening the log of the store: no answer"),
                }
            }
            Done::Copied(Err(error)) => {
                self.copying = false;
                tracing::warn!(%error, "writing the state of the store as a whole");
            }
            Done::Swept(Err(error)) => tracing::info!(%error, "removing old pages of the store"),
            Done::Swept(Ok(())) => {}
        }
    }

    /// Makes the register name the base, unless it names a newer one.
    async fn set_base(&mut self, base: Base) -> Result<(), MediumError> {
        loop {
            let floor = self.head.base.as_ref().map_or(0, |base| base.number);
            if floor >= base.number {
                return Ok(());
            }
            let head = Head {
                base: Some(base.clone()),
                floor,
                ..self.head.clone()
            };
            let register = Bytes::from(head.encode_to_vec());
            match self.medium.swap(self.version, register, None).await {
                Ok(Swapped::Done(version)) => {
                    self.version = version;
                    self.head = head.clone();
                    let medium = Arc::clone(&self.medium);
                    self.background
                        .spawn(async move { Done::Swept(base::sweep(&*medium, &head).await) });
                    return Ok(());
                }
                Ok(Swapped::Moved) => {}
                Err(MediumError::Unreachable(_)) => sleep(RETRY).await,
                Err(error) => return Err(error),
            }
            self.catch_up_patiently(None).await?;
        }
    }
}

/// The record of that number, put together, or nothing if it is not there.
async fn record(
    medium: &dyn Medium,
    number: u64,
) -> Result<Option<(RecordPage, Record)>, MediumError> {
    let name = record_name(number);
    let Some(page) = medium.page(&name).await? else {
        return Ok(None);
    };
    let mut page: RecordPage = read(&page, &name)?;
    let bytes = if let Some(record) = page.record.take() {
        record
    } else {
        let mut whole = Vec::new();
        for part in &page.parts {
            match medium.page(part).await? {
                Some(part) => whole.extend_from_slice(&part),
                None => return Ok(None),
            }
        }
        whole.into()
    };
    Ok(Some((page, read(&bytes, &name)?)))
}

/// Wakes the replica whenever the register is not where it last saw it.
async fn follow(medium: Arc<dyn Medium>, mut seen: watch::Receiver<Version>, news: Arc<Notify>) {
    news.notify_one();
    loop {
        let version = *seen.borrow_and_update();
        tokio::select! {
            changed = medium.changed(version) => {
                match changed {
                    Ok(()) => news.notify_one(),
                    Err(error) => tracing::debug!(%error, "following the store"),
                }
                let _ = timeout(RETRY, seen.changed()).await;
            }
            moved = seen.changed() => {
                if moved.is_err() {
                    return;
                }
            }
        }
        sleep(PAUSE).await;
    }
}

fn weight(state: &State) -> usize {
    let entries = state.entries();
    entries
        .map(|entry| entry.key.len() + entry.value.len())
        .sum()
}

/// Texts that nobody else writes: where, when, and how many.
struct Stamps {
    writer: String,
    count: AtomicU64,
}

impl Stamps {
    fn new() -> Self {
        static WRITERS: AtomicU64 = AtomicU64::new(0);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let nanos = since.map_or(0, |since| since.as_nanos());
        let writer = WRITERS.fetch_add(1, Ordering::Relaxed);
        // The address of something on the heap differs between processes that begin at the same instant.
        let place = Box::new(0u8);
        let place = &raw const *place as usize;
        Self {
            writer: format!("{nanos:x}_{:x}_{place:x}_{writer:x}", std::process::id()),
            count: AtomicU64::new(0),
        }
    }

    fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{}_{count:x}", self.writer)
    }
}

//! [`Journal`]: what a node was told of agents, frameworks and tasks, as the bytes of a file, and back: [`Remembered`].
//!
//! ```text
//! Follower ─► Journal::next ─► Entry ─► Journal::encode ─► Write: Replace | Append ─► MemoryFile
//! Follower::recall ◄─ Keeping::judge ◄─ Remembered ◄─ Remembered::read ◄──────────────────┘
//! ```
//!
//! A file begins with a line that says what it is and which version, and goes on with records: all there is, then what
//! changed, each with its length and a checksum over it and all before it. So what is read is always what was known at one
//! moment: the last one up to which the file is whole. Only a file whose beginning is broken says nothing.

mod file;
mod keeper;
mod keeping;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::mesos;
use sha1::{Digest as _, Sha1};

use crate::Follower;
use crate::vip::TaskKey;

pub use file::MemoryFile;
pub use keeper::Keeper;
pub use keeping::{Cluster, Keeping, Origin};

/// What a file begins with, before its version.
const MAGIC: &[u8] = b"dcos-net memory ";
/// The version that is written, and read.
const VERSION: &[u8] = b"1\n";
/// How long the line with both may be.
const LINE: usize = 32;
/// Before each record: its length, four bytes with the lowest first, and a checksum.
const LENGTH: usize = 4;
const CHECKSUM: usize = 20;
/// All is written anew once what changed takes this many bytes, and as many as all did.
const LEAST: usize = 64 << 10;
/// What else goes with what is known: who told, and where nobody's task may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Who led last, if that matters.
    pub leader: Option<SocketAddr>,
    /// The addresses of masters, and of others that are to be known.
    pub addresses: BTreeSet<IpAddr>,
}

/// What is known of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownAgent {
    /// Where it is, if it was ever heard of.
    pub address: Option<SocketAddr>,
    /// Until when its tasks count though the leader has not heard of them yet.
    pub awaited_until: Option<Time>,
}

/// What is known of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownTask {
    /// What names and virtual addresses are made of.
    pub task: Arc<mesos::Task>,
    /// Whether the last leader told of it, and not only one before.
    pub confirmed: bool,
}

/// What a [`Follower`] came to know: `None` where something is no more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Whether nothing from before counts.
    pub is_all: bool,
    /// Agents, by id.
    pub agents: BTreeMap<String, Option<KnownAgent>>,
    /// Frameworks, by id.
    pub frameworks: BTreeMap<String, Option<mesos::FrameworkInfo>>,
    /// Tasks.
    pub tasks: BTreeMap<TaskKey, Option<KnownTask>>,
}

/// What a node knew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// When it was so at last, by the wall clock of then.
    pub written: Time,
    /// Who knew it.
    pub origin: Origin,
    /// What went with it.
    pub around: Around,
    /// Agents, by id.
    pub agents: BTreeMap<String, KnownAgent>,
    /// Frameworks, by id.
    pub frameworks: BTreeMap<String, mesos::FrameworkInfo>,
    /// Tasks.
    pub tasks: BTreeMap<TaskKey, KnownTask>,
    /// How many tasks are left out since they ended with an earlier run of this host.
    pub ended: usize,
    /// How many bytes at the end of the file are not understood: a write that was broken off, or damage.
    pub broken: usize,
}

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// It is of something else.
    #[error("it was not written by this program")]
    Foreign,
    /// It is of a later program, perhaps.
    #[error("its version is {version}, and 1 is understood")]
    Version {
        /// As it stands there.
        version: String,
    },
    /// Its first record is not whole.
    #[error("it is damaged, or incomplete")]
    Damaged,
    /// It was written by a node of another cluster.
    #[error("it is of another cluster ({theirs}), and this one is {ours}")]
    Elsewhere {
        /// The one it is of.
        theirs: Cluster,
        /// The one this node is of.
        ours: Cluster,
    },
    /// It was so too long ago.
    #[error("it was so {} s ago, and only what was so within {} s counts", age.as_secs(), max_age.as_secs())]
    Old {
        /// How long ago.
        age: Duration,
        /// How long it may be.
        max_age: Duration,
    },
    /// By the clock it will have been so at a time that is yet to come, and not soon.
    #[error(
        "it was so {} s after now, by this host's clock, and only what was so within {} s counts",
        ahead.as_secs(),
        max_age.as_secs()
    )]
    Ahead {
        /// In how long.
        ahead: Duration,
        /// How long it may be.
        max_age: Duration,
    },
    /// The file can't be read.
    #[error("reading it")]
    Read(#[from] std::io::Error),
}

impl Remembered {
    /// What was known when `file` was written up to where it is whole.
    ///
    /// # Errors
    /// It is foreign, of another version, or damaged from the first record on.
    pub fn read(file: &[u8]) -> Result<Self, Unreadable> {
        let after = file.strip_prefix(MAGIC).ok_or(Unreadable::Foreign)?;
        let line = &after[..after.len().min(LINE)];
        let end = line.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or(Unreadable::Damaged)? + 1;
        let (version, mut rest) = after.split_at(end);
        if version != VERSION {
            let version = String::from_utf8_lossy(version).trim_end().to_owned();
            return Err(Unreadable::Version { version });
        }
        let mut known = Self::default();
        let mut chain = begin();
        let mut is_first = true;
        while let Some((body, checksum, after)) = split(rest, &chain) {
            match wire::decode(body) {
                Some(entry) if entry.record.is_all || !is_first => known.take_in(entry),
                _ => break,
            }
            (chain, rest, is_first) = (checksum, after, false);
        }
        known.broken = rest.len();
        if is_first {
            return Err(Unreadable::Damaged);
        }
        Ok(known)
    }

    fn take_in(&mut self, entry: Entry) {
        let Entry {
            time,
            origin,
            around,
            record,
        } = entry;
        if record.is_all {
            *self = Self {
                around: std::mem::take(&mut self.around),
                origin: std::mem::take(&mut self.origin),
                ..Self::default()
            };
        }
        if let Some(origin) = origin {
            self.origin = origin;
        }
        self.written = time;
        if let Some(around) = around {
            self.around = around;
        }
        take_in(&mut self.agents, record.agents);
        take_in(&mut self.frameworks, record.frameworks);
        take_in(&mut self.tasks, record.tasks);
    }
}

fn take_in<K: Ord, V>(known: &mut BTreeMap<K, V>, news: BTreeMap<K, Option<V>>) {
    for (key, value) in news {
        match value {
            Some(value) => drop(known.insert(key, value)),
            None => drop(known.remove(&key)),
        }
    }
}

/// What stands in a file as one record, or is to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// By the wall clock.
    time: Time,
    /// With all there is.
    origin: Option<Origin>,
    /// If it is another one than before.
    around: Option<Around>,
    record: Record,
}

/// What is to be done with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is this and nothing else from now on.
    Replace(Vec<u8>),
    /// This comes behind what is there.
    Append(Vec<u8>),
}

/// What is in a file, as far as that matters for what comes behind it.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    origin: Origin,
    position: Option<Position>,
}

#[derive(Clone, Debug)]
struct Position {
    chain: [u8; CHECKSUM],
    around: Around,
    /// How long all was, and how long what came behind it is.
    all: usize,
    behind: usize,
    time: Time,
}

impl Position {
    fn is_short(&self) -> bool {
        self.behind <= LEAST.max(self.all)
    }
}

impl Journal {
    /// How long what is known may stay as it is until it is noted that it still is: its age is no greater than that, whatever
    /// happens to the process.
    pub const STILL: Duration = Duration::from_secs(30);

    /// That of a file which this one writes.
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            position: None,
        }
    }

    /// What is to be written so that the file says what `follower` knows at `now`, by the wall clock; nothing if it says so
    /// already. The first time, and whenever what was written since has become long, that is all of it. It costs little: the
    /// work is to [encode](Self::encode) it, which is to be done before this is called again.
    pub fn next(&mut self, now: Time, around: &Around, follower: &mut Follower) -> Option<Entry> {
        let news = follower.take_news();
        let short = self.position.as_ref().filter(|position| {
            let is_all = news.as_ref().is_some_and(|news| news.is_all);
            !is_all && position.is_short()
        });
        let Some(position) = short else {
            let all = news.filter(|news| news.is_all);
            return Some(Entry {
                time: now,
                origin: Some(self.origin.clone()),
                around: Some(around.clone()),
                record: all.unwrap_or_else(|| follower.all()),
            });
        };
        let is_same = position.around == *around;
        if news.is_none() && is_same {
            return self.still(now);
        }
        Some(Entry {
            time: now,
            origin: None,
            around: (!is_same).then(|| around.clone()),
            record: news.unwrap_or_default(),
        })
    }

    /// Whether it is known what is in the file, and more may come behind it; all there is is to be written otherwise.
    pub fn goes_on(&self) -> bool {
        self.position.as_ref().is_some_and(Position::is_short)
    }

    /// What is to be written if nothing changed and the journal [goes on](Self::goes_on): that it is still so,
    /// [now and then](Self::STILL), and once the clock was set.
    pub fn still(&self, now: Time) -> Option<Entry> {
        let before = self.position.as_ref()?.time;
        let is_fresh = before <= now && !(before + Self::STILL).is_due(now);
        (!is_fresh).then(|| Entry {
            time: now,
            ..Entry::default()
        })
    }

    /// What is to be done with the file for it.
    pub fn encode(&mut self, entry: Entry) -> Write {
        let is_all = entry.record.is_all;
        let before = self.position.take().filter(|_| !is_all);
        let mut text = if is_all {
            [MAGIC, VERSION].concat()
        } else {
            Vec::new()
        };
        let chain = before.as_ref().map_or_else(begin, |before| before.chain);
        let chain = put(&mut text, &chain, &entry);
        let (all, behind, around) = match before {
            Some(before) => (before.all, before.behind + text.len(), before.around),
            None => (text.len(), 0, Around::default()),
        };
        self.position = Some(Position {
            chain,
            around: entry.around.unwrap_or(around),
            all,
            behind,
            time: entry.time,
        });
        if is_all {
            Write::Replace(text)
        } else {
            Write::Append(text)
        }
    }

    /// A write failed: what is in the file now is not known.
    pub fn fail(&mut self) {
        self.position = None;
    }
}

/// The checksum that the first record begins with.
fn begin() -> [u8; CHECKSUM] {
    checksum(&[0; CHECKSUM], VERSION)
}

fn checksum(before: &[u8; CHECKSUM], body: &[u8]) -> [u8; CHECKSUM] {
    let hashed = Sha1::new().chain_update(before).chain_update(body);
    hashed.finalize().into()
}

/// Puts a record behind `text`; gives back its checksum.
fn put(text: &mut Vec<u8>, before: &[u8; CHECKSUM], entry: &Entry) -> [u8; CHECKSUM] {
    let body = wire::encode(entry);
    let checksum = checksum(before, &body);
    let length = u32::try_from(body.len()).expect("what a cluster runs takes less than 4 GiB");
    text.extend(length.to_le_bytes());
    text.extend(checksum);
    text.extend(body);
    checksum
}

/// The first record of `text`, its checksum and what is behind it, if it is whole.
fn split<'a>(
    text: &'a [u8],
    before: &[u8; CHECKSUM],
) -> Option<(&'a [u8], [u8; CHECKSUM], &'a [u8])> {
    let (length, rest) = text.split_first_chunk::<LENGTH>()?;
    let (told, rest) = rest.split_first_chunk::<CHECKSUM>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    (checksum(before, body) == *told).then_some((body, *told, rest))
}

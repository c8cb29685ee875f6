//! What pages and register hold: protobuf messages, so that a later release can add to them.

use bytes::Bytes;
use prost::Message;

use super::MediumError;
use crate::{Change, Commit, Entry, Revision, Term, state::Batch};

/// What this release writes, and the newest it reads.
const FORMAT: u32 = 1;

/// How long a page gets before another one is begun: well below what engines take by default
/// (`ZooKeeper` 1 MiB, etcd 1.5 MiB).
pub(crate) const PAGE_BYTES: usize = 512 << 10;

/// The register: how long the log is, and where it begins.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// The number of the last record.
    #[prost(uint64, tag = "2")]
    pub(super) last: u64,
    /// The state as a whole, as of some record.
    #[prost(message, optional, tag = "3")]
    pub(super) base: Option<Base>,
    /// Records up to this one may have been removed.
    #[prost(uint64, tag = "4")]
    pub(super) floor: u64,
}

/// The state as a whole, right after the record `number`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Base {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(uint64, tag = "2")]
    pub(super) revision: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) fences: Vec<FenceRow>,
    /// The names of the pages its entries are on.
    #[prost(string, repeated, tag = "4")]
    pub(super) pages: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FenceRow {
    #[prost(string, tag = "1")]
    pub(super) office: String,
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
}

/// Entries of a base.
#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryPage {
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<EntryRow>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryRow {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
    #[prost(uint64, tag = "3")]
    pub(super) revision: u64,
}

/// The page of one record: the record itself, or the names of the pages that make it up.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RecordPage {
    /// Who wrote it, in which try: a writer that lost its connection finds out whether it was heard.
    #[prost(string, tag = "1")]
    pub(super) stamp: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) record: Option<Bytes>,
    #[prost(string, repeated, tag = "3")]
    pub(super) parts: Vec<String>,
}

/// Transactions that became durable together.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) fences: Vec<FenceRow>,
    #[prost(message, repeated, tag = "3")]
    pub(super) commits: Vec<CommitRow>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CommitRow {
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) changes: Vec<ChangeRow>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ChangeRow {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) value: Option<Bytes>,
}

impl Head {
    /// What the register holds; nothing is an empty store.
    pub(super) fn read(register: &Bytes) -> Result<Self, MediumError> {
        if register.is_empty() {
            return Ok(Self {
                format: FORMAT,
                ..Self::default()
            });
        }
        let head: Self = read(register, "the register")?;
        if head.format == FORMAT {
            Ok(head)
        } else {
            Err(MediumError::Refused(format!(
                "the store has format {}, this program knows {FORMAT}",
                head.format
            )))
        }
    }
}

/// What `page` says, or that it is damaged.
pub(super) fn read<M: Message + Default>(page: &Bytes, what: &str) -> Result<M, MediumError> {
    M::decode(page.clone())
        .map_err(|error| MediumError::Refused(format!("{what} is damaged: {error}")))
}

/// The name of the page of record `number`. All names tell the number they belong to.
pub(super) fn record_name(number: u64) -> String {
    format!("log-{number:020}")
}

/// The name of part `index` of record `number`.
pub(super) fn part_name(number: u64, stamp: &str, index: usize) -> String {
    format!("part-{number:020}-{stamp}-{index}")
}

/// The name of page `index` of the base after record `number`.
pub(super) fn base_name(number: u64, stamp: &str, index: usize) -> String {
    format!("base-{number:020}-{stamp}-{index}")
}

/// The kind and number in the name of a page.
pub(super) fn parse_name(name: &str) -> Option<(&str, u64)> {
    let mut words = name.split('-');
    Some((words.next()?, words.next()?.parse().ok()?))
}

impl Record {
    pub(super) fn of(batch: &Batch) -> Self {
        let change = |change: &Change| ChangeRow {
            key: change.key.to_string(),
            value: change.value.clone(),
        };
        let commit = |commit: &Commit| CommitRow {
            revision: commit.revision.0,
            changes: commit.changes.iter().map(change).collect(),
        };
        Self {
            revision: batch.revision.0,
            fences: fence_rows(batch.fences.iter().map(|(office, term)| (&**office, *term))),
            commits: batch.commits.iter().map(commit).collect(),
        }
    }

    pub(super) fn into_batch(self) -> Batch {
        let change = |row: ChangeRow| Change {
            key: row.key.into(),
            value: row.value,
        };
        let commit = |row: CommitRow| Commit {
            revision: Revision(row.revision),
            changes: row.changes.into_iter().map(change).collect(),
        };
        Batch::recorded(
            self.commits.into_iter().map(commit).collect(),
            fences(self.fences).collect(),
            Revision(self.revision),
        )
    }
}

pub(super) fn fence_rows<'a>(fences: impl Iterator<Item = (&'a str, Term)>) -> Vec<FenceRow> {
    let row = |(office, term): (&str, Term)| FenceRow {
        office: office.to_owned(),
        term: term.0,
    };
    fences.map(row).collect()
}

pub(super) fn fences(rows: Vec<FenceRow>) -> impl Iterator<Item = (std::sync::Arc<str>, Term)> {
    rows.into_iter()
        .map(|row| (row.office.into(), Term(row.term)))
}

impl EntryRow {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            key: entry.key.to_string(),
            value: entry.value.clone(),
            revision: entry.revision.0,
        }
    }

    pub(super) fn into_entry(self) -> Entry {
        Entry {
            key: self.key.into(),
            value: self.value,
            revision: Revision(self.revision),
        }
    }

    /// About how long it is on a page.
    pub(super) fn weight(&self) -> usize {
        self.key.len() + self.value.len() + 32
    }
}

/// The number of the format that is written.
pub(super) const fn format() -> u32 {
    FORMAT
}

//! What can go wrong, and what the caller can do about it.

use std::{io, path::PathBuf, sync::Arc};

use crate::{Revision, Term};

/// Why a store did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A check failed; nothing was written. Read again and decide anew.
    #[error("`{key}` is not as expected: it {}", found.map_or_else(|| "does not exist".to_owned(), |at| format!("was written at revision {at}")))]
    Conflict {
        /// The key whose check failed.
        key: String,
        /// When the key was really last written; `None` if it does not exist.
        found: Option<Revision>,
    },
    /// Somebody was elected since; nothing was written. Stop acting as the leader.
    #[error("term {term} of `{office}` was replaced by term {current}")]
    Deposed {
        /// The office the fence names.
        office: String,
        /// The term of the refused transaction.
        term: Term,
        /// The highest term the store has seen for this office.
        current: Term,
    },
    /// The store no longer knows what followed this revision. Scan, then watch from there.
    #[error(
        "changes after revision {asked} are no longer kept (oldest: {oldest}); scan again and watch from there"
    )]
    Compacted {
        /// Where the watch was to continue.
        asked: Revision,
        /// The lowest revision from which a watch could.
        oldest: Revision,
    },
    /// The transaction is malformed; nothing was written.
    #[error("`{}` cannot be written: {reason}", key.escape_debug())]
    Invalid {
        /// The key at fault.
        key: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// Another process has the store open.
    #[error(
        "{path:?} is in use by another process; stop it first, or give this one a directory of its own"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// What is on disk is not what was written there. Nothing was changed.
    #[error(
        "{path:?} is damaged ({reason}): restore it from a backup, or, if its state may be lost, \
         move it away and start again with an empty store"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file could not be opened or made.
    #[error("opening {path:?}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// A write failed half-way: it may or may not be durable, and the store takes no more.
    /// End the process and start again; reopening finds out.
    #[error("whether the write is durable is not known: {reason}; restart to read what is")]
    Uncertain {
        /// What the engine said.
        reason: String,
    },
    /// The servers that hold the store were not reached in time, or refused. Nothing was written.
    #[error("the store cannot be used: {reason}")]
    Unavailable {
        /// What was heard last.
        reason: String,
    },
    /// The store was closed, or an earlier write failed.
    #[error("the store is closed")]
    Closed,
}

/// Why a campaign ended without an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElectionError {
    /// The lock or the term could not be read or written.
    #[error("keeping the term in {path:?}")]
    Keep {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The servers that hold the election refuse: no right, or a path that is taken.
    #[error("{ensemble} refuses to hold the election: {reason}")]
    Refused {
        /// Which servers.
        ensemble: String,
        /// What they said.
        reason: String,
    },
    /// The file does not hold a term. Guessing one could let two leaders write.
    #[error(
        "{path:?} does not hold a term: write into it a number larger than any term in the logs, \
         or remove it together with the store it guards"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

//! The trait [`StateStore`] and the words it is spoken in.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Fence, StoreError, Watch};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// The longest value, in bytes: what `ZooKeeper` and etcd both take with their default settings.
pub const MAX_VALUE_BYTES: usize = 1_000_000;

/// Keeps keys with versions, durably and in one order for everybody.
///
/// # Contract
/// 1. **Atomic.** A transaction happens whole or not at all: if one [`Check`] fails, nothing is written.
/// 2. **Durable before `Ok`.** What was acknowledged survives `kill -9` and loss of power.
/// 3. **Linearizable.** Transactions have one order, the order of their revisions; a read sees every
///    transaction that was acknowledged before the read began.
/// 4. **One revision a transaction.** A transaction that changes something advances the revision of the
///    store by one, and each entry it wrote carries that revision. One that changes nothing advances nothing.
/// 5. **Fenced.** A transaction whose term is below the highest that its office has used is refused with
///    [`StoreError::Deposed`]. The first transaction of a new term (an empty one will do) closes the door
///    behind it.
/// 6. **Watched without gaps.** A [`Watch`] delivers each later transaction that touches its prefix, once, in
///    order and undivided, or says [`StoreError::Compacted`]; it never skips silently.
/// 7. **Dropped futures.** A dropped `transact` may or may not have happened, whole; the others leave no trace.
///
/// Keys are paths such as `master/agents/a1`: 1 to [`MAX_KEY_BYTES`] bytes without NUL. They are ordered by
/// their bytes, and a prefix is any leading part of a key (end it with `/` to mean a folder).
/// Values are at most [`MAX_VALUE_BYTES`] long.
///
/// # Implementing
/// Run `dcos_store::testkit::all` (feature `testkit`) in your tests; it has one function a promise.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync + 'static {
    /// The entry at `key`, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Closed`] after a failed write or a close.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// All entries whose keys begin with `prefix`, as they were together at one revision.
    ///
    /// # Errors
    /// [`StoreError::Closed`] after a failed write or a close.
    async fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError>;

    /// Carries out all writes if all checks hold, and returns the revision at which they hold.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::Deposed`] and [`StoreError::Invalid`]: nothing was written.
    /// [`StoreError::Uncertain`]: it may or may not have been; read before trying again.
    async fn transact(&self, transaction: Transaction) -> Result<Revision, StoreError>;

    /// Every transaction after `from` that touches a key beginning with `prefix`.
    ///
    /// Begin with the revision of a [`Snapshot`] to see exactly what followed it.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if the store no longer knows what followed `from`: scan again.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError>;
}

/// How many transactions have changed the store; an entry carries that of its last write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first transaction.
    pub const ZERO: Self = Self(0);

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key, its value, and when that was written. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: Arc<str>,
    /// The value as it was put.
    pub value: Bytes,
    /// The revision of the transaction that put it.
    pub revision: Revision,
}

/// Entries that were all true at one revision, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the store when this was read: where a watch continues.
    pub revision: Revision,
    /// What was there.
    pub entries: Vec<Entry>,
}

/// What must hold for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// There is no such key.
    Absent(String),
    /// The key exists and was last written at this revision.
    Unchanged(String, Revision),
}

impl Check {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// What a transaction does to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the value, whether or not the key exists.
    Put(String, Bytes),
    /// Removes the key; that it is not there is no error.
    Delete(String),
}

impl Write {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// Checks and writes that belong together, and the leadership they are done under.
///
/// Each key may be written once. Checks are judged against the state before the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Under whose leadership this is done.
    pub fence: Fence,
    /// What must hold.
    pub checks: Vec<Check>,
    /// What is then done.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// Nothing yet, under `fence`.
    pub fn new(fence: Fence) -> Self {
        Self {
            fence,
            checks: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Requires that `key` does not exist.
    #[must_use]
    pub fn expect_absent(mut self, key: impl Into<String>) -> Self {
        self.checks.push(Check::Absent(key.into()));
        self
    }

    /// Requires that `key` was last written at `revision`.
    #[must_use]
    pub fn expect_unchanged(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.checks.push(Check::Unchanged(key.into(), revision));
        self
    }

    /// Sets `key` to `value`.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put(key.into(), value.into()));
        self
    }

    /// Removes `key`.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    /// Says what is wrong with the form of this transaction, before any store is asked.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a key or value out of bounds, or a key written twice.
    pub fn validate(&self) -> Result<(), StoreError> {
        let mut written: Vec<&str> = self.writes.iter().map(Write::key).collect();
        for key in self
            .checks
            .iter()
            .map(Check::key)
            .chain(written.iter().copied())
        {
            if key.is_empty() || key.len() > MAX_KEY_BYTES || key.contains('\0') {
                return Err(StoreError::Invalid {
                    key: key.into(),
                    reason: "keys are 1 to 1024 bytes without NUL",
                });
            }
        }
        for write in &self.writes {
            if matches!(write, Write::Put(_, value) if value.len() > MAX_VALUE_BYTES) {
                return Err(StoreError::Invalid {
                    key: write.key().into(),
                    reason: "values are at most 1000000 bytes",
                });
            }
        }
        written.sort_unstable();
        match written.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(StoreError::Invalid {
                key: pair[0].into(),
                reason: "a transaction writes a key once",
            }),
            None => Ok(()),
        }
    }
}

/// What a transaction changed, as a [`Watch`] tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision the transaction made.
    pub revision: Revision,
    /// The keys it changed, in the order of its writes.
    pub changes: Vec<Change>,
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The whole key.
    pub key: Arc<str>,
    /// The new value, or `None` if the key was deleted.
    pub value: Option<Bytes>,
}

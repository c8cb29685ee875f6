//! Putting rows of a service into a store, so that it starts with all of them or not at all.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use dcos_store::{Entry, Fence, StateStore, StoreError, Transaction};

use crate::core::rows::Framework;

/// The most rows and bytes one transaction carries, but for a row that is larger by itself: engines bound both.
const ROWS: usize = 500;
const BYTES: usize = 256 << 10;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The rows were written, in place of what was there.
    All(Option<Replaced>),
    /// They were there already.
    Nothing,
}

/// What was there and is not any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// The id of its framework, if it had one.
    pub framework: Option<String>,
    /// How many rows of each kind.
    pub rows: BTreeMap<String, usize>,
}

impl Replaced {
    fn new(prefix: &str, present: &[Entry]) -> Self {
        let mut replaced = Self::default();
        for entry in present {
            let name = entry.key.strip_prefix(prefix).unwrap_or(&entry.key);
            let kind = name.split_once('/').map_or(name, |(kind, _)| kind);
            *replaced.rows.entry(kind.to_owned()).or_default() += 1;
            if name == "framework" {
                let row = serde_json::from_slice::<Framework>(&entry.value);
                replaced.framework = row.ok().and_then(|row| row.into_ids().0);
            }
        }
        replaced
    }
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows.iter();
        let rows: Vec<_> = rows
            .map(|(kind, count)| format!("{count} of {kind}"))
            .collect();
        write!(f, "rows of a service are replaced: {}", rows.join(", "))?;
        match &self.framework {
            Some(id) => write!(
                f,
                "; what framework {id} runs is nobody's unless that is the one taken over: look for it among the frameworks \
                 of the master, and tear it down"
            ),
            None => Ok(()),
        }
    }
}

/// Why rows were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is something else already.
    #[error("the store holds the state of such a service already ({0} rows); nothing was written")]
    Occupied(usize),
    /// A store does not take one of the rows.
    #[error("a row is more than a store takes; nothing was written")]
    Unfit(#[source] StoreError),
    /// The store failed. What was written so far keeps the service from starting, until it is written again.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Makes `rows` all there is of a service whose keys begin with `prefix` (such as `marathon/`).
///
/// What is there already is replaced only if `overwrite`. A row no service knows is written first and removed last, so
/// that none starts with half of it, and who writes again after a failure finds out that it is half.
///
/// # Errors
/// [`WriteError`]
pub async fn write(
    store: &dyn StateStore,
    fence: &Fence,
    prefix: &str,
    rows: &BTreeMap<String, Vec<u8>>,
    overwrite: bool,
) -> Result<Written, WriteError> {
    for (key, value) in rows {
        let alone = Transaction::new(fence.clone());
        let alone = alone.put(key.clone(), Bytes::copy_from_slice(value));
        alone.validate().map_err(WriteError::Unfit)?;
    }
    let half = format!("{prefix}import-under-way");
    let present = store.scan(prefix).await?.entries;
    let broken_off = present.iter().any(|entry| *entry.key == half);
    let same = present.len() == rows.len()
        && present
            .iter()
            .all(|entry| rows.get(&*entry.key).is_some_and(|row| *row == entry.value));
    if same {
        return Ok(Written::Nothing);
    }
    if !present.is_empty() && !overwrite && !broken_off {
        return Err(WriteError::Occupied(present.len()));
    }
    let begin = Transaction::new(fence.clone()).put(half.clone(), "\"\"");
    store.transact(begin).await?;
    let gone = present
        .iter()
        .filter(|entry| !rows.contains_key(&*entry.key));
    let gone = gone.filter(|entry| *entry.key != half);
    let deletions = gone.map(|entry| (entry.key.to_string(), None));
    let puts = rows.iter().map(|(key, value)| (key.clone(), Some(value)));
    let mut next = Transaction::new(fence.clone());
    let mut bytes = 0;
    for (key, value) in deletions.chain(puts) {
        let more = key.len() + value.map_or(0, Vec::len);
        if !next.writes.is_empty() && (next.writes.len() >= ROWS || bytes + more > BYTES) {
            store.transact(next).await?;
            (next, bytes) = (Transaction::new(fence.clone()), 0);
        }
        bytes += more;
        next = match value {
            Some(value) => next.put(key, Bytes::copy_from_slice(value)),
            None => next.delete(key),
        };
    }
    store.transact(next.delete(half)).await?;
    let replaced = (overwrite && !present.is_empty()).then(|| Replaced::new(prefix, &present));
    Ok(Written::All(replaced))
}

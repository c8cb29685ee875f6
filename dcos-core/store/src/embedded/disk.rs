//! What the embedded store keeps on disk: three redb tables, and beside them a mark of an orderly close.
//!
//! redb notices damage by checksums, and rolls back to the commit before if the last one does not add up.
//! After a crash that is right, since what was being written was not acknowledged. After an orderly
//! close it would lose an acknowledged transaction silently; the mark (`<file>.closed`, holding
//! the revision at the close) tells the two apart.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{
    Entry, Revision, StoreError, Term,
    state::{Batch, State},
};

/// Key to revision and value.
const ENTRIES: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("entries");
/// Office to the highest term that has written.
const FENCES: TableDefinition<'_, &str, u64> = TableDefinition::new("fences");
/// `format` and `revision`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout of the tables above.
const FORMAT: u64 = 1;

/// An open file. Only the writer thread has it.
pub(super) struct Disk {
    database: Database,
    path: PathBuf,
}

impl Disk {
    /// Opens and checks the file, or makes it, and reads all of it.
    pub(super) fn open(path: &Path) -> Result<(Self, State), StoreError> {
        if !path.exists() {
            make(path).map_err(|error| refuse(path, error))?;
        }
        // Damage that redb does not foresee makes it panic; to our caller that is damage all the same.
        let opened = catch_unwind(|| open_and_check(path))
            .unwrap_or_else(|_| Err(corrupted("it cannot be read")));
        let database = opened.map_err(|error| refuse(path, error))?;
        let load = AssertUnwindSafe(|| load(&database));
        let loaded = catch_unwind(load).unwrap_or_else(|_| Err(corrupted("it cannot be read")));
        let state = loaded.map_err(|error| refuse(path, error))?;
        check_mark(path, state.revision())?;
        Ok((
            Self {
                database,
                path: path.to_owned(),
            },
            state,
        ))
    }

    /// Makes a batch durable.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let written = catch_unwind(AssertUnwindSafe(|| write(&self.database, batch)));
        let uncertain = |reason: String| StoreError::Uncertain {
            reason: format!("{}: {reason}", self.path.display()),
        };
        match written {
            Ok(result) => result.map_err(|error| uncertain(error.to_string())),
            Err(_) => Err(uncertain("the engine failed".to_owned())),
        }
    }

    /// Closes the file in order.
    pub(super) fn close(&mut self, revision: Revision) {
        // Without the mark the next open merely trusts a rollback more readily, so this is no failure.
        if let Err(error) = fs::write(mark(&self.path), format!("{revision}\n")) {
            tracing::warn!(path = %self.path.display(), %error, "leaving no mark of an orderly close");
        }
    }
}

fn corrupted(reason: &str) -> redb::Error {
    redb::Error::Corrupted(reason.to_owned())
}

fn refuse(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path },
        redb::Error::Io(source) if is_environment(source.kind()) => StoreError::Open {
            path,
            source: Arc::new(source),
        },
        error => StoreError::Damaged {
            path,
            reason: error.to_string(),
        },
    }
}

/// Whether an I/O error speaks of the place rather than of the contents.
fn is_environment(kind: io::ErrorKind) -> bool {
    !matches!(
        kind,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
    )
}

/// A new file comes into being whole, so an empty or half-made one at `path` is always damage.
fn make(path: &Path) -> Result<(), redb::Error> {
    let unfinished = with_suffix(path, ".new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let database = Database::create(&unfinished)?;
    write(&database, &Batch::default())?;
    drop(database);
    fs::rename(&unfinished, path)?;
    sync_parent(path)?;
    Ok(())
}

fn open_and_check(path: &Path) -> Result<Database, redb::Error> {
    let mut database = Database::open(path)?;
    if !database.check_integrity()? {
        tracing::warn!(path = %path.display(), "the store was repaired to its last whole commit");
    }
    Ok(database)
}

fn load(database: &Database) -> Result<State, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |name: &str| -> Result<u64, redb::Error> {
        meta.get(name)?
            .map(|value| value.value())
            .ok_or_else(|| corrupted(&format!("it has no `{name}`")))
    };
    match number("format")? {
        FORMAT => {}
        other => {
            return Err(corrupted(&format!(
                "format {other}, this program knows {FORMAT}"
            )));
        }
    }
    let mut entries = Vec::new();
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, row) = row?;
        let (revision, value) = row.value();
        entries.push(Entry {
            key: key.value().into(),
            value: Bytes::copy_from_slice(value),
            revision: Revision(revision),
        });
    }
    let mut fences = BTreeMap::new();
    for row in transaction.open_table(FENCES)?.iter()? {
        let (office, term) = row?;
        fences.insert(office.value().into(), Term(term.value()));
    }
    Ok(State::recovered(
        entries,
        fences,
        Revision(number("revision")?),
    ))
}

fn write(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        for commit in &batch.commits {
            for change in &commit.changes {
                match &change.value {
                    Some(value) => {
                        drop(entries.insert(&*change.key, (commit.revision.0, &value[..]))?);
                    }
                    None => drop(entries.remove(&*change.key)?),
                }
            }
        }
        let mut fences = transaction.open_table(FENCES)?;
        for (office, term) in &batch.fences {
            fences.insert(&**office, term.0)?;
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", batch.revision.0)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Compares with the mark of the last close, and takes it away since the file is in use from now on.
fn check_mark(path: &Path, revision: Revision) -> Result<(), StoreError> {
    let mark = mark(path);
    let open = |source: io::Error| StoreError::Open {
        path: mark.clone(),
        source: Arc::new(source),
    };
    let closed_at = match fs::read_to_string(&mark) {
        Ok(text) => text.trim().parse().ok().map(Revision),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(open(error)),
    };
    // A mark that is no number was torn by a crash right after the close: it tells nothing.
    if closed_at.is_some_and(|closed_at| closed_at != revision) {
        let reason = format!(
            "it holds revision {revision}, but {} says that it was closed with another one; \
             if you restored a backup on purpose, remove that file",
            mark.display()
        );
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            reason,
        });
    }
    fs::remove_file(&mark)
        .and_then(|()| sync_parent(path))
        .map_err(open)
}

fn mark(path: &Path) -> PathBuf {
    with_suffix(path, ".closed")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

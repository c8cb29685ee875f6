//! All of a service's state in a file, and back.
//!
//! The file has a line of JSON for each row and one at each end, so that half a file is not taken for a whole one:
//!
//! ```text
//! {"backup":"marathon/","version":1}
//! {"key":"marathon/app/web","value":"\"2026-11-21T20:00:00.000Z\""}
//! {"rows":1}
//! ```

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_store::{Fence, StateStore, StoreError, Transaction};
use serde::{Deserialize, Serialize};

use super::now;
use crate::core::RecoverError;
use crate::engine::Service;

const VERSION: u32 = 1;

/// What is done between two lives of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Between {
    /// Where all state is written to.
    pub backup: Option<PathBuf>,
    /// Where state is read from that takes the place of what there is.
    pub restore: Option<PathBuf>,
}

/// Why a backup could not be written or read; the state is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum BackupError {
    #[error("{0}")]
    File(PathBuf, #[source] std::io::Error),
    #[error("{0}, line {1}: {2}")]
    Unreadable(PathBuf, usize, String),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the backup holds what makes no sense")]
    Recover(#[from] RecoverError),
}

#[derive(Serialize, Deserialize)]
struct Head {
    backup: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Foot {
    rows: usize,
}

/// Writes every row of a service to a file, which only this user may read; the number of rows.
pub(super) async fn save(
    store: &dyn StateStore,
    prefix: &str,
    path: &Path,
) -> Result<usize, BackupError> {
    let rows = store.scan(prefix).await?.entries;
    let rows: Vec<Line> = rows
        .iter()
        .map(|row| Line {
            key: row.key.to_string(),
            // Rows of services are JSON.
            value: String::from_utf8_lossy(&row.value).into_owned(),
        })
        .collect();
    let head = Head {
        backup: prefix.to_owned(),
        version: VERSION,
    };
    write(path, &head, &rows).map_err(|error| BackupError::File(path.to_owned(), error))?;
    Ok(rows.len())
}

/// The file appears whole or not at all.
fn write(path: &Path, head: &Head, rows: &[Line]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut made = std::fs::DirBuilder::new();
    made.recursive(true).mode(0o700).create(directory)?;
    let half = path.with_extension("half");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    let mut out = std::io::BufWriter::new(file.open(&half)?);
    serde_json::to_writer(&mut out, head)?;
    for row in rows {
        out.write_all(b"\n")?;
        serde_json::to_writer(&mut out, row)?;
    }
    out.write_all(b"\n")?;
    serde_json::to_writer(&mut out, &Foot { rows: rows.len() })?;
    out.write_all(b"\n")?;
    out.into_inner()?.sync_all()?;
    std::fs::rename(&half, path)?;
    std::fs::File::open(directory)?.sync_all()
}

/// Puts what a file holds in the place of all rows of a service, in one transaction; the number of rows.
///
/// Whether it makes sense is found out first.
pub(super) async fn load<S: Service>(
    service: &S,
    store: &dyn StateStore,
    fence: &Fence,
    path: &Path,
) -> Result<usize, BackupError> {
    let prefix = service.prefix();
    let rows = read(path, prefix)?;
    let tried: Vec<(&str, &[u8])> = rows
        .iter()
        .map(|row| (row.key.as_str(), row.value.as_bytes()))
        .collect();
    service.recover(Seed::from_os(), now(), &tried)?;
    let kept: BTreeSet<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    let mut transaction = Transaction::new(fence.clone());
    for present in store.scan(prefix).await?.entries {
        if !kept.contains(&*present.key) {
            transaction = transaction.delete(present.key.to_string());
        }
    }
    for row in &rows {
        let value = Bytes::copy_from_slice(row.value.as_bytes());
        transaction = transaction.put(row.key.clone(), value);
    }
    store.transact(transaction).await?;
    Ok(rows.len())
}

fn read(path: &Path, prefix: &str) -> Result<Vec<Line>, BackupError> {
    let file = std::fs::File::open(path);
    let file = file.map_err(|error| BackupError::File(path.to_owned(), error))?;
    let (mut rows, mut foot) = (Vec::new(), None);
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| BackupError::File(path.to_owned(), error))?;
        let bad = |why: String| BackupError::Unreadable(path.to_owned(), at + 1, why);
        let unreadable = |error: serde_json::Error| bad(error.to_string());
        if at == 0 {
            let head: Head = serde_json::from_str(&line).map_err(unreadable)?;
            if head.backup != prefix || head.version != VERSION {
                let text = format!(
                    "a backup of {} in version {}; one of {prefix} in version {VERSION} is needed",
                    head.backup, head.version
                );
                return Err(bad(text));
            }
        } else if let Ok(found) = serde_json::from_str::<Foot>(&line) {
            foot = Some(found.rows);
        } else {
            let row: Line = serde_json::from_str(&line).map_err(unreadable)?;
            if !row.key.starts_with(prefix) {
                return Err(bad(format!("{} is no row of {prefix}", row.key)));
            }
            rows.push(row);
        }
    }
    if foot != Some(rows.len()) {
        let text = "the end is missing".to_owned();
        return Err(BackupError::Unreadable(
            path.to_owned(),
            rows.len() + 2,
            text,
        ));
    }
    Ok(rows)
}

//! Agents that may be offered at all: `--whitelist`, a file of hostnames that is read anew every few seconds.
//!
//! Source: Mesos 1.11 `src/watcher/whitelist_watcher.cpp`. Departure: a file that cannot be read when the master
//! starts to lead stops it, rather than to let everybody be offered.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// How often the file is read, as in Mesos.
const INTERVAL: Duration = Duration::from_secs(5);

/// The file, and what it said last.
#[derive(Debug)]
pub(crate) struct Whitelist {
    path: PathBuf,
    last: BTreeSet<String>,
    every: Interval,
}

impl Whitelist {
    /// Reads `path` for the first time.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut every = tokio::time::interval(INTERVAL);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            path: path.to_owned(),
            last: read(path)?,
            every,
        })
    }

    /// What the file said last.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.last.clone()
    }

    /// Waits until the file says something else. May be dropped at any time.
    pub(crate) async fn changed(&mut self) -> BTreeSet<String> {
        loop {
            self.every.tick().await;
            // Read at once, since this future is dropped whenever the master has something else to do.
            match read(&self.path) {
                Ok(names) if names != self.last => {
                    tracing::info!(agents = names.len(), path = ?self.path, "another whitelist");
                    self.last.clone_from(&names);
                    return names;
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, path = ?self.path, "reading the whitelist; the last one holds");
                }
            }
        }
    }
}

fn read(path: &Path) -> io::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_again_and_a_lost_one_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agents");
        assert!(
            Whitelist::open(&path).is_err(),
            "nobody is let in by chance"
        );
        std::fs::write(&path, "one\n\n two \n").unwrap();
        let mut list = Whitelist::open(&path).unwrap();
        assert_eq!(list.names(), ["one".into(), "two".into()].into());
        std::fs::remove_file(&path).unwrap();
        let hour = Duration::from_hours(1);
        let waited = tokio::time::timeout(hour, list.changed()).await;
        assert!(waited.is_err(), "{waited:?}");
        std::fs::write(&path, "").unwrap();
        assert_eq!(list.changed().await, BTreeSet::new());
    }
}

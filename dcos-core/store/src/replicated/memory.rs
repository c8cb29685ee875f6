//! [`MemoryMedium`]: an engine in memory, which loses connections and answers on demand.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::{Medium, MediumError, Swapped, Version};

/// A [`Medium`] for tests. A clone is another machine's way to the same contents.
#[derive(Clone, Debug, Default)]
pub struct MemoryMedium {
    contents: Arc<Mutex<Contents>>,
    version: watch::Sender<Version>,
    faults: Arc<AtomicU32>,
}

#[derive(Debug, Default)]
struct Contents {
    version: Version,
    register: Bytes,
    pages: BTreeMap<String, Bytes>,
}

impl MemoryMedium {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on two of eleven calls fail, swaps by turns before they happen and after.
    pub fn fail_often(&self) {
        self.faults.store(1, Ordering::Relaxed);
    }

    /// The names of all pages there are.
    pub fn names(&self) -> Vec<String> {
        self.contents().pages.keys().cloned().collect()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of eleven turns this call has; turns 0 and 6 fail.
    fn turn(&self) -> u32 {
        match self.faults.load(Ordering::Relaxed) {
            0 => 1,
            _ => self.faults.fetch_add(1, Ordering::Relaxed) % 11,
        }
    }

    fn try_it(&self) -> Result<(), MediumError> {
        match self.turn() {
            0 | 6 => Err(lost()),
            _ => Ok(()),
        }
    }
}

fn lost() -> MediumError {
    MediumError::Unreachable("the connection was lost".to_owned())
}

#[async_trait]
impl Medium for MemoryMedium {
    async fn read(&self) -> Result<(Version, Bytes), MediumError> {
        self.try_it()?;
        let contents = self.contents();
        Ok((contents.version, contents.register.clone()))
    }

    async fn swap(
        &self,
        expected: Version,
        register: Bytes,
        page: Option<(&str, Bytes)>,
    ) -> Result<Swapped, MediumError> {
        let turn = self.turn();
        if turn == 0 {
            return Err(lost());
        }
        let swapped = {
            let mut contents = self.contents();
            if contents.version == expected {
                contents.version = Some(expected.unwrap_or_default() + 1);
                contents.register = register;
                if let Some((name, page)) = page {
                    contents.pages.insert(name.to_owned(), page);
                }
                Swapped::Done(contents.version)
            } else {
                Swapped::Moved
            }
        };
        if let Swapped::Done(version) = swapped {
            self.version.send_replace(version);
        }
        if turn == 6 { Err(lost()) } else { Ok(swapped) }
    }

    async fn changed(&self, seen: Version) -> Result<(), MediumError> {
        let mut version = self.version.subscribe();
        let changed = version.wait_for(|version| *version != seen).await;
        changed.map(drop).map_err(|_| lost())
    }

    async fn page(&self, name: &str) -> Result<Option<Bytes>, MediumError> {
        self.try_it()?;
        Ok(self.contents().pages.get(name).cloned())
    }

    async fn put(&self, name: &str, page: Bytes) -> Result<(), MediumError> {
        self.try_it()?;
        self.contents().pages.insert(name.to_owned(), page);
        Ok(())
    }

    async fn pages(&self) -> Result<Vec<String>, MediumError> {
        self.try_it()?;
        Ok(self.names())
    }

    async fn remove(&self, name: &str) -> Result<(), MediumError> {
        self.try_it()?;
        self.contents().pages.remove(name);
        Ok(())
    }
}

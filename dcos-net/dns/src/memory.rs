//! [`Memory`]: what a node knew of the cluster, in a file, for the time when it starts and no master answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dcos_core::error::chain;
use dcos_core::time::Time;
use dcos_net::{Around, Follower, Journal, MemoryFile, Remembered};
use tracing::{info, warn};

/// The file, and what is in it. Clones are the same; calls block.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Mutex<(MemoryFile, Journal)>>);

impl Memory {
    pub(crate) fn new(path: PathBuf) -> Self {
        let kept = (MemoryFile::new(path), Journal::default());
        Self(Arc::new(Mutex::new(kept)))
    }

    /// What was written last, if anything.
    pub(crate) fn read(&self, now: Time) -> Option<Remembered> {
        let (file, _) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = file.path();
        match file.read() {
            Ok(known) => {
                let known = known?;
                let (age_s, tasks) = ((now - known.written).as_secs(), known.tasks.len());
                info!(?path, age_s, tasks, "what was known of names is remembered");
                if known.broken > 0 {
                    let broken = known.broken;
                    warn!(
                        ?path,
                        broken, "its end is damaged: going on with what is before"
                    );
                }
                Some(known)
            }
            Err(error) => {
                let why = chain(&error);
                warn!(?path, %why, "what was known of names is of no use: beginning without");
                None
            }
        }
    }

    /// Has the file say what `follower` knows, and says whether it does. A failure is told in the log: names are answered all
    /// the same.
    pub(crate) fn write(
        &self,
        now: Time,
        leader: SocketAddr,
        masters: impl IntoIterator<Item = IpAddr>,
        follower: &mut Follower,
    ) -> bool {
        let around = Around {
            leader: Some(leader),
            addresses: BTreeSet::from_iter(masters),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, journal) = &mut *kept;
        if let Some(entry) = journal.next(now, &around, follower)
            && let Err(error) = file.carry_out(&journal.encode(entry))
        {
            journal.fail();
            warn!(path = ?file.path(), %error, "what is known of names cannot be kept");
            return false;
        }
        true
    }
}

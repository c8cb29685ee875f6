//! [`Memory`]: what a node knew of the cluster, in a file, for the time when it starts and no master answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use dcos_core::error::chain;
use dcos_net::{Around, Entry, Follower, Journal, Keeping, MemoryFile, Remembered};
use tracing::{info, warn};

/// The file, and what is in it. Clones are the same; calls block.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Mutex<(MemoryFile, Journal)>>);

impl Memory {
    pub(crate) fn new(keeping: Keeping) -> Self {
        let file = MemoryFile::new(keeping);
        let journal = file.journal();
        Self(Arc::new(Mutex::new((file, journal))))
    }

    /// What was written last, if there is anything that counts.
    pub(crate) fn read(&self) -> Option<Remembered> {
        let (file, _) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, now) = (file.path(), file.now());
        match file.read() {
            Ok(known) => {
                let known = known?;
                let (age_s, tasks) = ((now - known.written).as_secs(), known.tasks.len());
                info!(?path, age_s, tasks, "what was known of names is remembered");
                if known.ended > 0 {
                    let tasks = known.ended;
                    info!(
                        tasks,
                        "this host was started anew: its own tasks have ended, and have no names"
                    );
                }
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
        let entry = journal.next(file.now(), &around, follower);
        carry_out(file, journal, entry)
    }

    /// Has the file say that it is still so, and says whether it does: only who wrote all of it before can.
    pub(crate) fn still(&self) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, journal) = &mut *kept;
        let entry = journal.still(file.now());
        journal.goes_on() && carry_out(file, journal, entry)
    }
}

/// Writes, if there is anything to write.
fn carry_out(file: &mut MemoryFile, journal: &mut Journal, entry: Option<Entry>) -> bool {
    if let Some(entry) = entry
        && let Err(error) = file.carry_out(&journal.encode(entry))
    {
        journal.fail();
        warn!(path = ?file.path(), %error, "what is known of names cannot be kept");
        return false;
    }
    true
}

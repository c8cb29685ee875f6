//! Removing cgroups whose processes take their time to end, as one that waits for a disk that died.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::isolator::IsolatorError;

/// How long a container's end waits for its cgroup: mostly it is gone a moment after the last process.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);
/// How rarely it is tried at last.
const RARELY: Duration = Duration::from_mins(1);

/// Cgroups that are being removed. Clones are the same.
#[derive(Debug, Clone)]
pub struct Removals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    timeout: Duration,
    failed: AtomicU64,
    /// Those that somebody goes on trying to remove, and nobody uses again.
    pending: Mutex<BTreeSet<PathBuf>>,
}

impl Default for Removals {
    /// With Mesos's timeout of a minute.
    fn default() -> Self {
        Self::new(Duration::from_mins(1))
    }
}

impl Removals {
    /// What takes longer than `timeout` counts as failed, and is tried on (`--cgroups_destroy_timeout`).
    pub fn new(timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            timeout,
            failed: AtomicU64::new(0),
            pending: Mutex::default(),
        }))
    }

    /// After what time one has failed.
    pub fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// How many have failed so far.
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Ordering::Relaxed)
    }

    /// Kills what is in a cgroup and below it, and removes it; what is still there after a second is removed in
    /// the background, and nobody waits for it.
    ///
    /// # Errors
    /// [`IsolatorError::File`] if that is not for want of time.
    pub(super) async fn remove(&self, path: &Path) -> Result<(), IsolatorError> {
        // Several isolators may share it.
        if self.lock().contains(path) {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            match remove_folders(path) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => kill_members(path),
                Err(error) => return Err(IsolatorError::file("removing cgroup", path)(error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.remove_later(path);
        Ok(())
    }

    /// Tries until it is gone, less and less often.
    pub(super) fn remove_later(&self, path: &Path) {
        if !self.lock().insert(path.to_owned()) {
            return;
        }
        tracing::warn!(?path, "processes stay in a cgroup that is to be removed");
        let (removals, path) = (self.clone(), path.to_owned());
        tokio::spawn(async move { removals.insist(&path).await });
    }

    /// Somebody has a use for this cgroup again.
    pub(super) fn keep(&self, path: &Path) {
        self.lock().remove(path);
    }

    async fn insist(&self, path: &Path) {
        let deadline = Instant::now() + self.0.timeout;
        let mut late = false;
        let mut pause = PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            let mut pending = self.lock();
            if !pending.contains(path) {
                return;
            }
            kill_members(path);
            let removed = remove_folders(path);
            if removed.is_ok() {
                pending.remove(path);
                tracing::info!(?path, "the cgroup is removed");
                return;
            }
            drop(pending);
            if let (Err(error), false) = (removed, late || Instant::now() < deadline) {
                late = true;
                self.0.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(?path, %error, "a cgroup cannot be removed; it is tried on");
            }
            pause = (pause * 2).min(RARELY);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        let pending = self.0.pending.lock();
        pending.unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove_folders(path: &Path) -> io::Result<()> {
    let absent_is_fine = |outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    // Mostly there is nothing below.
    if absent_is_fine(fs::remove_dir(path)).is_ok() {
        return Ok(());
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folders(&entry.path())?;
        }
    }
    absent_is_fine(fs::remove_dir(path))
}

fn kill_members(path: &Path) {
    if fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    for pid in text
        .lines()
        .filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?))
    {
        // It may have ended just now.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_members(&entry.path());
        }
    }
}

//! [`SingleElection`]: the election of a cluster with one master machine.
//!
//! A lock on a file makes sure that one process leads; a number in another makes its terms grow.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Election, Fence, Leader, Leadership, Term, tell};
use crate::ElectionError;

/// How long a waiting candidate takes to notice that the leader has gone: file locks cannot be awaited.
const RETRY: Duration = Duration::from_millis(100);

/// Elects among the processes of one machine that share a directory.
///
/// The leader holds `<office>.lock` locked, which the kernel undoes when it dies. `<office>.term` holds the term
/// and what the leader said of itself; it is synced before a campaign succeeds.
/// A leadership here is lost only by dropping it.
///
/// [`Election::observe`] shows leaders of other processes only while this one campaigns.
#[derive(Clone, Debug)]
pub struct SingleElection {
    directory: PathBuf,
    office: Arc<str>,
    leader: watch::Sender<Option<Leader>>,
    /// Who waits is not known to the others: only the leader is told.
    candidates: watch::Sender<Vec<Bytes>>,
}

impl SingleElection {
    /// The election for `office` (a file name such as `master`) in `directory`, which must exist.
    pub fn new(directory: impl Into<PathBuf>, office: impl Into<Arc<str>>) -> Self {
        Self {
            directory: directory.into(),
            office: office.into(),
            leader: watch::Sender::new(None),
            candidates: watch::Sender::new(Vec::new()),
        }
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.office))
    }

    fn say(&self, leader: Option<Leader>) {
        let candidates = leader.iter().map(|leader| leader.candidate.clone());
        tell(&self.candidates, candidates.collect());
        tell(&self.leader, leader);
    }

    /// Tries once: the lock and the leader we now are, or nothing if another holds it.
    fn try_lead(&self, candidate: &Bytes) -> Result<Option<(File, Leader)>, ElectionError> {
        let lock_path = self.path("lock");
        let keep = |source| ElectionError::Keep {
            path: lock_path.clone(),
            source,
        };
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&lock_path)
            .map_err(keep)?;
        let term_path = self.path("term");
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // The leader replaces this file whole, so what is read is one of its leaders.
                let leader = read_leader(&term_path)?;
                self.say(leader);
                return Ok(None);
            }
            Err(TryLockError::Error(source)) => return Err(keep(source)),
        }
        let before = read_leader(&term_path)?.map_or(Term(0), |leader| leader.term);
        let leader = Leader {
            term: Term(before.0 + 1),
            candidate: candidate.clone(),
        };
        write_leader(&term_path, &leader).map_err(|source| ElectionError::Keep {
            path: term_path,
            source,
        })?;
        Ok(Some((lock, leader)))
    }
}

#[async_trait]
impl Election for SingleElection {
    async fn campaign(&self, candidate: Bytes) -> Result<Leadership, ElectionError> {
        loop {
            let (election, candidate) = (self.clone(), candidate.clone());
            let tried = spawn_blocking(move || election.try_lead(&candidate)).await;
            let tried = tried.map_err(io::Error::other);
            let tried = tried.map_err(|source| ElectionError::Keep {
                path: self.path("lock"),
                source,
            })??;
            if let Some((lock, leader)) = tried {
                let (lost, fence) = (
                    CancellationToken::new(),
                    Fence::new(self.office.clone(), leader.term),
                );
                self.say(Some(leader));
                let resign = Resign {
                    election: self.clone(),
                    lost: lost.clone(),
                    _lock: lock,
                };
                return Ok(Leadership::new(fence, lost, resign));
            }
            sleep(RETRY).await;
        }
    }

    fn observe(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.subscribe()
    }

    fn candidates(&self) -> watch::Receiver<Vec<Bytes>> {
        self.candidates.subscribe()
    }
}

/// Says that nobody leads; closing the lock file, which follows, unlocks it.
#[derive(Debug)]
struct Resign {
    election: SingleElection,
    lost: CancellationToken,
    _lock: File,
}

impl Drop for Resign {
    fn drop(&mut self) {
        self.election.say(None);
        self.lost.cancel();
    }
}

/// The file's first line is the term, all after it is the candidate.
fn read_leader(path: &Path) -> Result<Option<Leader>, ElectionError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(ElectionError::Keep {
                path: path.to_owned(),
                source,
            });
        }
    };
    let damaged = || ElectionError::Damaged {
        path: path.to_owned(),
    };
    let end = text
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(text.len());
    let term = str::from_utf8(&text[..end])
        .ok()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(damaged)?;
    let candidate = Bytes::copy_from_slice(text.get(end + 1..).unwrap_or_default());
    Ok(Some(Leader {
        term: Term(term),
        candidate,
    }))
}

fn write_leader(path: &Path, leader: &Leader) -> io::Result<()> {
    let unfinished = path.with_extension("term.new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{}", leader.term)?;
    file.write_all(&leader.candidate)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

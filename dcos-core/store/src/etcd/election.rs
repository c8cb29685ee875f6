//! [`EtcdElection`]: candidates are keys that live as long as their leases; the oldest key leads.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

use tonic::{Code, Status};

use super::{
    client::{Etcd, REQUEST, is_transient},
    words::{Compare, PutRequest, RequestOp, TxnRequest},
};
use crate::{
    Election, ElectionError, Ensemble, Fence, Leader, Leadership, Lease, Term,
    campaign::{Candidacies, RETRY, REVIEW, Resign},
    follow::Seen,
    lease::Moment,
};

/// Elects among the candidates at a path of etcd. A term is the revision at which the leader's key was created.
///
/// A leader renews its lease and then reads its key through a quorum, several times within a session
/// timeout. It counts as deposed from the moment at which its lease could have ended, whether or not it
/// hears of that.
#[derive(Clone)]
pub struct EtcdElection {
    inner: Arc<Inner>,
}

struct Inner {
    ensemble: Ensemble,
    office: Arc<str>,
    /// What the keys of candidates begin with.
    folder: String,
    seen: Arc<Seen>,
}

impl fmt::Debug for EtcdElection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EtcdElection({} at {})",
            self.inner.office, self.inner.folder
        )
    }
}

impl EtcdElection {
    /// The election of `office`.
    pub fn new(ensemble: Ensemble, office: impl Into<Arc<str>>) -> Self {
        let office = office.into();
        Self {
            inner: Arc::new(Inner {
                folder: format!("{}/election/{office}/", ensemble.path),
                ensemble,
                office,
                seen: Arc::new(Seen::new()),
            }),
        }
    }
}

#[async_trait]
impl Election for EtcdElection {
    async fn campaign(&self, candidate: Bytes) -> Result<Leadership, ElectionError> {
        loop {
            match self.inner.stand(&candidate).await {
                Ok(leadership) => return Ok(leadership),
                Err(error) if is_transient(&error) => {
                    tracing::info!(office = %self.inner.office, %error, "campaigning anew");
                    sleep(RETRY).await;
                }
                Err(error) => {
                    return Err(ElectionError::Refused {
                        ensemble: self.inner.ensemble.to_string(),
                        reason: error.to_string(),
                    });
                }
            }
        }
    }

    fn observe(&self) -> watch::Receiver<Option<Leader>> {
        self.inner.seen().leader()
    }

    fn candidates(&self) -> watch::Receiver<Vec<Bytes>> {
        self.inner.seen().candidates()
    }
}

/// A lease that is given back when it is dropped, so that its key goes with it.
struct Granted {
    etcd: Arc<Etcd>,
    id: i64,
    length: Duration,
    candidacies: Candidacies,
    _stands: TaskTrackerToken,
}

impl Granted {
    async fn new(etcd: Arc<Etcd>, ensemble: &Ensemble) -> Result<Self, Status> {
        let timeout = ensemble.session_timeout;
        #[expect(clippy::cast_possible_truncation, reason = "a session lasts seconds")]
        let seconds = timeout.as_secs_f64().ceil().max(1.0) as i64;
        let granted = etcd.grant(seconds).await?;
        let seconds = u64::try_from(granted.ttl).unwrap_or_default();
        Ok(Self {
            etcd,
            id: granted.id,
            // Clocks differ in speed.
            length: Duration::from_secs(seconds).mul_f64(0.9),
            candidacies: ensemble.candidacies.clone(),
            _stands: ensemble.candidacies.token(),
        })
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let (etcd, id) = (Arc::clone(&self.etcd), self.id);
        self.candidacies.spawn(async move {
            let _ = timeout(REQUEST, etcd.revoke(id)).await;
        });
    }
}

impl Inner {
    /// What somebody observes from now on.
    fn seen(&self) -> &Seen {
        self.seen.watch(|| {
            let observer = Observer {
                ensemble: self.ensemble.clone(),
                folder: self.folder.clone(),
                seen: Arc::downgrade(&self.seen),
            };
            tokio::spawn(observer.run())
        })
    }

    async fn stand(&self, candidate: &Bytes) -> Result<Leadership, Status> {
        let etcd = Arc::new(Etcd::new(&self.ensemble));
        let begin = Moment::now();
        let granted = Granted::new(Arc::clone(&etcd), &self.ensemble).await?;
        let key = format!("{}{:016x}", self.folder, granted.id);
        let put = PutRequest {
            key: key.clone().into(),
            value: candidate.clone(),
            lease: granted.id,
        };
        let stand = TxnRequest {
            compare: vec![Compare::created(key.clone().into(), 0)],
            success: vec![RequestOp { put: Some(put) }],
        };
        etcd.transact(stand).await?;
        tracing::info!(office = %self.office, key, "standing for election");
        let lost = CancellationToken::new();
        let lease = Lease::new(lost.clone(), begin, granted.length);
        let keeper = Keeper {
            etcd,
            granted,
            key,
            lease,
        };
        let created = keeper.wait_for_turn(&self.folder).await?;
        Ok(self.lead(keeper, created, candidate, lost))
    }

    fn lead(
        &self,
        keeper: Keeper,
        created: i64,
        candidate: &Bytes,
        lost: CancellationToken,
    ) -> Leadership {
        let leader = Leader {
            term: term(created),
            candidate: candidate.clone(),
        };
        let (lease, fence) = (
            keeper.lease.clone(),
            Fence::new(Arc::clone(&self.office), leader.term),
        );
        let resigned = CancellationToken::new();
        self.seen.say(Some(leader.clone()));
        self.ensemble.candidacies.spawn(run(
            keeper,
            lost.clone(),
            resigned.clone(),
            Arc::clone(&self.seen),
            leader,
        ));
        let resign = Resign::new(&lost, resigned);
        Leadership::new(fence, lost, resign).with_lease(lease)
    }
}

fn term(created: i64) -> Term {
    Term(u64::try_from(created).unwrap_or_default())
}

/// Holds the lease of a candidate, and says when it is over.
struct Keeper {
    etcd: Arc<Etcd>,
    granted: Granted,
    key: String,
    lease: Lease,
}

impl Keeper {
    /// Returns once our key is the oldest, with the revision of its creation.
    async fn wait_for_turn(&self, folder: &str) -> Result<i64, Status> {
        loop {
            self.confirm().await?;
            let found = self.etcd.by_age(folder, 0).await?;
            let (next, candidates) = (found.revision() + 1, found.kvs);
            let own = candidates
                .iter()
                .position(|kv| kv.key == self.key.as_bytes());
            let Some(own) = own else {
                return Err(gone());
            };
            let Some(before) = own.checked_sub(1).map(|before| &candidates[before]) else {
                return Ok(candidates[own].create_revision);
            };
            let key = String::from_utf8_lossy(&before.key).into_owned();
            let mut changes = self.etcd.watch(&key, true, next).await?;
            tokio::select! {
                _ = changes.next() => {}
                () = sleep(REVIEW.min(self.granted.length / 4)) => {}
            }
        }
    }

    /// Renews the lease, and makes sure through a quorum that our key is still there.
    async fn confirm(&self) -> Result<(), Status> {
        let begin = Moment::now();
        self.etcd.renew(self.granted.id).await?;
        if self.etcd.get(&self.key).await?.is_none() {
            return Err(gone());
        }
        self.lease.extend(begin, self.granted.length);
        Ok(())
    }

    async fn keep(&self) -> &'static str {
        loop {
            tokio::select! {
                confirmed = self.confirm() => match confirmed {
                    Ok(()) => {}
                    Err(error) if error.code() == Code::NotFound => return "its lease ended",
                    Err(error) => {
                        tracing::info!(key = self.key, %error, "not confirmed");
                        sleep(RETRY.min(self.granted.length / 12)).await;
                    }
                },
                () = sleep(self.lease.left()) => return "nobody confirms it",
            }
            if !self.lease.holds() {
                return "it was not confirmed in time";
            }
            sleep(self.granted.length / 6).await;
        }
    }
}

fn gone() -> Status {
    Status::not_found("the candidate's key is gone")
}

async fn run(
    keeper: Keeper,
    lost: CancellationToken,
    resigned: CancellationToken,
    seen: Arc<Seen>,
    leader: Leader,
) {
    tokio::select! {
        why = keeper.keep() => {
            tracing::warn!(key = keeper.key, why, "the leadership is over");
            lost.cancel();
        }
        () = resigned.cancelled() => {}
    }
    seen.gone(&leader);
}

/// Tells who stands and who leads.
struct Observer {
    ensemble: Ensemble,
    folder: String,
    seen: std::sync::Weak<Seen>,
}

impl Observer {
    async fn run(self) {
        loop {
            if let Err(error) = self.session().await {
                tracing::debug!(folder = self.folder, %error, "observing the election");
            }
            sleep(RETRY).await;
        }
    }

    async fn session(&self) -> Result<(), Status> {
        let etcd = Etcd::new(&self.ensemble);
        let mut changes = etcd.watch(&self.folder, false, 0).await?;
        loop {
            let Some(seen) = self.seen.upgrade() else {
                return Ok(());
            };
            let begun = seen.begin();
            let found = etcd.by_age(&self.folder, 0).await?.kvs;
            let standing = found.into_iter().map(|kv| Leader {
                term: term(kv.create_revision),
                candidate: kv.value,
            });
            if !seen.read(begun, standing.collect()) {
                continue;
            }
            drop(seen);
            tokio::select! {
                changed = changes.next() => changed?,
                () = sleep(REVIEW) => {}
            }
        }
    }
}

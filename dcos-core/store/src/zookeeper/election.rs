//! [`ZooKeeperElection`]: the original's election, by ephemeral sequential nodes.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use zookeeper_client::{Client, CreateMode, Error};

use super::session::{Rights, connect, is_transient, make_folder, within};
use crate::{
    Election, ElectionError, Ensemble, Fence, Leader, Leadership, Lease, Term,
    campaign::{Candidacies, RETRY, REVIEW, Resign},
    follow::Seen,
    lease::Moment,
};

/// Elects among the candidates at a path of `ZooKeeper`. A term is one more than the number of the leader's node.
///
/// The office `master` uses the original's nodes, so `campaign` has to be given a `MasterInfo` in its JSON.
/// A leader confirms itself through a quorum several times within a session timeout, and counts as deposed
/// from the moment at which its session could have ended, whether or not it hears of that.
#[derive(Clone)]
pub struct ZooKeeperElection {
    inner: Arc<Inner>,
}

struct Inner {
    ensemble: Ensemble,
    office: Arc<str>,
    folder: String,
    /// What the names of candidates begin with.
    label: &'static str,
    rights: Rights,
    seen: Arc<Seen>,
}

impl fmt::Debug for ZooKeeperElection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ZooKeeperElection({} at {})",
            self.inner.office, self.inner.folder
        )
    }
}

impl ZooKeeperElection {
    /// The election of `office`.
    pub fn new(ensemble: Ensemble, office: impl Into<Arc<str>>) -> Self {
        let office = office.into();
        let (folder, label) = if &*office == "master" {
            (ensemble.path.clone(), "json.info_")
        } else {
            (
                format!("{}/log_replicas/{office}", ensemble.path),
                "candidate_",
            )
        };
        Self {
            inner: Arc::new(Inner {
                rights: Rights::of(&ensemble),
                ensemble,
                office,
                folder,
                label,
                seen: Arc::new(Seen::new()),
            }),
        }
    }
}

#[async_trait]
impl Election for ZooKeeperElection {
    async fn campaign(&self, candidate: Bytes) -> Result<Leadership, ElectionError> {
        loop {
            // A candidate whose session broke leaves its node to it, and stands anew with another.
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

impl Inner {
    /// What somebody observes from now on.
    fn seen(&self) -> &Seen {
        self.seen.watch(|| {
            let observer = Observer {
                ensemble: self.ensemble.clone(),
                folder: self.folder.clone(),
                label: self.label,
                seen: Arc::downgrade(&self.seen),
            };
            tokio::spawn(observer.run())
        })
    }

    async fn stand(self: &Arc<Self>, candidate: &Bytes) -> Result<Leadership, Error> {
        let client = connect(&self.ensemble).await?;
        make_folder(&client, &self.folder, &self.rights).await?;
        let (node, number) = self.node(client, candidate).await?;
        tracing::info!(office = %self.office, path = node.path, "standing for election");
        self.wait_for_turn(&node.client, number).await?;
        self.lead(node, number, candidate).await
    }

    /// A candidate's node, and its number. What is asked for cannot be taken back: if nobody waits for it any more, it is deleted as
    /// soon as it is there.
    async fn node(
        self: &Arc<Self>,
        client: Client,
        candidate: &Bytes,
    ) -> Result<(Node, i64), Error> {
        let (made, node) = oneshot::channel();
        let (inner, candidate) = (Arc::clone(self), candidate.clone());
        self.ensemble.candidacies.spawn(async move {
            let options = CreateMode::EphemeralSequential.with_acls(inner.rights.acls());
            let path = format!("{}/{}", inner.folder, inner.label);
            let created = client.create(&path, &candidate, &options).await;
            let node = created.map(|(_, sequence)| {
                let node = Node {
                    client,
                    path: format!("{path}{sequence}"),
                    candidacies: inner.ensemble.candidacies.clone(),
                    _stands: inner.ensemble.candidacies.token(),
                };
                (node, sequence.into_i64())
            });
            let _ = made.send(node);
        });
        within(async { node.await.unwrap_or(Err(Error::ClientClosed)) }).await
    }

    /// Returns once nobody stands before `number`.
    async fn wait_for_turn(&self, client: &Client, number: i64) -> Result<(), Error> {
        let mut state = client.state_watcher();
        loop {
            let candidates = candidates(client, &self.folder, self.label).await?;
            if !candidates.iter().any(|(other, _)| *other == number) {
                return Err(Error::SessionExpired);
            }
            let before = candidates.iter().rev().find(|(other, _)| *other < number);
            let Some((_, before)) = before else {
                return Ok(());
            };
            let watched = format!("{}/{before}", self.folder);
            let (stat, watcher) = within(client.check_and_watch_stat(&watched)).await?;
            if stat.is_none() {
                continue;
            }
            tokio::select! {
                _ = watcher.changed() => {}
                () = sleep(REVIEW) => {}
                state = state.changed() => if state.is_terminated() {
                    return Err(Error::SessionExpired);
                },
            }
        }
    }

    async fn lead(&self, node: Node, number: i64, candidate: &Bytes) -> Result<Leadership, Error> {
        let length = lease_length(node.client.session_timeout());
        let begin = Moment::now();
        node.confirm().await?;
        let term = Term(u64::try_from(number).unwrap_or_default() + 1);
        let leader = Leader {
            term,
            candidate: candidate.clone(),
        };
        let lost = CancellationToken::new();
        let lease = Lease::new(lost.clone(), begin, length);
        let resigned = CancellationToken::new();
        self.seen.say(Some(leader.clone()));
        let keeper = Keeper {
            node,
            length,
            lease: lease.clone(),
            lost: lost.clone(),
            resigned: resigned.clone(),
            seen: Arc::clone(&self.seen),
            leader,
        };
        self.ensemble.candidacies.spawn(keeper.run());
        let fence = Fence::new(Arc::clone(&self.office), term);
        let resign = Resign::new(&lost, resigned);
        Ok(Leadership::new(fence, lost, resign).with_lease(lease))
    }
}

/// How long a confirmation holds: shorter than a session, since clocks differ in speed.
fn lease_length(session: Duration) -> Duration {
    session.mul_f64(0.9)
}

/// A candidate's node, deleted when it is dropped: told at once, the next candidate need not wait for the session's end.
struct Node {
    client: Client,
    path: String,
    candidacies: Candidacies,
    _stands: TaskTrackerToken,
}

impl Node {
    /// Makes sure, through a quorum, that it is there; this also tells the session's keeper that we live.
    async fn confirm(&self) -> Result<(), Error> {
        let mut writer = self.client.new_multi_writer();
        writer.add_check_version(&self.path, 0)?;
        within(writer.commit()).await?;
        Ok(())
    }

    async fn delete(&mut self) {
        let path = std::mem::take(&mut self.path);
        let _ = within(self.client.delete(&path, None)).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let (client, path) = (self.client.clone(), std::mem::take(&mut self.path));
        if !path.is_empty() {
            self.candidacies.spawn(async move {
                let _ = within(client.delete(&path, None)).await;
            });
        }
    }
}

/// Holds the session of a leader, and says when it is over.
struct Keeper {
    node: Node,
    length: Duration,
    lease: Lease,
    lost: CancellationToken,
    resigned: CancellationToken,
    seen: Arc<Seen>,
    leader: Leader,
}

impl Keeper {
    async fn run(mut self) {
        tokio::select! {
            why = self.keep() => {
                tracing::warn!(path = self.node.path, why, "the leadership is over");
                self.lost.cancel();
            }
            () = self.resigned.cancelled() => self.node.delete().await,
        }
        self.seen.gone(&self.leader);
    }

    async fn keep(&self) -> &'static str {
        let mut state = self.node.client.state_watcher();
        let pause = self.length / 6;
        loop {
            let begin = Moment::now();
            tokio::select! {
                confirmed = self.node.confirm() => match confirmed {
                    Ok(()) => self.lease.extend(begin, self.length),
                    Err(Error::NoNode) => return "its node is gone",
                    Err(Error::SessionExpired | Error::ClientClosed) => return "its session ended",
                    Err(error) => tracing::info!(path = self.node.path, %error, "not confirmed"),
                },
                () = sleep(self.lease.left()) => return "nobody confirms it",
            }
            if !self.lease.holds() {
                return "it was not confirmed in time";
            }
            tokio::select! {
                () = sleep(pause) => {}
                state = state.changed() => if state.is_terminated() {
                    return "its session ended";
                },
            }
        }
    }
}

/// The candidates by their numbers, the leader first.
async fn candidates(
    client: &Client,
    folder: &str,
    label: &str,
) -> Result<Vec<(i64, String)>, Error> {
    within(client.sync(folder)).await?;
    let names = within(client.list_children(folder)).await?;
    let numbered = names.into_iter().filter_map(|name| {
        let number = name.strip_prefix(label)?.parse().ok()?;
        Some((number, name))
    });
    let mut candidates: Vec<_> = numbered.collect();
    candidates.sort_unstable();
    Ok(candidates)
}

/// Tells who stands and who leads, with a session of its own.
struct Observer {
    ensemble: Ensemble,
    folder: String,
    label: &'static str,
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

    async fn session(&self) -> Result<(), Error> {
        let client = connect(&self.ensemble).await?;
        let mut state = client.state_watcher();
        loop {
            let Some(seen) = self.seen.upgrade() else {
                return Ok(());
            };
            let begun = seen.begin();
            let (standing, watcher) = self.look(&client).await?;
            if !seen.read(begun, standing) {
                continue;
            }
            drop(seen);
            tokio::select! {
                () = watcher => {}
                () = sleep(REVIEW) => {}
                state = state.changed() => if state.is_terminated() {
                    return Err(Error::SessionExpired);
                },
            }
        }
    }

    /// Who stands, the leader first, and what resolves once that may have changed.
    async fn look<'a>(
        &self,
        client: &'a Client,
    ) -> Result<(Vec<Leader>, impl Future<Output = ()> + use<'a>), Error> {
        'again: loop {
            let watcher = match within(client.list_and_watch_children(&self.folder)).await {
                Ok((_, watcher)) => Some(watcher),
                // Nobody ever stood: look again before long.
                Err(Error::NoNode) => None,
                Err(error) => return Err(error),
            };
            let wait = async move {
                match watcher {
                    Some(watcher) => drop(watcher.changed().await),
                    None => sleep(RETRY).await,
                }
            };
            let candidates = match candidates(client, &self.folder, self.label).await {
                Ok(candidates) => candidates,
                Err(Error::NoNode) => Vec::new(),
                Err(error) => return Err(error),
            };
            let mut standing = Vec::with_capacity(candidates.len());
            for (number, name) in candidates {
                match within(client.get_data(&format!("{}/{name}", self.folder))).await {
                    Ok((data, _)) => standing.push(Leader {
                        term: Term(u64::try_from(number).unwrap_or_default() + 1),
                        candidate: data.into(),
                    }),
                    // It went between the two answers.
                    Err(Error::NoNode) => continue 'again,
                    Err(error) => return Err(error),
                }
            }
            return Ok((standing, wait));
        }
    }
}

//! What takes long or waits for others, and is done beside gossip: names, keys, the memory.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::error::chain;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::Resolver;
use crate::keys::{KeyFile, Keyring};
use crate::membership::{Members, Presence};

/// Members that are remembered for the next start.
const REMEMBERED: usize = 64;

/// What came of an errand.
#[derive(Debug)]
pub(super) enum News {
    Seeds(Vec<SocketAddr>),
    Keys(Keyring),
}

/// Tells the addresses behind `join`, again and again. A name that nobody knows any more has its
/// former ones: those who are asked in vain lose nothing.
pub(super) async fn names(
    mut join: watch::Receiver<Vec<String>>,
    resolver: &dyn Resolver,
    review: Duration,
    tell: &mpsc::Sender<News>,
) {
    let mut known: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    let mut told = Vec::new();
    let mut is_told = true;
    loop {
        let named = join.borrow_and_update().clone();
        known.retain(|name, _| named.contains(name));
        let mut asked = JoinSet::new();
        for name in named {
            if let Ok(address) = name.parse() {
                known.insert(name, vec![address]);
            } else {
                let looking = resolver.look_up(name.clone());
                asked.spawn(async move { (name, looking.await) });
            }
        }
        // What is known goes first: a name may take as long as it wants.
        loop {
            let mut all: Vec<SocketAddr> = known.values().flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            if all != told {
                told.clone_from(&all);
                // Nobody listens any more only when gossip ends.
                let _ = tell.send(News::Seeds(all)).await;
            }
            tokio::select! {
                Some(found) = asked.join_next() => match found {
                    Ok((name, Ok(found))) => {
                        known.insert(name, found);
                    }
                    Ok((name, Err(error))) => {
                        tracing::debug!(name, %error, "looking up whom to join");
                    }
                    Err(error) => tracing::warn!(%error, "looking up whom to join"),
                },
                // One is under way, or all were found.
                () = sleep(review), if asked.is_empty() => break,
                changed = join.changed(), if is_told => match changed {
                    Ok(()) => break,
                    // Nobody will say anything else any more.
                    Err(_) => is_told = false,
                },
            }
        }
    }
}

/// Tells the keys whenever their file changes.
pub(super) async fn keys(mut file: KeyFile, review: Duration, tell: &mpsc::Sender<News>) {
    let mut complained = String::new();
    loop {
        sleep(review).await;
        let look = spawn_blocking(move || {
            let looked = file.look();
            (file, looked)
        });
        let Ok((back, looked)) = look.await else {
            // It can only have panicked; gossip goes on with the keys it has.
            tracing::error!("the gossip keys are read no more");
            return std::future::pending().await;
        };
        file = back;
        match looked {
            Ok(None) => {}
            Ok(Some(keyring)) => {
                complained.clear();
                let _ = tell.send(News::Keys(keyring)).await;
                tracing::info!("gossip has new keys");
            }
            Err(error) => {
                let error = chain(&error).to_string();
                if error != complained {
                    tracing::warn!("{error}; gossip goes on with the former keys");
                    complained = error;
                }
            }
        }
    }
}

/// Writes down who is there, for the next start.
pub(super) struct Remembering {
    pub(super) path: PathBuf,
    pub(super) own: SocketAddr,
    pub(super) members: watch::Receiver<Arc<Members>>,
}

impl Remembering {
    pub(super) async fn keep(memory: Option<&Self>, review: Duration) {
        let Some(memory) = memory else {
            return std::future::pending().await;
        };
        loop {
            sleep(review).await;
            memory.write().await;
        }
    }

    pub(super) async fn write(&self) {
        let members = self.members.borrow().clone();
        let there = members
            .values()
            .filter(|member| member.presence != Presence::Dead && member.address != self.own);
        let there: Vec<SocketAddr> = there
            .map(|member| member.address)
            .take(REMEMBERED)
            .collect();
        if there.is_empty() {
            // Whoever was there before may be again.
            return;
        }
        if let Err(error) = write(&self.path, &there).await {
            tracing::warn!(%error, path = ?self.path, "remembering the members");
        }
    }
}

pub(super) async fn recall(path: &Path) -> Vec<SocketAddr> {
    let text = tokio::fs::read(path).await.unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

async fn write(path: &Path, members: &[SocketAddr]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let text = serde_json::to_vec(members)?;
    let beside = path.with_extension("new");
    tokio::fs::write(&beside, text).await?;
    tokio::fs::rename(&beside, path).await
}

//! [`Masters`]: where the leading master is.

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dcos_proto::mesos::MasterInfo;
use tokio::sync::watch;

use crate::libprocess::Upid;

/// Where the leading master is found.
#[derive(Clone, Debug)]
pub enum Masters {
    /// At `host:port`, or at wherever that one sends us.
    Fixed(String),
    /// Where an election shows it.
    Led(watch::Receiver<Option<Arc<MasterInfo>>>),
}

impl Masters {
    /// Its address; waits until somebody leads.
    pub async fn leader(&mut self) -> String {
        match self {
            Self::Fixed(address) => address.clone(),
            Self::Led(leading) => loop {
                let led = leading.borrow_and_update().clone();
                let pid = led.as_deref().and_then(|info| info.pid.as_deref());
                if let Some(upid) = pid.and_then(|pid| pid.parse::<Upid>().ok()) {
                    return upid.address().to_string();
                }
                if leading.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            },
        }
    }

    /// Has `listen` listen to whoever leads, one leader after the other, until it breaks off. It is given an address,
    /// and cut short when another one leads; what it ended for otherwise it gives back, and is called again after
    /// a pause. Pauses grow from `pauses.0` to `pauses.1` and are as short as at first once a leader was
    /// [heard](Heard).
    pub async fn follow<E: Error, F: Future<Output = ControlFlow<(), E>>>(
        mut self,
        pauses: (Duration, Duration),
        mut listen: impl FnMut(String, Heard) -> F,
    ) {
        let mut pause = pauses.0;
        loop {
            let leader = self.leader().await;
            let heard = Heard::default();
            let ended = tokio::select! {
                ended = listen(leader.clone(), heard.clone()) => ended,
                () = self.changed() => {
                    pause = pauses.0;
                    continue;
                }
            };
            let ControlFlow::Continue(ended) = ended else {
                return;
            };
            let reason = dcos_core::error::chain(&ended).to_string();
            tracing::debug!(leader, reason, "not following the master");
            if heard.0.load(Ordering::Relaxed) {
                pause = pauses.0;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(pauses.1),
                () = self.changed() => {}
            }
        }
    }

    /// Waits until another one leads, as far as anybody tells.
    pub async fn changed(&mut self) {
        if let Self::Led(leading) = self
            && leading.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Whether a leader said something. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<AtomicBool>);

impl Heard {
    /// It did.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(address: &str) -> Arc<MasterInfo> {
        Arc::new(MasterInfo {
            pid: Some(format!("master@{address}")),
            ..MasterInfo::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leads_is_listened_to() {
        let (election, leading) = watch::channel(Some(master("10.0.0.1:5050")));
        let mut times = Vec::new();
        let begin = tokio::time::Instant::now();
        let pauses = (Duration::from_secs(1), Duration::from_secs(3));
        let election = &election;
        let following = Masters::Led(leading).follow(pauses, |leader, heard| {
            times.push((leader, begin.elapsed().as_secs()));
            let time = times.len();
            async move {
                match time {
                    // It cannot be reached; then says something, and is gone.
                    1..=4 => {}
                    5 => heard.note(),
                    // It is listened to until another one leads.
                    6 => {
                        election.send_replace(Some(master("10.0.0.2:5050")));
                        std::future::pending().await
                    }
                    _ => return ControlFlow::Break(()),
                }
                ControlFlow::Continue(std::io::Error::other("gone"))
            }
        });
        following.await;
        let seconds: Vec<u64> = times.iter().map(|(_, second)| *second).collect();
        assert_eq!(seconds, [0, 1, 3, 6, 9, 10, 10]);
        let leaders: Vec<&str> = times.iter().map(|(leader, _)| &**leader).collect();
        assert_eq!(leaders[..6], ["10.0.0.1:5050"; 6]);
        assert_eq!(leaders[6], "10.0.0.2:5050");
    }
}

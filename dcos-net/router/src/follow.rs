//! What the router learns of the cluster: from streams of events, not by asking now and then.
//!
//! The original asks Marathon and Mesos every 25 seconds, so that a new service was reachable half a minute late.

mod marathon;
mod mesos;
mod sse;

use std::sync::Arc;
use std::time::Duration;

use dcos_wire::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::world::{Base, Scheme, World};

/// Whom the router follows.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Where masters may be asked (`host:port`); who does not lead redirects to the leader.
    pub masters: watch::Receiver<Vec<String>>,
    /// How masters are spoken to.
    pub scheme: Scheme,
    /// What asks masters.
    pub master_client: Client,
    /// Where Marathon may be asked; without it there are no services by label.
    pub marathon: Option<Base>,
    /// What asks Marathon.
    pub marathon_client: Client,
}

/// What is known, shared with those who answer requests.
pub(crate) type Worlds = watch::Sender<Arc<World>>;

/// Follows both until `stop` is cancelled.
pub(crate) async fn follow(sources: Sources, worlds: Worlds, stop: CancellationToken) {
    let Sources {
        masters,
        scheme,
        master_client,
        marathon,
        marathon_client,
    } = sources;
    let leading = masters.clone();
    let of_mesos = mesos::follow(masters, scheme, &master_client, &worlds);
    let of_marathon = async {
        match marathon {
            Some(base) => marathon::follow(&base, &marathon_client, &worlds, leading).await,
            // Nobody can label anything.
            None => change(&worlds, |world| world.apps = Some(Arc::default())),
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        ((), ()) = async { futures::join!(of_mesos, of_marathon) } => stop.cancelled().await,
    }
}

/// Waits until other masters are named.
async fn named_anew(masters: &mut watch::Receiver<Vec<String>>) {
    if masters.changed().await.is_err() {
        // They stay as they are.
        std::future::pending::<()>().await;
    }
}

fn change(worlds: &Worlds, how: impl FnOnce(&mut World)) {
    worlds.send_modify(|world| how(Arc::make_mut(world)));
}

/// How long to wait before asking again: longer each time, until somebody answers.
#[derive(Debug)]
struct Backoff(Duration);

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

impl Backoff {
    const fn new() -> Self {
        Self(SHORTEST)
    }

    const fn reset(&mut self) {
        self.0 = SHORTEST;
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

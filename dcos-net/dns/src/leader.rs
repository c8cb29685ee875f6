//! [`Seeker`]: where the leading master is, if what tells of it has only its name.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use tracing::warn;

/// The pauses between two tries: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Looks up one name at a time, until it is found.
#[derive(Default)]
pub(crate) struct Seeker(Option<BoxFuture<'static, SocketAddr>>);

impl Seeker {
    /// From now on this one is looked for, and no other; where it is, if it says so itself.
    pub(crate) fn seek(&mut self, leader: Arc<str>) -> Option<SocketAddr> {
        self.0 = None;
        if let Ok(address) = leader.parse() {
            return Some(address);
        }
        let ask = |leader: Arc<str>| async move {
            let found = tokio::net::lookup_host(&*leader).await?;
            // Of IPv4 if it has both.
            Ok(found.min_by_key(SocketAddr::is_ipv6))
        };
        self.0 = Some(find(leader, ask).boxed());
        None
    }

    /// Waits until whoever is looked for is found.
    pub(crate) async fn found(&mut self) -> SocketAddr {
        let Some(seeking) = &mut self.0 else {
            return std::future::pending().await;
        };
        let found = seeking.await;
        self.0 = None;
        found
    }
}

/// Asks until there is an address.
async fn find<F>(leader: Arc<str>, ask: impl Fn(Arc<str>) -> F) -> SocketAddr
where
    F: Future<Output = io::Result<Option<SocketAddr>>>,
{
    let mut pause = PAUSE;
    loop {
        let reason = match ask(Arc::clone(&leader)).await {
            Ok(Some(address)) => return address,
            Ok(None) => "the name has none".to_owned(),
            Err(error) => error.to_string(),
        };
        warn!(%leader, reason, "the leading master has no address: looking it up again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = LONGEST.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_until_it_is_found() {
        let tries = AtomicUsize::new(0);
        let ask = |_| {
            let found = match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(io::ErrorKind::TimedOut.into()),
                1 => Ok(None),
                _ => Ok("10.0.0.1:5050".parse().ok()),
            };
            std::future::ready(found)
        };
        let found = find("master.example:5050".into(), ask).await;
        assert_eq!(found, "10.0.0.1:5050".parse().unwrap());
        assert_eq!(tries.into_inner(), 3);
    }

    #[tokio::test]
    async fn an_address_ends_the_search_for_a_name() {
        let mut seeker = Seeker::default();
        assert_eq!(seeker.seek("no-such-name.invalid:5050".into()), None);
        let address = "10.0.0.1:5050";
        assert_eq!(seeker.seek(address.into()), address.parse().ok());
        assert!(seeker.0.is_none());
        assert_eq!(seeker.seek("localhost:5050".into()), None);
        let found = seeker.found().await;
        assert!(found.ip().is_loopback(), "{found}");
    }
}

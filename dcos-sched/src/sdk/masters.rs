//! Where a transport looks for the leading master: a list to ask one by one, or somebody who knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dcos_proto::mesos::MasterInfo;
use dcos_wire::tls::Ssl;
use tokio::sync::watch;

use super::TransportError;

/// How long a subscription waits for a leader to be elected before it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The leading master, as an election shows it: `dcos_store::masters` for `zk://` and `etcd://` URLs.
pub type LeadingMaster = watch::Receiver<Option<Arc<MasterInfo>>>;

#[derive(Debug)]
pub(super) enum Masters {
    /// URLs, and which of them is asked; that moves on when one does not answer.
    Listed(Vec<String>, AtomicUsize),
    Followed(LeadingMaster),
}

impl Masters {
    pub(super) fn listed(masters: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let url = |master: &str| {
            let master = master.trim_end_matches('/');
            if master.contains("://") {
                master.to_owned()
            } else {
                format!("{}://{master}", Ssl::scheme())
            }
        };
        let urls = masters.into_iter().map(|master| url(master.as_ref()));
        Self::Listed(urls.collect(), AtomicUsize::new(0))
    }

    /// Whom to ask now, as a URL, and for how long that one leads.
    pub(super) async fn ask(&self) -> Result<(String, Term), TransportError> {
        match self {
            Self::Listed(urls, current) => {
                let index = current.load(Ordering::Relaxed) % urls.len().max(1);
                let url = urls.get(index).cloned().unwrap_or_default();
                Ok((url, Term(None)))
            }
            Self::Followed(leading) => {
                let mut waiting = leading.clone();
                let elected =
                    waiting.wait_for(|leader| leader.as_deref().and_then(master_url).is_some());
                let elected = tokio::time::timeout(PATIENCE, elected).await;
                let elected = elected.ok().and_then(Result::ok);
                let elected = elected.and_then(|leader| leader.clone());
                let url = elected.as_deref().and_then(master_url);
                let Some((leader, url)) = elected.zip(url) else {
                    let reason = "no master has been elected".to_owned();
                    return Err(TransportError::NotReady { reason });
                };
                Ok((url, Term(Some((leading.clone(), leader.id.clone())))))
            }
        }
    }

    /// The one that was asked did not answer.
    pub(super) fn next(&self) {
        if let Self::Listed(_, current) = self {
            current.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The time of one leader, for links that would otherwise wait for one who is cut off.
#[derive(Debug, Clone)]
pub(super) struct Term(Option<(LeadingMaster, String)>);

impl Term {
    /// Waits until somebody else leads; for ever where nobody tells.
    pub(super) async fn over(&mut self) {
        let Some((leading, leader)) = &mut self.0 else {
            return std::future::pending().await;
        };
        let other =
            |now: &Option<Arc<MasterInfo>>| now.as_ref().is_some_and(|now| now.id != *leader);
        if leading.wait_for(other).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Where a master's API is, from what it says of itself; `None` if it names no address.
pub fn master_url(info: &MasterInfo) -> Option<String> {
    let address = info.address.as_ref();
    let host = address.and_then(|address| address.ip.as_ref().or(address.hostname.as_ref()));
    let host = host.or(info.hostname.as_ref())?;
    Some(if host.contains(':') {
        format!("{}://[{host}]:{}", Ssl::scheme(), info.port)
    } else {
        format!("{}://{host}:{}", Ssl::scheme(), info.port)
    })
}

/// The credentials in a URL, with the `@` behind them; empty if it has none.
pub(super) fn user(url: &str) -> &str {
    let start = url.find("://").map_or(0, |found| found + 3);
    let authority = url[start..]
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    let end = authority.rfind('@').map_or(0, |found| found + 1);
    &authority[..end]
}

/// A URL as it may be shown.
pub(super) fn without_user(url: &str) -> String {
    match user(url) {
        "" => url.to_owned(),
        user => url.replacen(user, "", 1),
    }
}

#[cfg(test)]
mod tests {
    use dcos_proto::mesos::Address;

    use super::*;

    fn master(id: &str, ip: &str) -> Arc<MasterInfo> {
        Arc::new(MasterInfo {
            id: id.to_owned(),
            port: 5050,
            address: Some(Address {
                ip: Some(ip.to_owned()),
                port: 5050,
                ..Address::default()
            }),
            ..MasterInfo::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_waited_for_and_its_term_ends_with_the_next_one() {
        let (election, leading) = watch::channel(None);
        let masters = Masters::Followed(leading);
        assert!(matches!(
            masters.ask().await,
            Err(TransportError::NotReady { .. })
        ));
        election.send_replace(Some(master("a", "10.0.0.1")));
        let (url, mut term) = masters.ask().await.unwrap();
        assert_eq!(url, "http://10.0.0.1:5050");
        // That nobody is known to lead does not mean that the leader is gone.
        election.send_replace(None);
        let still = tokio::time::timeout(Duration::from_secs(60), term.over()).await;
        assert!(still.is_err());
        election.send_replace(Some(master("b", "::1")));
        term.over().await;
        assert_eq!(masters.ask().await.unwrap().0, "http://[::1]:5050");
        // Whoever asks later knows of the next one's term, and those of the former one still see its end.
        term.over().await;
    }

    #[tokio::test(start_paused = true)]
    async fn listed_masters_are_asked_in_turn() {
        let masters = Masters::listed(["a:1", "https://b:2/"]);
        assert_eq!(masters.ask().await.unwrap().0, "http://a:1");
        masters.next();
        let (url, mut term) = masters.ask().await.unwrap();
        assert_eq!(url, "https://b:2");
        let over = tokio::time::timeout(Duration::from_secs(60), term.over());
        assert!(over.await.is_err());
    }
}

//! [`Hosts`]: where the hosts are that frameworks name, asked of the system's resolver beside answering.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use dcos_net::Framework;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long an answer counts (Mesos-DNS looks all up each minute).
const AGAIN: Duration = Duration::from_secs(60);
/// Lookups under way: each keeps a thread as long as the resolver takes.
const AT_ONCE: usize = 16;
/// Names that are looked up: those of the first frameworks, if there are more.
const MOST: usize = 1024;

/// What is known of hosts, and what is being asked.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    known: BTreeMap<String, Host>,
    asked: JoinSet<(String, Option<IpAddr>)>,
}

#[derive(Debug)]
struct Host {
    ip: Option<IpAddr>,
    /// When it is asked for next; `None` while it is.
    due: Option<Instant>,
}

impl Hosts {
    /// From now on these names are looked up, and no others.
    pub(crate) fn want(&mut self, frameworks: &[Framework]) {
        let wanted = frameworks
            .iter()
            .filter(|framework| framework.ip.is_none())
            .filter_map(|framework| framework.host.clone());
        let now = Instant::now();
        let mut before = std::mem::take(&mut self.known);
        for name in wanted.take(MOST) {
            let host = before.remove(&name);
            self.known.entry(name).or_insert_with(|| {
                host.unwrap_or(Host {
                    ip: None,
                    due: Some(now),
                })
            });
        }
        self.ask(now);
    }

    /// The addresses that are known.
    pub(crate) fn addresses(&self) -> BTreeMap<String, IpAddr> {
        let known = self.known.iter();
        known
            .filter_map(|(name, host)| Some((name.clone(), host.ip?)))
            .collect()
    }

    /// Waits until an address is another one.
    pub(crate) async fn changed(&mut self) {
        loop {
            let due = self.known.values().filter_map(|host| host.due).min();
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let is_full = self.asked.len() >= AT_ONCE;
            tokio::select! {
                Some(answered) = self.asked.join_next() => {
                    let Ok((name, ip)) = answered else { continue };
                    let now = Instant::now();
                    let mut is_news = false;
                    if let Some(host) = self.known.get_mut(&name) {
                        host.due = Some(now + AGAIN);
                        // A resolver that says nothing of it for once changes nothing.
                        is_news = ip.is_some() && host.ip != ip;
                        host.ip = ip.or(host.ip);
                    }
                    self.ask(now);
                    if is_news {
                        return;
                    }
                }
                () = due, if !is_full => self.ask(Instant::now()),
            }
        }
    }

    /// Asks for what is due.
    fn ask(&mut self, now: Instant) {
        for (name, host) in &mut self.known {
            if self.asked.len() >= AT_ONCE {
                return;
            }
            if host.due.is_some_and(|due| due <= now) {
                host.due = None;
                self.asked.spawn(look_up(name.clone()));
            }
        }
    }
}

/// Asks the system, as any program of this host would.
async fn look_up(name: String) -> (String, Option<IpAddr>) {
    let found = match tokio::net::lookup_host((name.as_str(), 0)).await {
        Ok(found) => found
            .map(|address| address.ip())
            .min_by_key(IpAddr::is_ipv6),
        Err(error) => {
            tracing::debug!(name, %error, "looking up the host of a framework");
            None
        }
    };
    (name, found)
}

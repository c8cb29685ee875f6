//! The server: listeners, what follows the cluster, and their end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dcos_wire::tls::TlsError;
use dcos_wire::{Client, Listener, Server, ServerConfig};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Authenticate;
use crate::cache::Cache;
use crate::counters::Counters;
use crate::decide::{Place, Rules};
use crate::door::{Door, House};
use crate::follow::{Sources, follow};
use crate::journal::Journal;
use crate::own::About;
use crate::proxy::Proxy;
use crate::records::Asker;
use crate::relay::Relay;
use crate::route::Part;
use crate::upstream::Upstreams;
use crate::world::{Scheme, World};

/// How often it is looked for connections to those behind the router that nobody uses.
const SWEEP: Duration = Duration::from_secs(5);

/// How a router is set up.
#[derive(Debug)]
pub struct Config {
    /// What decides about requests.
    pub rules: Rules,
    /// What it says of itself.
    pub about: About,
    /// Whom it follows; a router of an agent follows nobody.
    pub sources: Option<Sources>,
    /// How it speaks to members of the cluster over TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Who may ask what; `None` lets everybody ask everything.
    pub authenticate: Option<Arc<dyn Authenticate>>,
    /// Where each request is written down; `-` is standard error.
    pub access_log: Option<PathBuf>,
    /// How long a request waits for what is not known yet, such as right after the start.
    pub patience: Duration,
    /// What clients may cost.
    pub limits: ServerConfig,
}

/// The limits of a router: bodies as large as packages are, and silence as long as browsers keep it.
/// One address may have all connections: a balancer in front of the router shows just its own.
pub fn limits() -> ServerConfig {
    ServerConfig {
        max_connections_per_host: usize::MAX,
        body_limit: 32 << 30,
        body_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(65),
        // What is behind the router packs by itself.
        gzip: false,
        ..ServerConfig::default()
    }
}

/// How one port is served.
#[derive(Debug)]
pub struct Port {
    /// Where.
    pub listener: Listener,
    /// The certificate, if it is served over TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The port clients are sent to instead, since that one speaks TLS.
    pub elsewhere: Option<u16>,
}

/// Why a router can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No connection can be opened.
    #[error("setting up TLS to those behind the router")]
    Tls(#[from] TlsError),
    /// The access log can't be written.
    #[error("opening the access log {path:?}")]
    Log {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// A router that is ready to serve.
#[derive(Debug)]
pub struct Router {
    house: Arc<House>,
    worlds: watch::Sender<Arc<World>>,
    sources: Option<Sources>,
    limits: ServerConfig,
    relays: bool,
    stop: CancellationToken,
}

impl Router {
    /// Sets a router up. It ends when `stop` is cancelled.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(config: Config, stop: CancellationToken) -> Result<Self, StartError> {
        let (worlds, world) = watch::channel(Arc::new(World::default()));
        let journal = match config.access_log {
            None => None,
            Some(path) => match Journal::open(&path) {
                Ok(journal) => Some(journal),
                Err(source) => return Err(StartError::Log { path, source }),
            },
        };
        let names = match config.rules.parts.get(&Part::MesosDns) {
            Some(Place::At(base)) => Some(base.clone()),
            _ => None,
        };
        let tasks = TaskTracker::new();
        let house = House {
            proxy: Proxy {
                upstreams: Upstreams::new(
                    config.tls,
                    &config.rules.parts,
                    config.rules.is_alone(),
                    &tasks,
                )?,
                tasks,
                stop: stop.clone(),
            },
            asker: Asker {
                client: Client::new(),
                names,
            },
            rules: config.rules,
            world,
            authenticate: config.authenticate,
            about: config.about,
            cache: Cache::default(),
            counters: Counters::default(),
            journal,
            patience: config.patience,
        };
        Ok(Self {
            house: Arc::new(house),
            worlds,
            sources: config.sources,
            limits: config.limits,
            relays: true,
            stop,
        })
    }

    /// Takes no request for plain: each goes the long way, which serves the others. The answers are the same; this is for
    /// those who compare the two.
    #[must_use]
    pub fn without_relay(mut self) -> Self {
        self.relays = false;
        self
    }

    /// What is known of the cluster, for those who know it better than the router's own sources (and for tests).
    pub fn worlds(&self) -> watch::Sender<Arc<World>> {
        self.worlds.clone()
    }

    /// Serves these ports until the end.
    pub async fn serve(self, ports: Vec<Port>) {
        let mut parts = JoinSet::new();
        for port in ports {
            let door = Door {
                house: Arc::clone(&self.house),
                scheme: if port.tls.is_some() {
                    Scheme::Https
                } else {
                    Scheme::Http
                },
                elsewhere: port.elsewhere,
            };
            let mut server = Server::new(door.clone()).config(self.limits.clone());
            // Where everybody is sent elsewhere, nothing is sent on.
            if self.relays && port.elsewhere.is_none() {
                server = server.shortcut(Arc::new(Relay::new(door)));
            }
            if let Some(tls) = port.tls {
                server = server.tls(tls);
            }
            let stop = self.stop.clone();
            parts.spawn(async move {
                server.serve(port.listener, stop).await;
            });
        }
        if let Some(sources) = self.sources {
            parts.spawn(follow(sources, self.worlds, self.stop.clone()));
        }
        let (proxy, cache) = (&self.house.proxy, &self.house.cache);
        let sweep = async {
            let mut often = tokio::time::interval(SWEEP);
            loop {
                often.tick().await;
                proxy.upstreams.sweep();
                cache.sweep();
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sweep => {}
        }
        while parts.join_next().await.is_some() {}
        proxy.tasks.close();
        proxy.tasks.wait().await;
    }
}

/// Parts as an operator names them: `name=http://host:port` or `name=unix:/path`.
///
/// # Errors
/// What is wrong with which one.
pub fn parts(texts: &[String]) -> Result<BTreeMap<Part, Place>, String> {
    let mut parts = BTreeMap::new();
    for text in texts {
        let (name, place) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is no name=URL"))?;
        let part = Part::ALL
            .into_iter()
            .find(|part| part.name() == name.trim());
        let part = part.ok_or_else(|| {
            let names: Vec<&str> = Part::ALL.iter().map(|part| part.name()).collect();
            format!("there is no part {name:?}; there are {}", names.join(", "))
        })?;
        let place = match place.trim().strip_prefix("unix:") {
            Some(path) => Place::Socket(path.into()),
            None => Place::At(
                place
                    .trim()
                    .parse()
                    .map_err(|error| format!("{name}: {error}"))?,
            ),
        };
        parts.insert(part, place);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_by_operators() {
        let read = |text: &str| parts(&[text.to_owned()]);
        assert!(
            read("cosmos=http://127.0.0.1:7070")
                .unwrap()
                .contains_key(&Part::Cosmos)
        );
        let socket = read("logs=unix:/run/dcos/dcos-log.sock").unwrap();
        assert_eq!(
            socket[&Part::Logs],
            Place::Socket("/run/dcos/dcos-log.sock".into())
        );
        assert!(
            read("cosmo=http://h")
                .unwrap_err()
                .contains("there are mesos, marathon")
        );
        assert!(read("cosmos").is_err());
        assert!(read("cosmos=127.0.0.1:7070").is_err());
    }
}

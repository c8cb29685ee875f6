//! [`Ensemble`]: the servers and the path where several masters keep their state and elect a leader.
//!
//! The URL says which engine it is: `zk://user:password@h1:2181,h2:2181/mesos` or
//! `etcd://user:password@h1:2379,h2:2379/mesos`, as the original's `--zk` does; `zks://` and `etcds://` are the same over TLS.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Election, ReplicatedStore, StateStore, TlsError, TlsFiles, campaign::Candidacies,
    replicated::PATIENCE, tls::Tls,
};

/// How long a leader may be silent before another one is elected, if nothing else is said: the
/// original's `--zk_session_timeout`.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a text names no ensemble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` names no ensemble: {reason}")]
pub struct EnsembleError {
    url: String,
    reason: &'static str,
}

/// Which engine an ensemble runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Apache `ZooKeeper`, 3.5 or newer.
    #[cfg(feature = "zookeeper")]
    ZooKeeper,
    /// etcd, 3.3 or newer.
    #[cfg(feature = "etcd")]
    Etcd,
}

/// Where several masters keep their state and elect a leader.
#[derive(Clone, PartialEq, Eq)]
pub struct Ensemble {
    pub(crate) engine: Engine,
    /// `host:port` each.
    pub(crate) servers: Vec<String>,
    /// Begins with a slash and does not end with one.
    pub(crate) path: String,
    pub(crate) user: Option<(String, String)>,
    pub(crate) session_timeout: Duration,
    pub(crate) patience: Duration,
    /// How it is spoken to over TLS, if the URL says so.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) candidacies: Candidacies,
}

impl Ensemble {
    /// What `url` says; see the crate's `docs/election.md` for the forms.
    ///
    /// ```
    /// let ensemble = dcos_store::Ensemble::parse("zk://10.0.0.1,10.0.0.2:2182/mesos")?;
    /// assert_eq!(ensemble.to_string(), "zk://10.0.0.1:2181,10.0.0.2:2182/mesos");
    /// # Ok::<(), dcos_store::EnsembleError>(())
    /// ```
    ///
    /// # Errors
    /// [`EnsembleError`] says what is missing.
    pub fn parse(url: &str) -> Result<Self, EnsembleError> {
        let wrong = |reason| EnsembleError {
            url: without_password(url),
            reason,
        };
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (engine, port, tls) = match scheme {
            #[cfg(feature = "zookeeper")]
            "zk" => (Engine::ZooKeeper, 2181, None),
            // As ZooKeeper's documentation has it for `secureClientPort`.
            #[cfg(feature = "zookeeper")]
            "zks" => (Engine::ZooKeeper, 2281, Some(Arc::default())),
            #[cfg(feature = "etcd")]
            "etcd" => (Engine::Etcd, 2379, None),
            #[cfg(feature = "etcd")]
            "etcds" => (Engine::Etcd, 2379, Some(Arc::default())),
            #[cfg(not(all(feature = "zookeeper", feature = "etcd")))]
            "zk" | "zks" | "etcd" | "etcds" => {
                return Err(wrong("this program was built without that engine"));
            }
            _ => {
                return Err(wrong(
                    "it begins with none of zk://, zks://, etcd:// and etcds://",
                ));
            }
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Err(wrong(
                "a path has to follow the servers, such as /mesos (`/` alone is not supported)",
            ));
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("its path has an empty part, or `.` or `..`"));
        }
        let (user, servers) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, servers)) => {
                let user = user.split_once(':');
                let user = user.ok_or(wrong("before the `@` stands user:password"))?;
                (Some((user.0.to_owned(), user.1.to_owned())), servers)
            }
        };
        let servers: Vec<String> = servers
            .split(',')
            .map(|server| {
                let has_port = server
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                match (server.is_empty(), has_port, server.ends_with(']')) {
                    (true, ..) => Err(wrong("a server has no name")),
                    (_, true, _) => Ok(server.to_owned()),
                    (_, false, bracket) if bracket || !server.contains(':') => {
                        Ok(format!("{server}:{port}"))
                    }
                    _ => Err(wrong("a server's port is no number from 0 to 65535")),
                }
            })
            .collect::<Result<_, _>>()?;
        #[cfg(feature = "zookeeper")]
        if engine == Engine::ZooKeeper
            && tls.is_some()
            && !servers.iter().all(|server| can_be_certified(server))
        {
            return Err(wrong(
                "a server is neither a host's name nor a whole address (127.1 is none), as certificates have them",
            ));
        }
        Ok(Self {
            engine,
            servers,
            path: format!("/{path}"),
            user,
            session_timeout: SESSION_TIMEOUT,
            patience: PATIENCE,
            tls,
            candidacies: Candidacies::default(),
        })
    }

    /// Whether `text` looks like the URL of an ensemble rather than like an address.
    pub fn is_named_by(text: &str) -> bool {
        ["zk://", "zks://", "etcd://", "etcds://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
    }

    /// Sets how long a silent leader stays leader. Shorter: a dead leader is replaced sooner, and a
    /// slow one loses its office for less. `ZooKeeper` takes 2 to 20 of its ticks, etcd whole seconds.
    #[must_use]
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// Sets how long the servers may be out of reach before a request to the store is given up; 20 s otherwise.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets whom to trust and what to show to the servers, where the URL asks for TLS. Without this call, or without a
    /// file for it, whoever the system trusts is trusted with etcd, nobody with `ZooKeeper`; and nothing is shown.
    ///
    /// # Errors
    /// [`TlsError`], if the files can't be used.
    pub fn with_tls(mut self, files: &TlsFiles) -> Result<Self, TlsError> {
        if self.is_over_tls() {
            self.tls = Some(Arc::new(files.read()?));
            match self.engine {
                #[cfg(feature = "zookeeper")]
                Engine::ZooKeeper => crate::zookeeper::check_tls(&self)?,
                #[cfg(feature = "etcd")]
                Engine::Etcd => crate::etcd::check_tls(&self)?,
            }
        }
        Ok(self)
    }

    /// Whether its servers are spoken to over TLS.
    pub fn is_over_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The engine.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Its servers, `host:port` each.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The path, such as `/mesos`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same servers and rights, at another path.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// The election of `office`. That of `master` uses the original's nodes, so that its clients find the leader.
    ///
    /// Nothing is connected before somebody campaigns or observes. Must be called within a tokio runtime.
    pub fn election(&self, office: impl Into<Arc<str>>) -> Arc<dyn Election> {
        match self.engine {
            #[cfg(feature = "zookeeper")]
            Engine::ZooKeeper => Arc::new(crate::ZooKeeperElection::new(self.clone(), office)),
            #[cfg(feature = "etcd")]
            Engine::Etcd => Arc::new(crate::EtcdElection::new(self.clone(), office)),
        }
    }

    /// Returns once the servers know of no candidate any more that stood in an election of this value or of a clone of it.
    ///
    /// A dropped campaign or [`Leadership`](crate::Leadership) withdraws its candidate behind the scenes; a process that
    /// ends before that leaves its office empty until its session is over. One that is still held, or servers out of
    /// reach, make this wait: bound it.
    pub async fn withdrawn(&self) {
        self.candidacies.over().await;
    }

    /// The store. It connects by itself and keeps trying; must be called within a tokio runtime.
    pub fn store(&self) -> Arc<dyn StateStore> {
        match self.engine {
            #[cfg(feature = "zookeeper")]
            Engine::ZooKeeper => {
                let medium = crate::zookeeper::ZooKeeperMedium::new(self.clone());
                Arc::new(ReplicatedStore::with_patience(medium, self.patience))
            }
            #[cfg(feature = "etcd")]
            Engine::Etcd => {
                let medium = crate::etcd::EtcdMedium::new(self);
                Arc::new(ReplicatedStore::with_patience(medium, self.patience))
            }
        }
    }
}

/// Whether a certificate can be for this server; the client library panics at others.
#[cfg(feature = "zookeeper")]
fn can_be_certified(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or("", |(host, _)| host);
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    rustls_pki_types::ServerName::try_from(bare.unwrap_or(host)).is_ok()
}

/// The URL, without the password.
impl fmt::Display for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.engine {
            #[cfg(feature = "zookeeper")]
            Engine::ZooKeeper if self.is_over_tls() => "zks",
            #[cfg(feature = "zookeeper")]
            Engine::ZooKeeper => "zk",
            #[cfg(feature = "etcd")]
            Engine::Etcd if self.is_over_tls() => "etcds",
            #[cfg(feature = "etcd")]
            Engine::Etcd => "etcd",
        };
        write!(f, "{scheme}://{}{}", self.servers.join(","), self.path)
    }
}

impl fmt::Debug for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ensemble({self})")
    }
}

fn without_password(url: &str) -> String {
    let (Some((scheme, rest)), true) = (url.split_once("://"), url.contains('@')) else {
        return url.to_owned();
    };
    let servers = rest.rsplit_once('@').map_or(rest, |(_, servers)| servers);
    format!("{scheme}://{servers}")
}

#[cfg(all(test, feature = "zookeeper", feature = "etcd"))]
mod tests {
    use super::*;

    #[test]
    fn urls_say_servers_path_and_rights() {
        let ensemble = Ensemble::parse("zk://u:p:x@a,b:2182,[::1]/mesos/one/").unwrap();
        assert_eq!(ensemble.servers, ["a:2181", "b:2182", "[::1]:2181"]);
        assert_eq!(ensemble.path(), "/mesos/one");
        assert_eq!(ensemble.user, Some(("u".into(), "p:x".into())));
        let shown = format!("{ensemble} {ensemble:?}");
        assert!(!shown.contains("p:x"), "{shown}");
        let etcd = Ensemble::parse("etcd://a/m").unwrap();
        assert_eq!(
            (etcd.engine(), etcd.to_string()),
            (Engine::Etcd, "etcd://a:2379/m".into())
        );
        let secured = Ensemble::parse("etcds://u:p@a/m").unwrap();
        assert!(secured.is_over_tls() && Ensemble::is_named_by("etcds://a/m"));
        assert_eq!(secured.to_string(), "etcds://a:2379/m");
        let secured = Ensemble::parse("zks://u:p@a,b:1/m").unwrap();
        assert!(secured.is_over_tls() && Ensemble::is_named_by("zks://a/m"));
        assert_eq!(secured.to_string(), "zks://a:2281,b:1/m");
        assert!(Ensemble::parse("zks://[::1],10.0.0.1:1/m").is_ok());
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason_and_without_the_password() {
        for (url, reason) in [
            (
                "10.0.0.1:5050",
                "none of zk://, zks://, etcd:// and etcds://",
            ),
            ("zk://a", "a path has to follow"),
            ("zk://a/", "a path has to follow"),
            ("zk://a//b/../c", "`.` or `..`"),
            ("zk://secret@a/b", "user:password"),
            ("zk://a,,b/c", "a server has no name"),
            ("zk://a:70000/c", "no number"),
            ("zks://a,127.1/c", "as certificates have them"),
            ("zks://u:secret@a b/c", "as certificates have them"),
        ] {
            let error = Ensemble::parse(url).unwrap_err().to_string();
            assert!(
                error.contains(reason) && !error.contains("secret"),
                "{url}: {error}"
            );
        }
    }
}

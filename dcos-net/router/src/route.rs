//! Which paths there are: each with who may ask it and what becomes of it. Data only.
//!
//! A route can't be written down without saying who may ask it ([`Access`]), so that none is open by forgetting.
//! Source: dcos/dcos 2.2 `packages/adminrouter/extra/src/includes/server`; for those of the enterprise edition
//! `dcos-docs-site` `nginx.{master,agent}.yaml`.

mod agent;
mod master;

pub use agent::AGENT;
pub use master::MASTER;

/// One path, or all below one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Which paths it answers for.
    pub pattern: Pattern,
    /// Who may ask.
    pub access: Access,
    /// What becomes of the request.
    pub action: Action,
}

/// Which paths a route answers for. The longest that fits wins; an exact one wins over all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// This path only.
    Exact(&'static str),
    /// Paths that begin so; it ends with a slash. Who asks without that slash is redirected.
    Under(&'static str),
    /// This path, and those below it.
    Tree(&'static str),
}

impl Pattern {
    /// What it begins with, the first byte a slash.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Exact(text) | Self::Under(text) | Self::Tree(text) => text,
        }
    }
}

/// Who may ask a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, logged in or not.
    Open,
    /// Who is logged in; the service behind asks for more by itself.
    User,
    /// Who has the permission `full` on this resource.
    Resource(&'static str),
    /// Who has it on `dcos:adminrouter:service:<name>` of the service that is found.
    Service,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is sent on to a part of the cluster.
    Proxy(Proxy),
    /// It is sent on to a service that runs on the cluster.
    Service,
    /// It is sent on to the agent with the id in the path, or to the router beside it.
    Agent(AgentSide),
    /// It is for the node on which somebody leads.
    Leader(Office),
    /// The path is read as another one.
    Alias(&'static str),
    /// The client is told to ask elsewhere.
    Redirect(u16, &'static str),
    /// Asked of the leading master, and kept for five seconds.
    Cached,
    /// The router answers itself.
    Own(Own),
}

/// A request that is sent on to a part of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxy {
    /// To whom.
    pub part: Part,
    /// What the pattern is replaced by; `None` leaves the path as it is.
    pub to: Option<&'static str>,
    /// In which ways this one is special.
    pub ways: Ways,
}

/// In which ways a route is special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each stands for a line of the original's configuration"
)]
pub struct Ways {
    /// `Authorization` is not shown.
    pub anonymous: bool,
    /// Answers must not be kept by anybody.
    pub uncached: bool,
    /// `Location` of the part's own host gets the prefix back.
    pub relocated: bool,
    /// `X-Accel-Buffering` is passed to the client.
    pub accel: bool,
    /// Only GET and HEAD.
    pub read_only: bool,
    /// Seconds until an answer must begin, from the last byte of the request.
    pub patience: u16,
}

impl Ways {
    /// None.
    pub const PLAIN: Self = Self {
        anonymous: false,
        uncached: false,
        relocated: false,
        accel: false,
        read_only: false,
        patience: 60,
    };
}

/// Parts of the cluster that the router sends requests to. What serves them is told by the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The leading master.
    Mesos,
    /// Marathon of this node.
    Marathon,
    /// Metronome of this node.
    Metronome,
    /// Mesos-DNS's HTTP API.
    MesosDns,
    /// dcos-net's API.
    Net,
    /// Identities (Bouncer).
    Iam,
    /// Packages (Cosmos).
    Cosmos,
    /// ZooKeeper's keeper.
    Exhibitor,
    /// Components (Pkgpanda).
    Pkgpanda,
    /// dcos-diagnostics.
    Diagnostics,
    /// dcos-checks.
    Checks,
    /// dcos-log.
    Logs,
    /// Metrics.
    Metrics,
    /// dcos-ui-update-service.
    UiUpdate,
    /// Secrets.
    Secrets,
    /// The certificate authority (cfssl).
    Ca,
    /// Links to other clusters.
    Linker,
    /// Networking API.
    Netapi,
    /// Backups.
    Backup,
    /// Licences.
    Licensing,
    /// `CockroachDB`'s console.
    Cockroach,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Mesos,
        Self::Marathon,
        Self::Metronome,
        Self::MesosDns,
        Self::Net,
        Self::Iam,
        Self::Cosmos,
        Self::Exhibitor,
        Self::Pkgpanda,
        Self::Diagnostics,
        Self::Checks,
        Self::Logs,
        Self::Metrics,
        Self::UiUpdate,
        Self::Secrets,
        Self::Ca,
        Self::Linker,
        Self::Netapi,
        Self::Backup,
        Self::Licensing,
        Self::Cockroach,
    ];

    /// Its name in configuration and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mesos => "mesos",
            Self::Marathon => "marathon",
            Self::Metronome => "metronome",
            Self::MesosDns => "mesos-dns",
            Self::Net => "net",
            Self::Iam => "iam",
            Self::Cosmos => "cosmos",
            Self::Exhibitor => "exhibitor",
            Self::Pkgpanda => "pkgpanda",
            Self::Diagnostics => "diagnostics",
            Self::Checks => "checks",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::UiUpdate => "ui-update",
            Self::Secrets => "secrets",
            Self::Ca => "ca",
            Self::Linker => "linker",
            Self::Netapi => "netapi",
            Self::Backup => "backup",
            Self::Licensing => "licensing",
            Self::Cockroach => "cockroach",
        }
    }

    /// The tag the original counts its requests under.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Mesos => "Mesos",
            Self::Marathon => "Marathon",
            Self::Metronome => "Metronome",
            Self::MesosDns => "MesosDNS",
            Self::Net => "DCOSNet",
            Self::Iam => "IAM",
            Self::Cosmos => "Cosmos",
            Self::Exhibitor => "Exhibitor",
            Self::Pkgpanda => "Pkgpanda",
            Self::Diagnostics => "DCOSDiagnostics",
            Self::Checks => "DCOSChecks",
            Self::Logs => "DCOSLog",
            Self::Metrics => "DCOSMetrics",
            Self::UiUpdate => "DCOSUIUpdateService",
            Self::Secrets => "Secrets",
            Self::Ca => "CA",
            Self::Linker => "ClusterLinker",
            Self::Netapi => "NetworkingAPI",
            Self::Backup => "Backup",
            Self::Licensing => "Licensing",
            Self::Cockroach => "CockroachDB",
        }
    }
}

/// Which side of an agent is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentSide {
    /// The agent itself: what stands behind the id.
    Api,
    /// The router beside it: some paths only.
    System,
}

/// What can be led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Office {
    /// Being the master.
    Mesos,
    /// Being the Marathon.
    Marathon,
}

impl Office {
    /// As the original's errors say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mesos => "mesos",
            Self::Marathon => "marathon",
        }
    }
}

/// What the router answers by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Addresses and identity of the cluster.
    Metadata,
    /// Which version this is.
    Version,
    /// Other files that tell of the installation.
    MetadataFile,
    /// Which components are active.
    Buildinfo,
    /// The user interface, with how many seconds it may be kept by browsers.
    Interface(u32),
    /// Where the user logs in.
    Login,
    /// What was counted.
    Counters,
    /// Nothing.
    Nothing,
}

/// The route for a normalised path, and whether it lacks the slash the route ends with.
pub fn find(routes: &'static [Route], path: &str) -> Option<(&'static Route, bool)> {
    let mut best: Option<(&Route, usize, bool)> = None;
    // All begin with a slash: most differ in what stands behind it.
    let second = path.as_bytes().get(1);
    for route in routes {
        let named = route.pattern.text().as_bytes().get(1);
        if named.is_some() && named != second {
            continue;
        }
        let (length, bare) = match route.pattern {
            Pattern::Exact(exact) if exact == path => return Some((route, false)),
            Pattern::Under(prefix) if path.starts_with(prefix) => (prefix.len(), false),
            Pattern::Under(prefix) if path == &prefix[..prefix.len() - 1] => (prefix.len(), true),
            Pattern::Tree(root) if is_below(path, root) => (root.len(), false),
            Pattern::Exact(_) | Pattern::Under(_) | Pattern::Tree(_) => continue,
        };
        if best.is_none_or(|(_, longest, _)| length > longest) {
            best = Some((route, length, bare));
        }
    }
    best.map(|(route, _, bare)| (route, bare))
}

fn is_below(path: &str, root: &str) -> bool {
    let rest = path.strip_prefix(root);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests;

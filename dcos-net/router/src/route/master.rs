//! The routes of a master.

use Access::{Open, Resource, Service as ByService, User};
use Pattern::{Exact, Tree, Under};

use super::{Access, Action, AgentSide, Office, Own, Part, Pattern, Proxy, Route, Ways};

const PLAIN: Ways = Ways::PLAIN;

/// Answers must not be kept.
const UNCACHED: Ways = Ways {
    uncached: true,
    ..PLAIN
};

/// The part sees no credentials.
const ANONYMOUS: Ways = Ways {
    anonymous: true,
    ..PLAIN
};

/// The part redirects to itself.
const RELOCATED: Ways = Ways {
    relocated: true,
    ..PLAIN
};

/// Whole packages are made before the first byte comes.
const PACKAGES: Ways = Ways {
    patience: 300,
    ..PLAIN
};

/// Streams decide themselves whether they are gathered.
const STREAMS: Ways = Ways {
    accel: true,
    ..PLAIN
};

const MESOS: Access = Resource("dcos:adminrouter:ops:mesos");
const IAM: Access = Resource("dcos:adminrouter:acs");
const PACKAGE: Access = Resource("dcos:adminrouter:package");
const AGENTS: Access = Resource("dcos:adminrouter:ops:slave");
const METADATA: Access = Resource("dcos:adminrouter:ops:metadata");
const NETWORKING: Access = Resource("dcos:adminrouter:ops:networking");
const EXHIBITOR: Access = Resource("dcos:adminrouter:ops:exhibitor");
const HEALTH: Access = Resource("dcos:adminrouter:ops:system-health");
const LOGS: Access = Resource("dcos:adminrouter:ops:system-logs");
const METRICS: Access = Resource("dcos:adminrouter:ops:system-metrics");
const CA_READ: Access = Resource("dcos:adminrouter:ops:ca:ro");
const CA_WRITE: Access = Resource("dcos:adminrouter:ops:ca:rw");

const fn route(pattern: Pattern, access: Access, action: Action) -> Route {
    Route {
        pattern,
        access,
        action,
    }
}

/// Sent on with the pattern replaced.
const fn to(pattern: Pattern, access: Access, part: Part, to: &'static str, ways: Ways) -> Route {
    let to = Some(to);
    route(pattern, access, Action::Proxy(Proxy { part, to, ways }))
}

/// Sent on with the path as it is.
const fn as_it_is(pattern: Pattern, access: Access, part: Part, ways: Ways) -> Route {
    let to = None;
    route(pattern, access, Action::Proxy(Proxy { part, to, ways }))
}

const fn own(pattern: Pattern, access: Access, own: Own) -> Route {
    route(pattern, access, Action::Own(own))
}

/// The routes of a master, as in DC/OS 2.2 and its enterprise edition.
pub const MASTER: &[Route] = &[
    // The user interface
    own(Under("/"), Open, Own::Interface(30)),
    own(Under("/assets/"), Open, Own::Interface(172_800)),
    own(Exact("/login"), Open, Own::Login),
    // Identities
    as_it_is(Tree("/acs/api/v1"), IAM, Part::Iam, UNCACHED),
    as_it_is(Under("/acs/api/v1/auth/"), Open, Part::Iam, PLAIN),
    to(
        Exact("/dcos-metadata/ui-config.json"),
        Open,
        Part::Iam,
        "/acs/api/v1/uiconfig/",
        PLAIN,
    ),
    // About this cluster
    own(Under("/dcos-metadata/"), METADATA, Own::MetadataFile),
    own(
        Exact("/dcos-metadata/dcos-version.json"),
        Open,
        Own::Version,
    ),
    own(Tree("/metadata"), METADATA, Own::Metadata),
    own(
        Exact("/pkgpanda/active.buildinfo.full.json"),
        METADATA,
        Own::Buildinfo,
    ),
    to(
        Under("/pkgpanda/"),
        Resource("dcos:adminrouter:ops:pkgpanda"),
        Part::Pkgpanda,
        "/",
        RELOCATED,
    ),
    // The original shows this one to everybody.
    own(Exact("/nginx/status"), METRICS, Own::Counters),
    own(Exact("/nginx/metrics"), Open, Own::Counters),
    // What decides
    to(Under("/mesos/"), MESOS, Part::Mesos, "/", PLAIN),
    // The original asks nobody for credentials here, and so shows the master's state to everybody.
    route(Under("/cache/master/"), MESOS, Action::Cached),
    route(
        Exact("/marathon"),
        Open,
        Action::Redirect(307, "/marathon/"),
    ),
    route(
        Under("/marathon/"),
        ByService,
        Action::Alias("/service/marathon/"),
    ),
    route(Under("/service/"), ByService, Action::Service),
    as_it_is(Under("/package/"), PACKAGE, Part::Cosmos, PACKAGES),
    as_it_is(Tree("/capabilities"), PACKAGE, Part::Cosmos, PLAIN),
    to(
        Under("/cosmos/service/"),
        PACKAGE,
        Part::Cosmos,
        "/service/",
        PLAIN,
    ),
    // Agents and leaders
    route(Under("/agent/"), AGENTS, Action::Agent(AgentSide::Api)),
    route(Under("/slave/"), AGENTS, Action::Agent(AgentSide::Api)),
    route(
        Under("/system/v1/agent/"),
        AGENTS,
        Action::Agent(AgentSide::System),
    ),
    route(
        Tree("/system/v1/leader/mesos"),
        User,
        Action::Leader(Office::Mesos),
    ),
    route(
        Tree("/system/v1/leader/marathon"),
        User,
        Action::Leader(Office::Marathon),
    ),
    // The network
    to(
        Under("/mesos_dns/"),
        Resource("dcos:adminrouter:ops:mesos-dns"),
        Part::MesosDns,
        "/",
        ANONYMOUS,
    ),
    to(Under("/net/"), NETWORKING, Part::Net, "/", ANONYMOUS),
    to(
        Exact("/navstar/lashup/key"),
        NETWORKING,
        Part::Net,
        "/lashup/key",
        PLAIN,
    ),
    to(
        Under("/networking/api/v1/"),
        NETWORKING,
        Part::Netapi,
        "/",
        PLAIN,
    ),
    // This node
    to(
        Under("/exhibitor/"),
        EXHIBITOR,
        Part::Exhibitor,
        "/",
        RELOCATED,
    ),
    to(
        Exact("/exhibitor/exhibitor/v1/cluster/status"),
        Open,
        Part::Exhibitor,
        "/exhibitor/v1/cluster/status",
        PLAIN,
    ),
    as_it_is(Tree("/system/health/v1"), HEALTH, Part::Diagnostics, PLAIN),
    as_it_is(Tree("/system/checks/v1"), HEALTH, Part::Checks, ANONYMOUS),
    to(Under("/system/v1/logs/"), LOGS, Part::Logs, "/", STREAMS),
    to(
        Under("/system/v1/metrics/"),
        METRICS,
        Part::Metrics,
        "/",
        PLAIN,
    ),
    to(
        Under("/dcos-ui-update-service/api/"),
        User,
        Part::UiUpdate,
        "/api/",
        PLAIN,
    ),
    // The enterprise edition's
    as_it_is(Under("/secrets/v1/"), User, Part::Secrets, UNCACHED),
    to(
        Exact("/ca/api/v2/newcert"),
        CA_WRITE,
        Part::Ca,
        "/api/v1/cfssl/newcert",
        UNCACHED,
    ),
    to(
        Exact("/ca/api/v2/newkey"),
        CA_WRITE,
        Part::Ca,
        "/api/v1/cfssl/newkey",
        UNCACHED,
    ),
    to(
        Exact("/ca/api/v2/sign"),
        CA_WRITE,
        Part::Ca,
        "/api/v1/cfssl/sign",
        UNCACHED,
    ),
    to(
        Exact("/ca/api/v2/bundle"),
        CA_READ,
        Part::Ca,
        "/api/v1/cfssl/bundle",
        PLAIN,
    ),
    to(
        Exact("/ca/api/v2/certificates"),
        CA_READ,
        Part::Ca,
        "/api/v1/cfssl/certificates",
        PLAIN,
    ),
    to(
        Exact("/ca/api/v2/info"),
        User,
        Part::Ca,
        "/api/v1/cfssl/info",
        PLAIN,
    ),
    as_it_is(Exact("/ca/dcos-ca.crt"), Open, Part::Ca, PLAIN),
    as_it_is(Exact("/ca/cacerts.jks"), Open, Part::Ca, PLAIN),
    as_it_is(
        Under("/cluster/"),
        Resource("dcos:adminrouter:ops:cluster-link"),
        Part::Linker,
        PLAIN,
    ),
    to(
        Under("/system/v1/backup/"),
        Resource("dcos:adminrouter:ops:system-backup"),
        Part::Backup,
        "/",
        PLAIN,
    ),
    as_it_is(
        Under("/licensing/v1/"),
        Resource("dcos:adminrouter:licensing"),
        Part::Licensing,
        PLAIN,
    ),
    to(
        Under("/cockroachdb/"),
        Resource("dcos:adminrouter:ops:cockroachdb"),
        Part::Cockroach,
        "/",
        PLAIN,
    ),
];

//! The routes of an agent.

use Access::{Open, Resource};
use Pattern::{Exact, Tree, Under};

use super::{Access, Action, Own, Part, Pattern, Proxy, Route, Ways};

const fn route(pattern: Pattern, access: Access, action: Action) -> Route {
    Route {
        pattern,
        access,
        action,
    }
}

const fn part(
    pattern: Pattern,
    access: Access,
    part: Part,
    to: Option<&'static str>,
    ways: Ways,
) -> Route {
    route(pattern, access, Action::Proxy(Proxy { part, to, ways }))
}

const HEALTH: Access = Resource("dcos:adminrouter:ops:system-health");
const LOGS: Access = Resource("dcos:adminrouter:ops:system-logs");
const METRICS: Access = Resource("dcos:adminrouter:ops:system-metrics");
const COMPONENTS: Access = Resource("dcos:adminrouter:ops:pkgpanda");

/// Through the original's, everybody who reaches the port may exchange the node's components as root.
const READ_ONLY: Ways = Ways {
    read_only: true,
    relocated: true,
    ..Ways::PLAIN
};

const ANONYMOUS: Ways = Ways {
    anonymous: true,
    ..Ways::PLAIN
};

const STREAMS: Ways = Ways {
    accel: true,
    ..Ways::PLAIN
};

/// The routes of an agent. The original asks for credentials on none of them.
pub const AGENT: &[Route] = &[
    route(Under("/"), Open, Action::Own(Own::Nothing)),
    route(Exact("/nginx/metrics"), Open, Action::Own(Own::Counters)),
    route(
        Exact("/dcos-metadata/dcos-version.json"),
        Open,
        Action::Own(Own::Version),
    ),
    part(
        Under("/pkgpanda/"),
        COMPONENTS,
        Part::Pkgpanda,
        Some("/"),
        READ_ONLY,
    ),
    part(
        Tree("/system/checks/v1"),
        HEALTH,
        Part::Checks,
        None,
        ANONYMOUS,
    ),
    part(
        Tree("/system/health/v1"),
        HEALTH,
        Part::Diagnostics,
        None,
        Ways::PLAIN,
    ),
    part(
        Under("/system/v1/logs/"),
        LOGS,
        Part::Logs,
        Some("/"),
        STREAMS,
    ),
    part(
        Under("/system/v1/metrics/"),
        METRICS,
        Part::Metrics,
        Some("/"),
        Ways::PLAIN,
    ),
];

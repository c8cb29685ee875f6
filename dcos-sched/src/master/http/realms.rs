//! Which credentials each path demands.

use dcos_security::Gate;

use crate::master::security::HttpSecurity;

/// Endpoints that read.
pub(crate) const READONLY: &str = "mesos-master-readonly";
/// Endpoints that change something, and whatever is not listed here.
pub(crate) const READWRITE: &str = "mesos-master-readwrite";
/// Schedulers of API v1.
pub(crate) const SCHEDULER: &str = "mesos-master-scheduler";

/// The realm of a path; `None` for those that answer everybody (AU-7).
fn realm_of(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("/master/").map_or(path, |rest| {
        // The slash stays.
        &path[path.len() - rest.len() - 1..]
    });
    match path {
        "/health" | "/version" | "/redirect" => None,
        "/api/v1/scheduler" => Some(SCHEDULER),
        "/frameworks"
        | "/flags"
        | "/roles"
        | "/slaves"
        | "/state"
        | "/state.json"
        | "/state-summary"
        | "/tasks"
        | "/maintenance/status"
        | "/metrics"
        | "/metrics/snapshot"
        | "/system/stats.json"
        | "/allocator/explain"
        | "/overlay-master/state" => Some(READONLY),
        path if path.starts_with("/files/") => Some(READONLY),
        _ => Some(READWRITE),
    }
}

/// The gate in front of all routes.
pub(super) fn gate(security: &HttpSecurity) -> Gate {
    Gate::new(realm_of).protect_all([
        (READONLY, security.readonly.clone()),
        (READWRITE, security.readwrite.clone()),
        (SCHEDULER, security.scheduler.clone()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_realm() {
        for (path, realm) in [
            ("/health", None),
            ("/master/health", None),
            ("/version", None),
            ("/state", Some(READONLY)),
            ("/master/state.json", Some(READONLY)),
            ("/master/state", Some(READONLY)),
            ("/files/read", Some(READONLY)),
            ("/api/v1", Some(READWRITE)),
            ("/master/api/v1/scheduler", Some(SCHEDULER)),
            ("/quota/role", Some(READWRITE)),
            ("/something/new", Some(READWRITE)),
            ("/master", Some(READWRITE)),
            ("/", Some(READWRITE)),
        ] {
            assert_eq!(realm_of(path), realm, "{path}");
        }
    }
}

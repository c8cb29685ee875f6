//! Which credentials each path demands.

use dcos_security::Gate;

use crate::agent::security::Security;

/// Endpoints that read.
pub(crate) const READONLY: &str = "mesos-agent-readonly";
/// Endpoints that change something, and whatever is not listed here.
pub(crate) const READWRITE: &str = "mesos-agent-readwrite";
/// Executors.
pub(crate) const EXECUTOR: &str = "mesos-agent-executor";

/// The realm of a path; `None` for those that answer everybody.
fn realm_of(path: &str) -> Option<&'static str> {
    let path = path
        .strip_prefix("/slave(1)")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    match path {
        "/health" | "/version" => None,
        "/api/v1/executor" => Some(EXECUTOR),
        "/state"
        | "/flags"
        | "/containers"
        | "/containerizer/debug"
        | "/monitor/statistics"
        | "/metrics"
        | "/metrics/snapshot"
        | "/system/stats.json"
        | "/overlay-agent/overlay" => Some(READONLY),
        path if path.starts_with("/files/") => Some(READONLY),
        _ => Some(READWRITE),
    }
}

/// The gate in front of all routes.
pub(super) fn gate(security: &Security) -> Gate {
    Gate::new(realm_of).protect_all([
        (READONLY, security.readonly.clone()),
        (READWRITE, security.readwrite.clone()),
        (EXECUTOR, security.executor.clone()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_realm() {
        for (path, realm) in [
            ("/health", None),
            ("/slave(1)/health", None),
            ("/slave(1)/state", Some(READONLY)),
            ("/files/read", Some(READONLY)),
            ("/metrics", Some(READONLY)),
            ("/slave(1)/api/v1", Some(READWRITE)),
            ("/api/v1/executor", Some(EXECUTOR)),
            ("/slave(1)/api/v1/executor", Some(EXECUTOR)),
            ("/something/new", Some(READWRITE)),
        ] {
            assert_eq!(realm_of(path), realm, "{path}");
        }
    }
}

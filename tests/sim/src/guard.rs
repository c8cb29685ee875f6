//! Who may do what in a guarded world, and how often.

use std::sync::Arc;
use std::time::Duration;

use dcos_sched::master::Security;
use dcos_security::{Acls, Credential, RateLimits};
use serde_json::json;

/// The principal of frameworks that may keep nothing for themselves and take up no other role.
pub(crate) const GUEST: &str = "guest";
/// The user that nobody may run tasks as.
pub(crate) const FORBIDDEN: &str = "daemon";

/// What agents authenticate with.
pub(crate) fn credential() -> Credential {
    Credential::new("nodes", "secret")
}

/// Agents authenticate; guests wait for their turn, and are refused what is not for them; so is everybody who
/// wants to be somebody he may not be.
///
/// # Panics
/// If the rules are not well formed.
pub(crate) fn security() -> Security {
    let any = json!({"type": "ANY"});
    let none = json!({"type": "NONE"});
    let guests = json!({"values": [GUEST]});
    let rules = json!({
        "register_agents": [
            {"principals": {"values": ["nodes"]}, "agents": any},
            {"principals": any, "agents": none},
        ],
        "register_frameworks": [
            {"principals": guests, "roles": {"values": crate::framework::ROLES}},
            {"principals": guests, "roles": none},
        ],
        "reserve_resources": [{"principals": guests, "roles": none}],
        "run_tasks": [{"principals": none, "users": {"values": [FORBIDDEN]}}],
    });
    let limits = json!({"limits": [{"principal": GUEST, "qps": 5.0}]});
    let rules = Acls::from_json(&rules).expect("they are well formed");
    Security {
        authorizer: Arc::new(rules),
        credentials: Some([credential()].into_iter().collect()),
        authenticate_agents: true,
        authentication_timeout: Duration::from_secs(15),
        rate_limits: RateLimits::from_json(&limits).expect("they are well formed"),
        ..Security::default()
    }
}

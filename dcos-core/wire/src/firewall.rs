//! Endpoints that answer nobody: `--firewall_rules`.
//!
//! Source: Mesos 1.11 `DisabledEndpointsFirewallRule` (libprocess `firewall.hpp`), `Firewall` of `flags.proto`.
//! Departure: a path that is a libprocess message is refused when the rules are read, rather than cut off.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use crate::Refusal;

/// The paths that are closed; none by default.
///
/// ```
/// use dcos_wire::Firewall;
///
/// let rules = serde_json::json!({"disabled_endpoints": {"paths": ["/files/browse"]}});
/// let router: axum::Router = Firewall::parse(&rules)?.protect(axum::Router::new());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firewall {
    disabled: BTreeSet<String>,
}

impl Firewall {
    /// The rules as Mesos writes them: `{"disabled_endpoints": {"paths": ["/path", …]}}`.
    ///
    /// # Errors
    /// What cannot be kept: rules of another kind, paths that are none.
    pub fn parse(rules: &Value) -> Result<Self, String> {
        let kinds = rules.as_object().ok_or("expected an object")?;
        let mut disabled = BTreeSet::new();
        for (kind, rule) in kinds {
            if kind != "disabled_endpoints" {
                return Err(format!(
                    "there is no rule `{kind}`, only `disabled_endpoints`"
                ));
            }
            let unknown = rule
                .as_object()
                .and_then(|rule| rule.keys().find(|key| *key != "paths"));
            if let Some(unknown) = unknown {
                return Err(format!("`disabled_endpoints` has no `{unknown}`"));
            }
            let paths = rule["paths"]
                .as_array()
                .ok_or("`disabled_endpoints` needs `paths`, an array")?;
            for path in paths {
                let path = path.as_str().filter(|path| path.starts_with('/'));
                let path = path.ok_or("a path is a text that begins with a slash")?;
                if path.contains("/mesos.internal.") {
                    return Err(format!(
                        "`{path}` is a message of master and agent, without which neither works"
                    ));
                }
                disabled.insert(path.to_owned());
            }
        }
        Ok(Self { disabled })
    }

    /// The router, without the closed paths. Those are compared as they stand, before anybody is asked who he is.
    pub fn protect(&self, router: Router) -> Router {
        if self.disabled.is_empty() {
            return router;
        }
        let disabled = Arc::new(self.disabled.clone());
        router.layer(middleware::from_fn_with_state(disabled, guard))
    }
}

async fn guard(
    State(disabled): State<Arc<BTreeSet<String>>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if disabled.contains(path) {
        return Refusal::forbidden(format!("Endpoint '{path}' is disabled")).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_that_cannot_be_kept_are_refused() {
        let rules = |paths| json!({"disabled_endpoints": {"paths": paths}});
        let parse = |rules: Value| Firewall::parse(&rules).map(|firewall| firewall.disabled);
        assert_eq!(parse(json!({})), Ok(BTreeSet::new()));
        let one = parse(rules(json!(["/files/browse"])));
        assert_eq!(one, Ok(["/files/browse".to_owned()].into()));
        for wrong in [
            json!([]),
            json!({"allowed_endpoints": {}}),
            json!({"disabled_endpoints": {}}),
            json!({"disabled_endpoints": {"paths": [], "from": "1.2.3.4"}}),
            rules(json!("/state")),
            rules(json!(["state"])),
            rules(json!(["/master/mesos.internal.PongSlaveMessage"])),
        ] {
            assert!(parse(wrong.clone()).is_err(), "{wrong}");
        }
    }
}

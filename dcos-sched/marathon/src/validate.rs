//! The rules documents must keep, with Marathon 1.11's words for those that do not.
//!
//! Rules of shape (types, bounds, enumerations) are in [`crate::schema`]; rules that need the rest of
//! the tree (names in use, cycles, roles) in [`group`].

mod external;
pub(crate) mod group;
mod health;
mod network;
pub(crate) mod pod;
pub(crate) mod resident;
mod rules;

use crate::error::{Error, Violation};
use crate::model::{App, AppUpdate, EngineType, Operator, ResourceLimit, ResourceLimits};
use crate::normalize::Rules;

pub(crate) use rules::{id, uri};

/// Collects violations.
pub(crate) type Violations = Vec<Violation>;

pub(crate) fn fail(out: &mut Violations, path: impl Into<String>, error: impl Into<String>) {
    out.push(Violation {
        path: path.into(),
        error: error.into(),
    });
}

/// Rules for deprecated fields and for mixing them with canonical ones.
pub(crate) fn deprecated(update: &AppUpdate) -> Result<(), Error> {
    let mut out = Vec::new();
    let docker = update
        .container
        .as_ref()
        .and_then(|container| container.docker.as_ref());
    let engine = update.container.as_ref().map(|container| container.engine);
    if let Some(docker) = docker {
        if docker.credential.is_some() {
            fail(&mut out, "/container/docker/credential", "must be empty");
        }
        if engine == Some(EngineType::Mesos) {
            for (used, field) in [
                (docker.network.is_some(), "network"),
                (!docker.parameters.is_empty(), "parameters"),
                (docker.port_mappings.is_some(), "portMappings"),
            ] {
                if used {
                    fail(
                        &mut out,
                        format!("/container/docker/{field}"),
                        "must be empty",
                    );
                }
            }
        }
        let names = docker
            .port_mappings
            .iter()
            .flatten()
            .filter_map(|m| m.name.as_deref());
        if !rules::unique(names) {
            let path = "/container/docker/portMappings";
            fail(&mut out, path, "Port names must be unique.");
        }
    }
    let networks = update
        .networks
        .as_ref()
        .is_some_and(|networks| !networks.is_empty());
    if docker.is_some_and(|docker| docker.network.is_some()) && networks {
        fail(
            &mut out,
            "/",
            "must not specify both container.docker.network and networks",
        );
    }
    if let Some(address) = &update.ip_address {
        if engine == Some(EngineType::Docker) && address.discovery.is_some() {
            let text = "ipAddress/discovery is not allowed for Docker containers";
            fail(&mut out, "/ipAddress", text);
        }
        if networks {
            fail(
                &mut out,
                "/",
                "must not specify both networks and ipAddress",
            );
        }
        let ports = update.ports.as_ref().is_some_and(|ports| !ports.is_empty())
            || update
                .port_definitions
                .as_ref()
                .is_some_and(|ports| !ports.is_empty());
        if ports {
            fail(&mut out, "/", "cannot specify both an IP address and port");
        }
    }
    for (index, address) in update.uris.iter().flatten().enumerate() {
        if !uri(address) {
            fail(
                &mut out,
                format!("/uris({index})"),
                "URI has invalid syntax.",
            );
        }
    }
    let fetch = update.fetch.as_ref().is_some_and(|fetch| !fetch.is_empty());
    if fetch && update.uris.as_ref().is_some_and(|uris| !uris.is_empty()) {
        fail(
            &mut out,
            "/uris",
            "may not be set in conjunction with fetch",
        );
    }
    if let Some(ports) = &update.ports {
        if !rules::unique(ports.iter().filter(|port| **port != 0)) {
            fail(&mut out, "/", "ports must be unique");
        }
        if let Some(definitions) = &update.port_definitions
            && !definitions
                .iter()
                .map(|definition| &definition.port)
                .eq(ports)
        {
            fail(
                &mut out,
                "/",
                "cannot specify both ports and port definitions",
            );
        }
    }
    if out.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(out))
    }
}

/// Rules for constraints, which are checked as words because wrong ones have no other form.
pub(crate) fn constraints(constraints: &[Vec<String>], out: &mut Violations) {
    for (index, words) in constraints.iter().enumerate() {
        if let Some(error) = constraint(words) {
            fail(out, format!("/constraints({index})"), error);
        }
    }
}

fn constraint(words: &[String]) -> Option<&'static str> {
    let (field, operator, value) = match words {
        [field, operator] => (field, operator, None),
        [field, operator, value] => (field, operator, Some(value)),
        _ => return Some("Each constraint must have either 2 or 3 fields"),
    };
    if field.is_empty() {
        return Some("illegal constraint specification");
    }
    let Some(operator) = Operator::parse(operator) else {
        return Some(
            "operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE \
             or IS",
        );
    };
    let is_int = |value: &String| value.parse::<i32>().is_ok();
    match operator {
        Operator::Cluster => None,
        Operator::Unique => value.map(|_| "UNIQUE does not accept a value"),
        Operator::GroupBy => value
            .filter(|value| !is_int(value))
            .map(|_| "GROUP BY must define an integer value or else no value at all"),
        Operator::MaxPer => {
            (!value.is_some_and(is_int)).then_some("MAX_PER requires an integer value")
        }
        Operator::Like | Operator::Unlike => match value {
            None => Some("LIKE and UNLIKE require a non-empty, regular expression value"),
            Some(value) => regex::Regex::new(value)
                .err()
                .map(|_| "is not a valid regular expression"),
        },
        Operator::Is => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
            (!value.is_none_or(|value| value.chars().all(plain))).then_some(
                "IS only supports Mesos text and float values (see \
                 http://mesos.apache.org/documentation/latest/attributes-resources/)",
            )
        }
    }
}

/// Rules for a canonical app on its own.
pub(crate) fn app(app: &App, context: &Rules, out: &mut Violations) {
    id(&app.id, "/id", out);
    if app.id.is_root() {
        fail(out, "/id", "Path must contain at least one path element");
        fail(out, "/", "must not be root");
    }
    for (index, dependency) in app.dependencies.iter().enumerate() {
        id(dependency, &format!("/dependencies({index})"), out);
    }
    command(app, out);
    if let Some(container) = &app.container {
        network::container(container, app, context, out);
    }
    resident::app(app, out);
    external::app(app, out);
    network::ports(app, out);
    network::networks(app, context, out);
    health::checks(app, out);
    strategy(app, out);
    resources(app, context, out);
    roles(app, context, out);
    secrets(app, context, out);
    for (index, fetch) in app.fetch.iter().enumerate() {
        if !uri(&fetch.uri) {
            fail(
                out,
                format!("/fetch({index})/uri"),
                "URI has invalid syntax.",
            );
        }
    }
    let label = |name: &str| app.labels.get(name).map(String::as_str).unwrap_or_default();
    let migration = label("DCOS_MIGRATION_API_VERSION");
    let complete = migration == "v1"
        && !label("DCOS_PACKAGE_FRAMEWORK_NAME").is_empty()
        && !label("DCOS_MIGRATION_API_PATH").is_empty();
    if !migration.is_empty() && !complete {
        fail(
            out,
            "/",
            "DCOS_PACKAGE_FRAMEWORK_NAME and DCOS_MIGRATION_API_PATH must be defined when using \
             DCOS_MIGRATION_API_VERSION",
        );
    }
}

fn command(app: &App, out: &mut Violations) {
    let has_container = app
        .container
        .as_ref()
        .is_some_and(|c| c.docker.is_some() || c.engine == EngineType::Mesos);
    let (cmd, args) = (app.cmd.is_some(), !app.args.is_empty());
    if !(cmd ^ args || (!(cmd && args) && has_container)) {
        let text =
            "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'.";
        fail(out, "/", text);
    }
    if app.cmd.as_ref().is_some_and(|cmd| cmd.chars().count() <= 1) {
        fail(out, "/", "must not be an empty string");
    }
}

fn strategy(app: &App, out: &mut Violations) {
    if app.is_single_instance() {
        if app.instances > 1 {
            fail(out, "/", "Single instance app may only have one instance");
        }
        let strategy = app.upgrade_strategy;
        for (value, field) in [
            (strategy.minimum_health_capacity, "minimumHealthCapacity"),
            (strategy.maximum_over_capacity, "maximumOverCapacity"),
        ] {
            if value != 0.0 {
                let text = format!("got {value:?}, expected 0.0");
                fail(out, format!("/upgradeStrategy/{field}"), text);
            }
        }
    }
    if let crate::model::UnreachableStrategy::Enabled(unreachable) = app.unreachable_strategy
        && unreachable.inactive_after_seconds > unreachable.expunge_after_seconds
    {
        fail(
            out,
            "/unreachableStrategy",
            "inactiveAfterSeconds must be less or equal to expungeAfterSeconds",
        );
    }
}

fn resources(app: &App, context: &Rules, out: &mut Violations) {
    if app.gpus > 0 {
        if app
            .container
            .as_ref()
            .is_some_and(|c| c.engine == EngineType::Docker)
        {
            fail(
                out,
                "/",
                "GPU resources only work with the Mesos containerizer",
            );
        }
        rules::feature("gpu_resources", "/", context, out);
    }
    let given = app.resource_limits.as_ref();
    limits(given, app.cpus, app.mem, "/resourceLimits", out);
}

/// Limits are not below what is requested.
fn limits(given: Option<&ResourceLimits>, cpus: f64, mem: f64, path: &str, out: &mut Violations) {
    let Some(limits) = given else {
        return;
    };
    for (limit, request, field) in [(&limits.cpus, cpus, "cpus"), (&limits.mem, mem, "mem")] {
        let text = match limit {
            Some(ResourceLimit::Text(text)) if text != "unlimited" => {
                format!("'{text}' is an invalid resource limit. It must be 'unlimited' or a number")
            }
            Some(ResourceLimit::Number(number)) if *number < request => {
                format!(
                    "resource limit must be greater than or equal to requested resource ({request:?})"
                )
            }
            _ => continue,
        };
        fail(out, format!("{path}/{field}"), text);
    }
}

pub(crate) fn roles(app: &App, context: &Rules, out: &mut Violations) {
    if !context.valid_roles.contains(&app.role) {
        let known: Vec<_> = context.valid_roles.iter().map(String::as_str).collect();
        let text = format!("got {}, expected one of: {}", app.role, known.join(", "));
        fail(out, "/role", text);
    }
    let Some(accepted) = &app.accepted_resource_roles else {
        return;
    };
    if accepted.is_empty() {
        fail(out, "/acceptedResourceRoles", "must not be empty");
    }
    if accepted.iter().any(|role| role != "*" && *role != app.role) {
        let known = if app.role == "*" {
            "*".to_owned()
        } else {
            format!("* and {}", app.role)
        };
        let text = format!("acceptedResourceRoles can only contain {known}");
        fail(out, "/acceptedResourceRoles", text);
    }
}

fn secrets(app: &App, context: &Rules, out: &mut Violations) {
    if !app.secrets.is_empty() {
        rules::feature("secrets", "/secrets", context, out);
    }
    for (name, value) in &app.env {
        let crate::model::EnvValue::Secret { secret } = value else {
            continue;
        };
        rules::feature("secrets", "/env", context, out);
        if !app.secrets.contains_key(secret) {
            fail(
                out,
                format!("/env/{name}"),
                "references an undefined secret",
            );
        }
    }
}

#[cfg(test)]
mod tests;

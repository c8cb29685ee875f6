//! From a pod as users send it to the run spec it is.

use super::{Rules, from_value};
use crate::error::Error;
use crate::model::{
    App, Constraint, Network, NetworkMode, Pod, UnreachableStrategy, UpgradeStrategy, pod_shape,
};
use crate::{PathId, Timestamp, schema, validate};

/// Reads the body of a request that creates or replaces a pod.
///
/// # Errors
/// As [`super::read_app`].
pub fn read_pod(body: &[u8]) -> Result<Pod, Error> {
    from_value(schema::parse(body, pod_shape::POD)?)
}

/// Makes a run spec of a pod; `version` is its version.
///
/// # Errors
/// [`Error::Invalid`] with every broken rule.
pub fn pod(mut pod: Pod, rules: &Rules, version: Timestamp) -> Result<App, Error> {
    let mut violations = Vec::new();
    validate::pod::rules(&pod, rules, &mut violations);
    let role = pod
        .role
        .take()
        .unwrap_or_else(|| rules.default_role.clone());
    complete(&mut pod, rules, &role);
    let spec = run_spec(&pod, role, version);
    validate::roles(&spec, rules, &mut violations);
    validate::resident::pod(&spec, &mut violations);
    if violations.is_empty() {
        Ok(spec)
    } else {
        Err(Error::Invalid(violations))
    }
}

/// Fills in what the document leaves open.
fn complete(pod: &mut Pod, rules: &Rules, role: &str) {
    // Both come from the run spec whenever the document is shown.
    pod.version = None;
    if pod.networks.is_empty() {
        pod.networks.push(Network::host());
    }
    let mut containers = false;
    for network in &mut pod.networks {
        if network.mode == NetworkMode::Container {
            containers = true;
            if network.name.is_none() {
                network.name.clone_from(&rules.default_network_name);
            }
        }
    }
    if !containers {
        let endpoints = pod.containers.iter_mut().flat_map(|c| &mut c.endpoints);
        for endpoint in endpoints {
            endpoint.host_port.get_or_insert(0);
        }
    }
    let resident = pod.volumes.iter().any(|volume| volume.persistent.is_some());
    pod.scheduling.upgrade.get_or_insert(if resident {
        UpgradeStrategy::RESIDENT
    } else {
        UpgradeStrategy::default()
    });
    pod.scheduling
        .unreachable_strategy
        .get_or_insert(if resident {
            UnreachableStrategy::NEVER
        } else {
            UnreachableStrategy::default()
        });
    if let Some(placement) = &mut pod.scheduling.placement {
        placement
            .accepted_resource_roles
            .retain(|accepted| accepted == "*" || accepted == role);
    }
}

/// What all run specs have, taken out of the document.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and delays are not negative"
)]
fn run_spec(pod: &Pod, role: String, version: Timestamp) -> App {
    let (total, scheduling) = (pod.total(), &pod.scheduling);
    let placement = scheduling.placement.clone().unwrap_or_default();
    let words = placement.constraints.into_iter().map(|constraint| {
        let words = [constraint.field_name, constraint.operator];
        words.into_iter().chain(constraint.value).collect()
    });
    let constraints = words.filter_map(|words: Vec<String>| Constraint::try_from(words).ok());
    let accepted = placement.accepted_resource_roles;
    App {
        accepted_resource_roles: (!accepted.is_empty()).then_some(accepted),
        backoff_factor: scheduling.backoff.backoff_factor,
        backoff_seconds: scheduling.backoff.backoff.ceil() as u32,
        constraints: constraints.collect(),
        cpus: total.cpus,
        mem: total.mem,
        disk: total.disk,
        gpus: total.gpus,
        instances: pod.scaling.instances,
        kill_selection: scheduling.kill_selection,
        labels: pod.labels.clone(),
        max_launch_delay_seconds: scheduling.backoff.max_launch_delay.ceil() as u32,
        networks: pod.networks.clone(),
        secrets: pod.secrets.clone(),
        unreachable_strategy: scheduling.unreachable_strategy.unwrap_or_default(),
        upgrade_strategy: scheduling.upgrade.unwrap_or_default(),
        user: pod.user.clone(),
        role,
        version,
        pod: Some(Box::new(Pod {
            scaling: crate::model::Scaling::default(),
            ..pod.clone()
        })),
        ..App::new(PathId::absolute(pod.id.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn made(document: &Value) -> Result<App, Error> {
        let rules = Rules {
            features: BTreeSet::new(),
            default_network_name: None,
            mesos_bridge_name: String::new(),
            default_role: "*".into(),
            valid_roles: BTreeSet::from(["*".into(), "dev".into()]),
        };
        let pod = read_pod(document.to_string().as_bytes())?;
        super::pod(pod, &rules, Timestamp::from_millis(7))
    }

    fn errors(document: &Value) -> Vec<(String, String)> {
        match made(document) {
            Err(Error::Invalid(violations) | Error::Shape(violations)) => {
                violations.into_iter().map(|v| (v.path, v.error)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_is_the_sum_of_its_containers() {
        let app = made(
            &json!({"id": "/p", "scaling": {"instances": 3}, "containers": [
            {"name": "a", "resources": {"cpus": 0.5, "mem": 64}},
            {"name": "b", "resources": {"cpus": 1, "mem": 32, "disk": 5}}]}),
        )
        .unwrap();
        assert!((app.cpus - 1.6).abs() < 1e-9 && (app.mem - 128.0).abs() < 1e-9);
        assert!((app.disk - 15.0).abs() < 1e-9);
        let document = app.pod_document().unwrap();
        assert_eq!(document.scaling.instances, 3);
        assert_eq!(document.version, Some(Timestamp::from_millis(7)));
        assert!(document.networks[0].is_host());
        let shown = App {
            instances: 5,
            ..app
        }
        .pod_document()
        .unwrap();
        assert_eq!(shown.scaling.instances, 5, "scaling is of the run spec");
    }

    #[test]
    fn constraints_and_strategies_are_those_of_the_scheduling() {
        let app = made(
            &json!({"id": "/p", "containers": [{"name": "a"}], "scheduling": {
            "backoff": {"backoff": 2.5, "maxLaunchDelay": 60},
            "placement": {"constraints": [{"fieldName": "@hostname", "operator": "unique"}]},
            "killSelection": "OLDEST_FIRST", "unreachableStrategy": "disabled"}}),
        )
        .unwrap();
        assert_eq!((app.backoff_seconds, app.max_launch_delay_seconds), (3, 60));
        assert_eq!(app.constraints.len(), 1);
        assert_eq!(app.unreachable_strategy, UnreachableStrategy::NEVER);
    }

    #[test]
    fn half_of_an_upgrade_strategy_will_do() {
        let app = made(&json!({"id": "/p", "containers": [{"name": "a"}],
            "scheduling": {"upgrade": {"minimumHealthCapacity": 0.5}}}))
        .unwrap();
        let expected = UpgradeStrategy {
            minimum_health_capacity: 0.5,
            maximum_over_capacity: 1.0,
        };
        assert_eq!(app.upgrade_strategy, expected);
    }

    fn with_volume(fields: &Value) -> Value {
        let mut document = json!({"id": "/p", "role": "dev", "containers": [{"name": "a",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "persistent": {"size": 10}}]});
        for (key, value) in fields.as_object().unwrap() {
            document[key] = value.clone();
        }
        document
    }

    #[test]
    fn a_pod_with_volumes_keeps_to_its_agent() {
        let app = made(&with_volume(&json!({}))).unwrap();
        assert!(app.is_resident());
        assert_eq!(app.unreachable_strategy, UnreachableStrategy::NEVER);
        assert_eq!(app.upgrade_strategy, UpgradeStrategy::RESIDENT);
        let volumes: Vec<&str> = app.persistent_volumes().map(|(name, _)| name).collect();
        assert_eq!(volumes, ["data"]);
    }

    #[test]
    fn broken_rules_name_their_place() {
        let cases = [
            (json!({"id": "/p"}), "/containers", "error.path.missing"),
            (
                json!({"id": "/p", "containers": []}),
                "/containers",
                "must not be empty",
            ),
            (
                json!({"id": "/p", "containers": [{"name": "a"}, {"name": "a"}]}),
                "/containers",
                "container names must be unique",
            ),
            (
                json!({"id": "/p", "containers": [{"name": "A"}]}),
                "/containers(0)/name",
                "must fully match regular expression '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'",
            ),
            (
                json!({"id": "/p", "containers": [{"name": "a"}], "volumes": [{"name": "v"}]}),
                "/volumes(0)",
                "volume must be referenced by at least one container",
            ),
            (
                json!({"id": "/p", "containers": [
                    {"name": "a", "volumeMounts": [{"name": "v", "mountPath": "x"}]}]}),
                "/containers(0)/volumeMounts(0)/name",
                "Referenced Volume in VolumeMount should exist",
            ),
            (
                json!({"id": "/p", "networks": [{"mode": "host"}], "containers": [
                    {"name": "a", "endpoints": [{"name": "e", "containerPort": 80}]}]}),
                "/containers(0)/endpoints(0)/containerPort",
                "is not allowed when using host-mode networking",
            ),
            (
                json!({"id": "/p", "containers": [{"name": "a", "healthCheck": {
                    "timeoutSeconds": 60, "exec": {"command": {"shell": "true"}}}}]}),
                "/containers(0)/healthCheck/timeoutSeconds",
                "must be less than intervalSeconds",
            ),
            (
                json!({"id": "/p", "containers": [{"name": "a",
                    "check": {"tcp": {"endpoint": "e"}}}]}),
                "/containers(0)/check/tcp/endpoint",
                "contained in the container endpoints",
            ),
            (
                with_volume(&json!({"role": "*"})),
                "/role",
                "Resident pods cannot have the role *",
            ),
            (
                with_volume(&json!({"scheduling": {"unreachableStrategy":
                    {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}}})),
                "/",
                "unreachableStrategy must be disabled for pods with persistent volumes",
            ),
            (
                with_volume(
                    &json!({"scheduling": {"upgrade": {"minimumHealthCapacity": 0.5,
                    "maximumOverCapacity": 0.1}}}),
                ),
                "/upgrade/maximumOverCapacity",
                "got 0.1, expected 0.0",
            ),
            (
                with_volume(
                    &json!({"scheduling": {"placement": {"acceptedResourceRoles": ["dev"]}}}),
                ),
                "/acceptedResourceRoles",
                "A resident pod must have `acceptedResourceRoles = [\"*\"]`.",
            ),
            (
                with_volume(&json!({"volumes": [{"name": "tasks", "persistent": {"size": 1}}]})),
                "/volumes(0)/name",
                "must not be one of (containers,stderr,stdout,tasks,volumes)",
            ),
            (
                with_volume(&json!({"volumes": [{"name": "data", "persistent": {"size": 0}}]})),
                "/volumes(0)/persistent/size",
                "got 0, expected more than 0",
            ),
            (
                json!({"id": "/p", "role": "other", "containers": [{"name": "a"}]}),
                "/role",
                "got other, expected one of: *, dev",
            ),
        ];
        for (document, path, error) in cases {
            let found = errors(&document);
            assert!(
                found.iter().any(|(p, e)| p == path && e == error),
                "{document}: {found:?}"
            );
        }
    }
}

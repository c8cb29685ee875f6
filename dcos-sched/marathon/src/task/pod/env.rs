//! The environment of a container of a pod.

use std::collections::BTreeMap;

use dcos_proto::mesos::environment;

use crate::instance::{Instance, PodTask};
use crate::model::{App, EnvValue, Pod, PodContainer};
use crate::task::{Surroundings, env};

/// All variables: those of the pod, of the container, then what Marathon says; later ones win.
pub(super) fn variables(
    app: &App,
    pod: &Pod,
    container: &PodContainer,
    known: &PodTask,
    instance: &Instance,
    surroundings: &Surroundings,
) -> Vec<environment::Variable> {
    let mut given = pod.environment.clone();
    given.extend(container.environment.clone());
    let mut plain = BTreeMap::new();
    let mut secrets = BTreeMap::new();
    for (name, value) in given {
        match value {
            EnvValue::Text(text) => {
                plain.insert(name, text);
            }
            EnvValue::Secret { secret } => {
                secrets.extend(pod.secrets.get(&secret).map(|secret| (name, secret)));
            }
        }
    }
    plain.insert("HOST".to_owned(), instance.agent.host.clone());
    plain.extend(context(app, container, known, instance, surroundings));
    let mut labels = pod.labels.clone();
    labels.extend(container.labels.clone());
    plain.extend(env::labels(&labels));
    plain.extend(endpoints(app, pod, instance, surroundings));
    let plain = plain
        .into_iter()
        .map(|(name, value)| environment::Variable {
            name,
            value: Some(value),
            ..environment::Variable::default()
        });
    let secrets = secrets
        .into_iter()
        .map(|(name, secret)| environment::Variable {
            name,
            r#type: Some(environment::variable::Type::Secret as i32),
            secret: Some(env::reference(&secret.source)),
            ..environment::Variable::default()
        });
    plain.chain(secrets).collect()
}

fn context(
    app: &App,
    container: &PodContainer,
    known: &PodTask,
    instance: &Instance,
    surroundings: &Surroundings,
) -> [(String, String); 10] {
    let enforce = surroundings.enforce_role.to_string().to_uppercase();
    let needs = container.resources;
    [
        ("MESOS_TASK_ID", known.id.clone()),
        ("MESOS_EXECUTOR_ID", instance.id.executor()),
        ("MARATHON_APP_ID", app.id.to_string()),
        ("MARATHON_APP_VERSION", app.version.to_string()),
        ("MARATHON_CONTAINER_ID", container.name.clone()),
        ("MARATHON_APP_ENFORCE_GROUP_ROLE", enforce),
        (
            "MARATHON_CONTAINER_RESOURCE_CPUS",
            format!("{:?}", needs.cpus),
        ),
        (
            "MARATHON_CONTAINER_RESOURCE_MEM",
            format!("{:?}", needs.mem),
        ),
        (
            "MARATHON_CONTAINER_RESOURCE_DISK",
            format!("{:?}", needs.disk),
        ),
        ("MARATHON_CONTAINER_RESOURCE_GPUS", needs.gpus.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// Where each endpoint of the pod is: on the host, in the container, and from where this container is.
fn endpoints(
    app: &App,
    pod: &Pod,
    instance: &Instance,
    surroundings: &Surroundings,
) -> Vec<(String, String)> {
    let prefix = surroundings.env_vars_prefix.as_deref().unwrap_or_default();
    let prefix = prefix.to_uppercase();
    let mut all = Vec::new();
    let given = instance
        .ports
        .iter()
        .copied()
        .chain(std::iter::repeat(None));
    for (endpoint, on_host) in pod.endpoints().zip(given) {
        let name = env::escape(&endpoint.name);
        let inside = endpoint.container_port;
        let near = if app.is_host_networked() {
            on_host
        } else {
            inside
        };
        for (kind, port) in [
            ("ENDPOINT", near),
            ("EP_HOST", on_host),
            ("EP_CONTAINER", inside),
        ] {
            all.extend(port.map(|port| (format!("{prefix}{kind}_{name}"), port.to_string())));
        }
    }
    all
}

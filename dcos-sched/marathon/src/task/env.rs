//! The environment Marathon gives a task beside the app's own variables.

use std::collections::BTreeMap;

use dcos_proto::mesos::{Secret, environment, secret};

use super::Surroundings;
use crate::instance::Instance;
use crate::model::{App, EnvValue};

/// Longer label names and values are left out of the environment.
const LONGEST_LABEL: usize = 512;

/// All variables; the app's own win.
pub(super) fn variables(
    app: &App,
    instance: &Instance,
    surroundings: &Surroundings,
) -> BTreeMap<String, String> {
    let prefix = surroundings.env_vars_prefix.as_deref().unwrap_or_default();
    let mut ports = ports(app, &instance.ports);
    ports.insert("HOST".to_owned(), instance.agent.host.clone());
    let mut all = context(app, instance, surroundings.enforce_role);
    all.extend(
        ports
            .into_iter()
            .map(|(name, value)| (format!("{prefix}{name}"), value)),
    );
    all.extend(app.env.iter().filter_map(|(name, value)| match value {
        EnvValue::Text(text) => Some((name.clone(), text.clone())),
        EnvValue::Secret { .. } => None,
    }));
    all
}

/// The variables whose values the agent takes from secrets.
pub(super) fn secrets(app: &App) -> impl Iterator<Item = environment::Variable> {
    let variables = app.env.iter().filter_map(|(name, value)| match value {
        EnvValue::Text(_) => None,
        EnvValue::Secret { secret } => Some((name, app.secrets.get(secret)?)),
    });
    variables.map(|(name, secret)| environment::Variable {
        name: name.clone(),
        r#type: Some(environment::variable::Type::Secret as i32),
        secret: Some(reference(&secret.source)),
        ..environment::Variable::default()
    })
}

/// A secret by its path in the store of secrets.
pub(super) fn reference(source: &str) -> Secret {
    Secret {
        r#type: Some(secret::Type::Reference as i32),
        reference: Some(secret::Reference {
            name: source.to_owned(),
            key: None,
        }),
        value: None,
    }
}

fn context(app: &App, instance: &Instance, enforce_role: bool) -> BTreeMap<String, String> {
    let docker = app
        .container
        .as_ref()
        .and_then(|container| container.docker.as_ref());
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: String| all.insert(name.to_owned(), value);
    set("MESOS_TASK_ID", instance.task_id.clone());
    set("MARATHON_APP_ID", app.id.to_string());
    set("MARATHON_APP_VERSION", app.version.to_string());
    if let Some(docker) = docker {
        set("MARATHON_APP_DOCKER_IMAGE", docker.image.clone());
    }
    // Amounts are written as the JVM writes doubles: always with a fraction.
    set("MARATHON_APP_RESOURCE_CPUS", format!("{:?}", app.cpus));
    set("MARATHON_APP_RESOURCE_MEM", format!("{:?}", app.mem));
    set("MARATHON_APP_RESOURCE_DISK", format!("{:?}", app.disk));
    set("MARATHON_APP_RESOURCE_GPUS", app.gpus.to_string());
    set(
        "MARATHON_APP_ENFORCE_GROUP_ROLE",
        enforce_role.to_string().to_uppercase(),
    );
    all.extend(labels(&app.labels));
    all
}

/// Labels as variables, with a list of their names.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let short: BTreeMap<String, &String> = labels
        .iter()
        .filter(|(key, value)| key.len() < LONGEST_LABEL && value.len() < LONGEST_LABEL)
        .map(|(key, value)| (escape(key), value))
        .collect();
    let names: Vec<&str> = short.keys().map(String::as_str).collect();
    let list = ("MARATHON_APP_LABELS".to_owned(), names.join(" "));
    let each = short
        .iter()
        .map(|(key, value)| (format!("MARATHON_APP_LABEL_{key}"), (*value).clone()));
    std::iter::once(list).chain(each).collect()
}

/// Upper case, and one `_` for whatever cannot stand in a variable's name.
pub(super) fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            escaped.push(c.to_ascii_uppercase());
        } else if !escaped.ends_with('\u{0}') {
            escaped.push('\u{0}');
        }
    }
    escaped.replace('\u{0}', "_")
}

fn ports(app: &App, given: &[Option<u16>]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if given.is_empty() {
        return all;
    }
    let requested: Vec<(Option<&String>, u16)> = if app.port_mappings().is_empty() {
        app.port_definitions()
            .iter()
            .map(|port| (port.name.as_ref(), port.port))
            .collect()
    } else {
        let mappings = app.port_mappings().iter();
        mappings
            .map(|mapping| (mapping.name.as_ref(), mapping.container_port))
            .collect()
    };
    let mut assigned = Vec::new();
    for (at, ((name, wanted), given)) in requested.iter().zip(given).enumerate() {
        // Without a port on the host, the port inside the container is the one to use.
        let effective = given.unwrap_or(*wanted);
        if effective == 0 {
            continue;
        }
        if given.is_some() {
            assigned.push(effective.to_string());
        }
        let named = if *wanted == 0 { effective } else { *wanted };
        all.insert(format!("PORT{at}"), effective.to_string());
        all.insert(format!("PORT_{named}"), effective.to_string());
        if let Some(name) = name {
            all.insert(
                format!("PORT_{}", name.to_uppercase()),
                effective.to_string(),
            );
        }
    }
    if let Some(first) = assigned.first() {
        all.insert("PORT".to_owned(), first.clone());
    }
    all.insert("PORTS".to_owned(), assigned.join(","));
    all
}

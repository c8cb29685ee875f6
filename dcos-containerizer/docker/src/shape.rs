//! What the engine is asked to create, from what a task asks for.
//!
//! # Source
//! Mesos 1.11 `Docker::RunOptions::create` (`src/docker/docker.cpp`), with the same refusals.

mod network;
mod volumes;

use std::collections::BTreeMap;
use std::path::Path;

use bollard::models::{ContainerCreateBody, EndpointSettings, HostConfig, NetworkingConfig};
use dcos_containerizer::containerizer::{ContainerConfig, DEFAULT_PATH};
use dcos_proto::mesos::{CommandInfo, ContainerInfo};

pub(crate) use network::{DefaultDns, add_port};

use crate::parameters;
use crate::resources::Amounts;

/// A container that the engine can create.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) image: String,
    /// Whether the registry is asked even if the image is there; never, if `Some(false)` is said
    /// by a parameter.
    pub(crate) pull: Pull,
    pub(crate) platform: String,
    /// Remove it as soon as it ended.
    pub(crate) ephemeral: bool,
    pub(crate) body: ContainerCreateBody,
    pub(crate) host: HostConfig,
    pub(crate) endpoint: EndpointSettings,
    /// Beside the first network, whose name is `host.network_mode`.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// When the registry is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Pull {
    /// If the image is not there.
    #[default]
    Missing,
    Always,
    Never,
}

/// What is the same for all containers of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) sandbox_directory: std::path::PathBuf,
    pub(crate) cfs: bool,
    pub(crate) dns: Vec<DefaultDns>,
    /// Bytes of the host's memory.
    pub(crate) memory: u64,
}

impl Shape {
    /// # Errors
    /// What of `config` makes no sense, or cannot be had from an engine.
    pub(crate) fn new(
        name: &str,
        config: &ContainerConfig,
        settings: &Settings,
    ) -> Result<Self, String> {
        let info = config.container.as_ref().ok_or("there is no container")?;
        let docker = info
            .docker
            .as_ref()
            .ok_or("No docker info found in container info")?;
        let command = config.command.clone().unwrap_or_default();
        let mut shape = Self {
            image: docker.image.clone(),
            ..Self::default()
        };
        if docker.force_pull_image() {
            shape.pull = Pull::Always;
        }
        shape.host.privileged = Some(docker.privileged());
        Amounts::new(
            &config.resources,
            &config.limits,
            settings.cfs,
            settings.memory,
        )
        .apply(&mut shape.host);
        shape.environment = environment(config, name, settings);
        volumes::apply(&mut shape, config, info, &settings.sandbox_directory)?;
        network::apply(&mut shape, config, info)?;
        run(&mut shape, &command)?;
        shape.labels = labels(info, config);
        for parameter in &docker.parameters {
            parameters::apply(&mut shape, &parameter.key, &parameter.value)
                .map_err(|why| format!("docker parameter `{}`: {why}", parameter.key))?;
        }
        network::default_dns(&mut shape, docker.network(), &settings.dns);
        Ok(shape)
    }

    /// What `POST /containers/create` takes.
    pub(crate) fn to_body(&self) -> ContainerCreateBody {
        let network = self.host.network_mode.clone().unwrap_or_default();
        let plain = self.endpoint == EndpointSettings::default();
        let endpoints = [(network, self.endpoint.clone())];
        ContainerCreateBody {
            image: Some(self.image.clone()),
            env: Some(pairs(&self.environment)),
            labels: Some(self.labels.clone().into_iter().collect()),
            host_config: Some(self.host.clone()),
            networking_config: (!plain).then(|| NetworkingConfig {
                endpoints_config: Some(endpoints.into()),
            }),
            ..self.body.clone()
        }
    }
}

pub(crate) fn pairs(variables: &BTreeMap<String, String>) -> Vec<String> {
    let pairs = variables.iter();
    pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

/// What runs: a shell command replaces the image's entry point, arguments follow it.
fn run(shape: &mut Shape, command: &CommandInfo) -> Result<(), String> {
    if command.shell() {
        let value = command
            .value
            .clone()
            .ok_or("Shell specified but no command value provided")?;
        shape.body.entrypoint = Some(vec!["/bin/sh".to_owned()]);
        shape.body.cmd = Some(vec!["-c".to_owned(), value]);
        return Ok(());
    }
    let words = command.value.iter().chain(&command.arguments);
    let words: Vec<String> = words.cloned().collect();
    shape.body.cmd = Some(words).filter(|words| !words.is_empty());
    Ok(())
}

fn environment(
    config: &ContainerConfig,
    name: &str,
    settings: &Settings,
) -> BTreeMap<String, String> {
    let mut environment = without_default_path(config);
    let sandbox = settings.sandbox_directory.display().to_string();
    if !network::is_host(config.container.as_ref()) {
        // The host's address is not one to listen on in there.
        let own = own_variables(config);
        environment.retain(|name, _| !name.starts_with("LIBPROCESS_") || own.contains(name));
    }
    environment.insert("MESOS_DIRECTORY".to_owned(), sandbox.clone());
    environment.insert("MESOS_SANDBOX".to_owned(), sandbox);
    environment.insert("MESOS_CONTAINER_NAME".to_owned(), name.to_owned());
    environment
}

/// The environment, where an image's own `PATH` is not hidden by the agent's default.
pub(crate) fn without_default_path(config: &ContainerConfig) -> BTreeMap<String, String> {
    let mut environment = config.environment.clone();
    let default = environment
        .get("PATH")
        .is_some_and(|path| path == DEFAULT_PATH);
    if default && !own_variables(config).contains("PATH") {
        environment.remove("PATH");
    }
    environment
}

fn own_variables(config: &ContainerConfig) -> std::collections::BTreeSet<String> {
    let command = config.command.as_ref();
    let variables = command.and_then(|command| command.environment.as_ref());
    let variables = variables.into_iter().flat_map(|all| &all.variables);
    variables.map(|variable| variable.name.clone()).collect()
}

/// Labels of networks are the engine's business, those of the task are not told here.
fn labels(_: &ContainerInfo, config: &ContainerConfig) -> BTreeMap<String, String> {
    let named = [
        ("MESOS_FRAMEWORK_ID", "org.apache.mesos.framework_id"),
        ("MESOS_EXECUTOR_ID", "org.apache.mesos.executor_id"),
    ];
    let found = named.into_iter().filter_map(|(variable, label)| {
        let value = config.environment.get(variable)?;
        Some((label.to_owned(), value.clone()))
    });
    found.collect()
}

/// A path that can stand in `source:target:options`.
pub(crate) fn bindable(path: &Path) -> Result<String, String> {
    let text = path.display().to_string();
    if text.contains(':') {
        return Err(format!(
            "the path '{text}' holds a colon, which Docker cannot bind"
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;

//! From a run to what the engine launches: an app of one instance that nobody restarts.

use dcos_marathon::Timestamp;
use dcos_marathon::model::{
    App, Constraint, Container, DockerContainer, EngineType, Fetch, KillSelection, Operator,
    UnreachableStrategy, UpgradeStrategy, Volume,
};

use crate::model::{self, Run, RunSpec};

/// What the engine launches for `run`.
pub(crate) fn app(run: &Run, config: &dcos_marathon::Config) -> App {
    let job = &run.job;
    let spec = &job.run;
    let constraints = spec.placement.constraints.iter().filter_map(constraint);
    let fetch = spec.artifacts.iter().map(|artifact| Fetch {
        uri: artifact.uri.clone(),
        extract: artifact.extract,
        executable: artifact.executable,
        cache: artifact.cache,
        dest_path: None,
    });
    App {
        id: run.key().path(),
        accepted_resource_roles: None,
        args: spec.args.clone().unwrap_or_default(),
        backoff_factor: 0.0,
        backoff_seconds: 0,
        cmd: spec.cmd.clone(),
        constraints: constraints.collect(),
        container: container(spec),
        cpus: spec.cpus,
        dependencies: Vec::new(),
        disk: spec.disk,
        env: spec.env.clone(),
        executor: "//cmd".to_owned(),
        executor_resources: None,
        fetch: fetch.collect(),
        health_checks: Vec::new(),
        check: None,
        instances: 1,
        labels: job.labels.clone(),
        max_launch_delay_seconds: spec.max_launch_delay,
        mem: spec.mem,
        gpus: spec.gpus,
        networks: spec.networks.clone(),
        port_definitions: None,
        readiness_checks: Vec::new(),
        resource_limits: None,
        require_ports: false,
        secrets: spec.secrets.clone(),
        task_kill_grace_period_seconds: spec.task_kill_grace_period_seconds,
        upgrade_strategy: UpgradeStrategy::default(),
        user: spec.user.clone(),
        // Runs have no versions; the original shows this one in the task's environment.
        version: Timestamp::default(),
        version_info: None,
        kill_selection: KillSelection::default(),
        unreachable_strategy: UnreachableStrategy::default(),
        tty: None,
        role: config.mesos_role.clone(),
        pod: None,
    }
}

/// A rule without a value says nothing, as in the original.
fn constraint(constraint: &model::Constraint) -> Option<Constraint> {
    Some(Constraint {
        field: constraint.attribute.clone(),
        operator: match constraint.operator {
            model::Operator::Is => Operator::Is,
            model::Operator::Like => Operator::Like,
            model::Operator::Unlike => Operator::Unlike,
        },
        value: Some(constraint.value.clone()?),
    })
}

fn container(spec: &RunSpec) -> Option<Container> {
    let image = |image: &str, force_pull_image| DockerContainer {
        credential: None,
        pull_config: None,
        force_pull_image,
        image: image.to_owned(),
        network: None,
        parameters: Vec::new(),
        port_mappings: None,
        privileged: false,
    };
    let mut container = Container::mesos();
    if let Some(docker) = &spec.docker {
        container.engine = EngineType::Docker;
        container.docker = Some(DockerContainer {
            parameters: docker.parameters.clone(),
            privileged: docker.privileged,
            ..image(&docker.image, docker.force_pull_image)
        });
    } else if let Some(ucr) = &spec.ucr {
        container.docker = Some(image(&ucr.image.id, ucr.image.force_pull));
    } else if spec.volumes.is_empty() {
        return None;
    }
    container.volumes = spec.volumes.iter().map(volume).collect();
    Some(container)
}

fn volume(volume: &model::Volume) -> Volume {
    let at = |container_path: &str| Volume {
        container_path: container_path.to_owned(),
        host_path: None,
        persistent: None,
        external: None,
        secret: None,
        mode: None,
    };
    match volume {
        model::Volume::Host {
            container_path,
            host_path,
            mode,
        } => Volume {
            host_path: Some(host_path.clone()),
            mode: Some(*mode),
            ..at(container_path)
        },
        model::Volume::Secret {
            container_path,
            secret,
        } => Volume {
            secret: Some(secret.clone()),
            ..at(container_path)
        },
    }
}

//! The sandbox, volumes of the host and of volume drivers, persistent volumes.

use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig};
use dcos_containerizer::containerizer::ContainerConfig;
use dcos_proto::mesos::volume::source::sandbox_path;
use dcos_proto::mesos::volume::source::{DockerVolume, Type};
use dcos_proto::mesos::{ContainerInfo, Volume, volume};

use super::{Shape, bindable};

pub(super) fn apply(
    shape: &mut Shape,
    config: &ContainerConfig,
    info: &ContainerInfo,
    inside: &Path,
) -> Result<(), String> {
    let docker = info.docker.as_ref();
    let driver = docker.and_then(|docker| docker.volume_driver.clone());
    // Outer ones before what lies in them.
    bind(shape, &config.directory, inside, volume::Mode::Rw)?;
    for volume in &info.volumes {
        let target = inside.join(&volume.container_path);
        match source(volume, &config.directory, driver.is_some())? {
            Source::Path(path) => bind(shape, &path, &target, volume.mode())?,
            Source::Named(name) => {
                let bind = bound(&name, &bindable(&target)?, volume.mode());
                shape.host.binds.get_or_insert_default().push(bind);
            }
            Source::Driver(named) => {
                let mount = mount(named, &target, volume.mode(), driver.as_ref());
                shape.host.mounts.get_or_insert_default().push(mount);
            }
        }
    }
    for volume in &config.volumes {
        let target = inside.join(&volume.container_path);
        let mode = if volume.readonly {
            volume::Mode::Ro
        } else {
            volume::Mode::Rw
        };
        bind(shape, &volume.source, &target, mode)?;
    }
    shape.host.volume_driver = driver;
    Ok(())
}

enum Source<'a> {
    Path(PathBuf),
    /// Of the engine, or of the driver that the task names for all.
    Named(String),
    Driver(&'a DockerVolume),
}

fn source<'a>(volume: &'a Volume, sandbox: &Path, driver: bool) -> Result<Source<'a>, String> {
    if let Some(path) = &volume.host_path {
        return of_host(path, &volume.container_path, sandbox, driver);
    }
    let source = volume
        .source
        .as_ref()
        .ok_or("Host path or volume source is required")?;
    match (source.r#type(), &source.docker_volume, &source.host_path) {
        (Type::DockerVolume, Some(named), _) => Ok(Source::Driver(named)),
        (Type::HostPath, _, Some(host)) => {
            of_host(&host.path, &volume.container_path, sandbox, false)
        }
        (Type::SandboxPath, ..) => {
            let path = source.sandbox_path.as_ref();
            let path = path.filter(|path| path.r#type() != sandbox_path::Type::Parent);
            let path = path.ok_or("a container of Docker has no parent with a sandbox")?;
            inner(sandbox, &path.path).map(Source::Path)
        }
        (kind, ..) => Err(format!(
            "volumes of type {} are not supported by the Docker containerizer",
            kind.as_str_name()
        )),
    }
}

fn of_host<'a>(
    path: &str,
    target: &str,
    sandbox: &Path,
    driver: bool,
) -> Result<Source<'a>, String> {
    if path.starts_with('/') {
        return Ok(Source::Path(path.into()));
    }
    if !target.starts_with('/') {
        return Err(format!(
            "Both host_path '{path}' and container_path '{target}' of a volume are relative"
        ));
    }
    if driver {
        return Ok(Source::Named(path.to_owned()));
    }
    inner(sandbox, path).map(Source::Path)
}

/// A path in the sandbox that does not lead out of it.
fn inner(sandbox: &Path, path: &str) -> Result<PathBuf, String> {
    let plain = |part: std::path::Component<'_>| {
        matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    };
    if !Path::new(path).components().all(plain) {
        return Err(format!("the volume path '{path}' leads out of the sandbox"));
    }
    Ok(sandbox.join(path))
}

fn bind(shape: &mut Shape, from: &Path, to: &Path, mode: volume::Mode) -> Result<(), String> {
    let bind = bound(&bindable(from)?, &bindable(to)?, mode);
    shape.host.binds.get_or_insert_default().push(bind);
    Ok(())
}

fn bound(from: &str, to: &str, mode: volume::Mode) -> String {
    let mode = match mode {
        volume::Mode::Rw => "rw",
        volume::Mode::Ro => "ro",
    };
    format!("{from}:{to}:{mode}")
}

fn mount(
    named: &DockerVolume,
    target: &Path,
    mode: volume::Mode,
    default_driver: Option<&String>,
) -> Mount {
    let options = named.driver_options.iter().flat_map(|all| &all.parameter);
    let options = options.map(|one| (one.key.clone(), one.value.clone()));
    let driver = named.driver.as_ref().or(default_driver);
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(named.name.clone()),
        target: Some(target.display().to_string()),
        read_only: Some(mode == volume::Mode::Ro),
        volume_options: driver.map(|driver| MountVolumeOptions {
            driver_config: Some(MountVolumeOptionsDriverConfig {
                name: Some(driver.clone()),
                options: Some(options.collect()),
            }),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

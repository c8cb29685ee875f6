//! The volumes of a container of a pod.

use dcos_proto::mesos::{Volume, volume};

use crate::model::{Pod, PodContainer, PodVolume, VolumeMount};
use crate::task::env;

/// Where in the executor's sandbox volumes lie that end with the instance.
const EPHEMERAL: &str = "volumes/";

pub(super) fn volumes(pod: &Pod, container: &PodContainer) -> Vec<Volume> {
    let mounts = container.volume_mounts.iter();
    mounts
        .filter_map(|mount| {
            let of_pod = pod
                .volumes
                .iter()
                .find(|volume| volume.name == mount.name)?;
            Some(one(pod, of_pod, mount))
        })
        .collect()
}

fn one(pod: &Pod, of_pod: &PodVolume, mount: &VolumeMount) -> Volume {
    let mode = if mount.read_only == Some(true) {
        volume::Mode::Ro
    } else {
        volume::Mode::Rw
    };
    let mut mounted = Volume {
        mode: mode as i32,
        container_path: mount.mount_path.clone(),
        ..Volume::default()
    };
    if let Some(path) = &of_pod.host {
        mounted.host_path = Some(path.clone());
    } else if let Some(secret) = of_pod
        .secret
        .as_ref()
        .and_then(|name| pod.secrets.get(name))
    {
        mounted.mode = volume::Mode::Ro as i32;
        mounted.source = Some(volume::Source {
            r#type: Some(volume::source::Type::Secret as i32),
            secret: Some(env::reference(&secret.source)),
            ..volume::Source::default()
        });
    } else {
        let path = if of_pod.persistent.is_some() {
            of_pod.name.clone()
        } else {
            format!("{EPHEMERAL}{}", of_pod.name)
        };
        mounted.source = Some(volume::Source {
            r#type: Some(volume::source::Type::SandboxPath as i32),
            sandbox_path: Some(volume::source::SandboxPath {
                r#type: Some(volume::source::sandbox_path::Type::Parent as i32),
                path,
            }),
            ..volume::Source::default()
        });
    }
    mounted
}

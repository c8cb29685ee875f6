//! Whole GPUs for containers, out of the same ones that containers of type MESOS have.
//!
//! An engine that knows NVIDIA's runtime is asked for them by NVIDIA's names, and puts the driver's files into the
//! container, too. Any other is told their device nodes.
//!
//! # Source
//! Mesos 1.11 `DockerContainerizerProcess::allocateNvidiaGpus`, which knows device nodes only.

use std::collections::BTreeSet;

use bollard::models::{DeviceMapping, DeviceRequest, HostConfig};
use dcos_containerizer::isolator::gpu::GpuPool;
use dcos_proto::mesos::{ContainerId, Resource};

use crate::resources::sum;

/// What an engine calls NVIDIA's runtime, and the driver of requests for devices.
pub(crate) const NVIDIA: &str = "nvidia";

/// Gives a container as many as it has of `gpus`; their numbers.
pub(crate) fn give(
    pool: Option<&GpuPool>,
    id: &ContainerId,
    resources: &[Resource],
) -> Result<BTreeSet<u32>, String> {
    let Some(count) = sum(resources, "gpus").filter(|count| *count > 0.0) else {
        return Ok(BTreeSet::new());
    };
    let pool = pool.ok_or("this agent gives no GPUs: its --isolation names no `gpu/nvidia`")?;
    pool.give(id, count).map_err(|error| error.to_string())
}

/// Has a container see GPUs; an engine that `has_runtime` by their names, as far as they are known.
pub(crate) fn show(
    host: &mut HostConfig,
    pool: &GpuPool,
    numbers: &BTreeSet<u32>,
    has_runtime: bool,
) {
    if numbers.is_empty() {
        return;
    }
    let names: Option<Vec<_>> = numbers.iter().map(|gpu| pool.name(*gpu)).collect();
    if let Some(names) = names.filter(|_| has_runtime) {
        let request = DeviceRequest {
            driver: Some(NVIDIA.to_owned()),
            device_ids: Some(names.into_iter().map(str::to_owned).collect()),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        };
        host.device_requests.get_or_insert_default().push(request);
        return;
    }
    let devices = pool.devices(numbers).map(|device| {
        let path = Some(device.path.display().to_string());
        DeviceMapping {
            path_on_host: path.clone(),
            path_in_container: path,
            cgroup_permissions: Some(device.rule.access.clone()),
        }
    });
    host.devices.get_or_insert_default().extend(devices);
}

//! `docker.parameters[]`: options of `docker run`, as fields of the engine's API.
//!
//! The original hands them to the command line. Here each is understood or refused by name: one
//! that is passed over would be a task that runs otherwise than its author believes.

mod values;

use bollard::models::{
    EndpointIpamConfig, HealthConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    ResourcesBlkioWeightDevice,
};

use crate::shape::{Pull, Shape};
use values::{
    bytes, device, duration, mount, number, pair, publish, security, switch, throttle, ulimit,
    variable,
};

type Applied = Result<(), String>;

/// Applies the option `--key=value` of `docker run`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn apply(shape: &mut Shape, key: &str, value: &str) -> Applied {
    let key = key.trim_start_matches('-');
    let text = || Some(value.to_owned());
    let known = limits(shape, key, value)?
        || rights(shape, key, value)?
        || surroundings(shape, key, value)?
        || network(shape, key, value)?
        || own_health(shape, key, value)?;
    if known {
        return Ok(());
    }
    match key {
        "entrypoint" => shape.body.entrypoint = Some(vec![value.to_owned()]),
        "env" | "e" => {
            let (name, value) = variable(value)?;
            shape.environment.insert(name, value);
        }
        "env-file" => {
            for line in lines(value)? {
                let (name, value) = variable(&line)?;
                shape.environment.insert(name, value);
            }
        }
        "label" | "l" => insert(&mut shape.labels, value),
        "label-file" => lines(value)?
            .iter()
            .for_each(|line| insert(&mut shape.labels, line)),
        "annotation" => {
            let (name, value) = pair(value)?;
            let annotations = shape.host.annotations.get_or_insert_default();
            annotations.insert(name, value);
        }
        "user" | "u" => shape.body.user = text(),
        "workdir" | "w" => shape.body.working_dir = text(),
        "tty" | "t" => shape.body.tty = Some(switch(value)?),
        "interactive" | "i" => shape.body.open_stdin = Some(switch(value)?),
        "stop-signal" => shape.body.stop_signal = text(),
        "stop-timeout" => shape.body.stop_timeout = Some(number(value)?),
        "init" => shape.host.init = Some(switch(value)?),
        "runtime" => shape.host.runtime = text(),
        "platform" => value.clone_into(&mut shape.platform),
        "pull" => {
            shape.pull = match value {
                "always" => Pull::Always,
                "missing" => Pull::Missing,
                "never" => Pull::Never,
                _ => return Err(format!("`{value}` is not always, missing or never")),
            }
        }
        "rm" => shape.ephemeral = switch(value)?,
        "restart" if value == "no" => {}
        "restart" => {
            let why =
                "what runs again is the framework's to say: a task that ends is told as ended";
            return Err(why.to_owned());
        }
        // What the command line does with itself; there is none here.
        "detach" | "d" | "sig-proxy" | "disable-content-trust" | "quiet" | "q" => {}
        "name" | "cidfile" | "attach" | "a" | "detach-keys" => {
            return Err("that is the agent's to say".to_owned());
        }
        _ => {
            return Err(
                "there is no such option of `docker run`, or it is not supported".to_owned(),
            );
        }
    }
    Ok(())
}

fn limits(shape: &mut Shape, key: &str, value: &str) -> Result<bool, String> {
    let host = &mut shape.host;
    match key {
        "cpu-shares" | "c" => host.cpu_shares = Some(number(value)?),
        "cpu-period" => host.cpu_period = Some(number(value)?),
        "cpu-quota" => host.cpu_quota = Some(number(value)?),
        "cpu-rt-period" => host.cpu_realtime_period = Some(number(value)?),
        "cpu-rt-runtime" => host.cpu_realtime_runtime = Some(number(value)?),
        "cpus" => {
            let cpus: f64 = value.parse().map_err(|_| not(value, "a number of CPUs"))?;
            host.nano_cpus = Some(values::whole(cpus * 1e9));
            // The engine takes one of the two.
            host.cpu_quota = None;
        }
        "cpuset-cpus" => host.cpuset_cpus = Some(value.to_owned()),
        "cpuset-mems" => host.cpuset_mems = Some(value.to_owned()),
        "memory" | "m" => host.memory = Some(bytes(value)?),
        "memory-reservation" => host.memory_reservation = Some(bytes(value)?),
        "memory-swap" if value == "-1" => host.memory_swap = Some(-1),
        "memory-swap" => host.memory_swap = Some(bytes(value)?),
        "memory-swappiness" => host.memory_swappiness = Some(number(value)?),
        "oom-kill-disable" => host.oom_kill_disable = Some(switch(value)?),
        "oom-score-adj" => host.oom_score_adj = Some(number(value)?),
        "pids-limit" => host.pids_limit = Some(number(value)?),
        "shm-size" => host.shm_size = Some(bytes(value)?),
        "ulimit" => host.ulimits.get_or_insert_default().push(ulimit(value)?),
        "blkio-weight" => {
            let weight = u16::try_from(number(value)?);
            host.blkio_weight = Some(weight.map_err(|_| not(value, "a weight"))?);
        }
        "blkio-weight-device" => {
            let (path, weight) = value
                .rsplit_once(':')
                .ok_or_else(|| not(value, "path:weight"))?;
            let weight = usize::try_from(number(weight)?).map_err(|_| not(value, "path:weight"))?;
            let devices = host.blkio_weight_device.get_or_insert_default();
            devices.push(ResourcesBlkioWeightDevice {
                path: Some(path.to_owned()),
                weight: Some(weight),
            });
        }
        "device-read-bps" => add(&mut host.blkio_device_read_bps, throttle(value, bytes)?),
        "device-write-bps" => add(&mut host.blkio_device_write_bps, throttle(value, bytes)?),
        "device-read-iops" => add(&mut host.blkio_device_read_iops, throttle(value, number)?),
        "device-write-iops" => add(&mut host.blkio_device_write_iops, throttle(value, number)?),
        "storage-opt" => {
            let (name, value) = pair(value)?;
            host.storage_opt.get_or_insert_default().insert(name, value);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn rights(shape: &mut Shape, key: &str, value: &str) -> Result<bool, String> {
    let host = &mut shape.host;
    match key {
        "privileged" => host.privileged = Some(switch(value)?),
        "cap-add" => add(&mut host.cap_add, value.to_owned()),
        "cap-drop" => add(&mut host.cap_drop, value.to_owned()),
        "security-opt" => add(&mut host.security_opt, security(value)?),
        "group-add" => add(&mut host.group_add, value.to_owned()),
        "device" => host.devices.get_or_insert_default().push(device(value)?),
        "device-cgroup-rule" => add(&mut host.device_cgroup_rules, value.to_owned()),
        "read-only" => host.readonly_rootfs = Some(switch(value)?),
        "sysctl" => {
            let (name, value) = pair(value)?;
            host.sysctls.get_or_insert_default().insert(name, value);
        }
        "ipc" => host.ipc_mode = Some(value.to_owned()),
        "pid" => host.pid_mode = Some(value.to_owned()),
        "uts" => host.uts_mode = Some(value.to_owned()),
        "userns" => host.userns_mode = Some(value.to_owned()),
        "cgroup-parent" => host.cgroup_parent = Some(value.to_owned()),
        "cgroupns" => {
            host.cgroupns_mode = Some(match value {
                "host" => HostConfigCgroupnsModeEnum::HOST,
                "private" => HostConfigCgroupnsModeEnum::PRIVATE,
                _ => return Err(not(value, "host or private")),
            });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Files, and where output goes.
fn surroundings(shape: &mut Shape, key: &str, value: &str) -> Result<bool, String> {
    let host = &mut shape.host;
    match key {
        "volume" | "v" if value.contains(':') => add(&mut host.binds, value.to_owned()),
        "volume" | "v" => shape
            .body
            .volumes
            .get_or_insert_default()
            .push(value.to_owned()),
        "volume-driver" => host.volume_driver = Some(value.to_owned()),
        "volumes-from" => add(&mut host.volumes_from, value.to_owned()),
        "mount" => host.mounts.get_or_insert_default().push(mount(value)?),
        "tmpfs" => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            let tmpfs = host.tmpfs.get_or_insert_default();
            tmpfs.insert(path.to_owned(), options.to_owned());
        }
        "log-driver" => {
            let log = host
                .log_config
                .get_or_insert_with(HostConfigLogConfig::default);
            log.typ = Some(value.to_owned());
        }
        "log-opt" => {
            let (name, value) = pair(value)?;
            let log = host
                .log_config
                .get_or_insert_with(HostConfigLogConfig::default);
            log.config.get_or_insert_default().insert(name, value);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn network(shape: &mut Shape, key: &str, value: &str) -> Result<bool, String> {
    let text = || Some(value.to_owned());
    match key {
        "network" | "net" => shape.host.network_mode = text(),
        "network-alias" | "net-alias" => add(&mut shape.endpoint.aliases, value.to_owned()),
        "ip" => {
            let ipam = shape
                .endpoint
                .ipam_config
                .get_or_insert_with(EndpointIpamConfig::default);
            ipam.ipv4_address = text();
        }
        "ip6" => {
            let ipam = shape
                .endpoint
                .ipam_config
                .get_or_insert_with(EndpointIpamConfig::default);
            ipam.ipv6_address = text();
        }
        "mac-address" => shape.endpoint.mac_address = text(),
        "hostname" | "h" => shape.body.hostname = text(),
        "domainname" => shape.body.domainname = text(),
        "dns" => add(&mut shape.host.dns, value.to_owned()),
        "dns-search" => add(&mut shape.host.dns_search, value.to_owned()),
        "dns-opt" | "dns-option" => add(&mut shape.host.dns_options, value.to_owned()),
        "add-host" => add(&mut shape.host.extra_hosts, value.replacen('=', ":", 1)),
        "link" => add(&mut shape.host.links, value.to_owned()),
        "publish" | "p" => publish(shape, value)?,
        "publish-all" | "P" => shape.host.publish_all_ports = Some(switch(value)?),
        "expose" => {
            let port = if value.contains('/') {
                value.to_owned()
            } else {
                format!("{value}/tcp")
            };
            add(&mut shape.body.exposed_ports, port);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The engine's own health checks, which it shows and Mesos does not hear of.
fn own_health(shape: &mut Shape, key: &str, value: &str) -> Result<bool, String> {
    fn health(shape: &mut Shape) -> &mut HealthConfig {
        shape
            .body
            .healthcheck
            .get_or_insert_with(HealthConfig::default)
    }
    match key {
        "health-cmd" => health(shape).test = Some(vec!["CMD-SHELL".to_owned(), value.to_owned()]),
        "health-interval" => health(shape).interval = Some(duration(value)?),
        "health-timeout" => health(shape).timeout = Some(duration(value)?),
        "health-start-period" => health(shape).start_period = Some(duration(value)?),
        "health-retries" => health(shape).retries = Some(number(value)?),
        "no-healthcheck" if switch(value)? => health(shape).test = Some(vec!["NONE".to_owned()]),
        "no-healthcheck" => {}
        _ => return Ok(false),
    }
    Ok(true)
}

fn add<T>(list: &mut Option<Vec<T>>, value: T) {
    list.get_or_insert_default().push(value);
}

fn insert(labels: &mut std::collections::BTreeMap<String, String>, label: &str) {
    let (name, value) = label.split_once('=').unwrap_or((label, ""));
    labels.insert(name.to_owned(), value.to_owned());
}

/// The lines of a file of this host that say something.
fn lines(path: &str) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("reading {path}: {error}"))?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn not(value: &str, wanted: &str) -> String {
    format!("`{value}` is not {wanted}")
}

#[cfg(test)]
mod tests;

//! Values as `docker run` writes them.

use std::net::IpAddr;

use bollard::models::{
    DeviceMapping, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions,
    MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig, ResourcesUlimits,
    ThrottleDevice,
};

use super::not;
use crate::shape::{Shape, add_port};

pub(super) fn switch(value: &str) -> Result<bool, String> {
    match value {
        "" | "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(not(value, "true or false")),
    }
}

pub(super) fn number(value: &str) -> Result<i64, String> {
    value
        .trim()
        .parse()
        .map_err(|_| not(value, "a whole number"))
}

/// `512m`, `1.5gb`, `4096`: units of 1024.
pub(super) fn bytes(value: &str) -> Result<i64, String> {
    let lower = value.trim().to_lowercase();
    let digits = lower.find(|one: char| !one.is_ascii_digit() && one != '.');
    let (digits, unit) = lower.split_at(digits.unwrap_or(lower.len()));
    let factor = match unit.trim().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1.0,
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        "t" => 1_099_511_627_776.0,
        _ => return Err(not(value, "an amount of bytes such as 512m")),
    };
    let digits: f64 = digits
        .parse()
        .map_err(|_| not(value, "an amount of bytes such as 512m"))?;
    Ok(whole(digits * factor))
}

/// `1m30s`, `500ms`, in nanoseconds.
pub(super) fn duration(value: &str) -> Result<i64, String> {
    let wrong = || not(value, "a duration such as 1m30s");
    let (mut rest, mut total) = (value.trim(), 0.0);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.');
        let (digits, tail) = rest.split_at(end.ok_or_else(wrong)?);
        let end = tail.find(|one: char| one.is_ascii_digit());
        let (unit, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return Err(wrong()),
        };
        total += digits.parse::<f64>().map_err(|_| wrong())? * nanoseconds;
        rest = tail;
    }
    Ok(whole(total))
}

pub(super) fn pair(value: &str) -> Result<(String, String), String> {
    let pair = value
        .split_once('=')
        .ok_or_else(|| not(value, "name=value"))?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// `NAME=value`, or `NAME` for what it is to the agent.
pub(super) fn variable(value: &str) -> Result<(String, String), String> {
    match value.split_once('=') {
        Some(("", _)) => Err(not(value, "NAME=value")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => std::env::var(value)
            .map(|found| (value.to_owned(), found))
            .map_err(|_| format!("the agent has no variable `{value}`")),
    }
}

/// `nofile=1024:2048`.
pub(super) fn ulimit(value: &str) -> Result<ResourcesUlimits, String> {
    let (name, limits) = pair(value)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    Ok(ResourcesUlimits {
        name: Some(name),
        soft: Some(number(soft)?),
        hard: Some(number(hard)?),
    })
}

/// `/dev/sda:1mb`.
pub(super) fn throttle(
    value: &str,
    rate: fn(&str) -> Result<i64, String>,
) -> Result<ThrottleDevice, String> {
    let (path, amount) = value
        .rsplit_once(':')
        .ok_or_else(|| not(value, "path:rate"))?;
    Ok(ThrottleDevice {
        path: Some(path.to_owned()),
        rate: Some(rate(amount)?),
    })
}

/// `/dev/fuse`, `/dev/fuse:/dev/fuse:rwm`, `/dev/fuse:rw`.
pub(super) fn device(value: &str) -> Result<DeviceMapping, String> {
    let is_rights = |text: &str| !text.is_empty() && text.chars().all(|one| "rwm".contains(one));
    let parts: Vec<&str> = value.split(':').collect();
    let (host, container, rights) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, rights] if is_rights(rights) => (*host, *host, *rights),
        [host, container] => (*host, *container, "rwm"),
        [host, container, rights] if is_rights(rights) => (*host, *container, *rights),
        _ => return Err(not(value, "host:container:rwm")),
    };
    Ok(DeviceMapping {
        path_on_host: Some(host.to_owned()),
        path_in_container: Some(container.to_owned()),
        cgroup_permissions: Some(rights.to_owned()),
    })
}

/// A seccomp profile is a file of this host, whose text the engine wants.
pub(super) fn security(value: &str) -> Result<String, String> {
    let profile = value
        .strip_prefix("seccomp=")
        .or_else(|| value.strip_prefix("seccomp:"));
    match profile {
        Some(path) if path != "unconfined" && path != "builtin" => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("reading {path}: {error}"))?;
            Ok(format!("seccomp={text}"))
        }
        _ => Ok(value.to_owned()),
    }
}

/// `[ip:][host port:]container port[/protocol]`, ports also as ranges of equal length.
pub(super) fn publish(shape: &mut Shape, value: &str) -> Result<(), String> {
    let wrong = || not(value, "ip:hostPort:containerPort/protocol");
    let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let mut parts = ports.rsplitn(3, ':');
    let container = parts.next().ok_or_else(wrong)?;
    let host = parts.next().filter(|host| !host.is_empty());
    let ip = parts
        .next()
        .map(|ip| ip.trim_matches(['[', ']']).to_owned());
    if ip.as_ref().is_some_and(|ip| ip.parse::<IpAddr>().is_err()) {
        return Err(wrong());
    }
    let container = range(container).ok_or_else(wrong)?;
    let host = host.map(|host| range(host).ok_or_else(wrong)).transpose()?;
    if host
        .as_ref()
        .is_some_and(|host| host.len() != container.len())
    {
        return Err(wrong());
    }
    for (index, port) in container.into_iter().enumerate() {
        let to = host.as_ref().map(|host| host[index].to_string());
        add_port(shape, format!("{port}/{protocol}"), ip.clone(), to);
    }
    Ok(())
}

fn range(text: &str) -> Option<Vec<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| (first..=last).collect())
}

/// `type=bind,source=/a,target=/b,readonly`.
pub(super) fn mount(value: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        typ: Some(MountType::VOLUME),
        ..Mount::default()
    };
    for part in value.split(',') {
        let (key, setting) = part.split_once('=').unwrap_or((part, ""));
        let text = || Some(setting.to_owned());
        let volume = &mut mount.volume_options;
        match key {
            "type" => {
                mount.typ = Some(match setting {
                    "bind" => MountType::BIND,
                    "volume" => MountType::VOLUME,
                    "tmpfs" => MountType::TMPFS,
                    _ => return Err(not(setting, "bind, volume or tmpfs")),
                });
            }
            "source" | "src" => mount.source = text(),
            "target" | "dst" | "destination" => mount.target = text(),
            "readonly" | "ro" => mount.read_only = Some(switch(setting)?),
            "bind-propagation" => {
                let bind = mount
                    .bind_options
                    .get_or_insert_with(MountBindOptions::default);
                bind.propagation = Some(propagation(setting)?);
            }
            "volume-nocopy" => {
                let volume = volume.get_or_insert_with(MountVolumeOptions::default);
                volume.no_copy = Some(switch(setting)?);
            }
            "volume-driver" => {
                let volume = volume.get_or_insert_with(MountVolumeOptions::default);
                let driver = volume
                    .driver_config
                    .get_or_insert_with(MountVolumeOptionsDriverConfig::default);
                driver.name = text();
            }
            "volume-opt" => {
                let (name, setting) = pair(setting)?;
                let volume = volume.get_or_insert_with(MountVolumeOptions::default);
                let driver = volume
                    .driver_config
                    .get_or_insert_with(MountVolumeOptionsDriverConfig::default);
                driver.options.get_or_insert_default().insert(name, setting);
            }
            "tmpfs-size" => {
                let tmpfs = mount
                    .tmpfs_options
                    .get_or_insert_with(MountTmpfsOptions::default);
                tmpfs.size_bytes = Some(bytes(setting)?);
            }
            "tmpfs-mode" => {
                let mode = i64::from_str_radix(setting, 8);
                let tmpfs = mount
                    .tmpfs_options
                    .get_or_insert_with(MountTmpfsOptions::default);
                tmpfs.mode = Some(mode.map_err(|_| not(setting, "an octal mode"))?);
            }
            _ => return Err(format!("a mount has no `{key}` here")),
        }
    }
    mount.target.as_ref().ok_or("a mount needs a target")?;
    Ok(mount)
}

fn propagation(value: &str) -> Result<MountBindOptionsPropagationEnum, String> {
    use MountBindOptionsPropagationEnum as Propagation;
    Ok(match value {
        "private" => Propagation::PRIVATE,
        "rprivate" => Propagation::RPRIVATE,
        "shared" => Propagation::SHARED,
        "rshared" => Propagation::RSHARED,
        "slave" => Propagation::SLAVE,
        "rslave" => Propagation::RSLAVE,
        _ => return Err(not(value, "a propagation")),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "saturates")]
pub(super) fn whole(value: f64) -> i64 {
    value as i64
}

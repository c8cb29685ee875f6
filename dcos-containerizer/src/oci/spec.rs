//! From a draft to a spec that needs nothing beside it.
//!
//! A draft leaves to the launcher what this host decides: cgroups are made already, a container
//! without an image sees the host's files, `/dev` is whatever lies there. A foreign runtime is
//! told all of it in the words of the specification.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dcos_launcher::{Cgroup, CgroupVersion};
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Mount, MountBuilder, Spec};
use serde_json::{Value, json};

use crate::isolator::{Draft, IsolatorError};

impl Draft {
    /// The container as a foreign runtime is told it. Without an image its root is `host`, where
    /// the host's files are to be mounted.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if it asks for what runtimes do not do.
    pub fn to_oci(&self, host: &Path) -> Result<Spec, IsolatorError> {
        if self.writable.is_some() {
            return Err(IsolatorError::refused(
                "`linux/landlock` needs our launcher: no OCI runtime knows of it",
            ));
        }
        let mut draft = self.clone();
        if !draft.has_namespace(LinuxNamespaceType::Mount) {
            draft.namespace(LinuxNamespaceType::Mount, None);
        }
        let mut mounts = draft.spec.mounts_mut().take().unwrap_or_default();
        if draft.spec.root().is_none() {
            draft.root(host.to_owned(), false);
            mounts.splice(0..0, fresh(&mounts));
        }
        for mount in &mut mounts {
            name_bind(mount);
        }
        draft.spec.set_mounts(Some(mounts));
        if let Some(process) = draft.spec.process_mut() {
            // The streams are open already, a terminal among them or not.
            process.set_terminal(Some(false));
        }
        let linux = draft.spec.linux_mut().get_or_insert_default();
        if let Some(profile) = &draft.profile {
            linux.set_seccomp(Some(profile.oci.clone()));
        }
        linux.set_cgroups_path(cgroup_path(&self.cgroups));
        linux.set_resources(Some(resources(&self.cgroups)?));
        Ok(draft.spec)
    }
}

/// What a container without an image gets anew: runtimes put devices into `/dev`, which must not
/// be the host's.
fn fresh(others: &[Mount]) -> Vec<Mount> {
    let table: [(&str, &str, &[&str]); 4] = [
        ("/proc", "proc", &["nosuid", "nodev", "noexec"]),
        ("/dev", "tmpfs", &["nosuid", "mode=755", "size=65536k"]),
        (
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        (
            "/dev/shm",
            "tmpfs",
            &["nosuid", "nodev", "noexec", "mode=1777"],
        ),
    ];
    let mounted = |target: &str| {
        others
            .iter()
            .any(|one| one.destination() == Path::new(target))
    };
    let wanted = table.iter().filter(|(target, ..)| !mounted(target));
    wanted
        .map(|(target, kind, options)| {
            MountBuilder::default()
                .destination(*target)
                .source(*kind)
                .typ(*kind)
                .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
                .build()
                .expect("a mount has no required part")
        })
        .collect()
}

/// A bind is one by its options; some runtimes look at its type as well.
fn name_bind(mount: &mut Mount) {
    let options = mount.options().iter().flatten();
    let is_bind = options
        .into_iter()
        .any(|one| one == "bind" || one == "rbind");
    if is_bind && mount.typ().as_deref().is_none_or(|kind| kind != "bind") {
        mount.set_typ(Some("bind".to_owned()));
    }
}

/// The container's place below each hierarchy: the same in all of version 1.
fn cgroup_path(cgroups: &[Cgroup]) -> Option<PathBuf> {
    let first = cgroups.iter().find(|one| one.version == CgroupVersion::V1);
    let path = &first.or(cgroups.first())?.path;
    let device = |path: &Path| fs::metadata(path).ok().map(|meta| meta.dev());
    let own = device(path)?;
    // A hierarchy is a file system: it begins where the device changes.
    let top = path
        .ancestors()
        .take_while(|ancestor| device(ancestor) == Some(own))
        .last()?;
    Some(Path::new("/").join(path.strip_prefix(top).ok()?))
}

/// The limits that are in force in the container's cgroups, so that a runtime keeps them, and one
/// that has a machine of its own for the container (a VM) learns them.
fn resources(cgroups: &[Cgroup]) -> Result<LinuxResources, IsolatorError> {
    let read = |file: &str| {
        let mut texts = cgroups.iter().filter_map(|cgroup| {
            let folder = match cgroup.version {
                CgroupVersion::V1 => &*cgroup.path,
                // Processes are in a leaf, limits above it.
                CgroupVersion::V2 => cgroup.path.parent()?,
            };
            fs::read_to_string(folder.join(file)).ok()
        });
        texts.next().map(|text| text.trim().to_owned())
    };
    let number = |file: &str| read(file)?.parse::<i64>().ok().filter(|it| *it > 0);
    // What version 1 has for no limit is the largest number of whole pages.
    let memory = number("memory.limit_in_bytes").filter(|limit| *limit < i64::MAX - 0xffff);
    let mut all = json!({});
    if let Some(limit) = memory.or_else(|| number("memory.max")) {
        all["memory"] = json!({"limit": limit});
    }
    let mut cpu = json!({});
    if let Some(shares) = number("cpu.shares") {
        cpu["shares"] = shares.into();
    }
    let quota = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"));
    let unified = || {
        let text = read("cpu.max")?;
        let (quota, period) = text.split_once(' ')?;
        Some((quota.parse().ok()?, period.parse().ok()?))
    };
    if let Some((quota, period)) = quota.or_else(unified) {
        cpu["quota"] = quota.into();
        cpu["period"] = period.into();
    }
    all["cpu"] = cpu;
    if let Some(limit) = number("pids.max") {
        all["pids"] = json!({"limit": limit});
    }
    if let Some(rules) = read("devices.list") {
        all["devices"] = device_rules(&rules).into();
    }
    serde_json::from_value(all).map_err(|error| IsolatorError::refused(error.to_string()))
}

/// The rules of a devices cgroup of version 1: nothing but what is listed.
fn device_rules(list: &str) -> Vec<Value> {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for line in list.lines() {
        let mut words = line.split([' ', ':']);
        let (Some(kind), Some(major), Some(minor), Some(access)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let mut rule = json!({"allow": true, "type": kind, "access": access});
        for (name, number) in [("major", major), ("minor", minor)] {
            if let Ok(number) = number.parse::<i64>() {
                rule[name] = number.into();
            }
        }
        rules.push(rule);
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolator::ContainerConfig;
    use dcos_proto::mesos::CommandInfo;

    fn draft() -> Draft {
        let command = CommandInfo {
            value: Some("true".into()),
            ..CommandInfo::default()
        };
        let config = ContainerConfig {
            command,
            sandbox: "/sandbox".into(),
            ..ContainerConfig::default()
        };
        Draft::new(&config).unwrap()
    }

    fn text(draft: &Draft) -> Value {
        serde_json::to_value(draft.to_oci(Path::new("/bundle/rootfs")).unwrap()).unwrap()
    }

    #[test]
    fn a_container_without_an_image_gets_devices_of_its_own() {
        let spec = text(&draft());
        assert_eq!(spec["root"]["path"], "/bundle/rootfs");
        let mounts = spec["mounts"].as_array().unwrap();
        let targets: Vec<_> = mounts.iter().map(|one| &one["destination"]).collect();
        assert_eq!(targets, ["/proc", "/dev", "/dev/pts", "/dev/shm"]);
        assert_eq!(spec["linux"]["namespaces"][0]["type"], "mount");
        assert_eq!(spec["process"]["args"], json!(["/bin/sh", "-c", "true"]));
    }

    #[test]
    fn binds_are_called_so() {
        let mut draft = draft();
        draft.root("/image".into(), false);
        let bind = MountBuilder::default()
            .destination("/in")
            .source("/out")
            .options(vec!["rbind".to_owned()]);
        draft.mount(bind.build().unwrap());
        let spec = text(&draft);
        assert_eq!(spec["mounts"].as_array().unwrap().len(), 1);
        assert_eq!(spec["mounts"][0]["type"], "bind");
        assert_eq!(spec["root"]["path"], "/image");
    }

    #[test]
    fn device_rules_are_those_of_the_cgroup() {
        let rules = device_rules("c 1:3 rwm\nb *:* m\n");
        assert_eq!(rules[1]["major"], 1);
        assert_eq!(rules[2]["type"], "b");
        assert!(rules[2].get("major").is_none());
        assert_eq!(rules.len(), 3);
    }
}

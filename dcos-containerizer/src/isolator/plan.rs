//! From a draft to the launcher's plan.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use dcos_launcher as launcher;
use dcos_launcher::{First, NamespaceKind, Namespaces, Plan, Variable};
use oci_spec::runtime::{
    Capability, Linux, LinuxCapabilities, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType,
    Mount, PosixRlimitType, Process,
};

use super::{Draft, IsolatorError};
use crate::rootless;

impl Draft {
    /// The launcher's plan for a container named `id`.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if the spec asks for something the launcher does not do.
    pub fn to_plan(&self, id: &str) -> Result<Plan, IsolatorError> {
        let mut plan = Plan {
            id: id.to_owned(),
            cgroups: self.cgroups.clone(),
            seccomp: self.seccomp.clone(),
            writable: self.writable.clone(),
            hostname: self.spec.hostname().clone(),
            first: if self.init {
                First::Init
            } else {
                First::Command
            },
            ..Plan::default()
        };
        if let Some(root) = self.spec.root() {
            let readonly = root.readonly().unwrap_or(false);
            plan.root = Some(launcher::Root {
                path: root.path().clone(),
                readonly,
            });
        }
        for mount in self.spec.mounts().iter().flatten() {
            let mut mount = translate_mount(mount)?;
            mount.no_links = self.no_links.contains(&mount.target);
            let ids = self.ids.as_ref();
            let ids = ids.filter(|_| self.mapped.contains(&mount.target));
            mount.ids = ids.map(|ids| ids.namespace.clone());
            plan.mounts.push(mount);
        }
        if plan.root.is_some() {
            // What the kernel makes comes first, so that devices are made before anything is bound: that may
            // lie over the folders of an image, and others may change it.
            plan.mounts.sort_by_key(|mount| mount.kind.is_empty());
        }
        if let Some(linux) = self.spec.linux() {
            translate_linux(linux, &mut plan)?;
        }
        if let Some(process) = self.spec.process() {
            translate_process(process, &mut plan)?;
        }
        if plan.new.mount && plan.root.is_some() {
            plan.links = standard_links();
        }
        plan.check()
            .map_err(|error| IsolatorError::refused(error.to_string()))?;
        Ok(plan)
    }
}

fn translate_linux(linux: &Linux, plan: &mut Plan) -> Result<(), IsolatorError> {
    for namespace in linux.namespaces().iter().flatten() {
        let Some(kind) = kind_of(namespace.typ()) else {
            return Err(IsolatorError::refused("time namespaces are not supported"));
        };
        match namespace.path() {
            Some(path) => plan.join.push(launcher::Join {
                kind,
                path: path.clone(),
            }),
            None => add(&mut plan.new, kind),
        }
    }
    plan.uid_maps = id_maps(linux.uid_mappings().as_deref());
    plan.gid_maps = id_maps(linux.gid_mappings().as_deref());
    if linux.sysctl().iter().flatten().next().is_some() {
        return Err(IsolatorError::refused("kernel settings are not supported"));
    }
    for device in linux.devices().iter().flatten() {
        let number = |value: i64| u32::try_from(value).unwrap_or(0);
        plan.devices.push(launcher::Device {
            path: device.path().clone(),
            block: device.typ() == LinuxDeviceType::B,
            major: number(device.major()),
            minor: number(device.minor()),
            mode: device.file_mode().unwrap_or(0o666),
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    let paths = |texts: &Option<Vec<String>>| texts.iter().flatten().map(PathBuf::from).collect();
    plan.masked_paths = paths(linux.masked_paths());
    plan.readonly_paths = paths(linux.readonly_paths());
    Ok(())
}

fn translate_process(process: &Process, plan: &mut Plan) -> Result<(), IsolatorError> {
    let user = process.user();
    if user.umask().is_some() {
        let reason = "`process.user.umask` is not supported by the launcher";
        return Err(IsolatorError::refused(reason));
    }
    plan.oom_score_adj = process.oom_score_adj();
    plan.credentials = Some(launcher::Credentials {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
    });
    // Who is not root cannot change groups, and is nobody else than itself anyway.
    let keeps_groups = rootless::own().is_some_and(rootless::Own::keeps_groups);
    if !rustix::process::geteuid().is_root() || keeps_groups {
        plan.credentials = None;
    }
    plan.arguments = process.args().clone().unwrap_or_default();
    plan.environment = process
        .env()
        .iter()
        .flatten()
        .filter_map(|variable| variable.split_once('='))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| Variable {
            name: name.to_owned(),
            value: value.to_owned(),
        })
        .collect();
    plan.directory = Some(process.cwd().clone());
    plan.terminal = process.terminal().unwrap_or(false);
    plan.no_new_privileges = process.no_new_privileges().unwrap_or(false);
    plan.capabilities = process.capabilities().as_ref().map(capabilities);
    for limit in process.rlimits().iter().flatten() {
        plan.rlimits.push(launcher::Rlimit {
            resource: rlimit_number(limit.typ()),
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    Ok(())
}

fn capabilities(sets: &LinuxCapabilities) -> launcher::Capabilities {
    let bits = |set: &Option<HashSet<Capability>>| set.as_ref().map_or(0, bits_of);
    launcher::Capabilities {
        bounding: bits(sets.bounding()),
        effective: bits(sets.effective()),
        permitted: bits(sets.permitted()),
        inheritable: bits(sets.inheritable()),
        ambient: bits(sets.ambient()),
    }
}

/// Capabilities as the kernel writes a set of them.
pub(super) fn bits_of(set: &HashSet<Capability>) -> u64 {
    let bit = |capability: &Capability| 1 << number_of(*capability);
    set.iter()
        .fold(0, |bits, capability| bits | bit(capability))
}

/// The capabilities of Linux by number.
pub(super) const CAPABILITIES: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

fn number_of(capability: Capability) -> usize {
    CAPABILITIES
        .iter()
        .position(|known| *known == capability)
        .expect("all 41 are in the table")
}

fn rlimit_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

fn kind_of(kind: LinuxNamespaceType) -> Option<NamespaceKind> {
    Some(match kind {
        LinuxNamespaceType::Pid => NamespaceKind::Pid,
        LinuxNamespaceType::Mount => NamespaceKind::Mount,
        LinuxNamespaceType::Ipc => NamespaceKind::Ipc,
        LinuxNamespaceType::Uts => NamespaceKind::Uts,
        LinuxNamespaceType::Network => NamespaceKind::Network,
        LinuxNamespaceType::User => NamespaceKind::User,
        LinuxNamespaceType::Cgroup => NamespaceKind::Cgroup,
        LinuxNamespaceType::Time => return None,
    })
}

fn add(new: &mut Namespaces, kind: NamespaceKind) {
    *match kind {
        NamespaceKind::Pid => &mut new.pid,
        NamespaceKind::Mount => &mut new.mount,
        NamespaceKind::Ipc => &mut new.ipc,
        NamespaceKind::Uts => &mut new.uts,
        NamespaceKind::Network => &mut new.network,
        NamespaceKind::User => &mut new.user,
        NamespaceKind::Cgroup => &mut new.cgroup,
    } = true;
}

fn id_maps(maps: Option<&[LinuxIdMapping]>) -> Vec<launcher::IdMap> {
    let map = |map: &LinuxIdMapping| launcher::IdMap {
        inside: map.container_id(),
        outside: map.host_id(),
        count: map.size(),
    };
    maps.unwrap_or_default().iter().map(map).collect()
}

fn translate_mount(mount: &Mount) -> Result<launcher::Mount, IsolatorError> {
    let mut translated = launcher::Mount {
        target: mount.destination().clone(),
        source: mount.source().clone().unwrap_or_default(),
        kind: mount.typ().clone().unwrap_or_default(),
        ..launcher::Mount::default()
    };
    let mut data = Vec::new();
    for option in mount.options().iter().flatten() {
        match flag_of(option) {
            Some(Flag::Set(flag)) => translated.flags |= flag,
            Some(Flag::Clear(flag)) => translated.flags &= !flag,
            Some(Flag::Propagation(flag)) => translated.propagation |= flag,
            None => data.push(option.as_str()),
        }
    }
    if translated.flags & libc::MS_BIND != 0 || translated.kind == "bind" {
        translated.kind.clear();
        translated.flags |= libc::MS_BIND;
    } else if translated.kind.is_empty() {
        let target = translated.target.display();
        return Err(IsolatorError::refused(format!(
            "mount {target} has neither type nor bind"
        )));
    }
    translated.data = data.join(",");
    Ok(translated)
}

enum Flag {
    Set(u64),
    Clear(u64),
    Propagation(u64),
}

fn flag_of(option: &str) -> Option<Flag> {
    use Flag::{Clear, Propagation, Set};
    Some(match option {
        "defaults" => Set(0),
        "ro" => Set(libc::MS_RDONLY),
        "rw" => Clear(libc::MS_RDONLY),
        "nosuid" => Set(libc::MS_NOSUID),
        "suid" => Clear(libc::MS_NOSUID),
        "nodev" => Set(libc::MS_NODEV),
        "dev" => Clear(libc::MS_NODEV),
        "noexec" => Set(libc::MS_NOEXEC),
        "exec" => Clear(libc::MS_NOEXEC),
        "noatime" => Set(libc::MS_NOATIME),
        "relatime" => Set(libc::MS_RELATIME),
        "strictatime" => Set(libc::MS_STRICTATIME),
        "sync" => Set(libc::MS_SYNCHRONOUS),
        "bind" => Set(libc::MS_BIND),
        "rbind" => Set(libc::MS_BIND | libc::MS_REC),
        "private" => Propagation(libc::MS_PRIVATE),
        "rprivate" => Propagation(libc::MS_PRIVATE | libc::MS_REC),
        "slave" => Propagation(libc::MS_SLAVE),
        "rslave" => Propagation(libc::MS_SLAVE | libc::MS_REC),
        "shared" => Propagation(libc::MS_SHARED),
        "rshared" => Propagation(libc::MS_SHARED | libc::MS_REC),
        _ => return None,
    })
}

/// The links that OCI promises in `/dev`, made by the runtime and not named in a spec.
fn standard_links() -> Vec<launcher::Link> {
    let link = |(path, target): (&str, &str)| launcher::Link {
        path: Path::new("/dev").join(path),
        target: target.into(),
    };
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    links.into_iter().map(link).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::MountBuilder;

    use super::*;

    fn check(kind: &str, options: &[&str], flags: u64, data: &str) {
        let mount = MountBuilder::default()
            .destination("/t")
            .source("/s")
            .typ(kind)
            .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
            .build()
            .unwrap();
        let translated = translate_mount(&mount).unwrap();
        assert_eq!(
            (translated.flags, translated.data.as_str()),
            (flags, data),
            "{options:?}"
        );
    }

    #[test]
    fn mount_options_become_flags_and_data() {
        check(
            "tmpfs",
            &["nosuid", "size=64k", "mode=755"],
            libc::MS_NOSUID,
            "size=64k,mode=755",
        );
        check(
            "bind",
            &["rbind", "ro", "rw"],
            libc::MS_BIND | libc::MS_REC,
            "",
        );
        check("none", &["bind", "ro"], libc::MS_BIND | libc::MS_RDONLY, "");
    }

    #[test]
    fn what_the_launcher_does_not_do_is_refused() {
        let config = crate::isolator::ContainerConfig {
            holder: true,
            ..Default::default()
        };
        let refusal = |change: fn(&mut Draft)| {
            let mut draft = Draft::new(&config).unwrap();
            draft.to_plan("c").unwrap();
            change(&mut draft);
            draft.to_plan("c").unwrap_err().to_string()
        };
        let mask = refusal(|draft| {
            let process = draft.spec.process_mut().as_mut().unwrap();
            process.user_mut().set_umask(Some(0o077));
        });
        assert!(mask.contains("umask"), "{mask}");
        let setting = refusal(|draft| {
            let linux = draft.spec.linux_mut().get_or_insert_default();
            let one = ("net.ipv4.ip_forward".to_owned(), "1".to_owned());
            linux.set_sysctl(Some([one].into()));
        });
        assert!(setting.contains("kernel settings"), "{setting}");
    }

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        assert_eq!(number_of(Capability::NetRaw), 13);
        assert_eq!(number_of(Capability::SysAdmin), 21);
        assert_eq!(number_of(Capability::CheckpointRestore), 40);
    }
}

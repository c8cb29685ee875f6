//! `cgroups/mem`: memory limits, and what to say when one is hit.

mod pressure;
mod statistics;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::value::{Scalar, Type};
use dcos_proto::mesos::{ContainerId, Resource, ResourceStatistics};
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Cgroups, Folder, number_in, read, read_number, write};
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError, Limitation, Limits, owns};
use pressure::Pressure;

const NAME: &str = "cgroups/mem";
/// Less than this a container does not get: it could not even start. Mesos's value.
const MIN_MEMORY: u64 = 32 << 20;
/// How often a host without notifications is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Limits a container's memory; one that needs more is ended, and told so with its usage.
#[derive(Debug)]
pub struct MemoryIsolator {
    cgroups: Cgroups,
    limit_swap: bool,
    pressure: Pressure,
}

impl MemoryIsolator {
    /// With `limit_swap` memory and swap together are limited (`--cgroups_limit_swap`).
    ///
    /// # Errors
    /// [`IsolatorError::Unsupported`] without the `memory` controller.
    pub fn new(cgroups: Cgroups, limit_swap: bool) -> Result<Self, IsolatorError> {
        cgroups.require("memory", NAME)?;
        Ok(Self {
            cgroups,
            limit_swap,
            pressure: Pressure::default(),
        })
    }

    /// The container's folder, and those it lies in.
    fn folders(&self, id: &ContainerId) -> Vec<Folder> {
        let ids = std::iter::successors(Some(id), |id| id.parent.as_deref());
        ids.filter_map(|id| self.cgroups.folder("memory", id))
            .collect()
    }

    fn apply(&self, folder: &Folder, limits: &Limits, new: bool) -> Result<(), IsolatorError> {
        let (soft_file, hard_file) = files(folder);
        if let Some(soft) = limits.mem {
            write(
                &folder.path.join(soft_file),
                &text(soft.max(MIN_MEMORY), folder),
            )?;
        }
        let Some(hard) = limits.hard_mem() else {
            return Ok(());
        };
        let hard = hard.max(MIN_MEMORY);
        let path = folder.path.join(hard_file);
        // Lowering the limit of a running container below what it uses would end it; Mesos
        // leaves it then, and so do we.
        if !new && hard < read_number(&path)? && used(folder)? > hard {
            return Ok(());
        }
        let swap = match folder.version {
            _ if !self.limit_swap => None,
            CgroupVersion::V1 => Some(("memory.memsw.limit_in_bytes", text(hard, folder))),
            CgroupVersion::V2 => Some(("memory.swap.max", "0".to_owned())),
        };
        let swap = swap.map(|(file, value)| (folder.path.join(file), value));
        // Version 1 refuses a limit of memory above that of memory and swap, even for a moment.
        let raised = !new && hard > read_number(&path)?;
        if let Some((file, value)) = swap.as_ref().filter(|_| raised) {
            write(file, value)?;
        }
        write(&path, &text(hard, folder))?;
        match swap.filter(|_| !raised) {
            Some((file, value)) => write(&file, &value),
            None => Ok(()),
        }
    }
}

fn used(folder: &Folder) -> Result<u64, IsolatorError> {
    read_number(&folder.path.join(match folder.version {
        CgroupVersion::V1 => "memory.usage_in_bytes",
        CgroupVersion::V2 => "memory.current",
    }))
}

/// Where the kernel counts what it has killed for want of memory, of this container and not of those nested in
/// it; it can be read again and again.
fn events(folder: &Folder) -> io::Result<File> {
    match folder.version {
        CgroupVersion::V1 => File::open(folder.path.join("memory.oom_control")),
        // Kernels before 5.2 only count what is below, too.
        CgroupVersion::V2 => File::open(folder.members().join("memory.events.local"))
            .or_else(|_| File::open(folder.path.join("memory.events"))),
    }
}

/// Whether a limit was hit here, and not only further up.
fn is_exceeded(folder: &Folder) -> bool {
    let read = |file| read(&folder.path.join(file)).unwrap_or_default();
    let failed = |file| read(file).trim().parse().unwrap_or(0_u64);
    let times = match folder.version {
        // Where swap is limited, too, that limit comes first.
        CgroupVersion::V1 => Some(failed("memory.failcnt") + failed("memory.memsw.failcnt")),
        CgroupVersion::V2 => number_in(&read("memory.events.local"), "oom")
            .or_else(|| number_in(&read("memory.events"), "oom")),
    };
    // Version 1 knows no better; a container without a limit exceeds none.
    times > Some(0) && limit(folder).is_some()
}

/// The limit, if there is one.
fn limit(folder: &Folder) -> Option<u64> {
    let limit = read_number(&folder.path.join(files(folder).1)).ok()?;
    // Unlimited is told as a huge number by version 1, as a word by version 2.
    (limit < 1 << 62).then_some(limit)
}

/// What to say, if the kernel has killed for want of memory: `folders` are the container's, and those it lies in.
fn limitation(folders: &[Folder], events: &File) -> Option<Limitation> {
    let mut text = [0; 1024];
    let length = rustix::io::pread(events, &mut text, 0).ok()?;
    if number_in(std::str::from_utf8(&text[..length]).ok()?, "oom_kill")? == 0 {
        return None;
    }
    match folders.iter().find(|folder| is_exceeded(folder)) {
        Some(owner) => exceeded(owner),
        None => outside(folders.first()?),
    }
}

/// What to say of a container that ended since the node had no memory left. One that goes on does.
fn outside(folder: &Folder) -> Option<Limitation> {
    if !read(&folder.members().join("cgroup.procs"))
        .ok()?
        .trim()
        .is_empty()
    {
        return None;
    }
    let most = match read_number(&folder.path.join(peak(folder))) {
        Ok(most) => format!("; the container had at most {}MB", most >> 20),
        Err(_) => String::new(),
    };
    Some(Limitation {
        resources: Vec::new(),
        reason: Reason::ContainerLimitation.into(),
        message: format!("The node is out of memory, the container below its limit{most}"),
    })
}

fn peak(folder: &Folder) -> &'static str {
    match folder.version {
        CgroupVersion::V1 => "memory.max_usage_in_bytes",
        CgroupVersion::V2 => "memory.peak",
    }
}

/// What to say of a limit that was hit.
fn exceeded(folder: &Folder) -> Option<Limitation> {
    let limit = limit(folder)?;
    let most = read_number(&folder.path.join(peak(folder)));
    let most = most.unwrap_or(limit).min(limit);
    let statistics = read(&folder.path.join("memory.stat")).unwrap_or_default();
    let message = format!(
        "Memory limit exceeded: Requested: {}MB Maximum Used: {}MB\n\nMEMORY STATISTICS: \n{statistics}",
        limit >> 20,
        most >> 20,
    );
    #[expect(clippy::cast_precision_loss, reason = "megabytes, with a fraction")]
    let megabytes = most as f64 / f64::from(1 << 20);
    let resource = Resource {
        name: "mem".to_owned(),
        r#type: Type::Scalar.into(),
        scalar: Some(Scalar { value: megabytes }),
        ..Resource::default()
    };
    let reason = Reason::ContainerLimitationMemory.into();
    Some(Limitation {
        resources: vec![resource],
        reason,
        message,
    })
}

/// How soon the kernel ends a container when the node is out of memory: one that may take more than is kept for it
/// the sooner the less that is, the others as any process.
///
/// # Source
/// Mesos 1.11 `src/slave/containerizer/mesos/isolators/cgroups/subsystems/memory.cpp`.
fn oom_score_adj(limits: &Limits, memory: &rustix::system::Sysinfo) -> i32 {
    let total = memory.totalram.saturating_mul(memory.mem_unit.into());
    match (limits.mem, limits.mem_limit) {
        (Some(kept), Some(limit)) if kept < limit => {
            let share = u128::from(kept) * 1000 / u128::from(total.max(1));
            1000 - i32::try_from(share.min(1000)).unwrap_or(1000)
        }
        _ => 0,
    }
}

/// Names of the soft and the hard limit.
fn files(folder: &Folder) -> (&'static str, &'static str) {
    match folder.version {
        CgroupVersion::V1 => ("memory.soft_limit_in_bytes", "memory.limit_in_bytes"),
        CgroupVersion::V2 => ("memory.low", "memory.max"),
    }
}

fn text(bytes: u64, folder: &Folder) -> String {
    match (bytes, folder.version) {
        (u64::MAX, CgroupVersion::V1) => "-1".to_owned(),
        (u64::MAX, CgroupVersion::V2) => "max".to_owned(),
        (bytes, _) => bytes.to_string(),
    }
}

/// Wakes up when something happens that may be a kill.
enum Alarm {
    /// Readable when memory is short.
    V1(AsyncFd<OwnedFd>),
    /// Urgent when a counter changes.
    V2(AsyncFd<File>),
    /// Look now and then.
    Poll,
}

impl Alarm {
    /// For what is counted in `events`, which has to stay open.
    fn new(folder: &Folder, events: &File) -> Self {
        let made = match folder.version {
            CgroupVersion::V1 => Self::v1(&folder.path, events),
            CgroupVersion::V2 => events
                .try_clone()
                .and_then(|file| asynchronous(file, Interest::PRIORITY))
                .map(Self::V2),
        };
        made.unwrap_or(Self::Poll)
    }

    fn v1(folder: &Path, control: &File) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        std::fs::write(folder.join("cgroup.event_control"), registration)?;
        Ok(Self::V1(asynchronous(event, Interest::READABLE)?))
    }

    async fn ring(&self) {
        let rang = match self {
            Self::V1(event) => event.readable().await.map(|mut guard| {
                let _ = rustix::io::read(guard.get_inner(), &mut [0; 8]);
                guard.clear_ready();
            }),
            Self::V2(file) => file.ready(Interest::PRIORITY).await.map(|mut guard| {
                // Reading takes the urgency away.
                let _ = rustix::io::pread(guard.get_inner(), &mut [0; 256], 0);
                guard.clear_ready();
            }),
            Self::Poll => Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        if rang.is_err() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Lets the runtime wait for a descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe; an owned descriptor is what it asks for"
)]
pub(super) fn asynchronous<T: AsRawFd>(owned: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owned, interest)
}

#[async_trait]
impl Isolator for MemoryIsolator {
    fn name(&self) -> &'static str {
        NAME
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, containers: &[ContainerId]) -> Result<(), IsolatorError> {
        for id in containers {
            if let Some(folder) = self.cgroups.folder("memory", id) {
                self.pressure.count(id, &folder);
            }
        }
        self.cgroups.remove_unknown("memory", containers).await
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        let folder = self.cgroups.join("memory", &config.id, draft)?;
        if !owns(config) {
            return Ok(());
        }
        if let Some(process) = draft.spec.process_mut() {
            let score = oom_score_adj(&config.limits, &rustix::system::sysinfo());
            process.set_oom_score_adj(Some(score));
        }
        self.apply(&folder, &config.limits, true)
    }

    async fn isolate(&self, id: &ContainerId, _: u32) -> Result<(), IsolatorError> {
        if let Some(folder) = self.cgroups.folder("memory", id) {
            self.pressure.count(id, &folder);
        }
        Ok(())
    }

    async fn watch(&self, id: &ContainerId) -> Limitation {
        let folders = self.folders(id);
        let Some((folder, events)) = folders
            .first()
            .and_then(|folder| Some((folder, events(folder).ok()?)))
        else {
            return std::future::pending().await;
        };
        // Looked at before anything is waited for, so that one poll after the container's end
        // tells whether memory was the reason; that poll needs no alarm.
        if let Some(limitation) = limitation(&folders, &events) {
            return limitation;
        }
        tokio::task::yield_now().await;
        let alarm = Alarm::new(folder, &events);
        if let Some(limitation) = limitation(&folders, &events) {
            return limitation;
        }
        loop {
            alarm.ring().await;
            // Version 1 rings once, before the kernel has counted its kill: on a busy machine up to a minute before.
            for doubled in 0..16 {
                if !folder.path.exists() {
                    return std::future::pending().await;
                }
                tokio::select! {
                    () = alarm.ring() => {}
                    () = tokio::time::sleep(Duration::from_millis(1 << doubled)) => {}
                }
                if let Some(limitation) = limitation(&folders, &events) {
                    return limitation;
                }
            }
        }
    }

    async fn update(&self, id: &ContainerId, limits: &Limits) -> Result<(), IsolatorError> {
        match self.cgroups.folder("memory", id) {
            Some(folder) if folder.path.exists() => self.apply(&folder, limits, false),
            _ => Ok(()),
        }
    }

    async fn usage(
        &self,
        id: &ContainerId,
        statistics: &mut ResourceStatistics,
    ) -> Result<(), IsolatorError> {
        let Some(folder) = self.cgroups.folder("memory", id) else {
            return Ok(());
        };
        statistics.mem_limit_bytes = limit(&folder);
        statistics::add(&folder, statistics)?;
        self.pressure.tell(id, statistics);
        Ok(())
    }

    async fn cleanup(&self, id: &ContainerId) -> Result<(), IsolatorError> {
        self.pressure.forget(id);
        self.cgroups.remove("memory", id).await
    }
}

//! How often memory became short in a container.
//!
//! Version 1 has three levels, and rings for each and those above it; what has rung adds up in the
//! descriptor until somebody reads it, so that counting takes no thread. Version 2 has no such
//! levels: told are the times that the container was held back for reclaim (low), that it came
//! to its limit (medium), and that nothing was left to give (critical).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dcos_launcher::CgroupVersion;
use dcos_proto::mesos::{ContainerId, ResourceStatistics};
use rustix::event::{EventfdFlags, eventfd};

use super::{Folder, number_in, read};

/// Counters of the containers.
#[derive(Debug, Default)]
pub(super) struct Pressure(Mutex<BTreeMap<ContainerId, Counters>>);

#[derive(Debug)]
enum Counters {
    /// Low, medium and critical, with what each has rung so far; the file has to stay open.
    V1(
        [(OwnedFd, u64); 3],
        #[expect(dead_code, reason = "kept open")] File,
    ),
    V2(Folder),
}

impl Pressure {
    /// Counts for `id` from now on.
    pub(super) fn count(&self, id: &ContainerId, folder: &Folder) {
        let counters = match folder.version {
            CgroupVersion::V1 => Counters::first(folder),
            CgroupVersion::V2 => Ok(Counters::V2(folder.clone())),
        };
        // A kernel without these levels is not counted.
        if let Ok(counters) = counters {
            self.lock().insert(id.clone(), counters);
        }
    }

    /// Counts for `id` no longer.
    pub(super) fn forget(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    /// Adds what was counted of `id`.
    pub(super) fn tell(&self, id: &ContainerId, statistics: &mut ResourceStatistics) {
        let mut all = self.lock();
        let Some([low, medium, critical]) = all.get_mut(id).and_then(Counters::read) else {
            return;
        };
        statistics.mem_low_pressure_counter = Some(low);
        statistics.mem_medium_pressure_counter = Some(medium);
        statistics.mem_critical_pressure_counter = Some(critical);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Counters>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    fn first(folder: &Folder) -> io::Result<Self> {
        let level = File::open(folder.path.join("memory.pressure_level"))?;
        let control = File::options()
            .write(true)
            .open(folder.path.join("cgroup.event_control"))?;
        let register = |name: &str| {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let line = format!("{} {} {name}", event.as_raw_fd(), level.as_raw_fd());
            rustix::io::write(&control, line.as_bytes())?;
            Ok::<_, io::Error>((event, 0))
        };
        let events = [register("low")?, register("medium")?, register("critical")?];
        Ok(Self::V1(events, level))
    }

    fn read(&mut self) -> Option<[u64; 3]> {
        match self {
            Self::V1(events, _) => {
                for (event, count) in events.iter_mut() {
                    let mut rung = [0; 8];
                    // Fails if nothing has rung since.
                    if rustix::io::read(&*event, &mut rung).is_ok() {
                        *count += u64::from_ne_bytes(rung);
                    }
                }
                let [(_, low), (_, medium), (_, critical)] = events;
                Some([*low, *medium, *critical])
            }
            Self::V2(folder) => {
                let events = read(&folder.path.join("memory.events")).ok()?;
                let count = |name| number_in(&events, name).unwrap_or(0);
                Some([count("high"), count("max"), count("oom")])
            }
        }
    }
}

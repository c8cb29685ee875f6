//! Who has which GPU.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dcos_proto::mesos::ContainerId;

use super::Gpus;
use crate::isolator::IsolatorError;
use crate::isolator::devices::HostDevice;

/// The GPUs of a node, each for one container at a time, whoever runs that. Clones are the same.
#[derive(Debug, Clone)]
pub struct GpuPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    gpus: Gpus,
    given: Mutex<BTreeMap<ContainerId, BTreeSet<u32>>>,
}

impl GpuPool {
    /// All of `gpus` are free.
    pub fn new(gpus: Gpus) -> Self {
        Self(Arc::new(Pool {
            gpus,
            given: Mutex::default(),
        }))
    }

    /// How many there are, free or not.
    pub fn total(&self) -> u32 {
        u32::try_from(self.0.gpus.gpus.len()).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, BTreeSet<u32>>> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The GPUs of a container, by their numbers; absent if nobody gave it any, or none.
    pub fn of(&self, id: &ContainerId) -> Option<BTreeSet<u32>> {
        self.lock().get(id).cloned()
    }

    /// Gives a container `count` GPUs: those it has, more of the free ones, or fewer.
    ///
    /// # Errors
    /// [`IsolatorError::Refused`] if that is no whole number, or there are not so many; it has what it had then.
    pub fn give(&self, id: &ContainerId, count: f64) -> Result<BTreeSet<u32>, IsolatorError> {
        let count = whole(count)?;
        let mut given = self.lock();
        let taken: BTreeSet<u32> = given.values().flatten().copied().collect();
        let free = self.0.gpus.gpus.keys().filter(|gpu| !taken.contains(gpu));
        let mine = given.get(id).cloned().unwrap_or_default();
        let wanted: BTreeSet<u32> = mine.iter().chain(free).copied().take(count).collect();
        if wanted.len() < count {
            return Err(IsolatorError::refused(format!(
                "{count} GPUs were asked for, and {} are free",
                wanted.len()
            )));
        }
        given.insert(id.clone(), wanted.clone());
        Ok(wanted)
    }

    /// A container has these since before this process began.
    pub fn keep(&self, id: &ContainerId, gpus: BTreeSet<u32>) {
        self.lock().insert(id.clone(), gpus);
    }

    /// A container has none any more.
    pub fn take_back(&self, id: &ContainerId) {
        self.lock().remove(id);
    }

    /// The devices of some GPUs, and those that steer the driver.
    pub fn devices(&self, numbers: &BTreeSet<u32>) -> impl Iterator<Item = &HostDevice> {
        let Gpus { control, gpus, .. } = &self.0.gpus;
        let some = gpus.iter().filter(|(number, _)| numbers.contains(number));
        control.iter().chain(some.map(|(_, device)| device))
    }

    /// The device of one GPU.
    pub(super) fn device(&self, number: u32) -> Option<&HostDevice> {
        self.0.gpus.gpus.get(&number)
    }

    /// What NVIDIA's tools call a GPU, as far as that is known.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.0.gpus.names.get(&number).map(String::as_str)
    }
}

/// A whole number of GPUs.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small whole number that is not negative"
)]
pub(super) fn whole(gpus: f64) -> Result<usize, IsolatorError> {
    if gpus < 0.0 || gpus.fract() != 0.0 || gpus > 4096.0 {
        let reason = format!("`gpus` are whole, and {gpus} were asked for");
        return Err(IsolatorError::refused(reason));
    }
    Ok(gpus as usize)
}

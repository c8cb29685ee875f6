//! A driver whose volumes are folders, and which counts what it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{Drivers, VolumeDriver, VolumeError, VolumeRequest, files};

/// A driver for tests: volumes are folders of a folder. Clones are the same.
#[derive(Debug, Clone)]
pub struct Memory {
    folder: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    mounted: BTreeSet<String>,
    calls: BTreeMap<&'static str, usize>,
    failing: Option<String>,
}

impl Memory {
    /// Its volumes are in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            state: Arc::default(),
        }
    }

    /// How often `mount` or `unmount` was called.
    pub fn calls(&self, call: &str) -> usize {
        self.lock().calls.get(call).copied().unwrap_or(0)
    }

    /// From now on everything fails for this reason; or nothing any more.
    pub fn fail(&self, reason: Option<&str>) {
        self.lock().failing = reason.map(str::to_owned);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, call: &'static str) -> Result<MutexGuard<'_, State>, VolumeError> {
        let mut state = self.lock();
        *state.calls.entry(call).or_default() += 1;
        match &state.failing {
            None => Ok(state),
            Some(reason) => Err(VolumeError::Refused {
                driver: "memory".to_owned(),
                call,
                reason: reason.clone(),
            }),
        }
    }

    fn of(&self, name: &str) -> PathBuf {
        self.folder.join(files::file_name(name))
    }
}

#[async_trait]
impl VolumeDriver for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn mount(&self, volume: &VolumeRequest) -> Result<PathBuf, VolumeError> {
        let path = self.of(&volume.name);
        let mut state = self.begin("mount")?;
        fs::create_dir_all(&path).map_err(VolumeError::file("making", &path))?;
        state.mounted.insert(volume.name.clone());
        Ok(path)
    }

    async fn mounted(&self, name: &str) -> Result<Option<PathBuf>, VolumeError> {
        let state = self.begin("mounted")?;
        Ok(state.mounted.contains(name).then(|| self.of(name)))
    }

    async fn unmount(&self, name: &str) -> Result<(), VolumeError> {
        self.begin("unmount")?.mounted.remove(name);
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        drop(self.begin("remove")?);
        let path = self.of(name);
        files::gone(fs::remove_dir_all(&path)).map_err(VolumeError::file("removing", path))
    }
}

impl Drivers for Memory {
    fn find(&self, name: &str) -> Result<Arc<dyn VolumeDriver>, VolumeError> {
        match name {
            "memory" => Ok(Arc::new(self.clone())),
            name => Err(VolumeError::NoDriver {
                name: name.to_owned(),
                reason: "there is `memory` only".to_owned(),
            }),
        }
    }
}

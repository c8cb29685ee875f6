//! Which containers use which volumes, on disk and in memory.
//!
//! A volume is mounted when its first user comes and unmounted when its last one goes. Who uses
//! what is written down before a driver is asked, so that whatever it did is found again: an agent
//! killed at any point unmounts, at its next start, what nobody uses.
//!
//! # Source
//! The checkpoints of Mesos 1.11's isolators `docker/volume`, whose files are understood, and
//! `volume/csi`, whose files are not (`<folder>/<container>/volumes`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::{Drivers, VolumeDriver, VolumeError, VolumeRequest};

/// The volumes of all containers of a node, those of one kind of volume.
#[derive(Debug, Clone)]
pub struct Mounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    form: Form,
    drivers: Arc<dyn Drivers>,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    by: BTreeMap<String, BTreeSet<Key>>,
    places: BTreeMap<Key, Arc<tokio::sync::Mutex<Option<PathBuf>>>>,
}

/// A driver's name and a volume's.
type Key = (String, String);

/// How checkpoints name things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{"volumes": [{"driver": …, "name": …}]}`
    Docker,
    /// `{"volumes": [{"plugin_name": …, "id": …}]}`
    Csi,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    volumes: Vec<Named>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Named {
    Docker { driver: String, name: String },
    Csi { plugin_name: String, id: String },
}

impl Mounts {
    /// Keeps its checkpoints in `folder`; finds who mounts among `drivers`.
    pub fn new(folder: PathBuf, form: Form, drivers: Arc<dyn Drivers>) -> Self {
        Self(Arc::new(Inner {
            folder,
            form,
            drivers,
            used: Mutex::default(),
        }))
    }

    /// Takes up what is on disk; lets go of the volumes of containers that are not `alive`. What
    /// a driver does not unmount now is tried again at the next start.
    ///
    /// # Errors
    /// [`VolumeError::File`] if the checkpoints cannot be read.
    pub async fn recover(&self, alive: &BTreeSet<String>) -> Result<(), VolumeError> {
        let folder = &self.0.folder;
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(VolumeError::file("listing", folder))?,
        };
        let mut gone = Vec::new();
        for entry in entries.flatten() {
            let container = entry.file_name().to_string_lossy().into_owned();
            let keys = self.0.read(&container)?;
            self.0.lock().by.insert(container.clone(), keys);
            if !alive.contains(&container) {
                gone.push(container);
            }
        }
        for container in gone {
            tracing::info!(
                container,
                "letting go of the volumes of a container that is gone"
            );
            if let Err(error) = self.release(&container).await {
                tracing::error!(container, %error, "its volumes are not unmounted");
            }
        }
        Ok(())
    }

    /// Mounts what `container` wants, by drivers' names; where each is, in the same order.
    ///
    /// # Errors
    /// [`VolumeError`]; [`release`](Self::release) takes away what was done.
    pub async fn attach(
        &self,
        container: &str,
        wanted: Vec<(String, VolumeRequest)>,
    ) -> Result<Vec<PathBuf>, VolumeError> {
        let mut keys = BTreeSet::new();
        let mut drivers = Vec::new();
        for (driver, request) in &wanted {
            if !keys.insert((driver.clone(), request.name.clone())) {
                let why = format!("it is wanted twice of driver `{driver}`");
                return Err(VolumeError::invalid(&request.name, why));
            }
            drivers.push(self.0.drivers.find(driver)?);
        }
        self.0.write(container, &keys)?;
        self.0.lock().by.insert(container.to_owned(), keys);
        // To the end, even if nobody waits any more: a driver is not left half-way.
        let tasks: Vec<_> = wanted
            .into_iter()
            .zip(drivers)
            .map(|((name, request), driver)| {
                let inner = Arc::clone(&self.0);
                // Its turn begins now, before whoever gives it up asks for one.
                let place = inner.place(&(name, request.name.clone()));
                let turn = Arc::clone(&place).try_lock_owned();
                tokio::spawn(async move {
                    let mut place = match turn {
                        Ok(turn) => turn,
                        Err(_) => place.lock_owned().await,
                    };
                    let path = inner.mount(driver, &request, place.clone()).await?;
                    *place = Some(path.clone());
                    Ok(path)
                })
            })
            .collect();
        let mut places = Vec::new();
        let mut failed = None;
        for task in tasks {
            match task.await {
                Ok(Ok(place)) => places.push(place),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        failed.map_or(Ok(places), Err)
    }

    /// Lets go of what `container` uses; unmounts what nobody else uses.
    ///
    /// # Errors
    /// The first driver's error, after all have been tried; the caller may try again.
    pub async fn release(&self, container: &str) -> Result<(), VolumeError> {
        let keys = self.0.lock().by.get(container).cloned();
        let mut outcome = Ok(());
        for key in keys.into_iter().flatten() {
            let inner = Arc::clone(&self.0);
            let container = container.to_owned();
            let released = tokio::spawn(async move { inner.release(&container, &key).await });
            let released = released.await;
            outcome = outcome.and(released.unwrap_or_else(|error| {
                std::panic::resume_unwind(error.into_panic());
            }));
        }
        outcome?;
        self.0.lock().by.remove(container);
        let folder = self.0.of(container);
        files::gone(fs::remove_dir_all(&folder)).map_err(VolumeError::file("removing", folder))
    }

    /// How many containers use a volume.
    pub fn users(&self, driver: &str, name: &str) -> usize {
        self.0.users(&(driver.to_owned(), name.to_owned()))
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self, key: &Key) -> usize {
        let used = self.lock();
        used.by.values().filter(|keys| keys.contains(key)).count()
    }

    fn place(&self, key: &Key) -> Arc<tokio::sync::Mutex<Option<PathBuf>>> {
        Arc::clone(self.lock().places.entry(key.clone()).or_default())
    }

    async fn mount(
        &self,
        driver: Arc<dyn VolumeDriver>,
        request: &VolumeRequest,
        known: Option<PathBuf>,
    ) -> Result<PathBuf, VolumeError> {
        if let Some(place) = known {
            return Ok(place);
        }
        let key = (driver.name().to_owned(), request.name.clone());
        // Its other users were there before this agent: it is not to be mounted again, since there
        // are drivers that count.
        let found = match self.users(&key) {
            0 | 1 => None,
            _ => driver.mounted(&request.name).await?,
        };
        match found {
            Some(place) => Ok(place),
            None => driver.mount(request).await,
        }
    }

    async fn release(&self, container: &str, key: &Key) -> Result<(), VolumeError> {
        let place = self.place(key);
        let mut place = place.lock().await;
        let (driver, name) = key;
        if self.users(key) == 1 {
            self.drivers.find(driver)?.unmount(name).await?;
            *place = None;
        }
        let mut used = self.lock();
        if let Some(keys) = used.by.get_mut(container) {
            keys.remove(key);
        }
        if !used.by.values().any(|keys| keys.contains(key)) {
            used.places.remove(key);
        }
        Ok(())
    }

    fn of(&self, container: &str) -> PathBuf {
        self.folder.join(container)
    }

    fn read(&self, container: &str) -> Result<BTreeSet<Key>, VolumeError> {
        let file = self.of(container).join("volumes");
        let text = match fs::read(&file) {
            // The agent died between making the folder and writing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text.map_err(VolumeError::file("reading", &file))?,
        };
        Ok(parse(&text, &file))
    }

    fn write(&self, container: &str, keys: &BTreeSet<Key>) -> Result<(), VolumeError> {
        let folder = self.of(container);
        let file = folder.join("volumes");
        let name = |(driver, name): &Key| match self.form {
            Form::Docker => Named::Docker {
                driver: driver.clone(),
                name: name.clone(),
            },
            Form::Csi => Named::Csi {
                plugin_name: driver.clone(),
                id: name.clone(),
            },
        };
        let volumes = keys.iter().map(name).collect();
        let text = serde_json::to_vec(&Record { volumes }).expect("it has text keys only");
        files::make_private(&folder)
            .and_then(|()| files::replace(&file, &text))
            .map_err(VolumeError::file("writing", file))
    }
}

fn parse(text: &[u8], file: &Path) -> BTreeSet<Key> {
    let record = serde_json::from_slice(text).unwrap_or_else(|error| {
        if !text.is_empty() {
            tracing::error!(?file, %error, "a checkpoint of volumes is damaged");
        }
        Record::default()
    });
    let key = |named| match named {
        Named::Docker { driver, name } => (driver, name),
        Named::Csi { plugin_name, id } => (plugin_name, id),
    };
    record.volumes.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests;

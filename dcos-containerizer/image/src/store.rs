//! Images, ready to run: which there are, and which layers each has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock};

use crate::credentials::Credentials;
use crate::layers::{Layers, absent_is_fine, hex};
use crate::local::{self, Found};
use crate::registry::{Descriptor, Manifest, RegistryConfig, Remote, download};
use crate::{ImageConfig, ImageError, ImageName};

/// How an [`ImageStore`] works.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Where layers are kept.
    pub directory: PathBuf,
    /// Where images come from.
    pub source: Source,
    /// What a layer's files may add up to, in bytes: an archive of some kilobytes could fill a disk.
    pub max_layer: u64,
}

impl StoreConfig {
    /// A store in `directory`.
    pub fn new(directory: impl Into<PathBuf>, source: Source) -> Self {
        Self {
            directory: directory.into(),
            source,
            max_layer: 64 << 30,
        }
    }
}

/// Where images come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Archives and folders of this host.
    Directory(PathBuf),
    /// Registries.
    Registry(RegistryConfig),
}

/// Which image is wanted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Its name; see [`ImageName`].
    pub name: String,
    /// Ask the registry even if the image is here: its name may stand for another one by now.
    pub refresh: bool,
    /// Credentials of this request alone; they go before those of the store.
    pub credentials: Credentials,
}

impl Request {
    /// The image of this name, from the store if it is there.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// An image whose layers are here. While this value lives, no layer is pruned.
#[derive(Debug)]
pub struct Image {
    /// What it was asked for, with its registry and tag.
    pub name: String,
    /// Folders, lowest first.
    pub layers: Vec<PathBuf>,
    /// How to run it.
    pub config: ImageConfig,
    _lease: OwnedRwLockReadGuard<()>,
}

/// What [`ImageStore::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images.
    pub images: usize,
    /// Layers.
    pub layers: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

/// What is known of an image: `images/<hash of its name>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    name: String,
    /// Of its manifest; none for images of this host.
    digest: Option<String>,
    /// Names of its layers, lowest first.
    layers: Vec<String>,
    config: ImageConfig,
}

/// Layers by digest, shared by all images and containers of a host. Needs root, as files get the
/// owners their image says. Clones are the same store.
///
/// # Promises
/// 1. A layer is there whole or not at all, whenever the process or the host dies; its digest was
///    checked.
/// 2. However many ask for an image at once, each layer is downloaded and unpacked once.
/// 3. An image that is here is got without a word to its registry, unless asked to.
/// 4. What an [`Image`] or `in_use` names is not pruned.
#[derive(Debug, Clone)]
pub struct ImageStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: StoreConfig,
    layers: Layers,
    /// Held for writing by pruning.
    leases: Arc<RwLock<()>>,
    /// Held while a layer is downloaded, by digest, and while an image is asked for, by name.
    locks: std::sync::Mutex<BTreeMap<String, Weak<Mutex<()>>>>,
}

impl ImageStore {
    /// A store; [`recover`](Self::recover) comes first.
    pub fn new(config: StoreConfig) -> Self {
        Self(Arc::new(Inner {
            layers: Layers::new(config.directory.clone(), config.max_layer),
            config,
            leases: Arc::default(),
            locks: std::sync::Mutex::default(),
        }))
    }

    /// Makes the folders, and removes what an earlier process left unfinished.
    ///
    /// # Errors
    /// [`ImageError::Io`]
    pub async fn recover(&self) -> Result<(), ImageError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            inner.layers.recover()?;
            fs::create_dir_all(inner.images())?;
            crate::private_folder(&inner.downloads())
        })
        .await
    }

    /// The image, after pulling what of it is not here.
    ///
    /// # Errors
    /// [`ImageError`]. What was downloaded until then is used by the next attempt.
    pub async fn get(&self, request: &Request) -> Result<Image, ImageError> {
        let lease = Arc::clone(&self.0.leases).read_owned().await;
        // Held until the image is known: those who wait need not ask the registry.
        let mut asking = None;
        let entry = match &self.0.config.source {
            Source::Directory(directory) => {
                match self.find(directory.clone(), request.name.clone()).await? {
                    Found::Layers(layers, config) => Entry {
                        name: request.name.clone(),
                        digest: None,
                        layers,
                        config,
                    },
                    Found::Folder(folder, config) => {
                        return Ok(Image {
                            name: request.name.clone(),
                            layers: vec![folder],
                            config,
                            _lease: lease,
                        });
                    }
                }
            }
            Source::Registry(config) => {
                let name = config.canonical(&request.name.parse()?);
                asking = Some(self.0.lock(&name.to_string()).lock_owned().await);
                match self.known(&name).await? {
                    Some(entry) if !request.refresh => entry,
                    known => self.pull(config, request, name, known).await?,
                }
            }
        };
        self.remember(entry.clone()).await?;
        drop(asking);
        let layers = entry.layers.iter();
        Ok(Image {
            layers: layers.map(|layer| self.0.layers.path(layer)).collect(),
            name: entry.name,
            config: entry.config,
            _lease: lease,
        })
    }

    /// Removes images, and then layers, that nobody needs: neither an image in `kept`, by name, nor
    /// a container, whose layers `in_use` tells when no image is being got. With `idle`, only images not used for that long.
    /// Waits until pulls under way have ended.
    ///
    /// # Errors
    /// [`ImageError::Io`]
    pub async fn prune(
        &self,
        in_use: impl FnOnce() -> io::Result<BTreeSet<PathBuf>> + Send + 'static,
        kept: &[String],
        idle: Option<Duration>,
    ) -> Result<Pruned, ImageError> {
        let alone = Arc::clone(&self.0.leases).write_owned().await;
        let mut names: BTreeSet<String> = kept.iter().cloned().collect();
        if let Source::Registry(config) = &self.0.config.source {
            let parsed = kept.iter().filter_map(|name| name.parse().ok());
            names.extend(parsed.map(|name: ImageName| config.canonical(&name).to_string()));
        }
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let _alone = alone;
            // Not before: a root may have been made while pulls were waited for.
            inner.prune(&in_use()?, &names, idle)
        })
        .await
    }

    async fn find(&self, directory: PathBuf, name: String) -> Result<Found, ImageError> {
        let inner = Arc::clone(&self.0);
        let found =
            tokio::task::spawn_blocking(move || local::find(&inner.layers, &directory, &name));
        found.await.map_err(io::Error::other)?
    }

    /// What is known of an image whose layers are all here.
    async fn known(&self, name: &ImageName) -> Result<Option<Entry>, ImageError> {
        let (inner, name) = (Arc::clone(&self.0), name.to_string());
        blocking(move || {
            let entry = read(&inner.entry(&name))?;
            Ok(entry.filter(|entry| entry.layers.iter().all(|one| inner.layers.has(one))))
        })
        .await
    }

    async fn remember(&self, entry: Entry) -> Result<(), ImageError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.write(&entry)).await?;
        // Nobody waits for the disk; until it has the layers, a crash of the host loses them.
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = inner.layers.sync() {
                tracing::warn!(%error, "could not have the disk take an image's layers");
            }
        });
        Ok(())
    }

    async fn pull(
        &self,
        config: &RegistryConfig,
        request: &Request,
        name: ImageName,
        known: Option<Entry>,
    ) -> Result<Entry, ImageError> {
        let mut failure = None;
        for place in config.places(&name) {
            let remote = Remote::new(config, place, &name, &request.credentials)?;
            let pulled = async {
                let manifest = remote.manifest().await?;
                if let Some(known) = known.clone()
                    && known.digest.as_ref() == Some(&manifest.digest)
                {
                    return Ok(known);
                }
                self.assemble(&remote, config, manifest, &name).await
            };
            match pulled.await {
                Ok(entry) => return Ok(entry),
                Err(error) => {
                    tracing::info!(%error, "not pulled");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| ImageError::Name {
            name: name.to_string(),
            why: "no registry to ask".to_owned(),
        }))
    }

    async fn assemble(
        &self,
        remote: &Remote,
        config: &RegistryConfig,
        manifest: Manifest,
        name: &ImageName,
    ) -> Result<Entry, ImageError> {
        let sizes = manifest.layers.iter().map(|(layer, _)| layer.size);
        let total = sizes.fold(0, u64::saturating_add);
        tracing::info!(image = %name, layers = manifest.layers.len(), bytes = total, "pulling");
        let pulls = futures::stream::iter(manifest.layers)
            .map(async |(layer, digest)| self.layer(remote, &layer, &digest).await)
            .buffered(config.concurrent.max(1));
        let layers = pulls.try_collect().await?;
        tracing::info!(image = %name, digest = manifest.digest, "pulled");
        Ok(Entry {
            name: name.to_string(),
            digest: Some(manifest.digest),
            layers,
            config: manifest.config,
        })
    }

    /// Downloads and unpacks one layer, unless it is here.
    async fn layer(
        &self,
        remote: &Remote,
        layer: &Descriptor,
        digest: &str,
    ) -> Result<String, ImageError> {
        let lock = self.0.lock(&layer.digest);
        let held = lock.lock_owned().await;
        let corrupt = ImageError::of(&remote.name);
        let hash = crate::name::hash(digest).unwrap_or_default();
        if !hash.is_empty() && self.0.layers.has(hash) {
            return Ok(hash.to_owned());
        }
        let file = crate::name::hash(&layer.digest).unwrap_or("malformed");
        let file = self.0.downloads().join(file);
        download(remote, layer, &file).await?;
        let (inner, digest) = (Arc::clone(&self.0), digest.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || {
            // Held even if nobody waits for the outcome any more.
            let _held = held;
            let made = inner.layers.layer(&digest, || {
                Ok(Box::new(BufReader::with_capacity(
                    1 << 18,
                    File::open(&file)?,
                )))
            });
            absent_is_fine(fs::remove_file(&file))?;
            made
        });
        unpacked.await.map_err(io::Error::other)?.map_err(corrupt)
    }
}

impl Inner {
    fn images(&self) -> PathBuf {
        self.config.directory.join("images")
    }

    fn downloads(&self) -> PathBuf {
        self.config.directory.join("downloads")
    }

    fn entry(&self, name: &str) -> PathBuf {
        let file = hex(&Sha256::digest(name.as_bytes()));
        self.images().join(format!("{file}.json"))
    }

    fn lock(&self, what: &str) -> Arc<Mutex<()>> {
        let mut locks = self
            .locks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(what).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(what.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Writes an entry; when it was written is when the image was last used.
    fn write(&self, entry: &Entry) -> io::Result<()> {
        let path = self.entry(&entry.name);
        let new = path.with_extension(uuid::Uuid::new_v4().to_string());
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        fs::rename(&new, &path)
    }

    fn prune(
        &self,
        in_use: &BTreeSet<PathBuf>,
        kept: &BTreeSet<String>,
        idle: Option<Duration>,
    ) -> io::Result<Pruned> {
        let used = |name: &String| in_use.contains(&self.layers.path(name));
        let mut wanted: BTreeSet<String> = in_use
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        let mut pruned = Pruned::default();
        for file in fs::read_dir(self.images())? {
            let path = file?.path();
            let Some(entry) = read(&path)? else {
                absent_is_fine(fs::remove_file(path))?;
                continue;
            };
            let since = SystemTime::now().duration_since(path.metadata()?.modified()?);
            let is_recent = idle.is_some_and(|idle| since.unwrap_or_default() < idle);
            let in_use = !entry.layers.is_empty() && entry.layers.iter().all(used);
            if is_recent || in_use || kept.contains(&entry.name) {
                wanted.extend(entry.layers);
            } else {
                absent_is_fine(fs::remove_file(path))?;
                pruned.images += 1;
            }
        }
        (pruned.layers, pruned.bytes) = self.layers.keep_only(&wanted)?;
        // No pull is under way, so these are what failed ones left.
        for file in fs::read_dir(self.downloads())?.flatten() {
            pruned.bytes += file.metadata()?.len();
            absent_is_fine(fs::remove_file(file.path()))?;
        }
        Ok(pruned)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ImageError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(io::Error::other)??)
}

/// An entry; one that is not understood is as good as none.
fn read(path: &Path) -> io::Result<Option<Entry>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => Ok(serde_json::from_slice(&bytes?).ok()),
    }
}

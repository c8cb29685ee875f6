//! The default provisioner: images of registries and of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use async_trait::async_trait;
use dcos_core::error::chain;
use dcos_image::credentials::Credentials;
use dcos_image::{ImageError, ImageStore, Pruned, Request, Source, StoreConfig, root};
use dcos_proto::mesos::{ContainerId, Image, image};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{ProvisionError, Provisioned, Provisioner};
use crate::isolator::Ids;
use crate::secret::SecretResolver;

/// How an [`ImageProvisioner`] works.
#[derive(Debug, Clone)]
pub struct ImageProvisionerConfig {
    /// Where Docker and OCI images come from. `--docker_registry`
    pub docker: Option<Source>,
    /// Where appc images are found, by name. `--appc_simple_discovery_uri_prefix`, if a path.
    pub appc: Option<PathBuf>,
    /// Where unpacked layers are kept. `--docker_store_dir`
    pub store: PathBuf,
    /// Where containers' roots are. `<work_dir>/provisioner`
    pub roots: PathBuf,
    /// How layers become a root. `--image_provisioner_backend`
    pub backend: Backend,
    /// Bytes the files of a layer may add up to. `--image_max_layer_size`
    pub max_layer: u64,
    /// Names of images that are never removed. `--image_gc_config`
    pub kept: Vec<String>,
    /// Where images' credentials are that are secrets by reference. `--secrets_dir`
    pub secrets: Arc<dyn SecretResolver>,
}

/// How layers become a root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// Overlay where it works, else a copy.
    #[default]
    Auto,
    /// `overlayfs`: nothing is copied but what is changed.
    Overlay,
    /// Everything is copied.
    Copy,
}

/// Where roots that are volumes are, beside the others.
const VOLUMES: &str = "provisioner-volumes";

/// Where in a container's folder its layers are while they are made into a root, their ids mapped.
const MAPPED: &str = "mapped";

/// What of a container's folder names the layers it needs, one a line.
const LAYERS: &str = "layers";

/// Provisions images of registries and of this host. Needs root. Clones are the same.
#[derive(Debug, Clone)]
pub struct ImageProvisioner {
    config: Arc<ImageProvisionerConfig>,
    roots: PathBuf,
    docker: Option<ImageStore>,
    appc: Option<ImageStore>,
    /// Held while somebody works in a container's folder: whoever no longer waits for that does not end it.
    working: Arc<std::sync::Mutex<BTreeMap<PathBuf, Weak<Mutex<()>>>>>,
}

impl ImageProvisioner {
    /// A provisioner; makes its folders at [`recover`](Provisioner::recover).
    pub fn new(config: ImageProvisionerConfig) -> Self {
        let store = |directory, source| {
            let store = StoreConfig {
                max_layer: config.max_layer,
                ..StoreConfig::new(directory, source)
            };
            ImageStore::new(store)
        };
        let docker = config.docker.clone();
        let appc = config.appc.clone().map(Source::Directory);
        Self {
            docker: docker.map(|source| store(config.store.clone(), source)),
            appc: appc.map(|source| store(config.store.join("appc"), source)),
            roots: config.roots.clone(),
            working: Arc::default(),
            config: Arc::new(config),
        }
    }

    /// As this one, for volumes: what it makes is beside the containers' roots, and is removed by
    /// its own [`recover`](Provisioner::recover) only.
    pub fn for_volumes(&self) -> Self {
        Self {
            roots: self.roots.with_file_name(VOLUMES),
            ..self.clone()
        }
    }

    /// The directory of its layers.
    pub fn store(&self) -> &Path {
        &self.config.store
    }

    fn stores(&self) -> impl Iterator<Item = &ImageStore> {
        self.docker.iter().chain(&self.appc)
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        self.roots.join(id.to_string())
    }

    /// The right to work in a container's folder.
    async fn enter(&self, folder: &Path) -> OwnedMutexGuard<()> {
        let lock = {
            let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
            working.retain(|_, lock| lock.strong_count() > 0);
            let known = working.get(folder).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::default();
                working.insert(folder.to_owned(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }

    /// The store an image is looked for in, and what to look for.
    async fn wanted(&self, image: &Image) -> Result<(&ImageStore, Request), ProvisionError> {
        let (name, store, kind) = match (image.r#type(), &image.docker, &image.appc) {
            (image::Type::Docker, Some(docker), _) => (&docker.name, &self.docker, "DOCKER"),
            (image::Type::Appc, _, Some(appc)) => (&appc.name, &self.appc, "APPC"),
            _ => return Err(ProvisionError::new("the image has no name")),
        };
        let store = store.as_ref().ok_or_else(|| {
            let why = "images of this type are not among `--image_providers`";
            ProvisionError::new(format!("image '{name}' ({kind}): {why}"))
        })?;
        let request = Request {
            name: name.clone(),
            refresh: image.cached == Some(false),
            credentials: credentials(image, self.config.secrets.as_ref()).await?,
        };
        Ok((store, request))
    }

    /// Removes images that no container needs, but for those named; with `idle`, only those not
    /// used for that long. Returns what of it there was.
    ///
    /// # Errors
    /// [`ProvisionError`]; what was removed until then stays removed.
    pub async fn prune_named(
        &self,
        kept: &[String],
        idle: Option<std::time::Duration>,
    ) -> Result<Pruned, ProvisionError> {
        let mut sum = Pruned::default();
        for store in self.stores() {
            let roots = self.config.roots.clone();
            let used = move || {
                let mut layers = in_use(&roots)?;
                layers.append(&mut in_use(&roots.with_file_name(VOLUMES))?);
                Ok(layers)
            };
            let pruned = store
                .prune(used, kept, idle)
                .await
                .map_err(|error| told(&error))?;
            sum.images += pruned.images;
            sum.layers += pruned.layers;
            sum.bytes += pruned.bytes;
        }
        if sum != Pruned::default() {
            tracing::info!(
                images = sum.images,
                layers = sum.layers,
                bytes = sum.bytes,
                "removed what no container needs"
            );
        }
        Ok(sum)
    }
}

#[async_trait]
impl Provisioner for ImageProvisioner {
    async fn recover(&self, alive: &[ContainerId]) -> Result<(), ProvisionError> {
        for store in self.stores() {
            store.recover().await.map_err(|error| told(&error))?;
        }
        let alive: Vec<PathBuf> = alive.iter().map(|id| self.folder(id)).collect();
        let roots = self.roots.clone();
        blocking(move || {
            dcos_image::private_folder(&roots)?;
            for entry in std::fs::read_dir(&roots)? {
                let folder = entry?.path();
                if !alive.contains(&folder) {
                    remove(&folder)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn provision(
        &self,
        id: &ContainerId,
        image: &Image,
        ids: Option<&Ids>,
    ) -> Result<Provisioned, ProvisionError> {
        if !rustix::process::geteuid().is_root() {
            return Err(ProvisionError::new(
                "images need an agent that runs as root",
            ));
        }
        let (store, request) = self.wanted(image).await?;
        let image = store.get(&request).await.map_err(|error| told(&error))?;
        let (folder, backend) = (self.folder(id), self.config.backend);
        let namespace = ids.map(|ids| ids.namespace.clone());
        if namespace.is_some() && backend == Backend::Copy {
            let why = "a user namespace needs `--image_provisioner_backend=overlay`";
            return Err(ProvisionError::new(why));
        }
        let guard = self.enter(&folder).await;
        blocking(move || {
            let _guard = guard;
            let rootfs = folder.join("rootfs");
            let made = match &namespace {
                None => make(&image.layers, &folder, &rootfs, backend),
                Some(namespace) => make_mapped(&image.layers, &folder, &rootfs, namespace),
            };
            if made.is_err() {
                remove(&folder).ok();
            }
            made.map(|()| Provisioned {
                ephemeral: root::written(&folder, &rootfs),
                rootfs,
                image: image.config.clone(),
            })
        })
        .await
    }

    async fn destroy(&self, id: &ContainerId) -> Result<(), ProvisionError> {
        let folder = self.folder(id);
        let guard = self.enter(&folder).await;
        blocking(move || {
            let _guard = guard;
            remove(&folder)
        })
        .await
    }

    async fn prune(&self, kept: &[Image]) -> Result<(), ProvisionError> {
        let names = kept.iter().filter_map(|image| match image.r#type() {
            image::Type::Docker => Some(image.docker.as_ref()?.name.clone()),
            image::Type::Appc => Some(image.appc.as_ref()?.name.clone()),
        });
        let names: Vec<String> = names.chain(self.config.kept.iter().cloned()).collect();
        self.prune_named(&names, None).await.map(drop)
    }
}

/// The image's own credentials: a Docker `config.json` as a secret.
async fn credentials(
    image: &Image,
    secrets: &dyn SecretResolver,
) -> Result<Credentials, ProvisionError> {
    let docker = image.docker.as_ref();
    let Some(config) = docker.and_then(|docker| docker.config.as_ref()) else {
        return Ok(Credentials::default());
    };
    let found = secrets.resolve(config).await.map_err(|error| {
        let why = error.0;
        ProvisionError::new(format!("the image's credentials (`config`): {why}"))
    })?;
    Credentials::parse(&found).map_err(|error| told(&error))
}

fn told(error: &ImageError) -> ProvisionError {
    ProvisionError::new(chain(error))
}

/// The layers that containers need.
fn in_use(roots: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut layers = BTreeSet::new();
    let entries = match std::fs::read_dir(roots) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(layers),
        entries => entries?,
    };
    for entry in entries {
        match std::fs::read_to_string(entry?.path().join(LAYERS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => layers.extend(text?.lines().map(PathBuf::from)),
        }
    }
    Ok(layers)
}

/// As [`make`], with the ids of all layers mapped by the user namespace of a file.
fn make_mapped(
    layers: &[PathBuf],
    folder: &Path,
    rootfs: &Path,
    namespace: &Path,
) -> io::Result<()> {
    prepare(layers, folder, rootfs)?;
    let namespace = File::open(namespace)?;
    let mut mapped = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let place = folder.join(MAPPED).join(number.to_string());
        std::fs::create_dir_all(&place)?;
        map(layer, &place, &namespace).map_err(|error| {
            let layer = layer.display();
            let why = "a user namespace needs id-mapped mounts, which the layers' file system \
                       or this kernel (Linux 5.19 and newer) does not know";
            io::Error::new(error.kind(), format!("{why}: {layer}: {error}"))
        })?;
        mapped.push(place);
    }
    root::overlay(&mapped, folder, rootfs)?;
    // The overlay has them; nobody needs to see them.
    unmap(folder)
}

/// Mounts `layer` at `place`, read-only, its ids mapped.
fn map(layer: &Path, place: &Path, namespace: &File) -> io::Result<()> {
    let tree = open_tree(
        CWD,
        layer,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    dcos_launcher::map_ids(tree.as_fd(), namespace.as_fd())?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", CWD, place, empty)?)
}

fn unmap(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder.join(MAPPED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        root::undo(&entry?.path())?;
    }
    Ok(())
}

fn prepare(layers: &[PathBuf], folder: &Path, rootfs: &Path) -> io::Result<()> {
    remove(folder)?;
    std::fs::create_dir_all(rootfs)?;
    let names: Vec<_> = layers.iter().map(|layer| layer.to_string_lossy()).collect();
    std::fs::write(folder.join(LAYERS), names.join("\n"))
}

fn make(layers: &[PathBuf], folder: &Path, rootfs: &Path, backend: Backend) -> io::Result<()> {
    prepare(layers, folder, rootfs)?;
    match backend {
        Backend::Overlay => root::overlay(layers, folder, rootfs),
        Backend::Copy => root::copy(layers, rootfs),
        Backend::Auto => root::overlay(layers, folder, rootfs).or_else(|error| {
            tracing::debug!(%error, "no overlay here, copying the image");
            root::copy(layers, rootfs)
        }),
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    root::undo(&folder.join("rootfs"))?;
    unmap(folder)?;
    match dcos_image::tree::remove(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ProvisionError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(ProvisionError::new)?
        .map_err(ProvisionError::new)
}

#[cfg(test)]
mod tests {
    use dcos_proto::mesos::image::Docker;
    use dcos_proto::mesos::{Secret, secret};

    use super::*;
    use crate::secret::{SecretFiles, ValuesOnly};

    fn image(config: Secret) -> Image {
        let docker = Docker {
            name: "registry.example/app".into(),
            config: Some(config),
            credential: None,
        };
        Image {
            docker: Some(docker),
            ..Image::default()
        }
    }

    #[tokio::test]
    async fn credentials_of_an_image_may_lie_among_the_secrets_of_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let auths = r#"{"auths":{"registry.example":{"auth":"bWU6cHc="}}}"#;
        std::fs::write(folder.path().join("pull"), auths).unwrap();
        let named = |name: &str| {
            let reference = secret::Reference {
                name: name.into(),
                key: None,
            };
            image(Secret {
                r#type: Some(secret::Type::Reference.into()),
                reference: Some(reference),
                value: None,
            })
        };
        let value = secret::Value { data: auths.into() };
        let carried = image(Secret {
            r#type: Some(secret::Type::Value.into()),
            reference: None,
            value: Some(value),
        });
        let expected = Credentials::parse(auths.as_bytes()).unwrap();
        let files = SecretFiles::new(folder.path());
        for image in [&named("pull"), &carried] {
            let found = credentials(image, &files).await.unwrap();
            assert_eq!(found, expected);
        }
        let missing = credentials(&named("none"), &files).await.unwrap_err();
        assert!(missing.to_string().contains("'none'"), "{missing}");
        let nowhere = credentials(&named("pull"), &ValuesOnly).await.unwrap_err();
        assert!(nowhere.to_string().contains("--secrets_dir"), "{nowhere}");
    }
}

//! Images of this host, by name, and the layers they were unpacked into.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use dcos_proto::mesos::{Image, image};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::archive::{Archive, unpacked};
use super::{ImageConfig, ProvisionError, layer};

/// What a layer may become.
const MAX_LAYER: u64 = 64 << 30;

/// An image, ready to be put on top of each other.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    /// Lowest first.
    pub(super) layers: Vec<PathBuf>,
    pub(super) config: ImageConfig,
}

/// Where images are found, and where their layers go.
#[derive(Debug)]
pub(super) struct Images {
    /// Archives and folders, by name.
    pub(super) docker: Option<PathBuf>,
    pub(super) appc: Option<PathBuf>,
    /// Layers by digest; what is being unpacked.
    pub(super) store: PathBuf,
}

impl Images {
    /// Forgets what was half unpacked when an earlier process died.
    pub(super) fn recover(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.store.join("unpacking")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(self.store.join("layers")),
        }
    }

    /// Finds an image, and unpacks what is not unpacked yet.
    pub(super) fn ready(&self, image: &Image) -> Result<Ready, ProvisionError> {
        let (name, folder, kind) = match (image.r#type(), &image.docker, &image.appc) {
            (image::Type::Docker, Some(docker), _) => (&docker.name, &self.docker, "DOCKER"),
            (image::Type::Appc, _, Some(appc)) => (&appc.name, &self.appc, "APPC"),
            _ => return Err(ProvisionError::new("the image has no name")),
        };
        let folder = folder.as_ref().ok_or_else(|| {
            let why = "images of this type are not among `--image_providers`, or are not local";
            ProvisionError::new(format!("image '{name}' ({kind}): {why}"))
        })?;
        let failed = |error: io::Error| ProvisionError::new(format!("image '{name}': {error}"));
        let (found, tag) = find(folder, name)?;
        if found.is_dir() {
            if let Some(ready) = unpacked_folder(&found).map_err(failed)? {
                return Ok(ready);
            }
        } else if is_compressed(&found).map_err(failed)? {
            return self.plain(&found).map_err(failed);
        }
        let archive = Archive::open(&found).map_err(failed)?;
        match archive.manifest(&tag).map_err(failed)? {
            None => self.plain(&found).map_err(failed),
            Some(manifest) => {
                let layers = manifest.layers.iter().zip(&manifest.digests);
                let layers =
                    layers.map(|(name, digest)| self.layer(digest, || archive.unpacked(name)));
                Ok(Ready {
                    layers: layers.collect::<io::Result<_>>().map_err(failed)?,
                    config: manifest.config,
                })
            }
        }
    }

    /// A root file system in one tar file. It has no digest: name, size and age stand for it.
    fn plain(&self, path: &Path) -> io::Result<Ready> {
        let metadata = path.metadata()?;
        let age = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
        let age = age.unwrap_or_default().as_nanos();
        let stands_for = format!("{}\0{}\0{age}", path.display(), metadata.len());
        let name = format!("file-{}", hex(&Sha256::digest(stands_for.as_bytes())));
        let layer = self.store.join("layers").join(&name);
        if !layer.is_dir() {
            let source = unpacked(Box::new(BufReader::new(File::open(path)?)))?;
            let folder = self.unpacking()?;
            layer::unpack(source, &folder.0, MAX_LAYER)?;
            folder.becomes(&layer)?;
        }
        Ok(Ready {
            layers: vec![layer],
            config: ImageConfig::default(),
        })
    }

    /// The layer with this digest, unpacked from `open` if it is not there.
    fn layer<'a>(
        &self,
        digest: &str,
        open: impl FnOnce() -> io::Result<Box<dyn Read + 'a>>,
    ) -> io::Result<PathBuf> {
        let hash = digest.strip_prefix("sha256:");
        let hash = hash
            .filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hash = hash.ok_or_else(|| odd(&format!("'{digest}' is no SHA-256 digest")))?;
        let layer = self.store.join("layers").join(hash);
        if layer.is_dir() {
            return Ok(layer);
        }
        let mut source = Hashing {
            source: open()?,
            hash: Sha256::new(),
        };
        let folder = self.unpacking()?;
        layer::unpack(&mut source, &folder.0, MAX_LAYER)?;
        let found = hex(&source.hash.finalize());
        if found != hash {
            return Err(odd(&format!(
                "a layer of digest {digest} has sha256:{found}"
            )));
        }
        folder.becomes(&layer)?;
        Ok(layer)
    }

    fn unpacking(&self) -> io::Result<Unpacking> {
        let folder = self.store.join("unpacking");
        let folder = folder.join(uuid::Uuid::new_v4().to_string());
        fs::create_dir_all(&folder)?;
        Ok(Unpacking(folder))
    }
}

/// A folder that is removed unless it becomes a layer.
struct Unpacking(PathBuf);

impl Unpacking {
    fn becomes(self, layer: &Path) -> io::Result<()> {
        if let Some(parent) = layer.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(&self.0, layer)
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // There no longer, if all went well.
        fs::remove_dir_all(&self.0).ok();
    }
}

struct Hashing<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// What lies in `folder` under this name, and the tag that was asked for.
///
/// As Mesos's local puller: `<name>.tar`, where the name may hold a tag. Beside that, the tag may
/// be left out of the file's name, and the image may be a folder.
fn find(folder: &Path, name: &str) -> Result<(PathBuf, String), ProvisionError> {
    let refused = |why: &str| ProvisionError::new(format!("image '{name}': {why}"));
    let legal = |part: &str| !part.is_empty() && part != "." && part != "..";
    if name.starts_with('/') || !name.split('/').all(legal) {
        return Err(refused("that is no name of an image"));
    }
    let (bare, tag) = match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => (bare, tag),
        _ => (name, "latest"),
    };
    let tagged = format!("{bare}:{tag}");
    for stem in [name, &tagged, bare] {
        for end in [".tar", ".tar.gz", ".tgz", ""] {
            let path = folder.join(format!("{stem}{end}"));
            if path.is_file() || (end.is_empty() && path.is_dir()) {
                return Ok((path, tag.to_owned()));
            }
        }
    }
    Err(refused(&format!(
        "there is no '{name}.tar' in {}; this agent knows local images only, registries over the \
         network are not supported yet",
        folder.display()
    )))
}

/// A folder that is a root file system, or holds one with an appc manifest beside it.
fn unpacked_folder(folder: &Path) -> io::Result<Option<Ready>> {
    if folder.join("index.json").is_file() || folder.join("manifest.json").is_file() {
        return Ok(None);
    }
    let rootfs = folder.join("rootfs");
    if !rootfs.is_dir() {
        return Ok(Some(Ready {
            layers: vec![folder.canonicalize()?],
            config: ImageConfig::default(),
        }));
    }
    let config = match fs::read(folder.join("manifest")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => ImageConfig::default(),
        bytes => {
            let manifest: Appc = serde_json::from_slice(&bytes?)?;
            manifest.app.unwrap_or_default().into()
        }
    };
    Ok(Some(Ready {
        layers: vec![rootfs.canonicalize()?],
        config,
    }))
}

/// What is used of an appc image's manifest.
#[derive(Debug, Deserialize)]
struct Appc {
    app: Option<App>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct App {
    exec: Vec<String>,
    environment: Vec<AppVariable>,
    working_directory: Option<PathBuf>,
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
struct AppVariable {
    name: String,
    value: String,
}

impl From<App> for ImageConfig {
    fn from(app: App) -> Self {
        let variables = app.environment.into_iter();
        Self {
            entrypoint: app.exec,
            command: Vec::new(),
            environment: variables
                .map(|one| format!("{}={}", one.name, one.value))
                .collect(),
            working_directory: app.working_directory,
            user: app.user,
        }
    }
}

fn is_compressed(path: &Path) -> io::Result<bool> {
    let mut magic = Vec::new();
    File::open(path)?.take(2).read_to_end(&mut magic)?;
    Ok(magic == [0x1f, 0x8b])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

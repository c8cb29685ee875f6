//! Images of this host: archives and folders of a directory, by name.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::archive::Archive;
use crate::layers::Layers;
use crate::{ImageConfig, ImageError};

/// Where the parts of an image are.
#[derive(Debug)]
pub(crate) enum Found {
    /// Layers in the store, lowest first, by name.
    Layers(Vec<String>, ImageConfig),
    /// A folder that is used where it lies.
    Folder(PathBuf, ImageConfig),
}

/// Finds an image, and unpacks what is not unpacked yet.
pub(crate) fn find(layers: &Layers, directory: &Path, name: &str) -> Result<Found, ImageError> {
    let (path, tag) = look(directory, name)?;
    open(layers, &path, &tag).map_err(ImageError::of(name))
}

fn open(layers: &Layers, path: &Path, tag: &str) -> io::Result<Found> {
    let plain = || {
        let layer = layers.plain(path)?;
        Ok(Found::Layers(vec![layer], ImageConfig::default()))
    };
    if path.is_dir() {
        if let Some((folder, config)) = folder(path)? {
            return Ok(Found::Folder(folder, config));
        }
    } else if is_compressed(path)? {
        return plain();
    }
    let archive = Archive::open(path)?;
    let Some(manifest) = archive.manifest(tag)? else {
        return plain();
    };
    let parts = manifest.layers.iter().zip(&manifest.digests);
    let made = parts.map(|(name, digest)| layers.layer(digest, || archive.read(name)));
    let made = made.collect::<io::Result<_>>()?;
    Ok(Found::Layers(made, manifest.config))
}

/// What lies in `directory` under this name, and the tag that was asked for.
///
/// As Mesos's local puller: `<name>.tar`, where the name may hold a tag. Beside that, the tag may
/// be left out of the file's name, and the image may be a folder.
fn look(directory: &Path, name: &str) -> Result<(PathBuf, String), ImageError> {
    let legal = |part: &str| !part.is_empty() && part != "." && part != "..";
    if name.starts_with('/') || name.contains('\0') || !name.split('/').all(legal) {
        return Err(ImageError::Name {
            name: name.to_owned(),
            why: "that is no name of an image".to_owned(),
        });
    }
    let (bare, tag) = match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => (bare, tag),
        _ => (name, "latest"),
    };
    let tagged = format!("{bare}:{tag}");
    for stem in [name, &tagged, bare] {
        for end in [".tar", ".tar.gz", ".tgz", ""] {
            let path = directory.join(format!("{stem}{end}"));
            if path.is_file() || (end.is_empty() && path.is_dir()) {
                return Ok((path, tag.to_owned()));
            }
        }
    }
    Err(ImageError::NotFound {
        name: format!("{name}.tar"),
        place: directory.display().to_string(),
    })
}

/// A folder that is a root file system, or holds one with an appc manifest beside it.
fn folder(folder: &Path) -> io::Result<Option<(PathBuf, ImageConfig)>> {
    if folder.join("index.json").is_file() || folder.join("manifest.json").is_file() {
        return Ok(None);
    }
    let rootfs = folder.join("rootfs");
    if !rootfs.is_dir() {
        return Ok(Some((folder.canonicalize()?, ImageConfig::default())));
    }
    let config = match fs::read(folder.join("manifest")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => ImageConfig::default(),
        bytes => {
            let manifest: Appc = serde_json::from_slice(&bytes?)?;
            manifest.app.unwrap_or_default().into()
        }
    };
    Ok(Some((rootfs.canonicalize()?, config)))
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
    File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd])
}

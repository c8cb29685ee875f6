//! Image archives: what `docker save` writes, and the OCI layout, as tar files or unpacked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::ImageConfig;
use crate::config::{Document, machine};
use crate::error::odd;

/// A set of named files: a tar file with an index, or a folder.
#[derive(Debug)]
pub(crate) enum Archive {
    Tar {
        file: File,
        index: BTreeMap<PathBuf, Entry>,
    },
    Folder(PathBuf),
}

#[derive(Debug)]
pub(crate) enum Entry {
    File { offset: u64, size: u64 },
    Link(PathBuf),
}

/// What an archive says of an image.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// Names of the layers' files, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// SHA-256 of each layer's tar file, unpacked.
    pub(crate) digests: Vec<String>,
    pub(crate) config: ImageConfig,
}

/// Documents larger than this are not an image's.
const MAX_DOCUMENT: u64 = 8 << 20;

impl Archive {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = File::open(path)?;
        let mut index = BTreeMap::new();
        let mut archive = tar::Archive::new(BufReader::new(&file));
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = normal(&entry.path()?);
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                index.insert(name, Entry::File { offset, size });
            } else if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name()?.unwrap_or_default();
                let folder = name.parent().unwrap_or(Path::new("")).to_owned();
                let target = if kind.is_symlink() {
                    normal(&folder.join(target))
                } else {
                    normal(&target)
                };
                index.insert(name, Entry::Link(target));
            }
        }
        Ok(Self::Tar { file, index })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Tar { index, .. } => index.contains_key(Path::new(name)),
            Self::Folder(folder) => folder.join(name).is_file(),
        }
    }

    /// Opens one of its files.
    pub(crate) fn read(&self, name: &Path) -> io::Result<Box<dyn Read + '_>> {
        let name = normal(name);
        match self {
            Self::Folder(folder) => Ok(Box::new(BufReader::new(File::open(folder.join(name))?))),
            Self::Tar { file, index } => {
                let mut found = index.get(&name);
                // A link to a link is as far as `docker save` goes.
                for _ in 0..4 {
                    let Some(Entry::Link(target)) = found else {
                        break;
                    };
                    found = index.get(target);
                }
                let Some(&Entry::File { offset, size }) = found else {
                    let what = format!("the archive holds no '{}'", name.display());
                    return Err(io::Error::new(io::ErrorKind::NotFound, what));
                };
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(BufReader::new(file.take(size))))
            }
        }
    }

    fn document<T: for<'de> Deserialize<'de>>(&self, name: &Path) -> io::Result<T> {
        let mut bytes = Vec::new();
        self.read(name)?
            .take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let what = format!("'{}' is not understood: {error}", name.display());
            odd(what)
        })
    }

    /// The image with this tag, or the only one there is. `None` if this is no image archive.
    pub(crate) fn manifest(&self, tag: &str) -> io::Result<Option<Manifest>> {
        let (config, layers) = if self.has("manifest.json") {
            let mut saved: Vec<Saved> = self.document(Path::new("manifest.json"))?;
            let tagged = saved.iter().position(|image| {
                let tags = image.tags.iter().flatten();
                tags.filter_map(|tag| tag.rsplit_once(':'))
                    .any(|(_, found)| found == tag)
            });
            if saved.is_empty() {
                return Err(odd("the archive holds no image"));
            }
            let saved = saved.swap_remove(tagged.unwrap_or(0));
            (saved.config, saved.layers)
        } else if self.has("index.json") {
            let index: Index = self.document(Path::new("index.json"))?;
            let manifest = self.choose(index, tag, 0)?;
            let layers = manifest.layers.iter().map(Descriptor::path);
            (manifest.config.path()?, layers.collect::<Result<_, _>>()?)
        } else {
            return Ok(None);
        };
        let document: Document = self.document(&config)?;
        let (config, digests) = document.parts();
        if digests.len() != layers.len() {
            return Err(odd(
                "the image's configuration names other layers than its manifest",
            ));
        }
        Ok(Some(Manifest {
            layers,
            digests,
            config,
        }))
    }

    /// The manifest of an OCI index that fits this tag and this machine best.
    fn choose(&self, index: Index, tag: &str, depth: u32) -> io::Result<OciManifest> {
        const TAG: &str = "org.opencontainers.image.ref.name";
        let machine = machine();
        let rank = |one: &Descriptor| {
            let tagged = one.annotations.get(TAG).is_some_and(|found| found == tag);
            let platform = one.platform.as_ref();
            let ours = platform.is_none_or(|one| one.architecture == machine && one.os == "linux");
            (ours, tagged)
        };
        let best = index.manifests.into_iter().max_by_key(rank);
        let best = best.ok_or_else(|| odd("the archive holds no image"))?;
        if best.media_type.ends_with("index.v1+json") || best.media_type.contains("manifest.list") {
            if depth > 3 {
                return Err(odd("indexes in indexes in indexes"));
            }
            let index: Index = self.document(&best.path()?)?;
            return self.choose(index, tag, depth + 1);
        }
        self.document(&best.path()?)
    }
}

/// A stream as it is, or unpacked if it is compressed.
pub(crate) fn unpacked<'a>(mut source: Box<dyn Read + 'a>) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = [0; 4];
    let mut read = 0;
    while read < magic.len() {
        match source.read(&mut magic[read..])? {
            0 => break,
            more => read += more,
        }
    }
    let head = io::Cursor::new(magic[..read].to_vec());
    let whole = head.chain(source);
    match magic {
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(BufReader::new(whole)))),
        [0x28, 0xb5, 0x2f, 0xfd] => Ok(Box::new(zstd::Decoder::new(whole)?)),
        _ => Ok(Box::new(whole)),
    }
}

/// What `docker save` writes as `manifest.json`.
#[derive(Debug, Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: PathBuf,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct OciManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Descriptor {
    /// Where its content lies in an OCI layout.
    fn path(&self) -> io::Result<PathBuf> {
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        match self.digest.split_once(':') {
            Some((kind, hash)) if plain(kind) && plain(hash) => {
                Ok(Path::new("blobs").join(kind).join(hash))
            }
            _ => Err(odd("the archive holds a malformed digest")),
        }
    }
}

/// Relative, without `.` and `..`: names in archives never lead out of them.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => normal.push(part),
            Component::ParentDir => {
                normal.pop();
            }
            _ => {}
        }
    }
    normal
}

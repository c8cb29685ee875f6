//! Layers on disk, each unpacked once, by the digest of its tar file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sha2::{Digest, Sha256};

use crate::archive::unpacked;
use crate::error::odd;
use crate::{layer, name, tree};

/// The folder of layers, and what keeps it whole.
///
/// A layer is unpacked into `unpacking/…` and renamed when it is complete and its digest was
/// checked, so that a crash of the process leaves nothing that could be taken for a layer. A crash
/// of the host could, before the disk has all of it: until it does, a file `unsynced/<hash>.<boot>`
/// says under which boot the layer was written, and after another one the layer goes.
#[derive(Debug)]
pub(crate) struct Layers {
    root: PathBuf,
    boot: String,
    /// What a layer's files may add up to, in bytes.
    limit: u64,
    /// Held while a layer is unpacked: two images may share it.
    locks: Mutex<BTreeMap<String, Weak<Mutex<()>>>>,
}

impl Layers {
    pub(crate) fn new(root: PathBuf, limit: u64) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            root,
            boot: boot.trim().to_owned(),
            limit,
            locks: Mutex::default(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn unsynced(&self) -> PathBuf {
        self.root.join("unsynced")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Forgets what was half unpacked when an earlier process or the host died.
    pub(crate) fn recover(&self) -> io::Result<()> {
        // The folder above is the operator's, who may keep other things there.
        absent_is_fine(tree::remove(&self.root.join("unpacking")))?;
        private_folder(&self.folder())?;
        fs::create_dir_all(self.unsynced())?;
        for entry in fs::read_dir(self.unsynced())?.flatten() {
            let mark = entry.file_name().to_string_lossy().into_owned();
            let (layer, boot) = mark.rsplit_once('.').unwrap_or((&mark, ""));
            if boot != self.boot {
                absent_is_fine(tree::remove(&self.path(layer)))?;
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Has the disk take everything there is, and says so.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let marks: Vec<PathBuf> = fs::read_dir(self.unsynced())?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        if marks.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(File::open(&self.root)?)?;
        for mark in marks {
            absent_is_fine(fs::remove_file(mark))?;
        }
        Ok(())
    }

    /// The layer with this digest, unpacked from `open` if it is not there.
    pub(crate) fn layer<'a>(
        &self,
        digest: &str,
        open: impl FnOnce() -> io::Result<Box<dyn Read + 'a>>,
    ) -> io::Result<String> {
        let hash = name::hash(digest);
        let hash = hash.ok_or_else(|| odd(format!("'{digest}' is no SHA-256 digest")))?;
        self.make(hash, |folder| {
            let mut source = Hashing {
                source: unpacked(open()?)?,
                hash: Sha256::new(),
            };
            layer::unpack(&mut source, folder, self.limit)?;
            let found = hex(&source.hash.finalize());
            if found == hash {
                return Ok(());
            }
            Err(odd(format!(
                "a layer of digest {digest} has sha256:{found}"
            )))
        })
    }

    /// A root file system in one tar file. It has no digest: name, size and age stand for it.
    pub(crate) fn plain(&self, path: &Path) -> io::Result<String> {
        let metadata = path.metadata()?;
        let age = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
        let age = age.unwrap_or_default().as_nanos();
        let stands_for = format!("{}\0{}\0{age}", path.display(), metadata.len());
        let name = format!("file-{}", hex(&Sha256::digest(stands_for.as_bytes())));
        self.make(&name, |folder| {
            let source = unpacked(Box::new(BufReader::new(File::open(path)?)))?;
            layer::unpack(source, folder, self.limit)
        })
    }

    /// Whether there is a layer of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).is_dir()
    }

    fn make(&self, name: &str, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<String> {
        let lock = self.lock(name);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = self.path(name);
        if !layer.is_dir() {
            let made = Unpacking::new(&self.root)?;
            fill(&made.0)?;
            File::create(self.unsynced().join(format!("{name}.{}", self.boot)))?;
            fs::rename(&made.0, &layer)?;
        }
        Ok(name.to_owned())
    }

    fn lock(&self, name: &str) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Removes all layers but those named. Returns how many, and how many bytes they had.
    pub(crate) fn keep_only(&self, kept: &BTreeSet<String>) -> io::Result<(usize, u64)> {
        let (mut count, mut bytes) = (0, 0);
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kept.contains(&name) {
                continue;
            }
            bytes += size(&entry.path());
            // Renamed first: a crash leaves no layer that lacks some of its files.
            let going = Unpacking::new(&self.root)?;
            fs::rename(entry.path(), going.0.join(&name))?;
            count += 1;
        }
        Ok((count, bytes))
    }
}

/// Makes a folder that only its owner, root, reaches; one that is there is closed to all others.
///
/// What images bring has set-user-id programs with known holes, and device nodes, and containers
/// write such themselves: none is for whoever else is on the host (CVE-2021-41091).
///
/// # Errors
/// The system's reason.
pub fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// A folder that is removed unless it was renamed.
struct Unpacking(PathBuf);

impl Unpacking {
    fn new(root: &Path) -> io::Result<Self> {
        let unpacking = root.join("unpacking");
        private_folder(&unpacking)?;
        let folder = unpacking.join(uuid::Uuid::new_v4().to_string());
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // There no longer, if it was renamed.
        tree::remove(&self.0).ok();
    }
}

/// What is read through it is hashed.
pub(crate) struct Hashing<R> {
    pub(crate) source: R,
    pub(crate) hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

pub(crate) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What the files of a folder take on the disk, in bytes.
fn size(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| {
            let below = if metadata.is_dir() { size(&path) } else { 0 };
            metadata.blocks() * 512 + below
        })
        .sum()
}

//! Sandboxes and logs, shown over HTTP: `/files/*` and the file calls of the operator API.
//!
//! [`Files`] maps virtual paths to folders and files of the host; what is not below one of them
//! cannot be seen. Requests are answered from descriptors opened with `openat2(RESOLVE_IN_ROOT)`:
//! to a link or a `..` inside a sandbox, the attached folder is the whole world, even while a
//! task changes links under our hands.

mod names;
pub mod rotated;
mod routes;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use dcos_core::error::chain;
use dcos_proto::mesos::{FileInfo, TimeInfo};
use http::StatusCode;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat,
};
use rustix::io::Errno;

use crate::Refusal;

pub use self::routes::{asked_for, router};

/// The most that one request reads: 16 pages, as in Mesos.
pub const MAX_READ: u64 = 16 * 4096;

/// What can be seen, by virtual path. Clones share it.
///
/// # Source
/// Mesos 1.11 `src/files/files.cpp`. Departure: absolute links are followed inside the attached
/// folder, where the original follows them anywhere.
///
/// ```
/// use dcos_wire::files::Files;
///
/// let dir = std::env::temp_dir().join(format!("files-{}", std::process::id()));
/// std::fs::create_dir_all(&dir)?;
/// std::fs::write(dir.join("stdout"), "hello")?;
///
/// let files = Files::default();
/// files.attach("/sandbox", &dir);
/// let piece = files.read("/sandbox/stdout", 1, Some(3))?;
/// assert_eq!((piece.size, &piece.data[..]), (5, &b"ell"[..]));
/// assert!(files.read("/sandbox/../etc/passwd", 0, None).is_err());
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<RwLock<BTreeMap<String, Shown>>>);

/// What is shown: a path of ours, and below it, where others may have put links, what is meant.
#[derive(Debug, Clone)]
struct Shown {
    root: PathBuf,
    /// Empty, or a path with a slash in front.
    inside: String,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How long the whole file is, with what was rotated out of it.
    pub size: u64,
    /// Its bytes from the offset on.
    pub data: Vec<u8>,
}

/// Why a file cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// There is none, or it is none that may be seen.
    #[error("there is no '{0}'")]
    NotFound(String),
    /// It is a folder, device or pipe.
    #[error("'{0}' is not a file")]
    NotAFile(String),
    /// It cannot be read.
    #[error("reading '{path}'")]
    Read {
        /// The virtual path.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl Files {
    /// Shows the file or folder `real` at the virtual path `path`, replacing what was there.
    pub fn attach(&self, path: &str, real: impl Into<PathBuf>) {
        self.attach_below(path, real, "");
    }

    /// Shows what is at `inside` of the folder `root`, which others can write to: links on the way
    /// lead nowhere out of `root`.
    pub fn attach_below(&self, path: &str, root: impl Into<PathBuf>, inside: &str) {
        let shown = Shown {
            root: root.into(),
            inside: normal(inside),
        };
        let mut attached = self.0.write().unwrap_or_else(PoisonError::into_inner);
        attached.insert(normal(path), shown);
    }

    /// Shows nothing at `path` any more.
    pub fn detach(&self, path: &str) {
        let mut attached = self.0.write().unwrap_or_else(PoisonError::into_inner);
        attached.remove(&normal(path));
    }

    /// All that is attached.
    pub fn attached(&self) -> BTreeMap<String, PathBuf> {
        let attached = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let real = |shown: &Shown| match shown.inside.strip_prefix('/') {
            Some(inside) => shown.root.join(inside),
            None => shown.root.clone(),
        };
        let each = attached.iter();
        each.map(|(path, shown)| (path.clone(), real(shown)))
            .collect()
    }

    /// Under which name what leads to `path` is shown: the longest attached path it begins with.
    pub fn attachment(&self, path: &str) -> Option<String> {
        let path = normal(path);
        let (_, inside) = self.resolve(&path)?;
        Some(path[..path.len() - inside.len()].to_owned())
    }

    /// What lies in a folder, by name. Nothing lies in a file.
    ///
    /// # Errors
    /// [`FilesError`] if there is no such folder.
    pub fn list(&self, path: &str) -> Result<Vec<FileInfo>, FilesError> {
        let (root, below) = self.open(path, OFlags::PATH)?;
        if FileType::from_raw_mode(stat(path, &root)?.st_mode) != FileType::Directory {
            return Ok(Vec::new());
        }
        let failed = |error: rustix::io::Errno| FilesError::Read {
            path: path.to_owned(),
            source: error.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(&root, ".", flags, Mode::empty(), INSIDE).map_err(failed)?;
        let users = names::Names::read();
        let mut infos = Vec::new();
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let text = name.to_string_lossy();
            let within = format!("{}/{text}", below.inside);
            // What a link leads to, where that can be seen; else the link.
            let followed = openat2(
                &below.root,
                &within[1..],
                OFlags::PATH,
                Mode::empty(),
                INSIDE,
            );
            let found = match followed.and_then(fstat) {
                Ok(found) => found,
                Err(_) => match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(found) => found,
                    // Gone meanwhile.
                    Err(_) => continue,
                },
            };
            let path = format!("{}/{text}", path.trim_end_matches('/'));
            infos.push(info(path, &found, &users));
        }
        infos.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(infos)
    }

    /// [`list`](Self::list) for the operator API, without holding up others.
    ///
    /// # Errors
    /// 404 if there is no such folder.
    pub async fn listed(&self, path: String) -> Result<Vec<FileInfo>, Refusal> {
        self.ask(move |files| files.list(&path)).await
    }

    /// [`read`](Self::read) for the operator API, without holding up others.
    ///
    /// # Errors
    /// 404 if there is no such file, 400 if it is none.
    pub async fn piece(
        &self,
        path: String,
        offset: u64,
        length: Option<u64>,
    ) -> Result<Piece, Refusal> {
        self.ask(move |files| files.read(&path, offset, length))
            .await
    }

    /// Looks at the disk on a thread that may wait for it.
    async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(Self) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let files = self.clone();
        let broken = |text: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text);
        let looked = tokio::task::spawn_blocking(move || look(files)).await;
        let looked = looked.map_err(|error| broken(error.to_string()))?;
        looked.map_err(|error| match error {
            FilesError::NotFound(_) => Refusal::not_found(""),
            FilesError::NotAFile(_) => Refusal::bad_request("Cannot read a directory.\n"),
            FilesError::Read { .. } => broken(chain(&error).to_string()),
        })
    }

    /// At most `length` bytes from `offset` on, and never more than [`MAX_READ`]. Of a log that is
    /// [`rotated`], offsets count from its first byte ever, and what is no longer kept is empty.
    ///
    /// # Errors
    /// [`FilesError`] if there is no such file, or it cannot be read.
    pub fn read(&self, path: &str, offset: u64, length: Option<u64>) -> Result<Piece, FilesError> {
        self.read_rotated(path, offset, length.unwrap_or(MAX_READ).min(MAX_READ))
    }

    /// A plain file, opened, and its size.
    ///
    /// # Errors
    /// [`FilesError`] if there is no such file, or it is a folder, a pipe or a device.
    pub fn file(&self, path: &str) -> Result<(File, u64), FilesError> {
        // A pipe must not make us wait.
        let (file, _) = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let found = stat(path, &file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(FilesError::NotAFile(path.to_owned()));
        }
        let size = u64::try_from(found.st_size).unwrap_or_default();
        Ok((File::from(file), size))
    }

    /// Opens what `path` leads to, and tells the attached folder it is in.
    fn open(&self, path: &str, flags: OFlags) -> Result<(OwnedFd, Below), FilesError> {
        let not_found = || FilesError::NotFound(path.to_owned());
        let (shown, below) = self.resolve(path).ok_or_else(not_found)?;
        let (real, inside) = (shown.root, shown.inside + &below);
        let at = OFlags::PATH | OFlags::CLOEXEC;
        // The attached path itself is ours, links included (`runs/latest`).
        let root = rustix::fs::open(&real, at, Mode::empty()).map_err(|_| not_found())?;
        let flags = flags | OFlags::CLOEXEC;
        let opened = if inside.is_empty() {
            // A file may be attached as well as a folder.
            rustix::fs::open(&real, flags, Mode::empty())
        } else {
            openat2(&root, &inside[1..], flags, Mode::empty(), INSIDE)
        };
        match opened {
            Ok(opened) => Ok((opened, Below { root, inside })),
            Err(Errno::ACCESS | Errno::PERM | Errno::IO) => Err(FilesError::Read {
                path: path.to_owned(),
                source: io::ErrorKind::PermissionDenied.into(),
            }),
            Err(_) => Err(not_found()),
        }
    }

    /// What the longest attached path that leads to `path` shows, and what is below it.
    fn resolve(&self, path: &str) -> Option<(Shown, String)> {
        let path = normal(path);
        let attached = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut prefix = path.as_str();
        loop {
            if let Some(shown) = attached.get(prefix) {
                return Some((shown.clone(), path[prefix.len()..].to_owned()));
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

/// An attached folder, and where in it something is: empty, or a path with a slash in front.
struct Below {
    root: OwnedFd,
    inside: String,
}

const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// With one slash in front and none at the end or doubled; `..` stays, and leads nowhere above
/// what is attached.
fn normal(path: &str) -> String {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .flat_map(|part| ["/", part])
        .collect()
}

fn stat(path: &str, file: &OwnedFd) -> Result<Stat, FilesError> {
    fstat(file).map_err(|error| FilesError::Read {
        path: path.to_owned(),
        source: error.into(),
    })
}

fn info(path: String, found: &Stat, names: &names::Names) -> FileInfo {
    #[expect(
        clippy::useless_conversion,
        reason = "the width differs between machines"
    )]
    FileInfo {
        path,
        nlink: i32::try_from(found.st_nlink).ok(),
        size: u64::try_from(found.st_size).ok(),
        mtime: Some(TimeInfo {
            nanoseconds: i64::from(found.st_mtime).saturating_mul(1_000_000_000),
        }),
        mode: Some(found.st_mode),
        uid: Some(names.user(found.st_uid)),
        gid: Some(names.group(found.st_gid)),
    }
}

#[cfg(test)]
mod tests;

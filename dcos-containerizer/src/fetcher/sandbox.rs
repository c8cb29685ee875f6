//! Files put into a sandbox, and nowhere else.
//!
//! Everything goes through the sandbox's descriptor with `openat2(RESOLVE_BENEATH)`: a link or a
//! `..` that leads out makes the call fail, whoever put it there and whenever.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, mkdirat, openat2, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::containerizer::sandbox;

/// A sandbox, opened.
#[derive(Debug)]
pub(super) struct Sandbox {
    directory: OwnedFd,
    owner: Option<(u32, u32)>,
}

impl Sandbox {
    pub(super) fn open(path: &Path, owner: Option<(u32, u32)>) -> Result<Self, String> {
        let (_, directory) = sandbox::open(path)
            .map_err(|error| format!("opening the sandbox {}: {error}", path.display()))?;
        Ok(Self { directory, owner })
    }

    /// Writes a file, replacing what has its name.
    pub(super) fn put(&self, name: &str, from: &mut dyn Read, mode: u32) -> Result<u64, String> {
        self.write(Path::new(name), from, mode)
            .map_err(|error| format!("writing '{name}' into the sandbox: {error}"))
    }

    pub(super) fn write(&self, name: &Path, from: &mut dyn Read, mode: u32) -> io::Result<u64> {
        let (folder, file) = self.parent(name)?;
        remove(&folder, file)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(openat2(&folder, file, flags, Mode::from(0o600), STAY)?);
        let copied = io::copy(from, &mut file)?;
        if let Some((uid, gid)) = self.owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        fchmod(&file, Mode::from(mode & 0o777))?;
        Ok(copied)
    }

    /// Makes a folder and those above it.
    pub(super) fn folder(&self, name: &Path) -> io::Result<OwnedFd> {
        let mut folder = self.directory.try_clone()?;
        for component in plain(name)?.components() {
            let part = Path::new(component.as_os_str());
            match mkdirat(&folder, part, Mode::from(0o755)) {
                Ok(()) => self.own(&folder, part)?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            folder = openat2(&folder, part, flags, Mode::empty(), STAY)?;
        }
        Ok(folder)
    }

    /// Makes a symbolic link. What it points to does not matter: nothing here follows it.
    pub(super) fn link(&self, name: &Path, target: &Path) -> io::Result<()> {
        let (folder, file) = self.parent(name)?;
        remove(&folder, file)?;
        symlinkat(target, &folder, file)?;
        self.own(&folder, file)
    }

    /// Opens a file that is there, for reading.
    pub(super) fn read(&self, name: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = plain(name)?;
        Ok(openat2(&self.directory, &name, flags, Mode::empty(), STAY)?.into())
    }

    /// Adds to a file, as far as possible.
    pub(super) fn append(&self, name: &str, text: &str) {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let file = openat2(&self.directory, name, flags, Mode::from(0o644), STAY);
        let told = file.map_err(io::Error::from).and_then(|file| {
            self.own(&self.directory, Path::new(name))?;
            File::from(file).write_all(text.as_bytes())
        });
        if let Err(error) = told {
            tracing::debug!(%error, text, "could not tell the sandbox");
        }
    }

    fn parent<'a>(&self, name: &'a Path) -> io::Result<(OwnedFd, &'a Path)> {
        let file = name.file_name().ok_or_else(|| refused(name))?;
        let folder = self.folder(name.parent().unwrap_or(Path::new("")))?;
        Ok((folder, Path::new(file)))
    }

    fn own(&self, folder: impl AsFd, name: &Path) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(
                folder,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }
}

const STAY: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn remove(folder: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The path without `.`, if it stays inside.
fn plain(name: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => plain.push(part),
            Component::CurDir => {}
            _ => return Err(refused(name)),
        }
    }
    Ok(plain)
}

fn refused(name: &Path) -> io::Error {
    let why = format!("'{}' leads out of the sandbox", name.display());
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// What a URI's file is called: its last part, without query and fragment.
pub(super) fn name_of(uri: &str) -> Result<String, String> {
    let path = match uri.split_once("://") {
        Some((_, rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or(rest);
            rest.split_once('/').map_or("", |(_, path)| path)
        }
        None => uri,
    };
    let name = path.rsplit('/').next().unwrap_or("");
    if name.is_empty() || name == "." || name == ".." || uri.contains(['\\', '\'', '\0']) {
        return Err("it names no file".into());
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_last_part() {
        let name = |uri: &str| name_of(uri).ok();
        assert_eq!(name("http://h/a/b.tgz?x=/y#z").as_deref(), Some("b.tgz"));
        assert_eq!(name("/a/b").as_deref(), Some("b"));
        assert_eq!(name("b").as_deref(), Some("b"));
        for none in ["http://h", "http://h/", "/a/", "/a/..", "a\\b"] {
            assert_eq!(name(none), None, "{none}");
        }
    }

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("sandbox");
        std::fs::create_dir(&inside).unwrap();
        let sandbox = Sandbox::open(&inside, None).unwrap();
        sandbox.put("deep/er/file", &mut &b"x"[..], 0o644).unwrap();
        for name in ["../out", "/out", "a/../../out", "..", ""] {
            assert!(sandbox.put(name, &mut &b"x"[..], 0o644).is_err(), "{name}");
        }
        sandbox.link(Path::new("link"), dir.path()).unwrap();
        assert!(sandbox.put("link/out", &mut &b"x"[..], 0o644).is_err());
        // A link is replaced, not followed.
        let out = dir.path().join("out");
        std::fs::write(&out, "old").unwrap();
        sandbox.link(Path::new("file"), &out).unwrap();
        sandbox.put("file", &mut &b"new"[..], 0o644).unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "old");
        assert_eq!(std::fs::read_to_string(inside.join("file")).unwrap(), "new");
    }
}

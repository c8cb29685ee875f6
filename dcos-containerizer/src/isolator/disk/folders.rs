//! Folders and their projects.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use dcos_image::tree::{self, Part, Visitor};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::kernel;
use crate::isolator::IsolatorError;

/// The project of a folder, if it has one.
pub(super) fn bears(folder: &Path) -> Result<Option<u32>, IsolatorError> {
    let id = super::open(folder).and_then(|file| kernel::project(&file));
    match id {
        Ok(id) => Ok((id != 0).then_some(id)),
        // It was removed a moment ago.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IsolatorError::file("asking for the project of", folder)(
            error,
        )),
    }
}

/// Gives a folder, and all files and folders in it, to a project. Links, devices and the like cannot be given.
pub(super) fn mark(folder: &Path, id: u32) -> Result<(), IsolatorError> {
    super::open(folder)
        .and_then(|top| tree::walk(top.as_fd(), &mut Marking(id)))
        .map_err(IsolatorError::file("giving a project to", folder))
}

struct Marking(u32);

impl Visitor for Marking {
    fn enter(&mut self, folder: BorrowedFd<'_>, from: i64, room: usize) -> io::Result<Part> {
        let mut part = Part::default();
        let mut entries = Dir::read_from(folder)?;
        if from == 0 {
            // First: what is made from here on inherits it.
            kernel::set_project(folder, self.0, true)?;
        } else {
            entries.seek(from)?;
        }
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => {
                    part.folders.push(name.to_owned());
                    if part.folders.len() == room {
                        part.rest = Some(entry.offset());
                        break;
                    }
                }
                FileType::RegularFile => {
                    let flags =
                        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    match openat(folder, name, flags, Mode::empty()) {
                        Ok(file) => kernel::set_project(file, self.0, false)?,
                        // It is gone, or something else by now.
                        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                _ => {}
            }
        }
        Ok(part)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &CStr) -> io::Result<()> {
        Ok(())
    }

    /// What is mounted in it is of another file system, or has a project of its own.
    fn pass(&mut self, _: BorrowedFd<'_>, _: &CStr, _: Errno) -> io::Result<()> {
        Ok(())
    }
}

/// Folders of a tree, by the names on the way to them; `*` is any. Links are none. What cannot be listed is told to
/// `unknown`.
pub(super) fn below(
    root: &Path,
    names: &[&str],
    unknown: &mut impl FnMut(&Path, &dyn fmt::Display),
) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    for name in names {
        let mut next = Vec::new();
        for folder in folders {
            if *name != "*" {
                next.push(folder.join(name));
                continue;
            }
            let entries = fs::read_dir(&folder);
            let listed = entries.and_then(|mut all| {
                all.try_for_each(|entry| {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        next.push(entry.path());
                    }
                    Ok(())
                })
            });
            match listed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => unknown(&folder, &error),
                _ => {}
            }
        }
        folders = next;
    }
    folders
}

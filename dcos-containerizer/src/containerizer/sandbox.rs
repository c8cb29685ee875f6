//! Directories of containers on the host, and whose they are.

use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use crate::isolator::users::User;

/// The user and group that `name` means: on the host, and else in the container's root.
///
/// # Errors
/// A text: there is no such user.
pub fn owner(name: Option<&str>, rootfs: Option<&Path>) -> Result<Option<(u32, u32)>, String> {
    let Some(name) = name else {
        return Ok(None);
    };
    let user =
        User::of_container(name, rootfs).ok_or_else(|| format!("there is no user `{name}`"))?;
    Ok(Some((user.uid, user.gid)))
}

/// Makes a sandbox that only its owner and root can look into; one that is there stays as it is.
///
/// # Errors
/// The system's reason.
pub fn make(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().mode(0o750).create(directory)?;
    match owner {
        Some((uid, gid)) => chown(directory, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

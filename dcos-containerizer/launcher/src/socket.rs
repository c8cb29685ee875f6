//! Names of sockets that fit into an address.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

/// A name of `socket` that fits into an address (107 bytes, `unix(7)`), however deep the folder is that it is in: good
/// for this process, as long as the folder beside it is open.
///
/// # Errors
/// There is no such folder, or it may not be looked into.
pub fn short_name(socket: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (folder, name) = match (socket.parent(), socket.file_name()) {
        (Some(folder), Some(name)) if !folder.as_os_str().is_empty() => (folder, name),
        (_, name) => (Path::new("."), name.unwrap_or_default()),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(folder, flags, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    Ok((folder, short.join(name)))
}

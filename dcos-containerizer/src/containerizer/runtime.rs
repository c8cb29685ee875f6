//! State that is lost with the host: files below `--runtime_dir`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dcos_proto::mesos::ContainerId;

/// Writes a file that is there whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    // Not synced: this has to outlive us, not the host.
    // Nobody else reads it: an environment may hold secrets.
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    fs::rename(new, path)
}

/// The id that [`ContainerId`]'s `Display` wrote.
pub(crate) fn parse_id(name: &str) -> ContainerId {
    let mut values = name.split('.');
    let root = ContainerId::root(values.next().unwrap_or_default());
    values.fold(root, |parent, value| parent.child(value))
}

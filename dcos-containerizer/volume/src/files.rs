//! Names and files of this crate.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Makes a folder, and those above it, that only its owner looks into.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Writes a file that is there whole or not at all, also after a crash of the host.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(new, path)?;
    path.parent()
        .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// As `done`, but what is not there is gone.
pub(crate) fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Whether something is mounted at `folder`.
pub(crate) fn is_mounted(folder: &Path) -> io::Result<bool> {
    let above = folder.parent().unwrap_or(folder);
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => Ok(found?.dev() != fs::metadata(above)?.dev()),
    }
}

/// Whether a name can be that of a file as it is.
pub(crate) fn is_plain(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(fits)
}

/// A name as that of a file: itself if it can be, else its digest.
pub(crate) fn file_name(name: &str) -> String {
    if is_plain(name) && !name.starts_with("sha256-") {
        return name.to_owned();
    }
    let digest = Sha256::digest(name.as_bytes());
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    digits.fold("sha256-".to_owned(), |text, digit| text + &digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["data", "pvc-1_2.x"] {
            assert_eq!(file_name(name), name);
        }
        let names = ["", ".", "..", "a/b", "../x", "sha256-00", "ä", ".x"].map(file_name);
        for name in &names {
            assert!(is_plain(name) && name.len() == 71, "{name}");
        }
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }
}

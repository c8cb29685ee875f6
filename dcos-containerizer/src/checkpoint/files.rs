//! Batches of changes to files that are durable when they return.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Changes that become durable together. Replacements are atomic one by one: a crash leaves the
/// old contents or the new.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Written beside their place, and to be renamed.
    fresh: Vec<(File, PathBuf, PathBuf)>,
    /// The places of those.
    replaced: BTreeSet<PathBuf>,
    /// Whose entries changed.
    directories: BTreeSet<PathBuf>,
    /// Which of them did last.
    last: Option<PathBuf>,
}

impl Batch {
    /// Puts `contents` in the place of a file, which need not exist.
    pub(super) fn replace(&mut self, path: &Path, contents: &[u8]) -> io::Result<()> {
        self.make_parent(path)?;
        let beside = path.with_added_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(contents)?;
        if !self.replaced.insert(path.to_owned()) {
            // What stood beside is overwritten, and can be renamed only once.
            self.fresh.retain(|(_, _, earlier)| earlier != path);
        }
        self.fresh.push((file, beside, path.to_owned()));
        Ok(())
    }

    /// Points a symbolic link somewhere.
    pub(super) fn link(&mut self, path: &Path, target: &str) -> io::Result<()> {
        self.make_parent(path)?;
        let beside = path.with_added_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(target, &beside)?;
        fs::rename(&beside, path)?;
        self.changed(path);
        Ok(())
    }

    /// Removes a file or link, which need not exist.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.changed(path);
                Ok(())
            }
        }
    }

    /// Makes a directory and those above it.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.make_parent(path)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => {
                self.changed(path);
                Ok(())
            }
        }
    }

    /// Returns when everything is on stable storage.
    pub(super) fn commit(mut self) -> io::Result<()> {
        side_by_side(&self.fresh, |(file, _, _)| file.sync_all())?;
        for (_, beside, path) in std::mem::take(&mut self.fresh) {
            fs::rename(&beside, &path)?;
            self.changed(&path);
        }
        if let Some(last) = &self.last {
            let last = File::open(last)?;
            if have_one_log(&self.directories, &last)? {
                return last.sync_all();
            }
        }
        let directories: Vec<_> = self.directories.iter().collect();
        side_by_side(&directories, |directory| File::open(directory)?.sync_all())
    }

    fn make_parent(&mut self, path: &Path) -> io::Result<()> {
        path.parent()
            .map_or(Ok(()), |parent| self.directory(parent))
    }

    fn changed(&mut self, path: &Path) {
        if let Some(parent) = path.parent() {
            self.directories.insert(parent.to_owned());
            self.last = Some(parent.to_owned());
        }
    }
}

/// Whether all directories are on one file system that writes their changes to one log, in order: then
/// syncing the one that changed last makes the changes of all durable. XFS, and ext4 with a journal.
fn have_one_log(directories: &BTreeSet<PathBuf>, last: &File) -> io::Result<bool> {
    let device = last.metadata()?.dev();
    for directory in directories {
        if directory.metadata()?.dev() != device {
            return Ok(false);
        }
    }
    let kind = u64::try_from(rustix::fs::fstatfs(last)?.f_type);
    Ok(match kind {
        Ok(XFS) => true,
        Ok(EXT4) => has_journal(device).unwrap_or(false),
        _ => false,
    })
}

const XFS: u64 = 0x5846_5342;
/// Ext2 and ext3 as well, which the same driver serves.
const EXT4: u64 = 0xef53;

fn has_journal(device: u64) -> Option<bool> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let block = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let journal = Path::new("/sys/fs/ext4").join(block.file_name()?);
    Some(journal.join("journal_task").exists())
}

/// How many files are synchronised at a time.
const LANES: usize = 8;

/// Does all of `items`, some at a time: a journal commits what comes together in one go, where
/// one after the other would each wait for a commit of its own.
pub(super) fn side_by_side<T: Sync>(
    items: &[T],
    act: impl Fn(&T) -> io::Result<()> + Sync,
) -> io::Result<()> {
    if items.len() < 2 {
        return items.iter().try_for_each(act);
    }
    let act = &act;
    std::thread::scope(|scope| {
        let lanes = items.chunks(items.len().div_ceil(LANES));
        let lanes: Vec<_> = lanes
            .map(|lane| scope.spawn(move || lane.iter().try_for_each(act)))
            .collect();
        lanes.into_iter().try_for_each(|lane| {
            lane.join()
                .unwrap_or_else(|_| Err(io::Error::other("a sync panicked")))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_replacements_in_a_batch_the_later_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file");
        let mut batch = Batch::default();
        batch.replace(&path, b"first and longer").unwrap();
        batch
            .replace(&folder.path().join("other"), b"other")
            .unwrap();
        batch.replace(&path, b"second").unwrap();
        batch.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}

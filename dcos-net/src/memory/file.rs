//! [`MemoryFile`]: where a [`Journal`](super::Journal) is kept. Its calls block.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use dcos_core::time::Time;

use super::{Journal, Keeping, Remembered, Unreadable, Write};

/// A file of this node's own, which only its user may read: what is known of tasks may hold what others are not to see.
#[derive(Debug)]
pub struct MemoryFile {
    keeping: Keeping,
    /// What was written here, to be gone on with.
    file: Option<File>,
}

impl MemoryFile {
    /// The file, which need not be there.
    pub fn new(keeping: Keeping) -> Self {
        Self {
            keeping,
            file: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.keeping.path
    }

    /// What time it is, by the clock that ages are told by.
    pub fn now(&self) -> Time {
        (self.keeping.clock)()
    }

    /// What is to be written there first.
    pub fn journal(&self) -> Journal {
        Journal::new(self.keeping.origin.clone())
    }

    /// What an earlier process knew, if there was one, as far as it [counts](Keeping::judge) now.
    ///
    /// # Errors
    /// What is there is not understood, or does not count.
    pub fn read(&self) -> Result<Option<Remembered>, Unreadable> {
        match std::fs::read(self.path()) {
            Ok(text) => self
                .keeping
                .judge(self.now(), Remembered::read(&text)?)
                .map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what a journal says: a process that is killed then loses nothing of it. It is not waited until what is appended
    /// is on the disk: a host that loses its power may lose the last half minute.
    ///
    /// # Errors
    /// What the system said. The file goes on saying what was so before, and when: a disk that is full for a moment, before a
    /// reboot, must not cost that.
    pub fn carry_out(&mut self, write: &Write) -> io::Result<()> {
        let done = self.write(write);
        if done.is_err() {
            self.file = None;
        }
        done
    }

    fn write(&mut self, write: &Write) -> io::Result<()> {
        match write {
            Write::Replace(text) => {
                self.file = None;
                self.file = Some(self.replace(text)?);
                Ok(())
            }
            Write::Append(text) => {
                let file = self.file.as_mut();
                let file = file.ok_or_else(|| io::Error::other("nothing to go on with"))?;
                file.write_all(text)
            }
        }
    }

    fn replace(&self, text: &[u8]) -> io::Result<File> {
        let folder = self.path().parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder)?;
        let beside = self.path().with_extension("new");
        let replace = || {
            let mut file = private(&beside)?;
            file.write_all(text)?;
            // In this order, so that power that fails leaves one of the two, and whole.
            file.sync_all()?;
            std::fs::rename(&beside, self.path())?;
            File::open(folder)?.sync_all()?;
            Ok(file)
        };
        replace().inspect_err(|_| {
            // The error is the one that counts.
            let _ = std::fs::remove_file(&beside);
        })
    }
}

fn private(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::{Around, Follower, Origin};

    #[test]
    fn what_is_written_is_read_by_its_owner_and_what_is_no_memory_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips/state");
        let keeping = Keeping {
            clock: || Time::from_secs(3),
            ..Keeping::new(path.clone(), Origin::default())
        };
        let mut file = MemoryFile::new(keeping.clone());
        assert!(file.read().unwrap().is_none());
        let mut around = Around::default();
        let (mut journal, mut follower) = (file.journal(), Follower::of_all());
        for last in 1..=3 {
            around.addresses.insert([10, 0, 0, last].into());
            let entry = journal.next(Time::from_secs(last.into()), &around, &mut follower);
            file.carry_out(&journal.encode(entry.unwrap())).unwrap();
            let known = file.read().unwrap().unwrap();
            assert_eq!(known.around, around);
            assert_eq!(known.written, Time::from_secs(last.into()));
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        // Another process begins anew. What cannot be gone on with, or replaced, stays.
        let mut other = MemoryFile::new(keeping);
        other.carry_out(&Write::Append(vec![1])).unwrap_err();
        let beside = path.with_extension("new");
        std::fs::create_dir(&beside).unwrap();
        other.carry_out(&Write::Replace(vec![1])).unwrap_err();
        std::fs::remove_dir(&beside).unwrap();
        assert_eq!(other.read().unwrap().unwrap().written, Time::from_secs(3));
        // Nothing is left beside it by a write that fails.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        other.carry_out(&Write::Replace(vec![1])).unwrap_err();
        assert!(!beside.exists());
        std::fs::remove_dir(&path).unwrap();
        for (text, expected) in [
            (&b""[..], "it was not written by this program"),
            (b"{\"leader\": 1}\n", "it was not written by this program"),
            (
                b"dcos-net memory 2\nabc",
                "its version is 2, and 1 is understood",
            ),
            (b"dcos-net memory 1", "it is damaged, or incomplete"),
            (b"dcos-net memory 1\n", "it is damaged, or incomplete"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = other.read().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}

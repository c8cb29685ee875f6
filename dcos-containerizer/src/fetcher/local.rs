//! Local files, as far as the container's user may read them.
//!
//! We may be root; the task is not. What its user could not read is not read for it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::isolator::IsolatorError;
use crate::isolator::patience::{self, Going};

/// Copies the file at `path` in a thread of its own: a file system that does not answer holds up nobody else.
/// Fails when nothing comes for as long as `stall`, and then at once until the kernel lets that thread end.
pub(super) async fn copy(
    path: &Path,
    mut source: File,
    mut target: File,
    stall: Duration,
) -> Result<(), String> {
    let work = move |going: &Going| {
        loop {
            let some = io::copy(&mut source.by_ref().take(STEP), &mut target);
            let failed = |error| IsolatorError::refused(format!("copying it: {error}"));
            if some.map_err(failed)? == 0 {
                return Ok(());
            }
            going.moved()?;
        }
    };
    let copied = patience::wait_on(stall, path, work).await;
    copied.map_err(|error| error.to_string())
}

/// How much is copied before it counts.
const STEP: u64 = 1 << 20;

/// Opens a file for reading, on behalf of `owner`.
pub(super) fn open(path: &Path, owner: Option<(u32, u32)>) -> Result<File, String> {
    let failed = |error: io::Error| format!("opening {}: {error}", path.display());
    let real = path.canonicalize().map_err(failed)?;
    if let Some(owner) = owner {
        for folder in real.ancestors().skip(1) {
            let metadata = folder.metadata().map_err(failed)?;
            if !may(&metadata, owner, 0o1) {
                let folder = folder.display();
                return Err(format!(
                    "{folder} may not be entered by the container's user"
                ));
            }
        }
    }
    // The links were followed above.
    let (file, metadata) = regular(&real)?;
    match owner {
        Some(owner) if !may(&metadata, owner, 0o4) => {
            let path = path.display();
            Err(format!("{path} may not be read by the container's user"))
        }
        _ => Ok(file),
    }
}

/// Opens what is a file and no link to one.
pub(super) fn regular(path: &Path) -> Result<(File, Metadata), String> {
    let failed = |error: io::Error| format!("opening {}: {error}", path.display());
    let file = File::options()
        .read(true)
        // A pipe or device must not make us wait.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    Ok((file, metadata))
}

/// Whether permission bit `bit` (4 read, 1 enter) is given to this user.
fn may(metadata: &Metadata, (uid, gid): (u32, u32), bit: u32) -> bool {
    let mode = metadata.mode();
    let class = if metadata.uid() == uid {
        mode >> 6
    } else if metadata.gid() == gid {
        mode >> 3
    } else {
        mode
    };
    uid == 0 || class & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_the_user_may_not_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let somebody = Some((4242, 4242));
        mode(dir.path(), 0o755);
        mode(&file, 0o644);
        assert!(open(&file, somebody).is_ok());
        mode(&file, 0o640);
        let error = open(&file, somebody).unwrap_err();
        assert!(error.contains("may not be read"), "{error}");
        assert!(open(&file, None).is_ok());
        mode(&file, 0o644);
        mode(dir.path(), 0o700);
        let error = open(&file, somebody).unwrap_err();
        assert!(error.contains("may not be entered"), "{error}");
        assert!(open(dir.path(), None).is_err());
    }

    #[test]
    fn only_files_are_opened_and_nobody_waits_for_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let error = open(path, None).unwrap_err();
            assert!(error.contains("is not a file"), "{error}");
        }
    }

    /// A pipe that nobody closes stands for a server that has died.
    #[tokio::test]
    async fn a_file_that_stands_still_costs_one_thread() {
        let soon = Duration::from_millis(100);
        let path = Path::new("/no/such/stalled");
        let target = || tempfile::tempfile().unwrap();
        let source = |pipe: io::PipeReader| File::from(std::os::fd::OwnedFd::from(pipe));
        let (reader, writer) = io::pipe().unwrap();
        let error = copy(path, source(reader), target(), soon)
            .await
            .unwrap_err();
        assert!(
            error.contains("/no/such/stalled does not answer"),
            "{error}"
        );
        let ready = || source(io::pipe().unwrap().0);
        let error = copy(path, ready(), target(), soon).await.unwrap_err();
        assert!(error.contains("has not answered since"), "{error}");
        drop(writer);
        while copy(path, ready(), target(), soon).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

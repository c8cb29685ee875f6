//! Local files, as far as the container's user may read them.
//!
//! We may be root; the task is not. What its user could not read is not read for it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::stood_still;

/// Copies a file in a thread of its own: a file system that does not answer holds up nobody else.
/// Fails when nothing comes for as long as `stall`; the thread ends once the kernel lets it.
pub(super) async fn copy(
    mut source: File,
    mut target: File,
    stall: Duration,
) -> Result<(), String> {
    let (done, mut outcome) = oneshot::channel();
    let copied = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&copied);
    let work = move || {
        let mut some = Ok(1);
        while !done.is_closed() && !matches!(some, Ok(0) | Err(_)) {
            some = io::copy(&mut source.by_ref().take(STEP), &mut target);
            counted.fetch_add(*some.as_ref().unwrap_or(&0), Ordering::Relaxed);
        }
        done.send(some).ok();
    };
    let thread = std::thread::Builder::new().name("fetch".into());
    let thread = thread.spawn(work);
    thread.map_err(|error| format!("beginning a thread: {error}"))?;
    let mut seen = 0;
    loop {
        match tokio::time::timeout(stall, &mut outcome).await {
            Ok(Ok(Ok(_))) => return Ok(()),
            Ok(Ok(Err(error))) => return Err(format!("copying it: {error}")),
            Ok(Err(_)) => return Err("copying it panicked".into()),
            Err(_) if copied.load(Ordering::Relaxed) == seen => return Err(stood_still(stall)),
            Err(_) => seen = copied.load(Ordering::Relaxed),
        }
    }
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
}

//! Local files, as far as the container's user may read them.
//!
//! We may be root; the task is not. What its user could not read is not read for it.

use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Opens a file for reading, on behalf of `owner`.
pub(super) fn open(path: &Path, owner: Option<(u32, u32)>) -> Result<File, String> {
    let failed = |error: std::io::Error| format!("opening {}: {error}", path.display());
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
    let file = File::options()
        .read(true)
        // The links were followed above; a pipe or device must not make us wait.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&real)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let path = path.display();
    if !metadata.is_file() {
        return Err(format!("{path} is not a file"));
    }
    match owner {
        Some(owner) if !may(&metadata, owner, 0o4) => {
            Err(format!("{path} may not be read by the container's user"))
        }
        _ => Ok(file),
    }
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

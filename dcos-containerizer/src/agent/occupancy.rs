//! One agent at a time in a work directory: two would write into each other's checkpoints, and end each
//! other's containers.
//!
//! The lock is the system's (`flock(2)`) and ends with the process, however that ends. It is on a file that nobody else
//! may open: whoever can open what is locked can lock it, too.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::shell::AgentError;

/// An agent that was just killed may still be on its way out.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });
const PAUSE: Duration = Duration::from_millis(50);

/// Takes the work directory, which is made if it is missing, for as long as the file lives.
///
/// # Errors
/// [`AgentError::Occupied`] if another agent has it and does not let go.
pub async fn occupy(work_dir: &Path) -> Result<File, AgentError> {
    let unusable = |source| AgentError::WorkDir {
        work_dir: work_dir.to_owned(),
        source,
    };
    let file = fs::create_dir_all(work_dir).and_then(|()| {
        let mut how = File::options();
        how.create(true).truncate(false).write(true).mode(0o600);
        how.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        how.open(work_dir.join("agent.lock"))
    });
    let file = file.map_err(unusable)?;
    let take = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(unusable(io::Error::from(error))),
            }
        }
    };
    let taken = tokio::time::timeout(PATIENCE, take).await;
    let occupied = |_| AgentError::Occupied {
        work_dir: work_dir.to_owned(),
    };
    taken.map_err(occupied)??;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let work_dir = folder.path().join("made/on/the/way");
        let first = occupy(&work_dir).await.unwrap();
        let mode = fs::metadata(work_dir.join("agent.lock")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o600, "others could lock it");
        let refused = occupy(&work_dir).await.unwrap_err().to_string();
        assert!(refused.contains("made/on/the/way"), "{refused}");
        // One that is on its way out is waited for.
        let (second, ()) = tokio::join!(occupy(&work_dir), async { drop(first) });
        drop(second.unwrap());
        occupy(&work_dir).await.unwrap();
    }
}

//! What only Hadoop's client can get: `hdfs://`, and every scheme that nobody else here knows.
//!
//! The client runs as the container's user, in a folder of that user's own, with no more of our
//! environment than it needs.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::{FetchRequest, local, nameless};

/// A file as the client left it; its folder goes with this.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) file: File,
    pub(super) path: PathBuf,
    _folder: Folder,
}

/// Has the client below `home`, or else in `PATH`, copy what `uri` names into a folder below
/// `directory`. Dropping the future ends the client and what it began.
pub(super) async fn fetch(
    home: Option<&Path>,
    request: &FetchRequest,
    uri: &str,
    directory: &Path,
) -> Result<Fetched, String> {
    let failed = |error: io::Error| format!("preparing Hadoop's client: {error}");
    let folder = Folder::make(directory, request.owner).map_err(failed)?;
    let target = folder.0.join("file");
    let mut said = nameless(directory).map_err(failed)?;

    let program = match home {
        Some(home) => home.join("bin/hadoop"),
        None => PathBuf::from("hadoop"),
    };
    let mut command = Command::new(&program);
    command.args(["fs", "-copyToLocal", uri]).arg(&target);
    command.env_clear();
    // In a user namespace the user has no name but this. What the operator says goes first.
    command.envs(request.user.iter().map(|user| ("HADOOP_USER_NAME", user)));
    command.envs(std::env::vars_os().filter(is_for_clients));
    command.envs(home.map(|home| ("HADOOP_HOME", home)));
    command.env("HOME", &folder.0).current_dir(&folder.0);
    if let Some((uid, gid)) = request.owner {
        command.uid(uid).gid(gid);
    }
    command.stdin(Stdio::null());
    command.stdout(said.try_clone().map_err(failed)?);
    command.stderr(said.try_clone().map_err(failed)?);
    command.process_group(0).kill_on_drop(true);
    let mut client = command.spawn().map_err(|error| {
        let program = program.display();
        format!("its scheme needs Hadoop's client, '{program}' (--hadoop_home): {error}")
    })?;
    let group = Group::of(client.id());
    let status = client.wait().await.map_err(failed)?;
    group.ended();
    if !status.success() {
        let said = super::said_of(uri, &end_of(&mut said).map_err(failed)?);
        return Err(format!("Hadoop's client ended with {status}: {said}"));
    }
    let (file, metadata) = local::regular(&target)?;
    // A link that the user made to what is another's.
    if request.owner.is_some_and(|(uid, _)| uid != metadata.uid()) {
        return Err("what Hadoop's client left is not the container's user's".into());
    }
    Ok(Fetched {
        file,
        path: target,
        _folder: folder,
    })
}

/// Whether a variable of ours is meant for the client.
fn is_for_clients((name, _): &(OsString, OsString)) -> bool {
    let name = name.to_str().unwrap_or_default();
    let families = ["HADOOP_", "KRB5", "LC_"];
    ["PATH", "JAVA_HOME", "LANG", "TZ"].contains(&name)
        || families.iter().any(|family| name.starts_with(family))
}

/// The last of what a client said, as one line.
fn end_of(said: &mut File) -> io::Result<String> {
    let length = said.seek(SeekFrom::End(0))?;
    said.seek(SeekFrom::Start(length.saturating_sub(1024)))?;
    let mut end = Vec::new();
    said.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).trim().replace('\n', "; "))
}

/// A folder for one file, removed with all that is in it.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make(directory: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let folder = Self(directory.join(format!("hadoop-{}", uuid::Uuid::new_v4())));
        DirBuilder::new().mode(0o700).create(&folder.0)?;
        if let Some((uid, gid)) = owner {
            chown(&folder.0, Some(uid), Some(gid))?;
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "could not remove a client's folder");
        }
    }
}

/// The processes of a client, killed if it is not waited for.
struct Group(Option<Pid>);

impl Group {
    fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

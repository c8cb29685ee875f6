//! Volumes in files: a file system of a fixed size each, on a loop device.
//!
//! For volumes that need a bound of their own where the node's disks have no quotas. Files are
//! sparse: what is not written takes no disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use rustix::mount::{UnmountFlags, unmount};
use tokio::process::Command;

use crate::files::{self, gone, is_mounted, is_plain};
use crate::{VolumeDriver, VolumeError, VolumeRequest};

/// File systems that can be made, and how their mkfs(8) is told to be quiet and to go on.
const FILE_SYSTEMS: [(&str, &[&str]); 5] = [
    ("ext4", &["-q", "-F"]),
    ("ext3", &["-q", "-F"]),
    ("ext2", &["-q", "-F"]),
    ("xfs", &["-q", "-f"]),
    ("btrfs", &["-q", "-f"]),
];

/// Volumes in the files of a folder. Needs root, mount(8) and mkfs(8).
///
/// Options of a volume that is to be made: `size` in bytes or with a unit as Mesos has them
/// (`64MB`), at least 1 MB, which is needed; `fs`, one of ext4 (the default), ext3, ext2, xfs and
/// btrfs. Those of a volume that is there are not looked at.
#[derive(Debug, Clone)]
pub struct LoopVolumes {
    folder: PathBuf,
}

impl LoopVolumes {
    /// The name under which agents have it.
    pub const NAME: &'static str = "loop";

    /// Volumes as files in `folder`, which is made; mounted below it.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn file(&self, name: &str) -> Result<PathBuf, VolumeError> {
        if !is_plain(name) {
            let why = "a name has letters, digits, `-`, `_` and `.`, and begins with none of these";
            return Err(VolumeError::invalid(name, why));
        }
        Ok(self.folder.join("images").join(name))
    }

    fn point(&self, name: &str) -> PathBuf {
        self.folder.join("mounts").join(name)
    }

    async fn make(&self, file: &Path, volume: &VolumeRequest) -> Result<(), VolumeError> {
        let wrong = |why: String| VolumeError::invalid(&volume.name, why);
        let size = volume.options.get("size");
        let size = size.ok_or_else(|| wrong("a new one needs the option `size`".to_owned()))?;
        let size = bytes(size).ok_or_else(|| wrong(format!("its size `{size}` is none")))?;
        if !((1 << 20)..=(1 << 46)).contains(&size) {
            return Err(wrong(
                "its size has to be between 1 MB and 64 TB".to_owned(),
            ));
        }
        let kind = volume
            .options
            .get("fs")
            .or(volume.access.file_system.as_ref());
        let kind = kind.map_or("ext4", String::as_str);
        let (_, quiet) = FILE_SYSTEMS
            .iter()
            .find(|(name, _)| *name == kind)
            .ok_or_else(|| wrong(format!("there is no file system `{kind}` for it")))?;
        let known = ["size", "fs"];
        if let Some(other) = volume
            .options
            .keys()
            .find(|key| !known.contains(&key.as_str()))
        {
            return Err(wrong(format!("it has no option `{other}`")));
        }
        // Under its name only when it is whole.
        let new = file.with_file_name(format!(".{}.new", volume.name));
        gone(fs::remove_file(&new)).map_err(VolumeError::file("removing", &new))?;
        fs::File::create_new(&new)
            .and_then(|file| file.set_len(size))
            .map_err(VolumeError::file("making", &new))?;
        let mut mkfs = Command::new(format!("mkfs.{kind}"));
        let made = run(mkfs.args(*quiet).arg(&new), "making the file system").await;
        if made.is_err() {
            fs::remove_file(&new).ok();
        }
        made?;
        fs::rename(&new, file).map_err(VolumeError::file("naming", file))
    }
}

async fn run(command: &mut Command, doing: &'static str) -> Result<(), VolumeError> {
    let refused = |reason: String| VolumeError::Refused {
        driver: LoopVolumes::NAME.to_owned(),
        call: doing,
        reason,
    };
    let program = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.map_err(|error| refused(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(refused(format!("{program}: {}", text.trim())))
}

/// A number of bytes, with or without a unit.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[async_trait]
impl VolumeDriver for LoopVolumes {
    fn name(&self) -> &str {
        Self::NAME
    }

    async fn mount(&self, volume: &VolumeRequest) -> Result<PathBuf, VolumeError> {
        let file = self.file(&volume.name)?;
        let point = self.point(&volume.name);
        if is_mounted(&point).map_err(VolumeError::file("looking at", &point))? {
            return Ok(point);
        }
        for folder in [&self.folder.join("images"), &point] {
            files::make_private(folder).map_err(VolumeError::file("making", folder))?;
        }
        if !file.exists() {
            self.make(&file, volume).await?;
        }
        // mount(8) finds the file system and a loop device, which ends with the mount.
        let mut mount = Command::new("mount");
        let mount = mount
            .args(["-o", "loop,nosuid,nodev"])
            .arg(&file)
            .arg(&point);
        run(mount, "mounting").await.map(|()| point)
    }

    async fn mounted(&self, name: &str) -> Result<Option<PathBuf>, VolumeError> {
        self.file(name)?;
        let point = self.point(name);
        let mounted = is_mounted(&point).map_err(VolumeError::file("looking at", &point))?;
        Ok(mounted.then_some(point))
    }

    async fn unmount(&self, name: &str) -> Result<(), VolumeError> {
        if let Some(point) = self.mounted(name).await? {
            // Whoever looks into it from the node keeps it, and nobody else.
            unmount(&point, UnmountFlags::DETACH)
                .map_err(|error| VolumeError::file("unmounting", &point)(error.into()))?;
        }
        let point = self.point(name);
        gone(fs::remove_dir(&point)).map_err(VolumeError::file("removing", point))
    }

    async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let file = self.file(name)?;
        if self.mounted(name).await?.is_some() {
            return Err(VolumeError::invalid(name, "it is mounted"));
        }
        gone(fs::remove_file(&file)).map_err(VolumeError::file("removing", file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("1048576", Some(1 << 20)),
            ("64MB", Some(64 << 20)),
            ("2GB", Some(2 << 30)),
            ("", None),
            ("MB", None),
            ("1.5GB", None),
            ("-1MB", None),
            ("99999999999999TB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}

//! The folder of a container that a runtime makes.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::Runtime;
use crate::containerizer::runtime::replace;

/// Below `<runtime_dir>`: bundles, and what runtimes keep for themselves.
const FOLDER: &str = "oci";

/// A bundle: `<runtime_dir>/oci/bundles/<container id>`. Only root reads it: an environment may
/// hold secrets.
#[derive(Debug, Clone)]
pub(crate) struct Bundle(PathBuf);

impl Bundle {
    pub(crate) fn new(runtime_dir: &Path, id: &str) -> Self {
        Self(runtime_dir.join(FOLDER).join("bundles").join(id))
    }

    /// A bundle where it lies.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where a runtime keeps its own state: one folder each, since their formats differ.
    pub(crate) fn state_of(runtime_dir: &Path, runtime: &Runtime) -> PathBuf {
        runtime_dir.join(FOLDER).join("state").join(&runtime.name)
    }

    /// Writes it anew.
    pub(crate) fn write(&self, spec: &Spec) -> io::Result<()> {
        self.remove()?;
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700).create(self.rootfs())?;
        replace(&self.0.join("config.json"), &serde_json::to_vec(spec)?)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn exists(&self) -> bool {
        self.0.exists()
    }

    /// Where the host's files are mounted for a container without an image.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    /// Where the runtime writes the container's first process.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// Where the runtime writes what went wrong.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The container's first process on the host, once there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        number(&self.pid_file())
    }

    /// How it ended, a raw wait status, once it did.
    pub(crate) fn exit(&self) -> Option<i32> {
        number(&self.0.join("exit"))
    }

    pub(super) fn set_exit(&self, status: i32) -> io::Result<()> {
        replace(&self.0.join("exit"), status.to_string().as_bytes())
    }

    /// The last thing the runtime complained about.
    pub(super) fn complaint(&self) -> Option<String> {
        let log = fs::read(self.log()).ok()?;
        let log = String::from_utf8_lossy(&log);
        let line = log.lines().rfind(|line| !line.trim().is_empty())?;
        Some(complaint_in(line))
    }

    /// Removes it; one that is not there is fine.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

fn number<N: std::str::FromStr>(path: &Path) -> Option<N> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The message of a line of a log: JSON with a `msg`, or words as they are.
fn complaint_in(line: &str) -> String {
    let parsed = serde_json::from_str::<serde_json::Value>(line).ok();
    let message = parsed.and_then(|line| Some(line.get("msg")?.as_str()?.to_owned()));
    message.unwrap_or_else(|| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_tells_what_became_of_its_container() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path(), "a.b");
        assert!(!bundle.exists());
        bundle.write(&Spec::default()).unwrap();
        assert_eq!((bundle.pid(), bundle.exit()), (None, None));
        fs::write(bundle.pid_file(), "17").unwrap();
        bundle.set_exit(256).unwrap();
        assert_eq!((bundle.pid(), bundle.exit()), (Some(17), Some(256)));
        bundle.remove().unwrap();
        bundle.remove().unwrap();
        assert!(!bundle.exists());
    }

    #[test]
    fn complaints_are_found_in_both_formats() {
        let json = r#"{"msg": "no such file", "level": "error", "time": "now"}"#;
        assert_eq!(complaint_in(json), "no such file");
        assert_eq!(complaint_in("plain words \n"), "plain words");
    }
}

//! What a task brings to be let into a registry.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use dcos_core::error::chain;
use dcos_image::credentials::Credentials;
use rustix::fs::{Mode, OFlags, openat};

/// Docker's files, in the order in which its command line looks for them.
const FILES: [&[&str]; 2] = [&[".docker", "config.json"], &[".dockercfg"]];

/// The most that is read of one.
const MOST: u64 = 1 << 20;

/// The credentials that were fetched into a sandbox, if any.
///
/// # Source
/// Mesos 1.11 `Docker::__pull` (`src/docker/docker.cpp`): the sandbox is the home of `docker pull`,
/// and what lies there counts instead of `--docker_config`.
///
/// # Errors
/// Which file cannot be understood; what it says is not repeated.
pub(crate) fn of_sandbox(sandbox: &Path) -> Result<Option<Credentials>, String> {
    for path in FILES {
        let name = path.join("/");
        let bytes = read(sandbox, path).map_err(|error| format!("reading {name}: {error}"))?;
        if let Some(bytes) = bytes {
            let read = Credentials::parse(&bytes);
            let read = read.map_err(|error| format!("{name} of the sandbox: {}", chain(&error)));
            return read.map(Some);
        }
    }
    Ok(None)
}

/// A file of the sandbox itself: where a link leads are not the task's credentials.
fn read(sandbox: &Path, path: &[&str]) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = File::open(sandbox)?;
    for name in path {
        match openat(&file, *name, flags, Mode::empty()) {
            Ok(found) => file = found.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str = r#"{"auths": {"registry.example": {"auth": "bWU6c2VjcmV0"}}}"#;

    #[test]
    fn both_names_are_looked_for() {
        let sandbox = tempfile::tempdir().unwrap();
        assert!(of_sandbox(sandbox.path()).unwrap().is_none());
        fs::write(sandbox.path().join(".dockercfg"), "{}").unwrap();
        let none = of_sandbox(sandbox.path()).unwrap().unwrap();
        assert!(none.of("registry.example").is_none());
        fs::create_dir(sandbox.path().join(".docker")).unwrap();
        fs::write(sandbox.path().join(".docker/config.json"), TEXT).unwrap();
        let found = of_sandbox(sandbox.path()).unwrap().unwrap();
        assert!(found.of("registry.example").is_some());
    }

    #[test]
    fn links_and_nonsense_are_refused() {
        let (sandbox, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("config.json"), TEXT).unwrap();
        let link = sandbox.path().join(".docker");
        std::os::unix::fs::symlink(other.path(), &link).unwrap();
        assert!(of_sandbox(sandbox.path()).is_err());
        fs::remove_file(&link).unwrap();
        fs::write(sandbox.path().join(".dockercfg"), "{secret").unwrap();
        let why = of_sandbox(sandbox.path()).unwrap_err();
        assert!(
            why.starts_with(".dockercfg of the sandbox") && !why.contains("secret"),
            "{why}"
        );
    }
}

//! Secrets that lie as files on the node.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use dcos_proto::mesos::{Secret, secret};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{SecretError, SecretResolver, ValuesOnly};

/// More is no secret: as in DC/OS.
const LARGEST: u64 = 1 << 20;

/// Secrets by reference are files below a folder: `db/password` is `<folder>/db/password`, and so is `db` with the key `password`.
/// Slashes at the ends do not matter. The file's bytes are the secret, a line break at its end as well.
///
/// Links lead nowhere outside of the folder. Whoever may launch tasks on the node may name any of them; the folder and what is in it should be root's alone. Files are
/// read at each launch, so that a new value counts from the next one on. Secrets that carry their values are these.
///
/// # Source
/// Ours. Mesos 1.11 resolves references by modules only.
#[derive(Debug, Clone)]
pub struct SecretFiles {
    folder: PathBuf,
}

impl SecretFiles {
    /// Those below `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }
}

#[async_trait]
impl SecretResolver for SecretFiles {
    async fn resolve(&self, secret: &Secret) -> Result<Vec<u8>, SecretError> {
        let is_reference = secret.r#type() == secret::Type::Reference;
        let Some(reference) = secret.reference.as_ref().filter(|_| is_reference) else {
            return ValuesOnly.resolve(secret).await;
        };
        let refused = |why: &str| {
            let key = reference.key.as_ref().map(|key| format!(" (key '{key}')"));
            let key = key.unwrap_or_default();
            SecretError(format!("secret '{}'{key} {why}", reference.name))
        };
        let path = path(reference);
        let path = path.ok_or_else(|| refused("is no name of a secret"))?;
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || read(&folder, &path)).await;
        match read.map_err(|_| refused("cannot be read"))? {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(refused("is no file of at most 1 MiB on this node")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(refused("is not among those of this node"))
            }
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
                Err(refused("leads out of the folder of secrets"))
            }
            Err(error) => Err(refused(&format!("cannot be read: {}", error.kind()))),
        }
    }
}

/// Where in the folder a reference points, if it is a name.
fn path(reference: &secret::Reference) -> Option<PathBuf> {
    let name = reference.name.trim_matches('/');
    let parts = name.split('/').chain(reference.key.as_deref());
    let mut path = PathBuf::new();
    for part in parts {
        let is_plain = !matches!(part, "" | "." | "..") && !part.contains(['/', '\0']);
        if !is_plain {
            return None;
        }
        path.push(part);
    }
    Some(path)
}

/// What is in a file below `folder`, to which links of the folder may lead; `None` if it is no file, or too large.
fn read(folder: &Path, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let folder = File::open(folder)?;
    // Or a pipe would hold the launch up until somebody writes.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(&folder, path, flags, Mode::empty(), stay)?);
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    let is_small = bytes.len() as u64 <= LARGEST;
    Ok(is_small.then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, key: Option<&str>) -> Secret {
        Secret {
            r#type: Some(secret::Type::Reference.into()),
            reference: Some(secret::Reference {
                name: name.to_owned(),
                key: key.map(str::to_owned),
            }),
            value: None,
        }
    }

    #[tokio::test]
    async fn references_are_files_and_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("secrets");
        std::fs::create_dir_all(below.join("db")).unwrap();
        std::fs::write(folder.path().join("outside"), "o").unwrap();
        std::fs::write(below.join("db/password"), b"open \xff sesame\n").unwrap();
        std::fs::write(below.join("large"), vec![0; 1 + (1 << 20)]).unwrap();
        std::os::unix::fs::symlink("../outside", below.join("out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", below.join("db/passwd")).unwrap();
        std::os::unix::fs::symlink("db/password", below.join("same")).unwrap();
        let files = SecretFiles::new(&below);
        for (name, key) in [
            ("db/password", None),
            ("/db/password", None),
            ("same", None),
            ("db", Some("password")),
        ] {
            let found = files.resolve(&reference(name, key)).await;
            assert_eq!(found.unwrap(), b"open \xff sesame\n", "{name} {key:?}");
        }
        let nowhere = "is no name of a secret";
        for (name, key, why) in [
            ("db/user", None, "is not among those of this node"),
            ("db", None, "is no file of at most 1 MiB on this node"),
            ("large", None, "is no file of at most 1 MiB on this node"),
            ("out", None, "leads out of the folder"),
            ("db/passwd", None, "leads out of the folder"),
            ("../outside", None, nowhere),
            ("db/../../outside", None, nowhere),
            ("db//password", None, nowhere),
            ("", None, nowhere),
            ("db", Some("../db/password"), nowhere),
            ("db", Some(""), nowhere),
        ] {
            let text = files.resolve(&reference(name, key)).await.unwrap_err().0;
            assert!(text.contains(why), "{name} {key:?}: {text}");
        }
        let value = Secret {
            r#type: Some(secret::Type::Value.into()),
            value: Some(secret::Value {
                data: b"v".to_vec(),
            }),
            reference: None,
        };
        assert_eq!(files.resolve(&value).await.unwrap(), b"v");
    }
}

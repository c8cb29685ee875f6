//! [`ResolvConf`]: the file by which a host says whom it asks, written for a name server on that host.
//!
//! Source: `dcos-gen-resolvconf` of DC/OS 2.2: options, `search`, atomic replacement, in place where the file is a mount.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::PORT;

/// What the first line says of us; whatever begins in another way is not ours to take back.
const OURS: &str = "# Written by dcos-agent or dcos-master (--dns_resolv_conf).\n";
/// How it begins in each version.
const BEGIN: &str = "# Written by dcos-agent ";
/// Resolvers of the C library read no more.
const MOST: usize = 3;
/// `EBUSY`: the file is a mount.
const BUSY: i32 = 16;

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolvConfError {
    /// Somebody else makes what it leads to, such as systemd-resolved.
    #[error(
        "{} is a link to {}, which another program writes: let that one ask the name server, or make it a file",
        path.display(), to.display()
    )]
    Link {
        /// Which.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// Reading or writing it.
    #[error("writing {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A `resolv.conf` that is kept.
#[derive(Clone, Debug)]
pub struct ResolvConf {
    path: PathBuf,
    search: Vec<String>,
}

impl ResolvConf {
    /// The file `path`; names without a dot are looked for in `search` as well.
    pub fn new(path: impl Into<PathBuf>, search: Vec<String>) -> Self {
        Self {
            path: path.into(),
            search,
        }
    }

    /// Has the host ask `servers`, as far as they are on port 53; says whether the file was another one.
    ///
    /// # Errors
    /// [`ResolvConfError`]; the file is as it was then.
    pub fn ask(&self, servers: &[SocketAddr]) -> Result<bool, ResolvConfError> {
        if let Ok(to) = std::fs::read_link(&self.path) {
            let path = self.path.clone();
            return Err(ResolvConfError::Link { path, to });
        }
        let text = self.text(servers);
        let there = std::fs::read_to_string(&self.path);
        if there.is_ok_and(|there| there == text) {
            return Ok(false);
        }
        let failed = |source| ResolvConfError::Write {
            path: self.path.clone(),
            source,
        };
        replace(&self.path, text.as_bytes()).map_err(failed)?;
        Ok(true)
    }

    /// Has the host ask `others` from now on, unless somebody else wrote the file meanwhile.
    ///
    /// # Errors
    /// [`ResolvConfError`]
    pub fn leave(&self, others: &[SocketAddr]) -> Result<bool, ResolvConfError> {
        let is_ours = std::fs::read_to_string(&self.path).is_ok_and(|text| text.starts_with(BEGIN));
        Ok(is_ours && self.ask(others)?)
    }

    fn text(&self, servers: &[SocketAddr]) -> String {
        let mut text = format!("{OURS}options timeout:1\noptions attempts:3\n");
        if !self.search.is_empty() {
            text += &format!("search {}\n", self.search.join(" "));
        }
        let usual = servers.iter().filter(|server| server.port() == PORT);
        for server in usual.take(MOST) {
            text += &format!("nameserver {}\n", server.ip());
        }
        text
    }
}

/// Who looks names up meanwhile sees the old file or the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".dcos-new");
    let beside = path.with_file_name(name);
    let mut file = File::create(&beside)?;
    file.write_all(text)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    match std::fs::rename(&beside, path) {
        Err(error) if error.raw_os_error() == Some(BUSY) => {
            std::fs::remove_file(&beside)?;
            std::fs::write(path, text)
        }
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|one| one.parse().unwrap()).collect()
    }

    #[test]
    fn a_host_asks_the_server_and_others_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
        let file = ResolvConf::new(&path, vec!["corp.example".to_owned()]);
        let others = servers(&["10.0.0.2:53", "10.0.0.3:5353"]);
        assert!(!file.leave(&others).unwrap(), "it is not ours");
        let own = servers(&[
            "198.51.100.1:53",
            "198.51.100.2:53",
            "198.51.100.3:53",
            "[fd01::1]:53",
        ]);
        assert!(file.ask(&own).unwrap());
        assert!(!file.ask(&own).unwrap(), "it is so already");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            format!(
                "{OURS}options timeout:1\noptions attempts:3\nsearch corp.example\nnameserver 198.51.100.1\n\
                 nameserver 198.51.100.2\nnameserver 198.51.100.3\n"
            )
        );
        assert!(file.leave(&others).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(crate::resolvers(&text), servers(&["10.0.0.2:53"]));
        // Somebody else's word is not taken back.
        file.ask(&own).unwrap();
        std::fs::write(&path, "nameserver 10.9.9.9\n").unwrap();
        assert!(!file.leave(&others).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_another_program_makes_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, stub) = (
            folder.path().join("resolv.conf"),
            folder.path().join("stub"),
        );
        std::fs::write(&stub, "nameserver 127.0.0.53\n").unwrap();
        std::os::unix::fs::symlink(&stub, &path).unwrap();
        let file = ResolvConf::new(&path, Vec::new());
        let refused = file.ask(&servers(&["198.51.100.1:53"])).unwrap_err();
        assert!(refused.to_string().contains("stub"), "{refused}");
        assert_eq!(
            std::fs::read_to_string(&stub).unwrap(),
            "nameserver 127.0.0.53\n"
        );
    }
}

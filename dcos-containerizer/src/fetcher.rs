//! The plug point that brings files into sandboxes.
//!
//! [`UriFetcher`] is the default: http, https, ftp, ftps, local files and what Hadoop's client can
//! get, extraction of archives, and a cache shared by all containers.

mod archive;
mod cache;
mod ftp;
mod hadoop;
mod local;
mod sandbox;
mod uri;

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use dcos_proto::mesos::ContainerId;
use dcos_proto::mesos::command_info::Uri;

pub use cache::CacheConfig;
pub use uri::{FetcherConfig, UriFetcher};

/// Brings what a command's URIs name into its sandbox.
///
/// # Contract
/// 1. When [`fetch`](Self::fetch) returns `Ok`, everything is in the sandbox, extracted and owned
///    as asked. After an error anything may be there, and the container is not launched.
/// 2. Nothing outside the sandbox is written, whatever an archive or an `output_file` says.
/// 3. Local files are only read if the container's user could read them.
/// 4. Dropping the future stops the fetching; a shared download goes on while others wait for it.
///
/// # Source
/// Mesos 1.11 `Fetcher` (`src/slave/containerizer/fetcher.hpp`).
#[async_trait]
pub trait Fetcher: fmt::Debug + Send + Sync + 'static {
    /// Fetches all URIs of a request.
    ///
    /// # Errors
    /// [`FetchError`], naming the URI that failed.
    async fn fetch(&self, request: &FetchRequest) -> Result<(), FetchError>;
}

/// What to fetch, and where to.
#[derive(Debug, Clone, Default)]
pub struct FetchRequest {
    /// For whom.
    pub container: ContainerId,
    /// What.
    pub uris: Vec<Uri>,
    /// The sandbox.
    pub directory: PathBuf,
    /// Who is to own it; absent, whoever the agent is.
    pub owner: Option<(u32, u32)>,
    /// The owner's name; the cache keeps what different users fetched apart.
    pub user: Option<String>,
}

/// Why a URI could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to fetch '{uri}': {reason}")]
pub struct FetchError {
    /// Which, without its password.
    pub uri: String,
    /// Why.
    pub reason: String,
}

impl FetchError {
    /// `uri` failed, because of `reason`.
    pub fn new(uri: &str, reason: impl fmt::Display) -> Self {
        Self {
            uri: without_password(uri).into_owned(),
            reason: reason.to_string(),
        }
    }
}

/// What a client `said` of a URI, as others may read it.
fn said_of(uri: &str, said: &str) -> String {
    let secret = || {
        let (_, rest) = uri.split_once("://")?;
        let (who, _) = userinfo(rest)?;
        let (user, _) = who.split_once(':')?;
        Some(said.replace(who, &format!("{user}:***")))
    };
    secret().unwrap_or_else(|| said.to_owned())
}

/// Who stands before the address, and that with all that follows. Passwords may have slashes that nobody escaped.
fn userinfo(rest: &str) -> Option<(&str, &str)> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@').or_else(|| {
        let (_, port) = rest[..end].rsplit_once(':')?;
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        rest.rfind('@').filter(|_| !is_port)
    })?;
    Some((&rest[..at], &rest[at + 1..]))
}

/// A URI as others may read it.
fn without_password(uri: &str) -> Cow<'_, str> {
    let shown = || {
        let (scheme, rest) = uri.split_once("://")?;
        let (who, address) = userinfo(rest)?;
        let (user, _) = who.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{address}"))
    };
    shown().map_or(Cow::Borrowed(uri), Cow::Owned)
}

fn stood_still(stall: Duration) -> String {
    format!("the download stood still for {stall:?}")
}

/// A file without a name, on the disk of `directory`.
fn nameless(directory: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(directory, flags, Mode::from(0o600)) {
        return Ok(File::from(file));
    }
    // Not every file system has them.
    let path = directory.join(format!("download-{}", uuid::Uuid::new_v4()));
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_shown_to_nobody() {
        for (uri, shown) in [
            ("ftp://joe:secret@host/f", "ftp://joe:***@host/f"),
            ("s3n://KEY:ab/cd@bucket/x", "s3n://KEY:***@bucket/x"),
            ("ftp://joe:p?w#@host:21/f", "ftp://joe:***@host:21/f"),
            ("http://host:80/a@b", "http://host:80/a@b"),
            ("http://joe@host/a", "http://joe@host/a"),
            ("/a:b@c", "/a:b@c"),
        ] {
            assert_eq!(without_password(uri), shown);
            let said = format!("`{uri}': No such file");
            assert_eq!(said_of(uri, &said), format!("`{shown}': No such file"));
        }
    }
}

//! The plug point that brings files into sandboxes.
//!
//! [`UriFetcher`] is the default: http, https and local files, extraction of archives, and a
//! cache shared by all containers.

mod archive;
mod cache;
mod local;
mod sandbox;
mod uri;

use std::fmt;
use std::path::PathBuf;

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
    /// Which.
    pub uri: String,
    /// Why.
    pub reason: String,
}

impl FetchError {
    /// `uri` failed, because of `reason`.
    pub fn new(uri: &str, reason: impl fmt::Display) -> Self {
        Self {
            uri: uri.to_owned(),
            reason: reason.to_string(),
        }
    }
}

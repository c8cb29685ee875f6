//! The default fetcher.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::mesos::command_info::Uri;
use dcos_wire::{Client, ClientConfig};
use futures::StreamExt;

use super::archive::{self, Kind, Limits};
use super::cache::{Cache, CacheConfig, Key};
use super::sandbox::{Sandbox, name_of};
use super::{FetchError, FetchRequest, Fetcher, local};

/// How a [`UriFetcher`] works.
#[derive(Debug, Clone)]
pub struct FetcherConfig {
    /// Where relative paths start; absent, they are refused. `--frameworks_home`.
    pub frameworks_home: Option<PathBuf>,
    /// How long a download may stand still. `--fetcher_stall_timeout`.
    pub stall_timeout: Duration,
    /// The cache, for URIs that ask for it.
    pub cache: CacheConfig,
    /// Bytes that one archive may become.
    pub max_extracted: u64,
    /// Files that one archive may hold.
    pub max_entries: u64,
}

impl FetcherConfig {
    /// The defaults of Mesos, with the cache in `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            frameworks_home: None,
            stall_timeout: Duration::from_secs(60),
            cache: CacheConfig {
                directory: directory.into(),
                size: 2 << 30,
            },
            max_extracted: 64 << 30,
            max_entries: 1_000_000,
        }
    }
}

/// Fetches `http`, `https`, `file` URIs and paths; extracts; caches.
///
/// # Source
/// Mesos 1.11 `src/launcher/fetcher.cpp`. Not here: `ftp`, and what Hadoop's client would fetch;
/// they fail and say so. An archive that was not cached stays beside what came out of it.
#[derive(Debug)]
pub struct UriFetcher {
    config: FetcherConfig,
    client: Client,
    cache: Cache,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl UriFetcher {
    /// A fetcher with an empty cache.
    ///
    /// # Errors
    /// If the cache's directory cannot be made and emptied.
    pub fn new(config: FetcherConfig) -> io::Result<Self> {
        let cache = Cache::new(config.cache.clone())?;
        let client = ClientConfig {
            answer_timeout: config.stall_timeout,
            read_timeout: config.stall_timeout,
            max_redirects: 10,
            ..ClientConfig::default()
        };
        let client = Client::with_config(client).map_err(io::Error::other)?;
        Ok(Self {
            config,
            client,
            cache,
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// What it has counted, under the original's names.
    pub fn metrics(&self) -> Vec<(String, f64)> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (used, total) = (self.cache.used(), self.config.cache.size);
        let all = [
            ("task_fetches_succeeded", count(&self.succeeded)),
            ("task_fetches_failed", count(&self.failed)),
            ("cache_size_total_bytes", total),
            ("cache_size_used_bytes", used),
        ];
        #[expect(clippy::cast_precision_loss, reason = "metrics are numbers of JSON")]
        let named =
            all.map(|(name, value)| (format!("containerizer/fetcher/{name}"), value as f64));
        named.into()
    }

    async fn fetch_one(&self, request: &FetchRequest, uri: &Uri) -> Result<(), String> {
        let value = uri.value.trim();
        let name = match &uri.output_file {
            Some(name) => name.clone(),
            None => name_of(value)?,
        };
        let sandbox = Sandbox::open(&request.directory, request.owner)?;
        let kind = Kind::of(&name).filter(|_| uri.extract() && !uri.executable());
        let mode = if uri.executable() { 0o755 } else { 0o644 };

        let cached = if uri.cache() {
            let key = Key {
                user: request.user.clone(),
                uri: value.to_owned(),
            };
            let download = || self.download(request, value);
            Some(self.cache.get(&key, download).await?)
        } else {
            None
        };
        let mut source = if let Some(cached) = &cached {
            File::open(cached.path()).map_err(text)?
        } else {
            let mut file = nameless(&self.config.cache.directory).map_err(text)?;
            self.download_into(request, value, &mut file).await?;
            file
        };
        let limits = Limits {
            bytes: self.config.max_extracted,
            entries: self.config.max_entries,
        };
        // A cached archive is extracted from where it lies.
        let keep = cached.is_none() || kind.is_none();
        let done = tokio::task::spawn_blocking(move || {
            // Held until the end, so that it is not removed under our hands.
            let _cached = cached;
            if keep {
                source.rewind().map_err(text)?;
                sandbox.put(&name, &mut source, mode)?;
            }
            if let Some(kind) = kind {
                source.rewind().map_err(text)?;
                archive::extract(kind, source, &name, &sandbox, limits)?;
            }
            Ok(())
        });
        done.await.unwrap_or_else(|error| Err(text(error)))
    }

    /// Downloads into a file of the cache's directory, for the cache to take over.
    async fn download(&self, request: &FetchRequest, value: &str) -> Result<PathBuf, String> {
        let path = self.cache.fresh_path();
        let mut file = File::create_new(&path).map_err(text)?;
        match self.download_into(request, value, &mut file).await {
            Ok(()) => Ok(path),
            Err(error) => {
                std::fs::remove_file(&path).ok();
                Err(error)
            }
        }
    }

    async fn download_into(
        &self,
        request: &FetchRequest,
        value: &str,
        file: &mut File,
    ) -> Result<(), String> {
        let (scheme, rest) = match value.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => (String::new(), value),
        };
        match scheme.as_str() {
            "http" | "https" => self.download_http(value, file).await,
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err("a file URI names an absolute path".into());
                }
                copy(Path::new(path), request.owner, file).await
            }
            "" if rest.starts_with('/') => copy(Path::new(rest), request.owner, file).await,
            "" => match &self.config.frameworks_home {
                Some(home) => copy(&home.join(rest), request.owner, file).await,
                None => Err("the path is relative, and there is no `--frameworks_home`".into()),
            },
            other => Err(format!("the scheme '{other}' is not supported")),
        }
    }

    async fn download_http(&self, url: &str, file: &mut File) -> Result<(), String> {
        // A fragment is for whoever looks at the page.
        let url = url.split('#').next().unwrap_or(url);
        let request = http::Request::get(url)
            // As it lies there: an archive must not be unpacked on the way.
            .header(http::header::ACCEPT_ENCODING, "identity")
            .body(bytes::Bytes::new())
            .map_err(text)?;
        let chain = |error: &dyn std::error::Error| dcos_core::error::chain(error).to_string();
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| chain(&error))?;
        if !answer.status().is_success() {
            return Err(format!("unexpected HTTP response '{}'", answer.status()));
        }
        let length: Option<u64> = answer
            .headers()
            .get(http::header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let mut body = answer.into_body().into_data_stream();
        let mut received = 0u64;
        let stall = self.config.stall_timeout;
        loop {
            match tokio::time::timeout(stall, body.next()).await {
                Err(_) => return Err(format!("the download stood still for {stall:?}")),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(chain(&error)),
                Ok(Some(Ok(chunk))) => {
                    received += chunk.len() as u64;
                    file.write_all(&chunk).map_err(text)?;
                }
            }
        }
        match length {
            Some(length) if length != received => Err(format!(
                "the download broke off after {received} of {length} bytes"
            )),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Fetcher for UriFetcher {
    async fn fetch(&self, request: &FetchRequest) -> Result<(), FetchError> {
        for uri in &request.uris {
            if let Err(reason) = self.fetch_one(request, uri).await {
                let error = FetchError::new(&uri.value, reason);
                // Whoever looks for the reason looks into the sandbox first.
                if let Ok(sandbox) = Sandbox::open(&request.directory, request.owner) {
                    sandbox.append("stderr", &format!("{error}\n"));
                }
                self.failed.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
            tracing::debug!(container = %request.container, uri = uri.value, "fetched");
        }
        if !request.uris.is_empty() {
            self.succeeded.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

async fn copy(path: &Path, owner: Option<(u32, u32)>, file: &File) -> Result<(), String> {
    let mut source = local::open(path, owner)?;
    let mut target = file.try_clone().map_err(text)?;
    let copied = tokio::task::spawn_blocking(move || io::copy(&mut source, &mut target));
    let copied = copied.await.map_err(text)?;
    copied.map_err(|error| format!("copying {}: {error}", path.display()))?;
    Ok(())
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

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

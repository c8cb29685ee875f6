//! The default fetcher.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::mesos::command_info::Uri;
use dcos_wire::tls::{self, Trust};
use dcos_wire::{Client, ClientConfig};
use futures::StreamExt;
use tokio_rustls::rustls;

use super::archive::{self, Kind, Limits};
use super::cache::{Cache, CacheConfig, Key};
use super::sandbox::{Sandbox, name_of};
use super::{
    FetchError, FetchRequest, Fetcher, ftp, hadoop, local, nameless, stood_still, without_password,
};
use crate::isolator::patience::{self, Going};

/// How a [`UriFetcher`] works.
#[derive(Debug, Clone)]
pub struct FetcherConfig {
    /// Where relative paths start; absent, they are refused. `--frameworks_home`.
    pub frameworks_home: Option<PathBuf>,
    /// Where Hadoop's client is, below `bin`; absent, it is looked for in `PATH`. `--hadoop_home`.
    pub hadoop_home: Option<PathBuf>,
    /// How long a download may stand still; Hadoop's client decides that itself.
    /// `--fetcher_stall_timeout`.
    pub stall_timeout: Duration,
    /// Whom to trust on `https` and `ftps`.
    pub trust: Trust,
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
            hadoop_home: None,
            trust: Trust::System,
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

/// Fetches `http`, `https`, `ftp`, `ftps`, `file` URIs and paths, and all others with Hadoop's
/// client; extracts; caches.
///
/// # Source
/// Mesos 1.11 `src/launcher/fetcher.cpp`. An archive that was not cached stays beside what came
/// out of it.
#[derive(Debug)]
pub struct UriFetcher {
    config: FetcherConfig,
    client: Client,
    tls: Arc<rustls::ClientConfig>,
    cache: Cache,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl UriFetcher {
    /// A fetcher with an empty cache.
    ///
    /// # Errors
    /// If the cache's directory cannot be made and emptied, or nobody can be trusted.
    pub fn new(config: FetcherConfig) -> io::Result<Self> {
        let cache = Cache::new(config.cache.clone())?;
        let tls = Arc::new(tls::client(&config.trust).map_err(io::Error::other)?);
        let client = ClientConfig {
            tls: Some(Arc::clone(&tls)),
            answer_timeout: config.stall_timeout,
            read_timeout: config.stall_timeout,
            max_redirects: 10,
            ..ClientConfig::default()
        };
        let client = Client::with_config(client).map_err(io::Error::other)?;
        Ok(Self {
            config,
            client,
            tls,
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
        let path = match scheme.as_str() {
            "http" | "https" => return self.download_http(value, file).await,
            "ftp" | "ftps" => {
                let place = ftp::Place::parse(value)?;
                return place
                    .download(&self.tls, self.config.stall_timeout, file)
                    .await;
            }
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err("a file URI names an absolute path".into());
                }
                PathBuf::from(path)
            }
            "" if rest.starts_with('/') => PathBuf::from(rest),
            "" => match &self.config.frameworks_home {
                Some(home) => home.join(rest),
                None => {
                    return Err("the path is relative, and there is no `--frameworks_home`".into());
                }
            },
            scheme => {
                if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) {
                    return Err(format!("'{scheme}' is no scheme"));
                }
                return self.download_hadoop(request, value, file).await;
            }
        };
        let (owner, stall) = (request.owner, self.config.stall_timeout);
        let opened = path.clone();
        let work = move |going: &Going| {
            going.at(&opened)?;
            Ok(local::open(&opened, owner))
        };
        let source = patience::wait(stall, work).await.map_err(text)??;
        local::copy(&path, source, file.try_clone().map_err(text)?, stall).await
    }

    async fn download_hadoop(
        &self,
        request: &FetchRequest,
        uri: &str,
        file: &File,
    ) -> Result<(), String> {
        let home = self.config.hadoop_home.as_deref();
        let directory = &self.config.cache.directory;
        let fetched = hadoop::fetch(home, request, uri, directory).await?;
        let (source, target) = (fetched.file.try_clone(), file.try_clone());
        let (source, target) = (source.map_err(text)?, target.map_err(text)?);
        local::copy(&fetched.path, source, target, self.config.stall_timeout).await
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
                Err(_) => return Err(stood_still(stall)),
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
            let shown = without_password(&uri.value);
            tracing::debug!(container = %request.container, uri = %shown, "fetched");
        }
        if !request.uris.is_empty() {
            self.succeeded.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn text(error: impl ToString) -> String {
    error.to_string()
}

//! Files that several containers fetch, downloaded once.
//!
//! An entry is downloaded by whoever asks first; the others wait for the outcome. It stays until
//! room is needed for another and nobody uses it: the one unused for longest goes first. What
//! does not fit beside files in use is kept only as long as it is in use itself.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// Where the cache is, and how large it may become.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Its directory, emptied at the start. `--fetcher_cache_dir`.
    pub directory: PathBuf,
    /// Bytes. `--fetcher_cache_size`.
    pub size: u64,
}

/// What an entry is found by: what one user may read, another may not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) user: Option<String>,
    pub(super) uri: String,
}

#[derive(Debug)]
pub(super) struct Cache {
    config: CacheConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, Entry>,
    /// Counts uses, to tell which was last.
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    file: Arc<OnceCell<Cached>>,
    used: u64,
}

/// A file of the cache; it is not removed as long as this is held.
#[derive(Debug, Clone)]
pub(super) struct Cached(Arc<CachedFile>);

#[derive(Debug)]
struct CachedFile {
    path: PathBuf,
    size: u64,
}

impl Cached {
    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Drop for CachedFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "could not remove a cached file");
        }
    }
}

impl Cache {
    pub(super) fn new(config: CacheConfig) -> io::Result<Self> {
        match std::fs::remove_dir_all(&config.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&config.directory)?,
        }
        // Users may get to what is theirs in it, and see nothing else.
        std::fs::set_permissions(&config.directory, Permissions::from_mode(0o711))?;
        Ok(Self {
            config,
            state: Mutex::default(),
        })
    }

    /// How many bytes are kept.
    pub(super) fn used(&self) -> u64 {
        self.lock().size()
    }

    /// A path in the cache's directory that nothing has.
    pub(super) fn fresh_path(&self) -> PathBuf {
        self.config.directory.join(uuid::Uuid::new_v4().to_string())
    }

    /// The file of `key`, downloaded by `download` if it is not there.
    ///
    /// When a download fails, or its caller goes away, the next one who waits tries.
    pub(super) async fn get<F>(&self, key: &Key, download: impl Fn() -> F) -> Result<Cached, String>
    where
        F: Future<Output = Result<PathBuf, String>>,
    {
        let cell = self.entry(key);
        let fetched = cell
            .get_or_try_init(|| async {
                let path = download().await?;
                let size = path.metadata().map_err(|error| error.to_string())?.len();
                Ok::<_, String>(Cached(Arc::new(CachedFile { path, size })))
            })
            .await
            .cloned();
        let mut state = self.lock();
        match &fetched {
            Ok(_) => state.make_room(self.config.size),
            Err(_) => state.forget_failed(key, &cell),
        }
        fetched
    }

    fn entry(&self, key: &Key) -> Arc<OnceCell<Cached>> {
        let mut state = self.lock();
        state.clock += 1;
        let used = state.clock;
        let entry = state.entries.entry(key.clone()).or_insert_with(|| Entry {
            file: Arc::default(),
            used,
        });
        entry.used = used;
        Arc::clone(&entry.file)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets an entry without a file, unless somebody is trying again already.
    fn forget_failed(&mut self, key: &Key, cell: &Arc<OnceCell<Cached>>) {
        let idle = |entry: &Entry| Arc::ptr_eq(&entry.file, cell) && Arc::strong_count(cell) <= 2;
        if self.entries.get(key).is_some_and(idle) {
            self.entries.remove(key);
        }
    }

    fn make_room(&mut self, size: u64) {
        while self.size() > size {
            let unused = |entry: &Entry| {
                let file = entry.file.get();
                file.is_some_and(|file| Arc::strong_count(&file.0) == 1)
            };
            let by_use = |(_, entry): &(&Key, &Entry)| entry.used;
            let done = || {
                self.entries
                    .iter()
                    .filter(|(_, entry)| entry.file.initialized())
            };
            let oldest = done().filter(|(_, entry)| unused(entry)).min_by_key(by_use);
            // All in use: the newest is forgotten, and goes when its users are done.
            let Some((key, _)) = oldest.or_else(|| done().max_by_key(by_use)) else {
                return;
            };
            let key = key.clone();
            self.entries.remove(&key);
        }
    }

    fn size(&self) -> u64 {
        let files = self.entries.values().filter_map(|entry| entry.file.get());
        files.map(|file| file.0.size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Fixture {
        cache: Cache,
        downloads: AtomicUsize,
        _dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new(size: u64) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let config = CacheConfig {
                directory: dir.path().join("cache"),
                size,
            };
            Self {
                cache: Cache::new(config).unwrap(),
                downloads: AtomicUsize::new(0),
                _dir: dir,
            }
        }

        async fn get(&self, uri: &str, size: usize) -> Result<Cached, String> {
            let key = Key {
                user: None,
                uri: uri.into(),
            };
            let download = || async {
                self.downloads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                if size == 0 {
                    return Err("refused".to_owned());
                }
                let path = self.cache.fresh_path();
                std::fs::write(&path, vec![b'x'; size]).unwrap();
                Ok(path)
            };
            self.cache.get(&key, download).await
        }

        fn downloads(&self) -> usize {
            self.downloads.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn concurrent_requests_share_one_download() {
        let fixture = Fixture::new(100);
        let (a, b) = tokio::join!(fixture.get("a", 10), fixture.get("a", 10));
        assert_eq!(a.unwrap().path(), b.unwrap().path());
        fixture.get("a", 10).await.unwrap();
        assert_eq!(fixture.downloads(), 1);
    }

    #[tokio::test]
    async fn failures_are_not_kept() {
        let fixture = Fixture::new(100);
        assert!(fixture.get("a", 0).await.is_err());
        assert!(fixture.get("a", 10).await.is_ok());
        assert_eq!(fixture.downloads(), 2);
    }

    #[tokio::test]
    async fn the_one_unused_for_longest_makes_room() {
        let fixture = Fixture::new(100);
        let a = fixture.get("a", 40).await.unwrap().path().to_owned();
        let b = fixture.get("b", 40).await.unwrap().path().to_owned();
        fixture.get("a", 40).await.unwrap();
        fixture.get("c", 40).await.unwrap();
        assert!(a.exists() && !b.exists());
        assert_eq!(fixture.downloads(), 3);
    }

    #[tokio::test]
    async fn files_in_use_stay_until_they_are_let_go() {
        let fixture = Fixture::new(100);
        let held = fixture.get("a", 80).await.unwrap();
        let other = fixture.get("b", 80).await.unwrap();
        let path = other.path().to_owned();
        assert!(held.path().exists() && path.exists());
        drop(other);
        assert!(!path.exists(), "it did not fit");
        fixture.get("a", 80).await.unwrap();
        assert_eq!(fixture.downloads(), 2);
    }
}

//! The test-kit bites: for each promise a driver that breaks it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use dcos_volume::testkit::{self, Memory};
use dcos_volume::{VolumeDriver, VolumeError, VolumeRequest};
use futures::FutureExt;

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Breaks {
    None,
    SamePlace,
    OneUnmount,
    Telling,
    Data,
    Strangers,
    Restarts,
}

#[derive(Debug)]
struct Broken {
    whole: Memory,
    breaks: Breaks,
    mounts: Arc<AtomicUsize>,
    /// Mounts of this instance.
    own: AtomicUsize,
}

#[async_trait]
impl VolumeDriver for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    async fn mount(&self, volume: &VolumeRequest) -> Result<PathBuf, VolumeError> {
        let count = self.mounts.fetch_add(1, Ordering::Relaxed);
        self.own.fetch_add(1, Ordering::Relaxed);
        let path = self.whole.mount(volume).await?;
        if self.breaks == Breaks::SamePlace {
            let other = path.join(count.to_string());
            std::fs::create_dir_all(&other).unwrap();
            return Ok(other);
        }
        Ok(path)
    }

    async fn mounted(&self, name: &str) -> Result<Option<PathBuf>, VolumeError> {
        match self.breaks {
            Breaks::Telling => Ok(None),
            _ => self.whole.mounted(name).await,
        }
    }

    async fn unmount(&self, name: &str) -> Result<(), VolumeError> {
        let left = self.mounts.swap(0, Ordering::Relaxed).saturating_sub(1);
        let own = self.own.load(Ordering::Relaxed);
        match self.breaks {
            // It counts.
            Breaks::OneUnmount if left > 0 => {
                self.mounts.store(left, Ordering::Relaxed);
                return Ok(());
            }
            // It knows only what it mounted itself.
            Breaks::Restarts if own == 0 => return Ok(()),
            Breaks::Data => self.whole.remove(name).await?,
            Breaks::Strangers if self.whole.mounted(name).await?.is_none() => {
                return Err(VolumeError::Refused {
                    driver: "broken".to_owned(),
                    call: "unmount",
                    reason: "it is not mounted".to_owned(),
                });
            }
            _ => {}
        }
        self.whole.unmount(name).await
    }

    async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        self.whole.remove(name).await
    }
}

async fn passes(breaks: Breaks) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (whole, mounts) = (Memory::new(dir.path()), Arc::default());
    let make = || {
        Arc::new(Broken {
            whole: whole.clone(),
            breaks,
            mounts: Arc::clone(&mounts),
            own: AtomicUsize::new(0),
        }) as Arc<dyn VolumeDriver>
    };
    let sample = VolumeRequest::default();
    let checked = AssertUnwindSafe(testkit::all(&make, &sample));
    checked.catch_unwind().await.is_ok()
}

#[tokio::test]
async fn every_promise_is_looked_at() {
    assert!(passes(Breaks::None).await);
    for breaks in [
        Breaks::SamePlace,
        Breaks::OneUnmount,
        Breaks::Telling,
        Breaks::Data,
        Breaks::Strangers,
        Breaks::Restarts,
    ] {
        assert!(!passes(breaks).await, "{breaks:?} is not noticed");
    }
}

//! Removing images when the disk fills up.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{ImageProvisioner, ProvisionError};

/// When images are removed, and which never.
///
/// # Source
/// `--image_gc_config` of Mesos 1.11 (`ImageGcConfig` in `flags.proto`), and an age of our own.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionConfig {
    /// The share of the store's disk that is to stay free, 0 to 1.
    pub headroom: f64,
    /// How often that is looked at.
    pub interval: Duration,
    /// Names of images that stay.
    pub kept: Vec<String>,
    /// Also remove, at each look, images not used for this long.
    pub idle: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    image_disk_headroom: Option<f64>,
    image_disk_watch_interval: Option<Nanoseconds>,
    #[serde(default)]
    excluded_images: Vec<Excluded>,
    image_max_idle: Option<Nanoseconds>,
}

#[derive(Deserialize)]
struct Nanoseconds {
    nanoseconds: u64,
}

#[derive(Deserialize)]
struct Excluded {
    docker: Option<Named>,
    appc: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl CollectionConfig {
    /// Reads the JSON of `--image_gc_config`:
    /// `{"image_disk_headroom": 0.1, "image_disk_watch_interval": {"nanoseconds": 3600000000000},
    /// "excluded_images": [{"type": "DOCKER", "docker": {"name": "busybox"}}],
    /// "image_max_idle": {"nanoseconds": …}}`; all are optional, the last one is ours.
    ///
    /// # Errors
    /// [`ProvisionError`]: what of it is not understood.
    pub fn parse(text: &str) -> Result<Self, ProvisionError> {
        let wrong = |why: String| ProvisionError::new(format!("--image_gc_config: {why}"));
        let wire: Wire = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let headroom = wire.image_disk_headroom.unwrap_or(0.1);
        if !(0.0..=1.0).contains(&headroom) {
            return Err(wrong(format!(
                "image_disk_headroom is {headroom}, not a share from 0 to 1"
            )));
        }
        let duration = |wire: Nanoseconds| Duration::from_nanos(wire.nanoseconds);
        let interval = wire.image_disk_watch_interval.map(duration);
        let excluded = wire.excluded_images.into_iter();
        Ok(Self {
            headroom,
            interval: interval
                .unwrap_or(Duration::from_hours(1))
                .max(Duration::from_secs(1)),
            kept: excluded
                .filter_map(|image| Some(image.docker.or(image.appc)?.name))
                .collect(),
            idle: wire.image_max_idle.map(duration),
        })
    }
}

/// Watches the disk of an [`ImageProvisioner`]'s store.
#[derive(Debug)]
pub struct Collection {
    /// When, and what not.
    pub config: CollectionConfig,
    /// Whose images.
    pub provisioner: ImageProvisioner,
}

impl Collection {
    /// Looks at the disk until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.config.interval) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "could not remove images");
            }
        }
    }

    /// Looks at the disk once, and removes images if it is too full, or they are too old.
    ///
    /// # Errors
    /// [`ProvisionError`]
    pub async fn look(&self) -> Result<(), ProvisionError> {
        let free = free(self.provisioner.store()).map_err(ProvisionError::new)?;
        if free < self.config.headroom {
            tracing::info!(
                free,
                headroom = self.config.headroom,
                "the image store's disk is full"
            );
            self.provisioner
                .prune_named(&self.config.kept, None)
                .await?;
        } else if let Some(idle) = self.config.idle {
            let kept = &self.config.kept;
            self.provisioner.prune_named(kept, Some(idle)).await?;
        }
        Ok(())
    }
}

/// The share of a disk that is free.
fn free(path: &Path) -> io::Result<f64> {
    let disk = rustix::fs::statvfs(path)?;
    #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
    let share = disk.f_bavail as f64 / disk.f_blocks.max(1) as f64;
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_configuration_is_read() {
        let text = r#"{"image_disk_headroom": 0.2, "image_disk_watch_interval": {"nanoseconds": 5000000000},
            "excluded_images": [{"type": "DOCKER", "docker": {"name": "busybox"}}]}"#;
        let read = CollectionConfig::parse(text).unwrap();
        assert!((read.headroom - 0.2).abs() < 1e-9);
        assert_eq!(read.interval, Duration::from_secs(5));
        assert_eq!(read.kept, ["busybox"]);
        for text in ["", "{\"image_disk_headroom\": 2}", "{\"headroom\": 0.1}"] {
            let error = CollectionConfig::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("--image_gc_config: "), "{error}");
        }
    }
}

//! Removing images and containers that nobody uses from the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, ImageSummary};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use dcos_core::units::parse_duration;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::store;

/// When images and containers are removed, and which never.
///
/// # Source
/// `docker-gc`, which DC/OS ran on its agents: what is removed is what no container uses and has
/// not used for a while, but for what lists exclude. The disk is our addition.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectConfig {
    /// How often.
    pub interval: Duration,
    /// How long an image that no container uses is kept.
    pub max_age: Option<Duration>,
    /// The share of the engine's disk that is to stay free, 0 to 1: below it images that no
    /// container uses go, those unused for longest first.
    pub disk_headroom: Option<f64>,
    /// How long containers that ended are kept, whoever started them; ours have their own time.
    pub container_age: Option<Duration>,
    /// Parts of names of images that stay; `*` stands for anything.
    pub excluded_images: Vec<String>,
    /// The same of containers.
    pub excluded_containers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    interval: Option<String>,
    max_age: Option<String>,
    disk_headroom: Option<f64>,
    container_age: Option<String>,
    #[serde(default)]
    excluded_images: Vec<String>,
    #[serde(default)]
    excluded_containers: Vec<String>,
}

impl CollectConfig {
    /// From the JSON of `--docker_gc`.
    ///
    /// # Errors
    /// What of it is not understood.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, String> {
        let wire: Wire =
            serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        let duration = |text: Option<String>| {
            let parsed = text.map(|text| parse_duration(&text));
            parsed.transpose().map_err(|error| error.to_string())
        };
        if let Some(headroom) = wire
            .disk_headroom
            .filter(|share| !(0.0..=1.0).contains(share))
        {
            return Err(format!(
                "disk_headroom is {headroom}, not a share from 0 to 1"
            ));
        }
        let interval = duration(wire.interval)?.unwrap_or(Duration::from_hours(1));
        Ok(Self {
            interval: interval.max(Duration::from_secs(1)),
            max_age: duration(wire.max_age)?,
            disk_headroom: wire.disk_headroom,
            container_age: duration(wire.container_age)?,
            excluded_images: wire.excluded_images,
            excluded_containers: wire.excluded_containers,
        })
    }
}

/// Removes what nobody uses.
#[derive(Debug)]
pub struct Collector {
    engine: Engine,
    config: CollectConfig,
    /// Since when images are unused, by id; kept, since the engine does not know.
    state: PathBuf,
}

/// An image that could go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: String,
    /// Its names; without any, its id.
    names: Vec<String>,
    since: u64,
}

impl Collector {
    pub(crate) fn new(engine: Engine, config: CollectConfig, state: PathBuf) -> Self {
        Self {
            engine,
            config,
            state,
        }
    }

    /// Looks every now and then, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.config.interval) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(error, "could not remove what Docker keeps");
            }
        }
    }

    /// Looks once, and removes what is due. Tells how many images and containers went.
    ///
    /// # Errors
    /// What the engine did not want to tell.
    pub async fn look(&self) -> Result<(usize, usize), String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let containers = self.engine.api().list_containers(Some(options)).await;
        let containers = containers.map_err(|error| self.engine.text(&error))?;
        let removed = self.remove_containers(&containers, now).await;
        let kept = containers
            .iter()
            .filter(|one| one.id.as_ref().is_none_or(|id| !removed.contains(id)));
        let used: BTreeSet<_> = kept.filter_map(|one| one.image_id.clone()).collect();
        let options = ListImagesOptionsBuilder::new().build();
        let images = self.engine.api().list_images(Some(options)).await;
        let images = images.map_err(|error| self.engine.text(&error))?;
        let candidates = self.candidates(&images, &used, now);
        let mut gone = 0;
        for candidate in candidates {
            let age = Duration::from_secs(now.saturating_sub(candidate.since));
            let old = self.config.max_age.is_some_and(|max| age >= max);
            if (old || self.is_full().await) && self.remove_image(&candidate).await {
                gone += 1;
            }
        }
        Ok((gone, removed.len()))
    }

    async fn remove_containers(&self, all: &[ContainerSummary], now: u64) -> BTreeSet<String> {
        let mut removed = BTreeSet::new();
        let Some(age) = self.config.container_age else {
            return removed;
        };
        for one in all {
            let ended = matches!(
                one.state,
                Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD)
            );
            let ours = one
                .labels
                .iter()
                .flatten()
                .any(|(name, _)| name == crate::lifecycle::NODE_LABEL);
            let mut names = one.names.iter().flatten();
            let kept = names.any(|name| {
                matches(
                    &self.config.excluded_containers,
                    name.trim_start_matches('/'),
                )
            });
            let Some(id) = one.id.clone().filter(|_| ended && !ours && !kept) else {
                continue;
            };
            let state = self
                .engine
                .inspect(&id)
                .await
                .ok()
                .flatten()
                .and_then(|one| one.state);
            let finished =
                state.and_then(|state| crate::logs::time_of(state.finished_at.as_deref()?));
            let finished = finished.map_or(now, |at| at / 1_000_000_000);
            if now.saturating_sub(finished) < age.as_secs() {
                continue;
            }
            let options = RemoveContainerOptionsBuilder::new().v(true).build();
            match self.engine.api().remove_container(&id, Some(options)).await {
                Ok(()) => {
                    tracing::info!(container = id, "removed from Docker");
                    removed.insert(id);
                }
                Err(error) => {
                    tracing::warn!(
                        container = id,
                        error = self.engine.text(&error),
                        "not removed"
                    );
                }
            }
        }
        removed
    }

    /// Images no container uses, those unused for longest first.
    fn candidates(
        &self,
        images: &[ImageSummary],
        used: &BTreeSet<String>,
        now: u64,
    ) -> Vec<Candidate> {
        let known = std::fs::read(&self.state).ok();
        let known: BTreeMap<String, u64> = known
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let unused = images.iter().filter(|image| !used.contains(&image.id));
        let since: BTreeMap<String, u64> = unused
            .clone()
            .map(|image| {
                (
                    image.id.clone(),
                    known.get(&image.id).copied().unwrap_or(now),
                )
            })
            .collect();
        let kept = serde_json::to_vec(&since).unwrap_or_default();
        if let Err(error) = store::write(&self.state, &kept) {
            tracing::warn!(%error, path = ?self.state, "since when images are unused is not kept");
        }
        let excluded = |name: &String| matches(&self.config.excluded_images, name);
        let mut candidates: Vec<_> = unused
            .filter(|image| !image.repo_tags.iter().chain([&image.id]).any(excluded))
            .map(|image| Candidate {
                id: image.id.clone(),
                names: image
                    .repo_tags
                    .iter()
                    .filter(|tag| *tag != "<none>:<none>")
                    .cloned()
                    .collect(),
                since: since[&image.id],
            })
            .collect();
        candidates.sort_by_key(|candidate| (candidate.since, candidate.id.clone()));
        candidates
    }

    /// Removes an image by all of its names; one that was taken into use meanwhile stays.
    async fn remove_image(&self, candidate: &Candidate) -> bool {
        let id = std::slice::from_ref(&candidate.id);
        let names = if candidate.names.is_empty() {
            id
        } else {
            &candidate.names
        };
        for name in names {
            let options = RemoveImageOptionsBuilder::new().build();
            match self
                .engine
                .api()
                .remove_image(name, Some(options), None)
                .await
            {
                Ok(_) => tracing::info!(image = name, "removed from Docker"),
                Err(error) => {
                    let error = self.engine.text(&error);
                    tracing::info!(image = name, error, "not removed from Docker");
                    return false;
                }
            }
        }
        true
    }

    async fn is_full(&self) -> bool {
        let Some(headroom) = self.config.disk_headroom else {
            return false;
        };
        let root = self
            .engine
            .api()
            .info()
            .await
            .ok()
            .and_then(|info| info.docker_root_dir);
        let disk = root.and_then(|root| rustix::fs::statvfs(root).ok());
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let free = disk.map_or(1.0, |disk| {
            disk.f_bavail as f64 / disk.f_blocks.max(1) as f64
        });
        free < headroom
    }
}

/// Whether a name fits one of these, which may hold `*`. A name without a tag fits all of its tags.
fn matches(patterns: &[String], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| fits(pattern, name) || fits(&format!("{pattern}:*"), name))
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|tail| {
            let mut ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            ends.any(|at| fits(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        let kept = |pattern: &str, name: &str| matches(&[pattern.to_owned()], name);
        assert!(kept("busybox", "busybox:latest"));
        assert!(kept("busybox:1", "busybox:1"));
        assert!(!kept("busybox:1", "busybox:2"));
        assert!(kept("registry.example/*", "registry.example/a/b:1"));
        assert!(kept("*/base:*", "r/base:7"));
        assert!(!kept("base", "r/base:7"));
    }

    #[test]
    fn configurations_are_read_or_refused() {
        let value =
            serde_json::json!({"max_age": "2days", "disk_headroom": 0.2, "excluded_images": ["a"]});
        let read = CollectConfig::from_json(&value).unwrap();
        assert_eq!(read.max_age, Some(Duration::from_hours(48)));
        assert_eq!(read.interval, Duration::from_hours(1));
        for wrong in [
            serde_json::json!({"disk_headroom": 2}),
            serde_json::json!({"age": "1d"}),
        ] {
            assert!(CollectConfig::from_json(&wrong).is_err(), "{wrong}");
        }
    }
}

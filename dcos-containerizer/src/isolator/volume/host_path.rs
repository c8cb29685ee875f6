//! `volume/host_path`: folders and files of the node in a container.
//!
//! # Source
//! Mesos 1.11 isolator of this name. Departure: a missing path that is made below one of
//! `--host_path_volume_force_creation` must not lead over a link or a `..`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::mesos::volume::source::{HostPath, Type as SourceType};
use dcos_proto::mesos::{ContainerId, MountPropagation, Volume, mount_propagation};

use super::{Others, Source, attach, refuse_unknown, volumes};
use crate::isolator::patience::{self, Going, PATIENCE};
use crate::isolator::place;
use crate::isolator::{ContainerConfig, Draft, Isolator, IsolatorError};

/// Mounts folders and files of the node.
#[derive(Debug, Clone)]
pub struct HostPathIsolator {
    sandbox_directory: PathBuf,
    force_creation: Vec<PathBuf>,
    others: Others,
    patience: Duration,
}

impl HostPathIsolator {
    /// Missing host folders are made below any of `force_creation`
    /// (`--host_path_volume_force_creation`), and are an error elsewhere.
    pub fn new(sandbox_directory: PathBuf, force_creation: Vec<PathBuf>) -> Self {
        Self {
            sandbox_directory,
            force_creation,
            others: Others::default(),
            patience: PATIENCE,
        }
    }

    /// There are isolators for `others`, too: volumes of kinds for which there is none are refused.
    #[must_use]
    pub fn beside(mut self, others: Others) -> Self {
        self.others = others;
        self
    }

    fn source(&self, wanted: &HostPath, going: &Going) -> Result<Source, IsolatorError> {
        let path = Path::new(&wanted.path);
        let refused = |why: &str| {
            IsolatorError::refused(format!("host path {} of a volume {why}", path.display()))
        };
        if path.is_relative() {
            return Err(refused("is not absolute"));
        }
        going.at(path)?;
        if !path.exists() {
            let allowed = self.force_creation.iter();
            let mut allowed =
                allowed.filter_map(|base| Some((base, path.strip_prefix(base).ok()?)));
            let Some((base, below)) = allowed.next() else {
                return Err(refused("does not exist"));
            };
            going.on()?;
            std::fs::create_dir_all(base).map_err(IsolatorError::file("making", base))?;
            going.on()?;
            place::make_folders(base, below).map_err(IsolatorError::file("making", path))?;
        }
        let mut source = Source::at(path);
        source.both_ways = wanted.mount_propagation.is_some_and(is_bidirectional);
        if source.both_ways && !is_shared(path)? {
            return Err(refused(
                "is not under a shared mount, so that mounts in it cannot be seen both ways",
            ));
        }
        Ok(source)
    }
}

/// The host path a volume names, in the old form or the new, and how mounts spread.
fn host_path(volume: &Volume) -> Option<HostPath> {
    if let Some(source) = &volume.source {
        return (source.r#type == Some(SourceType::HostPath.into()))
            .then(|| source.host_path.clone())?;
    }
    // With an image `host_path` is where the image's volume goes; a relative one is the sandbox's:
    // both other isolators' business.
    let path = volume
        .host_path
        .clone()
        .filter(|path| volume.image.is_none() && path.starts_with('/'))?;
    Some(HostPath {
        path,
        mount_propagation: None,
    })
}

fn is_bidirectional(propagation: MountPropagation) -> bool {
    propagation.mode == Some(mount_propagation::Mode::Bidirectional.into())
}

/// Whether the mount that `path` is on shares what is mounted in it.
fn is_shared(path: &Path) -> Result<bool, IsolatorError> {
    const TABLE: &str = "/proc/self/mountinfo";
    let path = path
        .canonicalize()
        .map_err(IsolatorError::file("finding", path))?;
    let table = std::fs::read_to_string(TABLE).map_err(IsolatorError::file("reading", TABLE))?;
    Ok(shares(&table, &path))
}

/// Whether the innermost mount above `path` has a peer group. Of several at one place the last
/// one counts.
fn shares(table: &str, path: &Path) -> bool {
    let mounts = table.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(4);
        let point = PathBuf::from(unescape(words.next()?));
        let shared = words
            .take_while(|word| *word != "-")
            .any(|word| word.starts_with("shared:"));
        path.starts_with(&point)
            .then(|| (point.components().count(), shared))
    });
    let innermost = mounts.max_by_key(|(depth, _)| *depth);
    innermost.is_some_and(|(_, shared)| shared)
}

/// As the kernel writes paths: space, tab, newline and backslash in octal.
pub(in crate::isolator) fn unescape(path: &str) -> String {
    let codes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let plain = |path: String, (code, text)| path.replace(code, text);
    codes.into_iter().fold(path.to_owned(), plain)
}

#[async_trait]
impl Isolator for HostPathIsolator {
    fn name(&self) -> &'static str {
        "volume/host_path"
    }

    fn supports_nesting(&self) -> bool {
        true
    }

    async fn recover(&self, _: &[ContainerId]) -> Result<(), IsolatorError> {
        Ok(())
    }

    async fn prepare(
        &self,
        config: &ContainerConfig,
        draft: &mut Draft,
    ) -> Result<(), IsolatorError> {
        for volume in volumes(config) {
            refuse_unknown(volume, self.others)?;
        }
        if !volumes(config).any(|volume| host_path(volume).is_some()) {
            return Ok(());
        }
        let (isolator, config, mut shaped) = (self.clone(), config.clone(), draft.clone());
        let work = move |going: &Going| {
            for volume in volumes(&config) {
                if let Some(wanted) = host_path(volume) {
                    let source = isolator.source(&wanted, going)?;
                    going.on()?;
                    let place = &isolator.sandbox_directory;
                    attach(&source, volume, place, &config, &mut shaped)?;
                }
            }
            Ok(shaped)
        };
        *draft = patience::wait(self.patience, work).await?;
        Ok(())
    }

    async fn cleanup(&self, _: &ContainerId) -> Result<(), IsolatorError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_decides() {
        let table = "\
1 0 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
2 1 0:20 / /mnt rw - tmpfs tmpfs rw
3 2 0:21 / /mnt/a\\040b rw,relatime master:3 shared:7 - tmpfs tmpfs rw
4 1 0:22 / /srv rw shared:9 - tmpfs tmpfs rw
5 4 0:23 / /srv rw - tmpfs tmpfs rw
";
        for (path, expected) in [
            ("/etc", true),
            ("/mnt/x", false),
            ("/mnt/a b/c", true),
            ("/srv/x", false),
        ] {
            assert_eq!(shares(table, Path::new(path)), expected, "{path}");
        }
    }

    /// A file system in user space whose server never answers stands for one of a server that died.
    #[tokio::test]
    async fn a_folder_that_does_not_answer_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let Some(silent) = crate::isolator::testkit::Silent::mount(dir.path()) else {
            return;
        };
        let mut isolator = HostPathIsolator::new("/sandbox".into(), Vec::new());
        isolator.patience = Duration::from_millis(100);
        let volume = Volume {
            container_path: "data".into(),
            host_path: Some(dir.path().join("data").to_str().unwrap().to_owned()),
            ..Volume::default()
        };
        let mut config = crate::isolator::testkit::config("silent");
        config.container = Some(dcos_proto::mesos::ContainerInfo {
            volumes: vec![volume],
            ..Default::default()
        });
        let mut draft = Draft::new(&config).unwrap();
        let refused = isolator.prepare(&config, &mut draft).await;
        // Nobody else has to wait for it.
        isolator.patience = PATIENCE * 60;
        let next = isolator.prepare(&config, &mut draft).await;
        drop(silent);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("data does not answer"), "{refused}");
        let next = next.unwrap_err().to_string();
        let place = format!("is in {}, which", dir.path().display());
        assert!(next.contains(&place), "{next}");
    }

    #[test]
    fn only_what_may_be_made_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("data");
        let isolator = HostPathIsolator::new("/sandbox".into(), vec![base.clone()]);
        let source = |path: PathBuf| {
            let wanted = HostPath {
                path: path.to_str().unwrap().to_owned(),
                mount_propagation: None,
            };
            isolator.source(&wanted, &Going::default())
        };
        assert!(source(base.join("a/b")).unwrap().path.is_dir());
        std::os::unix::fs::symlink(dir.path(), base.join("link")).unwrap();
        for path in ["other", "data/../other", "data/link/other", "data2/x"] {
            assert!(source(dir.path().join(path)).is_err(), "{path}");
        }
        assert!(!dir.path().join("other").exists());
    }
}

//! What an image says about running it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What an image says about running it.
///
/// # Source
/// OCI image specification, `config.md`; Docker's image configuration has the same fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the whole command if there is no entry point.
    pub command: Vec<String>,
    /// `NAME=value` each.
    pub environment: Vec<String>,
    /// Where it starts.
    pub working_directory: Option<PathBuf>,
    /// Who runs it.
    pub user: Option<String>,
}

/// An image's configuration as registries and archives keep it.
#[derive(Debug, Deserialize)]
pub(crate) struct Document {
    config: Option<Runtime>,
    rootfs: Rootfs,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Runtime {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

/// This machine's architecture, as images name it.
pub(crate) fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Document {
    /// How to run it, and the digests of its layers' tar files, lowest first.
    pub(crate) fn parts(self) -> (ImageConfig, Vec<String>) {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let config = self.config.unwrap_or_default();
        let config = ImageConfig {
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            environment: config.env.unwrap_or_default(),
            working_directory: filled(config.working_dir).map(PathBuf::from),
            user: filled(config.user),
        };
        (config, self.rootfs.diff_ids)
    }
}

//! Which plugins there are: files in Mesos's form.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::CsiPlugin;
use crate::{Drivers, VolumeDriver, VolumeError, files};

/// A plugin as Mesos's `CSIPluginInfo` describes it, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PluginInfo {
    /// Its name, as in `CSIVolume.plugin_name`.
    #[serde(rename = "type")]
    pub kind: String,
    /// An instance among several; not looked at.
    #[serde(default)]
    pub name: Option<String>,
    /// Where its services listen.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Containers to run it in: not supported.
    #[serde(default)]
    pub containers: Vec<serde_json::Value>,
    /// Where it publishes volumes; a folder of the agent's by default.
    #[serde(default)]
    pub target_path_root: Option<PathBuf>,
    /// It wants to find the target path, although CSI says that it makes it.
    #[serde(default)]
    pub target_path_exists: bool,
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    /// Which service.
    pub csi_service: Service,
    /// A socket's path, with or without `unix://`.
    pub endpoint: String,
}

/// The services of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Service {
    /// Attaches volumes to nodes.
    ControllerService,
    /// Makes them available on a node.
    NodeService,
}

impl PluginInfo {
    /// The socket of a service.
    pub fn socket(&self, service: Service) -> Option<PathBuf> {
        let endpoint = self
            .endpoints
            .iter()
            .find(|one| one.csi_service == service)?;
        let path = &endpoint.endpoint;
        Some(path.strip_prefix("unix://").unwrap_or(path).into())
    }

    fn check(&self) -> Result<(), &'static str> {
        if !self.containers.is_empty() {
            return Err("plugins in containers of the agent (`containers`) are not supported");
        }
        if !files::is_plain(&self.kind) {
            return Err("its type has letters, digits, `-`, `_` and `.` only");
        }
        match self.socket(Service::NodeService) {
            None => Err("it has no endpoint of the service NODE_SERVICE"),
            Some(_) => Ok(()),
        }
    }
}

/// The plugins of a folder of configurations (`--csi_plugin_config_dir`), a file a plugin; read
/// anew whenever one is wanted.
#[derive(Debug, Clone)]
pub struct CsiFolder {
    configurations: PathBuf,
    work: PathBuf,
}

impl CsiFolder {
    /// Plugins described in `configurations`; what is known of their volumes is kept below `work`.
    pub fn new(configurations: PathBuf, work: PathBuf) -> Self {
        Self {
            configurations,
            work,
        }
    }

    fn read(&self, name: &str) -> Result<PluginInfo, String> {
        let folder = &self.configurations;
        let entries =
            fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut wrong = Vec::new();
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            match parse(file) {
                Ok(info) if info.kind == name => {
                    return info.check().map(|()| info).map_err(str::to_owned);
                }
                Ok(_) => {}
                Err(why) => wrong.push(format!("; {}: {why}", file.display())),
            }
        }
        Err(format!(
            "no file in {} describes it{}",
            folder.display(),
            wrong.concat()
        ))
    }
}

fn parse(file: &Path) -> Result<PluginInfo, String> {
    let text = fs::read(file).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

impl Drivers for CsiFolder {
    fn find(&self, name: &str) -> Result<Arc<dyn VolumeDriver>, VolumeError> {
        let info = self.read(name).map_err(|reason| VolumeError::NoDriver {
            name: name.to_owned(),
            reason,
        })?;
        Ok(Arc::new(CsiPlugin::new(info, &self.work)?))
    }
}

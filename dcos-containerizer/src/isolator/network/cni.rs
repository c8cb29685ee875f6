//! Networks by CNI plugins: programs that an operator installed.
//!
//! # Source
//! The Container Network Interface specification, 0.1 to 1.0; Mesos 1.11 docs/cni.md for what
//! plugins are told beyond it.

mod config;
mod plugin;
mod result;

use std::fs;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::config::Network;
use self::plugin::{Command, Plugins};
use super::{Attached, Attachment, ContainerNetwork, NetworkError};
use crate::containerizer::runtime;

/// What the plugins were given and said last, in an attachment's folder.
const NETWORK: &str = "network.json";

/// Networks as CNI configurations say.
#[derive(Debug)]
pub struct CniNetworks {
    configurations: PathBuf,
    plugins: Plugins,
}

/// An attachment, for later.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    network: Network,
    /// What the last plugin said; absent before that.
    result: Option<Value>,
}

impl CniNetworks {
    /// Networks from the `.conf`, `.json` and `.conflist` files in `configurations`
    /// (`--network_cni_config_dir`), which are read again for each container; plugins are looked
    /// for in `plugins`, folders separated by colons (`--network_cni_plugins_dir`).
    pub fn new(configurations: PathBuf, plugins: &str) -> Self {
        Self {
            configurations,
            plugins: Plugins::new(plugins),
        }
    }

    async fn run(
        &self,
        command: Command,
        attachment: &Attachment,
        kept: &Kept,
    ) -> Result<Option<Value>, NetworkError> {
        let mut plugins: Vec<_> = kept.network.plugins.iter().collect();
        if command == Command::Del {
            plugins.reverse();
        }
        let mut result = kept.result.clone();
        for plugin in plugins {
            let request = kept.network.request(plugin, attachment, result.as_ref());
            let said = self.plugins.run(command, attachment, request).await?;
            if command == Command::Add {
                result = Some(said);
            }
        }
        Ok(result)
    }
}

#[async_trait]
impl ContainerNetwork for CniNetworks {
    async fn attach(&self, attachment: &Attachment) -> Result<Attached, NetworkError> {
        let network = Network::find(&self.configurations, &attachment.network)?;
        let mut kept = Kept {
            network,
            result: None,
        };
        save(attachment, &kept)?;
        kept.result = self.run(Command::Add, attachment, &kept).await?;
        save(attachment, &kept)?;
        result::read(kept.result.as_ref().unwrap_or(&Value::Null))
            .map_err(|why| NetworkError(format!("network '{}': {why}", attachment.network)))
    }

    async fn detach(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let path = attachment.folder.join(NETWORK);
        let Ok(bytes) = fs::read(&path) else {
            // No plugin was asked.
            return Ok(());
        };
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|error| NetworkError::file("reading", &path, error))?;
        self.run(Command::Del, attachment, &kept).await.map(drop)
    }
}

fn save(attachment: &Attachment, kept: &Kept) -> Result<(), NetworkError> {
    let path = attachment.folder.join(NETWORK);
    let text = serde_json::to_vec(kept).expect("it has text keys only");
    runtime::replace(&path, &text).map_err(|error| NetworkError::file("writing", &path, error))
}

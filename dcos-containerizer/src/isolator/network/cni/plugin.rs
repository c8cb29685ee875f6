//! Calls plugins.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;

use super::super::ports::PortMapper;
use super::super::{Attachment, NetworkError};

/// What a plugin is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
}

/// How long a plugin may take. One that asks a server for an address has to give up before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where plugins find `iptables` and the like if we have no path ourselves.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs in some folders.
#[derive(Debug)]
pub(super) struct Plugins(String);

impl Plugins {
    pub(super) fn new(folders: &str) -> Self {
        Self(folders.to_owned())
    }

    /// Runs the plugin that `request` names; gives its result.
    pub(super) fn run<'a>(
        &'a self,
        command: Command,
        attachment: &'a Attachment,
        request: Map<String, Value>,
    ) -> BoxFuture<'a, Result<Value, NetworkError>> {
        async move {
            let kind = request
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if kind == PortMapper::TYPE {
                return self.map_ports(command, attachment, &request).await;
            }
            let program = self.find(kind)?;
            call(&program, command, attachment, &self.0, &request)
                .await
                .map_err(|why| {
                    let doing = match command {
                        Command::Add => "attach to",
                        Command::Del => "detach from",
                    };
                    NetworkError(format!(
                        "CNI plugin '{kind}' cannot {doing} network '{}': {why}",
                        attachment.network
                    ))
                })
        }
        .boxed()
    }

    /// The plugin that Mesos brings along: another one connects, and it maps ports.
    async fn map_ports(
        &self,
        command: Command,
        attachment: &Attachment,
        request: &Map<String, Value>,
    ) -> Result<Value, NetworkError> {
        let mapper = PortMapper::read(request)?;
        match command {
            Command::Add => {
                let delegate = mapper.delegate(request);
                let result = self.run(command, attachment, delegate).await?;
                let attached = super::result::read(&result).map_err(NetworkError)?;
                mapper.add(attachment, &attached.addresses).await?;
                Ok(result)
            }
            Command::Del => {
                mapper.remove(attachment).await?;
                self.run(command, attachment, mapper.delegate(request))
                    .await
            }
        }
    }

    fn find(&self, kind: &str) -> Result<PathBuf, NetworkError> {
        let folders = self.0.split(':').filter(|folder| !folder.is_empty());
        let mut programs = folders.map(|folder| Path::new(folder).join(kind));
        let found = programs.find(|program| !kind.contains('/') && program.is_file());
        found.ok_or_else(|| {
            NetworkError(format!(
                "Unable to find CNI plugin '{kind}' in `--network_cni_plugins_dir` ({})",
                self.0
            ))
        })
    }
}

async fn call(
    program: &Path,
    command: Command,
    attachment: &Attachment,
    folders: &str,
    request: &Map<String, Value>,
) -> Result<Value, String> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let mut process = tokio::process::Command::new(program);
    process
        .env_clear()
        .env("PATH", path)
        .env(
            "CNI_COMMAND",
            match command {
                Command::Add => "ADD",
                Command::Del => "DEL",
            },
        )
        .env("CNI_CONTAINERID", attachment.container.to_string())
        .env("CNI_IFNAME", &attachment.interface)
        .env("CNI_PATH", folders)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(namespace) = &attachment.namespace {
        process.env("CNI_NETNS", namespace);
    }
    let mut child = process.spawn().map_err(|error| error.to_string())?;
    let mut input = child.stdin.take().expect("it is piped");
    let text = Value::Object(request.clone()).to_string();
    let talk = async {
        // One that does not read says why on its output.
        input.write_all(text.as_bytes()).await.ok();
        drop(input);
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, talk).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("it did not end within {PATIENCE:?}")),
    };
    let said = serde_json::from_slice::<Value>(&output.stdout).ok();
    if output.status.success() {
        return match (said, command) {
            (Some(said), _) => Ok(said),
            (None, Command::Del) => Ok(Value::Null),
            (None, Command::Add) => Err("its result is no JSON".to_owned()),
        };
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let text = |key| Some(said.as_ref()?.get(key)?.as_str()?.trim().to_owned());
    let told: Vec<String> = [text("msg"), text("details"), Some(stderr.trim().to_owned())]
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
        .collect();
    Err(if told.is_empty() {
        format!("{}, and it says nothing", output.status)
    } else {
        told.join(": ")
    })
}

//! One plugin: JSON over HTTP, a connection a call.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Address;
use crate::{VolumeDriver, VolumeError, VolumeRequest};

/// What Docker says it speaks.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

/// No answer of a plugin is larger.
const LARGEST: usize = 1 << 20;

/// How long a plugin may take: as long as `dvdcli` was given for mounts and unmounts.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_TO_UNMOUNT: Duration = Duration::from_secs(600);

/// The volumes of one plugin.
#[derive(Debug, Clone)]
pub struct DockerVolumes {
    name: String,
    address: Address,
}

/// Whom a plugin mounts for. One name for all containers: which of them use a volume is counted
/// here, and a mount is told apart from its repetition.
const USER: &str = "mesos";

/// An answer of a plugin that says no.
enum No {
    /// There is no such call.
    Unknown,
    /// In its words.
    Says(String),
}

impl DockerVolumes {
    /// The plugin called `name` at `address`.
    pub fn new(name: &str, address: Address) -> Self {
        Self {
            name: name.to_owned(),
            address,
        }
    }

    async fn call(
        &self,
        call: &'static str,
        body: &Value,
        patience: Duration,
    ) -> Result<Result<Value, No>, VolumeError> {
        let unreachable = |reason: String| VolumeError::Unreachable {
            driver: self.name.clone(),
            call,
            reason,
        };
        let exchanged = match &self.address {
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => tokio::time::timeout(patience, exchange(stream, call, body)).await,
                Err(error) => return Err(unreachable(format!("{}: {error}", path.display()))),
            },
            Address::Tcp(address) => match TcpStream::connect(address).await {
                Ok(stream) => tokio::time::timeout(patience, exchange(stream, call, body)).await,
                Err(error) => return Err(unreachable(format!("{address}: {error}"))),
            },
        };
        let late = |_| format!("nothing for {} seconds", patience.as_secs());
        let (status, answer) = exchanged.map_err(late).flatten().map_err(unreachable)?;
        if status == StatusCode::NOT_FOUND {
            return Ok(Err(No::Unknown));
        }
        let read: Option<Value> = serde_json::from_slice(&answer).ok();
        let says = read.as_ref().and_then(|read| read.get("Err")?.as_str());
        match (
            says.filter(|says| !says.is_empty()),
            status.is_success(),
            &read,
        ) {
            (Some(says), _, _) => Ok(Err(No::Says(says.to_owned()))),
            (None, true, _) if answer.is_empty() => Ok(Ok(Value::Null)),
            (None, true, Some(read)) => Ok(Ok(read.clone())),
            (None, true, None) => Err(unreachable("its answer is no JSON".to_owned())),
            (None, false, _) => {
                let text = String::from_utf8_lossy(&answer);
                Ok(Err(No::Says(format!("{status}: {}", text.trim()))))
            }
        }
    }

    /// As `call`; no answer but yes will do.
    async fn demand(
        &self,
        call: &'static str,
        body: &Value,
        patience: Duration,
    ) -> Result<Value, VolumeError> {
        let reason = match self.call(call, body, patience).await? {
            Ok(answer) => return Ok(answer),
            Err(No::Unknown) => "there is no such call".to_owned(),
            Err(No::Says(reason)) => reason,
        };
        Err(VolumeError::Refused {
            driver: self.name.clone(),
            call,
            reason,
        })
    }

    /// Whether there is a volume called `name`; unknown if the plugin cannot tell.
    async fn exists(&self, name: &str) -> Result<Option<bool>, VolumeError> {
        let wanted = json!({"Name": name});
        Ok(
            match self.call("VolumeDriver.Get", &wanted, PATIENCE).await? {
                Ok(_) => Some(true),
                Err(No::Says(_)) => Some(false),
                Err(No::Unknown) => None,
            },
        )
    }

    fn place(&self, call: &'static str, answer: &Value) -> Result<Option<PathBuf>, VolumeError> {
        let path = answer.get("Mountpoint").and_then(Value::as_str);
        let path = path.filter(|path| !path.is_empty()).map(PathBuf::from);
        match path {
            Some(path) if path.is_relative() => Err(VolumeError::Refused {
                driver: self.name.clone(),
                call,
                reason: format!("it mounts at {}, which is not absolute", path.display()),
            }),
            path => Ok(path),
        }
    }

    async fn activate(&self) -> Result<(), VolumeError> {
        const CALL: &str = "Plugin.Activate";
        let manifest = self.demand(CALL, &Value::Null, PATIENCE).await?;
        let parts = manifest.get("Implements").and_then(Value::as_array);
        if parts.is_some_and(|parts| parts.iter().any(|part| part == "VolumeDriver")) {
            return Ok(());
        }
        Err(VolumeError::Refused {
            driver: self.name.clone(),
            call: CALL,
            reason: "it is no volume driver".to_owned(),
        })
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    call: &str,
    body: &Value,
) -> Result<(StatusCode, Bytes), String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let body = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let request = Request::post(format!("/{call}"))
        .header("host", "plugin.moby.localhost")
        .header("accept", MEDIA_TYPE)
        .header("content-type", MEDIA_TYPE)
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It may close before the last bytes are read.
        _ = &mut connection => answer.await,
    }
}

#[async_trait]
impl VolumeDriver for DockerVolumes {
    fn name(&self) -> &str {
        &self.name
    }

    async fn mount(&self, volume: &VolumeRequest) -> Result<PathBuf, VolumeError> {
        const CALL: &str = "VolumeDriver.Mount";
        self.activate().await?;
        let name = &volume.name;
        if self.exists(name).await? != Some(true) {
            let wanted = json!({"Name": name, "Opts": volume.options});
            self.demand("VolumeDriver.Create", &wanted, PATIENCE)
                .await?;
        }
        let mount = json!({"Name": name, "ID": USER});
        let answer = self.demand(CALL, &mount, PATIENCE).await?;
        match self.place(CALL, &answer)? {
            Some(path) => Ok(path),
            None => Err(VolumeError::Refused {
                driver: self.name.clone(),
                call: CALL,
                reason: "it does not say where".to_owned(),
            }),
        }
    }

    async fn mounted(&self, name: &str) -> Result<Option<PathBuf>, VolumeError> {
        const CALL: &str = "VolumeDriver.Path";
        match self.call(CALL, &json!({"Name": name}), PATIENCE).await? {
            Ok(answer) => self.place(CALL, &answer),
            Err(_) => Ok(None),
        }
    }

    async fn unmount(&self, name: &str) -> Result<(), VolumeError> {
        if self.exists(name).await? == Some(false) {
            return Ok(());
        }
        let unmount = json!({"Name": name, "ID": USER});
        let done = self.demand("VolumeDriver.Unmount", &unmount, PATIENCE_TO_UNMOUNT);
        match done.await {
            // There are plugins that refuse what is not mounted.
            Err(error @ VolumeError::Refused { .. }) => match self.mounted(name).await? {
                None => Ok(()),
                Some(_) => Err(error),
            },
            done => done.map(drop),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), VolumeError> {
        if self.exists(name).await? == Some(false) {
            return Ok(());
        }
        let volume = json!({"Name": name});
        let removed = self.demand("VolumeDriver.Remove", &volume, PATIENCE).await;
        removed.map(drop)
    }
}

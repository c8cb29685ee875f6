//! gRPC to one service of a plugin, over a Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::VolumeError;

/// How long a plugin may take for one call.
const PATIENCE: Duration = Duration::from_secs(120);

/// A plugin that is being started anew is asked again after these.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1000),
    Duration::from_millis(2500),
];

/// One service of a plugin.
#[derive(Debug, Clone)]
pub(super) struct Client {
    driver: String,
    socket: PathBuf,
    channel: Channel,
}

impl Client {
    /// Connects at the first call.
    pub(super) fn new(driver: &str, socket: &Path) -> Self {
        let path = socket.to_owned();
        // The address is for the header only.
        let channel = Endpoint::from_static("http://localhost")
            .timeout(PATIENCE)
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }));
        Self {
            driver: driver.to_owned(),
            socket: socket.to_owned(),
            channel,
        }
    }

    /// Calls `method`, such as `/csi.v1.Node/NodePublishVolume`.
    ///
    /// # Errors
    /// [`VolumeError::Refused`] with what the plugin says, [`VolumeError::Unreachable`] if it says
    /// nothing.
    pub(super) async fn call<Q, R>(
        &self,
        method: &'static str,
        request: &Q,
    ) -> Result<R, VolumeError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        match self.try_call(method, request).await {
            Ok(answer) => Ok(answer),
            Err(status) => Err(self.error(method, &status)),
        }
    }

    /// As [`call`](Self::call); of what is not there nothing is to be undone.
    pub(super) async fn undo<Q>(&self, method: &'static str, request: &Q) -> Result<(), VolumeError>
    where
        Q: Message + Clone + 'static,
    {
        match self
            .try_call::<Q, super::messages::Empty>(method, request)
            .await
        {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.error(method, &status)),
        }
    }

    async fn try_call<Q, R>(&self, method: &'static str, request: &Q) -> Result<R, Status>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let mut pauses = PAUSES.into_iter();
        loop {
            let status = match self.once(method, request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            match pauses.next().filter(|_| status.code() == Code::Unavailable) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(status),
            }
        }
    }

    async fn once<Q, R>(&self, method: &'static str, request: Q) -> Result<R, Status>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(method);
        let codec = ProstCodec::<Q, R>::default();
        let answer = grpc.unary(Request::new(request), path, codec).await?;
        Ok(answer.into_inner())
    }

    fn error(&self, call: &'static str, status: &Status) -> VolumeError {
        let driver = self.driver.clone();
        if status.code() == Code::Unavailable {
            let reason = format!("{}: {}", self.socket.display(), status.message());
            return VolumeError::Unreachable {
                driver,
                call,
                reason,
            };
        }
        VolumeError::Refused {
            driver,
            call,
            reason: format!("{}: {}", status.code(), status.message()),
        }
    }
}

//! The plug point between an executor's driver and the agent, and its HTTP form.

use std::fmt;

use async_trait::async_trait;
use dcos_proto::executor::{Call, Event};
use dcos_wire::tls::Ssl;
use dcos_wire::{Answer, Client, ClientError, MediaType, Records};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use tokio::sync::mpsc;
use tracing::debug;

use super::{AgentEndpoint, ExecutorConfig, TransportError};

/// Carries an executor's calls to the agent and its events back.
///
/// # Contract
/// 1. [`subscribe`](Self::subscribe) opens a new stream; an older one of the same executor ends.
/// 2. The first event of a stream is SUBSCRIBED, and events arrive in the order the agent sent
///    them. The receiver is closed when the link breaks or the agent closes it.
/// 3. [`call`](Self::call) returns once the agent has accepted the call. Two calls of which the
///    second starts after the first returned reach the agent in that order.
///
/// # Source
/// Mesos 1.11 `docs/executor-http-api.md`.
#[async_trait]
pub trait ExecutorTransport: fmt::Debug + Send + Sync + 'static {
    /// Sends the SUBSCRIBE call and opens the stream of events.
    ///
    /// # Errors
    /// [`TransportError`]; no stream is open then.
    async fn subscribe(&self, call: Call) -> Result<mpsc::Receiver<Event>, TransportError>;

    /// Sends any other call.
    ///
    /// # Errors
    /// [`TransportError`]
    async fn call(&self, call: Call) -> Result<(), TransportError>;
}

/// `POST /api/v1/executor` on the agent, over TCP or a Unix socket, in JSON or protobuf.
#[derive(Debug)]
pub struct HttpExecutorTransport {
    url: String,
    media: MediaType,
    client: Client,
    authorization: Option<HeaderValue>,
}

/// Speaks TLS as the agent said in the environment.
fn client() -> Client {
    Client::from_env().unwrap_or_else(|error| {
        let error = dcos_core::error::chain(&error);
        tracing::error!(%error, "TLS can't be spoken as the environment says");
        Client::new()
    })
}

/// Events on their way from the connection to the executor; further ones wait in the connection.
const QUEUED_EVENTS: usize = 64;
/// The largest event in bytes: a task group with everything it carries.
const MAX_EVENT: usize = 64 << 20;

impl HttpExecutorTransport {
    /// Speaks to the agent that `config` names.
    pub fn new(config: &ExecutorConfig, media: MediaType) -> Self {
        let (client, agent) = match &config.agent {
            AgentEndpoint::Tcp(address) => (client(), format!("{}://{address}", Ssl::scheme())),
            // Nobody listens in between, so TLS is not spoken there.
            AgentEndpoint::Unix { path, name } => {
                (Client::unix(path), format!("http://agent/{name}"))
            }
        };
        Self {
            url: format!("{agent}/api/v1/executor"),
            media,
            client,
            authorization: config.token.as_deref().and_then(dcos_security::bearer),
        }
    }

    /// Uses a client with limits or connections of its own; see [`dcos_wire::ClientConfig`].
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.client = client;
        self
    }

    async fn post(&self, call: &Call) -> Result<Answer, TransportError> {
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| TransportError::Unreachable {
                target: self.url.clone(),
                source,
            };
        let mut request = Request::post(&self.url)
            .header(CONTENT_TYPE, self.media.header())
            .header(ACCEPT, self.media.header());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(self.media.encode(call))
            .map_err(|error| unreachable(Box::new(error)))?;
        let sent = self.client.send(request).await;
        let answer = sent.map_err(|error: ClientError| unreachable(Box::new(error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let reason = answer.text().await.unwrap_or_default();
        Err(if status == StatusCode::SERVICE_UNAVAILABLE {
            TransportError::NotReady { reason }
        } else {
            let status = status.as_u16();
            TransportError::Refused { status, reason }
        })
    }
}

#[async_trait]
impl ExecutorTransport for HttpExecutorTransport {
    async fn subscribe(&self, call: Call) -> Result<mpsc::Receiver<Event>, TransportError> {
        let answer = self.post(&call).await?;
        let (sender, events) = mpsc::channel(QUEUED_EVENTS);
        // Ends when the connection does, or when the receiver is dropped.
        tokio::spawn(pump(answer.records(MAX_EVENT), self.media, sender));
        Ok(events)
    }

    async fn call(&self, call: Call) -> Result<(), TransportError> {
        self.post(&call).await.map(drop)
    }
}

/// Decodes what arrives until either end is closed.
async fn pump(mut records: Records, media: MediaType, events: mpsc::Sender<Event>) {
    loop {
        let record = tokio::select! {
            () = events.closed() => return,
            record = records.next() => record,
        };
        let record = match record {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => {
                debug!(error = %dcos_core::error::chain(&error), "the event stream broke");
                return;
            }
        };
        match media.decode(&record) {
            Ok(event) => {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            // A newer agent may send what this build can't read; what it can goes on.
            Err(error) => debug!(%error, "skipping an event"),
        }
    }
}

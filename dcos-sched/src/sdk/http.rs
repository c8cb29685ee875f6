//! The scheduler API over HTTP: any Mesos 1.x master, ours included.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use dcos_proto::json::{self, Dialect};
use dcos_proto::recordio::DEFAULT_MAX_RECORD;
use dcos_proto::scheduler::{Call, Event};
use dcos_wire::reply::MESOS_STREAM_ID;
use dcos_wire::{Answer, Client, ClientError, Credentials, MediaType, Records};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use prost::Message as _;
use tokio::sync::mpsc;
use tracing::debug;

use super::masters::{LeadingMaster, Masters, Term, user, without_user};
use super::{SchedulerTransport, Subscription, TransportError};
use crate::why::{Explanations, Question};

/// Events on their way from the connection to the scheduler. A full queue stops reading from the
/// connection, so that a slow scheduler holds the master back instead of filling memory.
const QUEUED_EVENTS: usize = 256;

/// `POST /api/v1/scheduler`, with the leader found by asking each master and following redirects.
///
/// # Source
/// Mesos 1.11 `docs/scheduler-http-api.md`.
pub struct HttpTransport {
    masters: Masters,
    media: MediaType,
    /// The leader, learnt from the subscription: later calls go straight there, while its term lasts.
    leader: Mutex<Option<(String, Term)>>,
    client: Client,
}

/// Without what URLs of masters may hold: a principal and its secret.
impl fmt::Debug for HttpTransport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HttpTransport").finish_non_exhaustive()
    }
}

impl HttpTransport {
    /// Speaks to the leader among `masters`, each a URL such as `http://10.0.0.1:5050` or just
    /// `host:port`, in JSON or protobuf. Credentials may stand in the URL
    /// (`http://principal:secret@host:port`), and are shown to the leader that a master redirects to; TLS is spoken as the environment says
    /// ([`dcos_wire::tls::Ssl`]).
    pub fn new(masters: impl IntoIterator<Item = impl AsRef<str>>, media: MediaType) -> Self {
        let client = Client::from_env().unwrap_or_else(|error| {
            let error = dcos_core::error::chain(&error);
            tracing::error!(%error, "TLS can't be spoken as the environment says");
            Client::new()
        });
        Self::with_client(masters, media, client)
    }

    /// The same through a client with its own limits and trust.
    pub fn with_client(
        masters: impl IntoIterator<Item = impl AsRef<str>>,
        media: MediaType,
        client: Client,
    ) -> Self {
        Self::over(Masters::listed(masters), media, client)
    }

    /// Speaks to the master that leads, as an election shows it. A stream ends as soon as another one leads, also if
    /// the old leader is cut off and closes nothing.
    pub fn following(leading: LeadingMaster, media: MediaType, client: Client) -> Self {
        Self::over(Masters::Followed(leading), media, client)
    }

    fn over(masters: Masters, media: MediaType, client: Client) -> Self {
        Self {
            masters,
            media,
            leader: Mutex::new(None),
            client: client.showing(Credentials::FollowRedirects),
        }
    }

    fn leader(&self) -> Result<(String, Term), TransportError> {
        let leader = self.leader.lock();
        let leader = leader.unwrap_or_else(PoisonError::into_inner).clone();
        leader.ok_or(TransportError::NotSubscribed)
    }

    fn set_leader(&self, leader: Option<(String, Term)>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    async fn post(
        &self,
        master: &str,
        stream_id: Option<&str>,
        call: &Call,
    ) -> Result<Answer, TransportError> {
        let url = format!("{master}/api/v1/scheduler");
        let body = match self.media {
            MediaType::Json => json::to_vec(call, Dialect::V1),
            MediaType::Protobuf => call.encode_to_vec(),
        };
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| TransportError::Unreachable {
                target: without_user(master),
                source,
            };
        let mut request = Request::post(&url)
            .header(CONTENT_TYPE, self.media.header())
            .header(ACCEPT, self.media.header());
        if let Some(stream_id) = stream_id {
            request = request.header(MESOS_STREAM_ID, stream_id);
        }
        let request = request
            .body(body.into())
            .map_err(|error| unreachable(Box::new(error)))?;
        let answer = self
            .client
            .send(request)
            .await
            .map_err(|error| match error {
                error @ (ClientError::Redirects { .. } | ClientError::Location { .. }) => {
                    TransportError::NotReady {
                        reason: dcos_core::error::chain(&error).to_string(),
                    }
                }
                error => unreachable(Box::new(error)),
            })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let reason = answer.text().await.unwrap_or_default();
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::BAD_GATEWAY
            | StatusCode::GATEWAY_TIMEOUT => TransportError::NotReady { reason },
            _ => TransportError::Refused {
                status: status.as_u16(),
                reason,
            },
        })
    }
}

#[async_trait]
impl SchedulerTransport for HttpTransport {
    async fn subscribe(&self, call: Call) -> Result<Subscription, TransportError> {
        self.set_leader(None);
        let (master, mut term) = self.masters.ask().await?;
        let answer = tokio::select! {
            answer = self.post(&master, None, &call) => answer,
            () = term.over() => Err(replaced()),
        };
        let answer = answer.inspect_err(|_| self.masters.next())?;
        let scheme = answer.url().scheme_str().unwrap_or("http");
        let authority = answer
            .url()
            .authority()
            .map(|authority| format!("{scheme}://{}{authority}", user(&master)));
        self.set_leader(authority.map(|authority| (authority, term.clone())));
        let header = answer
            .headers()
            .get(MESOS_STREAM_ID)
            .map(HeaderValue::to_str);
        let Some(Ok(stream_id)) = header else {
            let reason = "the answer to SUBSCRIBE lacks the header Mesos-Stream-Id".to_owned();
            return Err(TransportError::Refused {
                status: 200,
                reason,
            });
        };
        let stream_id = stream_id.to_owned();
        let (sender, events) = mpsc::channel(QUEUED_EVENTS);
        let media = self.media;
        let records = answer.records(DEFAULT_MAX_RECORD);
        // Ends when the connection does, or when the subscription is dropped.
        tokio::spawn(pump(records, media, sender, term));
        Ok(Subscription { stream_id, events })
    }

    async fn call(&self, stream_id: &str, call: Call) -> Result<(), TransportError> {
        // Its term, not that of who leads now: that one may be elected already, and not subscribed to yet.
        let (leader, mut term) = self.leader()?;
        tokio::select! {
            answer = self.post(&leader, Some(stream_id), &call) => answer.map(drop),
            () = term.over() => Err(replaced()),
        }
    }

    async fn why(&self, question: &Question) -> Result<Explanations, TransportError> {
        let (leader, mut term) = self.leader()?;
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| TransportError::Unreachable {
                target: without_user(&leader),
                source,
            };
        let request = Request::get(format!("{leader}{}", question.path()))
            .body(bytes::Bytes::new())
            .map_err(|error| unreachable(Box::new(error)))?;
        let answer = tokio::select! {
            answer = self.client.send(request) => answer,
            () = term.over() => return Err(replaced()),
        };
        let answer = answer.map_err(|error| unreachable(Box::new(error)))?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        let refused = |reason| TransportError::Refused {
            status: status.as_u16(),
            reason,
        };
        if !status.is_success() {
            return Err(refused(text));
        }
        serde_json::from_str(&text).map_err(|error| refused(error.to_string()))
    }
}

fn replaced() -> TransportError {
    TransportError::NotReady {
        reason: "another master leads now".to_owned(),
    }
}

/// Decodes what arrives until either end is closed.
async fn pump(mut records: Records, media: MediaType, events: mpsc::Sender<Event>, mut term: Term) {
    loop {
        let record = tokio::select! {
            () = events.closed() => return,
            () = term.over() => return,
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
        let event = match media {
            MediaType::Json => json::from_slice(&record, Dialect::V1).map_err(|e| e.to_string()),
            MediaType::Protobuf => dcos_proto::decode(&record).map_err(|e| e.to_string()),
        };
        match event {
            Ok(event) => {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            // A newer master may send what this build can't read; what it can goes on.
            Err(error) => debug!(error, "skipping an event"),
        }
    }
}

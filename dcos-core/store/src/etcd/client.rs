//! [`Etcd`]: the calls that are needed, each bounded in time.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    metadata::AsciiMetadataValue,
    transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use super::words::{
    ASCEND, AuthenticateRequest, AuthenticateResponse, BY_CREATION, CompactionRequest,
    DeleteRangeRequest, Done, KeyValue, LeaseGrantRequest, LeaseRequest, LeaseResponse, PutRequest,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    WatchResponse, end_of,
};
use crate::{Ensemble, MediumError, TlsError};

/// How long a single request may take.
pub(super) const REQUEST: Duration = Duration::from_secs(5);

/// A server that says nothing for so long, twice, is given up for another one.
const SILENCE: Duration = Duration::from_secs(2);

/// Whether trying again could help.
pub(super) fn is_transient(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented
    )
}

impl From<Status> for MediumError {
    fn from(status: Status) -> Self {
        let text = format!("etcd: {}: {}", status.code(), status.message());
        let text = match status.source() {
            Some(source) => format!("{text}: {}", whole(source)),
            None => text,
        };
        if is_transient(&status) {
            Self::Unreachable(text)
        } else {
            Self::Refused(text)
        }
    }
}

/// Whether certificates and key of an ensemble can be used.
pub(crate) fn check_tls(ensemble: &Ensemble) -> Result<(), TlsError> {
    for server in &ensemble.servers {
        let unusable = |error| TlsError::Unusable {
            reason: whole(&error),
        };
        endpoint(ensemble, server).map_err(unusable)?;
    }
    Ok(())
}

/// How one server is reached.
fn endpoint(ensemble: &Ensemble, server: &str) -> Result<Endpoint, transport::Error> {
    let scheme = if ensemble.is_over_tls() {
        "https"
    } else {
        "http"
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{server}"))?
        .connect_timeout(SILENCE)
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .tcp_nodelay(true);
    let Some(tls) = &ensemble.tls else {
        return Ok(endpoint);
    };
    let config = ClientTlsConfig::new().timeout(SILENCE);
    let config = match &tls.ca {
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
        None => config.with_native_roots(),
    };
    endpoint.tls_config(match &tls.identity {
        Some((cert, key)) => config.identity(Identity::from_pem(cert, key)),
        None => config,
    })
}

/// An error and what is behind it.
fn whole(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// A way to all servers of an ensemble: each request goes to one of those that answer.
pub(super) struct Etcd {
    channel: Channel,
    user: Option<(String, String)>,
    token: Mutex<Option<AsciiMetadataValue>>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").finish_non_exhaustive()
    }
}

impl Etcd {
    /// Connects at first use. Must be called within a tokio runtime.
    pub(super) fn new(ensemble: &Ensemble) -> Self {
        let endpoint = |server: &String| {
            let endpoint = endpoint(ensemble, server);
            let refused = |error| tracing::error!(server, %error, "this server is left out");
            endpoint.map_err(refused).ok()
        };
        Self {
            channel: Channel::balance_list(ensemble.servers.iter().filter_map(endpoint)),
            user: ensemble.user.clone(),
            token: Mutex::new(None),
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<KeyValue>, Status> {
        Ok(self.look(key).await?.kvs.into_iter().next())
    }

    /// What [`get`](Self::get) gets, and the revision at which it was so.
    pub(super) async fn look(&self, key: &str) -> Result<RangeResponse, Status> {
        let range = RangeRequest {
            key: key.to_owned().into(),
            ..RangeRequest::default()
        };
        self.unary("/etcdserverpb.KV/Range", range).await
    }

    /// Lets the servers forget what was before `revision`; that they have is no error.
    pub(super) async fn compact(&self, revision: i64) -> Result<(), Status> {
        let compaction = CompactionRequest { revision };
        let done: Result<Done, Status> = self.unary("/etcdserverpb.KV/Compact", compaction).await;
        match done {
            Err(status) if status.code() == Code::OutOfRange => Ok(()),
            done => done.map(drop),
        }
    }

    /// The keys that begin with `prefix`.
    pub(super) async fn keys(&self, prefix: &str) -> Result<Vec<Bytes>, Status> {
        let range = RangeRequest {
            key: prefix.to_owned().into(),
            range_end: end_of(prefix.as_bytes()),
            keys_only: true,
            ..RangeRequest::default()
        };
        let found: RangeResponse = self.unary("/etcdserverpb.KV/Range", range).await?;
        Ok(found.kvs.into_iter().map(|kv| kv.key).collect())
    }

    /// What begins with `prefix`, the oldest first; all, or as many as `limit`.
    pub(super) async fn by_age(&self, prefix: &str, limit: i64) -> Result<RangeResponse, Status> {
        let range = RangeRequest {
            key: prefix.to_owned().into(),
            range_end: end_of(prefix.as_bytes()),
            limit,
            sort_order: ASCEND,
            sort_target: BY_CREATION,
            ..RangeRequest::default()
        };
        self.unary("/etcdserverpb.KV/Range", range).await
    }

    pub(super) async fn put(&self, key: String, value: Bytes) -> Result<(), Status> {
        let put = PutRequest {
            key: key.into(),
            value,
            lease: 0,
        };
        let _: Done = self.unary("/etcdserverpb.KV/Put", put).await?;
        Ok(())
    }

    pub(super) async fn delete(&self, key: String) -> Result<(), Status> {
        let delete = DeleteRangeRequest { key: key.into() };
        let _: Done = self.unary("/etcdserverpb.KV/DeleteRange", delete).await?;
        Ok(())
    }

    pub(super) async fn transact(&self, transaction: TxnRequest) -> Result<TxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", transaction).await
    }

    /// A lease of at least `ttl` seconds.
    pub(super) async fn grant(&self, ttl: i64) -> Result<LeaseResponse, Status> {
        let grant = LeaseGrantRequest { ttl };
        self.unary("/etcdserverpb.Lease/LeaseGrant", grant).await
    }

    pub(super) async fn revoke(&self, id: i64) -> Result<(), Status> {
        let revoke = LeaseRequest { id };
        let _: Done = self
            .unary("/etcdserverpb.Lease/LeaseRevoke", revoke)
            .await?;
        Ok(())
    }

    /// Renews a lease.
    ///
    /// # Errors
    /// [`Code::NotFound`] if it has ended.
    pub(super) async fn renew(&self, id: i64) -> Result<(), Status> {
        let renew = async {
            let (_sender, mut answers) = self
                .stream("/etcdserverpb.Lease/LeaseKeepAlive", LeaseRequest { id })
                .await?;
            let answer: Option<LeaseResponse> = answers.message().await?;
            match answer {
                Some(answer) if answer.ttl > 0 => Ok(()),
                Some(_) => Err(Status::not_found("the lease has ended")),
                None => Err(Status::unavailable("the stream ended")),
            }
        };
        timeout(REQUEST, renew)
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    /// Changes of keys that begin with `prefix`, or of `prefix` alone, from the revision `from` on; 0 is now. One that the
    /// servers have forgotten ends the watch at once, so it has to follow on what was just read.
    pub(super) async fn watch(
        &self,
        prefix: &str,
        alone: bool,
        from: i64,
    ) -> Result<Changes, Status> {
        let create = WatchCreateRequest {
            key: prefix.to_owned().into(),
            range_end: if alone {
                Bytes::new()
            } else {
                end_of(prefix.as_bytes())
            },
            start_revision: from,
        };
        let create = WatchRequest {
            create: Some(create),
        };
        let stream = self.stream("/etcdserverpb.Watch/Watch", create);
        let (sender, stream) = timeout(REQUEST, stream)
            .await
            .unwrap_or_else(|_| Err(silent()))?;
        Ok(Changes {
            _sender: sender,
            stream,
        })
    }

    async fn unary<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let call = async {
            let mut grpc = Grpc::new(self.channel.clone());
            let request = self.request(message).await?;
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            let answer = grpc
                .unary(request, PathAndQuery::from_static(path), codec)
                .await;
            self.heed(answer).await
        };
        let answer = timeout(REQUEST, call)
            .await
            .unwrap_or_else(|_| Err(silent()))?;
        Ok(answer.into_inner())
    }

    /// A stream of answers to one message; it lasts until the sender is dropped.
    async fn stream<Q, A>(
        &self,
        path: &'static str,
        message: Q,
    ) -> Result<(mpsc::Sender<Q>, Streaming<A>), Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (sender, messages) = mpsc::channel(1);
        let _ = sender.send(message).await;
        let mut grpc = Grpc::new(self.channel.clone());
        let request = self.request(ReceiverStream::new(messages)).await?;
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc
            .streaming(request, PathAndQuery::from_static(path), codec)
            .await;
        Ok((sender, self.heed(answer).await?.into_inner()))
    }

    async fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        // A server that is cut off from the others says so instead of waiting.
        let yes = AsciiMetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", yes);
        let Some((name, password)) = &self.user else {
            return Ok(request);
        };
        let mut token = self.token.lock().await;
        if token.is_none() {
            let login = AuthenticateRequest {
                name: name.clone(),
                password: password.clone(),
            };
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(error.to_string()))?;
            let path = PathAndQuery::from_static("/etcdserverpb.Auth/Authenticate");
            let codec = ProstCodec::<_, AuthenticateResponse>::default();
            let answer = grpc
                .unary(Request::new(login), path, codec)
                .await?
                .into_inner();
            let value = AsciiMetadataValue::try_from(answer.token);
            *token = Some(value.map_err(|_| Status::invalid_argument("no token"))?);
        }
        if let Some(token) = &*token {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }

    /// Forgets the token if the servers do.
    async fn heed<T>(&self, answer: Result<T, Status>) -> Result<T, Status> {
        if answer
            .as_ref()
            .is_err_and(|status| status.code() == Code::Unauthenticated)
        {
            *self.token.lock().await = None;
        }
        answer
    }
}

fn silent() -> Status {
    Status::deadline_exceeded(format!("no answer within {REQUEST:?}"))
}

/// The changes of what is watched.
pub(super) struct Changes {
    _sender: mpsc::Sender<WatchRequest>,
    stream: Streaming<WatchResponse>,
}

impl Changes {
    /// Waits until something has changed, or the watch has ended so that something may have.
    pub(super) async fn next(&mut self) -> Result<(), Status> {
        loop {
            match self.stream.message().await? {
                // The first message only says that the watch stands.
                Some(told) if told.events.is_empty() && !told.canceled => {}
                Some(told) if told.canceled => return Err(Status::aborted("the watch ended")),
                Some(_) => return Ok(()),
                None => return Err(Status::unavailable("the stream ended")),
            }
        }
    }
}

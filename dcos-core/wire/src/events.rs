//! [`Told`]: what the leading master tells those who follow it (operator API v1, SUBSCRIBE).

use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use dcos_proto::master::{Call, Event, call};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::tls::Ssl;
use crate::{Client, ClientError, Heard, Masters, MediaType, Records};

/// A master's heartbeats are 15 s apart; three missed mean it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// The state of a large cluster comes as one record.
const LARGEST: usize = 1 << 30;
/// How long a master that cannot be reached is left alone, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What is heard of the leading master.
#[derive(Clone, Debug)]
pub enum Told {
    /// Somebody at these addresses is about to be asked, and may be no leader. It is, once all to whom this is told have
    /// dropped it: who balances connections sees to it first that nobody else is asked in its place.
    Asked(Arc<[IpAddr]>, mpsc::Sender<()>),
    /// This one listens: whoever was asked, or where that one sent us. The state of the cluster follows, as SUBSCRIBED.
    Leader(Arc<str>),
    /// Something happened.
    Event(Arc<Event>),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("subscribing to the master's events")]
    Subscribe(#[source] ClientError),
    #[error("reading the master's events")]
    Read(#[source] ClientError),
    #[error("the master ended the stream")]
    Over,
    #[error("the master was silent for {SILENCE:?}")]
    Silent,
    #[error("the master sent what is no event")]
    Garbled(#[source] dcos_proto::DecodeError),
}

impl Masters {
    /// Tells `listeners` what the leading master tells, for ever; ends when nobody listens any more.
    ///
    /// One stream serves all of them: a listener that is slow holds up the others once its channel is full.
    pub async fn tell(self, client: Client, listeners: Vec<mpsc::Sender<Told>>) {
        let (client, listeners) = (&client, &listeners);
        self.follow(BACKOFF, |master, heard| {
            listen(client, master, listeners, heard)
        })
        .await;
    }
}

/// Listens to one master; breaks off when nobody listens to us.
async fn listen(
    client: &Client,
    master: String,
    listeners: &[mpsc::Sender<Told>],
    heard: Heard,
) -> ControlFlow<(), Ended> {
    // A name that cannot be looked up cannot be asked either, which is told below.
    let looked_up = tokio::net::lookup_host(&master).await;
    let addresses =
        looked_up.map_or_else(|_| Vec::new(), |found| found.map(|at| at.ip()).collect());
    let (heed, mut heeded) = mpsc::channel(1);
    tell(listeners, Told::Asked(addresses.into(), heed)).await?;
    heeded.recv().await;
    let (leader, mut records) = match subscribe(client, &master).await {
        Ok(subscribed) => subscribed,
        Err(error) => return Continue(Ended::Subscribe(error)),
    };
    tell(listeners, Told::Leader(leader)).await?;
    loop {
        let record = match timeout(SILENCE, records.next()).await {
            Ok(Ok(Some(record))) => record,
            Ok(Ok(None)) => return Continue(Ended::Over),
            Ok(Err(error)) => return Continue(Ended::Read(error)),
            Err(_) => return Continue(Ended::Silent),
        };
        let event = match dcos_proto::decode::<Event>(record.as_ref()) {
            Ok(event) => event,
            Err(error) => return Continue(Ended::Garbled(error)),
        };
        heard.note();
        tell(listeners, Told::Event(Arc::new(event))).await?;
    }
}

/// Tells all; breaks off if nobody is left.
async fn tell(listeners: &[mpsc::Sender<Told>], told: Told) -> ControlFlow<()> {
    let mut is_heard = false;
    for listener in listeners {
        is_heard |= listener.send(told.clone()).await.is_ok();
    }
    if is_heard { Continue(()) } else { Break(()) }
}

/// Who answered, after redirects, and what it tells.
async fn subscribe(client: &Client, master: &str) -> Result<(Arc<str>, Records), ClientError> {
    let call = Call {
        r#type: Some(call::Type::Subscribe.into()),
        ..Call::default()
    };
    let media = MediaType::Protobuf;
    let mut request = Request::new(media.encode(&call));
    *request.method_mut() = Method::POST;
    let url = format!("{}://{master}/api/v1", Ssl::scheme());
    *request.uri_mut() = url.parse().map_err(|_| ClientError::Url { url })?;
    request.headers_mut().insert(CONTENT_TYPE, media.header());
    request.headers_mut().insert(ACCEPT, media.header());
    let answer = client.send(request).await?.success().await?;
    let leader = answer.url().authority().map(http::uri::Authority::as_str);
    let leader = leader.unwrap_or(master).into();
    Ok((leader, answer.records(LARGEST)))
}

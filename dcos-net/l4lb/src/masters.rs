//! The stream of what the leading master tells.

use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use dcos_proto::master::{Call, Event, call};
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientError, Heard, Masters, MediaType, Records};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A master's heartbeats are 15 s apart; three missed mean it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// The state of a large cluster comes as one record.
const LARGEST: usize = 1 << 30;
/// How long a master that cannot be reached is left alone, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What is told of masters.
#[derive(Debug)]
pub(crate) enum Letter {
    /// What the leading one tells.
    Event(Box<Event>),
    /// One that is about to be asked is at these addresses, which are nobody's VIPs from then on that this is dropped
    /// or answered: else who claims the address would be asked.
    Master(Vec<IpAddr>, oneshot::Sender<()>),
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

/// Sends `letters` what the leading master tells, for ever; ends when nobody listens.
pub(crate) async fn follow(masters: Masters, client: Client, letters: mpsc::Sender<Letter>) {
    let (client, letters) = (&client, &letters);
    let listen = move |leader: String, heard| listen(client, leader, letters, heard);
    masters.follow(BACKOFF, listen).await;
}

/// Listens to one master; breaks off when nobody listens to us.
async fn listen(
    client: &Client,
    leader: String,
    letters: &mpsc::Sender<Letter>,
    heard: Heard,
) -> ControlFlow<(), Ended> {
    // A name that cannot be looked up cannot be asked either, which is told below.
    let looked_up = tokio::net::lookup_host(&leader).await;
    let addresses =
        looked_up.map_or_else(|_| Vec::new(), |found| found.map(|at| at.ip()).collect());
    let (heed, heeded) = oneshot::channel();
    if letters.send(Letter::Master(addresses, heed)).await.is_err() {
        return Break(());
    }
    let _ = heeded.await;
    let mut records = match subscribe(client, &leader).await {
        Ok(records) => records,
        Err(error) => return Continue(Ended::Subscribe(error)),
    };
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
        if letters.send(Letter::Event(Box::new(event))).await.is_err() {
            return Break(());
        }
    }
}

async fn subscribe(client: &Client, leader: &str) -> Result<Records, ClientError> {
    let call = Call {
        r#type: Some(call::Type::Subscribe.into()),
        ..Call::default()
    };
    let media = MediaType::Protobuf.header();
    let mut request = Request::new(call.encode_to_vec().into());
    *request.method_mut() = Method::POST;
    let url = format!("{}://{leader}/api/v1", Ssl::scheme());
    *request.uri_mut() = url.parse().map_err(|_| ClientError::Url { url })?;
    request.headers_mut().insert(CONTENT_TYPE, media.clone());
    request.headers_mut().insert(ACCEPT, media);
    let answer = client.send(request).await?.success().await?;
    Ok(answer.records(LARGEST))
}

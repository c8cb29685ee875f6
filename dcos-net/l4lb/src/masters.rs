//! The stream of what the leading master tells.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use dcos_proto::master::{Call, Event, call};
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientError, Heard, Masters, MediaType, Records};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::balancer::View;

/// A master's heartbeats are 15 s apart; three missed mean it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// The state of a large cluster comes as one record.
const LARGEST: usize = 1 << 30;
/// How long a master that cannot be reached is left alone, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

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

/// Sends `events` what the leading master tells, for ever; ends when nobody listens.
pub(crate) async fn follow(
    masters: Masters,
    client: Client,
    view: View,
    events: mpsc::Sender<Event>,
) {
    let (client, events) = (&client, &events);
    let mut known = BTreeSet::new();
    let listen = move |leader: String, heard| {
        // One that led stays a master: it may lead again.
        if let Some(ip) = address(&leader).filter(|ip| known.insert(*ip)) {
            view.reserve(ip);
        }
        listen(client, leader, events, heard)
    };
    masters.follow(BACKOFF, listen).await;
}

/// The address of a master that is not told by name.
fn address(master: &str) -> Option<IpAddr> {
    let address: Option<SocketAddr> = master.parse().ok();
    address.map(|address| address.ip())
}

/// Listens to one master; breaks off when nobody listens to us.
async fn listen(
    client: &Client,
    leader: String,
    events: &mpsc::Sender<Event>,
    heard: Heard,
) -> ControlFlow<(), Ended> {
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
        if events.send(event).await.is_err() {
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

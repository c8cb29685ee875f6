//! The stream of what the leading master tells.

use std::time::Duration;

use dcos_proto::master::{Call, Event, call};
use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientError, Masters, MediaType, Records};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

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
pub(crate) async fn follow(mut masters: Masters, client: Client, events: mpsc::Sender<Event>) {
    let mut pause = BACKOFF.0;
    loop {
        let leader = masters.leader().await;
        let ended = tokio::select! {
            ended = listen(&client, &leader, &events, &mut pause) => ended,
            () = masters.changed() => {
                pause = BACKOFF.0;
                continue;
            }
        };
        let Some(ended) = ended else { return };
        tracing::debug!(leader, reason = %chain(&ended), "not following the master");
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
            () = masters.changed() => {}
        }
    }
}

/// Listens to one master; `None` when nobody listens to us.
async fn listen(
    client: &Client,
    leader: &str,
    events: &mpsc::Sender<Event>,
    pause: &mut Duration,
) -> Option<Ended> {
    let mut records = match subscribe(client, leader).await {
        Ok(records) => records,
        Err(error) => return Some(Ended::Subscribe(error)),
    };
    loop {
        let record = match timeout(SILENCE, records.next()).await {
            Ok(Ok(Some(record))) => record,
            Ok(Ok(None)) => return Some(Ended::Over),
            Ok(Err(error)) => return Some(Ended::Read(error)),
            Err(_) => return Some(Ended::Silent),
        };
        let event = match dcos_proto::decode::<Event>(record.as_ref()) {
            Ok(event) => event,
            Err(error) => return Some(Ended::Garbled(error)),
        };
        *pause = BACKOFF.0;
        events.send(event).await.ok()?;
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

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

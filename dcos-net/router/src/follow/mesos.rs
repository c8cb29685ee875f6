//! Frameworks, agents and the leader, from the leading master's stream of events (operator API v1, SUBSCRIBE).

use std::time::Duration;

use bytes::Bytes;
use dcos_proto::master::{Call, Event, call};
use dcos_wire::{Client, MediaType};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Uri};
use prost::Message as _;
use tokio::sync::watch;
use tracing::{debug, info};

use super::{Backoff, Worlds, change, named_anew};
use crate::world::{Base, Cluster, Scheme};

/// The first record is the state of the whole cluster.
const LARGEST: usize = 1 << 30;
/// A master's heartbeats are 15 s apart; three missed mean it is gone.
const SILENCE: Duration = Duration::from_secs(45);

pub(super) async fn follow(
    mut masters: watch::Receiver<Vec<String>>,
    scheme: Scheme,
    client: &Client,
    worlds: &Worlds,
) {
    let mut backoff = Backoff::new();
    loop {
        let candidates = masters.borrow_and_update().clone();
        for candidate in &candidates {
            let url = format!("{}://{candidate}/api/v1", scheme.as_str());
            let listening = listen(&url, client, worlds, &mut backoff);
            let ended = tokio::select! {
                ended = listening => ended,
                () = named_anew(&mut masters) => break,
            };
            if let Err(error) = ended {
                debug!(url, error = format!("{error:#}"), "following the master");
            }
        }
        backoff.wait().await;
    }
}

/// Takes in events until the stream ends.
async fn listen(
    url: &str,
    client: &Client,
    worlds: &Worlds,
    backoff: &mut Backoff,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let call = Call {
        r#type: Some(call::Type::Subscribe.into()),
        ..Call::default()
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(CONTENT_TYPE, MediaType::Protobuf.header())
        .header(ACCEPT, MediaType::Protobuf.header())
        .body(Bytes::from(call.encode_to_vec()))?;
    let answer = client.send(request).await?.success().await?;
    let leader = leader(answer.url());
    let mut records = answer.records(LARGEST);
    let mut cluster = Cluster::default();
    let mut begun = false;
    loop {
        let record = tokio::time::timeout(SILENCE, records.next()).await??;
        let Some(record) = record else { return Ok(()) };
        let event: Event = dcos_proto::decode(&record)?;
        if !begun {
            // Until it says what there is, an older picture is better.
            begun = event.subscribed.is_some();
            if !begun {
                continue;
            }
            backoff.reset();
            let known = leader.as_ref().map(ToString::to_string).unwrap_or_default();
            info!(leader = known, "following the leading master");
        }
        if cluster.apply(&event) {
            change(worlds, |world| {
                world.cluster = Some(cluster.clone());
                world.mesos_leader.clone_from(&leader);
            });
        }
    }
}

/// Who answered, after redirects.
fn leader(url: &Uri) -> Option<Base> {
    let base: Base = url.to_string().parse().ok()?;
    Some(Base {
        path: String::new(),
        ..base
    })
}

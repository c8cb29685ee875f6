//! Services by label, and the leading Marathon: its event stream says when to look again.
//!
//! An event that speaks of an app without a service name, or of one of its tasks, costs nothing. A look is asked for
//! by an event, and taken when nothing has been looked at for a moment, so that a thousand tasks cost a few.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dcos_wire::Client;
use http::header::ACCEPT;
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::sse::{Decoder, SentEvent};
use super::{Backoff, Worlds, change, named_anew};
use crate::world::{Apps, Base, apps};

/// A stream on which nothing comes is broken: Marathon sends something every ten seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Looks without an event, in case one was lost.
const REVIEW: Duration = Duration::from_secs(60);
/// After a look that was asked for by an event, another one: Marathon may tell of what it does not show yet.
const AFTERTHOUGHT: Duration = Duration::from_millis(500);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Follows the Marathon at `base`, or whoever leads behind it. When other `masters` are named, it begins anew: the host
/// of the last leader may be gone without a word, and Marathon's leader with it.
pub(super) async fn follow(
    base: &Base,
    client: &Client,
    worlds: &Worlds,
    mut masters: watch::Receiver<Vec<String>>,
) {
    let mut backoff = Backoff::new();
    loop {
        masters.mark_unchanged();
        let ended = tokio::select! {
            ended = listen(base, client, worlds, &mut backoff) => ended,
            () = named_anew(&mut masters) => Err("another master leads".into()),
        };
        if let Err(error) = ended {
            debug!(error = format!("{error}"), "following Marathon");
        }
        backoff.wait().await;
    }
}

/// Looks, and looks again whenever events say so, until the stream ends.
async fn listen(
    base: &Base,
    client: &Client,
    worlds: &Worlds,
    backoff: &mut Backoff,
) -> Result<(), Failure> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("{base}/v2/events"))
        .header(ACCEPT, HeaderValue::from_static("text/event-stream"))
        .body(Bytes::new())?;
    // Subscribed before the first look, so that nothing falls between.
    let answer = client.send(request).await?.success().await?;
    let mut stream = answer.into_body();
    let mut decoder = Decoder::default();
    let mut known = look(base, client, worlds).await?;
    backoff.reset();
    info!(marathon = %base, services = known.by_name.len(), "following Marathon");
    let mut due = Instant::now() + REVIEW;
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            frame = stream.frame() => {
                let Some(frame) = frame else { return Ok(()) };
                heard = Instant::now();
                if let Ok(data) = frame?.into_data() {
                    decoder.push(&data)?;
                }
                while let Some(event) = decoder.next() {
                    if matters(&event, &known) {
                        due = due.min(Instant::now() + PAUSE);
                    }
                }
            }
            () = tokio::time::sleep_until(due) => {
                let fresh = look(base, client, worlds).await?;
                let changed = fresh != known;
                known = fresh;
                due = Instant::now() + if changed { AFTERTHOUGHT } else { REVIEW };
            }
            () = tokio::time::sleep_until(heard + SILENCE) => return Err("Marathon is silent".into()),
        }
    }
}

/// Whether an event may change where services are.
fn matters(event: &SentEvent, known: &Apps) -> bool {
    match event.kind.as_str() {
        // A label may have come or gone.
        "api_post_event"
        | "app_terminated_event"
        | "group_change_success"
        | "deployment_info"
        | "deployment_success"
        | "deployment_step_success" => true,
        "status_update_event" | "instance_changed_event" => {
            let document: Value = serde_json::from_str(&event.data).unwrap_or_default();
            let app = document["appId"]
                .as_str()
                .or_else(|| document["runSpecId"].as_str());
            app.is_some_and(|app| known.watched.contains(app))
        }
        _ => false,
    }
}

/// Learns which services there are, and who leads.
async fn look(base: &Base, client: &Client, worlds: &Worlds) -> Result<Arc<Apps>, Failure> {
    let url = format!("{base}/v2/apps?embed=apps.tasks&label=DCOS_SERVICE_NAME");
    let document: Value = client.get(&url).await?.success().await?.json().await?;
    let found = Arc::new(apps(&document)?);
    let leader = client.get(&format!("{base}/v2/leader")).await?;
    let leader: Option<Value> = match leader.success().await {
        Ok(answer) => answer.json().await.ok(),
        Err(_) => None,
    };
    let leader =
        leader.and_then(|document| Base::at(base.scheme, document["leader"].as_str()?).ok());
    change(worlds, |world| {
        let before = world.apps.replace(Arc::clone(&found));
        let skipped = |apps: Option<&Arc<Apps>>, id: &str| {
            apps.and_then(|apps| apps.skipped.get(id)).copied()
        };
        for (id, why) in &found.skipped {
            if skipped(before.as_ref(), id) != Some(why) {
                warn!(
                    app = id,
                    why, "no service is found by the labels of this app"
                );
            }
        }
        if leader.is_some() {
            world.marathon_leader = leader;
        }
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_about_services_and_apps_matter() {
        let known = Apps {
            watched: ["/s".to_owned()].into(),
            ..Apps::default()
        };
        for (kind, data, expected) in [
            ("api_post_event", "", true),
            ("status_update_event", r#"{"appId":"/s"}"#, true),
            ("status_update_event", r#"{"appId":"/other"}"#, false),
            ("instance_changed_event", r#"{"runSpecId":"/s"}"#, true),
            ("instance_changed_event", "broken", false),
            ("event_stream_attached", "{}", false),
        ] {
            let event = SentEvent {
                kind: kind.to_owned(),
                data: data.to_owned(),
            };
            assert_eq!(matters(&event, &known), expected, "{kind} {data}");
        }
    }
}

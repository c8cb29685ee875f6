//! `/v2/events`: what happens, as server-sent events.
//!
//! Events have names and no ids, as the original's: nothing is kept for listeners who come back.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::debug;

use super::Api;
use super::metrics::Listening;
use super::request::Request;
use crate::event::Event;
use crate::shell::Mailbox;

pub(super) async fn stream(api: &Api, request: &Request) -> Response {
    let mailbox = &api.mailbox;
    let kinds: BTreeSet<String> = request.params("event_type").map(str::to_owned).collect();
    let events = mailbox.listen();
    let client = request.client.clone();
    mailbox.publish(|now| Event::attached(now, &client)).await;
    let farewell = Farewell {
        mailbox: mailbox.clone(),
        client,
        listening: api.http.stream(),
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10)).text("");
    let ended = api.ending.clone().cancelled_owned();
    Sse::new(frames(events, kinds, farewell).take_until(ended))
        .keep_alive(keep_alive)
        .into_response()
}

/// What stands around the name and the text of an event: `event: `, `data: `, and the ends of lines.
const FRAMING: usize = 16;

/// The events a listener wants; one that is too slow loses some, as it is told in the log only.
fn frames(
    events: Receiver<Event>,
    kinds: BTreeSet<String>,
    farewell: Farewell,
) -> impl Stream<Item = Result<Frame, Infallible>> {
    futures::stream::unfold(
        (events, kinds, farewell),
        |(mut events, kinds, farewell)| async move {
            loop {
                match events.recv().await {
                    Ok(event) if kinds.is_empty() || kinds.contains(event.kind) => {
                        farewell
                            .listening
                            .sent(FRAMING + event.kind.len() + event.data.len());
                        let frame = Frame::default().event(event.kind).data(&*event.data);
                        return Some((Ok(frame), (events, kinds, farewell)));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(lost)) => {
                        debug!(client = %farewell.client, lost, "a listener is too slow");
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        },
    )
}

/// Tells the others when a listener is gone.
struct Farewell {
    mailbox: Mailbox,
    client: String,
    listening: Listening,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let (mailbox, client) = (self.mailbox.clone(), std::mem::take(&mut self.client));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                mailbox.publish(|now| Event::detached(now, &client)).await;
            });
        }
    }
}

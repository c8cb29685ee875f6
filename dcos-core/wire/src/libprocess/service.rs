//! Messages that come in, in front of a router.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower::Service;

use super::actor::Event;
use super::message::{self, Message};
use super::{Messenger, Upid, is_message};
use crate::{Peer, Refusal, reply};

/// Hands messages to the actors of a [`Messenger`], and every other request to a service.
///
/// A message is answered with 202 once it is in the actor's inbox; a full inbox makes the sender
/// wait. 404: there is no such actor; 400: the sender is not who it says
/// ([`MessengerConfig::require_peer_match`](super::MessengerConfig)); 500: it is no message.
#[derive(Debug, Clone)]
pub struct MessageService<S> {
    messenger: Messenger,
    inner: S,
}

impl<S> MessageService<S> {
    pub(super) fn new(messenger: Messenger, inner: S) -> Self {
        Self { messenger, inner }
    }
}

impl<S> Service<Request<Body>> for MessageService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_message(request.method(), request.headers()) {
            return self.inner.call(request).boxed();
        }
        let messenger = self.messenger.clone();
        async move {
            let taken = take(&messenger, request).await;
            Ok(taken.map_or_else(IntoResponse::into_response, |()| reply::accepted()))
        }
        .boxed()
    }
}

async fn take(messenger: &Messenger, request: Request<Body>) -> Result<(), Refusal> {
    let broken = |text| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text);
    let sender = message::sender(request.headers()).unwrap_or_default();
    let from: Upid = sender
        .parse()
        .map_err(|_| broken("Failed to determine sender"))?;
    let (actor, name) = message::address(request.uri().path())
        .ok_or_else(|| broken("Failed to parse the actor and the name of the message"))?;
    if messenger.inner.config.require_peer_match {
        let claimed = from.address().ip();
        let real = request.extensions().get::<Peer>().and_then(Peer::ip);
        if real != Some(claimed) {
            return Err(Refusal::bad_request(format!(
                "UPID IP address validation failed: Message from {from} was sent from another IP"
            )));
        }
    }
    let body = request.into_body().collect().await;
    let body = body.map_err(|_| Refusal::bad_request("the body broke off"))?;
    let message = Message {
        from,
        name,
        body: body.to_bytes(),
    };
    let event = Event::Message(message);
    if messenger.inner.directory.deliver(&actor, event).await {
        Ok(())
    } else {
        Err(Refusal::not_found("404 Not Found."))
    }
}

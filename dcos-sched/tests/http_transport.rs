//! The HTTP transport against small masters that behave as Mesos does.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use dcos_proto::mesos::MasterInfo;
use dcos_proto::scheduler::{Call, Event, call, event};
use dcos_sched::sdk::{HttpTransport, SchedulerTransport, Subscription, TransportError};
use dcos_wire::records::{self, RecordSender};
use dcos_wire::{Client, Listener, MediaType, Refusal, Server, reply};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Serves a router until dropped; returns its address.
async fn serve(router: Router) -> (String, DropGuard) {
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(Server::new(router).serve(listener, stop.clone()));
    (address, stop.drop_guard())
}

/// A leading master with one stream.
#[derive(Clone, Default)]
struct Leader {
    calls: Arc<Mutex<Vec<Call>>>,
    stream: Arc<Mutex<Option<RecordSender>>>,
}

impl Leader {
    fn router(&self) -> Router {
        let leader = self.clone();
        let answer = async move |headers: HeaderMap, body: Bytes| leader.answer(&headers, &body);
        Router::new().route("/api/v1/scheduler", post(answer))
    }

    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        let media = MediaType::of_content(headers)?;
        let call: Call = media.decode(body)?;
        if call.r#type() != call::Type::Subscribe {
            if headers.get(reply::MESOS_STREAM_ID) != Some(&HeaderValue::from_static("stream-1")) {
                return Err(Refusal::bad_request(
                    "The stream ID included in this request is wrong",
                ));
            }
            self.calls.lock().unwrap().push(call);
            return Ok(reply::accepted());
        }
        let (sender, body) = records::stream(records::Limits::default());
        sender.send(media.encode(&heartbeat())).unwrap();
        *self.stream.lock().unwrap() = Some(sender);
        let mut response = reply::message(MediaType::of_answer(headers)?, body);
        let id = HeaderValue::from_static("stream-1");
        response.headers_mut().insert(reply::MESOS_STREAM_ID, id);
        Ok(response)
    }
}

fn heartbeat() -> Event {
    Event {
        r#type: Some(event::Type::Heartbeat.into()),
        ..Event::default()
    }
}

fn call(kind: call::Type) -> Call {
    Call {
        r#type: Some(kind.into()),
        ..Call::default()
    }
}

async fn next(subscription: &mut Subscription) -> Option<Event> {
    let next = subscription.events.recv();
    let next = tokio::time::timeout(Duration::from_secs(10), next).await;
    next.expect("an event or the end in time")
}

#[tokio::test]
async fn the_leader_is_found_and_calls_go_straight_there() {
    for media in MediaType::ALL {
        let leader = Leader::default();
        let (leading, _running) = serve(leader.router()).await;
        let standby =
            Router::new().fallback(async move |uri: Uri| reply::leader(Some(&leading), &uri));
        let (standby, standby_running) = serve(standby).await;
        // One master is down, one recovers, one knows who leads.
        let recovering = Router::new().fallback(async || Refusal::unavailable("recovering"));
        let (recovering, _running) = serve(recovering).await;
        let masters = ["127.0.0.1:1", &recovering, &format!("http://{standby}/")];
        let transport = HttpTransport::new(masters, media);

        let mut subscription = None;
        for _ in masters {
            match transport.subscribe(call(call::Type::Subscribe)).await {
                Ok(found) => subscription = Some(found),
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
        let mut subscription = subscription.expect("each try asks another master");
        assert_eq!(subscription.stream_id, "stream-1");
        assert_eq!(next(&mut subscription).await, Some(heartbeat()));

        drop(standby_running);
        let revive = call(call::Type::Revive);
        transport.call("stream-1", revive.clone()).await.unwrap();
        assert_eq!(*leader.calls.lock().unwrap(), std::slice::from_ref(&revive));
        let error = transport.call("stream-0", revive).await.unwrap_err();
        assert!(
            matches!(&error, TransportError::Refused { status: 400, reason } if reason.contains("wrong")),
            "{error}"
        );

        leader.stream.lock().unwrap().take();
        assert_eq!(
            next(&mut subscription).await,
            None,
            "the master ended the stream"
        );
    }
}

#[tokio::test]
async fn credentials_reach_the_leader_and_no_error() {
    const SHOWN: &str = "Basic b3BzOnNlY3JldA==";
    let leader = Leader::default();
    let guarded = leader.clone();
    let guarded = async move |headers: HeaderMap, body: Bytes| {
        if headers
            .get(AUTHORIZATION)
            .is_none_or(|shown| *shown != SHOWN)
        {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "who are you?"));
        }
        guarded.answer(&headers, &body)
    };
    let (leading, running) = serve(Router::new().route("/api/v1/scheduler", post(guarded))).await;
    let standby = Router::new().fallback(async move |uri: Uri| reply::leader(Some(&leading), &uri));
    let (standby, _standby_running) = serve(standby).await;
    let transport = HttpTransport::new([format!("http://ops:secret@{standby}")], MediaType::Json);
    let subscription = transport.subscribe(call(call::Type::Subscribe)).await;
    let mut subscription = subscription.unwrap();
    assert_eq!(next(&mut subscription).await, Some(heartbeat()));
    let revive = call(call::Type::Revive);
    transport.call("stream-1", revive.clone()).await.unwrap();
    assert_eq!(*leader.calls.lock().unwrap(), std::slice::from_ref(&revive));

    drop((subscription, running));
    leader.stream.lock().unwrap().take();
    let mut failed = transport.call("stream-1", revive.clone()).await;
    while failed.is_ok() {
        failed = transport.call("stream-1", revive.clone()).await;
    }
    let told = format!("{:?}", failed.unwrap_err());
    assert!(
        told.contains("Unreachable") && !told.contains("secret"),
        "{told}"
    );
}

/// A frozen leader answers nothing, and closes nothing.
#[tokio::test]
async fn calls_to_a_leader_of_before_are_given_up() {
    let leader = Leader::default();
    let subscribed = leader.clone();
    let answer = async move |headers: HeaderMap, body: Bytes| {
        let answer = subscribed.answer(&headers, &body);
        if !subscribed.calls.lock().unwrap().is_empty() {
            std::future::pending::<()>().await;
        }
        answer
    };
    let router = Router::new().route("/api/v1/scheduler", post(answer));
    let (address, _running) = serve(router).await;
    let elected = |id: &str, port: u32| {
        Some(Arc::new(MasterInfo {
            id: id.to_owned(),
            port,
            hostname: Some("127.0.0.1".to_owned()),
            ..MasterInfo::default()
        }))
    };
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let (election, leading) = watch::channel(elected("one", port));
    let transport = HttpTransport::following(leading, MediaType::Protobuf, Client::new());
    let subscription = transport.subscribe(call(call::Type::Subscribe)).await;
    let mut subscription = subscription.unwrap();
    assert_eq!(next(&mut subscription).await, Some(heartbeat()));

    let calls = async {
        let revive = || transport.call("stream-1", call(call::Type::Revive));
        // The first waits as the next one is elected; the second begins before anybody subscribed there.
        [revive().await, revive().await]
    };
    let elect = async {
        while leader.calls.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        election.send_replace(elected("two", 1));
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(calls, elect).0
    });
    let ended = ended.await.expect("nobody waits for the former leader");
    for told in ended {
        assert!(
            matches!(told, Err(TransportError::NotReady { .. })),
            "{told:?}"
        );
    }
    assert_eq!(next(&mut subscription).await, None);
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_at_the_master() {
    let leader = Leader::default();
    let (address, _running) = serve(leader.router()).await;
    let transport = HttpTransport::new([address], MediaType::Json);
    let subscription = transport
        .subscribe(call(call::Type::Subscribe))
        .await
        .unwrap();
    let sender = leader.stream.lock().unwrap().clone().unwrap();
    drop(subscription);
    let closed = tokio::time::timeout(Duration::from_secs(10), sender.closed()).await;
    assert!(closed.is_ok());
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out() {
    let leader = Leader::default();
    let (address, _running) = serve(leader.router()).await;
    let transport = HttpTransport::new([address], MediaType::Json);
    let mut subscription = transport
        .subscribe(call(call::Type::Subscribe))
        .await
        .unwrap();
    next(&mut subscription).await;
    let sender = leader.stream.lock().unwrap().clone().unwrap();
    sender
        .send(r#"{"type":"UPDATE","update":{}}"#.into())
        .unwrap();
    sender
        .send(r#"{"type":"HEARTBEAT","novelty":1}"#.into())
        .unwrap();
    assert_eq!(next(&mut subscription).await, Some(heartbeat()));
}

#[tokio::test]
async fn refusals_are_told_apart_from_failures() {
    let refusing =
        Router::new().fallback(async || (StatusCode::FORBIDDEN, "not you").into_response());
    let (address, _running) = serve(refusing).await;
    let transport = HttpTransport::new([address], MediaType::Json);
    let error = transport
        .subscribe(call(call::Type::Subscribe))
        .await
        .unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let error = transport
        .call("s", call(call::Type::Revive))
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::NotSubscribed));
}

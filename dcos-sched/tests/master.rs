//! A whole master on a port of its own: over HTTP, and from within its process.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dcos_proto::json::Dialect;
use dcos_proto::mesos::{DomainInfo, FrameworkInfo, Label, Labels, MasterInfo};
use dcos_proto::scheduler::{Call, call, event};
use dcos_sched::master::{Config, MasterHandle, Node, RunError, Stance};
use dcos_sched::sdk::SchedulerTransport as _;
use dcos_store::{
    Election as _, Entry, Fence, MemoryElection, MemoryStore, Revision, Snapshot, StateStore,
    StoreError, Term, Transaction, Watch,
};
use dcos_wire::{Answer, Client, Listener, Origins, Records};
use http::{Method, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A master until it is dropped.
struct Running {
    url: String,
    handle: MasterHandle,
    client: Client,
    _stop: DropGuard,
}

async fn start() -> Running {
    configured(Config::default()).await
}

async fn configured(config: Config) -> Running {
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", listener.address().unwrap());
    let node = Node::new(config);
    let handle = node.handle();
    let stop = CancellationToken::new();
    let fence = Fence::new("test", Term(1));
    let store = Arc::new(MemoryStore::new());
    tokio::spawn(node.run(store, fence, listener, stop.clone()));
    Running {
        url,
        handle,
        client: Client::new(),
        _stop: stop.drop_guard(),
    }
}

impl Running {
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client
            .send(request.body(body.into()).unwrap())
            .await
            .unwrap()
    }

    async fn scheduler(&self, stream: Option<&str>, call: &Value) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(stream.map(|stream| ("mesos-stream-id", stream)));
        self.send(
            Method::POST,
            "/api/v1/scheduler",
            &headers,
            call.to_string(),
        )
        .await
    }

    async fn subscribe(&self, id: Option<&str>) -> (String, Records) {
        let mut info = json!({"user": "nobody", "name": "test", "failover_timeout": 60});
        let mut call = json!({"type": "SUBSCRIBE"});
        if let Some(id) = id {
            info["id"] = json!({"value": id});
            call["framework_id"] = json!({"value": id});
        }
        call["subscribe"] = json!({"framework_info": info});
        let answer = self.scheduler(None, &call).await;
        assert_eq!(answer.status(), 200);
        let stream = answer.headers()["mesos-stream-id"]
            .to_str()
            .unwrap()
            .to_owned();
        (stream, answer.records(1 << 20))
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, &[], "").await;
        answer.success().await.unwrap().json().await.unwrap()
    }
}

async fn next(records: &mut Records) -> Value {
    let record = tokio::time::timeout(Duration::from_secs(10), records.next());
    serde_json::from_slice(&record.await.unwrap().unwrap().unwrap()).unwrap()
}

async fn status_and_text(answer: Answer) -> (u16, String) {
    let status = answer.status().as_u16();
    (status, answer.text().await.unwrap())
}

#[tokio::test]
async fn a_scheduler_that_takes_over_ends_the_older_stream() {
    let master = start().await;
    let (old, mut events) = master.subscribe(None).await;
    let subscribed = next(&mut events).await;
    assert_eq!(subscribed["type"], "SUBSCRIBED");
    let id = subscribed["subscribed"]["framework_id"]["value"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(next(&mut events).await["type"], "HEARTBEAT");
    let (new, _events) = master.subscribe(Some(&id)).await;
    assert_eq!(
        next(&mut events).await["error"]["message"],
        "Framework failed over"
    );
    let end = tokio::time::timeout(Duration::from_secs(10), events.next())
        .await
        .unwrap();
    assert_eq!(end.unwrap(), None, "the older stream ends");
    let suppress = json!({"type": "SUPPRESS", "framework_id": {"value": id}});
    let refused = master.scheduler(Some(&old), &suppress).await;
    assert_eq!(refused.status(), 400);
    let accepted = status_and_text(master.scheduler(Some(&new), &suppress).await).await;
    assert_eq!(accepted, (202, String::new()));
}

/// The server and the core are told at the same time, and end in either order.
#[tokio::test]
async fn a_master_that_is_told_to_stop_does() {
    for _ in 0..32 {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (stop, store) = (CancellationToken::new(), Arc::new(MemoryStore::new()));
        let fence = Fence::new("test", Term(1));
        let node = Node::new(Config::default());
        let running = tokio::spawn(node.run(store, fence, listener, stop.clone()));
        tokio::task::yield_now().await;
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_leaves_is_noticed() {
    let master = start().await;
    let (_, mut events) = master.subscribe(None).await;
    next(&mut events).await;
    drop(events);
    let left = async {
        while master.get("/frameworks").await["frameworks"][0]["connected"] == true {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), left)
        .await
        .unwrap();
}

#[tokio::test]
async fn bad_requests_are_refused_and_the_master_goes_on() {
    let master = start().await;
    let json_type = ("content-type", "application/json");
    let proto = ("content-type", "application/x-protobuf");
    for path in ["/api/v1/scheduler", "/master/api/v1/scheduler", "/api/v1"] {
        let check =
            async |method: Method, headers: &[(&str, &str)], body: &'static [u8], status: u16| {
                let answer = master
                    .send(method, path, headers, Bytes::from_static(body))
                    .await;
                assert_eq!(answer.status(), status, "{path} {headers:?} {body:?}");
            };
        check(Method::GET, &[], b"", 405).await;
        check(Method::POST, &[], b"{}", 400).await;
        check(Method::POST, &[json_type], b"{", 400).await;
        check(Method::POST, &[json_type], b"[]", 400).await;
        check(Method::POST, &[json_type], b"\xff\xfe", 400).await;
        check(Method::POST, &[json_type], b"{}", 400).await;
        check(Method::POST, &[proto], b"\x08", 400).await;
        check(Method::POST, &[proto], b"", 400).await;
        check(Method::POST, &[("content-type", "text/plain")], b"{}", 415).await;
    }
    let subscribe =
        json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "x", "name": "x"}}});
    let accept = [json_type, ("accept", "text/html")];
    let answer = master
        .send(
            Method::POST,
            "/api/v1/scheduler",
            &accept,
            subscribe.to_string(),
        )
        .await;
    assert_eq!(answer.status(), 406);
    let answer = master
        .send(
            Method::POST,
            "/api/v1",
            &[json_type],
            r#"{"type":"DRAIN_AGENT"}"#,
        )
        .await;
    assert_eq!(answer.status(), 400);
    let answer = master.send(Method::GET, "/tasks?limit=many", &[], "").await;
    assert_eq!(answer.status(), 400);
    assert_eq!(master.get("/state").await["frameworks"], json!([]));
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let origins = Origins::new(["https://ui.example".to_owned()]).unwrap();
    let master = configured(Config {
        origins,
        ..Config::default()
    })
    .await;
    let ask = async |method, path: &str, origin: &str| {
        let headers = [("origin", origin), ("content-type", "application/json")];
        let answer = master.send(method, path, &headers, "{}").await;
        status_and_text(answer).await
    };
    let (foreign, own) = ("http://elsewhere.example", master.url.as_str());
    for path in [
        "/teardown",
        "/reserve",
        "/unreserve",
        "/create-volumes",
        "/destroy-volumes",
        "/quota",
        "/machine/down",
        "/maintenance/schedule",
        "/api/v1",
        "/api/v1/scheduler",
    ] {
        for path in [path.to_owned(), format!("/master{path}")] {
            let (status, text) = ask(Method::POST, &path, foreign).await;
            assert_eq!(status, 403, "{path}: {text}");
            assert!(text.contains(foreign), "{path}: {text}");
            assert!(text.contains("--http_allowed_origins"), "{path}: {text}");
            for origin in [own, "https://ui.example"] {
                let (status, text) = ask(Method::POST, &path, origin).await;
                assert_ne!(status, 403, "{path} {origin}: {text}");
            }
        }
    }
    assert_eq!(ask(Method::DELETE, "/quota/eng", foreign).await.0, 403);
    assert_eq!(ask(Method::PUT, "/weights", foreign).await.0, 403);
    assert_eq!(ask(Method::POST, "/logging/toggle", foreign).await.0, 403);
    let toggle = "/logging/toggle?level=1&duration=1secs";
    assert_eq!(ask(Method::GET, toggle, foreign).await.0, 403);
    assert_eq!(ask(Method::GET, "/state", foreign).await.0, 200);
    // What a page has a browser send with a header of libprocess is no message.
    let from = ("libprocess-from", "master@127.0.0.1:5050");
    let headers = [("origin", foreign), from];
    let path = "/master/mesos.internal.UnregisterFrameworkMessage";
    let answer = master.send(Method::POST, path, &headers, "").await;
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn operators_watch_what_changes() {
    let master = start().await;
    let headers = [("content-type", "application/json")];
    let answer = master
        .send(Method::POST, "/api/v1", &headers, r#"{"type":"SUBSCRIBE"}"#)
        .await;
    let mut events = answer.success().await.unwrap().records(1 << 20);
    let first = next(&mut events).await;
    assert_eq!(first["type"], "SUBSCRIBED");
    assert_eq!(first["subscribed"]["heartbeat_interval_seconds"], 15.0);
    assert_eq!(next(&mut events).await["type"], "HEARTBEAT");
    let (_, mut stream) = master.subscribe(None).await;
    let id = next(&mut stream).await["subscribed"]["framework_id"]["value"].clone();
    let added = next(&mut events).await;
    assert_eq!(added["type"], "FRAMEWORK_ADDED");
    assert_eq!(
        added["framework_added"]["framework"]["framework_info"]["id"]["value"],
        id
    );
    let teardown = format!("frameworkId={}", id.as_str().unwrap());
    let answer = master
        .send(Method::POST, "/master/teardown", &[], teardown)
        .await;
    assert_eq!(answer.status(), 200);
    let mut kind = next(&mut events).await["type"].clone();
    if kind == "FRAMEWORK_UPDATED" {
        kind = next(&mut events).await["type"].clone();
    }
    assert_eq!(kind, "FRAMEWORK_REMOVED");
    let state = master.get("/master/state").await;
    assert_eq!(state["completed_frameworks"][0]["id"], id);
}

#[tokio::test]
async fn a_framework_in_the_same_process_needs_no_http() {
    let master = start().await;
    let info = FrameworkInfo {
        user: "nobody".to_owned(),
        name: "inside".to_owned(),
        ..FrameworkInfo::default()
    };
    let subscribe = Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe {
            framework_info: info,
            ..call::Subscribe::default()
        }),
        ..Call::default()
    };
    let mut subscription = master.handle.subscribe(subscribe).await.unwrap();
    let first = subscription.events.recv().await.unwrap();
    assert_eq!(first.r#type(), event::Type::Subscribed);
    let id = first.subscribed.unwrap().framework_id;
    let snapshot = master.handle.snapshot().await.unwrap();
    assert!(snapshot.frameworks[&id].active);
    let explained = master
        .get(&format!("/allocator/explain?framework_id={id}"))
        .await;
    assert_eq!(explained["explanations"][0]["role"], "*");
    let teardown = Call {
        framework_id: Some(id),
        r#type: Some(call::Type::Teardown.into()),
        ..Call::default()
    };
    master
        .handle
        .call(&subscription.stream_id, teardown)
        .await
        .unwrap();
    let rest = async { while subscription.events.recv().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), rest)
        .await
        .unwrap();
    assert!(
        master
            .handle
            .snapshot()
            .await
            .unwrap()
            .frameworks
            .is_empty()
    );
}

#[tokio::test]
async fn metrics_and_files_answer_as_documented() {
    let master = start().await;
    let metrics = master.get("/metrics/snapshot").await;
    assert_eq!(metrics["master/elected"], 1.0);
    assert_eq!(metrics["master/slaves_active"], 0.0);
    let answer = master
        .send(Method::GET, "/files/read?path=/master/log", &[], "")
        .await;
    assert_eq!(answer.status(), 404, "no log file was configured");
    let answer = master.send(Method::GET, "/health", &[], "").await;
    assert_eq!(answer.status(), 200);
    let wrapped = master
        .send(Method::GET, "/version?jsonp=show", &[], "")
        .await;
    assert!(wrapped.text().await.unwrap().starts_with("show({"));
}

/// What does not fit into the first buffers goes out while it is written, to one reader or to many.
#[tokio::test]
async fn a_large_document_is_the_same_for_all() {
    let master = start().await;
    let long = "x".repeat(256 << 10);
    let label = Label {
        key: "long".to_owned(),
        value: Some(long.clone()),
    };
    let framework_info = FrameworkInfo {
        user: "nobody".to_owned(),
        name: "large".to_owned(),
        labels: Some(Labels {
            labels: vec![label],
        }),
        ..FrameworkInfo::default()
    };
    let subscribe = Call {
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(call::Subscribe {
            framework_info,
            ..call::Subscribe::default()
        }),
        ..Call::default()
    };
    let mut subscriptions = Vec::new();
    for _ in 0..12 {
        let subscription = master.handle.subscribe(subscribe.clone()).await;
        subscriptions.push(subscription.unwrap());
    }
    let read = async || {
        let answer = master.send(Method::GET, "/state", &[("accept-encoding", "")], "");
        let answer = answer.await;
        assert_eq!(answer.status(), 200);
        let length = answer.headers().get("content-length").cloned();
        (length, answer.text().await.unwrap())
    };
    let (length, alone) = read().await;
    assert_eq!(length, None, "it was sent before its length was known");
    let state: Value = serde_json::from_str(&alone).unwrap();
    assert_eq!(state["frameworks"][0]["labels"][0]["value"], *long);
    let together = futures::future::join_all((0..8).map(|_| read())).await;
    assert!(together.iter().all(|(_, text)| *text == alone));
    let small = master.send(Method::GET, "/slaves", &[("accept-encoding", "")], "");
    assert!(small.await.headers().contains_key("content-length"));
    // HTTP/1.0 could not tell a broken connection from the end: it is told how much comes.
    let mut old = TcpStream::connect(master.url.trim_start_matches("http://"))
        .await
        .unwrap();
    old.write_all(b"GET /state HTTP/1.0\r\n\r\n").await.unwrap();
    let mut told = String::new();
    old.read_to_string(&mut told).await.unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", alone.len())),
        "{head}"
    );
    assert_eq!(body, alone);
}

/// A store whose disk hangs from the moment on at which it is told so.
#[derive(Debug, Default)]
struct Hanging {
    store: MemoryStore,
    reads: AtomicBool,
    writes: AtomicBool,
}

impl Hanging {
    async fn hang_if(switch: &AtomicBool) {
        if switch.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait::async_trait]
impl StateStore for Hanging {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        Self::hang_if(&self.reads).await;
        self.store.scan(prefix).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        Self::hang_if(&self.writes).await;
        self.store.transact(transaction).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(prefix, from).await
    }
}

/// A master on that store which gives it half a second.
async fn on(store: &Arc<Hanging>) -> (String, JoinHandle<Result<(), RunError>>) {
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", listener.address().unwrap());
    let limit = Duration::from_millis(500);
    let node = Node::new(Config {
        registry_store_timeout: limit,
        registry_fetch_timeout: limit,
        ..Config::default()
    });
    let (store, fence) = (Arc::clone(store), Fence::new("test", Term(1)));
    let running = node.run(store, fence, listener, CancellationToken::new());
    (url, tokio::spawn(running))
}

#[tokio::test]
async fn a_registry_that_hangs_ends_the_master() {
    let store = Arc::new(Hanging::default());
    let (url, running) = on(&store).await;
    let client = Client::new();
    let set = |weight: f64| {
        let body = json!([{"role": "dev", "weight": weight}]).to_string();
        let request = Request::put(format!("{url}/weights"));
        client.send(request.body(body.into()).unwrap())
    };
    assert_eq!(set(2.0).await.unwrap().status(), 200);
    store.writes.store(true, Ordering::SeqCst);
    // The connection ends, or its answer is that the master has.
    let told = set(3.0).await.map(|answer| answer.status().as_u16());
    assert!(told.is_err() || told.is_ok_and(|status| status == 503));
    let end = running.await.unwrap().unwrap_err();
    assert!(
        end.to_string().contains("--registry_store_timeout"),
        "{end}"
    );
    assert!(
        client.get(&format!("{url}/health")).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_registry_that_cannot_be_read_ends_the_master() {
    let store = Arc::new(Hanging::default());
    store.reads.store(true, Ordering::SeqCst);
    let (_, running) = on(&store).await;
    let end = running.await.unwrap().unwrap_err();
    assert!(
        end.to_string().contains("--registry_fetch_timeout"),
        "{end}"
    );
}

#[tokio::test]
async fn a_master_of_another_region_does_not_stand() {
    let domain = |region: &str| {
        let name = |name: &str| json!({ "name": name });
        let domain = json!({"fault_domain": {"region": name(region), "zone": name("z")}});
        dcos_proto::json::from_value::<DomainInfo>(&domain, Dialect::V1).unwrap()
    };
    let election = MemoryElection::new();
    let leader = MasterInfo {
        id: "leader".to_owned(),
        pid: Some("master@10.0.0.1:5050".to_owned()),
        domain: Some(domain("here")),
        ..MasterInfo::default()
    };
    let candidate = dcos_proto::json::to_vec(&leader, Dialect::V0);
    let _leadership = election.campaign(candidate.into()).await.unwrap();
    let stand = async |region: Option<&str>| {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let node = Node::new(Config {
            domain: region.map(domain),
            ..Config::default()
        });
        let mut stance = node.stance();
        let store = Arc::new(MemoryStore::new());
        let standing = node.stand(
            store,
            Arc::new(election.clone()),
            listener,
            CancellationToken::new(),
        );
        let follows = stance.wait_for(|stance| matches!(stance, Stance::Standby(Some(_))));
        tokio::select! {
            ended = standing => Err(ended.unwrap_err().to_string()),
            _ = follows => Ok(()),
        }
    };
    let refused = stand(Some("there")).await.unwrap_err();
    assert!(
        refused.contains("region \"here\", this one (--domain) in \"there\""),
        "{refused}"
    );
    assert_eq!(stand(Some("here")).await, Ok(()));
    assert_eq!(stand(None).await, Ok(()));
}

//! The whole Marathon with a store in memory or on disk and a Mesos of a few lines, over real HTTP.

mod mesos;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dcos_store::{EmbeddedStore, Fence, MemoryElection, MemoryStore, StateStore};
use dcos_wire::Listener;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{RunError, run};
use crate::Config;
use mesos::Mesos;

/// A running Marathon.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) mesos: Arc<Mesos>,
    cancel: CancellationToken,
    ended: JoinHandle<Result<(), RunError>>,
}

/// An answer to a test's request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

async fn fence() -> Fence {
    use dcos_store::Election;
    MemoryElection::new()
        .campaign("test".into())
        .await
        .unwrap()
        .fence()
}

impl Running {
    pub(crate) async fn new() -> Self {
        Self::configured(Config::default()).await
    }

    pub(crate) async fn configured(config: Config) -> Self {
        Self::with(Arc::new(MemoryStore::new()), Mesos::new(), config).await
    }

    pub(crate) async fn with(
        store: Arc<dyn StateStore>,
        mesos: Arc<Mesos>,
        config: Config,
    ) -> Self {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap();
        let cancel = CancellationToken::new();
        let transport = Arc::new(mesos::Transport(Arc::clone(&mesos)));
        let config = Config {
            http_port: address.port(),
            ..config
        };
        let running = run(
            config,
            store,
            fence().await,
            transport,
            listener,
            cancel.clone(),
        );
        Self {
            address,
            mesos,
            cancel,
            ended: tokio::spawn(running),
        }
    }

    /// Drops everything where it stands.
    async fn crash(self) -> Arc<Mesos> {
        self.ended.abort();
        let _ = self.ended.await;
        self.mesos
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send_raw(method, path, body, "application/json").await
    }

    pub(crate) async fn send_raw(
        &self,
        method: &str,
        path: &str,
        body: String,
        accept: &str,
    ) -> Answer {
        self.send_with(method, path, body, &[("accept", accept)])
            .await
    }

    pub(crate) async fn send_with(
        &self,
        method: &str,
        path: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "marathon");
        let said = headers.iter();
        let request = said.fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    pub(crate) async fn until(
        &self,
        what: &str,
        path: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Value {
        let waiting = async {
            loop {
                let answer = self.send("GET", path, &Value::Null).await;
                if answer.status == 200 && test(&answer.json()) {
                    return answer.json();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if let Ok(found) = tokio::time::timeout(Duration::from_secs(20), waiting).await {
            return found;
        }
        panic!("{what}: {:?}", self.send("GET", path, &Value::Null).await)
    }

    pub(crate) async fn idle(&self) {
        self.until("no deployments", "/v2/deployments", |all| all == &json!([]))
            .await;
    }

    pub(crate) async fn create(&self, app: Value) -> Answer {
        let answer = self.send("POST", "/v2/apps", &app).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer
    }
}

#[tokio::test]
async fn an_apps_life_over_http() {
    let marathon = Running::new().await;
    marathon
        .create(json!({"id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 32}))
        .await;
    marathon.idle().await;
    for instances in [10, 3] {
        let answer = marathon
            .send("PUT", "/v2/apps//web", &json!({"instances": instances}))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        marathon.idle().await;
        let app = marathon.get("/v2/apps/web").await;
        assert_eq!(app["app"]["tasksRunning"], json!(instances));
    }
    let before = marathon.mesos.tasks();
    marathon
        .send("PUT", "/v2/apps/web", &json!({"cmd": "serve better"}))
        .await;
    marathon.idle().await;
    let after = marathon.mesos.tasks();
    assert_eq!(after.len(), 3);
    assert!(before.is_disjoint(&after));
    marathon.send("DELETE", "/v2/apps/web", &Value::Null).await;
    marathon.idle().await;
    assert!(marathon.mesos.tasks().is_empty());
    assert_eq!(
        marathon
            .send("GET", "/v2/apps/web", &Value::Null)
            .await
            .status,
        404
    );
    marathon.cancel.cancel();
    marathon.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_deployment_goes_on_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mesos = Mesos::new();
    mesos.pause(true);
    let open = || EmbeddedStore::open(&path).unwrap();
    let marathon = Running::with(Arc::new(open()), mesos, Config::default()).await;
    marathon
        .create(json!({"id": "/a", "cmd": "run", "cpus": 0.1, "mem": 1, "instances": 5}))
        .await;
    let framework = marathon
        .until("a framework", "/v2/info", |info| {
            info["frameworkId"].is_string()
        })
        .await["frameworkId"]
        .clone();
    let deployment = marathon.get("/v2/deployments").await[0]["id"].clone();
    let mesos = marathon.crash().await;

    mesos.pause(false);
    let marathon = Running::with(Arc::new(open()), mesos, Config::default()).await;
    marathon
        .until("the app", "/v2/apps/a", |app| {
            app["app"]["tasksRunning"] == json!(5)
        })
        .await;
    marathon.idle().await;
    assert_eq!(marathon.mesos.tasks().len(), 5);
    assert_eq!(marathon.get("/v2/info").await["frameworkId"], framework);
    assert!(deployment.is_string());
    let mesos = marathon.crash().await;

    let marathon = Running::with(Arc::new(open()), mesos, Config::default()).await;
    marathon
        .until("the app", "/v2/apps/a", |app| {
            app["app"]["tasksRunning"] == json!(5)
        })
        .await;
    assert_eq!(marathon.mesos.launches(), 5, "nothing was launched twice");
}

#[tokio::test]
async fn a_new_role_is_subscribed_to() {
    let marathon = Running::new().await;
    marathon
        .create(json!({"id": "/a", "cmd": "run", "cpus": 0.1, "mem": 1}))
        .await;
    marathon
        .create(json!({"id": "/prod/b", "cmd": "run", "cpus": 0.1, "mem": 1, "role": "prod"}))
        .await;
    marathon.idle().await;
    let task = marathon.get("/v2/apps/prod/b").await["app"]["tasks"][0].clone();
    assert_eq!(task["role"], "prod");
    assert_eq!(marathon.mesos.launches(), 2);
}

#[tokio::test]
async fn after_abdication_everything_is_as_before() {
    let marathon = Running::new().await;
    marathon
        .create(json!({"id": "/a", "cmd": "run", "cpus": 0.1, "mem": 1, "instances": 3}))
        .await;
    marathon.idle().await;
    let answer = marathon.send("DELETE", "/v2/leader", &Value::Null).await;
    assert_eq!(answer.json()["message"], "Leadership abdicated");
    marathon.mesos.until_subscriptions(2).await;
    marathon
        .send("PUT", "/v2/apps/a", &json!({"instances": 4}))
        .await;
    marathon.idle().await;
    assert_eq!(
        (marathon.mesos.tasks().len(), marathon.mesos.launches()),
        (4, 4)
    );
}

#[tokio::test]
async fn a_framework_that_somebody_ended_is_another_one_with_the_same_apps() {
    let marathon = Running::new().await;
    marathon
        .create(json!({"id": "/a", "cmd": "run", "cpus": 0.1, "mem": 1, "instances": 3}))
        .await;
    marathon.idle().await;
    let before = marathon.mesos.tasks();
    marathon.mesos.tear_down();
    marathon
        .until("another framework", "/v2/info", |info| {
            info["frameworkId"] == "framework-0002"
        })
        .await;
    marathon
        .until("the app", "/v2/apps/a", |app| {
            app["app"]["tasksRunning"] == json!(3) && marathon.mesos.launches() == 6
        })
        .await;
    assert!(before.is_disjoint(&marathon.mesos.tasks()));
    // It is the same for whoever comes after it.
    marathon.send("DELETE", "/v2/leader", &Value::Null).await;
    marathon.mesos.until_subscriptions(4).await;
    let info = marathon.get("/v2/info").await;
    assert_eq!(info["frameworkId"], "framework-0002");
}

/// One document that is too large must not be in anybody else's way.
#[tokio::test]
async fn what_the_store_can_not_take_is_refused() {
    let marathon = Running::new().await;
    let app = |id: &str, label: &str| json!({"id": id, "cmd": "run", "cpus": 0.1, "mem": 1, "labels": {"x": label}});
    marathon.create(app("/a", "small")).await;
    marathon.idle().await;
    let large = app("/b", &"y".repeat(1_200_000));
    for (method, path, document) in [
        ("POST", "/v2/apps", large.clone()),
        ("PUT", "/v2/apps/b", large.clone()),
        ("PUT", "/v2/groups", json!({"id": "/", "apps": [large]})),
    ] {
        let refused = marathon.send(method, path, &document).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        let text = format!("{refused:?}");
        assert!(
            text.contains("marathon/spec/b@") && text.contains("at most 1000000"),
            "{text}"
        );
    }
    let apps = marathon.get("/v2/apps").await;
    assert_eq!(apps["apps"].as_array().map(Vec::len), Some(1));
    // Nobody began anew for it.
    assert_eq!(marathon.mesos.subscriptions(), 1);
    marathon.create(app("/c", "small")).await;
    marathon.idle().await;
    assert_eq!(marathon.mesos.tasks().len(), 2);
}

#[tokio::test]
async fn a_backup_brings_back_what_was() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        backup_dir: Some(directory.path().join("backups")),
        ..Config::default()
    };
    let marathon = Running::configured(config).await;
    let app = |id: &str| json!({"id": id, "cmd": "run", "cpus": 0.1, "mem": 1});
    marathon.create(app("/kept")).await;
    marathon.idle().await;
    let uri = |name: &str| format!("file://{}", directory.path().join(name).display());
    let abdicate = async |query: String| {
        let path = format!("/v2/leader?{query}");
        marathon.send("DELETE", &path, &Value::Null).await
    };
    for elsewhere in ["/etc/passwd", "backups/../x", "backups/deep/x", "backups"] {
        let refused = abdicate(format!("backup={}", uri(elsewhere))).await;
        assert_eq!(refused.status, 422, "{elsewhere}: {refused:?}");
    }
    assert_eq!(abdicate("restore=s3://bucket/key".into()).await.status, 422);
    let saved = abdicate(format!("backup={}", uri("backups/one"))).await;
    assert_eq!(saved.status, 200, "{saved:?}");
    marathon.mesos.until_subscriptions(2).await;
    marathon.create(app("/later")).await;
    marathon.idle().await;
    // Half a file changes nothing.
    let file = directory.path().join("backups/one");
    let whole = std::fs::read_to_string(&file).unwrap();
    let half = &whole[..whole.rfind("{\"rows\"").unwrap()];
    std::fs::write(directory.path().join("backups/half"), half).unwrap();
    abdicate(format!("restore={}", uri("backups/half"))).await;
    marathon.mesos.until_subscriptions(3).await;
    let apps = marathon.get("/v2/apps").await["apps"].clone();
    assert_eq!(apps.as_array().unwrap().len(), 2);
    abdicate(format!("restore={}", uri("backups/one"))).await;
    marathon.mesos.until_subscriptions(4).await;
    let apps = marathon.get("/v2/apps").await["apps"].clone();
    assert_eq!(apps.as_array().unwrap().len(), 1);
    assert_eq!(apps[0]["id"], "/kept");
    // Nobody wants the other's task any more.
    marathon
        .until("one task", "/v2/tasks", |_| {
            marathon.mesos.tasks().len() == 1
        })
        .await;
}

#[tokio::test]
async fn marathons_own_health_checks_are_performed() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    });
    let marathon = Running::new().await;
    marathon
        .create(json!({
            "id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 1,
            "healthChecks": [
                {"protocol": "HTTP", "port": port, "path": "/ok"},
                {"protocol": "TCP", "port": port},
            ],
        }))
        .await;
    let app = marathon
        .until("health", "/v2/apps/web", |app| {
            app["app"]["tasksHealthy"] == json!(1)
        })
        .await;
    let results = &app["app"]["tasks"][0]["healthCheckResults"];
    assert_eq!(results[0]["alive"], json!(true), "{results}");
    marathon.idle().await;
}

#[tokio::test]
async fn with_a_guard_only_who_shows_the_password_is_answered() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let guard = crate::Guard::new("Mesosphere", "ops:se:cret").unwrap();
    let marathon = Running::configured(Config {
        guard: Some(guard.clone()),
        ..Config::default()
    })
    .await;
    let client = dcos_wire::Client::new();
    let ask = async |method: &str, path: &str, shown: Option<&str>| {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", marathon.address));
        if let Some(shown) = shown {
            request = request.header("authorization", shown);
        }
        let body = r#"{"id": "/web", "cmd": "serve"}"#;
        let body = if method == "POST" { body } else { "" };
        client
            .send(request.body(Bytes::from(body)).unwrap())
            .await
            .unwrap()
    };
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let wrong = ["ops:secret", "ops:se:cret ", "root:se:cret", "ops", ":"].map(basic);
    let wrong = wrong.iter().map(|it| Some(&**it));
    let wrong = wrong.chain([None, Some("Basic"), Some("Basic !"), Some("token=se:cret")]);
    let paths = [
        "/ping",
        "/",
        "/v2/apps",
        "/v2/events",
        "/metrics",
        "/nowhere",
    ];
    for shown in wrong {
        for (method, path) in paths
            .map(|path| ("GET", path))
            .into_iter()
            .chain([("POST", "/v2/apps")])
        {
            let answer = ask(method, path, shown).await;
            assert_eq!(answer.status(), 401, "{path} {shown:?}");
            assert_eq!(
                answer.headers()["www-authenticate"],
                r#"Basic realm="Mesosphere""#
            );
            let text = answer.text().await.unwrap();
            assert_eq!(text, r#"{"message":"Invalid username or password."}"#);
        }
    }
    let known = guard.authorization();
    let known = known.to_str().unwrap();
    assert_eq!(known, basic("ops:se:cret"));
    assert_eq!(ask("GET", "/ping", Some(known)).await.status(), 200);
    let apps = ask("GET", "/v2/apps", Some(known)).await;
    assert_eq!(
        apps.text().await.unwrap(),
        r#"{"apps":[]}"#,
        "nobody created one"
    );
    assert_eq!(ask("POST", "/v2/apps", Some(known)).await.status(), 201);
}

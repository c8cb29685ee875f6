//! Docker's volume plugins, against one of our own: an HTTP server on a socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as Called, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use dcos_volume::docker::PluginFolders;
use dcos_volume::{Drivers, Form, Mounts, VolumeDriver, VolumeRequest, testkit};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

#[derive(Default)]
struct Seen {
    calls: Vec<String>,
    /// Volumes by name: their options, and how often they are mounted. This one counts.
    volumes: BTreeMap<String, (Value, usize)>,
    failing: Option<&'static str>,
}

#[derive(Clone)]
struct Server {
    data: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    fn answer(&self, call: &str, body: &Value) -> Value {
        let mut seen = self.seen.lock().unwrap();
        seen.calls.push(call.to_owned());
        if seen.failing == Some(call) {
            return json!({"Err": "out of disks"});
        }
        let name = body["Name"].as_str().unwrap_or_default().to_owned();
        let folder = self.data.join(&name);
        if call == "Plugin.Activate" {
            return json!({"Implements": ["VolumeDriver"]});
        }
        if call == "VolumeDriver.Create" {
            std::fs::create_dir_all(&folder).unwrap();
            seen.volumes
                .entry(name)
                .or_insert((body["Opts"].clone(), 0));
            return json!({"Err": ""});
        }
        let Some((_, mounted)) = seen.volumes.get_mut(&name) else {
            return json!({"Err": format!("no such volume: {name}")});
        };
        match call {
            "VolumeDriver.Mount" => {
                // As well-behaved ones do, it knows whom it mounted for.
                assert_eq!(body["ID"], "mesos");
                *mounted = 1;
                json!({"Mountpoint": folder, "Err": ""})
            }
            "VolumeDriver.Unmount" if *mounted == 0 => json!({"Err": "not mounted"}),
            "VolumeDriver.Unmount" => {
                *mounted -= 1;
                json!({"Err": ""})
            }
            "VolumeDriver.Path" if *mounted == 0 => json!({"Mountpoint": "", "Err": ""}),
            "VolumeDriver.Path" => json!({"Mountpoint": folder}),
            "VolumeDriver.Get" => json!({"Volume": {"Name": name}, "Err": ""}),
            "VolumeDriver.Remove" => {
                seen.volumes.remove(&name);
                std::fs::remove_dir_all(&folder).unwrap();
                json!({"Err": ""})
            }
            other => panic!("{other}"),
        }
    }
}

async fn serve(
    State(server): State<Server>,
    Called(call): Called<String>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    assert_eq!(
        headers["accept"],
        "application/vnd.docker.plugins.v1.2+json"
    );
    let body = serde_json::from_str(&body).unwrap_or_default();
    let answer = server.answer(&call, &body);
    // Many plugins say it twice.
    let refused = answer["Err"].as_str().is_some_and(|text| !text.is_empty());
    let status = if refused {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    (status, answer.to_string())
}

struct Plugin {
    dir: tempfile::TempDir,
    server: Server,
    tasks: JoinSet<()>,
}

impl Plugin {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server {
            data: dir.path().join("data"),
            seen: Arc::default(),
        };
        Self {
            dir,
            server,
            tasks: JoinSet::new(),
        }
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/{call}", post(serve))
            .with_state(self.server.clone())
    }

    fn on_a_socket() -> Self {
        let mut plugin = Self::new();
        let listener = UnixListener::bind(plugin.dir.path().join("fake.sock")).unwrap();
        let router = plugin.router();
        plugin.tasks.spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        plugin
    }

    fn folders(&self) -> PluginFolders {
        PluginFolders::new(vec![self.dir.path().to_owned()])
    }

    fn driver(&self) -> Arc<dyn VolumeDriver> {
        self.folders().find("fake").unwrap()
    }

    fn calls(&self) -> String {
        std::mem::take(&mut self.server.seen.lock().unwrap().calls)
            .join(" ")
            .replace("VolumeDriver.", "")
    }
}

fn volume(name: &str) -> VolumeRequest {
    VolumeRequest {
        name: name.to_owned(),
        options: [("size".to_owned(), "5".to_owned())].into(),
        ..VolumeRequest::default()
    }
}

#[tokio::test]
async fn a_plugin_keeps_the_promises() {
    let plugin = Plugin::on_a_socket();
    testkit::all(&|| plugin.driver(), &VolumeRequest::default()).await;
    assert!(plugin.server.seen.lock().unwrap().volumes.is_empty());
}

#[tokio::test]
async fn calls_come_as_from_docker() {
    let plugin = Plugin::on_a_socket();
    let driver = plugin.driver();
    let path = driver.mount(&volume("data")).await.unwrap();
    assert_eq!(path, plugin.dir.path().join("data/data"));
    assert_eq!(plugin.calls(), "Plugin.Activate Get Create Mount");
    let options = plugin.server.seen.lock().unwrap().volumes["data"].0.clone();
    assert_eq!(options, json!({"size": "5"}));
    driver.unmount("data").await.unwrap();
    assert_eq!(plugin.calls(), "Get Unmount");
    driver.mount(&volume("data")).await.unwrap();
    assert_eq!(plugin.calls(), "Plugin.Activate Get Mount");
    driver.unmount("data").await.unwrap();
    driver.remove("data").await.unwrap();
    assert_eq!(plugin.calls(), "Get Unmount Get Remove");
}

#[tokio::test]
async fn refusals_are_told_in_the_plugins_words() {
    let plugin = Plugin::on_a_socket();
    plugin.server.seen.lock().unwrap().failing = Some("VolumeDriver.Create");
    let error = plugin.driver().mount(&volume("data")).await.unwrap_err();
    let expected = "volume driver `fake` refuses `VolumeDriver.Create`: out of disks";
    assert_eq!(error.to_string(), expected);
    // There is nothing to undo.
    plugin.driver().unmount("data").await.unwrap();
}

#[tokio::test]
async fn what_is_no_plugin_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let folders = PluginFolders::new(vec![dir.path().to_owned()]);
    let error = folders.find("fake").unwrap_err().to_string();
    assert!(error.contains("there is no such plugin in"), "{error}");
    std::fs::write(dir.path().join("fake.sock"), "").unwrap();
    let driver = folders.find("fake").unwrap();
    let error = driver.mount(&volume("data")).await.unwrap_err().to_string();
    assert!(error.contains("fake.sock"), "{error}");
    let error = driver.unmount("data").await.unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
}

#[tokio::test]
async fn a_plugin_may_be_elsewhere() {
    let mut plugin = Plugin::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = plugin.router();
    plugin.tasks.spawn(async move {
        axum::serve(listener, router).await.unwrap();
    });
    let spec = plugin.dir.path().join("fake.spec");
    std::fs::write(spec, format!("tcp://{address}\n")).unwrap();
    plugin.driver().mount(&volume("data")).await.unwrap();
}

#[tokio::test]
async fn containers_share_one_mount_over_a_restart() {
    let plugin = Plugin::on_a_socket();
    let state = plugin.dir.path().join("state");
    let mounts = || Mounts::new(state.clone(), Form::Docker, Arc::new(plugin.folders()));
    let wanted = || vec![("fake".to_owned(), volume("data"))];
    let before = mounts();
    before.attach("a", wanted()).await.unwrap();
    before.attach("b", wanted()).await.unwrap();
    let text = std::fs::read_to_string(state.join("a/volumes")).unwrap();
    assert_eq!(text, r#"{"volumes":[{"driver":"fake","name":"data"}]}"#);
    plugin.calls();

    let after = mounts();
    after.recover(&["b".to_owned()].into()).await.unwrap();
    assert_eq!(plugin.calls(), "");
    after.attach("c", wanted()).await.unwrap();
    assert_eq!(plugin.calls(), "Path");
    after.release("b").await.unwrap();
    after.release("c").await.unwrap();
    assert_eq!(plugin.calls(), "Get Unmount");
    assert_eq!(plugin.server.seen.lock().unwrap().volumes["data"].1, 0);
    assert_eq!(count(&state), 0);

    // Killed after all were: everything goes at the next start.
    mounts().attach("d", wanted()).await.unwrap();
    plugin.calls();
    mounts().recover(&[].into()).await.unwrap();
    assert_eq!(plugin.calls(), "Get Unmount");
    assert_eq!(count(&state), 0);
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

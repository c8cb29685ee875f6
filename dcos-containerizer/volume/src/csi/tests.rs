//! Against a plugin of our own: a gRPC server that mounts nothing but remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use super::messages::{
    AccessType, Capabilities, Capability, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, Empty, NodeGetInfoResponse, NodePublishVolumeRequest,
    NodeStageVolumeRequest, NodeUnpublishVolumeRequest, Rpc,
};
use super::{CsiFolder, CsiPlugin, PluginInfo};
use crate::testkit;
use crate::{Access, AccessMode, Drivers, Secrets, VolumeDriver, VolumeError, VolumeRequest};

#[derive(Default)]
struct Seen {
    calls: Vec<String>,
    /// A method, and the status it answers with from now on.
    failing: BTreeMap<String, u16>,
    stages: bool,
    attaches: bool,
    /// What is attached, staged, published.
    there: BTreeSet<(&'static str, String)>,
    last: BTreeMap<String, Bytes>,
}

struct Plugin {
    dir: tempfile::TempDir,
    seen: Arc<Mutex<Seen>>,
    _server: JoinSet<()>,
}

impl Plugin {
    fn new(stages: bool, attaches: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            stages,
            attaches,
            ..Seen::default()
        }));
        let listener = UnixListener::bind(dir.path().join("csi.sock")).unwrap();
        let mut server = JoinSet::new();
        let shared = Arc::clone(&seen);
        let data = dir.path().join("data");
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, data) = (Arc::clone(&shared), data.clone());
                let service =
                    service_fn(move |request| answer(Arc::clone(&seen), data.clone(), request));
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                connections.spawn(async move {
                    connection
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        });
        Self {
            dir,
            seen,
            _server: server,
        }
    }

    fn info(&self) -> PluginInfo {
        let socket = self.dir.path().join("csi.sock");
        let endpoint = |service: &str| serde_json::json!({"csi_service": service, "endpoint": format!("unix://{}", socket.display())});
        let text = serde_json::json!({
            "type": "test.csi",
            "endpoints": [endpoint("CONTROLLER_SERVICE"), endpoint("NODE_SERVICE")],
        });
        serde_json::from_value(text).unwrap()
    }

    fn driver(&self) -> CsiPlugin {
        CsiPlugin::new(self.info(), &self.dir.path().join("work")).unwrap()
    }

    /// What was called since the last time, without asking for abilities.
    fn calls(&self) -> String {
        let calls = std::mem::take(&mut self.seen.lock().unwrap().calls);
        let calls: Vec<_> = calls
            .into_iter()
            .filter(|call| !call.contains("Get"))
            .collect();
        calls.join(" ")
    }

    fn fail(&self, method: &str, status: u16) {
        self.seen
            .lock()
            .unwrap()
            .failing
            .insert(method.to_owned(), status);
    }

    fn mend(&self) {
        self.seen.lock().unwrap().failing.clear();
    }

    fn there(&self) -> usize {
        self.seen.lock().unwrap().there.len()
    }

    fn last<M: Message + Default>(&self, method: &str) -> M {
        M::decode(self.seen.lock().unwrap().last[method].clone()).unwrap()
    }
}

type Frames = futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>;

async fn answer(
    seen: Arc<Mutex<Seen>>,
    data: PathBuf,
    request: Request<Incoming>,
) -> Result<Response<StreamBody<Frames>>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut seen = seen.lock().unwrap();
    // A flag and a length come before each message.
    let outcome = handle(&mut seen, &data, &method, &body.slice(5..));
    let (status, message) = match outcome {
        Ok(message) => (0, Some(message)),
        Err(status) => (status, None),
    };
    let mut frames = Vec::new();
    if let Some(message) = message {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap());
        framed.put_slice(&message);
        frames.push(Ok(Frame::data(framed.freeze())));
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    trailers.insert(
        "grpc-message",
        HeaderValue::from_static("as the test wants it"),
    );
    frames.push(Ok(Frame::trailers(trailers)));
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response
        .body(StreamBody::new(futures::stream::iter(frames)))
        .unwrap())
}

fn handle(seen: &mut Seen, data: &Path, method: &str, message: &Bytes) -> Result<Vec<u8>, u16> {
    seen.calls.push(method.to_owned());
    seen.last.insert(method.to_owned(), message.clone());
    // It is done all the same: nobody knows where a failure was.
    let outcome = seen.failing.get(method).copied().map_or(Ok(()), Err);
    let can = |kind: Option<i32>| Capabilities {
        capabilities: kind
            .into_iter()
            .map(|kind| Capability {
                rpc: Some(Rpc { kind }),
            })
            .collect(),
    };
    let id = String::from_utf8(message.get(2..).map_or(Vec::new(), |rest| {
        // The first field of all the others is the volume's id, a short text.
        rest[..usize::from(message[1]).min(rest.len())].to_vec()
    }))
    .unwrap_or_default();
    let answer = match method {
        "NodeGetCapabilities" => can(seen.stages.then_some(1)).encode_to_vec(),
        "ControllerGetCapabilities" => can(seen.attaches.then_some(2)).encode_to_vec(),
        "NodeGetInfo" => NodeGetInfoResponse {
            node_id: "node-7".to_owned(),
        }
        .encode_to_vec(),
        "ControllerPublishVolume" => {
            seen.there.insert(("attached", id));
            let publish_context = [("device".to_owned(), "/dev/x".to_owned())].into();
            ControllerPublishVolumeResponse { publish_context }.encode_to_vec()
        }
        "ControllerUnpublishVolume" => {
            seen.there.remove(&("attached", id));
            Vec::new()
        }
        "NodeStageVolume" => {
            seen.there.insert(("staged", id));
            Vec::new()
        }
        "NodeUnstageVolume" => {
            assert!(
                !seen.there.contains(&("published", id.clone())),
                "unstaged before unpublished"
            );
            seen.there.remove(&("staged", id));
            Vec::new()
        }
        "NodePublishVolume" => {
            let request = NodePublishVolumeRequest::decode(message.clone()).unwrap();
            // As a mount would, so that data stays.
            let real = data.join(&id);
            fs::create_dir_all(&real).unwrap();
            if fs::symlink_metadata(&request.target_path).is_err() {
                std::os::unix::fs::symlink(real, &request.target_path).unwrap();
            }
            seen.there.insert(("published", id));
            Vec::new()
        }
        "NodeUnpublishVolume" => {
            let request = NodeUnpublishVolumeRequest::decode(message.clone()).unwrap();
            fs::remove_file(&request.target_path).ok();
            seen.there.remove(&("published", id));
            Vec::new()
        }
        other => panic!("{other} is not expected"),
    };
    outcome.map(|()| answer)
}

fn volume(name: &str) -> VolumeRequest {
    VolumeRequest {
        name: name.to_owned(),
        options: [("share".to_owned(), "/srv".to_owned())].into(),
        access: Access {
            mode: AccessMode::MultiNodeReaderOnly,
            block: false,
            file_system: Some("ext4".to_owned()),
            mount_flags: vec!["noatime".to_owned()],
        },
        secrets: Secrets {
            stage: [("key".to_owned(), "stage secret".to_owned())].into(),
            publish: [("key".to_owned(), "publish secret".to_owned())].into(),
        },
    }
}

const UP: &str = "ControllerPublishVolume NodeStageVolume NodePublishVolume";
const DOWN: &str = "NodeUnpublishVolume NodeUnstageVolume ControllerUnpublishVolume";

#[tokio::test]
async fn plugins_of_every_ability_keep_the_promises() {
    for (stages, attaches) in [(true, true), (true, false), (false, true), (false, false)] {
        let plugin = Plugin::new(stages, attaches);
        let sample = VolumeRequest::default();
        testkit::all(&|| Arc::new(plugin.driver()), &sample).await;
        assert_eq!(plugin.there(), 0);
        let left = fs::read_dir(plugin.dir.path().join("work/test.csi/volumes"));
        assert_eq!(left.unwrap().count(), 0, "states are left");
    }
}

#[tokio::test]
async fn a_volume_goes_all_the_way_and_back() {
    let plugin = Plugin::new(true, true);
    let driver = plugin.driver();
    let target = driver.mount(&volume("data")).await.unwrap();
    assert_eq!(plugin.calls(), UP);
    let attach: ControllerPublishVolumeRequest = plugin.last("ControllerPublishVolume");
    assert_eq!(
        (attach.node_id.as_str(), attach.readonly),
        ("node-7", false)
    );
    assert_eq!(attach.volume_context["share"], "/srv");
    let stage: NodeStageVolumeRequest = plugin.last("NodeStageVolume");
    assert_eq!(stage.secrets["key"], "stage secret");
    assert_eq!(stage.publish_context["device"], "/dev/x");
    let publish: NodePublishVolumeRequest = plugin.last("NodePublishVolume");
    assert_eq!(publish.secrets["key"], "publish secret");
    assert_eq!(publish.staging_target_path, stage.staging_target_path);
    assert_eq!(Path::new(&publish.target_path), target);
    assert!(publish.readonly);
    let capability = publish.volume_capability.unwrap();
    assert_eq!(capability.access_mode.unwrap().mode, 3);
    let Some(AccessType::Mount(mount)) = capability.access_type else {
        panic!("no file system");
    };
    assert_eq!(
        (mount.fs_type.as_str(), mount.mount_flags),
        ("ext4", vec!["noatime".to_owned()])
    );
    let state =
        fs::read_to_string(plugin.dir.path().join("work/test.csi/volumes/data.json")).unwrap();
    assert!(!state.contains("secret"), "{state}");
    driver.unmount("data").await.unwrap();
    assert_eq!(plugin.calls(), DOWN);
}

#[tokio::test]
async fn a_failure_anywhere_is_repeated_or_undone() {
    let all: Vec<&str> = UP.split(' ').collect();
    for (place, failing) in all.iter().enumerate() {
        let plugin = Plugin::new(true, true);
        // INTERNAL: whether it was done nobody knows.
        plugin.fail(failing, 13);
        let error = plugin.driver().mount(&volume("data")).await.unwrap_err();
        assert!(matches!(error, VolumeError::Refused { .. }), "{error}");
        assert_eq!(plugin.calls(), all[..=place].join(" "));
        assert_eq!(plugin.driver().mounted("data").await.unwrap(), None);
        plugin.mend();
        // Once more, by an agent that was started anew.
        plugin.driver().mount(&volume("data")).await.unwrap();
        assert_eq!(plugin.calls(), all[place..].join(" "));
        plugin.driver().unmount("data").await.unwrap();
        assert_eq!(plugin.calls(), DOWN);
        // Or given up.
        plugin.fail(failing, 13);
        plugin.driver().mount(&volume("data")).await.unwrap_err();
        plugin.calls();
        plugin.driver().unmount("data").await.unwrap();
        let down: Vec<_> = DOWN.split(' ').collect();
        assert_eq!(plugin.calls(), down[2 - place..].join(" "));
        assert_eq!(plugin.there(), 0);
    }
    let down: Vec<&str> = DOWN.split(' ').collect();
    for (place, failing) in down.iter().enumerate() {
        let plugin = Plugin::new(true, true);
        plugin.driver().mount(&volume("data")).await.unwrap();
        plugin.calls();
        plugin.fail(failing, 9);
        plugin.driver().unmount("data").await.unwrap_err();
        plugin.mend();
        plugin.calls();
        plugin.driver().unmount("data").await.unwrap();
        assert_eq!(plugin.calls(), down[place..].join(" "));
        assert_eq!(plugin.there(), 0);
        // What is not there any more is no reason to hold on to it.
        plugin.driver().mount(&volume("data")).await.unwrap();
        plugin.fail(failing, 5);
        plugin.driver().unmount("data").await.unwrap();
    }
}

#[tokio::test]
async fn a_reboot_begins_anew_on_the_node() {
    let plugin = Plugin::new(true, true);
    plugin.driver().mount(&volume("data")).await.unwrap();
    plugin.calls();
    let after = plugin.driver().booted("another");
    assert_eq!(after.mounted("data").await.unwrap(), None);
    fs::remove_file(plugin.dir.path().join("work/test.csi/mounts/data/target")).unwrap();
    after.mount(&volume("data")).await.unwrap();
    assert_eq!(plugin.calls(), "NodeStageVolume NodePublishVolume");
    let after = plugin.driver().booted("a third");
    after.unmount("data").await.unwrap();
    assert_eq!(plugin.calls(), "ControllerUnpublishVolume");
}

#[tokio::test]
async fn plugins_are_described_in_files() {
    let plugin = Plugin::new(false, false);
    let folder = plugin.dir.path().join("config");
    fs::create_dir(&folder).unwrap();
    let drivers = CsiFolder::new(folder.clone(), plugin.dir.path().join("work"));
    let why = |name: &str| drivers.find(name).unwrap_err().to_string();
    assert!(why("test.csi").contains("no file in"));
    fs::write(folder.join("a.json"), "{").unwrap();
    assert!(
        why("test.csi").contains("a.json: EOF"),
        "{}",
        why("test.csi")
    );
    fs::write(
        folder.join("b.json"),
        r#"{"type": "managed", "containers": [{}]}"#,
    )
    .unwrap();
    assert!(why("managed").contains("not supported"));
    fs::write(folder.join("c.json"), r#"{"type": "none"}"#).unwrap();
    assert!(why("none").contains("NODE_SERVICE"));
    let socket = plugin.dir.path().join("csi.sock");
    let text = serde_json::json!({"type": "test.csi", "name": "x", "endpoints": [
        {"csi_service": "NODE_SERVICE", "endpoint": socket}]});
    fs::write(folder.join("d.conf"), text.to_string()).unwrap();
    let driver = drivers.find("test.csi").unwrap();
    driver.mount(&volume("server#/share")).await.unwrap();
    assert_eq!(plugin.calls(), "NodePublishVolume");
    driver.unmount("server#/share").await.unwrap();
    let _: Empty = plugin.last("NodeGetCapabilities");
}

#[tokio::test]
async fn a_plugin_that_is_not_there_is_named() {
    let plugin = Plugin::new(false, false);
    let mut info = plugin.info();
    for endpoint in &mut info.endpoints {
        endpoint.endpoint = "/no/such/socket".to_owned();
    }
    let driver = CsiPlugin::new(info, &plugin.dir.path().join("work")).unwrap();
    let error = driver.mount(&volume("data")).await.unwrap_err().to_string();
    assert!(
        error.contains("test.csi") && error.contains("/no/such/socket"),
        "{error}"
    );
    // Nothing was begun, so that there is nothing to undo.
    driver.unmount("data").await.unwrap();
}

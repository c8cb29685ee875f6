//! From an image that only a registry on this host has to a task that runs; and the same by Docker.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as Asked, State};
use axum::http::{HeaderName, StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// What the images hold beside a program: so many files of so many bytes.
const FILES: (u64, usize) = (400, 50_000);

/// A registry with images `bench/0`, `bench/1`, ..., of which no layer is another's.
pub(crate) struct Registry {
    pub(crate) address: String,
}

#[derive(Default)]
struct Images {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
}

impl Registry {
    pub(crate) async fn new(count: usize) -> Self {
        let mut images = Images::default();
        for number in 0..count {
            images.add(number);
        }
        let routes = Router::new()
            .route("/v2/", get(|| async { "{}" }))
            .route("/v2/bench/{name}/manifests/{tag}", get(manifest))
            .route("/v2/bench/{name}/blobs/{digest}", get(blob))
            .with_state(Arc::new(images));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address }
    }

    pub(crate) fn image(&self, number: usize) -> String {
        format!("{}/bench/{number}:1", self.address)
    }
}

type Served = State<Arc<Images>>;

async fn manifest(images: Served, Asked((name, tag)): Asked<(String, String)>) -> Response {
    let by_digest = images
        .manifests
        .values()
        .find(|manifest| digest(manifest) == tag);
    match by_digest.or_else(|| images.manifests.get(&name)) {
        Some(manifest) => {
            let digest = (
                HeaderName::from_static("docker-content-digest"),
                digest(manifest),
            );
            let kind = (CONTENT_TYPE, MANIFEST.to_owned());
            ([digest, kind], manifest.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn blob(images: Served, Asked((_, digest)): Asked<(String, String)>) -> Response {
    match images.blobs.get(&digest) {
        Some(blob) => blob.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Images {
    fn add(&mut self, number: usize) {
        let layer = layer(number);
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&layer).unwrap();
        let packed = packer.finish().unwrap();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let described = |kind: &str, blob: &[u8]| -> Value {
            json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()})
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": described(CONFIG, &config), "layers": [described(LAYER, &packed)],
        });
        self.manifests
            .insert(number.to_string(), manifest.to_string().into_bytes());
        for blob in [config, packed] {
            self.blobs.insert(digest(&blob), blob);
        }
    }
}

/// A shell, `sleep` and what they need, and files that no other image has.
fn layer(number: usize) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    // What both need comes once: Docker takes no layer with a file twice.
    let mut paths = BTreeSet::new();
    for program in ["/bin/sh", "/bin/sleep"] {
        let needs = Command::new("ldd").arg(program).output().unwrap();
        let needs = String::from_utf8(needs.stdout).unwrap();
        let needs = needs
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        paths.extend([program].into_iter().chain(needs).map(str::to_owned));
    }
    for path in paths {
        let real = Path::new(&path).canonicalize().unwrap();
        layer.append_path_with_name(real, &path[1..]).unwrap();
    }
    // Half of each can be packed.
    let mut state = number as u64 + 1;
    for file in 0..FILES.0 {
        let mut content = vec![b'x'; FILES.1];
        for byte in &mut content[FILES.1 / 2..] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        layer
            .append_data(&mut header, format!("data/{file}"), &*content)
            .unwrap();
    }
    layer.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let bytes: Vec<_> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", bytes.concat())
}

/// A Docker Engine of this bench's own.
pub(crate) struct Docker {
    engine: Child,
    host: String,
}

impl Docker {
    /// `None` where there is none to be had.
    pub(crate) fn start(folder: &Path, registry: &Registry) -> Option<Self> {
        let folder = folder.join("docker");
        std::fs::create_dir(&folder).unwrap();
        let place = |name: &str| folder.join(name).display().to_string();
        let host = format!("unix://{}", place("socket"));
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let engine = Command::new("dockerd")
            .arg(format!("--host={host}"))
            .arg(format!("--data-root={}", place("data")))
            .arg(format!("--exec-root={}", place("exec")))
            .arg(format!("--pidfile={}", place("pid")))
            .arg(format!("--insecure-registry={}", registry.address))
            .arg("--bip=172.31.79.1/24")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let mut docker = Self {
            engine: engine.ok()?,
            host,
        };
        let begin = Instant::now();
        while !docker.ask(&["version"]) {
            let ended = !matches!(docker.engine.try_wait(), Ok(None));
            if ended || begin.elapsed() > Duration::from_mins(1) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(docker)
    }

    /// Milliseconds from nothing to a container of `image` that runs.
    pub(crate) fn run(&self, image: &str) -> f64 {
        let begin = Instant::now();
        assert!(self.ask(&["pull", "-q", image]), "docker pull");
        let run = [
            "run",
            "-d",
            "--rm",
            "--network=none",
            image,
            "sleep",
            "1000000",
        ];
        assert!(self.ask(&run), "docker run");
        begin.elapsed().as_secs_f64() * 1000.0
    }

    fn ask(&self, arguments: &[&str]) -> bool {
        let asked = Command::new("docker")
            .args(["--host", &self.host])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    }

    fn containers(&self) -> Vec<String> {
        let listed = Command::new("docker")
            .args(["--host", &self.host, "ps", "-q"])
            .output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        listed.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        for container in self.containers() {
            self.ask(&["kill", &container]);
        }
        let pid = i32::try_from(self.engine.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        self.engine.wait().ok();
    }
}

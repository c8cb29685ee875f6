//! Pulling from Debian's `docker-registry`, and from servers that fail. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dcos_image::credentials::Credentials;
use dcos_image::registry::{Registry, RegistryConfig};
use dcos_image::{ImageStore, Pruned, Request, Source, StoreConfig};
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use server::{Fault, Server, hex, tarball};

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: layers are unpacked as root");
    }
    root
}

/// Debian's registry on loopback, ended with this value.
struct DebianRegistry {
    process: Child,
    host: String,
    _data: tempfile::TempDir,
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl DebianRegistry {
    fn start() -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = port.local_addr().unwrap().to_string();
        drop(port);
        let config = data.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: {host}\n",
            data.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            eprintln!("skipped: Debian's docker-registry is not installed");
            return None;
        };
        for _ in 0..200 {
            if std::net::TcpStream::connect(&host).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self {
            process,
            host,
            _data: data,
        })
    }

    /// Pushes an image of these layers, the first packed by gzip, the others by zstd.
    async fn push(&self, name: &str, layers: &[Vec<u8>]) {
        let client = Client::try_from(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let packed: Vec<ImageLayer> = layers
            .iter()
            .enumerate()
            .map(|(number, layer)| match number {
                0 => ImageLayer::new(gzip(layer), IMAGE_LAYER_GZIP_MEDIA_TYPE.into(), None),
                _ => ImageLayer::new(zstd::encode_all(&layer[..], 3).unwrap(), ZSTD.into(), None),
            })
            .collect();
        let config = Config::new(server::config(layers), IMAGE_CONFIG_MEDIA_TYPE.into(), None);
        let reference: Reference = format!("{}/{name}", self.host).parse().unwrap();
        let pushed = client.unwrap();
        let pushed = pushed.push(&reference, &packed, config, &RegistryAuth::Anonymous, None);
        pushed.await.unwrap();
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

struct Fixture {
    dir: tempfile::TempDir,
    config: RegistryConfig,
}

impl Fixture {
    fn new(host: &str) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            config: RegistryConfig {
                default: Registry::parse(host).unwrap(),
                stall_timeout: Duration::from_secs(5),
                ..RegistryConfig::default()
            },
        }
    }

    async fn store(&self) -> ImageStore {
        let source = Source::Registry(self.config.clone());
        let store = ImageStore::new(StoreConfig::new(self.dir.path(), source));
        store.recover().await.unwrap();
        store
    }

    fn names(&self, folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(self.dir.path().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }
}

fn read(layers: &[PathBuf], name: &str) -> Option<String> {
    let mut found = layers.iter().rev().map(|layer| layer.join(name));
    found.find_map(|path: PathBuf| std::fs::read_to_string(path).ok())
}

#[tokio::test]
async fn images_of_a_real_registry_are_pulled_once_and_pruned() {
    if !is_root() {
        return;
    }
    let Some(registry) = DebianRegistry::start() else {
        return;
    };
    let base = tarball(&[("base", "base"), ("etc/name", "base")]);
    let top = tarball(&[("etc/name", "top")]);
    let other = tarball(&[("etc/name", "other")]);
    registry
        .push("team/app:1", &[base.clone(), top.clone()])
        .await;
    registry.push("team/other:1", &[base.clone(), other]).await;
    let fixture = Fixture::new(&registry.host);
    let store = fixture.store().await;

    let request = Request::new("team/app:1");
    let elsewhere = Request::new(format!("{}/team/other:1", registry.host));
    let (one, two, three) = tokio::join!(
        store.get(&request),
        store.get(&request),
        store.get(&elsewhere),
    );
    let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
    assert_eq!(one.layers, two.layers);
    assert_eq!(one.layers[0], three.layers[0], "layers are shared");
    assert_eq!(read(&one.layers, "etc/name").as_deref(), Some("top"));
    assert_eq!(read(&one.layers, "base").as_deref(), Some("base"));
    assert_eq!(one.config.command, ["run"]);
    assert_eq!(fixture.names("layers").len(), 3);
    assert_eq!(fixture.names("downloads").len(), 0);

    // A moved tag is seen by those who ask for it.
    let moved = tarball(&[("etc/name", "moved")]);
    registry.push("team/app:1", &[base, moved]).await;
    let kept = store.get(&request).await.unwrap();
    assert_eq!(read(&kept.layers, "etc/name").as_deref(), Some("top"));
    let refresh = Request {
        refresh: true,
        ..request.clone()
    };
    let moved = store.get(&refresh).await.unwrap();
    assert_eq!(read(&moved.layers, "etc/name").as_deref(), Some("moved"));

    // What is here needs no registry, also in another process.
    drop(registry);
    let store = fixture.store().await;
    store.get(&request).await.unwrap();
    let error = store.get(&refresh).await.unwrap_err().to_string();
    assert!(error.contains("pulling"), "{error}");

    let in_use: BTreeSet<PathBuf> = three.layers.iter().cloned().collect();
    drop((one, two, three, kept, moved));
    let pruned = store
        .prune(|| Ok(in_use), &["team/app:1".to_owned()], None)
        .await;
    let pruned = pruned.unwrap();
    assert_eq!(
        (pruned.images, pruned.layers),
        (0, 1),
        "the layer nobody has any more"
    );
    let idle = Some(Duration::from_secs(3600));
    let pruned = store
        .prune(|| Ok(BTreeSet::new()), &[], idle)
        .await
        .unwrap();
    assert_eq!(pruned, Pruned::default(), "all were used lately");
    let pruned = store
        .prune(|| Ok(BTreeSet::new()), &[], None)
        .await
        .unwrap();
    assert_eq!((pruned.images, pruned.layers), (2, 3));
    assert!(pruned.bytes > 0);
    assert_eq!(fixture.names("layers").len(), 0);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    if !is_root() {
        return;
    }
    let noise = |n: u32| char::from(b'a' + u8::try_from(n.wrapping_mul(n) % 23).unwrap());
    let noise: String = (0..200_000).map(noise).collect();
    let layer = tarball(&[("noise", &noise)]);
    let server = Server::start(&[layer], Fault::BreaksOff { after: 100_000 }).await;
    let fixture = Fixture::new(&server.host);
    let image = fixture
        .store()
        .await
        .get(&Request::new("app"))
        .await
        .unwrap();
    assert_eq!(
        read(&image.layers, "noise").as_deref(),
        Some(noise.as_str())
    );
    assert!(
        server.resumed.load(Ordering::Relaxed) > 0,
        "it asked for the rest only"
    );
}

#[tokio::test]
async fn faults_of_a_registry_are_told_and_leave_nothing_behind() {
    if !is_root() {
        return;
    }
    let layer = tarball(&[("file", "content")]);
    for (fault, told) in [
        (Fault::WrongBlob, "sent other bytes than sha256:"),
        (Fault::WrongDiffId, "a layer of digest sha256:"),
        (Fault::NoManifest, "there is no image"),
        (Fault::Refuses, "refuses"),
        (Fault::Endless, "larger than the"),
        (Fault::EndlessConfig, "the configuration has more than"),
        (Fault::EndlessManifest, "the manifest has more than"),
        (Fault::HugeManifest, "the manifest has more than"),
        (Fault::EndlessToken, "a token has more than"),
        (Fault::EndlessRefusal, "refuses"),
        (Fault::EndlessLayerRefusal, "answers 400"),
        (Fault::WrongManifest, "sent other bytes than sha256:"),
        (Fault::OtherMachines, "(linux/"),
        (Fault::StrangeLayer, "is no file system"),
    ] {
        let server = Server::start(std::slice::from_ref(&layer), fault).await;
        let fixture = Fixture::new(&server.host);
        let error = fixture.store().await.get(&Request::new("app")).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(told), "{fault:?}: {error}");
        assert_eq!(fixture.names("layers").len(), 0, "{fault:?}");
        assert_eq!(fixture.names("images").len(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn tokens_are_fetched_with_credentials() {
    if !is_root() {
        return;
    }
    let layer = tarball(&[("file", "content")]);
    for fault in [
        Fault::WantsToken,
        Fault::WantsTokenBelow,
        Fault::WantsPasswordBelow,
    ] {
        let server = Server::start(std::slice::from_ref(&layer), fault).await;
        let fixture = Fixture::new(&server.host);
        let store = fixture.store().await;
        let error = store
            .get(&Request::new("app"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("--docker_config"), "{fault:?}: {error}");
        assert!(!error.contains("s3cret"), "{fault:?}: {error}");
        let image = store.get(&as_me(&server)).await;
        let image = image.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(read(&image.layers, "file").as_deref(), Some("content"));
    }
}

#[tokio::test]
async fn tokens_are_fetched_with_an_identity() {
    if !is_root() {
        return;
    }
    let layer = tarball(&[("file", "content")]);
    let server = Server::start(std::slice::from_ref(&layer), Fault::WantsToken).await;
    let fixture = Fixture::new(&server.host);
    let store = fixture.store().await;
    let identity = |token: &str| format!(r#"{{"auth": "MDAwMDA6", "identitytoken": "{token}"}}"#);
    let error = store.get(&as_known(&server, &identity("0ther"))).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("refuses") && !error.contains("0ther"),
        "{error}"
    );
    let known = as_known(&server, &identity("1d3nt1ty&more"));
    let image = store.get(&known).await.unwrap();
    assert_eq!(read(&image.layers, "file").as_deref(), Some("content"));

    let server = Server::start(&[layer], Fault::WantsPasswordBelow).await;
    let fixture = Fixture::new(&server.host);
    let known = as_known(&server, &identity("1d3nt1ty&more"));
    let error = fixture.store().await.get(&known).await.unwrap_err();
    assert!(error.to_string().contains("gives no tokens"), "{error}");

    let server = Server::start(&[tarball(&[])], Fault::LeadsAway).await;
    let fixture = Fixture::new(&server.host);
    let known = as_known(&server, &identity("1d3nt1ty&more"));
    let error = fixture.store().await.get(&known).await.unwrap_err();
    assert!(error.to_string().contains("refuses"), "{error}");
    assert_eq!(server.led_away.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_registry_that_is_busy_is_left_alone_as_long_as_it_wants() {
    if !is_root() {
        return;
    }
    let server = Server::start(&[tarball(&[("file", "content")])], Fault::Busy).await;
    let fixture = Fixture::new(&server.host);
    let store = fixture.store().await;
    let begin = Instant::now();
    let image = store.get(&Request::new("app")).await.unwrap();
    assert_eq!(read(&image.layers, "file").as_deref(), Some("content"));
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

/// Asks for the image as somebody whom the server knows.
fn as_me(server: &Server) -> Request {
    as_known(server, r#"{"username": "me", "password": "s3cret"}"#)
}

/// Asks for the image with this entry for the server.
fn as_known(server: &Server, entry: &str) -> Request {
    let config = format!(r#"{{"auths": {{"{}": {entry}}}}}"#, server.host);
    Request {
        credentials: Credentials::parse(config.as_bytes()).unwrap(),
        ..Request::new("app")
    }
}

#[tokio::test]
async fn a_password_is_shown_to_its_registry_only_and_as_it_asks() {
    if !is_root() {
        return;
    }
    let layer = tarball(&[("file", "content")]);
    let other = Server::start(std::slice::from_ref(&layer), Fault::WantsOther).await;
    let fixture = Fixture::new(&other.host);
    let error = fixture.store().await.get(&as_me(&other)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("asks for 'Negotiate'"), "{error}");
    let lures = Server::start(&[layer], Fault::Lures).await;
    let fixture = Fixture::new(&lures.host);
    let error = fixture.store().await.get(&as_me(&lures)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("refuses"), "{error}");
    assert!(lures.led_away.load(Ordering::Relaxed) > 0);
    assert_eq!(lures.lured.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_token_that_is_spent_is_fetched_again() {
    if !is_root() {
        return;
    }
    let layers = [tarball(&[("a", "1")]), tarball(&[("b", "2")])];
    let server = Server::start(&layers, Fault::ShortTokens).await;
    let mut fixture = Fixture::new(&server.host);
    fixture.config.concurrent = 1;
    let image = fixture.store().await.get(&Request::new("app")).await;
    assert_eq!(read(&image.unwrap().layers, "b").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_mirror_that_fails_is_passed_over() {
    if !is_root() {
        return;
    }
    let layer = tarball(&[("file", "content")]);
    let broken = Server::start(std::slice::from_ref(&layer), Fault::NoManifest).await;
    let server = Server::start(&[layer], Fault::None).await;
    let mut fixture = Fixture::new(&server.host);
    fixture.config.mirrors = vec![Registry::parse(&broken.host).unwrap()];
    let image = fixture
        .store()
        .await
        .get(&Request::new("app"))
        .await
        .unwrap();
    assert_eq!(image.name, format!("{}/app:latest", server.host));
    assert_eq!(broken.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_mirror_of_dockers_hub_is_asked_by_the_hubs_names() {
    if !is_root() {
        return;
    }
    let mirror = Server::start(&[tarball(&[("file", "content")])], Fault::Official).await;
    let mut fixture = Fixture::new("docker.io");
    fixture.config.mirrors = vec![Registry::parse(&mirror.host).unwrap()];
    let store = fixture.store().await;
    let image = store.get(&Request::new("app")).await.unwrap();
    assert_eq!(read(&image.layers, "file").as_deref(), Some("content"));
    assert_eq!(image.name, "docker.io/app:latest");
}

#[tokio::test]
async fn a_digest_pins_the_content() {
    if !is_root() {
        return;
    }
    let server = Server::start(&[tarball(&[("file", "content")])], Fault::None).await;
    let fixture = Fixture::new(&server.host);
    let store = fixture.store().await;
    let pinned = Request::new(format!("app@sha256:{}", server.digest));
    assert!(store.get(&pinned).await.is_ok());
    let other = Request::new(format!("app@sha256:{}", hex(b"something else")));
    assert!(store.get(&other).await.is_err());
}

#[tokio::test]
async fn after_a_crash_of_the_host_half_written_layers_are_gone() {
    if !is_root() {
        return;
    }
    let server = Server::start(&[tarball(&[("file", "content")])], Fault::None).await;
    let fixture = Fixture::new(&server.host);
    let image = fixture
        .store()
        .await
        .get(&Request::new("app"))
        .await
        .unwrap();
    let layer = image.layers[0]
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    while !fixture.names("unsynced").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // As if the host had died before the disk had it: the mark of another boot.
    let mark = fixture
        .dir
        .path()
        .join("unsynced")
        .join(format!("{layer}.another-boot"));
    std::fs::write(mark, "").unwrap();
    std::fs::remove_file(Path::new(&image.layers[0]).join("file")).unwrap();
    let image = fixture
        .store()
        .await
        .get(&Request::new("app"))
        .await
        .unwrap();
    assert_eq!(read(&image.layers, "file").as_deref(), Some("content"));
}

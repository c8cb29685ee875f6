//! The fetcher against a real HTTP server and real files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Redirect;
use axum::routing::get;
use bytes::Bytes;
use dcos_containerizer::fetcher::{FetchRequest, Fetcher, FetcherConfig, UriFetcher};
use dcos_proto::mesos::command_info::Uri;
use dcos_wire::{Listener, Server};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

struct Fixture {
    dir: tempfile::TempDir,
    fetcher: UriFetcher,
    url: String,
    served: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("sandbox")).unwrap();
        let config = FetcherConfig {
            stall_timeout: Duration::from_millis(300),
            frameworks_home: Some(dir.path().to_owned()),
            ..FetcherConfig::new(dir.path().join("cache"))
        };
        let served = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&served);
        let archive = tarball();
        let router = Router::new()
            .route("/script.sh", get(async || "#!/bin/sh\n"))
            .route("/moved", get(async || Redirect::temporary("/script.sh")))
            .route("/stalls", get(async || Body::from_stream(stalling())))
            .route(
                "/app.tar.gz",
                get(async move || {
                    counted.fetch_add(1, Ordering::Relaxed);
                    archive.clone()
                }),
            );
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}", listener.address().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(Server::new(router).serve(listener, stop.clone()));
        Self {
            fetcher: UriFetcher::new(config).unwrap(),
            dir,
            url,
            served,
            stop,
        }
    }

    fn sandbox(&self, name: &str) -> PathBuf {
        self.dir.path().join("sandbox").join(name)
    }

    fn request(&self, uri: Uri) -> FetchRequest {
        FetchRequest {
            uris: vec![uri],
            directory: self.dir.path().join("sandbox"),
            ..FetchRequest::default()
        }
    }

    async fn fetch(&self, uri: Uri) -> Result<(), String> {
        let fetched = self.fetcher.fetch(&self.request(uri)).await;
        fetched.map_err(|error| error.to_string())
    }
}

fn uri(value: impl Into<String>) -> Uri {
    Uri {
        value: value.into(),
        ..Uri::default()
    }
}

fn tarball() -> Bytes {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "app/run", &b"text"[..])
        .unwrap();
    let tar = builder.into_inner().unwrap();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&tar).unwrap();
    packer.finish().unwrap().into()
}

fn stalling() -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> {
    let first = futures::stream::once(async { Ok(Bytes::from_static(b"some")) });
    first.chain(futures::stream::pending())
}

#[tokio::test]
async fn files_come_over_http_executable_and_renamed() {
    let fixture = Fixture::new().await;
    let script = Uri {
        executable: Some(true),
        output_file: Some("bin/start".into()),
        ..uri(format!("{}/moved", fixture.url))
    };
    fixture.fetch(script).await.unwrap();
    let metadata = fixture.sandbox("bin/start").metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o755);
    let outside = Uri {
        output_file: Some("../evil".into()),
        ..uri(format!("{}/script.sh", fixture.url))
    };
    assert!(fixture.fetch(outside).await.is_err());
    assert!(!fixture.dir.path().join("evil").exists());
}

#[tokio::test]
async fn archives_are_extracted_and_kept_unless_cached() {
    let fixture = Fixture::new().await;
    let archive = format!("{}/app.tar.gz", fixture.url);
    let plain = Uri {
        extract: Some(false),
        ..uri(&archive)
    };
    fixture.fetch(plain).await.unwrap();
    assert!(!fixture.sandbox("app").exists());
    fixture.fetch(uri(&archive)).await.unwrap();
    let text = std::fs::read_to_string(fixture.sandbox("app/run")).unwrap();
    assert_eq!(text, "text");
    std::fs::remove_dir_all(fixture.sandbox("app")).unwrap();
    std::fs::remove_file(fixture.sandbox("app.tar.gz")).unwrap();

    let cached = Uri {
        cache: Some(true),
        ..uri(&archive)
    };
    let before = fixture.served.load(Ordering::Relaxed);
    let mut other = fixture.request(cached.clone());
    other.directory = fixture.dir.path().join("other");
    std::fs::create_dir(&other.directory).unwrap();
    let (one, two) = tokio::join!(fixture.fetch(cached), fixture.fetcher.fetch(&other));
    one.unwrap();
    two.unwrap();
    assert!(other.directory.join("app/run").exists());
    assert_eq!(fixture.served.load(Ordering::Relaxed), before + 1);
    assert!(fixture.sandbox("app/run").exists());
    assert!(!fixture.sandbox("app.tar.gz").exists());
}

#[tokio::test]
async fn failures_are_precise_and_told_to_the_sandbox() {
    let fixture = Fixture::new().await;
    let missing = format!("{}/missing", fixture.url);
    let error = fixture.fetch(uri(&missing)).await.unwrap_err();
    let expected = format!("failed to fetch '{missing}': unexpected HTTP response '404 Not Found'");
    assert_eq!(error, expected);
    let told = std::fs::read_to_string(fixture.sandbox("stderr")).unwrap();
    assert_eq!(told, format!("{expected}\n"));

    let stalls = fixture.fetch(uri(format!("{}/stalls", fixture.url))).await;
    let error = stalls.unwrap_err();
    assert!(error.contains("stood still for 300ms"), "{error}");
    let error = fixture
        .fetch(uri("hdfs://namenode/file"))
        .await
        .unwrap_err();
    assert!(error.contains("'hdfs' is not supported"), "{error}");
    let error = fixture
        .fetch(uri("http://127.0.0.1:1/x"))
        .await
        .unwrap_err();
    assert!(error.contains("connecting to"), "{error}");
}

#[tokio::test]
async fn local_files_are_copied_for_their_owner() {
    let fixture = Fixture::new().await;
    let file = fixture.dir.path().join("data");
    std::fs::write(&file, "x").unwrap();
    for value in [
        format!("file://{}", file.display()),
        file.display().to_string(),
        "data".to_owned(),
    ] {
        fixture.fetch(uri(value)).await.unwrap();
        std::fs::remove_file(fixture.sandbox("data")).unwrap();
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: giving files away needs root");
        return;
    }
    let request = FetchRequest {
        owner: Some((4242, 4243)),
        ..fixture.request(uri("data"))
    };
    fixture.fetcher.fetch(&request).await.unwrap();
    let metadata = fixture.sandbox("data").metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (4242, 4243));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = fixture.fetcher.fetch(&request).await.unwrap_err();
    assert!(error.reason.contains("may not be read"), "{error}");
}

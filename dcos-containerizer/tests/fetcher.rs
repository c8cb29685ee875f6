//! The fetcher against servers of HTTP and FTP, a client like Hadoop's, and real files.

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
use dcos_wire::tls::Trust;
use dcos_wire::{Listener, Server};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

mod ftp;
mod until;

use ftp::Content;
use until::until;

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

/// Short enough to wait for, and long enough for what goes on.
const STALL: Duration = Duration::from_secs(3);

impl Fixture {
    async fn new() -> Self {
        Self::within(Duration::from_secs(60)).await
    }

    /// One whose fetches may stand still for that long.
    async fn within(stall_timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("sandbox")).unwrap();
        let config = FetcherConfig {
            stall_timeout,
            frameworks_home: Some(dir.path().to_owned()),
            hadoop_home: Some(dir.path().join("hadoop")),
            trust: Trust::File(ftp::certificate("ca.pem")),
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
async fn passwords_are_shown_to_nobody_that_a_server_redirects_to() {
    let told = async |headers: http::HeaderMap| format!("{:?}", headers.get("authorization"));
    let serve = async |router: Router| {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(Server::new(router).serve(listener, stop.clone()));
        (address, stop.drop_guard())
    };
    let (stranger, _stranger) = serve(Router::new().route("/file", get(told))).await;
    let away = format!("http://{stranger}/file");
    let router = Router::new()
        .route("/file", get(told))
        .route("/here", get(async || Redirect::temporary("/file")))
        .route("/away", get(async move || Redirect::temporary(&away)));
    let (server, _server) = serve(router).await;

    let fixture = Fixture::new().await;
    for (path, shown) in [("here", true), ("away", false)] {
        fixture
            .fetch(uri(format!("http://ops:secret@{server}/{path}")))
            .await
            .unwrap();
        let text = std::fs::read_to_string(fixture.sandbox(path)).unwrap();
        assert_eq!(text != "None", shown, "{path}");
    }
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
    let fixture = Fixture::within(STALL).await;
    let missing = format!("{}/missing", fixture.url);
    let error = fixture.fetch(uri(&missing)).await.unwrap_err();
    let expected = format!("failed to fetch '{missing}': unexpected HTTP response '404 Not Found'");
    assert_eq!(error, expected);
    let told = std::fs::read_to_string(fixture.sandbox("stderr")).unwrap();
    assert_eq!(told, format!("{expected}\n"));

    let stalls = fixture.fetch(uri(format!("{}/stalls", fixture.url))).await;
    let error = stalls.unwrap_err();
    assert!(error.contains("stood still for 3s"), "{error}");
    let error = fixture
        .fetch(uri("hdfs://namenode/file"))
        .await
        .unwrap_err();
    assert!(error.contains("needs Hadoop's client"), "{error}");
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

#[tokio::test]
async fn files_come_over_ftp_however_the_server_is_reached() {
    let fixture = Fixture::new().await;
    let plain = Content::new(tarball());
    let (old, secure) = (plain.clone(), plain.clone().with_tls());
    let old = Content {
        extended: false,
        ..old
    };
    for (scheme, content) in [("ftp", plain), ("ftp", old), ("ftps", secure)] {
        let (address, _running) = content.serve().await;
        let place = format!("localhost:{}//pub/app.tar.gz", address.port());
        for who in ["", "joe:s3cret@"] {
            fixture
                .fetch(uri(format!("{scheme}://{who}{place}")))
                .await
                .unwrap();
            let text = std::fs::read_to_string(fixture.sandbox("app/run")).unwrap();
            assert_eq!(text, "text");
            std::fs::remove_dir_all(fixture.sandbox("app")).unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_of_an_ftp_server_is_asked_for_once() {
    let fixture = Fixture::new().await;
    let content = Content::new(tarball());
    let asked = Arc::clone(&content.asked);
    let (address, _running) = content.serve().await;
    let cached = Uri {
        cache: Some(true),
        ..uri(format!("ftp://{address}/%2Fpub/app.tar.gz"))
    };
    let mut other = fixture.request(cached.clone());
    other.directory = fixture.dir.path().join("other");
    std::fs::create_dir(&other.directory).unwrap();
    let (one, two) = tokio::join!(fixture.fetch(cached), fixture.fetcher.fetch(&other));
    one.unwrap();
    two.unwrap();
    assert!(fixture.sandbox("app/run").exists() && other.directory.join("app/run").exists());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_goes_wrong_over_ftp_is_told_without_the_password() {
    let fixture = Fixture::within(STALL).await;
    let content = Content::new(tarball());
    let (address, _running) = content.clone().serve().await;
    for (who, path, reason) in [
        (
            "joe:wr0ng@",
            "/pub/a",
            "the FTP server said '530 Login incorrect.'",
        ),
        (
            "joe:s3cret@",
            "a",
            "the FTP server said '550 No such file.'",
        ),
        ("", "/pub/breaks", "the download broke off after"),
        ("", "/pub/lies", "the download broke off after"),
        ("", "/pub/stalls", "the download stood still for 3s"),
    ] {
        let error = fixture
            .fetch(uri(format!("ftp://{who}{address}/{path}")))
            .await;
        let error = error.unwrap_err();
        assert!(error.contains(reason), "{path}: {error}");
        assert!(
            !error.contains("wr0ng") && !error.contains("s3cret"),
            "{error}"
        );
    }
    let told = std::fs::read_to_string(fixture.sandbox("stderr")).unwrap();
    assert!(told.contains("'ftp://joe:***@"), "{told}");
    assert!(
        !told.contains("wr0ng") && !told.contains("s3cret"),
        "{told}"
    );

    let (address, _running) = content.with_tls().serve().await;
    let strangers = UriFetcher::new(FetcherConfig::new(fixture.dir.path().join("strangers")));
    let request = fixture.request(uri(format!("ftps://{address}//pub/app.tar.gz")));
    let error = strangers.unwrap().fetch(&request).await.unwrap_err();
    assert!(error.reason.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_fetch_over_ftp_that_is_given_up_leaves_no_connection() {
    let fixture = Fixture::new().await;
    let content = Content::new(tarball());
    let (asked, open) = (Arc::clone(&content.asked), Arc::clone(&content.open));
    let (address, _running) = content.serve().await;
    tokio::select! {
        _ = fixture.fetch(uri(format!("ftp://{address}//pub/stalls"))) => panic!("it stood still"),
        () = until("it was begun", || asked.load(Ordering::Relaxed) == 1) => {}
    }
    until("the connection is gone", || {
        open.load(Ordering::Relaxed) == 0
    })
    .await;
}

/// Puts a client in the place of Hadoop's.
fn hadoop(fixture: &Fixture, script: &str) {
    let program = fixture.dir.path().join("hadoop/bin/hadoop");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn what_nobody_else_knows_hadoops_client_gets_as_the_user() {
    let fixture = Fixture::new().await;
    hadoop(
        &fixture,
        "[ \"$1 $2 $3\" = 'fs -copyToLocal s3n://key:s3cret@bucket/data' ] || exit 9
         { id -u; id -G; echo $HADOOP_USER_NAME; echo $HADOOP_HOME; env | grep -c CARGO || true; } > $4",
    );
    let ours = rustix::process::geteuid().is_root();
    let request = FetchRequest {
        owner: ours.then_some((4242, 4243)),
        user: Some("alice".into()),
        ..fixture.request(uri("s3n://key:s3cret@bucket/data"))
    };
    for cache in [false, true] {
        let mut request = request.clone();
        request.uris[0].cache = Some(cache);
        fixture.fetcher.fetch(&request).await.unwrap();
        let said = std::fs::read_to_string(fixture.sandbox("data")).unwrap();
        let home = fixture.dir.path().join("hadoop");
        assert!(
            said.ends_with(&format!("\nalice\n{}\n0\n", home.display())),
            "{said}"
        );
        assert!(!ours || said.starts_with("4242\n4243\n"), "{said}");
    }
    assert_eq!(clients_folders(&fixture), 0);
}

#[tokio::test]
async fn a_client_of_hadoop_that_fails_says_why() {
    let fixture = Fixture::new().await;
    hadoop(&fixture, "echo copyToLocal: no such file >&2; exit 3");
    let error = fixture.fetch(uri("hdfs://name/x")).await.unwrap_err();
    assert!(
        error.contains("exit status: 3: copyToLocal: no such file"),
        "{error}"
    );

    hadoop(&fixture, "ln -s /etc/passwd $4");
    let error = fixture.fetch(uri("hdfs://name/x")).await.unwrap_err();
    assert!(error.contains("opening"), "{error}");
    hadoop(&fixture, "mkdir $4");
    let error = fixture.fetch(uri("hdfs://name/x")).await.unwrap_err();
    assert!(error.contains("is not a file"), "{error}");

    let error = fixture.fetch(uri("-x://name/x")).await.unwrap_err();
    assert!(error.contains("'-x' is no scheme"), "{error}");
    assert_eq!(clients_folders(&fixture), 0);
}

#[tokio::test]
async fn a_client_of_hadoop_ends_with_the_fetch() {
    let fixture = Fixture::new().await;
    hadoop(&fixture, "sleep 1000 & echo $! > $HADOOP_HOME/pid; wait");
    let pid = fixture.dir.path().join("hadoop/pid");
    let fetching = fixture.fetch(uri("hdfs://name/x"));
    let begun = until("it was begun", || {
        std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n'))
    });
    tokio::select! {
        _ = fetching => panic!("it does not end by itself"),
        () = begun => {}
    }
    let pid = std::fs::read_to_string(&pid).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    until("it is gone", || {
        state().is_err() || state().is_ok_and(|stat| stat.contains(") Z "))
    })
    .await;
    assert_eq!(clients_folders(&fixture), 0);
}

fn clients_folders(fixture: &Fixture) -> usize {
    let cache = std::fs::read_dir(fixture.dir.path().join("cache")).unwrap();
    let names = cache.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("hadoop-"))
        .count()
}

/// A file system whose server does not answer: nobody reads what the kernel asks it.
struct Dead {
    server: Option<std::fs::File>,
    place: PathBuf,
}

impl Dead {
    fn mount(place: PathBuf) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        std::fs::create_dir(&place)?;
        let server = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            server.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        let none = rustix::mount::MountFlags::empty();
        rustix::mount::mount("dead", &place, "fuse", none, &*options)?;
        Ok(Self {
            server: Some(server),
            place,
        })
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        // Whoever waits is told that it is gone.
        self.server.take();
        rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

#[tokio::test]
async fn a_dead_file_server_holds_up_nobody_else() {
    let fixture = Fixture::within(STALL).await;
    let dead = match Dead::mount(fixture.dir.path().join("dead")) {
        Ok(dead) => dead,
        Err(error) => {
            eprintln!("skipped: mounting takes root and FUSE: {error}");
            return;
        }
    };
    let gone = fixture.fetch(uri(format!("file://{}/x", dead.place.display())));
    let fetched = fixture.fetch(uri(format!("{}/script.sh", fixture.url)));
    let (gone, fetched) = tokio::join!(gone, fetched);
    fetched.unwrap();
    let error = gone.unwrap_err();
    assert!(error.contains("does not answer within 3s"), "{error}");
}

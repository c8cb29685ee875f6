//! What depends on how an etcd server is set up, where Debian's `etcd-server` is installed.
#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use dcos_store::{ElectionError, Ensemble, StoreError, TlsError, TlsFiles, Transaction, testkit};

struct Server {
    child: Child,
    address: String,
    /// Where it tells how it is, without TLS.
    health: String,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Self {
        Self::start_with("http", &[])
    }

    /// One that wants certificates of its clients.
    fn start_with_tls() -> Self {
        let (ca, cert, key) = (
            of_tests("ca.pem"),
            of_tests("server.pem"),
            of_tests("server.key"),
        );
        let files = [
            ("--trusted-ca-file", ca),
            ("--cert-file", cert),
            ("--key-file", key),
        ];
        let files = files.map(|(option, file)| format!("{option}={}", file.display()));
        Self::start_with(
            "https",
            &[&["--client-cert-auth".to_owned()], &files[..]].concat(),
        )
    }

    fn start_with(scheme: &str, options: &[String]) -> Self {
        // Another test may take a port before it does.
        let mut starts = (0..5).map(|_| Self::try_start(scheme, options));
        starts.find_map(|server| server).expect("etcd ended")
    }

    /// `None` if it ends.
    fn try_start(scheme: &str, options: &[String]) -> Option<Self> {
        // Held until all are known.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer, health] = held.map(|port| port.local_addr().unwrap());
        let data = tempfile::tempdir().unwrap();
        let url = |address| format!("http://{address}");
        let served = format!("{scheme}://{client}");
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &served])
            .args(["--advertise-client-urls", &served])
            .args(["--listen-metrics-urls", &url(health)])
            .args(options)
            .args(["--listen-peer-urls", &url(peer)])
            .args(["--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer))])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            child,
            address: client.to_string(),
            health: health.to_string(),
            _data: data,
        };
        for _ in 0..2400 {
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            if ask(&server.health, "GET", "/health", "").contains("\"true\"") {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("etcd does not serve");
    }

    /// Its gateway for JSON.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        ask(&self.address, method, path, body)
    }

    fn order(&self, path: &str, body: &str) {
        let answer = self.ask("POST", path, body);
        assert!(answer.contains("200 OK"), "{path}: {answer}");
    }

    /// A user `masters` who may do everything below `/mesos/`, and nobody who may anything without a password.
    fn want_passwords(&self) {
        for user in ["root", "masters"] {
            let named = format!(r#"{{"name":"{user}","password":"secret"}}"#);
            self.order("/v3/auth/user/add", &named);
            self.order("/v3/auth/role/add", &format!(r#"{{"name":"{user}"}}"#));
            let grant = format!(r#"{{"user":"{user}","role":"{user}"}}"#);
            self.order("/v3/auth/user/grant", &grant);
        }
        // From `/mesos/` to `/mesos0`, in base64.
        let range = r#""key":"L21lc29zLw==","range_end":"L21lc29zMA==""#;
        let right = format!(r#"{{"name":"masters","perm":{{"permType":"READWRITE",{range}}}}}"#);
        self.order("/v3/auth/role/grant", &right);
        self.order("/v3/auth/enable", "{}");
    }

    /// Lets it forget all that is not present any more, as an operator or another user of it may at any time.
    fn forget_history(&self) {
        let there = self.ask("POST", "/v3/kv/range", r#"{"key":"AA=="}"#);
        let (_, revision) = there.split_once(r#""revision":""#).unwrap();
        let revision = revision.split('"').next().unwrap();
        self.order(
            "/v3/kv/compaction",
            &format!(r#"{{"revision":"{revision}"}}"#),
        );
    }

    /// Something that is not ours changes.
    fn change_another(&self) {
        self.order("/v3/kv/put", r#"{"key":"b3RoZXI=","value":"eA=="}"#);
    }

    /// How often it was asked for the values of keys.
    fn questions(&self) -> u32 {
        let metrics = self.ask("GET", "/metrics", "");
        let asked = metrics
            .lines()
            .filter(|line| line.starts_with("grpc_server_started_total") && line.contains("Range"));
        asked
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u32>().ok())
            .sum()
    }

    fn ensemble(&self, user: &str, path: &str) -> Ensemble {
        Ensemble::parse(&format!("etcd://{user}{}{path}", self.address)).unwrap()
    }
}

/// What is answered at an address; nothing if nobody does.
fn ask(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

/// Of the authority that signed a certificate for this machine, for either side of a connection.
fn of_tests(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/tls");
    folder.join(name)
}

const PROGRAM: &str = "/usr/bin/etcd";
const SKIPPED: &str = "skipped: Debian's package etcd-server is not installed";

/// A store keeps what etcd has of its history for as long as it needs it, not for ever: etcd stops at 2 GB.
#[tokio::test]
async fn history_is_forgotten() {
    if !Path::new(PROGRAM).exists() {
        println!("{SKIPPED}");
        return;
    }
    let server = Server::start();
    let ours = server.ensemble("", "/mesos");
    let leadership = ours.election("master").campaign("me".into()).await.unwrap();
    let store = ours.store();
    let forgotten = || {
        let past = server.ask("POST", "/v3/kv/range", r#"{"key":"AA==","revision":"2"}"#);
        past.contains("compacted")
    };
    let value = vec![b'v'; 500_000];
    for _ in 0..400 {
        let write = Transaction::new(leadership.fence()).put("a", value.clone());
        store.transact(write).await.unwrap();
        if forgotten() {
            return;
        }
    }
    panic!("it is all still there after 200 MB");
}

#[test]
fn who_ends_leaves_no_candidate() {
    if !Path::new(PROGRAM).exists() {
        println!("{SKIPPED}");
        return;
    }
    testkit::withdrawal(Server::start().ensemble("", "/mesos"));
}

#[tokio::test]
async fn what_etcd_has_forgotten_is_followed_all_the_same() {
    if !Path::new(PROGRAM).exists() {
        println!("{SKIPPED}");
        return;
    }
    let server = Server::start();
    let ours = server.ensemble("", "/mesos");
    let leadership = ours.election("master").campaign("me".into()).await.unwrap();
    let store = ours.store();
    let put =
        |value: &'static str| store.transact(Transaction::new(leadership.fence()).put("a", value));
    put("one").await.unwrap();
    // Register and candidates are older now than all that etcd knows of.
    for _ in 0..5 {
        server.change_another();
    }
    server.forget_history();

    let second = ours.election("master");
    let stands = tokio::spawn(async move { second.campaign("second".into()).await });
    let follower = ours.store();
    let seen = follower.scan("").await.unwrap();
    let mut watch = follower.watch("a", seen.revision).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.questions();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = server.questions() - before;
    assert!(
        asked < 100,
        "those who wait asked {asked} times in a second"
    );

    put("two").await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    told.expect("the follower hears of it").unwrap().unwrap();
    assert_eq!(&*follower.get("a").await.unwrap().unwrap().value, b"two");

    drop(leadership);
    let elected = tokio::time::timeout(Duration::from_secs(30), stands).await;
    elected.expect("the office is free").unwrap().unwrap();
}

#[tokio::test]
async fn user_and_password_open_what_they_may() {
    if !Path::new(PROGRAM).exists() {
        println!("{SKIPPED}");
        return;
    }
    let server = Server::start();
    server.want_passwords();
    let ours = server.ensemble("masters:secret@", "/mesos");
    let leadership = ours.election("master").campaign("me".into()).await.unwrap();
    let write = Transaction::new(leadership.fence()).put("a", "b");
    let store = ours.store();
    store.transact(write).await.unwrap();
    assert_eq!(&*store.get("a").await.unwrap().unwrap().value, b"b");

    let strangers = [
        ("masters:wrong@", "/mesos"),
        ("", "/mesos"),
        ("masters:secret@", "/other"),
    ];
    for (user, path) in strangers {
        let other = server.ensemble(user, path);
        let refused = other.election("master").campaign("x".into()).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, ElectionError::Refused { .. }),
            "{user}{path}: {refused}"
        );
        assert!(!refused.to_string().contains("wrong"));
        let write = Transaction::new(leadership.fence()).put("a", "c");
        let refused = other.store().transact(write).await.unwrap_err();
        assert!(
            !matches!(refused, StoreError::Conflict { .. }),
            "{user}{path}: {refused}"
        );
    }
    assert_eq!(&*store.get("a").await.unwrap().unwrap().value, b"b");
}

#[tokio::test]
async fn over_tls_each_side_shows_who_it_is() {
    if !Path::new(PROGRAM).exists() {
        println!("{SKIPPED}");
        return;
    }
    let server = Server::start_with_tls();
    let reached = |scheme: &str, files: &TlsFiles| {
        let url = format!("{scheme}://{}/mesos", server.address);
        let ensemble = Ensemble::parse(&url).unwrap().with_tls(files).unwrap();
        ensemble.patience(Duration::from_secs(1))
    };
    let all = TlsFiles {
        ca: Some(of_tests("ca.pem")),
        cert: Some(of_tests("server.pem")),
        key: Some(of_tests("server.key")),
    };
    let ours = reached("etcds", &all).patience(Duration::from_secs(20));
    let leadership = ours.election("master").campaign("me".into()).await.unwrap();
    let store = ours.store();
    let write = Transaction::new(leadership.fence()).put("a", "b");
    store.transact(write).await.unwrap();
    assert_eq!(&*store.get("a").await.unwrap().unwrap().value, b"b");

    let (nobody, gullible) = (
        TlsFiles {
            cert: None,
            key: None,
            ..all.clone()
        },
        TlsFiles {
            ca: None,
            ..all.clone()
        },
    );
    for (scheme, files, why) in [
        // The server refuses it after our side has done its part: what is heard of that is chance.
        ("etcds", &nobody, ""),
        ("etcds", &gullible, "UnknownIssuer"),
        ("etcd", &all, ""),
    ] {
        let refused = reached(scheme, files).store().get("a").await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Unavailable { .. }) && refused.to_string().contains(why),
            "{scheme} {files:?}: {refused}"
        );
    }
    assert_eq!(&*store.get("a").await.unwrap().unwrap().value, b"b");
}

#[test]
fn files_that_hold_no_certificates_are_refused() {
    let ensemble = || Ensemble::parse("etcds://localhost/mesos").unwrap();
    let files = |ca: &str, cert: &str, key: Option<&str>| TlsFiles {
        ca: Some(of_tests(ca)),
        cert: Some(of_tests(cert)),
        key: key.map(of_tests),
    };
    for (files, why) in [
        (
            files("no-such-file", "server.pem", Some("server.key")),
            "no-such-file",
        ),
        (
            files("server.key", "server.pem", Some("server.key")),
            "holds no certificate",
        ),
        (files("ca.pem", "server.pem", None), "needs its key"),
        (files("ca.pem", "server.pem", Some("ca.pem")), "not usable"),
        (files("ca.pem", "ca.pem", Some("server.key")), "not usable"),
    ] {
        let error: TlsError = ensemble().with_tls(&files).unwrap_err();
        assert!(error.to_string().contains(why), "{files:?}: {error}");
    }
    // Where there is no TLS, what is there for others does not matter.
    let plain = Ensemble::parse("etcd://localhost/mesos").unwrap();
    assert!(plain.with_tls(&files("no-such-file", "", None)).is_ok());
}

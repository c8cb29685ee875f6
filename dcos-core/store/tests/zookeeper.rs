//! `ZooKeeper` over TLS, where Debian's `zookeeper` and its Netty are installed.
#![cfg(feature = "zookeeper")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dcos_store::{ElectionError, Ensemble, StoreError, TlsError, TlsFiles, Transaction, testkit};

/// Debian's manifest of `zookeeper.jar` leaves the last two out.
const JARS: [&str; 3] = [
    "/usr/share/java/zookeeper.jar",
    "/usr/share/java/netty-codec.jar",
    "/usr/share/java/netty-resolver.jar",
];

/// One that wants certificates of its clients on its secure port.
struct Server {
    child: Child,
    secure: u16,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `None` where it can't be run, which is said.
    fn start() -> Option<Self> {
        let needed = JARS.into_iter().chain(["/usr/bin/java"]);
        if let Some(missing) = needed.into_iter().find(|file| !Path::new(file).exists()) {
            println!("skipped: there is no {missing}");
            return None;
        }
        // Another test may take a port before it does.
        let mut starts = (0..5).map(|_| Self::try_start());
        Some(starts.find_map(|server| server).expect("ZooKeeper ended"))
    }

    /// `None` if it ends.
    fn try_start() -> Option<Self> {
        // Held until both are known.
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [plain, secure] = held.map(|port| port.local_addr().unwrap().port());
        let data = tempfile::tempdir().unwrap();
        let [identity, settings] = ["identity.pem", "zoo.cfg"].map(|name| data.path().join(name));
        let pem = |name| std::fs::read_to_string(of_tests(name)).unwrap();
        std::fs::write(&identity, pem("server.key") + &pem("server.pem")).unwrap();
        let text = format!(
            "tickTime=500\nmaxSessionTimeout=60000\ndataDir={}\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
             clientPort={plain}\nclientPortAddress=127.0.0.1\n\
             secureClientPort={secure}\nsecureClientPortAddress=127.0.0.1\n\
             serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n\
             ssl.keyStore.location={}\nssl.keyStore.type=PEM\n\
             ssl.trustStore.location={}\nssl.trustStore.type=PEM\n",
            data.path().display(),
            identity.display(),
            of_tests("ca.pem").canonicalize().unwrap().display(),
        );
        std::fs::write(&settings, text).unwrap();
        let child = Command::new("/usr/bin/java")
            .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-cp", &JARS.join(":")])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            child,
            secure,
            _data: data,
        };
        for _ in 0..1200 {
            if says_how_it_is(plain).contains("Mode: ") {
                return Some(server);
            }
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("ZooKeeper does not serve");
    }

    fn reached(&self, scheme: &str, host: &str, files: &TlsFiles) -> Ensemble {
        let url = format!("{scheme}://masters:secret@{host}:{}/mesos", self.secure);
        let ensemble = Ensemble::parse(&url).unwrap().with_tls(files).unwrap();
        ensemble.session_timeout(Duration::from_secs(10))
    }
}

fn says_how_it_is(port: u16) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port))
        && stream.write_all(b"srvr").is_ok()
    {
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

/// Of the authority that signed a certificate for this machine, for either side of a connection.
fn of_tests(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/tls");
    folder.join(name)
}

fn all_files() -> TlsFiles {
    TlsFiles {
        ca: Some(of_tests("ca.pem")),
        cert: Some(of_tests("server.pem")),
        key: Some(of_tests("server.key")),
    }
}

#[tokio::test]
async fn over_tls_each_side_shows_who_it_is() {
    let Some(server) = Server::start() else {
        return;
    };
    let all = all_files();
    let ours = server.reached("zks", "127.0.0.1", &all);
    let leadership = ours.election("master").campaign("me".into()).await.unwrap();
    let store = ours.store();
    let write = Transaction::new(leadership.fence()).put("a", "b");
    store.transact(write).await.unwrap();
    assert_eq!(&*store.get("a").await.unwrap().unwrap().value, b"b");
    // The certificate names both.
    let by_name = server.reached("zks", "localhost", &all).election("master");
    let mut leader = by_name.observe();
    let found = leader.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(&*found.unwrap().candidate, b"me");

    let nobody = TlsFiles {
        cert: None,
        key: None,
        ..all.clone()
    };
    let gullible = TlsFiles {
        ca: Some(of_tests("server.pem")),
        ..all.clone()
    };
    for (scheme, host, files) in [
        ("zks", "127.0.0.1", &nobody),
        ("zks", "127.0.0.2", &all),
        ("zks", "127.0.0.1", &gullible),
        ("zk", "127.0.0.1", &all),
    ] {
        let other = server.reached(scheme, host, files);
        let other = other.patience(Duration::from_secs(1));
        let refused = other.store().get("a").await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Unavailable { .. }),
            "{scheme} {host} {files:?}: {refused}"
        );
    }
    assert_eq!(&*store.get("a").await.unwrap().unwrap().value, b"b");
}

#[test]
fn who_ends_leaves_no_candidate() {
    if let Some(server) = Server::start() {
        testkit::withdrawal(server.reached("zks", "127.0.0.1", &all_files()));
    }
}

#[tokio::test]
async fn who_signs_has_to_be_said() {
    let ensemble = || Ensemble::parse("zks://localhost/mesos").unwrap();
    let error = ensemble().with_tls(&TlsFiles::default()).unwrap_err();
    assert!(error.to_string().contains("who signs"), "{error}");
    // Nor is anything sent if nobody asks.
    let refused = ensemble().election("master").campaign("x".into()).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, ElectionError::Refused { .. }),
        "{refused}"
    );
}

#[test]
fn files_that_hold_no_certificates_are_refused() {
    let ensemble = || Ensemble::parse("zks://localhost/mesos").unwrap();
    assert!(ensemble().with_tls(&all_files()).is_ok());
    for (ca, cert, key, why) in [
        (
            "no-such-file",
            "server.pem",
            Some("server.key"),
            "no-such-file",
        ),
        (
            "server.key",
            "server.pem",
            Some("server.key"),
            "holds no certificate",
        ),
        ("ca.pem", "server.pem", None, "needs its key"),
        ("ca.pem", "server.pem", Some("ca.pem"), "not usable"),
        ("ca.pem", "ca.pem", Some("server.key"), "not usable"),
        ("ca.pem", "server.key", Some("server.key"), "not usable"),
    ] {
        let files = TlsFiles {
            ca: Some(of_tests(ca)),
            cert: Some(of_tests(cert)),
            key: key.map(of_tests),
        };
        let error: TlsError = ensemble().with_tls(&files).unwrap_err();
        assert!(error.to_string().contains(why), "{files:?}: {error}");
    }
}

//! An etcd server that wants user and password, where Debian's `etcd-server` is installed.
#![cfg(feature = "etcd")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use dcos_store::{ElectionError, Ensemble, StoreError, Transaction};

struct Server {
    child: Child,
    address: String,
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
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (client, peer) = (free(), free());
        let data = tempfile::tempdir().unwrap();
        let url = |address| format!("http://{address}");
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &url(client)])
            .args(["--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer)])
            .args(["--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &format!("default={}", url(peer))])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            child,
            address: client.to_string(),
            _data: data,
        };
        for _ in 0..600 {
            if server.ask("GET", "/health", "").contains("\"true\"") {
                return server;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("etcd does not serve");
    }

    /// Its gateway for JSON; empty if nobody answers.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let length = body.len();
            let request =
                format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(request.as_bytes()).unwrap();
            let _ = stream.read_to_string(&mut answer);
        }
        answer
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

    fn ensemble(&self, user: &str, path: &str) -> Ensemble {
        Ensemble::parse(&format!("etcd://{user}{}{path}", self.address)).unwrap()
    }
}

#[tokio::test]
async fn user_and_password_open_what_they_may() {
    if !Path::new("/usr/bin/etcd").exists() {
        println!("skipped: Debian's package etcd-server is not installed");
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

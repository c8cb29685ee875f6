//! Any bytes, sent to a router: what comes back is HTTP, nobody behind sees a request framed in two ways, and the
//! next client is served. Any bytes, answered to a router: its client sees one answer that is HTTP, framed in one way, or
//! one that breaks off. And any text, read as a path: normal ones stay, and lead nowhere else.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use dcos_router::decide::{RouterAt, Rules};
use dcos_router::world::{AppService, Apps, Cluster, Scheme};
use dcos_router::{About, Config, Port, Router, limits, path, route};
use dcos_wire::{Listener, Origins, Pipe, ServerConfig};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

struct World {
    runtime: Runtime,
    pipe: Pipe,
    /// What came to the service behind the router since it was last looked at.
    seen: Arc<Mutex<Vec<u8>>>,
    /// What that service answers.
    said: Arc<Mutex<Vec<u8>>>,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().expect("a runtime");
    let (seen, said) = (Arc::default(), Arc::default());
    let backend = runtime.block_on(backend(Arc::clone(&seen), Arc::clone(&said)));
    let patience = Duration::from_millis(20);
    let config = Config {
        rules: Rules {
            routes: route::MASTER,
            parts: BTreeMap::new(),
            scheme: Scheme::Http,
            masters: RouterAt::http(80),
            agents: RouterAt::http(61001),
            own_hosts: BTreeSet::new(),
            origins: Origins::default(),
        },
        about: About::default(),
        sources: None,
        tls: None,
        authenticate: None,
        access_log: None,
        patience: Duration::ZERO,
        limits: ServerConfig {
            first_byte_timeout: patience,
            header_timeout: patience,
            body_timeout: patience,
            idle_timeout: patience,
            ..limits()
        },
    };
    let router = Router::new(config, CancellationToken::new()).expect("a router");
    let app = AppService {
        base: format!("http://{backend}").parse().expect("a base"),
        rewrites: true,
        buffers: true,
    };
    router.worlds().send_modify(|world| {
        let world = Arc::make_mut(world);
        world.cluster = Some(Cluster::default());
        world.apps = Some(Arc::new(Apps {
            by_name: BTreeMap::from([("a".to_owned(), app)]),
            ..Apps::default()
        }));
    });
    let (pipe, listener) = Listener::pipe();
    let port = Port {
        listener,
        tls: None,
        elsewhere: None,
    };
    runtime.spawn(router.serve(vec![port]));
    World { runtime, pipe, seen, said }
});

/// Notes what comes, and answers each connection once.
async fn backend(seen: Arc<Mutex<Vec<u8>>>, said: Arc<Mutex<Vec<u8>>>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, said) = (Arc::clone(&seen), Arc::clone(&said));
            tokio::spawn(async move {
                let mut piece = vec![0; 64 << 10];
                if let Ok(read) = stream.read(&mut piece).await {
                    seen.lock().expect("a lock").extend_from_slice(&piece[..read]);
                    let answer = said.lock().expect("a lock").clone();
                    let _ = stream.write_all(&answer).await;
                }
            });
        }
    });
    address
}

async fn exchange(pipe: &Pipe, request: &[u8]) -> Vec<u8> {
    let stream = pipe.connect().await.expect("the router listens");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let write = async {
        let _ = writer.write_all(request).await;
    };
    let read = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    let both = async { tokio::join!(write, read) };
    let _ = tokio::time::timeout(Duration::from_millis(200), both).await;
    answer
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(normal) = path::normalize(text)
    {
        assert_eq!(path::normalize(&normal).as_deref(), Ok(&*normal));
        assert!(normal.split('/').all(|part| part != "." && part != ".."));
    }
    let World {
        runtime,
        pipe,
        seen,
        said,
    } = &*WORLD;
    runtime.block_on(async {
        // As a path, as headers, as a whole request, as headers of an answer and as a whole one.
        let (first, rest) = bytes.split_first().unwrap_or((&0, bytes));
        let plain = b"GET /service/a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
        let (request, answer) = match first % 6 {
            0 => (rest.to_vec(), ANSWER.to_vec()),
            1 => ([b"POST /service/a/ HTTP/1.1\r\nHost: a\r\n", rest].concat(), ANSWER.to_vec()),
            2 => ([b"GET /service/a/ HTTP/1.1\r\nHost: a\r\n", rest].concat(), ANSWER.to_vec()),
            3 => ([b"GET /service/a/", rest, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(), ANSWER.to_vec()),
            4 => (plain, [b"HTTP/1.1 200 OK\r\n", rest].concat()),
            _ => (plain, rest.to_vec()),
        };
        *said.lock().expect("a lock") = answer;
        let answer = exchange(pipe, &request).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.") || answer.starts_with(b"\0"), "{answer:?}");
        let head = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, _)) = head.split_once("\r\n\r\n") {
            let two = head.contains("\r\ncontent-length:") && head.contains("\r\ntransfer-encoding:");
            assert!(!two, "{head}");
            assert!(head.matches("\r\ncontent-length:").count() < 2, "{head}");
        }
        let seen = std::mem::take(&mut *seen.lock().expect("a lock"));
        let seen = String::from_utf8_lossy(&seen).to_lowercase();
        if let Some((head, _)) = seen.split_once("\r\n\r\n") {
            let two = head.contains("\r\ncontent-length:") && head.contains("\r\ntransfer-encoding:");
            assert!(!two, "{head}");
            assert_eq!(head.matches("\r\nhost:").count(), 1, "{head}");
        }
    });
});

//! Any bytes, sent to a router: what comes back is HTTP, nobody behind sees a request framed in two ways, and the
//! next client is served. And any text, read as a path: normal ones stay, and lead nowhere else.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use dcos_router::decide::{RouterAt, Rules};
use dcos_router::world::{AppService, Apps, Cluster, Scheme};
use dcos_router::{About, Config, Port, Router, limits, path, route};
use dcos_wire::{Listener, Pipe, ServerConfig};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

struct World {
    runtime: Runtime,
    pipe: Pipe,
    /// What came to the service behind the router since it was last looked at.
    seen: Arc<Mutex<Vec<u8>>>,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().expect("a runtime");
    let seen = Arc::default();
    let backend = runtime.block_on(backend(Arc::clone(&seen)));
    let patience = Duration::from_millis(20);
    let config = Config {
        rules: Rules {
            routes: route::MASTER,
            parts: BTreeMap::new(),
            scheme: Scheme::Http,
            masters: RouterAt::http(80),
            agents: RouterAt::http(61001),
            own_hosts: BTreeSet::new(),
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
    World { runtime, pipe, seen }
});

/// Notes what comes, and answers each connection once.
async fn backend(seen: Arc<Mutex<Vec<u8>>>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut piece = vec![0; 64 << 10];
                if let Ok(read) = stream.read(&mut piece).await {
                    seen.lock().expect("a lock").extend_from_slice(&piece[..read]);
                    let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                    let _ = stream.write_all(answer).await;
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
    let World { runtime, pipe, seen } = &*WORLD;
    runtime.block_on(async {
        // As a path, as headers, and as a whole request.
        let (first, rest) = bytes.split_first().unwrap_or((&0, bytes));
        let request = match first % 3 {
            0 => rest.to_vec(),
            1 => [b"POST /service/a/ HTTP/1.1\r\nHost: a\r\n", rest].concat(),
            _ => [b"GET /service/a/", rest, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
        };
        let answer = exchange(pipe, &request).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.") || answer.starts_with(b"\0"), "{answer:?}");
        let seen = std::mem::take(&mut *seen.lock().expect("a lock"));
        let seen = String::from_utf8_lossy(&seen).to_lowercase();
        if let Some((head, _)) = seen.split_once("\r\n\r\n") {
            let two = head.contains("\r\ncontent-length:") && head.contains("\r\ntransfer-encoding:");
            assert!(!two, "{head}");
            assert_eq!(head.matches("\r\nhost:").count(), 1, "{head}");
        }
    });
});

//! A router on a free port, and clients of raw bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dcos_router::decide::{RouterAt, Rules};
use dcos_router::world::{AppService, Apps, Base, Scheme, World};
use dcos_router::{About, Authenticate, Config, Port, Router, Sources, limits, parts, route};
use dcos_wire::{Listener, Origins, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A router that serves until the test ends.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) worlds: watch::Sender<Arc<World>>,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a test wants otherwise.
#[derive(Default)]
pub(crate) struct Wishes {
    pub(crate) parts: Vec<String>,
    pub(crate) limits: Option<ServerConfig>,
    pub(crate) sources: Option<Sources>,
    pub(crate) access_log: Option<std::path::PathBuf>,
    /// Names and addresses of the node; one on loopback by default, as those behind the router are.
    pub(crate) own_hosts: Option<BTreeSet<String>>,
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    /// Whether plain requests go the long way; by default as all tests of this program do.
    pub(crate) by_hyper: Option<bool>,
}

pub(crate) async fn router(wishes: Wishes) -> Served {
    let rules = Rules {
        routes: route::MASTER,
        parts: parts(&wishes.parts).unwrap(),
        scheme: Scheme::Http,
        masters: RouterAt::http(80),
        agents: RouterAt::http(61001),
        own_hosts: wishes
            .own_hosts
            .unwrap_or_else(|| BTreeSet::from(["127.0.0.1".to_owned()])),
        origins: Origins::default(),
    };
    let config = Config {
        rules,
        about: About::default(),
        sources: wishes.sources,
        tls: None,
        authenticate: wishes.authenticate,
        access_log: wishes.access_log,
        patience: Duration::from_secs(20),
        limits: wishes.limits.unwrap_or_else(limits),
    };
    let stop = CancellationToken::new();
    let mut router = Router::new(config, stop.clone()).unwrap();
    if wishes.by_hyper.unwrap_or(!crate::RELAYS) {
        router = router.without_relay();
    }
    let worlds = router.worlds();
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let port = Port {
        listener,
        tls: None,
        elsewhere: None,
    };
    tokio::spawn(router.serve(vec![port]));
    Served {
        address,
        worlds,
        stop,
    }
}

/// A router before a service `app` at that address.
pub(crate) async fn before(backend: SocketAddr) -> Served {
    let served = router(Wishes::default()).await;
    served.know(&[("app", &format!("http://{backend}"))]);
    served
}

impl Served {
    /// Asks the router to end.
    #[expect(
        clippy::allow_attributes,
        reason = "one of the two programs that have this file does not use it"
    )]
    #[allow(dead_code, reason = "as above")]
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Makes services known.
    pub(crate) fn know(&self, services: &[(&str, &str)]) {
        let service = |url: &str| AppService {
            base: url.parse::<Base>().unwrap(),
            rewrites: true,
            buffers: true,
        };
        let by_name: BTreeMap<_, _> = services
            .iter()
            .map(|(name, url)| ((*name).to_owned(), service(url)))
            .collect();
        self.worlds.send_modify(|world| {
            let apps = Apps {
                by_name,
                ..Apps::default()
            };
            Arc::make_mut(world).apps = Some(Arc::new(apps));
            Arc::make_mut(world).cluster.get_or_insert_default();
        });
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own, and reads until it is closed, or an answer that says its length has
    /// come.
    pub(crate) async fn ask(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        answer(&mut stream).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: dcos\r\n\r\n"))
            .await
    }
}

/// An answer, with chunks put together.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then(|| value.trim()))
}

/// The bytes up to the end of a head; what follows it stays unread.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(bytes).unwrap()
}

pub(crate) async fn answer(stream: &mut TcpStream) -> Answer {
    let head = head(stream).await;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let mut body = Vec::new();
    if let Some(length) = header(&head, "content-length") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body).await.unwrap();
    } else if header(&head, "transfer-encoding").is_some() {
        while let Some(chunk) = chunk(stream).await {
            body.extend_from_slice(&chunk);
        }
    }
    Answer {
        status: status.unwrap_or(0),
        head,
        body,
    }
}

/// A chunk; `None` is the last one.
pub(crate) async fn chunk(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    let size = std::str::from_utf8(&line).unwrap().trim();
    let size = usize::from_str_radix(size, 16).unwrap();
    let mut data = vec![0; size + 2];
    stream.read_exact(&mut data).await.ok()?;
    data.truncate(size);
    (size > 0).then_some(data)
}

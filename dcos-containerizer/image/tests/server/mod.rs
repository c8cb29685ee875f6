//! A registry of one image that can fail in many ways.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `me:s3cret`.
const PASSWORD: &str = "Basic bWU6czNjcmV0";
/// What gets a token, too.
const IDENTITY: &str = "1d3nt1ty&more";

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Answers end after so many bytes of a blob.
    BreaksOff {
        after: usize,
    },
    /// A layer is not what its digest says.
    WrongBlob,
    /// A layer's tar file is not what the configuration says.
    WrongDiffId,
    NoManifest,
    Refuses,
    /// A layer does not end.
    Endless,
    /// The configuration does not end, and its size is not what the manifest says.
    EndlessConfig,
    EndlessManifest,
    /// The same, but its length is said.
    HugeManifest,
    EndlessToken,
    /// The reasons of a refusal do not end.
    EndlessRefusal,
    /// A layer is refused like that.
    EndlessLayerRefusal,
    /// The manifest is not what its digest says.
    WrongManifest,
    /// The manifest is a list without this machine.
    OtherMachines,
    /// A token is good for one manifest or blob.
    ShortTokens,
    /// A layer of a type that is no file system.
    StrangeLayer,
    /// Only those with a token are served.
    WantsToken,
    /// The same, and only whoever asks for a manifest or blob is told.
    WantsTokenBelow,
    /// Only those with a password are served; only whoever asks for a manifest or blob is told.
    WantsPasswordBelow,
    /// Only those are served that show something else.
    WantsOther,
    /// Whoever asks for the manifest first is asked to come again in a second.
    Busy,
    /// Blobs are at another host, which wants a password.
    Lures,
    /// Whoever shows an identity is led to another host.
    LeadsAway,
    /// The image is one of Docker's own, `library/app`.
    Official,
}

pub(crate) struct Server {
    pub(crate) host: String,
    /// SHA-256 of the manifest.
    pub(crate) digest: String,
    /// How often a part of a blob was asked for.
    pub(crate) resumed: Arc<AtomicU32>,
    /// How often the manifest was asked for.
    pub(crate) asked: Arc<AtomicU32>,
    /// How often the other host was asked, and how often it was shown something or told where from.
    pub(crate) led_away: Arc<AtomicU32>,
    pub(crate) lured: Arc<AtomicU32>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

struct Content {
    host: String,
    /// The other host that the first may lead to.
    aside: String,
    fault: Fault,
    manifest: Vec<u8>,
    blobs: Vec<Vec<u8>>,
    resumed: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
    /// How many tokens were given, and how many of them were used.
    given: AtomicU32,
    used: AtomicU32,
}

/// What begins like this and does not end.
fn endless(beginning: &'static str) -> Body {
    let more = std::iter::repeat_with(|| bytes::Bytes::from_static(&[b' '; 1 << 13]));
    let all = std::iter::once(bytes::Bytes::from_static(beginning.as_bytes())).chain(more);
    Body::from_stream(futures::stream::iter(all.map(Ok::<_, std::io::Error>)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(crate) fn tarball(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        let name = std::path::Path::new(name);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// An image's configuration.
pub(crate) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers
        .iter()
        .map(|one| format!("sha256:{}", hex(one)))
        .collect();
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["run"]},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    config.to_string().into_bytes()
}

impl Server {
    pub(crate) async fn start(layers: &[Vec<u8>], fault: Fault) -> Self {
        let shown = match fault {
            Fault::WrongDiffId => vec![tarball(&[("other", "")]); layers.len()],
            _ => layers.to_vec(),
        };
        let config = config(&shown);
        let kind = match fault {
            Fault::StrangeLayer => "application/vnd.wasm.content.layer.v1+wasm",
            _ => "application/vnd.oci.image.layer.v1.tar",
        };
        let describe = |kind: &str, bytes: &[u8]| {
            json!({
                "mediaType": kind, "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len(),
            })
        };
        let listed: Vec<Value> = layers.iter().map(|layer| describe(kind, layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": listed,
        });
        let manifest = manifest.to_string().into_bytes();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (resumed, asked) = (Arc::default(), Arc::default());
        let (led_away, lured) = (Arc::default(), Arc::default());
        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let aside = other.local_addr().unwrap().to_string();
        let lure = Router::new()
            .fallback(any(elsewhere))
            .with_state(Arc::new(Elsewhere {
                host: aside.clone(),
                led_away: Arc::clone(&led_away),
                lured: Arc::clone(&lured),
            }));
        let digest = hex(&manifest);
        let content = Arc::new(Content {
            host: host.clone(),
            aside,
            fault,
            manifest,
            blobs: layers.iter().cloned().chain([config]).collect(),
            resumed: Arc::clone(&resumed),
            asked: Arc::clone(&asked),
            given: AtomicU32::new(0),
            used: AtomicU32::new(0),
        });
        let name = match fault {
            Fault::Official => "library/app",
            _ => "app",
        };
        let router = Router::new()
            .route("/v2/", get(root))
            .route(
                &format!("/v2/{name}/manifests/{{reference}}"),
                get(manifest_of),
            )
            .route(&format!("/v2/{name}/blobs/{{digest}}"), get(blob))
            .route("/token", get(token).post(token_for_identity))
            .with_state(content);
        let serve = |listener, router: Router| {
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
        };
        let tasks = [serve(listener, router), serve(other, lure)];
        Self {
            host,
            digest,
            resumed,
            asked,
            led_away,
            lured,
            tasks,
        }
    }
}

struct Elsewhere {
    host: String,
    led_away: Arc<AtomicU32>,
    lured: Arc<AtomicU32>,
}

async fn elsewhere(State(other): State<Arc<Elsewhere>>, headers: HeaderMap) -> Response {
    other.led_away.fetch_add(1, Ordering::Relaxed);
    let shown = [header::AUTHORIZATION, header::REFERER];
    let is_lured = shown.iter().any(|name| headers.contains_key(name));
    other
        .lured
        .fetch_add(u32::from(is_lured), Ordering::Relaxed);
    let value = format!("Bearer realm=\"http://{}/token\"", other.host);
    let headers = [(header::WWW_AUTHENTICATE, value)];
    (StatusCode::UNAUTHORIZED, headers).into_response()
}

fn allowed(content: &Content, headers: &HeaderMap) -> bool {
    let bearer = headers.get(header::AUTHORIZATION);
    let is = |token: &str| bearer.is_some_and(|value| value == &format!("Bearer {token}"));
    match content.fault {
        Fault::WantsToken | Fault::WantsTokenBelow | Fault::Lures | Fault::LeadsAway => {
            is("the-token")
        }
        Fault::WantsPasswordBelow => bearer.is_some_and(|value| value == PASSWORD),
        Fault::WantsOther | Fault::EndlessToken => false,
        Fault::ShortTokens => {
            let used = content.used.load(Ordering::Relaxed);
            let good = is(&format!("token-{}", used + 1));
            content.used.fetch_add(u32::from(good), Ordering::Relaxed);
            good
        }
        _ => true,
    }
}

fn challenge(content: &Content) -> Response {
    let realm = format!("http://{}/token", content.host);
    let value = match content.fault {
        Fault::WantsPasswordBelow => "Basic realm=\"test\"".to_owned(),
        Fault::WantsOther => "Negotiate".to_owned(),
        _ => format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:app:pull\""),
    };
    let body = json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    let headers = [(header::WWW_AUTHENTICATE, value)];
    (StatusCode::UNAUTHORIZED, headers, body.to_string()).into_response()
}

async fn root(State(content): State<Arc<Content>>, headers: HeaderMap) -> Response {
    let is_open = matches!(
        content.fault,
        Fault::WantsTokenBelow | Fault::WantsPasswordBelow
    );
    if is_open || allowed(&content, &headers) {
        StatusCode::OK.into_response()
    } else {
        challenge(&content)
    }
}

async fn token(State(content): State<Arc<Content>>, headers: HeaderMap) -> Response {
    if content.fault == Fault::EndlessToken {
        return endless("{\"token\": \"").into_response();
    }
    if content.fault == Fault::ShortTokens {
        let number = content.given.fetch_add(1, Ordering::Relaxed) + 1;
        let body = json!({"access_token": format!("token-{number}")});
        return body.to_string().into_response();
    }
    let known = headers.get(header::AUTHORIZATION);
    if known.is_some_and(|value| value == PASSWORD) {
        let body = json!({"token": "the-token", "access_token": "the-token", "expires_in": 300});
        return body.to_string().into_response();
    }
    StatusCode::UNAUTHORIZED.into_response()
}

/// OAuth 2, as the Docker registry's `spec/auth/oauth.md` has it.
async fn token_for_identity(
    State(content): State<Arc<Content>>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    if content.fault == Fault::LeadsAway {
        return Redirect::temporary(&format!("http://{}/", content.aside)).into_response();
    }
    let wanted = [
        ("client_id", "dcos"),
        ("grant_type", "refresh_token"),
        ("refresh_token", IDENTITY),
        ("scope", "repository:app:pull"),
        ("service", "test"),
    ];
    if form
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .eq(wanted)
    {
        return json!({"access_token": "the-token"})
            .to_string()
            .into_response();
    }
    StatusCode::UNAUTHORIZED.into_response()
}

async fn manifest_of(
    State(content): State<Arc<Content>>,
    Path(reference): Path<String>,
    headers: HeaderMap,
) -> Response {
    content.asked.fetch_add(1, Ordering::Relaxed);
    let error = |status: StatusCode, code: &str| {
        let body = json!({"errors": [{"code": code, "message": "no"}]});
        (status, body.to_string()).into_response()
    };
    let digest = format!("sha256:{}", hex(&content.manifest));
    match content.fault {
        Fault::NoManifest => return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
        Fault::Refuses => return error(StatusCode::FORBIDDEN, "DENIED"),
        Fault::Busy if content.asked.load(Ordering::Relaxed) == 1 => {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
        }
        Fault::EndlessRefusal => return (StatusCode::FORBIDDEN, endless("{")).into_response(),
        Fault::EndlessManifest => return endless("{\"schemaVersion\": 2,").into_response(),
        Fault::HugeManifest => return vec![b' '; (4 << 20) + 1].into_response(),
        Fault::OtherMachines => {
            let entry =
                json!({"digest": digest, "platform": {"os": "linux", "architecture": "z80"}});
            let body = json!({"schemaVersion": 2, "manifests": [entry]});
            return body.to_string().into_response();
        }
        _ if !allowed(&content, &headers) => return challenge(&content),
        _ if reference.contains(':') && reference != digest => {
            return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
        }
        _ => {}
    }
    let mut manifest = content.manifest.clone();
    if content.fault == Fault::WrongManifest {
        manifest.push(b' ');
    }
    let headers = [
        (
            "content-type",
            "application/vnd.oci.image.manifest.v1+json".to_owned(),
        ),
        ("docker-content-digest", digest),
    ];
    (headers, manifest).into_response()
}

async fn blob(
    State(content): State<Arc<Content>>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Response {
    if !allowed(&content, &headers) {
        return challenge(&content);
    }
    if content.fault == Fault::Lures {
        let there = format!("http://{}/{digest}", content.aside);
        return Redirect::temporary(&there).into_response();
    }
    let found = content
        .blobs
        .iter()
        .position(|blob| format!("sha256:{}", hex(blob)) == digest);
    let Some(found) = found else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut bytes = content.blobs[found].clone();
    let is_layer = found + 1 < content.blobs.len();
    match content.fault {
        Fault::WrongBlob if is_layer => bytes.iter_mut().for_each(|byte| *byte ^= 1),
        Fault::EndlessLayerRefusal if is_layer => {
            return (StatusCode::BAD_REQUEST, endless("no")).into_response();
        }
        Fault::Endless if is_layer => bytes.resize(bytes.len() + (8 << 20), 0),
        Fault::EndlessConfig if !is_layer => bytes.resize(bytes.len() + (9 << 20), b' '),
        _ => {}
    }
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let from = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .split_once('-')?
            .0
            .parse()
            .ok()
    });
    let from: usize = from.unwrap_or(0);
    if from > 0 {
        content.resumed.fetch_add(1, Ordering::Relaxed);
    }
    let total = bytes.len();
    let rest = bytes.split_off(from.min(total));
    let length = rest.len();
    let body = match content.fault {
        Fault::BreaksOff { after } if is_layer && length > after => {
            // In chunks, since with a length the server would not let it end early.
            let part: Result<_, std::io::Error> = Ok(bytes::Bytes::from(rest[..after].to_vec()));
            Body::from_stream(futures::stream::iter([part]))
        }
        _ => Body::from(rest),
    };
    let status = if from > 0 {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let range = format!("bytes {from}-{}/{total}", total.saturating_sub(1));
    (status, [("content-range", range)], body).into_response()
}

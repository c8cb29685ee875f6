//! HTTP client for the services of the house: follows redirects to the leader with method and
//! body, reads event streams, speaks TCP, TLS and Unix sockets.

mod answer;
mod dial;
mod userinfo;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, LOCATION, PROXY_AUTHORIZATION,
    USER_AGENT,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;

pub use answer::{Answer, Records};
pub use dial::Dial;
use dial::{Connector, TcpDial, UnixDial};

use crate::MediaType;
use crate::tls::{self, TlsError, Trust};

/// How patient a client is, and whom it trusts.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// From sending a request to the head of its answer. Streams may go on for ever behind it.
    pub answer_timeout: Duration,
    /// How long the body of an answer that is read whole may pause.
    pub read_timeout: Duration,
    /// The largest body in bytes that is read whole, after decompression.
    pub body_limit: usize,
    /// Redirects followed for one request.
    pub max_redirects: usize,
    /// Whom to trust on `https` URLs.
    pub trust: Trust,
    /// How to speak on `https` URLs, whatever `trust` says; see [`crate::tls::Ssl`].
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The value of `Authorization` in requests that have none.
    pub authorization: Option<HeaderValue>,
    /// Who is shown `Authorization` and cookies when a request is redirected.
    pub credentials: Credentials,
    /// The `User-Agent` of requests that set none.
    pub user_agent: HeaderValue,
    /// Opens connections; `None` is TCP to the host in the URL.
    pub dial: Option<Arc<dyn Dial>>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(30),
            body_limit: 256 << 20,
            max_redirects: 5,
            trust: Trust::System,
            tls: None,
            authorization: None,
            credentials: Credentials::StayWithServer,
            user_agent: HeaderValue::from_static(concat!("dcos/", env!("CARGO_PKG_VERSION"))),
            dial: None,
        }
    }
}

/// Who is shown the credentials of a request: `Authorization`, what stands before the host in its
/// URL, cookies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Only the server that was asked: a redirect to another scheme, host or port is followed
    /// without them, as curl does.
    #[default]
    StayWithServer,
    /// Also those that a request is redirected to: for servers that belong together, where any
    /// leads to the one in office, as Mesos's masters do.
    FollowRedirects,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL can't be used: it needs a scheme and a host.
    #[error("{url:?} is not a URL that can be asked")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody answers there.
    #[error("connecting to {url}")]
    Connect {
        /// What was asked.
        url: Uri,
        /// What the connection said.
        source: Box<legacy::Error>,
    },
    /// The connection broke before the answer.
    #[error("asking {url}")]
    Send {
        /// What was asked.
        url: Uri,
        /// What the connection said.
        source: Box<legacy::Error>,
    },
    /// No answer in time.
    #[error("{url} did not answer within {timeout:?}")]
    Timeout {
        /// What was asked.
        url: Uri,
        /// The limit.
        timeout: Duration,
    },
    /// The servers redirect to each other.
    #[error("more than {limit} redirects, the last one to {url}")]
    Redirects {
        /// The limit.
        limit: usize,
        /// Where the last redirect points.
        url: Uri,
    },
    /// A redirect points nowhere, or from `https` to `http`.
    #[error("{url} redirects to {location:?}, which is not followed")]
    Location {
        /// What was asked.
        url: Uri,
        /// The header.
        location: String,
    },
    /// The answer broke off.
    #[error("reading the answer of {url}")]
    Body {
        /// What was asked.
        url: Uri,
        /// What the connection said.
        source: axum::Error,
    },
    /// The answer is larger than allowed.
    #[error("the answer of {url} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        url: Uri,
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer is compressed and damaged.
    #[error("unpacking the answer of {url}")]
    Unpack {
        /// What was asked.
        url: Uri,
        /// What the decompressor said.
        source: std::io::Error,
    },
    /// The answer is not the JSON that was expected.
    #[error("understanding the answer of {url}")]
    Json {
        /// What was asked.
        url: Uri,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A stream of records is broken.
    #[error("reading the stream of {url}")]
    Record {
        /// What was asked.
        url: Uri,
        /// What is wrong.
        source: dcos_proto::recordio::RecordError,
    },
    /// The answer is a refusal.
    #[error("{url} answered")]
    Refused {
        /// What was asked.
        url: Uri,
        /// Status and text.
        source: crate::Refusal,
    },
}

/// Asks other processes. Clones share connections.
///
/// Credentials may stand in a URL (`http://principal:secret@host`); they are sent as HTTP basic.
/// [`Credentials`] says who is shown them after a redirect.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<HttpsConnector<Connector>, Body>,
    config: Arc<ClientConfig>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client with the default limits, trusting what the system trusts.
    pub fn new() -> Self {
        Self::build(ClientConfig::default(), system_tls())
    }

    /// A client whose connections all go to the Unix socket at `path`; the URLs' host is then only
    /// a name, such as `http://agent/api/v1`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let config = ClientConfig {
            dial: Some(Arc::new(UnixDial(path.into()))),
            ..ClientConfig::default()
        };
        Self::build(config, system_tls())
    }

    /// A client that speaks TLS as the environment says; see [`crate::tls::Ssl`].
    ///
    /// # Errors
    /// The environment can't be followed.
    pub fn from_env() -> Result<Self, crate::tls::SslError> {
        let ssl = crate::tls::Ssl::from_env()?;
        let config = ClientConfig {
            tls: ssl.map(|ssl| ssl.client),
            ..ClientConfig::default()
        };
        Ok(Self::with_config(config)?)
    }

    /// The same client, with the same connections, that shows `credentials` to others.
    #[must_use]
    pub fn showing(mut self, credentials: Credentials) -> Self {
        Arc::make_mut(&mut self.config).credentials = credentials;
        self
    }

    /// A client with its own limits and trust.
    ///
    /// # Errors
    /// The certificates to trust can't be read.
    pub fn with_config(config: ClientConfig) -> Result<Self, TlsError> {
        let tls = match (&config.tls, &config.trust) {
            (Some(own), _) => rustls::ClientConfig::clone(own),
            (None, Trust::System) => system_tls(),
            (None, Trust::File(_) | Trust::Anyone) => tls::client(&config.trust)?,
        };
        Ok(Self::build(config, tls))
    }

    fn build(config: ClientConfig, tls: rustls::ClientConfig) -> Self {
        let dial = config.dial.clone();
        let dial = dial.unwrap_or_else(|| Arc::new(TcpDial::new(config.connect_timeout)));
        let connector = Connector::new(dial, config.connect_timeout);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .build(connector);
        let config = Arc::new(config);
        Self { http, config }
    }

    /// GET.
    ///
    /// # Errors
    /// [`ClientError`]; an answer with a status of failure is no error, see
    /// [`Answer::success`].
    pub async fn get(&self, url: &str) -> Result<Answer, ClientError> {
        self.send(request(Method::GET, url, Bytes::new())?).await
    }

    /// POST of a body in some media type, accepting an answer in any.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(
        &self,
        url: &str,
        media: HeaderValue,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let mut request = request(Method::POST, url, body.into())?;
        request.headers_mut().insert(CONTENT_TYPE, media);
        self.send(request).await
    }

    /// POST of a value as JSON.
    ///
    /// # Errors
    /// As [`Client::get`]; also if the value has no JSON form.
    pub async fn post_json<T: Serialize + ?Sized + Sync>(
        &self,
        url: &str,
        value: &T,
    ) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(value).map_err(|source| ClientError::Json {
            url: url.parse().unwrap_or_default(),
            source,
        })?;
        self.post(url, MediaType::Json.header(), body).await
    }

    /// Any request. Redirects are followed: 307 and 308 with method, headers and body, so that a
    /// call reaches the leader; 301, 302 and 303 as GET if the method was GET.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, ClientError> {
        let (mut parts, body) = request.into_parts();
        self.complete(&mut parts);
        for _ in 0..=self.config.max_redirects {
            let attempt = Request::from_parts(parts.clone(), Body::from(body.clone()));
            let answer = self.attempt(attempt).await?;
            let Some(location) = redirect(&parts.method, &answer) else {
                return Ok(answer);
            };
            let target = follow(&parts.uri, &location)?;
            parts.headers.remove(HOST);
            let stay = self.config.credentials == Credentials::StayWithServer;
            if stay && !same_server(&parts.uri, &target) {
                for secret in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
                    parts.headers.remove(secret);
                }
            }
            parts.uri = target;
            userinfo::to_header(&mut parts);
        }
        Err(ClientError::Redirects {
            limit: self.config.max_redirects,
            url: parts.uri,
        })
    }

    /// Any request with any body, without following redirects.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn send_streaming(&self, request: Request<Body>) -> Result<Answer, ClientError> {
        let (mut parts, body) = request.into_parts();
        self.complete(&mut parts);
        self.attempt(Request::from_parts(parts, body)).await
    }

    /// Adds the headers that the request lacks.
    fn complete(&self, parts: &mut Parts) {
        userinfo::to_header(parts);
        let headers = &mut parts.headers;
        if let Some(own) = &self.config.authorization {
            headers.entry(AUTHORIZATION).or_insert_with(|| own.clone());
        }
        let agent = || self.config.user_agent.clone();
        headers.entry(USER_AGENT).or_insert_with(agent);
        let gzip = HeaderValue::from_static("gzip");
        headers.entry(ACCEPT_ENCODING).or_insert(gzip);
    }

    async fn attempt(&self, request: Request<Body>) -> Result<Answer, ClientError> {
        let url = request.uri().clone();
        let timeout = self.config.answer_timeout;
        match tokio::time::timeout(timeout, self.http.request(request)).await {
            Ok(Ok(response)) => {
                let config = Arc::clone(&self.config);
                Ok(Answer::new(url, response.map(Body::new), config))
            }
            Ok(Err(source)) if source.is_connect() => {
                let source = Box::new(source);
                Err(ClientError::Connect { url, source })
            }
            Ok(Err(source)) => {
                let source = Box::new(source);
                Err(ClientError::Send { url, source })
            }
            Err(_) => Err(ClientError::Timeout { url, timeout }),
        }
    }
}

/// A pooled connection is closed after this long without use; below the servers' own limit, so
/// that a request seldom meets a connection that is being closed.
const IDLE: Duration = Duration::from_mins(1);
/// Pooled connections a host.
const MAX_IDLE: usize = 16;

fn request(method: Method, url: &str, body: Bytes) -> Result<Request<Bytes>, ClientError> {
    let uri: Option<Uri> = url.parse().ok();
    let Some(uri) = uri.filter(|uri| uri.scheme().is_some() && uri.authority().is_some()) else {
        let url = url.to_owned();
        return Err(ClientError::Url { url });
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    Ok(request)
}

/// Where an answer redirects a request of this method to, if that is to be followed.
fn redirect(method: &Method, answer: &Answer) -> Option<String> {
    let follow = match answer.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            *method == Method::GET || *method == Method::HEAD
        }
        _ => false,
    };
    let location = answer.headers().get(LOCATION).filter(|_| follow)?;
    location.to_str().ok().map(str::to_owned)
}

/// The URL that `location` means to a client that asked `url`: a whole URL, one without a scheme
/// (`//host:port/path`, as Mesos's masters say), or a path on the same host.
fn follow(url: &Uri, location: &str) -> Result<Uri, ClientError> {
    let scheme = url.scheme_str().unwrap_or("http");
    let host = url.authority().map_or("", |authority| authority.as_str());
    let target = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        location.to_owned()
    };
    let safe = |target: &Uri| scheme == "http" || target.scheme_str() == Some(scheme);
    let target: Option<Uri> = target.parse().ok();
    let usable = target.filter(|target| target.scheme().is_some() && safe(target));
    usable.ok_or_else(|| ClientError::Location {
        url: url.clone(),
        location: location.to_owned(),
    })
}

/// Whether both URLs are answered by one server: same scheme, host and port.
fn same_server(one: &Uri, other: &Uri) -> bool {
    let port = |url: &Uri| {
        let usual = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        url.port_u16().unwrap_or(usual)
    };
    let host = |url: &Uri| url.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// Reading the system's certificates takes milliseconds: once is enough.
fn system_tls() -> rustls::ClientConfig {
    static TLS: OnceLock<rustls::ClientConfig> = OnceLock::new();
    TLS.get_or_init(|| tls::client(&Trust::System).expect("aws-lc speaks TLS 1.2 and 1.3"))
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_scheme_or_host_where_they_name_none() {
        let check = |url: &str, location: &str, expected: Option<&str>| {
            let found = follow(&url.parse().unwrap(), location).ok();
            let found = found.map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected);
        };
        let api = "http://m1:5050/api/v1";
        check(api, "//m2:5050/api/v1", Some("http://m2:5050/api/v1"));
        check(api, "/other?x=1", Some("http://m1:5050/other?x=1"));
        check(api, "https://m2/", Some("https://m2/"));
        check("https://m1/", "//m2:1/", Some("https://m2:1/"));
        check("https://m1/", "http://m2/", None);
        check(api, "somewhere", None);
    }

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        let check = |one: &str, other: &str, same: bool| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(same_server(&one, &other), same, "{one} {other}");
        };
        check("http://m1/a", "http://M1:80/b?c", true);
        check("https://m1:443", "https://m1", true);
        check("http://m1", "https://m1", false);
        check("http://m1:443", "https://m1:443", false);
        check("http://m1:5050", "http://m1:5051", false);
        check("http://m1", "http://m1.example", false);
        check("http://m1@m2", "http://m1", false);
    }
}

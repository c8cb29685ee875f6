//! Requests to a server of the cluster, refusals as errors that say what to do.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use dcos_security::{Credential, bearer};
use dcos_wire::tls::Ssl;
use dcos_wire::{Answer, Body, Client, ClientConfig, ClientError, Credentials};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use serde_json::Value;

use crate::output::harmless;

/// One server: the master, Marathon or an agent.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Without a slash at the end.
    pub(crate) url: String,
    client: Client,
    authorization: Option<HeaderValue>,
}

impl Server {
    /// The server at `url`; `http` if it names no scheme.
    ///
    /// It is shown the token in `DCOS_ACS_TOKEN`, else the principal and secret in the file that
    /// `DCOS_CREDENTIAL` names; TLS is spoken as `LIBPROCESS_SSL_*` says.
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        Self::shown(url, None)
    }

    /// The same; it is shown `token` if the environment says nothing else.
    pub(crate) fn shown(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let given = std::env::var("DCOS_ACS_TOKEN").ok();
        let given = given.filter(|token| !token.trim().is_empty());
        let credential = std::env::var_os("DCOS_CREDENTIAL").map(PathBuf::from);
        let authorization = match (given.as_deref(), credential, token) {
            (Some(token), _, _) | (None, None, Some(token)) => {
                Some(bearer(token).context("the token holds what no HTTP header can")?)
            }
            (None, Some(file), _) => Some(Credential::read(&file)?.basic()),
            (None, None, None) => None,
        };
        Ok(Self {
            url: full(url),
            client: client(
                authorization.as_ref(),
                ClientConfig::default().answer_timeout,
            )?,
            authorization,
        })
    }

    /// Another server of the same cluster, which is shown the same.
    pub(crate) fn beside(&self, url: &str) -> Self {
        Self {
            url: full(url),
            ..self.clone()
        }
    }

    /// The same, for requests that are answered when somebody has finished typing.
    pub(crate) fn for_conversations(&self) -> anyhow::Result<Self> {
        let patience = Duration::from_hours(24 * 365);
        Ok(Self {
            client: client(self.authorization.as_ref(), patience)?,
            ..self.clone()
        })
    }

    /// A server outside of the cluster, to which nothing is shown.
    pub(crate) fn of_strangers(url: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self {
            url,
            client: Client::new(),
            authorization: None,
        }
    }

    /// The JSON at `path`.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send("GET", path, None).await
    }

    /// Sends a JSON document, and reads one, or null if the answer is empty.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let text = self.request(method, path, body).await?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("{}{path} did not answer with JSON", harmless(&self.url)))
    }

    /// Sends a body of protobuf to the operator API, and gives the answer as it comes.
    pub(crate) async fn open(
        &self,
        content: Form,
        accept: Form,
        body: Body,
    ) -> anyhow::Result<Answer> {
        let url = format!("{}/api/v1", self.url);
        let mut request = Request::builder()
            .method("POST")
            .uri(&url)
            .header(CONTENT_TYPE, content.media())
            .header(ACCEPT, accept.media());
        if content == Form::Records {
            request = request.header("message-content-type", PROTOBUF);
        }
        if accept == Form::Records {
            request = request.header("message-accept", PROTOBUF);
        }
        let request = request
            .body(body)
            .with_context(|| format!("{} is no URL", harmless(&url)))?;
        let answer = self.client.send_streaming(request).await?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        let text = refusal(status, &url, &text);
        Err(Refused { status, text }.into())
    }

    /// The text of an answer.
    pub(crate) async fn text(&self, method: &str, path: &str) -> anyhow::Result<String> {
        self.request(method, path, None).await
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<String> {
        let url = format!("{}{path}", self.url);
        let mut request = Request::builder().method(method).uri(&url);
        request = request.header(
            ACCEPT,
            HeaderValue::from_static("application/json, */*;q=0.5"),
        );
        let content = match body {
            Some(body) => {
                request =
                    request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                serde_json::to_vec(body)?
            }
            None => Vec::new(),
        };
        let request = request
            .body(Bytes::from(content))
            .with_context(|| format!("{} is no URL", harmless(&url)))?;
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(error @ ClientError::Connect { .. }) => {
                let hint = format!(
                    "nobody answers at {}; is the cluster running?",
                    harmless(&self.url)
                );
                return Err(anyhow::Error::new(error).context(hint));
            }
            Err(error) => return Err(error.into()),
        };
        let status = answer.status();
        let text = String::from_utf8_lossy(&answer.bytes().await?).into_owned();
        if !status.is_success() {
            let text = refusal(status, &url, &text);
            return Err(Refused { status, text }.into());
        }
        Ok(text)
    }
}

fn client(authorization: Option<&HeaderValue>, answer_timeout: Duration) -> anyhow::Result<Client> {
    Ok(Client::with_config(ClientConfig {
        tls: Ssl::from_env()?.map(|ssl| ssl.client),
        authorization: authorization.cloned(),
        credentials: Credentials::FollowRedirects,
        answer_timeout,
        ..ClientConfig::default()
    })?)
}

/// `url` with a scheme and without a slash at the end.
fn full(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.contains("://") {
        url.to_owned()
    } else {
        format!("{}://{url}", Ssl::scheme())
    }
}

/// How a call or its answer goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One message.
    Call,
    /// Records, each a message.
    Records,
}

const PROTOBUF: &str = "application/x-protobuf";

impl Form {
    fn media(self) -> &'static str {
        match self {
            Self::Call => PROTOBUF,
            Self::Records => "application/recordio",
        }
    }
}

/// A refusal whose status matters.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    /// There is nothing at that path.
    pub(crate) fn is_not_there(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// An agent says so of a container that has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.status == StatusCode::INTERNAL_SERVER_ERROR
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// What a server said when it refused: the message of an error document with its details, or the
/// text as it is.
fn refusal(status: http::StatusCode, url: &str, text: &str) -> String {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(message) = said["message"].as_str() else {
        return format!("{} ({status} from {})", text.trim(), harmless(url));
    };
    let mut whole = format!("{message} ({status})");
    for detail in said["details"].as_array().into_iter().flatten() {
        let errors = detail["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let errors: Vec<_> = errors.collect();
        let path = detail["path"].as_str().unwrap_or_default();
        whole.push_str(&format!("\n  {path}: {}", errors.join(", ")));
    }
    whole
}

/// `text` as a part of a path or query; slashes stay.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_url_can_not_hold() {
        assert_eq!(escape("/a b/ü&c=d"), "/a%20b/%C3%BC%26c%3Dd");
    }

    #[test]
    fn a_refusal_shows_every_detail() {
        let text =
            r#"{"message":"Object is not valid","details":[{"path":"/id","errors":["bad"]}]}"#;
        let said = refusal(http::StatusCode::UNPROCESSABLE_ENTITY, "u", text);
        assert_eq!(
            said,
            "Object is not valid (422 Unprocessable Entity)\n  /id: bad"
        );
        assert_eq!(
            refusal(http::StatusCode::NOT_FOUND, "u", "gone\n"),
            "gone (404 Not Found from u)"
        );
    }
}

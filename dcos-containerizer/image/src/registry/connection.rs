//! Requests to one registry: as whom, and how much of an answer is taken in.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::Serializer;
use http_auth::ChallengeParser;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::Registry;
use super::failure::Failure;
use crate::credentials::Credential;

/// What a token, or the reasons of a refusal, may have, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Of a challenge that is not understood, so many characters are told.
const TOLD: usize = 100;

/// How long a document may take as a whole. A layer may take as long as it goes on.
const DOCUMENT: Duration = Duration::from_secs(300);

/// How long a connection may take to be made, if a download may stand still for longer.
const CONNECT: Duration = Duration::from_secs(30);

/// As whom a token is asked for with an identity token.
const CLIENT: &str = "dcos";

/// What is sent as `Authorization`, if anything is.
type Access = Option<HeaderValue>;

/// One repository of a registry.
///
/// # Source
/// OCI distribution specification 1.1; tokens as `spec/auth/token.md` and `oauth.md` of the Docker registry have them.
pub(super) struct Connection {
    client: Client,
    /// Goes nowhere that it is led to: redirects repeat a body, and what that holds.
    faithful: Client,
    /// `https://host:port/v2/`.
    base: String,
    plain: bool,
    repository: String,
    credential: Option<Credential>,
    /// Once the registry was asked what it wants.
    access: Mutex<Option<Access>>,
}

impl Connection {
    pub(super) fn new(
        registry: &Registry,
        repository: String,
        credential: Option<Credential>,
        stall_timeout: Duration,
    ) -> Result<Self, Failure> {
        let client = || {
            Client::builder()
                .user_agent(concat!("dcos/", env!("CARGO_PKG_VERSION")))
                // A host that it leads to is not told from where, which may be signed.
                .referer(false)
                .read_timeout(stall_timeout)
                .connect_timeout(stall_timeout.min(CONNECT))
        };
        let scheme = if registry.plain { "http" } else { "https" };
        Ok(Self {
            client: client().build()?,
            faithful: client().redirect(Policy::none()).build()?,
            base: format!("{scheme}://{}/v2/", registry.endpoint()),
            plain: registry.plain,
            repository,
            credential,
            access: Mutex::default(),
        })
    }

    /// Reads a document of at most so many bytes; `what` it is if it has more.
    pub(super) async fn document(
        &self,
        path: &str,
        accept: &str,
        what: &'static str,
        most: usize,
    ) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let ask = |request: RequestBuilder| request.header(ACCEPT, accept).timeout(DOCUMENT);
        let response = self.get(path, ask).await?;
        let headers = response.headers().clone();
        Ok((headers, read(response, what, most).await?))
    }

    /// Begins to read a blob, from so many bytes on if the registry can; where it begins.
    pub(super) async fn blob(&self, digest: &str, from: u64) -> Result<(Response, u64), Failure> {
        let ask = |request: RequestBuilder| match from {
            0 => request,
            _ => request.header(RANGE, format!("bytes={from}-")),
        };
        let response = self.get(&format!("blobs/{digest}"), ask).await?;
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        Ok((response, if is_part { from } else { 0 }))
    }

    /// Asks for something of the repository; again if the registry has enough of a token.
    async fn get(
        &self,
        path: &str,
        ask: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let url = format!("{}{}/{path}", self.base, self.repository);
        let send = |access: &Access| {
            // Not sent on to another host that this one may lead to.
            let request = ask(self.client.get(&url));
            with(request, access).send()
        };
        let access = self.access(None, Wanted::Unsaid).await?;
        let mut response = send(&access).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let wanted = self.wanted(&response);
            let renewed = self.access(Some(&access), wanted).await?;
            if renewed != access {
                response = send(&renewed).await?;
            }
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    /// What to show; found anew, for what is `wanted`, if that is still what is `spent`.
    async fn access(&self, spent: Option<&Access>, wanted: Wanted) -> Result<Access, Failure> {
        let mut known = self.access.lock().await;
        if let Some(access) = &*known
            && spent != Some(access)
        {
            return Ok(access.clone());
        }
        let access = self.authorize(wanted).await?;
        *known = Some(access.clone());
        Ok(access)
    }

    async fn authorize(&self, wanted: Wanted) -> Result<Access, Failure> {
        let basic = match &self.credential {
            Some(Credential::Token(token)) => return bearer(token).map(Some),
            Some(Credential::Basic { user, password }) => {
                let text = STANDARD.encode(format!("{user}:{password}"));
                Some(secret(&format!("Basic {text}"))?)
            }
            Some(Credential::Identity(_)) | None => None,
        };
        let wanted = match wanted {
            // Whatever else it says: what it wants stands in the header.
            Wanted::Unsaid => {
                let ping = self.client.get(&self.base).timeout(DOCUMENT).send().await?;
                self.wanted(&ping)
            }
            said => said,
        };
        match wanted {
            Wanted::Token(challenge) => self.token(challenge, basic).await.map(Some),
            Wanted::Basic | Wanted::Other(_) if self.identity().is_some() => Err(Failure::Denied(
                "it gives no tokens, and an identity token is good for nothing else".to_owned(),
            )),
            Wanted::Basic => Ok(basic),
            Wanted::Other(text) if basic.is_some() => Err(Failure::Denied(format!(
                "it asks for '{text}', which is neither Basic nor Bearer as they are written"
            ))),
            Wanted::Other(_) | Wanted::Unsaid => Ok(None),
        }
    }

    fn identity(&self) -> Option<&str> {
        match &self.credential {
            Some(Credential::Identity(token)) => Some(token),
            _ => None,
        }
    }

    /// What an answer of the registry asks for. Of another host, to which it led, nothing counts: our password is none of
    /// its business.
    fn wanted(&self, response: &Response) -> Wanted {
        let own = Url::parse(&self.base).ok().map(|url| url.origin());
        if own != Some(response.url().origin()) {
            return Wanted::Unsaid;
        }
        let said = response.headers().get_all(WWW_AUTHENTICATE);
        let said: Vec<&str> = said.iter().filter_map(|one| one.to_str().ok()).collect();
        Wanted::read(&said)
    }

    async fn token(&self, challenge: Challenge, basic: Access) -> Result<HeaderValue, Failure> {
        let denied = |why: &str| Failure::Denied(format!("its token server {why}"));
        let Ok(mut url) = Url::parse(&challenge.realm) else {
            return Err(denied("has no address"));
        };
        let identity = self.identity();
        let shows_a_secret = basic.is_some() || identity.is_some();
        if !self.plain && url.scheme() != "https" && shows_a_secret {
            return Err(denied("would learn the password without TLS"));
        }
        let mut asked = vec![("scope", format!("repository:{}:pull", self.repository))];
        asked.extend(challenge.service.map(|service| ("service", service)));
        let request = if let Some(identity) = identity {
            asked.extend([
                ("grant_type", "refresh_token".to_owned()),
                ("client_id", CLIENT.to_owned()),
                ("refresh_token", identity.to_owned()),
            ]);
            self.faithful
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Serializer::new(String::new()).extend_pairs(asked).finish())
        } else {
            url.query_pairs_mut().extend_pairs(asked);
            self.client.get(url)
        };
        let request = request.timeout(DOCUMENT);
        let response = with(request, &basic).send().await?;
        if !response.status().is_success() {
            return Err(match refusal(response).await {
                failure if failure.is_passing() => failure,
                failure => denied(&format!("refuses: {failure}")),
            });
        }
        let answer = read(response, "a token", MAX_ANSWER).await?;
        let Ok(answer) = serde_json::from_slice::<Token>(&answer) else {
            return Err(denied("gave something that is no token"));
        };
        let given = [answer.token, answer.access_token].into_iter().flatten();
        match given.into_iter().find(|token| !token.is_empty()) {
            Some(token) => bearer(&token),
            None => Err(denied("gave no token")),
        }
    }
}

fn with(request: RequestBuilder, access: &Access) -> RequestBuilder {
    match access {
        Some(access) => request.header(AUTHORIZATION, access),
        None => request,
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| Failure::Denied("a token that HTTP cannot carry".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Takes in an answer of at most so many bytes.
async fn read(mut response: Response, what: &'static str, most: usize) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::TooLarge { what, most };
    let said = response.content_length().unwrap_or(0);
    if usize::try_from(said).is_ok_and(|said| said > most) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(part) = response.chunk().await? {
        if part.len() > most - bytes.len() {
            return Err(too_large());
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// What an answer says that is no success. Reasons that do not end are none.
async fn refusal(response: Response) -> Failure {
    let (code, url) = (response.status().as_u16(), response.url().clone());
    let after = response.headers().get(RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let reasons = tokio::time::timeout(DOCUMENT, read(response, "a refusal", MAX_ANSWER)).await;
    let reasons = reasons.ok().and_then(Result::ok);
    Failure::status(code, &url, after, &reasons.unwrap_or_default())
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Where tokens are given, and for whom.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
}

/// What is to be shown.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// Nothing was said of it.
    Unsaid,
    /// A token.
    Token(Challenge),
    /// A name and a password.
    Basic,
    /// Something else, in its words.
    Other(String),
}

impl Wanted {
    /// Reads the challenges of an answer. If there are several, a token it is.
    fn read(said: &[&str]) -> Self {
        let mut wanted = Self::Unsaid;
        for text in said {
            for challenge in ChallengeParser::new(text).filter_map(Result::ok) {
                let parameter = |name: &str| {
                    let mut found = challenge.params.iter();
                    let found = found.find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("Bearer")
                    && let Some(realm) = parameter("realm")
                {
                    let service = parameter("service");
                    return Self::Token(Challenge { realm, service });
                }
                if challenge.scheme.eq_ignore_ascii_case("Basic") {
                    wanted = Self::Basic;
                }
            }
        }
        if wanted == Self::Unsaid && !said.is_empty() {
            return Self::Other(said.join(", ").chars().take(TOLD).collect());
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let token = |realm: &str, service: Option<&str>| {
            Wanted::Token(Challenge {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull""#;
        let both = r#"Basic realm="x", Bearer realm="https://a/t""#;
        let unquoted = "Bearer realm=https://a/t";
        for (said, wanted) in [
            (&[][..], Wanted::Unsaid),
            (
                &[hub],
                token("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                &[r#"bearer Realm="https://a/t""#],
                token("https://a/t", None),
            ),
            (
                &[r#"Basic realm="https://1.ecr/",service="e""#],
                Wanted::Basic,
            ),
            (&[both], token("https://a/t", None)),
            (
                &[r#"Basic realm="x""#, r#"Bearer realm="https://a/t""#],
                token("https://a/t", None),
            ),
            (&["Negotiate", r#"Basic realm="x""#], Wanted::Basic),
            (&["Negotiate"], Wanted::Other("Negotiate".to_owned())),
            (&[unquoted], Wanted::Other(unquoted.to_owned())),
        ] {
            assert_eq!(Wanted::read(said), wanted, "{said:?}");
        }
    }
}

//! Whose web pages may have a browser ask for something here: those served from here, and those of origins an operator names.
//!
//! A page of any site can have a browser send a POST without a body, or with a form, to whatever the browser reaches, and open
//! a WebSocket there; only the browser tells where the page is from (`Sec-Fetch-Site`, `Origin`). Whoever tells neither is no
//! browser, and is let in. A proxy that changes `Host` says in `X-Forwarded-Host` what it was; no page can add that header
//! without being asked first. Host and port are compared, but no scheme: who ends TLS before this is seldom told by.
//!
//! Source: `--access_control_allow_origin` and the headers of Marathon 1.11's `CORSFilter`. Departures: the original lets in
//! pages of all origins, and sends one header for each that is allowed, of which the last one counts. Mesos and Admin Router
//! look at no origin.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST,
    HeaderName, HeaderValue, ORIGIN, UPGRADE, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::{Refusal, reply};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The `Host` that a proxy was asked for.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What no page can be served from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said:?} is no origin: {why}")]
pub struct OriginError {
    said: String,
    why: &'static str,
}

const FORM: &str = "*, null or scheme://host[:port] is expected, as in https://ui.example.org";
const WILDCARD: &str =
    "* stands for all or for nothing; name each origin, as in https://ui.example.org";

/// An origin as browsers write it.
fn written(said: String) -> Result<String, OriginError> {
    if said == "*" || said == "null" {
        return Ok(said);
    }
    let refused = |why| {
        let said = said.clone();
        Err(OriginError { said, why })
    };
    if said.contains('*') {
        return refused(WILDCARD);
    }
    let Some((scheme, host)) = said.split_once("://") else {
        return refused(FORM);
    };
    let mut letters = scheme.bytes();
    let is_scheme = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || b"+-.".contains(&letter));
    let has_form = |host: &Authority| {
        let port = host.as_str().strip_prefix(host.host());
        let is_port = port.is_some_and(|port| port.is_empty() || host.port_u16().is_some());
        is_port && !host.host().is_empty()
    };
    if !is_scheme || !host.parse().as_ref().is_ok_and(has_form) {
        return refused(FORM);
    }
    let scheme = scheme.to_ascii_lowercase();
    let host = host.strip_suffix(usual(&scheme)).unwrap_or(host);
    Ok(format!("{scheme}://{}", host.to_ascii_lowercase()))
}

/// The port that browsers leave out.
fn usual(scheme: &str) -> &'static str {
    match scheme {
        "https" => ":443",
        _ => ":80",
    }
}

/// A request that a page of another origin had a browser send: 403, and what to do.
///
/// It names the programs' option; who has another one says so after [`Foreign::why`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The page's origin, or what is known of it.
    pub origin: String,
}

impl Foreign {
    /// What people are told; `option` is where an operator would allow the origin.
    pub fn why(&self, option: &str) -> String {
        format!(
            "A page of {} may change nothing here: send the request without a browser, from a page of this \
             service, or have an operator allow that origin ({option}).",
            self.origin
        )
    }
}

impl IntoResponse for Foreign {
    fn into_response(self) -> Response {
        Refusal::forbidden(self.why(Origins::OPTION)).into_response()
    }
}

/// The origins of other web pages that are let in; none by default.
///
/// ```
/// use dcos_wire::Origins;
///
/// assert!(Origins::new(["https://ui.example.org".to_owned()]).is_ok());
/// assert!(Origins::new(["ui.example.org/".to_owned()]).is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    allowed: Option<Arc<[String]>>,
}

impl Origins {
    /// The option of the programs that names them.
    pub const OPTION: &str = "--http_allowed_origins";

    /// Lets in pages of these origins; `*` is all, and `null` those that browsers name none of, as files and what a redirect to
    /// another host led here.
    ///
    /// # Errors
    /// [`OriginError`] with the first that is none.
    pub fn new(allowed: impl IntoIterator<Item = String>) -> Result<Self, OriginError> {
        let allowed: Arc<[String]> = allowed.into_iter().map(written).collect::<Result<_, _>>()?;
        Ok(Self {
            allowed: Some(allowed),
        })
    }

    /// Those that were named, if any.
    pub fn list(&self) -> Option<&[String]> {
        self.allowed.as_deref()
    }

    /// The router, for pages that are let in; others are told so in plain text.
    pub fn protect(&self, router: Router) -> Router {
        self.before(router, Foreign::into_response)
    }

    /// Stands before each path of `router`, which `refuse` answers for where a page may not ask.
    pub fn before(&self, router: Router, refuse: fn(Foreign) -> Response) -> Router {
        let door = Door {
            origins: self.clone(),
            refuse,
        };
        router.layer(from_fn_with_state(door, admit))
    }

    /// Whose page asks to change something, or for a connection of another protocol, and may not.
    pub fn foreign(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Foreign> {
        if method.is_safe() && !headers.contains_key(UPGRADE) {
            return None;
        }
        self.stranger(uri, headers)
    }

    /// The same, and whose page asks for a read that does more than that: a change of the log, or the answer as a script that runs in
    /// it.
    pub fn refused(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Foreign> {
        if is_worth_more_than_reading(uri) {
            self.stranger(uri, headers)
        } else {
            self.foreign(method, uri, headers)
        }
    }

    /// What of the answer's header says that a page of `origin` may read it.
    fn allowing(&self, origin: &str) -> Option<&str> {
        let mut allowed = self.allowed.iter().flat_map(|allowed| allowed.iter());
        let known = allowed.find(|allowed| *allowed == "*" || allowed.eq_ignore_ascii_case(origin));
        known.map(String::as_str)
    }

    /// Where the page is from, if it is neither from here nor let in.
    fn stranger(&self, uri: &Uri, headers: &HeaderMap) -> Option<Foreign> {
        let text = |name: &HeaderName| headers.get(name).map(|text| text.to_str().unwrap_or("?"));
        let site = text(&FETCH_SITE);
        if matches!(site, Some("same-origin" | "none")) {
            return None;
        }
        let foreign = |origin: &str| {
            let origin = origin.to_owned();
            Foreign { origin }
        };
        // Browsers name no origin where a page shows something of others: a script, an image, a link.
        let Some(origin) = text(&ORIGIN) else {
            let site = site.filter(|_| self.allowing("").is_none());
            return site.map(|_| foreign("another site"));
        };
        if self.allowing(origin).is_some() {
            return None;
        }
        // Each proxy has its own idea of what it was asked for, and adds a port or not.
        let named = [&FORWARDED_HOST, &HOST].map(|name| headers.get_all(name));
        let named = named.into_iter().flatten();
        let named = named.filter_map(|hosts| hosts.to_str().ok());
        let named = named.flat_map(|hosts| hosts.split(','));
        let mut named = named.chain(uri.authority().map(Authority::as_str));
        let is_own = origin.split_once("://").is_some_and(|(scheme, page)| {
            let usual = usual(scheme);
            named.any(|host| {
                let host = host.trim();
                page.eq_ignore_ascii_case(host.strip_suffix(usual).unwrap_or(host))
            })
        });
        (!is_own || site.is_some()).then(|| foreign(origin))
    }
}

/// What a page of another site gets by being shown the answer: a change of the log, or the answer as a script that runs in it.
fn is_worth_more_than_reading(uri: &Uri) -> bool {
    let mut query = uri.query().unwrap_or_default().split('&');
    uri.path().ends_with("/logging/toggle") || query.any(|word| word.starts_with("jsonp="))
}

#[derive(Clone)]
struct Door {
    origins: Origins,
    refuse: fn(Foreign) -> Response,
}

async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let Door { origins, refuse } = door;
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    if let Some(foreign) = origins.refused(method, uri, headers) {
        return refuse(foreign);
    }
    let Some(origin) = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return next.run(request).await;
    };
    let Some(shown) = origins.allowing(origin) else {
        return next.run(request).await;
    };
    let value = if shown == "*" { shown } else { origin };
    let value = HeaderValue::from_str(value).ok();
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let asks =
        request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if asks {
        reply::text(StatusCode::OK, "")
    } else {
        next.run(request).await
    };
    let fixed = |text| Some(HeaderValue::from_static(text));
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, value),
        (ACCESS_CONTROL_ALLOW_HEADERS, wanted),
        (ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, HEAD, OPTIONS")),
        (ACCESS_CONTROL_MAX_AGE, fixed("86400")),
    ] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    let varies = HeaderValue::from_static("Origin");
    response.headers_mut().append(VARY, varies);
    response
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;

    /// Whether a page is let in, by what its browser says.
    fn let_in(allowed: &[&str], method: &Method, said: &[(&'static str, &str)]) -> bool {
        let origins = match allowed {
            [] => Origins::default(),
            some => Origins::new(some.iter().map(|origin| (*origin).to_owned())).unwrap(),
        };
        let said = said.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        let uri = Uri::from_static("/v2/apps//a/restart");
        origins.foreign(method, &uri, &said.collect()).is_none()
    }

    #[test]
    fn who_is_let_in() {
        let host = ("host", "Marathon.example:8080");
        let own = ("origin", "http://marathon.example:8080");
        let other = ("origin", "http://elsewhere.example");
        let null = ("origin", "null");
        let site = |site| ("sec-fetch-site", site);
        for (said, expected) in [
            (vec![host], true),
            (vec![host, own], true),
            (vec![host, own, site("same-origin")], true),
            (vec![host, site("none")], true),
            (vec![host, other], false),
            (vec![host, null], false),
            (vec![host, site("cross-site")], false),
            (vec![host, other, site("cross-site")], false),
            // A page of another port of the host is another page, and the browser knows.
            (vec![host, own, site("same-site")], false),
            (vec![host, ("origin", "http://marathon.example")], false),
            // Through a proxy that has a name of its own.
            (vec![("host", "10.0.0.1:8080"), own], false),
            (
                vec![("host", "10.0.0.1:8080"), ("x-forwarded-host", host.1), own],
                true,
            ),
            (
                vec![host, ("x-forwarded-host", "marathon.example"), own],
                true,
            ),
            (
                vec![
                    ("x-forwarded-host", "inner.example, marathon.example:8080"),
                    own,
                ],
                true,
            ),
            (
                vec![("host", "a.example:80"), ("origin", "http://a.example")],
                true,
            ),
            (
                vec![("host", "a.example:80"), ("origin", "https://a.example")],
                false,
            ),
        ] {
            assert_eq!(let_in(&[], &Method::POST, &said), expected, "{said:?}");
            assert!(let_in(&[], &Method::GET, &said), "{said:?}");
            assert!(let_in(&["*"], &Method::POST, &said), "{said:?}");
            // A WebSocket begins with a GET.
            let upgraded = [&said[..], &[("upgrade", "websocket")]].concat();
            assert_eq!(let_in(&[], &Method::GET, &upgraded), expected, "{said:?}");
        }
        let unnamed = [host, null, site("cross-site")];
        assert!(let_in(&["null"], &Method::POST, &unnamed));
        let allowed = ["https://UI.example:443", "http://elsewhere.example:80"];
        assert!(let_in(
            &allowed,
            &Method::DELETE,
            &[host, other, site("cross-site")]
        ));
        assert!(!let_in(
            &allowed,
            &Method::DELETE,
            &[host, ("origin", "http://ui.example")]
        ));
    }

    async fn answer(origins: &Origins, path: &str, said: &[(&str, &str)]) -> Response {
        let inside = Router::new().fallback(async || [(VARY, "accept-encoding")]);
        let mut request = Request::get(path);
        for (name, value) in said {
            request = request.header(*name, *value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        let router = origins.protect(inside);
        router.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn what_does_more_than_read_is_for_pages_that_are_let_in() {
        let site = |site| [("sec-fetch-site", site)];
        let toggle = "/logging/toggle?level=1&duration=1secs";
        let (none, all) = (Origins::default(), Origins::new(["*".to_owned()]).unwrap());
        for (path, said, expected) in [
            ("/state", "cross-site", 200),
            ("/state?jsonp=show", "cross-site", 403),
            ("/state?jsonp=show", "same-origin", 200),
            (toggle, "cross-site", 403),
            (toggle, "none", 200),
        ] {
            let status = answer(&none, path, &site(said)).await.status();
            assert_eq!(status, expected, "{path} {said}");
            let status = answer(&all, path, &site(said)).await.status();
            assert_eq!(status, StatusCode::OK, "{path} {said}");
        }
    }

    #[tokio::test]
    async fn pages_that_are_let_in_may_read_the_answer() {
        let origins = Origins::new(["https://ui.example".to_owned()]).unwrap();
        let said = |origin| [("origin", origin)];
        let shown = answer(&origins, "/", &said("https://ui.example")).await;
        let header = &shown.headers()[ACCESS_CONTROL_ALLOW_ORIGIN];
        assert_eq!(header, "https://ui.example");
        let varies: Vec<&HeaderValue> = shown.headers().get_all(VARY).iter().collect();
        assert_eq!(varies, ["accept-encoding", "Origin"]);
        let hidden = answer(&origins, "/", &said("https://other.example")).await;
        assert!(!hidden.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn what_is_an_origin() {
        for (text, good) in [
            ("*", true),
            ("null", true),
            ("https://*.example", false),
            ("http://a.example:99999", false),
            ("http://a.example:", false),
            ("://a.example", false),
            ("http://a.example", true),
            ("https://a.example:8443", true),
            ("http://[::1]:80", true),
            ("a.example", false),
            ("http://a.example/", false),
            ("http://user@a.example", false),
            ("", false),
        ] {
            assert_eq!(Origins::new([text.to_owned()]).is_ok(), good, "{text}");
        }
        let refused = Origins::new(["https://*.example".to_owned()]).unwrap_err();
        assert!(
            refused.to_string().contains("name each origin"),
            "{refused}"
        );
        for (said, written) in [
            ("HTTPS://A.example:443", "https://a.example"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://a.example:443", "http://a.example:443"),
        ] {
            let origins = Origins::new([said.to_owned()]).unwrap();
            assert_eq!(origins.list().unwrap(), [written]);
        }
    }
}

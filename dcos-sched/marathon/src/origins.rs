//! Whose web pages may have a browser ask for something here: the service's own, and those of origins an operator names.
//!
//! A page of any site can have a browser send a POST without a body, or with a form, to whatever the browser reaches; only the
//! browser tells where the page is from (`Sec-Fetch-Site`, `Origin`). Whoever tells neither is no browser, and is let in. A
//! proxy that changes `Host` says in `X-Forwarded-Host` what it was; no page can add that header without being asked first.
//!
//! Source: `--access_control_allow_origin` and the headers of Marathon 1.11's `CORSFilter`. Departures: the original lets in
//! pages of all origins, and sends one header for each that is allowed, of which the last one counts.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::json;

use crate::api::{json_with, typed};
use crate::standby::FORWARDED_HOST;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What no page can be served from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: * or scheme://host[:port] is expected, as in https://ui.example.org")]
pub struct OriginError(String);

/// The origins of other web pages that are let in.
///
/// ```
/// use dcos_marathon::Origins;
///
/// assert!(Origins::new(["https://ui.example.org".to_owned()]).is_ok());
/// assert!(Origins::new(["ui.example.org/".to_owned()]).is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    allowed: Option<Arc<[String]>>,
}

impl Origins {
    /// Lets in pages of these origins; `*` is all.
    ///
    /// # Errors
    /// [`OriginError`] with the first that is none.
    pub fn new(allowed: impl IntoIterator<Item = String>) -> Result<Self, OriginError> {
        let allowed = allowed.into_iter().map(|origin| {
            let parts = origin.split_once("://");
            let is_plain = |(scheme, host): (&str, &str)| {
                !scheme.is_empty() && host.parse::<Authority>().is_ok() && !host.contains('@')
            };
            if origin == "*" || parts.is_some_and(is_plain) {
                Ok(origin)
            } else {
                Err(OriginError(origin))
            }
        });
        let allowed: Arc<[String]> = allowed.collect::<Result<_, _>>()?;
        Ok(Self {
            allowed: Some(allowed),
        })
    }

    /// Those that were named, if any.
    pub fn list(&self) -> Option<&[String]> {
        self.allowed.as_deref()
    }

    /// Stands before each path of `router`.
    pub(crate) fn before(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), admit))
    }

    /// What of the answer's header says that a page of `origin` may read it.
    fn allowing(&self, origin: &str) -> Option<&str> {
        let mut allowed = self.allowed.iter().flat_map(|allowed| allowed.iter());
        let known = allowed.find(|allowed| *allowed == "*" || allowed.eq_ignore_ascii_case(origin));
        known.map(String::as_str)
    }

    /// Where the page is from that must not have this asked for.
    fn foreign<'a>(&self, method: &Method, uri: &Uri, headers: &'a HeaderMap) -> Option<&'a str> {
        if method.is_safe() {
            return None;
        }
        let text = |name: &HeaderName| headers.get(name).map(|text| text.to_str().unwrap_or("?"));
        let site = text(&FETCH_SITE);
        if matches!(site, Some("same-origin" | "none")) {
            return None;
        }
        let Some(origin) = text(&ORIGIN) else {
            return site.map(|_| "another site");
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
            let usual = match scheme {
                "https" => ":443",
                _ => ":80",
            };
            named.any(|host| {
                let host = host.trim();
                page.eq_ignore_ascii_case(host.strip_suffix(usual).unwrap_or(host))
            })
        });
        (!is_own || site.is_some()).then_some(origin)
    }
}

async fn admit(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if let Some(origin) = origins.foreign(request.method(), request.uri(), headers) {
        let message = format!(
            "A page of {origin} may change nothing here: send the request without a browser, from a page of this \
             service, or have an operator allow that origin (access_control_allow_origin)."
        );
        return json_with(StatusCode::FORBIDDEN, &json!({"message": message}));
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
        typed(StatusCode::OK, "text/plain", "")
    } else {
        next.run(request).await
    };
    let fixed = |text| Some(HeaderValue::from_static(text));
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, value),
        (ACCESS_CONTROL_ALLOW_HEADERS, wanted),
        (ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, HEAD, OPTIONS")),
        (ACCESS_CONTROL_MAX_AGE, fixed("86400")),
        (VARY, fixed("Origin")),
    ] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
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
            assert!(
                let_in(&["*"], &Method::POST, &said)
                    || !said.iter().any(|(name, _)| *name == "origin")
            );
        }
        let allowed = ["https://ui.example", "http://elsewhere.example"];
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

    #[test]
    fn what_is_an_origin() {
        for (text, good) in [
            ("*", true),
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
    }
}

//! Credentials in a URL: `http://ops:secret@10.0.0.1:5050`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Uri};

/// Moves what stands before the host into `Authorization` (HTTP basic), unless that says something
/// already: servers don't look for it in the URL, and logs must not show it.
pub(super) fn to_header(parts: &mut Parts) {
    let Some((info, host)) = parts
        .uri
        .authority()
        .and_then(|authority| authority.as_str().rsplit_once('@'))
    else {
        return;
    };
    let plain = unescape(info);
    let mut uri = parts.uri.clone().into_parts();
    uri.authority = Authority::try_from(host).ok();
    let Ok(bare) = Uri::from_parts(uri) else {
        return;
    };
    parts.uri = bare;
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)));
    if let Ok(mut value) = value {
        value.set_sensitive(true);
        parts.headers.entry(AUTHORIZATION).or_insert(value);
    }
}

/// Undoes percent-encoding; a secret may hold what a URL can't.
fn unescape(text: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn credentials_leave_the_url() {
        let check = |url: &str, bare: &str, header: Option<&str>| {
            let mut parts = Request::get(url).body(()).unwrap().into_parts().0;
            to_header(&mut parts);
            assert_eq!(parts.uri.to_string(), bare);
            let found = parts.headers.get(AUTHORIZATION);
            assert_eq!(found.map(|value| value.to_str().unwrap()), header);
        };
        check("http://h:1/x?y", "http://h:1/x?y", None);
        check(
            "http://ops:s@h:1/x?y",
            "http://h:1/x?y",
            Some("Basic b3BzOnM="),
        );
        check("http://o:a%40b@h/", "http://h/", Some("Basic bzphQGI="));
    }
}

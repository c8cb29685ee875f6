use http::Request;

use super::*;
use crate::decide::{Redirects, Target};
use crate::route::Ways;

fn parts(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get("/x");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn forward() -> Forward {
    Forward {
        to: Target::Member("http://10.0.0.1:1".parse().unwrap()),
        path: "/".to_owned(),
        ways: Ways::PLAIN,
        upgrades: true,
        unpacked: false,
        marked: false,
        limit: 1,
        redirects: Redirects::Kept,
    }
}

fn sent(headers: &[(&str, &str)], forward: &Forward) -> HeaderMap {
    let mut headers = parts(headers).headers;
    let host = Authority::from_static("dcos");
    onward(
        &mut headers,
        &host,
        Some([10, 0, 0, 9].into()),
        Scheme::Https,
        forward,
    );
    headers
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_refused() {
    let (host, none) = (("host", "dcos"), Origins::default());
    for (headers, status) in [
        (vec![host], 200),
        (vec![], 400),
        (vec![host, ("host", "other")], 400),
        (vec![("host", "a@b")], 400),
        (vec![("host", "a b")], 400),
        (vec![("host", "")], 400),
        (
            vec![
                host,
                ("content-length", "5"),
                ("transfer-encoding", "chunked"),
            ],
            400,
        ),
        (
            vec![host, ("content-length", "5"), ("content-length", "5")],
            400,
        ),
        (vec![host, ("transfer-encoding", "chunked")], 200),
        (vec![host, ("transfer-encoding", "gzip, chunked")], 501),
        (vec![host, ("transfer-encoding", "xchunked")], 501),
        (
            vec![
                host,
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "identity"),
            ],
            501,
        ),
        (
            vec![
                host,
                (
                    "x-forwarded-for",
                    "1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1",
                ),
            ],
            508,
        ),
    ] {
        let found =
            check(&parts(&headers), &none).map_or_else(|(status, _)| status.as_u16(), |_| 200);
        assert_eq!(found, status, "{headers:?}");
    }
    let mut connect = parts(&[host]);
    connect.method = Method::TRACE;
    assert_eq!(
        check(&connect, &none).unwrap_err().0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let mut absolute = parts(&[host]);
    absolute.uri = "http://named/x".parse().unwrap();
    assert_eq!(check(&absolute, &none).unwrap(), "named");
}

#[test]
fn pages_of_other_sites_change_nothing_and_open_no_socket() {
    let allowed = Origins::new(["https://ui.example".to_owned()]).unwrap();
    let host = ("host", "dcos:8880");
    let socket = ("upgrade", "websocket");
    for (origin, expected) in [
        ("http://dcos:8880", 200),
        ("https://ui.example", 200),
        ("http://dcos", 403),
        ("http://elsewhere.example", 403),
        ("null", 403),
    ] {
        let said = [host, ("origin", origin)];
        let mut post = parts(&said);
        post.method = Method::POST;
        let upgrade = parts(&[&said[..], &[socket]].concat());
        for (asked, expected) in [(post, expected), (upgrade, expected), (parts(&said), 200)] {
            let found = check(&asked, &allowed);
            let found = found.map_or_else(|(status, _)| status.as_u16(), |_| 200);
            assert_eq!(found, expected, "{} {origin}", asked.method);
        }
    }
    let mut foreign = parts(&[host, ("origin", "http://elsewhere.example")]);
    foreign.method = Method::DELETE;
    let (_, why) = check(&foreign, &allowed).unwrap_err();
    assert!(why.contains("http://elsewhere.example"), "{why}");
    assert!(why.contains("--http_allowed_origins"), "{why}");
}

#[test]
fn what_speaks_of_one_connection_stays_behind() {
    let headers = sent(
        &[
            ("connection", "close, X-Private, host, authorization"),
            ("x-private", "1"),
            ("authorization", "token=x"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "close"),
            ("expect", "100-continue"),
            ("x-kept", "1"),
        ],
        &forward(),
    );
    let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    let mut names = names.clone();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "authorization",
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-kept",
            "x-real-ip"
        ]
    );
}

#[test]
fn who_asks_is_told_to_those_behind() {
    let headers = sent(
        &[("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "6.6.6.6")],
        &forward(),
    );
    assert_eq!(text(&headers, "host"), Some("dcos"));
    assert_eq!(text(&headers, "x-forwarded-for"), Some("1.1.1.1, 10.0.0.9"));
    assert_eq!(text(&headers, "x-real-ip"), Some("10.0.0.9"));
    assert_eq!(text(&headers, "x-forwarded-proto"), Some("https"));
}

#[test]
fn credentials_of_the_router_stay_with_it() {
    let cookie = |value: &str| {
        let headers = sent(&[("cookie", value)], &forward());
        text(&headers, "cookie").map(str::to_owned)
    };
    assert_eq!(
        cookie("a=b; dcos-acs-auth-cookie=x; c=d").as_deref(),
        Some("a=b; c=d")
    );
    assert_eq!(
        cookie("dcos-acs-info-cookie=x;dcos-acs-auth-cookie=y"),
        None
    );
    assert_eq!(
        cookie("a=dcos-acs-auth-cookie").as_deref(),
        Some("a=dcos-acs-auth-cookie")
    );
    let anonymous = Forward {
        ways: Ways {
            anonymous: true,
            ..Ways::PLAIN
        },
        unpacked: true,
        marked: true,
        ..forward()
    };
    let headers = sent(
        &[
            ("authorization", "token=x"),
            ("accept-encoding", "gzip"),
            ("dcos-forwarded", "no"),
        ],
        &anonymous,
    );
    assert_eq!(text(&headers, "authorization"), None);
    assert_eq!(text(&headers, "accept-encoding"), None);
    assert_eq!(text(&headers, "dcos-forwarded"), Some("true"));
}

#[test]
fn only_protocols_that_are_not_http_are_upgraded_to() {
    for (upgrade, connection, passed) in [
        ("websocket", "Upgrade", true),
        ("WebSocket", "keep-alive, upgrade", true),
        ("tcp", "upgrade", true),
        ("websocket", "close", false),
        ("h2c", "Upgrade", false),
        ("HTTP/2.0", "Upgrade", false),
        ("TLS/1.3", "Upgrade", false),
        ("websocket, h2c", "Upgrade", false),
        ("", "Upgrade", false),
    ] {
        let parts = parts(&[("upgrade", upgrade), ("connection", connection)]);
        assert_eq!(
            super::upgrade(&parts).is_some(),
            passed,
            "{upgrade} {connection}"
        );
    }
}

#[test]
fn answers_say_nothing_of_the_connection_behind() {
    let mut headers = parts(&[
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("x-accel-redirect", "/secret"),
        ("x-kept", "1"),
    ])
    .headers;
    let uncached = Forward {
        ways: Ways {
            uncached: true,
            ..Ways::PLAIN
        },
        ..forward()
    };
    back(&mut headers, &uncached);
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "expires", "pragma", "x-kept"]);
}

proptest::proptest! {
    #[test]
    fn addresses_are_written_as_the_library_does(ip: std::net::IpAddr) {
        proptest::prop_assert_eq!(super::shown(ip).unwrap(), ip.to_string());
    }
}

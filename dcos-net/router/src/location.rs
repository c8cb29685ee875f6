//! Redirects of those behind the router, as a client must see them.
//!
//! Source: `proxy_redirect` in dcos/dcos 2.2 `service-location.common.conf`. Departures: a path that has its prefix
//! already does not get it twice, and the host may be named with its port.

use crate::decide::Redirects;
use crate::world::Scheme;

/// The `Location` a client gets instead, if it must get another one. `host` is the one the client asked.
pub fn relocate(location: &str, redirects: &Redirects, host: &str) -> Option<String> {
    match redirects {
        Redirects::Kept => None,
        Redirects::Part(prefix) => {
            let path = own_path(location, Scheme::Http, host)?;
            Some(format!("{}{path}", prefix.trim_end_matches('/')))
        }
        Redirects::Service(scheme, name) => {
            let path = match own_path(location, *scheme, host) {
                Some(path) => path,
                // Two slashes begin a host.
                None if location.starts_with('/') && !location.starts_with("//") => location,
                None => return None,
            };
            let prefix = format!("/service/{name}");
            let has = path.strip_prefix(&*prefix);
            if has.is_some_and(|rest| rest.starts_with('/')) {
                return Some(path.to_owned());
            }
            Some(format!("{prefix}{path}"))
        }
    }
}

/// The path of a URL of this scheme at the host the client asked.
fn own_path<'a>(location: &'a str, scheme: Scheme, host: &str) -> Option<&'a str> {
    let behind = location
        .strip_prefix(scheme.as_str())?
        .strip_prefix("://")?;
    let (named, path) = behind.split_at(behind.find(['/', '?', '#'])?);
    let bare = |host: &str| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    };
    let same = named.eq_ignore_ascii_case(host) || named.eq_ignore_ascii_case(&bare(host));
    (same && path.starts_with('/')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_of_services_stay_within_them() {
        let service = Redirects::Service(Scheme::Http, "nest/app".to_owned());
        for (location, seen) in [
            ("/foo/bar?x", Some("/service/nest/app/foo/bar?x")),
            ("http://dcos/foo", Some("/service/nest/app/foo")),
            ("http://dcos:8080/foo", Some("/service/nest/app/foo")),
            (
                "http://dcos/service/nest/app/foo",
                Some("/service/nest/app/foo"),
            ),
            ("/service/nest/app/foo", Some("/service/nest/app/foo")),
            (
                "/service/nest/apple",
                Some("/service/nest/app/service/nest/apple"),
            ),
            ("https://dcos/foo", None),
            ("http://elsewhere/foo", None),
            ("http://dcos.evil/foo", None),
            ("//elsewhere/foo", None),
            ("foo", None),
        ] {
            let host = "DCOS:8080";
            assert_eq!(
                relocate(location, &service, host).as_deref(),
                seen,
                "{location}"
            );
        }
    }

    #[test]
    fn redirects_of_parts_get_their_prefix() {
        let part = Redirects::Part("/exhibitor/");
        let relocate = |location: &str| relocate(location, &part, "127.0.0.1");
        let seen = relocate("http://127.0.0.1/exhibitor/v1/ui/index.html");
        assert_eq!(
            seen.as_deref(),
            Some("/exhibitor/exhibitor/v1/ui/index.html")
        );
        assert_eq!(relocate("/foo"), None);
        assert_eq!(super::relocate("/foo", &Redirects::Kept, "h"), None);
    }
}

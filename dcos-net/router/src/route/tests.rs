use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn found(path: &str) -> (&'static Route, bool) {
    find(MASTER, path).unwrap()
}

#[test]
fn the_longest_pattern_wins_and_an_exact_one_over_all() {
    for (path, pattern, bare) in [
        ("/", Pattern::Under("/"), false),
        ("/index.html", Pattern::Under("/"), false),
        ("/mesosphere", Pattern::Under("/"), false),
        ("/mesos/", Pattern::Under("/mesos/"), false),
        ("/mesos/state", Pattern::Under("/mesos/"), false),
        ("/mesos", Pattern::Under("/mesos/"), true),
        ("/mesos_dns", Pattern::Under("/mesos_dns/"), true),
        ("/net", Pattern::Under("/net/"), true),
        ("/exhibitor", Pattern::Under("/exhibitor/"), true),
        ("/acs/api/v1", Pattern::Tree("/acs/api/v1"), false),
        ("/acs/api/v1/users", Pattern::Tree("/acs/api/v1"), false),
        (
            "/acs/api/v1/auth/login",
            Pattern::Under("/acs/api/v1/auth/"),
            false,
        ),
        ("/acs/api/v12", Pattern::Under("/"), false),
        (
            "/dcos-metadata/x.json",
            Pattern::Under("/dcos-metadata/"),
            false,
        ),
        (
            "/dcos-metadata/dcos-version.json",
            Pattern::Exact("/dcos-metadata/dcos-version.json"),
            false,
        ),
        (
            "/exhibitor/exhibitor/v1/cluster/status",
            Pattern::Exact("/exhibitor/exhibitor/v1/cluster/status"),
            false,
        ),
        (
            "/exhibitor/exhibitor/v1/cluster",
            Pattern::Under("/exhibitor/"),
            false,
        ),
        (
            "/system/v1/leader/mesos",
            Pattern::Tree("/system/v1/leader/mesos"),
            false,
        ),
        ("/marathon", Pattern::Exact("/marathon"), false),
        ("/marathon/v2/apps", Pattern::Under("/marathon/"), false),
        ("/metadata", Pattern::Tree("/metadata"), false),
    ] {
        let (route, without_slash) = found(path);
        assert_eq!((route.pattern, without_slash), (pattern, bare), "{path}");
    }
}

#[test]
fn what_is_open_is_on_this_list() {
    let open: BTreeSet<String> = MASTER
        .iter()
        .filter(|route| route.access == Access::Open)
        .map(|route| format!("{:?}", route.pattern))
        .collect();
    let expected = [
        r#"Exact("/ca/cacerts.jks")"#,
        r#"Exact("/ca/dcos-ca.crt")"#,
        r#"Exact("/dcos-metadata/dcos-version.json")"#,
        r#"Exact("/dcos-metadata/ui-config.json")"#,
        r#"Exact("/exhibitor/exhibitor/v1/cluster/status")"#,
        r#"Exact("/login")"#,
        r#"Exact("/marathon")"#,
        r#"Exact("/nginx/metrics")"#,
        r#"Under("/")"#,
        r#"Under("/acs/api/v1/auth/")"#,
        r#"Under("/assets/")"#,
    ];
    assert_eq!(open, expected.into_iter().map(str::to_owned).collect());
    let open = AGENT.iter().filter(|route| route.access == Access::Open);
    assert_eq!(open.count(), 3);
}

#[test]
fn patterns_are_well_formed_and_unlike_each_other() {
    for routes in [MASTER, AGENT] {
        let mut seen = BTreeSet::new();
        for route in routes {
            let text = match route.pattern {
                Pattern::Exact(text) => text,
                Pattern::Under(text) => {
                    assert!(text.ends_with('/'), "{text}");
                    text
                }
                Pattern::Tree(text) => {
                    assert!(!text.ends_with('/'), "{text}");
                    text
                }
            };
            assert_eq!(crate::path::normalize(text).as_deref(), Ok(text));
            assert!(seen.insert(text), "{text} twice");
            if let Action::Proxy(Proxy { to: Some(to), .. }) = route.action {
                assert!(to.starts_with('/'), "{text}");
                let directory = matches!(route.pattern, Pattern::Under(_));
                assert!(!directory || to.ends_with('/'), "{text}");
            }
        }
    }
}

#[test]
fn names_of_parts_are_unlike_each_other() {
    let names: BTreeSet<&str> = Part::ALL.iter().map(|part| part.name()).collect();
    let tags: BTreeSet<&str> = Part::ALL.iter().map(|part| part.tag()).collect();
    assert_eq!(
        (names.len(), tags.len()),
        (Part::ALL.len(), Part::ALL.len())
    );
}

proptest! {
    #[test]
    fn every_path_has_a_route_and_no_longer_one_fits(
        path in "/(mesos|net|service|acs|api|v1|auth|system|agent|leader|/|x){0,5}"
    ) {
        let path = crate::path::normalize(&path).unwrap();
        let (route, bare) = find(MASTER, &path).unwrap();
        let length = |pattern: Pattern| match pattern {
            Pattern::Exact(text) => (text == path, usize::MAX),
            Pattern::Under(text) => (format!("{path}/").starts_with(text), text.len()),
            Pattern::Tree(text) => (format!("{path}/").starts_with(&format!("{text}/")), text.len()),
        };
        let best = MASTER.iter().map(|route| length(route.pattern)).filter(|(fits, _)| *fits);
        let best = best.map(|(_, length)| length).max();
        prop_assert_eq!(Some(length(route.pattern).1), best);
        prop_assert!(!bare || !path.ends_with('/'));
    }
}

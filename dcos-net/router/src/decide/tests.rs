use std::sync::Arc;

use super::*;
use crate::route::{AGENT, MASTER};
use crate::world::{AppService, Apps, Cluster};

fn base(url: &str) -> Base {
    url.parse().unwrap()
}

fn rules() -> Rules {
    Rules {
        routes: MASTER,
        parts: BTreeMap::from([
            (Part::MesosDns, Place::At(base("http://127.0.0.1:8123"))),
            (Part::Net, Place::At(base("http://127.0.0.1:62080"))),
            (Part::Exhibitor, Place::At(base("http://127.0.0.1:8181"))),
            (Part::Iam, Place::At(base("http://127.0.0.1:8101"))),
            (Part::Cosmos, Place::At(base("http://127.0.0.1:7070"))),
            (Part::Logs, Place::Socket("/run/dcos/dcos-log.sock".into())),
            (
                Part::Checks,
                Place::Socket("/run/dcos/dcos-checks-api.sock".into()),
            ),
            (Part::Diagnostics, Place::At(base("http://127.0.0.1:1050"))),
        ]),
        scheme: Scheme::Http,
        masters: RouterAt::http(80),
        agents: RouterAt::http(61001),
        own_hosts: BTreeSet::from(["127.0.0.1".to_owned()]),
        origins: Origins::default(),
    }
}

fn app(url: &str, rewrites: bool) -> AppService {
    AppService {
        base: base(url),
        rewrites,
        buffers: true,
    }
}

fn cluster(frameworks: &[(&str, &str, Option<&str>)]) -> Cluster {
    let agents = [("a1-S1", "slave(1)@127.0.0.2:15001")];
    crate::world::cluster_of(frameworks, &agents)
}

fn world() -> World {
    let by_name = BTreeMap::from([
        ("app".to_owned(), app("http://127.0.0.1:16000", true)),
        ("app.nest1".to_owned(), app("http://127.0.0.1:17000", true)),
        ("raw".to_owned(), app("https://127.0.0.1:16001", false)),
    ]);
    World {
        apps: Some(Arc::new(Apps {
            by_name,
            ..Apps::default()
        })),
        cluster: Some(cluster(&[
            ("f-1", "app", Some("http://127.0.0.9:1")),
            ("f-2", "only", Some("http://127.0.0.1:18002/ui/")),
            ("f-3", "silent", Some("")),
            ("f-4", "nameless", None),
            ("f-5", "marathon", Some("http://127.0.0.2:8080")),
        ])),
        mesos_leader: Some(base("http://127.0.0.2:5050")),
        marathon_leader: Some(base("http://127.0.0.2:8080")),
    }
}

fn decide(
    method: &Method,
    path: &str,
    world: &World,
    records: &BTreeMap<String, Records>,
) -> Decision {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let path = crate::path::normalize(path).unwrap();
    let asked = Asked {
        method,
        path: &path,
        query,
        forwarded: false,
        records,
    };
    rules().decide(asked, world)
}

fn get(path: &str) -> Decision {
    decide(&Method::GET, path, &world(), &BTreeMap::new())
}

fn forward(path: &str) -> Forward {
    match get(path).step {
        Step::Forward(forward) => forward,
        step => panic!("{path}: {step:?}"),
    }
}

fn sent(path: &str) -> String {
    let forward = forward(path);
    match &forward.to {
        Target::Member(base) | Target::Service(base) => {
            format!(
                "{}://{}{}",
                base.scheme.as_str(),
                base.authority,
                forward.path
            )
        }
        Target::Socket(part) => format!("{}:{}", part.name(), forward.path),
    }
}

#[test]
fn parts_are_asked_by_the_paths_they_know() {
    for (path, expected) in [
        ("/mesos/reflect/me", "http://127.0.0.2:5050/reflect/me"),
        ("/mesos/?a=b", "http://127.0.0.2:5050/?a=b"),
        (
            "/mesos_dns/v1/reflect/me",
            "http://127.0.0.1:8123/v1/reflect/me",
        ),
        ("/net/v1/vips", "http://127.0.0.1:62080/v1/vips"),
        ("/navstar/lashup/key", "http://127.0.0.1:62080/lashup/key"),
        ("/exhibitor/foo/bar", "http://127.0.0.1:8181/foo/bar"),
        (
            "/exhibitor/exhibitor/v1/cluster/status",
            "http://127.0.0.1:8181/exhibitor/v1/cluster/status",
        ),
        (
            "/acs/api/v1/reflect/me",
            "http://127.0.0.1:8101/acs/api/v1/reflect/me",
        ),
        (
            "/acs/api/v1/auth/login",
            "http://127.0.0.1:8101/acs/api/v1/auth/login",
        ),
        (
            "/dcos-metadata/ui-config.json",
            "http://127.0.0.1:8101/acs/api/v1/uiconfig/",
        ),
        ("/package/foo/bar", "http://127.0.0.1:7070/package/foo/bar"),
        ("/capabilities", "http://127.0.0.1:7070/capabilities"),
        ("/cosmos/service/foo", "http://127.0.0.1:7070/service/foo"),
        ("/system/v1/logs/foo/bar?x", "logs:/foo/bar?x"),
        ("/system/checks/v1/node/", "checks:/system/checks/v1/node/"),
        (
            "/system/health/v1",
            "http://127.0.0.1:1050/system/health/v1",
        ),
        ("/agent/a1-S1/foo/bar", "http://127.0.0.2:15001/foo/bar"),
        ("/slave/a1-S1", "http://127.0.0.2:15001/"),
        (
            "/system/v1/agent/a1-S1/logs/foo?key=value",
            "http://127.0.0.2:61001/system/v1/logs/foo?key=value",
        ),
        (
            "/system/v1/agent/a1-S1/metrics/v0",
            "http://127.0.0.2:61001/system/v1/metrics/v0",
        ),
        (
            "/system/v1/agent/a1-S1/nginx/metrics",
            "http://127.0.0.2:61001/nginx/metrics",
        ),
        (
            "/system/v1/agent/a1-S1/dcos-metadata/dcos-version.json",
            "http://127.0.0.2:61001/dcos-metadata/dcos-version.json",
        ),
        (
            "/system/v1/leader/mesos/foo?k",
            "http://127.0.0.2:80/system/v1/foo?k",
        ),
        ("/system/v1/leader/mesos", "http://127.0.0.2:80/system/v1"),
        (
            "/system/v1/leader/marathon/",
            "http://127.0.0.2:80/system/v1/",
        ),
    ] {
        assert_eq!(sent(path), expected, "{path}");
    }
}

#[test]
fn services_are_found_by_label_then_framework() {
    for (path, expected) in [
        ("/service/app/foo/bar", "http://127.0.0.1:16000/foo/bar"),
        ("/service/app/", "http://127.0.0.1:16000/"),
        ("/service/nest1/only/x", "404"),
        (
            "/service////app///foo/bar",
            "http://127.0.0.1:16000/foo/bar",
        ),
        (
            "/service/app/foo/a%20%3F%23z/",
            "http://127.0.0.1:16000/foo/a%20%3F%23z/",
        ),
        (
            "/service/raw/x?y",
            "https://127.0.0.1:16001/service/raw/x?y",
        ),
        ("/service/f-1/x", "http://127.0.0.9:1/x"),
        ("/service/only/x", "http://127.0.0.1:18002/ui/x"),
        ("/service/nest1/app/foo", "http://127.0.0.1:17000/foo"),
        ("/service/nest1/app", "http://127.0.0.1:17000/"),
        (
            "/service////nest1////app///foo/bar",
            "http://127.0.0.1:17000/foo/bar",
        ),
        ("/service/marathon/v2/apps", "http://127.0.0.2:8080/v2/apps"),
        (
            "/marathon/v2/apps?embed=x",
            "http://127.0.0.2:8080/v2/apps?embed=x",
        ),
    ] {
        if expected == "404" {
            assert!(matches!(get(path).step, Step::Answer(404, _)), "{path}");
        } else {
            assert_eq!(sent(path), expected, "{path}");
        }
    }
    let permission = get("/service/nest1/app/x").permission;
    assert_eq!(
        permission,
        Permission::Resource("dcos:adminrouter:service:nest1/app".into())
    );
}

#[test]
fn who_can_not_be_found_is_said_to_those_who_may_know() {
    for (path, status, text) in [
        ("/service/none/x", 404, "404 Not Found: service not found."),
        (
            "/service/nameless/x",
            404,
            "404 Not Found: service not found.",
        ),
        ("/agent/none/x", 404, "404 Not Found: agent `none` unknown."),
        ("/agent/a_b/x", 404, "404 Not Found"),
        ("/system/v1/agent/a1-S1/pkgpanda/", 404, "404 Not Found"),
    ] {
        let decision = get(path);
        assert_eq!(
            decision.step,
            Step::Answer(status, text.to_owned()),
            "{path}"
        );
        assert_ne!(decision.permission, Permission::Open, "{path}");
    }
    let Step::Answer(404, text) = get("/secrets/v1/x").step else {
        panic!("an absent part")
    };
    assert!(text.contains("no secrets"), "{text}");
}

#[test]
fn what_is_not_known_yet_is_told_apart() {
    let mut world = world();
    world.apps = None;
    let step = |path: &str, world: &World| decide(&Method::GET, path, world, &BTreeMap::new()).step;
    assert_eq!(
        step("/service/only/x", &world),
        Step::Unknown("503 Service Unavailable: invalid Marathon svcapps cache")
    );
    assert!(matches!(
        step("/service/marathon/x", &world),
        Step::Forward(_)
    ));
    world = self::world();
    world.cluster = None;
    assert!(matches!(step("/service/app/x", &world), Step::Forward(_)));
    assert_eq!(
        step("/service/only/x", &world),
        Step::Unknown("503 Service Unavailable: invalid Mesos state cache")
    );
    assert_eq!(
        step("/agent/a1-S1/x", &world),
        Step::Unknown("503 Service Unavailable: cache state is invalid")
    );
    world.mesos_leader = None;
    assert!(matches!(step("/mesos/x", &world), Step::Unknown(_)));
    assert!(matches!(
        step("/system/v1/leader/mesos/x", &world),
        Step::Unknown(_)
    ));
}

#[test]
fn silent_frameworks_are_looked_up() {
    let world = world();
    let path = "/service/silent/x";
    let mut records = BTreeMap::new();
    let step =
        |records: &BTreeMap<String, Records>| decide(&Method::GET, path, &world, records).step;
    assert_eq!(step(&records), Step::LookUp("silent".to_owned()));
    records.insert("silent".to_owned(), Records::Failed);
    assert!(matches!(step(&records), Step::Answer(503, _)));
    records.insert("silent".to_owned(), Records::Absent);
    assert!(matches!(step(&records), Step::Answer(404, _)));
    records.insert(
        "silent".to_owned(),
        Records::First(base("http://127.0.0.15:16001")),
    );
    assert!(matches!(step(&records), Step::Forward(forward) if forward.path == "/x"));
}

#[test]
fn redirects_name_no_host() {
    for (path, status, to) in [
        ("/mesos?x=1", 301, "/mesos/?x=1"),
        ("/net", 301, "/net/"),
        ("/service/app", 301, "/service/app/"),
        ("/service/app?a", 301, "/service/app/?a"),
        ("/marathon?a", 307, "/marathon/?a"),
    ] {
        assert_eq!(
            get(path).step,
            Step::Redirect(status, to.to_owned()),
            "{path}"
        );
    }
}

#[test]
fn leaders_on_this_node_are_asked_here_and_loops_end() {
    let mut world = world();
    world.mesos_leader = Some(base("http://127.0.0.1:5050"));
    let ask = |path: &str| decide(&Method::GET, path, &world, &BTreeMap::new());
    let logs = ask("/system/v1/leader/mesos/logs/x");
    assert!(matches!(logs.step, Step::Forward(forward) if forward.path == "/x"));
    assert_eq!(
        logs.permission,
        Permission::Resource("dcos:adminrouter:ops:system-logs".into())
    );
    let twice = ask("/system/v1/leader/mesos/leader/mesos/logs/x");
    assert!(matches!(twice.step, Step::Answer(404, _)));
    let method = Method::GET;
    let asked = Asked {
        method: &method,
        path: "/system/v1/leader/marathon/x",
        query: None,
        forwarded: true,
        records: &BTreeMap::new(),
    };
    assert!(matches!(
        rules().decide(asked, &world).step,
        Step::Answer(503, _)
    ));
}

#[test]
fn a_framework_of_a_cluster_is_not_at_this_hosts_loopback() {
    let world = World {
        cluster: Some(cluster(&[
            ("f-1", "local", Some("http://127.0.0.1:2379/")),
            ("f-2", "cloud", Some("http://169.254.169.254/")),
            ("f-4", "remote", Some("http://10.0.0.9:8080/")),
        ])),
        ..world()
    };
    let mut rules = rules();
    // Known by another address as well, it is not alone.
    rules.own_hosts = ["10.0.0.1", "127.0.0.1", "myhost"]
        .map(str::to_owned)
        .into();
    for (path, expected) in [
        ("/service/local/", None),
        ("/service/cloud/", None),
        ("/service/app/", None),
        ("/service/remote/", Some("10.0.0.9:8080")),
    ] {
        let method = Method::GET;
        let asked = Asked {
            method: &method,
            path,
            query: None,
            forwarded: false,
            records: &BTreeMap::new(),
        };
        let found = match rules.decide(asked, &world).step {
            Step::Forward(forward) => match forward.to {
                Target::Member(base) | Target::Service(base) => Some(base.authority.to_string()),
                Target::Socket(part) => panic!("{path}: {part:?}"),
            },
            Step::Answer(403, _) => None,
            step => panic!("{path}: {step:?}"),
        };
        assert_eq!(found.as_deref(), expected, "{path}");
    }
}

#[test]
fn no_framework_takes_the_place_of_a_part_of_this_node() {
    let world = World {
        cluster: Some(cluster(&[
            ("f-1", "marathon", Some("http://10.0.0.66:8080/")),
            ("f-2", "metronome", Some("")),
        ])),
        ..world()
    };
    let mut rules = rules();
    let marathon = Place::At(base("http://127.0.0.1:18080"));
    rules.parts.insert(Part::Marathon, marathon);
    let metronome = Place::Socket("/run/dcos/metronome.sock".into());
    rules.parts.insert(Part::Metronome, metronome);
    for (path, expected) in [
        ("/marathon/v2/apps", "127.0.0.1:18080 /v2/apps"),
        ("/service/marathon/v2/apps", "127.0.0.1:18080 /v2/apps"),
        ("/service/metronome/v1/jobs", "metronome /v1/jobs"),
        // An id is nobody's choice.
        (
            "/service/f-1/v2/apps",
            "a service at 10.0.0.66:8080 /v2/apps",
        ),
    ] {
        let method = Method::GET;
        let asked = Asked {
            method: &method,
            path,
            query: None,
            forwarded: false,
            records: &BTreeMap::new(),
        };
        let Step::Forward(forward) = rules.decide(asked, &world).step else {
            panic!("{path} leads to nobody")
        };
        let to = match &forward.to {
            Target::Member(base) => base.authority.to_string(),
            Target::Service(base) => format!("a service at {}", base.authority),
            Target::Socket(part) => part.name().to_owned(),
        };
        assert_eq!(format!("{to} {}", forward.path), expected, "{path}");
    }
}

#[test]
fn a_node_that_is_known_by_loopback_is_alone_wherever_it_listens() {
    for (hosts, is_alone) in [
        (&["127.0.0.1"][..], true),
        (&["0.0.0.0", "127.0.0.1", "myhost"], true),
        (&["::", "::1"], true),
        (&["0.0.0.0", "10.0.0.1"], false),
        (&["0.0.0.0"], false),
    ] {
        let rules = Rules {
            own_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..rules()
        };
        assert_eq!(rules.is_alone(), is_alone, "{hosts:?}");
    }
}

#[test]
fn routers_of_other_nodes_are_spoken_to_as_they_serve() {
    let tls = |port| RouterAt {
        scheme: Scheme::Https,
        port,
    };
    let (masters, agents) = (tls(443), tls(61002));
    for (rules, scheme) in [
        // The cluster speaks TLS and its routers don't, and the other way round.
        (
            Rules {
                scheme: Scheme::Https,
                ..rules()
            },
            "http",
        ),
        (
            Rules {
                masters,
                agents,
                ..rules()
            },
            "https",
        ),
    ] {
        for path in [
            "/system/v1/leader/mesos/foo",
            "/system/v1/agent/a1-S1/logs/x",
        ] {
            let method = Method::GET;
            let asked = Asked {
                method: &method,
                path,
                query: None,
                forwarded: false,
                records: &BTreeMap::new(),
            };
            let step = rules.decide(asked, &world()).step;
            let Step::Forward(Forward {
                to: Target::Member(to),
                ..
            }) = step
            else {
                panic!("{path}: {step:?}");
            };
            assert_eq!(to.scheme.as_str(), scheme, "{path}");
        }
    }
}

#[test]
fn this_node_is_known_by_its_ipv6_address_too() {
    let mut world = world();
    world.mesos_leader = Some(base("http://[fd00::7]:5050"));
    let rules = Rules {
        own_hosts: BTreeSet::from(["fd00::7".to_owned()]),
        ..rules()
    };
    let method = Method::GET;
    let asked = Asked {
        method: &method,
        path: "/system/v1/leader/mesos/logs/x",
        query: None,
        forwarded: true,
        records: &BTreeMap::new(),
    };
    let step = rules.decide(asked, &world).step;
    assert!(matches!(step, Step::Forward(forward) if forward.path == "/x"));
}

#[test]
fn special_ways_are_kept() {
    assert!(forward("/mesos_dns/v1/x").ways.anonymous);
    assert!(forward("/net/v1/x").ways.anonymous);
    assert!(forward("/system/checks/v1/x").ways.anonymous);
    assert!(!forward("/mesos/x").ways.anonymous);
    assert!(forward("/acs/api/v1/x").ways.uncached);
    assert!(forward("/system/v1/logs/x").ways.accel);
    assert_eq!(forward("/package/x").ways.patience, 300);
    assert!(forward("/agent/a1-S1/x").unpacked);
    assert!(forward("/service/app/x").upgrades);
    assert!(!forward("/mesos/x").upgrades);
    assert!(forward("/system/v1/leader/mesos/x").marked);
    assert_eq!(
        forward("/exhibitor/x").redirects,
        Redirects::Part("/exhibitor/")
    );
    assert!(matches!(get("/cache/master/state").step, Step::Cached(_)));
    let post = decide(
        &Method::POST,
        "/cache/master/state",
        &world(),
        &BTreeMap::new(),
    );
    assert!(matches!(post.step, Step::Answer(405, _)));
}

#[test]
fn components_of_an_agent_can_only_be_read() {
    let rules = Rules {
        routes: AGENT,
        parts: BTreeMap::from([(Part::Pkgpanda, Place::Socket("/p".into()))]),
        ..rules()
    };
    let step = |method: &Method, path: &str| {
        let records = BTreeMap::new();
        let asked = Asked {
            method,
            path,
            query: None,
            forwarded: false,
            records: &records,
        };
        rules.decide(asked, &World::default()).step
    };
    assert!(matches!(
        step(&Method::GET, "/pkgpanda/active/"),
        Step::Forward(_)
    ));
    assert!(matches!(
        step(&Method::PUT, "/pkgpanda/active/"),
        Step::Answer(405, _)
    ));
    assert_eq!(step(&Method::GET, "/mesos/"), Step::Own(Own::Nothing));
}

#[test]
fn without_cosmos_it_is_told_what_the_cluster_can_do() {
    let ask = |parts: &[Part], frameworks: Option<&[(&str, &str, Option<&str>)]>, path: &str| {
        let mut rules = rules();
        rules.parts = parts
            .iter()
            .map(|part| (*part, Place::At(base("http://127.0.0.1:9000"))))
            .collect();
        let world = World {
            cluster: frameworks.map(cluster),
            ..world()
        };
        let asked = Asked {
            method: &Method::GET,
            path,
            query: None,
            forwarded: false,
            records: &BTreeMap::new(),
        };
        rules.decide(asked, &world)
    };
    let none = Some(&[][..]);
    let elsewhere = Some(&[("f-1", "metronome", Some("http://10.0.0.9:9000/"))][..]);
    for (parts, frameworks, expected) in [
        (&[][..], none, r#"{"capabilities":[]}"#),
        (
            &[Part::Metronome],
            None,
            r#"{"capabilities":[{"name":"METRONOME"}]}"#,
        ),
        (&[], elsewhere, r#"{"capabilities":[{"name":"METRONOME"}]}"#),
        (
            &[Part::Logs, Part::Diagnostics],
            none,
            r#"{"capabilities":[{"name":"SUPPORT_CLUSTER_REPORT"},{"name":"LOGGING"},{"name":"LOGGING_V2"}]}"#,
        ),
    ] {
        let decision = ask(parts, frameworks, "/capabilities");
        let media = "application/vnd.dcos.capabilities+json;charset=utf-8;version=v1";
        assert_eq!(
            decision.step,
            Step::Document(200, media, expected.to_owned())
        );
        let package = Permission::Resource("dcos:adminrouter:package".into());
        assert_eq!(decision.permission, package);
    }
    // Before the first word of the master nothing is denied.
    let early = ask(&[], None, "/capabilities").step;
    assert!(matches!(early, Step::Unknown(_)), "{early:?}");
    for path in [
        "/package/search",
        "/cosmos/service/describe",
        "/capabilities/x",
    ] {
        let Step::Document(404, media, text) = ask(&[], none, path).step else {
            panic!("{path}")
        };
        assert!(
            media.starts_with("application/vnd.dcos.package.error+json"),
            "{media}"
        );
        assert!(text.contains("no package management"), "{text}");
    }
}

//! Dependencies point one way: a crate may depend on crates of lower levels only, and only on those
//! listed here. A new edge is a decision, so it is made by editing this list.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate, and the crates of ours it may depend on (tests and benches of a crate included).
const EDGES: &[(&str, &[&str])] = &[
    // Level 0
    ("bench", &[]),
    ("dcos-proto", &[]),
    ("dcos-launcher", &[]),
    ("dcos-netlink", &[]),
    // Level 1
    ("dcos-core", &["dcos-proto"]),
    // Level 2
    ("dcos-wire", &["dcos-proto", "dcos-core"]),
    ("dcos-store", &["bench", "dcos-proto", "dcos-core"]),
    ("dcos-image", &["bench"]),
    ("dcos-volume", &[]),
    ("dcos-net", &["dcos-proto", "dcos-core"]),
    // Between wire and what serves with it
    ("dcos-security", &["dcos-proto", "dcos-core", "dcos-wire"]),
    // Level 3
    (
        "dcos-sched",
        &[
            "bench",
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-store",
            "dcos-security",
        ],
    ),
    (
        "dcos-containerizer",
        &[
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-image",
            "dcos-launcher",
            "dcos-security",
            "dcos-volume",
        ],
    ),
    (
        "dcos-dns",
        &[
            "bench",
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-net",
            "dcos-netlink",
        ],
    ),
    (
        "dcos-gossip",
        &["bench", "dcos-proto", "dcos-core", "dcos-wire"],
    ),
    (
        "dcos-l4lb",
        &[
            "bench",
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-net",
            "dcos-netlink",
        ],
    ),
    (
        "dcos-overlay",
        &[
            "bench",
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-store",
            "dcos-net",
            "dcos-netlink",
        ],
    ),
    // Level 4
    (
        "dcos-router",
        &["bench", "dcos-proto", "dcos-core", "dcos-wire"],
    ),
    (
        "dcos-docker",
        &[
            "dcos-proto",
            "dcos-core",
            "dcos-image",
            "dcos-containerizer",
        ],
    ),
    (
        "dcos-marathon",
        &[
            "bench",
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-store",
            "dcos-sched",
            "dcos-security",
        ],
    ),
    // Jobs run on the engine that keeps services running.
    (
        "dcos-metronome",
        &[
            "bench",
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-store",
            "dcos-sched",
            "dcos-marathon",
        ],
    ),
    // Level 5
    (
        "dcos-pkg",
        &[
            "dcos-proto",
            "dcos-core",
            "dcos-wire",
            "dcos-store",
            "dcos-marathon",
        ],
    ),
    (
        "dcos-python",
        &[
            "dcos-proto",
            "dcos-core",
            "dcos-security",
            "dcos-wire",
            "dcos-store",
            "dcos-sched",
            "dcos-marathon",
        ],
    ),
];

/// Programs, examples and whole-system tests assemble whatever they name.
const TOP: &[&str] = &[
    "dcos-program",
    "dcos-master",
    "dcos-agent",
    "dcos",
    "examples",
    "sim",
    "cluster-tests",
    "regen",
    "house",
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_edge_is_on_the_list() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        if TOP.contains(&name) {
            continue;
        }
        let allowed = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no level: list it"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            assert!(
                !ours.contains(on) || on == name || allowed.contains(&on),
                "{name} depends on {on}, which tests/house/tests/levels.rs does not allow"
            );
        }
    }
}

/// The names of all crates below `package`, build and test dependencies left out.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--prefix",
            "none",
            "-e",
            "normal",
            "-p",
            package,
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn core_holds_no_http_tls_or_socket() {
    let tree = tree("dcos-core");
    for heavy in [
        "hyper",
        "tokio",
        "rustls",
        "mio",
        "socket2",
        "axum",
        "aws-lc-rs",
    ] {
        assert!(
            !tree.contains(heavy),
            "dcos-core must not depend on {heavy}"
        );
    }
}

#[test]
fn launcher_holds_no_async_runtime() {
    let tree = tree("dcos-launcher");
    for heavy in ["tokio", "mio", "serde", "serde_json", "tracing"] {
        assert!(
            !tree.contains(heavy),
            "dcos-launcher must not depend on {heavy}"
        );
    }
}

#[test]
fn there_is_one_tls_provider() {
    for program in ["dcos-master", "dcos-agent", "dcos"] {
        let tree = tree(program);
        for second in ["ring", "openssl", "openssl-sys", "native-tls"] {
            assert!(
                !tree.contains(second),
                "{program} must not depend on {second}"
            );
        }
    }
}

//! The map does not lie: every path that ARCHITECTURE.md and the README name exists.

use std::path::Path;

/// What stands between backticks and looks like a path of this repository.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(|word| {
        let first = word.split('/').next().unwrap_or_default();
        let ours = [
            "dcos-core",
            "dcos-sched",
            "dcos-containerizer",
            "dcos-net",
            "dcos-pkg",
        ];
        let more = ["bindings", "bins", "examples", "tests"];
        word.contains('/')
            && !word.contains(['*', ' ', '<', '{', '…'])
            && (ours.contains(&first) || more.contains(&first))
    })
}

#[test]
fn every_path_on_the_map_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut missing = Vec::new();
    for page in ["ARCHITECTURE.md", "README.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        assert!(
            page == "README.md" || paths(&text).count() > 10,
            "{page} names no paths"
        );
        missing.extend(
            paths(&text)
                .filter(|path| !root.join(path).exists())
                .map(|path| format!("{page}: {path}")),
        );
    }
    assert!(missing.is_empty(), "these are gone: {missing:#?}");
}

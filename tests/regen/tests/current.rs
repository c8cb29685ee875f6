//! The checked-in message code is what the schema says.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;

fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect()
}

#[test]
fn generated_code_is_current() {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dcos-core/proto");
    let fresh = tempfile::tempdir().unwrap();
    regen::generate(&proto.join("schema"), fresh.path()).unwrap();
    let fresh = files(fresh.path());
    let checked_in = files(&proto.join("src/generated"));
    assert_eq!(
        fresh.keys().collect::<Vec<_>>(),
        checked_in.keys().collect::<Vec<_>>()
    );
    for (name, text) in &fresh {
        assert!(
            checked_in[name] == *text,
            "{name} is stale: run `cargo run -p regen`"
        );
    }
}

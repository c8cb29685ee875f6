//! `cargo run -p regen`: writes `dcos-core/proto/src/generated` anew from `dcos-core/proto/schema`.
//!
//! The generated code is checked in, so that nobody who builds the project needs this program or
//! the protobuf compiler below it. The test `generated_code_is_current` compares the two.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dcos-core/proto");
    let output = proto.join("src/generated");
    std::fs::create_dir_all(&output)?;
    regen::generate(&proto.join("schema"), &output)
}

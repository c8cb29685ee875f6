//! Generates the message code of `dcos-proto`: structs and protobuf bytes with `prost-build`, the
//! JSON dialects and the table of required fields with [`json`].
//!
//! The schema is compiled in process by `protox`; no `protoc` binary is involved.

use std::path::{Path, PathBuf};

use anyhow::Context;
use prost_reflect::DescriptorPool;

mod json;
mod names;

/// Reads every `.proto` file below `schema` and writes one Rust file a package, and for each a
/// `….json.rs` beside it, into `output`.
///
/// # Errors
/// A schema that does not compile, or files that cannot be read or written.
pub fn generate(schema: &Path, output: &Path) -> anyhow::Result<()> {
    let files = proto_files(schema)?;
    let mut compiler = protox::Compiler::new([schema])?;
    compiler.include_imports(true);
    compiler.open_files(&files)?;
    let pool: DescriptorPool = compiler.descriptor_pool();

    let mut config = prost_build::Config::new();
    config
        .out_dir(output)
        .btree_map(["."])
        .enable_type_names()
        .format(true);
    for id in names::ID_MESSAGES {
        config.type_attribute(id, "#[derive(PartialOrd, Ord)]");
    }
    // Hardly any resource is a disk, and there are no messages of which there are more.
    config.boxed(".mesos.v1.Resource.disk");
    // Of tasks a master has half a million, and most have none of these.
    for rare in ["container", "discovery", "health_check"] {
        config.boxed(format!(".mesos.v1.Task.{rare}"));
    }
    // Recursive, so prost can't tell that it could be hashed.
    config.type_attribute(".mesos.v1.ContainerID", "#[derive(Eq, Hash)]");
    config
        .compile_fds(compiler.file_descriptor_set())
        .context("prost-build")?;
    // What the schema says about itself is of no use at run time.
    for leftover in ["google.protobuf.rs", "_.rs"] {
        let _ = std::fs::remove_file(output.join(leftover));
    }

    for (package, code) in json::generate(&pool) {
        std::fs::write(output.join(format!("{package}.json.rs")), code)?;
    }
    Ok(())
}

/// The `.proto` files below `schema`, in a fixed order.
fn proto_files(schema: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![schema.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

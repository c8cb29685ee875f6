//! Unpacking an image of 5,000 files and 200 MB into the store, digests checked, beside plain
//! `tar` of the same layer, and `umoci` where it is installed. Needs root.
//!
//! `cargo bench -p dcos-image`; `-- --json` for machines, `BENCH_DIR` for another disk.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use bench::Table;
use dcos_image::{ImageStore, Request, Source, StoreConfig};
use sha2::{Digest, Sha256};

const FILES: u32 = 5_000;
const SIZE: usize = 40_000;
const ROUNDS: usize = 5;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: layers are unpacked as root");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let place = std::env::var_os("BENCH_DIR").unwrap_or_else(|| ".".into());
    let directory = tempfile::tempdir_in(place)?;
    let layer = directory.path().join("layer.tar");
    write_layer(&layer)?;
    let packed = directory.path().join("layer.tar.gz");
    let mut gzip = Command::new("gzip");
    let gzip = gzip.args(["-1", "-c"]).arg(&layer);
    gzip.stdout(File::create(&packed)?).status()?;
    let images = directory.path().join("images");
    layout(&images.join("plain"), &layer, &layer)?;
    layout(&images.join("gzip"), &layer, &packed)?;

    let mut table = Table::new("unpacking 200 MB in 5,000 files", "ms");
    for (image, file) in [("plain", &layer), ("gzip", &packed)] {
        let (mut tar, mut ours, mut umoci) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let path = |who: &str| directory.path().join(format!("{who}-{image}-{round}"));
            let target = path("tar");
            fs::create_dir(&target)?;
            let mut command = Command::new("tar");
            let tarred = command.arg("-xf").arg(file).arg("-C").arg(&target);
            tar.push(timed(|| Ok(tarred.status()?.success()))?);
            fs::remove_dir_all(&target)?;

            let target = path("store");
            let source = Source::Directory(images.clone());
            let store = ImageStore::new(StoreConfig::new(&target, source));
            runtime.block_on(store.recover())?;
            ours.push(timed(|| {
                Ok(runtime.block_on(store.get(&Request::new(image))).is_ok())
            })?);
            fs::remove_dir_all(&target)?;

            let target = path("umoci");
            let mut command = Command::new("umoci");
            let source = format!("{}:latest", images.join(image).display());
            let unpacked = command
                .args(["raw", "unpack", "--image", &source])
                .arg(&target);
            let unpacked = unpacked.stdout(Stdio::null()).stderr(Stdio::null());
            if let Ok(took) = timed(|| Ok(unpacked.status()?.success())) {
                umoci.push(took);
            }
            fs::remove_dir_all(&target).ok();
        }
        table.limit(format!("tar, {image}"), tar);
        table.row(format!("dcos-image, {image}"), ours);
        if umoci.len() == ROUNDS {
            table.row(format!("umoci, {image}"), umoci);
        }
    }
    table.print();
    Ok(())
}

/// Milliseconds some work took, if it succeeded.
fn timed(work: impl FnOnce() -> Outcome<bool>) -> Outcome<f64> {
    let begin = Instant::now();
    if !work()? {
        return Err("it failed".into());
    }
    Ok(begin.elapsed().as_secs_f64() * 1000.0)
}

/// Files of bytes that pack about as well as programs do.
fn write_layer(path: &Path) -> Outcome {
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path)?));
    let mut state = 1_u32;
    for number in 0..FILES {
        let content: Vec<u8> = (0..SIZE)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0] & 0x3f
            })
            .collect();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(SIZE as u64);
        let name = format!("folder{}/file{number}", number % 100);
        tar.append_data(&mut header, name, &content[..])?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

/// An OCI layout of one layer, whose tar file is `layer` and which is packed as `packed`.
fn layout(folder: &Path, layer: &Path, packed: &Path) -> Outcome {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |kind: &str, bytes: &[u8]| -> Outcome<serde_json::Value> {
        let hash = hex(bytes);
        fs::write(blobs.join(&hash), bytes)?;
        let digest = format!("sha256:{hash}");
        Ok(serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    };
    let kind = "application/vnd.oci.image";
    let suffix = if layer == packed { "" } else { "+gzip" };
    let layers = blob(&format!("{kind}.layer.v1.tar{suffix}"), &fs::read(packed)?)?;
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&fs::read(layer)?))]},
    });
    let config = blob(
        &format!("{kind}.config.v1+json"),
        config.to_string().as_bytes(),
    )?;
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
        "config": config, "layers": [layers],
    });
    let mut manifest = blob(
        &format!("{kind}.manifest.v1+json"),
        manifest.to_string().as_bytes(),
    )?;
    manifest["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(
        folder.join("oci-layout"),
        r#"{"imageLayoutVersion": "1.0.0"}"#,
    )?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

//! Downloading one layer into a file, across interruptions.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError as Failure;
use oci_client::manifest::OciDescriptor;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::{ATTEMPTS, Remote, is_full, is_passing, told};
use crate::error::odd;
use crate::layers::hex;
use crate::{ImageError, name};

/// How often a download that takes long is spoken of.
const PROGRESS: Duration = Duration::from_secs(5);
/// What is written to the file at once.
const BUFFER: usize = 1 << 20;

/// Downloads `layer` into `file`. What an earlier attempt left there is kept if it fits.
pub(crate) async fn download(
    remote: &Remote,
    layer: &OciDescriptor,
    file: &Path,
) -> Result<(), ImageError> {
    let corrupt = ImageError::of(&remote.reference.to_string());
    let hash = name::hash(&layer.digest);
    let hash = hash
        .ok_or_else(|| odd(format!("'{}' is no SHA-256 digest", layer.digest)))
        .map_err(&corrupt)?;
    let size = u64::try_from(layer.size).unwrap_or_default();
    let mut pause = Duration::from_millis(500);
    let (mut attempt, mut wrong) = (1, false);
    loop {
        let before = length(file).await;
        match fetch(remote, layer, file, size).await {
            Ok(()) if verify(file, hash).await? => return Ok(()),
            Ok(()) => {
                // Whatever it is, it is not the layer, nor the beginning of it.
                tokio::fs::remove_file(file).await?;
                if before == 0 || wrong {
                    let why = format!("the registry sent other bytes than {}", layer.digest);
                    return Err(corrupt(odd(why)));
                }
                // What was there before may be to blame, once.
                wrong = true;
            }
            Err(error) if attempt < ATTEMPTS && is_passing(&error) => {
                tracing::info!(digest = layer.digest, %error, "a download broke off; going on");
                // Progress is worth as many attempts again.
                if length(file).await > before {
                    (attempt, pause) = (0, Duration::from_millis(500));
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(Failure::IoError(error)) if is_full(&error) => {
                // Kept for a later attempt, it would leave no room for any other image.
                tokio::fs::remove_file(file).await.ok();
                return Err(corrupt(error));
            }
            Err(error) => return Err(told(&remote.reference, &remote.registry.host, &error)),
        }
        attempt += 1;
    }
}

/// Appends what is missing of the layer.
async fn fetch(
    remote: &Remote,
    layer: &OciDescriptor,
    file: &Path,
    size: u64,
) -> Result<(), Failure> {
    let have = length(file).await;
    if have == size && size > 0 {
        return Ok(());
    }
    let have = if have < size { have } else { 0 };
    let asked = remote
        .client
        .pull_blob_stream_partial(&remote.reference, layer, have, None);
    let (mut stream, from) = match asked.await? {
        BlobResponse::Full(stream) => (stream, 0),
        BlobResponse::Partial(stream) => (stream, have),
    };
    let mut options = File::options();
    let opened = options.create(true).write(true).truncate(false);
    let output = opened.open(file).await?;
    output.set_len(from).await?;
    let mut output = BufWriter::with_capacity(BUFFER, output);
    tokio::io::AsyncSeekExt::seek(&mut output, io::SeekFrom::Start(from)).await?;
    let mut length = from;
    let mut told = Instant::now();
    let copied = async {
        while let Some(bytes) = stream.try_next().await? {
            length += bytes.len() as u64;
            if length > size {
                let what = format!("the layer is larger than the {size} bytes it should have");
                return Err(io::Error::other(what));
            }
            output.write_all(&bytes).await?;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let (image, digest) = (&remote.reference, &layer.digest);
                tracing::info!(%image, digest, bytes = length, of = size, "still pulling");
            }
        }
        if length < size {
            let what = format!("it ended after {length} of {size} bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        Ok(())
    };
    let copied = copied.await;
    output.flush().await?;
    Ok(copied?)
}

async fn length(file: &Path) -> u64 {
    let metadata = tokio::fs::metadata(file).await;
    metadata.map_or(0, |metadata| metadata.len())
}

/// Whether the file has this SHA-256.
async fn verify(file: &Path, hash: &str) -> Result<bool, ImageError> {
    let (file, hash) = (file.to_owned(), hash.to_owned());
    let verified = tokio::task::spawn_blocking(move || {
        let mut digest = Hasher(Sha256::new());
        io::copy(&mut std::fs::File::open(file)?, &mut digest)?;
        Ok::<_, io::Error>(hex(&digest.0.finalize()) == hash)
    });
    Ok(verified.await.map_err(io::Error::other)??)
}

struct Hasher(Sha256);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

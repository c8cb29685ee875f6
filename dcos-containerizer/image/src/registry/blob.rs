//! Downloading one layer into a file, across interruptions.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::failure::{Failure, is_full};
use super::{ATTEMPTS, Descriptor, Remote, sha256};
use crate::ImageError;
use crate::error::odd;
use crate::layers::hex;

/// How often a download that takes long is spoken of.
const PROGRESS: Duration = Duration::from_secs(5);
/// What is written to the file at once.
const BUFFER: usize = 1 << 20;

/// Downloads `layer` into `file`. What an earlier attempt left there is kept if it fits.
pub(crate) async fn download(
    remote: &Remote,
    layer: &Descriptor,
    file: &Path,
) -> Result<(), ImageError> {
    let corrupt = ImageError::of(&remote.name);
    let digest = sha256(&layer.digest).map_err(|failure| remote.told(&failure))?;
    let mut pause = Duration::from_millis(500);
    let (mut attempt, mut wrong) = (1, false);
    loop {
        let before = length(file).await;
        match fetch(remote, layer, file).await {
            Ok(()) if verify(file, digest).await? => return Ok(()),
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
            Err(error) if attempt < ATTEMPTS && error.is_passing() => {
                tracing::info!(digest = layer.digest, %error, "a download broke off; going on");
                // Progress is worth as many attempts again.
                if length(file).await > before {
                    (attempt, pause) = (0, Duration::from_millis(500));
                }
                tokio::time::sleep(error.pause(pause)).await;
                pause *= 2;
            }
            Err(Failure::Io(error)) if is_full(&error) => {
                // Kept for a later attempt, it would leave no room for any other image.
                tokio::fs::remove_file(file).await.ok();
                return Err(corrupt(error));
            }
            // It has less than is here.
            Err(Failure::Status { code: 416, .. }) if before > 0 && !wrong => {
                tokio::fs::remove_file(file).await?;
                wrong = true;
            }
            Err(failure) => return Err(remote.told(&failure)),
        }
        attempt += 1;
    }
}

/// Appends what is missing of the layer.
async fn fetch(remote: &Remote, layer: &Descriptor, file: &Path) -> Result<(), Failure> {
    let (have, size) = (length(file).await, layer.size);
    if have == size && size > 0 {
        return Ok(());
    }
    let have = if have < size { have } else { 0 };
    let (mut response, from) = remote.connection.blob(&layer.digest, have).await?;
    let mut options = File::options();
    let opened = options.create(true).write(true).truncate(false);
    let output = opened.open(file).await?;
    output.set_len(from).await?;
    let mut output = BufWriter::with_capacity(BUFFER, output);
    tokio::io::AsyncSeekExt::seek(&mut output, io::SeekFrom::Start(from)).await?;
    let mut length = from;
    let mut told = Instant::now();
    let copied = async {
        while let Some(bytes) = response.chunk().await? {
            length += bytes.len() as u64;
            if length > size {
                let what = format!("a layer is larger than the {size} bytes it should have");
                return Err(Failure::Odd(what));
            }
            output.write_all(&bytes).await?;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let (image, digest) = (&remote.name, &layer.digest);
                tracing::info!(image, digest, bytes = length, of = size, "still pulling");
            }
        }
        if length < size {
            let what = format!("it ended after {length} of {size} bytes");
            let ended = io::Error::new(io::ErrorKind::UnexpectedEof, what);
            return Err(Failure::Io(ended));
        }
        Ok(())
    };
    let copied = copied.await;
    output.flush().await?;
    copied
}

async fn length(file: &Path) -> u64 {
    let metadata = tokio::fs::metadata(file).await;
    metadata.map_or(0, |metadata| metadata.len())
}

/// Whether the file has this digest.
async fn verify(file: &Path, wanted: &str) -> Result<bool, ImageError> {
    let (file, wanted) = (file.to_owned(), wanted.to_owned());
    let verified = tokio::task::spawn_blocking(move || {
        let mut digest = Hasher(Sha256::new());
        io::copy(&mut std::fs::File::open(file)?, &mut digest)?;
        Ok::<_, io::Error>(wanted.ends_with(&hex(&digest.0.finalize())))
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

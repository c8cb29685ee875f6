//! `dcos task download`: files of a sandbox, copied here.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Sandbox;
use super::log::{self, PIECE};
use crate::command::text;
use crate::output;

/// The kinds of files in `mode`, as `stat(2)` has them.
const KIND: u64 = 0o170_000;
const FOLDER: u64 = 0o040_000;
const FILE: u64 = 0o100_000;

impl Sandbox {
    /// Copies the file or folder at `path`, `.` being all of the sandbox, into `target`.
    pub(super) async fn download(&self, path: &str, target: &Path) -> anyhow::Result<()> {
        let path = path.trim_matches('/');
        fs::create_dir_all(target).with_context(|| format!("making {}", target.display()))?;
        if path.is_empty() || path == "." {
            return self.download_folder(&self.directory, target).await;
        }
        let whole = format!("{}/{path}", self.directory);
        let (folder, _) = whole.rsplit_once('/').unwrap_or_default();
        let files = self.browse(folder).await?;
        let files = files.as_array().map(Vec::as_slice).unwrap_or_default();
        match files.iter().find(|file| text(file, "path") == whole) {
            Some(file) => self.download_one(file, target).await,
            None => bail!("there is no {path} in the sandbox; see `dcos task ls`"),
        }
    }

    async fn download_folder(&self, folder: &str, target: &Path) -> anyhow::Result<()> {
        let files = self.browse(folder).await?;
        for file in files.as_array().into_iter().flatten() {
            Box::pin(self.download_one(file, target)).await?;
        }
        Ok(())
    }

    async fn download_one(&self, file: &Value, target: &Path) -> anyhow::Result<()> {
        let path = text(file, "path");
        let name = Path::new(&path).file_name();
        let target = target.join(name.with_context(|| format!("{path} has no name"))?);
        match file["mode"].as_u64().unwrap_or_default() & KIND {
            FOLDER => {
                fs::create_dir_all(&target)
                    .with_context(|| format!("making {}", target.display()))?;
                self.download_folder(&path, &target).await
            }
            FILE => self.copy(&path, &target).await,
            // Sockets, pipes and the like hold nothing to copy.
            _ => Ok(()),
        }
    }

    async fn copy(&self, path: &str, target: &Path) -> anyhow::Result<()> {
        let writing = || format!("writing {}", target.display());
        let mut copy = File::create(target).with_context(writing)?;
        let mut offset = 0;
        loop {
            let (_, piece) = log::read(&self.agent, path, offset, PIECE).await?;
            if piece.is_empty() {
                break;
            }
            copy.write_all(&piece).with_context(writing)?;
            offset += piece.len() as u64;
        }
        output::line(target.display().to_string());
        Ok(())
    }
}

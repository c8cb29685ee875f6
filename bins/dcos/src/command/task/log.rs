//! Printing files that servers show, from their last lines on.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::text;
use crate::cli::LogForm;
use crate::http::Server;
use crate::output;

/// How often a followed file is asked for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// How many bytes are asked for at a time; the server may give fewer.
pub(super) const PIECE: u64 = 64 << 10;

/// How much of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    All,
    Last(usize),
}

impl FromStr for Lines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::Last)
                .map_err(|_| "it is neither a number nor `all`".to_owned()),
        }
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Last(lines) => lines.fmt(f),
        }
    }
}

/// A file that a server shows.
#[derive(Debug)]
pub(crate) struct File {
    /// Whose it is.
    pub(crate) owner: String,
    pub(crate) server: Server,
    pub(crate) path: String,
}

/// Prints files one after the other, then what is added to any of them, if that is wanted; where there are several,
/// each piece below the name of its owner.
///
/// # Errors
/// That one of several cannot be read is told, and an error once the others are printed.
pub(crate) async fn print(files: &[File], form: &LogForm) -> anyhow::Result<()> {
    if !matches!(form.output.as_str(), "short" | "cat") {
        output::notice(format!(
            "what is in files is printed as it is: it has no form {:?}",
            form.output
        ));
    }
    let several = files.len() > 1;
    let mut last = None;
    let mut heading = |at: usize| {
        if several && last != Some(at) {
            output::line(format!("===> {} <===", files[at].owner));
            last = Some(at);
        }
    };
    let (mut open, mut failed) = (Vec::new(), 0);
    for (at, file) in files.iter().enumerate() {
        heading(at);
        match file.print(form.lines).await {
            Ok(offset) => open.push((at, offset)),
            Err(error) if several => {
                output::error(&error);
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    while form.follow && !open.is_empty() {
        tokio::time::sleep(FOLLOW_INTERVAL).await;
        for (at, mut offset) in std::mem::take(&mut open) {
            match files[at].read(offset, PIECE).await {
                Ok(data) => {
                    if !data.is_empty() {
                        heading(at);
                        offset += data.len() as u64;
                        output::raw(&data);
                    }
                    open.push((at, offset));
                }
                Err(error) if several => {
                    output::error(&error);
                    failed += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} files could not be read", files.len());
    }
    Ok(())
}

impl File {
    /// Prints the last lines; returns where the file ends.
    async fn print(&self, lines: Lines) -> anyhow::Result<u64> {
        let mut offset = match lines {
            Lines::All => 0,
            Lines::Last(lines) => self.tail(lines).await?,
        };
        loop {
            let data = self.read(offset, PIECE).await?;
            if data.is_empty() {
                return Ok(offset);
            }
            offset += data.len() as u64;
            output::raw(&data);
        }
    }

    /// Where the last `lines` lines begin.
    async fn tail(&self, lines: usize) -> anyhow::Result<u64> {
        let size = self.size().await?;
        let (mut start, mut found) = (size, 0);
        while start > 0 {
            let from = start.saturating_sub(PIECE);
            let piece = self.read(from, start - from).await?;
            if piece.is_empty() {
                // Of a log in parts the oldest are gone.
                return Ok(start);
            }
            for (index, byte) in piece.iter().enumerate().rev() {
                // The line feed that ends the file begins no line.
                if *byte == b'\n' && from + index as u64 + 1 < size {
                    found += 1;
                    if found == lines {
                        return Ok(from + index as u64 + 1);
                    }
                }
            }
            start = from;
        }
        Ok(if lines == 0 { size } else { 0 })
    }

    async fn size(&self) -> anyhow::Result<u64> {
        let size = read(&self.server, &self.path, 0, 0).await;
        let (size, _) = size.with_context(|| format!("reading {}", self.path))?;
        Ok(size)
    }

    async fn read(&self, offset: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        let (_, data) = read(&self.server, &self.path, offset, length).await?;
        Ok(data)
    }
}

/// The size of a file and some bytes of it, through the operator API: `/files/read` only speaks text.
pub(super) async fn read(
    server: &Server,
    path: &str,
    offset: u64,
    length: u64,
) -> anyhow::Result<(u64, Vec<u8>)> {
    let call = json!({"type": "READ_FILE",
        "read_file": {"path": path, "offset": offset, "length": length}});
    let answer = server.send("POST", "/api/v1", Some(&call)).await?;
    let read: &Value = &answer["read_file"];
    let data = STANDARD
        .decode(text(read, "data"))
        .with_context(|| format!("bad data of {path}"))?;
    let size = read["size"]
        .as_u64()
        .with_context(|| format!("the size of {path} was not told"))?;
    Ok((size, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_a_number_or_all() {
        for (text, lines) in [
            ("all", Lines::All),
            ("0", Lines::Last(0)),
            ("12", Lines::Last(12)),
        ] {
            assert_eq!(text.parse(), Ok(lines));
            assert_eq!(lines.to_string(), text);
        }
        assert!("-1".parse::<Lines>().is_err() && "some".parse::<Lines>().is_err());
    }
}

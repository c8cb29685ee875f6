//! Archives and compressed files, extracted into a sandbox.
//!
//! An archive is a stranger's: names that lead out, devices and more bytes than allowed are
//! refused. Entries are written through [`Sandbox`], which follows no link.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dcos_image::Metered;
use flate2::read::MultiGzDecoder;

use super::sandbox::Sandbox;

/// What extraction knows, by the end of a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tar(Packing),
    Gzip,
    Zip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Bzip2,
    Xz,
}

/// How much an archive may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// The first that fits counts.
const ENDS: [(&str, Kind); 9] = [
    (".tar", Kind::Tar(Packing::Plain)),
    (".tgz", Kind::Tar(Packing::Gzip)),
    (".tar.gz", Kind::Tar(Packing::Gzip)),
    (".tbz2", Kind::Tar(Packing::Bzip2)),
    (".tar.bz2", Kind::Tar(Packing::Bzip2)),
    (".txz", Kind::Tar(Packing::Xz)),
    (".tar.xz", Kind::Tar(Packing::Xz)),
    (".gz", Kind::Gzip),
    (".zip", Kind::Zip),
];

impl Kind {
    pub(super) fn of(name: &str) -> Option<Self> {
        let found = ENDS.iter().find(|(end, _)| name.ends_with(end));
        found.map(|&(_, kind)| kind)
    }
}

/// Extracts `source`, which is called `name`, into the sandbox.
pub(super) fn extract(
    kind: Kind,
    source: File,
    name: &str,
    sandbox: &Sandbox,
    limits: Limits,
) -> Result<(), String> {
    let mut budget = Budget(limits);
    let gunzip = |source| MultiGzDecoder::new(BufReader::new(source));
    let extracted = match kind {
        Kind::Gzip => {
            let inner = name.strip_suffix(".gz").unwrap_or(name);
            budget.write(sandbox, Path::new(inner), gunzip(source), 0o644)
        }
        Kind::Zip => unzip(source, sandbox, &mut budget),
        Kind::Tar(Packing::Plain) => untar(BufReader::new(source), sandbox, &mut budget),
        Kind::Tar(Packing::Gzip) => untar(gunzip(source), sandbox, &mut budget),
        Kind::Tar(Packing::Bzip2) => piped("bzip2", source, sandbox, &mut budget),
        Kind::Tar(Packing::Xz) => piped("xz", source, sandbox, &mut budget),
    };
    extracted.map_err(|error| format!("extracting '{name}': {error}"))
}

/// What is left of the limits.
struct Budget(Limits);

impl Budget {
    fn entry(&mut self) -> io::Result<()> {
        let left = self.0.entries.checked_sub(1);
        self.0.entries = left.ok_or_else(|| odd("it holds more files than an archive may"))?;
        Ok(())
    }

    fn write(
        &mut self,
        sandbox: &Sandbox,
        name: &Path,
        from: impl Read,
        mode: u32,
    ) -> io::Result<()> {
        self.entry()?;
        let mut limited = from.take(self.0.bytes.saturating_add(1));
        let written = sandbox.write(name, &mut limited, mode)?;
        let left = self.0.bytes.checked_sub(written);
        self.0.bytes = left.ok_or_else(|| odd("it becomes larger than an archive may"))?;
        Ok(())
    }
}

fn untar(source: impl Read, sandbox: &Sandbox, budget: &mut Budget) -> io::Result<()> {
    let (source, meter) = Metered::new(source);
    let mut archive = tar::Archive::new(source);
    let mut entries = archive.entries()?;
    let mut last = None;
    while let Some(mut entry) = meter.next(&mut entries, last.take())? {
        let relative = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
        let path = relative(&entry.path()?);
        let mode = entry.header().mode().unwrap_or(0o644);
        let nothing = || odd("it holds a link to nothing");
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                budget.entry()?;
                sandbox.folder(&path)?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                budget.write(sandbox, &path, &mut entry, mode)?;
            }
            tar::EntryType::Symlink => {
                budget.entry()?;
                let target = entry.link_name()?.ok_or_else(nothing)?;
                sandbox.link(&path, &target)?;
            }
            tar::EntryType::Link => {
                // A copy: as good for the task, and no way to somebody else's file.
                let target = relative(&entry.link_name()?.ok_or_else(nothing)?);
                let original = sandbox.read(&target)?;
                budget.write(sandbox, &path, original, mode)?;
            }
            tar::EntryType::XGlobalHeader | tar::EntryType::XHeader => {}
            _ => {
                let what = format!("'{}' is neither file, folder nor link", path.display());
                return Err(odd(&what));
            }
        }
        last = Some(entry);
    }
    Ok(())
}

fn unzip(source: File, sandbox: &Sandbox, budget: &mut Budget) -> io::Result<()> {
    let mut archive = zip::ZipArchive::new(BufReader::new(source)).map_err(io::Error::other)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(io::Error::other)?;
        let Some(path) = entry.enclosed_name() else {
            let what = format!("'{}' leads out of the sandbox", entry.name());
            return Err(odd(&what));
        };
        if entry.is_dir() {
            budget.entry()?;
            sandbox.folder(&path)?;
        } else if entry.is_symlink() {
            budget.entry()?;
            let mut target = String::new();
            entry.by_ref().take(4096).read_to_string(&mut target)?;
            sandbox.link(&path, Path::new(&target))?;
        } else {
            let mode = entry.unix_mode().unwrap_or(0o644);
            budget.write(sandbox, &path, &mut entry, mode)?;
        }
    }
    Ok(())
}

/// Unpacks through a program of the host, which spares us its library.
fn piped(program: &str, source: File, sandbox: &Sandbox, budget: &mut Budget) -> io::Result<()> {
    let child = Command::new(program)
        .arg("-dc")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(source)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("`{program}`: {error}")))?;
    let mut child = Reaped(child);
    let output = child.0.stdout.take();
    let mut output = BufReader::new(output.ok_or_else(|| odd("no output"))?);
    let untarred = untar(&mut output, sandbox, budget).and_then(|()| {
        // What follows the archive is padding; a damaged file shows only at its end.
        io::copy(&mut output.by_ref().take(budget.0.bytes), &mut io::sink())
    });
    if untarred.is_err() {
        child.0.kill().ok();
    }
    drop(output);
    let mut said = String::new();
    if let Some(stderr) = child.0.stderr.take() {
        stderr.take(4096).read_to_string(&mut said).ok();
    }
    let succeeded = child.0.wait()?.success();
    match (untarred, said.trim()) {
        (Ok(_), _) if succeeded => Ok(()),
        // The program knows better what is wrong, if it is the one that gave up.
        (_, said) if !said.is_empty() => Err(odd(said)),
        (Err(error), _) => Err(error),
        (Ok(_), _) => Err(odd(&format!("`{program}` failed"))),
    }
}

/// A child that leaves no zombie behind.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;

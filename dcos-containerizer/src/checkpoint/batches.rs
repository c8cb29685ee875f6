//! Files that grow by batches: each is there as a whole, or not at all.
//!
//! ```text
//! <what the file is>
//! batch <bytes that follow> <sha256 of them, 16 digits>
//! ...
//! ```

use std::io::{self, BufRead, Read as _};
use std::path::Path;

use super::format::{self, FormatError};
use super::read::{damaged, unreadable};
use super::store::CheckpointError;

const BATCH: &str = "batch ";

/// What stands before `body` in a batch.
pub(super) fn head(body: &[u8]) -> String {
    format!("{BATCH}{} {}\n", body.len(), format::short(body))
}

/// A batch that holds `body`.
#[cfg(test)]
pub(super) fn batch(body: &str) -> String {
    head(body.as_bytes()) + body
}

/// Why a file of batches cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    Refused(io::Error),
    Damaged(FormatError),
}

impl Unreadable {
    /// The same, of the file at `path`.
    pub(super) fn at(self, path: &Path) -> CheckpointError {
        match self {
            Self::Refused(source) => unreadable(path, source),
            Self::Damaged(source) => damaged(path, source),
        }
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Refused(error)
    }
}

impl From<FormatError> for Unreadable {
    fn from(error: FormatError) -> Self {
        Self::Damaged(error)
    }
}

/// The bodies of the batches of a file, oldest first.
#[derive(Debug)]
pub(super) struct Bodies<R>(R);

impl<R: BufRead> Bodies<R> {
    /// Reads the first line, which begins with `head`, and gives back the rest of it; `None` if a crash left
    /// not even that of the file. What was not written of it may read as zeros.
    pub(super) fn open(
        mut from: R,
        head: &'static str,
    ) -> Result<Option<(String, Self)>, Unreadable> {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        if let Some(line) = line.strip_suffix(b"\n") {
            let rest = line.strip_prefix(head.as_bytes());
            let rest = rest.and_then(|rest| std::str::from_utf8(rest).ok());
            let rest = rest.ok_or(FormatError::Foreign(head))?;
            return Ok(Some((rest.to_owned(), Self(from))));
        }
        let end = line.iter().rposition(|byte| *byte != 0);
        let written = &line[..end.map_or(0, |last| last + 1)];
        if head.as_bytes().starts_with(written) || written.starts_with(head.as_bytes()) {
            Ok(None)
        } else {
            Err(FormatError::Foreign(head).into())
        }
    }

    /// The next one. What a crash left of the last does not count: nobody was told that it is durable. Damage
    /// that whole batches follow does.
    pub(super) fn next(&mut self) -> Result<Option<String>, Unreadable> {
        let mut seen = Vec::new();
        self.0.read_until(b'\n', &mut seen)?;
        if let Some((length, sum)) = announced(&seen) {
            let sum = sum.to_owned();
            let mut body = Vec::new();
            (&mut self.0).take(length).read_to_end(&mut body)?;
            match String::from_utf8(body) {
                Ok(body)
                    if body.len() as u64 == length && format::short(body.as_bytes()) == sum =>
                {
                    return Ok(Some(body));
                }
                Ok(body) => seen.extend(body.into_bytes()),
                Err(error) => seen.extend(error.into_bytes()),
            }
        }
        self.0.read_to_end(&mut seen)?;
        let marks = seen.windows(BATCH.len()).enumerate().skip(1);
        let mut later = marks.filter(|(_, window)| *window == BATCH.as_bytes());
        if later.any(|(at, _)| is_whole(&seen[at..])) {
            return Err(FormatError::Checksum.into());
        }
        Ok(None)
    }
}

/// Length and checksum of a body, as the line before it says.
fn announced(line: &[u8]) -> Option<(u64, &str)> {
    let line = line.strip_suffix(b"\n")?.strip_prefix(BATCH.as_bytes())?;
    let (length, sum) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    Some((length.parse().ok()?, sum))
}

/// Whether `bytes` begin with a batch that is as it was written.
fn is_whole(bytes: &[u8]) -> bool {
    let whole = || {
        let end = bytes.iter().position(|byte| *byte == b'\n')? + 1;
        let (length, sum) = announced(&bytes[..end])?;
        let body = bytes[end..].get(..usize::try_from(length).ok()?)?;
        Some(format::short(body) == sum)
    };
    whole().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "a journal ";

    fn read(bytes: &[u8]) -> Result<Vec<String>, Unreadable> {
        let mut found = Vec::new();
        if let Some((rest, mut bodies)) = Bodies::open(bytes, HEAD)? {
            assert_eq!(rest, "of mine");
            while let Some(body) = bodies.next()? {
                found.push(body);
            }
        }
        Ok(found)
    }

    proptest! {
        /// A file that was cut anywhere, or whose last batch was torn, holds all batches before;
        /// a flipped bit loses no batch but the last unseen.
        #[test]
        fn batches_survive_torn_tails(
            count in 0..5_usize,
            cut in 0..700_usize,
            flip in 0..700_usize,
        ) {
            let bodies: Vec<String> = (0..count).map(|n| format!("/t{n}\n{{\"batch \": {n}}}\n")).collect();
            let mut bytes = format!("{HEAD}of mine\n").into_bytes();
            let head = bytes.len();
            for body in &bodies {
                bytes.extend(batch(body).into_bytes());
            }
            let cut = cut.min(bytes.len());
            let found = read(&bytes[..cut]).unwrap();
            prop_assert_eq!(&bodies[..found.len()], &found[..]);
            if cut == bytes.len() {
                prop_assert_eq!(found.len(), count);
            }
            // What the system had not written yet of a longer file reads as zeros.
            let mut zeros = bytes[..cut].to_vec();
            zeros.resize(bytes.len() + 100, 0);
            let found = read(&zeros).unwrap();
            prop_assert_eq!(&bodies[..found.len()], &found[..]);
            if (head..bytes.len()).contains(&flip) {
                bytes[flip] ^= 1;
                if let Ok(found) = read(&bytes) {
                    prop_assert!(found.len() + 1 >= count);
                    prop_assert_eq!(&bodies[..found.len()], &found[..]);
                }
            }
        }
    }

    #[test]
    fn another_format_is_told() {
        for foreign in ["another thing\n", "a jo\n", "b"] {
            assert!(matches!(
                read(foreign.as_bytes()),
                Err(Unreadable::Damaged(FormatError::Foreign(HEAD)))
            ));
        }
    }
}

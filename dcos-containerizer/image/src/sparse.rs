//! Files with holes: what a tar file leaves out stays left out on the disk.
//!
//! # Source
//! GNU tar's manual, "Storing Sparse Files": the old format (entries of type `S`) is read by the
//! library; of those in PAX headers, version 1.0 is read here, which is what writers use today.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::error::odd;

/// Pieces a file may have.
const MAX_PIECES: u64 = 1 << 20;
/// What a block of the map is padded to.
const BLOCK: u64 = 512;

/// A file that is written as a map and its pieces.
#[derive(Debug)]
pub(crate) struct Sparse {
    /// Its name; that of the entry is made up.
    pub(crate) name: PathBuf,
    size: u64,
}

impl Sparse {
    /// Whether the entry is such a file.
    pub(crate) fn find<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Option<Self>> {
        let Some(extensions) = entry.pax_extensions()? else {
            return Ok(None);
        };
        let (mut version, mut name, mut size, mut is_sparse) = ((None, None), None, None, false);
        for extension in extensions {
            let extension = extension?;
            let Some(key) = extension
                .key()
                .ok()
                .and_then(|key| key.strip_prefix("GNU.sparse."))
            else {
                continue;
            };
            is_sparse = true;
            let value = extension
                .value()
                .map_err(|_| odd("a sparse file's header is no text"))?;
            match key {
                "major" => version.0 = value.parse().ok(),
                "minor" => version.1 = value.parse().ok(),
                "name" => name = Some(PathBuf::from(value)),
                "realsize" => size = value.parse().ok(),
                _ => {}
            }
        }
        if !is_sparse {
            return Ok(None);
        }
        let wrong = || odd("a sparse file in a format that is not understood; only 1.0 is");
        if version != (Some(1_u32), Some(0_u32)) {
            return Err(wrong());
        }
        Ok(Some(Self {
            name: name.ok_or_else(wrong)?,
            size: size.ok_or_else(wrong)?,
        }))
    }

    /// Writes the pieces where they belong.
    pub(crate) fn unpack(&self, source: &mut impl BufRead, mut file: &File) -> io::Result<()> {
        let mut read = 0;
        let count = number(source, &mut read)?;
        if count > MAX_PIECES {
            return Err(odd("a sparse file of too many pieces"));
        }
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push((number(source, &mut read)?, number(source, &mut read)?));
        }
        let padding = (BLOCK - read % BLOCK) % BLOCK;
        exactly(source, padding, &mut io::sink())?;
        for (offset, length) in pieces {
            let end = offset.checked_add(length);
            if end.is_none_or(|end| end > self.size) {
                return Err(odd("a piece of a sparse file lies behind its end"));
            }
            file.seek(SeekFrom::Start(offset))?;
            exactly(source, length, &mut file)?;
        }
        file.set_len(self.size)
    }
}

/// A line that holds a number.
fn number(source: &mut impl BufRead, read: &mut u64) -> io::Result<u64> {
    let mut line = String::new();
    *read += source.take(32).read_line(&mut line)? as u64;
    let number = line
        .strip_suffix('\n')
        .and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| odd("the map of a sparse file is no list of numbers"))
}

fn exactly(source: &mut impl Read, length: u64, to: &mut impl Write) -> io::Result<()> {
    if io::copy(&mut source.take(length), to)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Copies a file, leaving out blocks of zeros.
pub(crate) fn copy(source: &mut impl Read, mut file: &File) -> io::Result<()> {
    let mut block = vec![0; 4096];
    let mut length = 0;
    loop {
        let mut filled = 0;
        while filled < block.len() {
            match source.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return file.set_len(length);
        }
        if block[..filled].iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(length))?;
            file.write_all(&block[..filled])?;
        }
        length += filled as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn pieces_land_where_the_map_says() {
        let file = tempfile::tempfile().unwrap();
        let size = 1 << 20;
        let sparse = Sparse {
            name: "f".into(),
            size,
        };
        let mut data = b"2\n4096\n3\n524288\n2\n".to_vec();
        data.resize(512, 0);
        data.extend(b"abcde");
        sparse.unpack(&mut &*data, &file).unwrap();
        let mut bytes = Vec::new();
        (&file).rewind().unwrap();
        (&file).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, size);
        assert_eq!(&bytes[4096..4100], b"abc\0");
        assert_eq!(&bytes[524_288..524_290], b"de");
        assert!(file.metadata().unwrap().blocks() * 512 < size / 4);
    }

    #[test]
    fn odd_maps_are_refused() {
        let file = tempfile::tempfile().unwrap();
        let sparse = Sparse {
            name: "f".into(),
            size: 10,
        };
        for map in [
            "",
            "x\n",
            "99999999999\n",
            "1\n8\n9\n",
            "1\n18446744073709551615\n9\n",
        ] {
            let mut data = map.as_bytes().to_vec();
            data.resize(1024, 0);
            assert!(sparse.unpack(&mut &*data, &file).is_err(), "{map:?}");
        }
    }

    #[test]
    fn zeros_are_left_out() {
        let file = tempfile::tempfile().unwrap();
        let mut data = vec![0; 1 << 20];
        data[700_000] = 1;
        copy(&mut &*data, &file).unwrap();
        let mut bytes = Vec::new();
        (&file).rewind().unwrap();
        (&file).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, data);
        assert!(file.metadata().unwrap().blocks() * 512 < 100_000);
    }
}

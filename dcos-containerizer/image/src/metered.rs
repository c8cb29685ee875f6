//! Headers of tar files, bounded.
//!
//! The library reads long names and PAX headers into memory whole, whatever size they say: some
//! megabytes of zeros, compressed, would be any amount of it.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// What one entry's headers may take together, in bytes: long names, links and attributes have
/// their place in a fraction of it.
const HEADERS: u64 = 1 << 20;

/// Reads on behalf of a [`tar::Archive`], and ends what reads too much of headers.
#[derive(Debug)]
pub struct Metered<R> {
    source: R,
    left: Meter,
}

/// Says what a [`Metered`] reader is read for.
#[derive(Debug, Clone)]
pub struct Meter(Rc<Cell<u64>>);

impl<R> Metered<R> {
    /// A reader that lets everything through until its meter says otherwise.
    pub fn new(source: R) -> (Self, Meter) {
        let left = Meter(Rc::new(Cell::new(u64::MAX)));
        let meter = left.clone();
        (Self { source, left }, meter)
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.source
    }
}

impl Meter {
    /// The next entry; what was not read of the last one is read first.
    ///
    /// # Errors
    /// What the library says; [`io::ErrorKind::InvalidData`] if its headers are larger than 1 MiB.
    pub fn next<'a, R: Read>(
        &self,
        entries: &mut tar::Entries<'a, R>,
        last: Option<tar::Entry<'a, R>>,
    ) -> io::Result<Option<tar::Entry<'a, R>>> {
        if let Some(mut last) = last {
            io::copy(&mut last, &mut io::sink())?;
        }
        self.0.set(HEADERS);
        let next = entries.next().transpose();
        self.0.set(u64::MAX);
        next
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.0.get();
        if left == 0 {
            let why = "an entry's headers are larger than they may be";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.source.read(&mut buffer[..most])?;
        if left != u64::MAX {
            self.left.0.set(left - read as u64);
        }
        Ok(read)
    }
}

//! What a container's first process tells the launcher, over a pipe.
//!
//! The pipe closes when the program is executed; that is how the launcher knows of success.
//! An init is never replaced by a program: it says so, and says how its command ended, since
//! process 1 of a namespace cannot die of the signal that killed its command.

use std::os::fd::{AsFd, OwnedFd};
use std::{io, iter};

use rustix::io::{Errno, read, retry_on_intr};

use crate::codec::{Input, Wire};
use crate::message::{Failure, Step};

choice! {
/// One thing a first process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// A step failed; the process ends.
    Failed {
        /// Which.
        failure: Failure,
    } = 1,
    /// The init's command ended; the init will, too.
    Ended {
        /// Its status as `wait(2)` gives it.
        status: i32,
    } = 2,
    /// The init's command runs.
    Started = 3,
}}

/// Bytes of a failure's detail: a whole report must fit one atomic write (4 KiB).
const MAX_DETAIL: usize = 1024;

impl Report {
    /// Sends the report. If the launcher is gone nobody is left to be told.
    pub(crate) fn send(mut self, pipe: impl AsFd) {
        if let Self::Failed { failure } = &mut self {
            let end = failure.detail.floor_char_boundary(MAX_DETAIL);
            failure.detail.truncate(end);
        }
        let _ = rustix::io::write(pipe, &self.to_bytes());
    }

    /// The bytes of [`Ended`](Self::Ended), made without allocating.
    pub(crate) fn ended(status: i32) -> [u8; 5] {
        let [a, b, c, d] = status.to_le_bytes();
        [2, a, b, c, d]
    }

    /// All reports that have arrived, and whether the pipe is closed.
    pub(crate) fn receive(pipe: &OwnedFd) -> (Vec<Self>, bool) {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        let closed = loop {
            match retry_on_intr(|| read(pipe, &mut buffer)) {
                Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                Err(Errno::AGAIN) => break false,
                _ => break true,
            }
        };
        let mut input = Input::new(&bytes);
        let reports = iter::from_fn(|| Self::take(&mut input).ok());
        (reports.collect(), closed)
    }
}

/// Adds to a system error which step it ended, and what that was about.
pub(crate) trait At<T> {
    fn at(self, step: Step, detail: impl ToString) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: Step, detail: impl ToString) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step,
            errno: error.into().raw_os_error().unwrap_or(libc::EINVAL),
            detail: detail.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_what_it_is_read_as() {
        let status = -0x0102_0304;
        let bytes = Report::ended(status);
        assert_eq!(bytes[..], Report::Ended { status }.to_bytes());
        assert_eq!(Report::from_bytes(&bytes), Ok(Report::Ended { status }));
    }
}

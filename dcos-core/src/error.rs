//! How an error and its causes are shown: once, at the top of a program, by one function.

use std::error::Error;
use std::fmt;

/// Shows an error followed by each of its causes, separated by `: `.
///
/// Messages in this project never print their own source, so this is the place that does.
///
/// ```
/// use dcos_core::error::chain;
///
/// let error = std::io::Error::other("disk is gone");
/// assert_eq!(chain(&error).to_string(), "disk is gone");
/// ```
pub fn chain(error: &dyn Error) -> Chain<'_> {
    Chain { error }
}

/// An error with all its causes, ready to be displayed; made by [`chain`].
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    error: &'a dyn Error,
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut next = self.error.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the registry")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn each_cause_is_told_once() {
        let error = Outer {
            source: std::io::Error::other("short read"),
        };
        assert_eq!(
            chain(&error).to_string(),
            "reading the registry: short read"
        );
    }
}

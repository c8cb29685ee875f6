//! What one process of a node does for all of them.

use std::error::Error;

use anyhow::Context as _;
use tracing::warn;

/// What was opened, or nothing where another process of this node has it: that one does the work for both.
///
/// # Errors
/// It failed for another reason, which `option` asked for.
pub fn unless_taken<T, E: Error + Send + Sync + 'static>(
    opened: Result<T, E>,
    is_taken: impl FnOnce(&E) -> bool,
    option: &'static str,
) -> anyhow::Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if is_taken(&error) => {
            warn!("{:#}; leaving it to that one", anyhow::Error::new(error));
            Ok(None)
        }
        Err(error) => Err(error).context(option),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_another_process_has_is_left_to_it_and_other_errors_are_told() {
        let is_taken = |error: &Error| error.kind() == ErrorKind::AddrInUse;
        let open = |opened| unless_taken(opened, is_taken, "--option");
        assert_eq!(open(Ok(1)).ok(), Some(Some(1)));
        assert_eq!(open(Err(ErrorKind::AddrInUse.into())).ok(), Some(None));
        let refused = open(Err(ErrorKind::PermissionDenied.into()));
        assert!(refused.is_err_and(|error| error.to_string() == "--option"));
    }
}

//! This terminal while another one is shown in it.

use std::io;

use anyhow::Context as _;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Each key goes on as it is typed, and nothing is shown that does not come back. Dropped, the
/// terminal is what it was.
#[derive(Debug)]
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn set() -> anyhow::Result<Self> {
        let before = tcgetattr(io::stdin()).context("asking the terminal for its settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).context("setting the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Rows and columns of this terminal.
pub(super) fn size() -> Option<(u32, u32)> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    Some((size.ws_row.into(), size.ws_col.into()))
}

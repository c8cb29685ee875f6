//! The program `nft`, which makes what stands for long: tables, chains and rules.

use std::io;
use std::process::Output;

use crate::program::{self, Ran};

/// Why `nft` did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It cannot be run.
    #[error("running `nft`")]
    Program {
        /// What the system said.
        source: io::Error,
    },
    /// It was run, and refused.
    #[error("`nft` refused: {said}")]
    Refused {
        /// Its own words.
        said: String,
    },
}

/// Does what `text` says, commands of nft(8), in one transaction: all or nothing.
///
/// # Errors
/// [`NftError`]
pub fn nft(text: &str) -> Result<(), NftError> {
    let (output, written) = run(&["-f", "-"], text)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(NftError::Refused { said });
    }
    written.map_err(|source| NftError::Program { source })
}

/// What a table of the family `inet` consists of, in nft's words, if there is one: whoever flushes all rules of a node
/// takes it away. The same table has the same words.
///
/// # Errors
/// [`NftError::Program`]
pub fn listing(table: &str) -> Result<Option<String>, NftError> {
    let (output, _) = run(&["list", "table", "inet", table], "")?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success().then_some(words))
}

/// What `nft` said, and whether it took all of `input`.
fn run(arguments: &[&str], input: &str) -> Result<(Output, io::Result<()>), NftError> {
    let ran = program::run("nft", arguments, input);
    let Ran(output, written) = ran.map_err(|source| NftError::Program { source })?;
    Ok((output, written))
}

/// Commands that take a table of the family `inet` away with all in it, whether or not there is one.
pub fn without(table: &str) -> String {
    // One is made first, so that there is one to delete.
    format!("table inet {table} {{\n}}\ndelete table inet {table}\n")
}

//! Programs that make rules, which read their orders from standard input.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

/// What a program said, and whether it took all of its input.
pub(crate) struct Ran(pub(crate) Output, pub(crate) io::Result<()>);

/// Runs one to its end.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<Ran> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.take();
    let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    Ok(Ran(child.wait_with_output()?, written))
}

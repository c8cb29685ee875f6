//! The launcher as a program of its own; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    // A launcher that was a mode of another program hands on the word for it when it becomes this one.
    dcos_launcher::main(arguments.skip_while(|word| !word.as_encoded_bytes().starts_with(b"-")))
}

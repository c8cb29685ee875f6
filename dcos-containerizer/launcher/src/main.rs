//! The launcher as a program of its own; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    dcos_launcher::main(std::env::args_os().skip(1))
}

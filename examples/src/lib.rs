//! Programs a newcomer runs: `cargo run -p examples --example NAME`. The README lists them.

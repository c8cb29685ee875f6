//! The command line and the local development cluster.
fn main() {}

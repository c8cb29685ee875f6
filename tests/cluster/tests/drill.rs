//! A slice of `make cluster-test`: two failovers on each engine.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::{path::Path, process::Command};

fn drill(engine: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_cluster-drill"));
    for name in ["dcos-master", "dcos-agent"] {
        if !program.with_file_name(name).exists() {
            println!("skipped: {name} is not built; `make test` builds it first");
            return;
        }
    }
    let done = Command::new(program)
        .args(["--quick", engine])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    assert!(
        done.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn two_failovers_on_zookeeper() {
    drill("zookeeper");
}

#[test]
fn two_failovers_on_etcd() {
    drill("etcd");
}

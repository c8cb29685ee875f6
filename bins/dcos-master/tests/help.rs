//! The program's parts fit together: each option is declared once.

use std::process::Command;

#[test]
fn it_tells_its_options() {
    let program = env!("CARGO_BIN_EXE_dcos-master");
    let output = Command::new(program).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("--work_dir"),
        "{text}"
    );
}

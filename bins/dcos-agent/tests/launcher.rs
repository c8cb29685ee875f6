//! The launcher as a mode of this program.

use std::os::unix::fs::symlink;
use std::path::Path;

use dcos_launcher::{Client, Plan, Scope};

/// Where no `dcos-launcher` of its own lies beside a new agent.
#[test]
fn it_takes_the_place_of_a_launcher_that_was_a_program_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("launcher.sock");
    let agent = Path::new(env!("CARGO_BIN_EXE_dcos-agent"));
    let launcher = folder.path().join("dcos-launcher");
    symlink(agent, &launcher).unwrap();
    let mut client = Client::connect_or_start(&socket, &launcher, &[]).unwrap();
    let plan = Plan {
        id: "a".into(),
        arguments: vec!["/bin/sleep".into(), "98776".into()],
        ..Plan::default()
    };
    let pid = client.launch(&plan, &[]).unwrap();
    let upgraded = client.upgrade(agent);
    let mut client = Client::connect(&socket).unwrap();
    let listed = client.list().unwrap();
    client.kill("a", 9, Scope::All).unwrap();
    client.stop().unwrap();
    upgraded.unwrap();
    assert_eq!(listed[0].pid, pid);
}

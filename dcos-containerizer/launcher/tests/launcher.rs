//! The launcher as its users meet it: a process, a socket, real containers.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helpers may, too"
)]

use std::fs::File;
use std::fs::Permissions;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dcos_launcher::{
    Answer, Client, Credentials, Device, Error, Exit, First, IdMap, Join, Message, Mount,
    NamespaceKind, Namespaces, Plan, Request, Rlimit, Root, Scope, Step, VERSION, Variable,
};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

/// A socket whose path is longer than an address of one may be.
fn in_deep_folder(folder: &Path) -> PathBuf {
    folder.join("deep".repeat(30)).join("launcher.sock")
}

struct Fixture {
    folder: tempfile::TempDir,
    client: Client,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_dcos-launcher"));
        let socket = in_deep_folder(folder.path());
        let client = Client::connect_or_start(&socket, program, &[]).unwrap();
        Self { folder, client }
    }

    fn socket(&self) -> PathBuf {
        in_deep_folder(self.folder.path())
    }

    fn reconnect(&mut self) {
        self.client = Client::connect(&self.socket()).unwrap();
    }

    fn exit(&mut self) -> Exit {
        let exit = self
            .client
            .next_event(PATIENCE)
            .unwrap()
            .expect("an exit in time");
        self.client.acknowledge(&exit.id).unwrap();
        exit
    }

    /// Runs a plan to its end; its output and wait status.
    fn run(&mut self, plan: &Plan) -> (String, i32) {
        let (mut output, writer) = std::io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let fds = [null.as_fd(), writer.as_fd(), writer.as_fd()];
        self.client.launch(plan, &fds).unwrap();
        drop(writer);
        let exit = self.exit();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        (text, exit.status)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Ok(client) = Client::connect(&self.socket()) {
            client.stop().unwrap();
        }
    }
}

fn shell(id: &str, script: &str) -> Plan {
    let path = Variable {
        name: "PATH".into(),
        value: "/usr/sbin:/usr/bin:/bin".into(),
    };
    Plan {
        id: id.into(),
        arguments: ["sh", "-c", script].map(String::from).to_vec(),
        environment: vec![path],
        ..Plan::default()
    }
}

fn code(status: i32) -> i32 {
    assert_eq!(status & 0x7f, 0, "killed by a signal: {status}");
    status >> 8
}

/// Whether there is a living process whose command line is `words`.
fn runs(words: &[&str]) -> bool {
    let wanted = words.join("\0") + "\0";
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    })
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + PATIENCE.unwrap();
    while !condition() {
        assert!(
            std::time::Instant::now() < end,
            "waited in vain until {what}"
        );
        std::thread::yield_now();
    }
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

const ALL: Namespaces = Namespaces {
    pid: true,
    mount: true,
    ipc: true,
    uts: true,
    network: true,
    user: false,
    cgroup: false,
};

fn proc_mount() -> Mount {
    Mount {
        target: "/proc".into(),
        source: "proc".into(),
        kind: "proc".into(),
        flags: libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        ..Mount::default()
    }
}

#[test]
fn status_and_output_arrive() {
    let mut fixture = Fixture::new();
    let (text, status) = fixture.run(&shell("a", "echo to stdout; echo to stderr >&2; exit 7"));
    assert_eq!((text.as_str(), code(status)), ("to stdout\nto stderr\n", 7));
    let (_, status) = fixture.run(&shell("b", "kill -9 $$"));
    assert_eq!(status & 0x7f, libc::SIGKILL);
}

#[test]
fn environment_directory_and_limits_are_as_planned() {
    let mut fixture = Fixture::new();
    let folder = fixture.folder.path().canonicalize().unwrap().join("for it");
    std::fs::create_dir(&folder).unwrap();
    let mut plan = shell(
        "a",
        // Not a pipeline, whose pipes the shell holds while it starts its parts, and not the last
        // command, which a shell may become.
        "env | grep -c .; pwd; ulimit -n; ls /proc/$$/fd; :",
    );
    plan.directory = Some(folder.clone());
    plan.rlimits = vec![Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft: 77,
        hard: 88,
    }];
    let (text, _) = fixture.run(&plan);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(&lines[1..3], [folder.to_str().unwrap(), "77"]);
    assert!(
        // The shell keeps a copy of its input at 10.
        lines[3..]
            .iter()
            .all(|fd| ["0", "1", "2", "10"].contains(fd)),
        "descriptors leak: {text}"
    );
}

#[test]
fn failures_name_the_step() {
    let mut fixture = Fixture::new();
    let mut plan = shell("a", "");
    plan.arguments = vec!["/no/such/program".into()];
    let Err(Error::Failed(failure)) = fixture.client.launch(&plan, &[]) else {
        panic!("launched");
    };
    assert_eq!((failure.step, failure.errno), (Step::Execute, libc::ENOENT));
    assert_eq!(
        failure.to_string(),
        "executing /no/such/program: No such file or directory (os error 2)"
    );

    let mut plan = shell("a", "");
    plan.directory = Some("/proc/self/cwd".into());
    let Err(Error::Failed(failure)) = fixture.client.launch(&plan, &[]) else {
        panic!("a link was followed");
    };
    assert_eq!(failure.errno, libc::ELOOP);
    plan.directory = Some("/dev/null/x".into());
    let Err(Error::Failed(failure)) = fixture.client.launch(&plan, &[]) else {
        panic!("launched");
    };
    assert_eq!(failure.step, Step::Directory);
    plan.id.clear();
    assert!(matches!(
        fixture.client.launch(&plan, &[]),
        Err(Error::Invalid(_))
    ));
    assert!(fixture.client.list().unwrap().is_empty());
}

#[test]
fn ids_are_free_again_after_the_acknowledgement() {
    let mut fixture = Fixture::new();
    fixture.client.launch(&shell("a", "exit 3"), &[]).unwrap();
    let exit = fixture.client.next_event(PATIENCE).unwrap().unwrap();
    assert!(matches!(
        fixture.client.launch(&shell("a", ""), &[]),
        Err(Error::Exists)
    ));
    fixture.client.acknowledge(&exit.id).unwrap();
    assert!(matches!(
        fixture.client.acknowledge("a"),
        Err(Error::Unknown)
    ));
    assert!(matches!(
        fixture.client.kill("a", 9, Scope::All),
        Err(Error::Unknown)
    ));
    fixture.run(&shell("a", ""));
}

#[test]
fn exits_are_kept_for_an_agent_that_was_away() {
    let mut fixture = Fixture::new();
    fixture.client.launch(&shell("a", "exit 5"), &[]).unwrap();
    fixture.client.next_event(PATIENCE).unwrap().unwrap();
    fixture.reconnect();
    let exit = fixture.client.next_event(PATIENCE).unwrap().unwrap();
    assert_eq!((exit.id.as_str(), code(exit.status)), ("a", 5));
    let listed = fixture.client.list().unwrap();
    assert_eq!(listed[0].exit.as_ref(), Some(&exit));
    fixture.client.acknowledge("a").unwrap();
    fixture.reconnect();
    assert_eq!(
        fixture
            .client
            .next_event(Some(Duration::from_millis(1)))
            .unwrap(),
        None
    );
}

#[test]
fn signals_reach_the_command() {
    let mut fixture = Fixture::new();
    let (mut output, writer) = std::io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let script = "trap 'echo got it; exit 4' TERM; echo ready; while :; do sleep 0.01; done";
    fixture
        .client
        .launch(&shell("a", script), &[null.as_fd(), writer.as_fd()])
        .unwrap();
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    fixture
        .client
        .kill("a", libc::SIGTERM, Scope::Command)
        .unwrap();
    assert_eq!(code(fixture.exit().status), 4);

    fixture
        .client
        .launch(&shell("b", "exec sleep 1000"), &[])
        .unwrap();
    fixture
        .client
        .kill("b", libc::SIGKILL, Scope::Command)
        .unwrap();
    assert_eq!(fixture.exit().status, libc::SIGKILL);
}

#[test]
fn daemons_die_with_their_container_without_root() {
    let mut fixture = Fixture::new();
    let daemon = ["sleep", "98761"];
    let (_, status) = fixture.run(&shell(
        "a",
        "(setsid sleep 98761 >/dev/null 2>&1 &) ; exit 2",
    ));
    assert_eq!(code(status), 2);
    assert!(!runs(&daemon), "the daemon outlived its container's end");

    let script = "(setsid sleep 98762 >/dev/null 2>&1 &) ; exec sleep 98763";
    fixture.client.launch(&shell("b", script), &[]).unwrap();
    wait_until("the daemon runs", || {
        runs(&["sleep", "98762"]) && runs(&["sleep", "98763"])
    });
    fixture.client.kill("b", libc::SIGKILL, Scope::All).unwrap();
    assert_eq!(fixture.exit().status, libc::SIGKILL);
    assert!(!runs(&["sleep", "98762"]), "the daemon outlived the kill");

    // Even when somebody kills the init itself.
    let script = "(setsid sleep 98764 >/dev/null 2>&1 &) ; exec sleep 98765";
    let pid = fixture.client.launch(&shell("c", script), &[]).unwrap();
    wait_until("the daemon runs", || runs(&["sleep", "98764"]));
    let init = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
    fixture.exit();
    wait_until("orphans are gone", || {
        !runs(&["sleep", "98764"]) && !runs(&["sleep", "98765"])
    });
}

#[test]
fn an_upgrade_keeps_containers() {
    let mut fixture = Fixture::new();
    let pid = fixture
        .client
        .launch(&shell("a", "sleep 98771; exit 6"), &[])
        .unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_dcos-launcher"));
    assert!(matches!(
        fixture.client.upgrade(Path::new("/no/such")),
        Err(Error::Invalid(_))
    ));
    assert_eq!(
        fixture.client.list().unwrap().len(),
        1,
        "a failed upgrade changes nothing"
    );
    let script = fixture.folder.path().join("script");
    let write = |does: &str| {
        std::fs::write(&script, format!("#!/bin/sh\n{does}\n")).unwrap();
        std::fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
    };
    for does in [
        "printf 0123456789abcdef",
        "printf '0123456789abcdef follows 1 3'",
        "true",
        // Nobody waits until these end.
        "printf '0123456789abcdef follows 1'; exec sleep 98775",
        "exec sleep 98775",
    ] {
        write(does);
        let refused = fixture.client.upgrade(&script);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{does:?}");
    }
    assert!(!runs(&["sleep", "98775"]));
    // One that reads more than its own state.
    let path = program.display();
    write(&format!(
        "case \"$*\" in *--identify) printf 'fedcba9876543210 follows 2 3' ;; *) exec {path} \"$@\" ;; esac"
    ));
    fixture.client.upgrade(&script).unwrap();
    fixture.reconnect();
    let listed = fixture.client.list().unwrap();
    assert_eq!((listed[0].id.as_str(), listed[0].pid), ("a", pid));
    wait_until("it sleeps", || runs(&["sleep", "98771"]));
    fixture.client.upgrade(program).unwrap();
    fixture.reconnect();
    fixture.client.kill("a", libc::SIGTERM, Scope::All).unwrap();
    assert_eq!(fixture.exit().id, "a");
    let (text, _) = fixture.run(&shell("b", "echo still works"));
    assert_eq!(text, "still works\n");
}

#[test]
fn a_launcher_says_which_version_it_does_not_know() {
    let mut fixture = Fixture::new();
    fixture
        .client
        .launch(&shell("a", "sleep 98772"), &[])
        .unwrap();
    let mut plan = shell("b", "true").encode();
    plan[0] -= 1;
    let former = plan[0];
    let (mut sender, mut receiver, _) = Client::connect(&fixture.socket()).unwrap().split();
    sender.send(&Request::Launch { plan }, &[]).unwrap();
    let Some(Message::Answer { answer, .. }) = receiver.receive(PATIENCE).unwrap() else {
        panic!("no answer");
    };
    // These very words are what earlier ones say: agents know them.
    let words = |version| format!("version {version} is not spoken here");
    let Answer::Invalid { reason } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(reason, words(former));
    let refused = Answer::Invalid {
        reason: words(VERSION),
    }
    .into_result();
    assert!(matches!(refused, Err(Error::Version)));
    fixture.client.kill("a", libc::SIGKILL, Scope::All).unwrap();
}

/// One that was begun as a mode of a program, which hands its word for it on.
#[test]
fn a_launcher_takes_the_place_of_a_mode_of_another_program() {
    let mut fixture = Fixture::new();
    let socket = fixture.folder.path().join("other.sock");
    let program = Path::new(env!("CARGO_BIN_EXE_dcos-launcher"));
    assert!(dcos_launcher::is_own(program, &["launcher"]));
    fixture.client = Client::connect_or_start(&socket, program, &["launcher"]).unwrap();
    fixture
        .client
        .launch(&shell("a", "sleep 98773"), &[])
        .unwrap();
    fixture.client.upgrade(program).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    assert_eq!(client.list().unwrap().len(), 1);
    client.stop().unwrap();
}

#[test]
fn a_launcher_that_nobody_needs_ends() {
    let folder = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_dcos-launcher"));
    let socket = folder.path().join("launcher.sock");
    let command = [program, "--daemon".as_ref(), "--socket".as_ref(), &socket];
    let command = command.map(|word| word.to_str().unwrap());
    let start = || Client::connect_or_start(&socket, program, &[]).unwrap();
    // Its agent died before it ran anything.
    drop(start());
    wait_until("it has ended", || !runs(&command));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "the lock is left"
    );

    // A container keeps it, and the end of one until somebody knows of it.
    let mut client = start();
    client.launch(&shell("a", "read line"), &[]).unwrap();
    let (_, writer) = std::io::pipe().unwrap();
    client
        .launch(&shell("b", "sleep 60"), &[writer.as_fd()])
        .unwrap();
    client.next_event(PATIENCE).unwrap().unwrap();
    drop(client);
    let mut client = Client::connect(&socket).unwrap();
    client.kill("b", libc::SIGKILL, Scope::All).unwrap();
    drop(client);
    let mut client = Client::connect(&socket).unwrap();
    for _ in 0..2 {
        let exit = client.next_event(PATIENCE).unwrap().unwrap();
        client.acknowledge(&exit.id).unwrap();
    }
    drop(client);
    wait_until("it has ended again", || !runs(&command));

    // Whoever comes while it ends finds another, or the same.
    for number in 0..50 {
        assert!(start().list().unwrap().is_empty(), "{number}");
    }
    start().stop().unwrap();
}

/// Until its program runs a command is a copy of the launcher, which others of its user may look into where
/// the kernel allows it.
#[test]
fn who_has_become_a_user_has_nothing_open_of_the_launcher() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    let socket = fixture.socket().to_str().unwrap().to_owned();
    let is_launcher = |pid: &str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&socket)
    };
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    let launcher = processes.find(|entry| is_launcher(&entry.file_name().to_string_lossy()));
    let launcher = launcher.unwrap().file_name().into_string().unwrap();
    let children = format!("/proc/{launcher}/task/{launcher}/children");
    // It takes some time to find the program, and is looked for by the user.
    let path = "/n:".repeat(40_000) + "/usr/bin:/bin";
    let mut plan = shell("a", "");
    plan.new.pid = true;
    plan.arguments = vec!["true".into()];
    plan.environment[0].value = path;
    plan.credentials = Some(Credentials {
        uid: 65534,
        gid: 65534,
        groups: Vec::new(),
    });
    let (launched, seen) = (AtomicBool::new(false), AtomicBool::new(false));
    let look = || {
        while !launched.load(Ordering::Relaxed) {
            let pids = std::fs::read_to_string(&children).unwrap();
            for pid in pids.split_whitespace().filter(|pid| is_launcher(pid)) {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
                if !status.is_ok_and(|it| it.contains("\nUid:\t65534")) {
                    continue;
                }
                let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
                for number in open.into_iter().flatten().flatten() {
                    seen.store(true, Ordering::Relaxed);
                    let what = std::fs::read_link(number.path()).unwrap_or_default();
                    let what = what.to_string_lossy();
                    assert!(!what.starts_with("socket:"), "{what} is open");
                    assert!(!what.ends_with(".lock"), "{what} is open");
                }
            }
        }
    };
    for _ in 0..1000 {
        std::thread::scope(|scope| {
            let watcher = scope.spawn(look);
            fixture.client.launch(&plan, &[]).unwrap();
            launched.store(true, Ordering::Relaxed);
            watcher.join().unwrap();
        });
        launched.store(false, Ordering::Relaxed);
        assert_eq!(code(fixture.exit().status), 0);
        if seen.load(Ordering::Relaxed) {
            return;
        }
    }
    panic!("it was never seen");
}

#[test]
fn a_second_launcher_does_not_take_the_socket() {
    let fixture = Fixture::new();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_dcos-launcher"))
        .arg("--socket")
        .arg(fixture.socket())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another launcher"), "{said}");
}

#[test]
fn namespaces_hide_the_host() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    let script = "echo $$; ls -d /proc/[0-9]* | wc -l; hostname; ls /sys/class/net 2>/dev/null | wc -l; ipcs -q | grep -c 0x";
    let mut plan = shell("a", script);
    plan.new = ALL;
    plan.hostname = Some("inside".into());
    plan.mounts = vec![proc_mount()];
    let (text, _) = fixture.run(&plan);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "1");
    assert!(
        lines[1].parse::<u32>().unwrap() <= 3,
        "other processes are seen: {text}"
    );
    assert_eq!(lines[2], "inside");

    // The same under an init: process 1 is the init, and signals' deaths are told exactly.
    plan.first = First::Init;
    plan.arguments[2] = "echo $$; kill -11 $$".into();
    let (text, status) = fixture.run(&plan);
    assert_eq!((text.as_str(), status & 0x7f), ("2\n", libc::SIGSEGV));
}

#[test]
fn a_root_file_system_is_the_whole_world() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    let root = fixture.folder.path().join("root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    // A link out of the root must lead nowhere but into it.
    std::os::unix::fs::symlink("/", root.join("evil")).unwrap();
    let bind = |folder: &str| Mount {
        target: folder.into(),
        source: folder.into(),
        flags: libc::MS_BIND | libc::MS_REC | libc::MS_RDONLY,
        ..Mount::default()
    };
    let mut binds: Vec<_> = ["/usr", "/bin", "/lib", "/lib64"]
        .iter()
        .filter(|f| Path::new(f).exists())
        .map(|f| bind(f))
        .collect();
    binds.push(proc_mount());
    binds.push(Mount {
        target: "/evil/caught".into(),
        source: "/usr".into(),
        flags: libc::MS_BIND,
        ..Mount::default()
    });
    let mut plan = shell(
        "a",
        "ls / | tr '\\n' ' '; touch /usr/x 2>/dev/null || echo read-only; touch /y && echo written; cat /proc/cpuinfo /proc/meminfo | wc -c; pwd",
    );
    plan.new = ALL;
    plan.mounts = binds;
    plan.root = Some(Root {
        path: root.clone(),
        readonly: false,
    });
    plan.devices = vec![Device {
        path: "/dev/null".into(),
        block: false,
        major: 1,
        minor: 3,
        mode: 0o666,
        uid: 0,
        gid: 0,
    }];

    plan.masked_paths = vec![
        "/proc/cpuinfo".into(),
        "/proc/meminfo".into(),
        "/proc/absent".into(),
    ];
    plan.readonly_paths = vec!["/proc/sys".into()];
    let (text, _) = fixture.run(&plan);
    assert!(text.contains("caught") && text.contains("evil"), "{text}");
    assert!(text.ends_with("read-only\nwritten\n0\n/\n"), "{text}");
    assert!(!Path::new("/caught").exists());

    // What the kernel makes would be found elsewhere than it is hidden.
    for link in ["proc", "evil/sub"] {
        let mut moved = plan.clone();
        let mount = moved.mounts.iter_mut().find(|mount| mount.kind == "proc");
        mount.unwrap().target = Path::new("/evil").join(link);
        let Err(Error::Failed(failure)) = fixture.client.launch(&moved, &[]) else {
            panic!("procfs lies behind a link");
        };
        assert_eq!((failure.step, failure.errno), (Step::Mount, libc::ELOOP));
    }
    for masked in [true, false] {
        let mut behind = plan.clone();
        let paths = if masked {
            &mut behind.masked_paths
        } else {
            &mut behind.readonly_paths
        };
        paths.push("/evil/proc/sys".into());
        let Err(Error::Failed(failure)) = fixture.client.launch(&behind, &[]) else {
            panic!("what a link leads to is hidden");
        };
        assert_eq!((failure.step, failure.errno), (Step::Mask, libc::ELOOP));
    }

    plan.root = Some(Root {
        path: root,
        readonly: true,
    });
    plan.arguments[2] = "touch /z 2>/dev/null || echo read-only".into();
    assert_eq!(fixture.run(&plan).0, "read-only\n");
}

#[test]
fn no_link_leads_to_a_bind_that_allows_none() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    let folder = fixture.folder.path().canonicalize().unwrap();
    for name in ["source", "target", "outside"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("source/file"), "x").unwrap();
    std::os::unix::fs::symlink("outside", folder.join("link")).unwrap();
    let bind = |source: &str, target: &str| Mount {
        source: folder.join(source),
        target: folder.join(target),
        flags: libc::MS_BIND | libc::MS_REC | libc::MS_RDONLY,
        no_links: true,
        ..Mount::default()
    };
    let script = format!("cd {}/target; ls; touch y || echo kept", folder.display());
    let mut plan = shell("a", &script);
    plan.new.mount = true;
    plan.mounts = vec![bind("source", "target")];
    let (text, _) = fixture.run(&plan);
    assert!(
        text.starts_with("file\n") && text.ends_with("kept\n"),
        "{text}"
    );
    for (source, target) in [("link", "target"), ("source", "link"), ("source", "link/x")] {
        plan.mounts = vec![bind(source, target)];
        let Err(Error::Failed(failure)) = fixture.client.launch(&plan, &[]) else {
            panic!("launched: {source} at {target}");
        };
        assert_eq!((failure.step, failure.errno), (Step::Mount, libc::ELOOP));
    }
}

#[test]
fn a_user_namespace_makes_root_nobody_outside() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    let mut plan = shell(
        "a",
        "id -u; cat /proc/self/uid_map | tr -s ' '; touch /usr/x 2>/dev/null || echo refused",
    );
    plan.new = Namespaces { user: true, ..ALL };
    plan.mounts = vec![proc_mount()];
    let map = IdMap {
        inside: 0,
        outside: 100_000,
        count: 65536,
    };
    (plan.uid_maps, plan.gid_maps) = (vec![map], vec![map]);
    assert_eq!(fixture.run(&plan).0, "0\n 0 100000 65536\nrefused\n");
}

#[test]
fn no_link_leads_out_of_the_root_of_a_user_namespace() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    let map = IdMap {
        inside: 0,
        outside: 100_000,
        count: 65536,
    };
    let root = fixture.folder.path().join("root");
    for folder in ["", "proc", "srv/kept", "var", "bin", "lib", "lib64"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
        std::os::unix::fs::chown(root.join(folder), Some(100_000), None).unwrap();
    }
    // As images have `/var/run`; the way leads over the root, where the node's was before.
    std::os::unix::fs::symlink("../srv", root.join("var/srv")).unwrap();
    let found = fixture.folder.path().join("found");
    std::fs::create_dir_all(found.join("here")).unwrap();
    let bind = |source: &Path, target: &str| Mount {
        target: target.into(),
        source: source.into(),
        flags: libc::MS_BIND | libc::MS_REC | libc::MS_RDONLY,
        ..Mount::default()
    };
    let mut plan = shell("a", "ls /srv/kept");
    plan.new = Namespaces { user: true, ..ALL };
    (plan.uid_maps, plan.gid_maps) = (vec![map], vec![map]);
    plan.mounts = vec![proc_mount(), bind(&found, "/var/srv/kept")];
    let folders = ["/bin", "/lib", "/lib64"].map(Path::new).into_iter();
    let folders = folders.filter(|folder| folder.exists());
    plan.mounts
        .extend(folders.map(|folder| bind(folder, folder.to_str().unwrap())));
    plan.root = Some(Root {
        path: root,
        readonly: false,
    });
    assert_eq!(fixture.run(&plan).0, "here\n");
}

#[test]
fn nested_containers_enter_their_parents_namespaces() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    // A pause process holds what the members of a pod share.
    let pause = Plan {
        id: "pod".into(),
        new: ALL,
        mounts: vec![proc_mount()],
        ..Plan::default()
    };
    let pid = fixture.client.launch(&pause, &[]).unwrap();
    let join = |kind, file: &str| Join {
        kind,
        path: format!("/proc/{pid}/ns/{file}").into(),
    };
    let mut plan = shell(
        "pod.member",
        "echo $$; ls -d /proc/[0-9]* | wc -l; (setsid sleep 98781 &)",
    );
    plan.join = vec![
        join(NamespaceKind::Pid, "pid"),
        join(NamespaceKind::Network, "net"),
        join(NamespaceKind::Ipc, "ipc"),
        join(NamespaceKind::Uts, "uts"),
    ];
    plan.new = Namespaces {
        mount: true,
        ..Namespaces::default()
    };
    plan.mounts = vec![proc_mount()];
    let (text, status) = fixture.run(&plan);
    let lines: Vec<_> = text.lines().collect();
    assert_ne!(lines[0], "1");
    assert!(
        (3..=6).contains(&lines[1].parse::<u32>().unwrap()),
        "{text}"
    );
    assert_eq!(code(status), 0);
    fixture
        .client
        .kill("pod", libc::SIGKILL, Scope::All)
        .unwrap();
    assert_eq!(fixture.exit().id, "pod");
    wait_until("the pod's daemon is gone", || !runs(&["sleep", "98781"]));
}

/// The launcher has another process enter a pid namespace, which clones the container's and then tells of it, in four
/// bytes. Here that is its end.
#[test]
fn what_another_process_has_cloned_ends_with_it() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("launcher.sock");
    let start = || {
        let four = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 4).unwrap();
        let rules = vec![SeccompRule::new(vec![four]).unwrap()];
        let (allow, kill) = (SeccompAction::Allow, SeccompAction::KillThread);
        let architecture = std::env::consts::ARCH.try_into().unwrap();
        let filter =
            SeccompFilter::new([(libc::SYS_write, rules)].into(), allow, kill, architecture);
        let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_dcos-launcher"));
        Client::connect_or_start(&socket, program, &[]).unwrap()
    };
    // Only this thread, and what it starts.
    let client = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    let mut fixture = Fixture { folder, client };
    let mut holder = shell("holder", "exec sleep 98771");
    holder.new.pid = true;
    let pid = fixture.client.launch(&holder, &[]).unwrap();
    let file = fixture.folder.path().join("it ran");
    let mut plan = shell("holder.nested", "echo > \"$0\"; exec sleep 98771");
    plan.arguments.push(file.display().to_string());
    plan.join = vec![Join {
        kind: NamespaceKind::Pid,
        path: format!("/proc/{pid}/ns/pid").into(),
    }];
    let refused = fixture.client.launch(&plan, &[]);
    assert!(
        matches!(&refused, Err(Error::Failed(failure)) if failure.step == Step::Clone),
        "{refused:?}"
    );
    let launcher = fixture.client.launcher_pid().unwrap();
    wait_until("only what is known is left", || children(launcher) == [pid]);
    assert!(!file.exists());
    fixture
        .client
        .kill("holder", libc::SIGKILL, Scope::All)
        .unwrap();
    fixture.exit();
}

fn children(of: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{of}"))
    };
    pids.filter(is_child).collect()
}

/// Who the parent of a process is.
fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent.unwrap().trim().parse().unwrap()
}

#[test]
fn the_launcher_is_known_as_the_parent_of_containers() {
    let mut fixture = Fixture::new();
    let first = fixture.client.launch(&shell("c", "sleep 1000"), &[]);
    let launcher = parent(first.unwrap());
    assert_eq!(fixture.client.launcher_pid(), Some(launcher));
    let program = Path::new(env!("CARGO_BIN_EXE_dcos-launcher"));
    fixture.client.upgrade(program).unwrap();
    fixture.reconnect();
    assert_eq!(fixture.client.launcher_pid(), Some(launcher));
}

#[test]
fn a_process_that_is_no_launcher_is_not_known_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("launcher.sock");
    // As those did that went to the background without listening there: this process is another's.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let client = Client::connect(&socket).unwrap();
    assert_eq!(client.launcher_pid(), None);
}

#[test]
fn a_pause_process_ends_when_asked() {
    let mut fixture = Fixture::new();
    fixture
        .client
        .launch(
            &Plan {
                id: "p".into(),
                ..Plan::default()
            },
            &[],
        )
        .unwrap();
    fixture
        .client
        .kill("p", libc::SIGTERM, Scope::Command)
        .unwrap();
    assert_eq!(fixture.exit().status, libc::SIGTERM);
}

#[test]
fn an_init_keeps_nothing_of_what_the_launcher_knew() {
    if !is_root() {
        return;
    }
    let mut fixture = Fixture::new();
    let plan = Plan {
        first: First::Init,
        new: Namespaces {
            pid: true,
            ..Namespaces::default()
        },
        ..shell(
            "much",
            &format!("read line; exit 7 # {}", "x".repeat(100_000)),
        )
    };
    let (input, hold) = std::io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let fds = [input.as_fd(), null.as_fd(), null.as_fd()];
    let init = fixture.client.launch(&plan, &fds).unwrap();
    let heap = || {
        let maps = std::fs::read_to_string(format!("/proc/{init}/smaps")).unwrap();
        let heap = maps.lines().skip_while(|line| !line.ends_with("[heap]"));
        let mut heap = heap.skip_while(|line| !line.starts_with("Rss:"));
        heap.next().unwrap().to_owned()
    };
    // It says that its command runs before.
    wait_until("the heap is empty", || {
        heap().split_whitespace().nth(1) == Some("0")
    });
    drop(hold);
    assert_eq!(code(fixture.exit().status), 7);
}

#[test]
fn many_at_once_are_all_reported_once() {
    let mut fixture = Fixture::new();
    for number in 0..100 {
        fixture
            .client
            .launch(&shell(&format!("c{number}"), "exit 0"), &[])
            .unwrap();
    }
    let mut seen: Vec<_> = (0..100).map(|_| fixture.exit().id).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    assert_eq!(
        fixture
            .client
            .next_event(Some(Duration::from_millis(1)))
            .unwrap(),
        None
    );
}

#[test]
fn a_launcher_beside_is_used_only_if_it_is_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let own = Path::new(env!("CARGO_BIN_EXE_dcos-launcher"));
    let agent = own.with_file_name("an-agent");
    assert_eq!(dcos_launcher::beside(&agent).as_deref(), Some(own));
    let folder = tempfile::tempdir().unwrap();
    let agent = folder.path().join("an-agent");
    assert_eq!(dcos_launcher::beside(&agent), None);
    let other = folder.path().join("dcos-launcher");
    for script in [
        "#!/bin/sh\necho another\n",
        "#!/bin/sh\nexit 1\n",
        "no program",
    ] {
        // Written elsewhere and moved: a file that somebody has open for writing cannot be executed.
        let written = folder.path().join("written");
        std::fs::write(&written, script).unwrap();
        std::fs::set_permissions(&written, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&written, &other).unwrap();
        assert_eq!(dcos_launcher::beside(&agent), None, "{script:?}");
    }
    // The same, but not in the hands of those who may be trusted.
    let same = folder.path().join("same");
    std::fs::copy(own, &same).unwrap();
    let set = |mode| std::fs::set_permissions(&other, std::fs::Permissions::from_mode(mode));
    std::fs::rename(&same, &other).unwrap();
    set(0o755).unwrap();
    assert_eq!(dcos_launcher::beside(&agent), Some(other.clone()));
    set(0o775).unwrap();
    assert_eq!(
        dcos_launcher::beside(&agent),
        None,
        "its group may write it"
    );
    set(0o755).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&other, Some(65534), None).unwrap();
        assert_eq!(dcos_launcher::beside(&agent), None, "it is somebody else's");
    }
    std::fs::remove_file(&other).unwrap();
    std::os::unix::fs::symlink(own, &other).unwrap();
    assert_eq!(dcos_launcher::beside(&agent), None, "a link may change");
}

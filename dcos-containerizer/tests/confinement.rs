//! What a container cannot do: real processes, made by the real launcher, as root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod confined;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use confined::{Fixture, PATIENCE, Test, linux_info, runs};
use dcos_containerizer::isolator::cgroup::{Cgroups, Removals};
use dcos_containerizer::isolator::{IsolationConfig, Isolators, Limits};
use dcos_launcher::Scope;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::{
    CapabilityInfo, ContainerInfo, ResourceStatistics, SeccompInfo, Volume, capability_info,
};

fn main() -> ExitCode {
    confined::main(TESTS)
}

const TESTS: &[(&str, Test)] = confined::tests! {
    memory_beyond_the_limit_ends_the_container_and_says_so
    memory_of_a_pod_is_told_as_the_pods
    memory_that_the_node_lacks_is_told_as_such
    who_may_take_more_memory_than_is_kept_for_it_goes_first
    memory_is_watched_while_the_container_goes_on
    cpu_time_stays_below_the_quota
    a_fork_bomb_is_contained_and_ends_with_its_container
    other_processes_are_not_seen
    who_shares_its_parents_processes_sees_them
    capabilities_not_given_cannot_be_used
    capabilities_that_nobody_named_are_few
    nobody_gets_beyond_the_bounding_capabilities
    system_calls_are_filtered
    programs_of_32_bits_are_filtered_by_their_own_numbers
    devices_not_allowed_cannot_be_opened
    daemons_die_with_their_container
    what_cannot_be_killed_yet_keeps_no_agent_from_starting
    an_agent_that_starts_ends_no_other_agents_containers
    an_image_is_all_a_container_sees
};

async fn memory_beyond_the_limit_ends_the_container_and_says_so() {
    let isolation = "cgroups/mem,namespaces/pid,filesystem/linux";
    let Some(mut fixture) = Fixture::new(isolation, |_| ()) else {
        return;
    };
    let mut config = fixture.config("tail /dev/zero");
    config.limits = Limits {
        mem: Some(64 << 20),
        ..Limits::default()
    };
    let outcome = fixture.run(&config, |_| false).await;
    assert_ne!(outcome.status, 0);
    let limitation = outcome.limitation.expect("the reason is known");
    assert_eq!(
        limitation.reason,
        i32::from(Reason::ContainerLimitationMemory)
    );
    assert!(
        limitation
            .message
            .starts_with("Memory limit exceeded: Requested: 64MB Maximum Used: ")
    );
    let used = limitation.resources[0].scalar.unwrap().value;
    assert!((32.0..=64.0).contains(&used), "{used} MB used of 64");

    // One that stays below is left alone.
    config.command = fixture
        .config("head -c 20000000 /dev/zero | tail -c 1 | wc -c")
        .command;
    let outcome = fixture.run(&config, |_| false).await;
    assert_eq!((outcome.output.trim(), outcome.limitation), ("1", None));
}

fn memory(kept: u64, limit: Option<u64>) -> Limits {
    Limits {
        mem: Some(kept << 20),
        mem_limit: limit.map(|limit| limit << 20),
        ..Limits::default()
    }
}

/// A member of a pod without a limit of its own: whose limit it hit.
async fn memory_of_a_pod_is_told_as_the_pods() {
    let Some(mut fixture) = Fixture::new("cgroups/mem", |_| ()) else {
        return;
    };
    let mut pod = fixture.config("true");
    pod.limits = memory(64, None);
    fixture.isolators.prepare(&pod).await.unwrap();
    let mut member = fixture.config("tail /dev/zero");
    member.id = pod.id.child("n");
    let outcome = fixture.run(&member, |_| false).await;
    assert_ne!(outcome.status, 0);
    let message = outcome.limitation.expect("the reason is known").message;
    let begin = "Memory limit exceeded: Requested: 64MB Maximum Used: ";
    assert!(message.starts_with(begin), "{message}");

    // One with a limit of its own, and a pod that has more: that ends the member alone.
    member.container = Some(linux_info(|linux| linux.share_cgroups = Some(false)));
    member.limits = memory(40, None);
    let outcome = fixture.run(&member, |_| false).await;
    let message = outcome.limitation.expect("the reason is known").message;
    let begin = "Memory limit exceeded: Requested: 40MB Maximum Used: ";
    assert!(message.starts_with(begin), "{message}");
    assert_eq!(fixture.isolators.limitation(&pod.id), None);
    fixture.isolators.cleanup(&pod.id).await.unwrap();
}

/// A limit around all containers stands for the node's memory.
async fn memory_that_the_node_lacks_is_told_as_such() {
    let Some(mut fixture) = Fixture::new("cgroups/mem", |_| ()) else {
        return;
    };
    let mut config = fixture.config("tail /dev/zero");
    config.limits = memory(1024, None);
    let cgroups = Cgroups::discover(&fixture.cgroups_root).unwrap();
    fixture.isolators.prepare(&config).await.unwrap();
    let folder = cgroups.folder("memory", &config.id).unwrap();
    let around = folder.path.parent().unwrap();
    let limit = ["memory.limit_in_bytes", "memory.max"].map(|file| around.join(file));
    let limit = limit.iter().find(|file| file.exists()).unwrap();
    std::fs::write(limit, (64_u64 << 20).to_string()).unwrap();
    let outcome = fixture.run(&config, |_| false).await;
    assert_ne!(outcome.status, 0);
    let limitation = outcome.limitation.expect("the reason is known");
    assert_eq!(limitation.reason, i32::from(Reason::ContainerLimitation));
    let begin = "The node is out of memory";
    let message = limitation.message;
    assert!(message.starts_with(begin), "{message}");
}

async fn who_may_take_more_memory_than_is_kept_for_it_goes_first() {
    let isolation = "cgroups/mem,namespaces/pid,filesystem/linux";
    let Some(mut fixture) = Fixture::new(isolation, |_| ()) else {
        return;
    };
    let mut config = fixture.config("cat /proc/self/oom_score_adj");
    let mut score = async |limits| {
        config.limits = limits;
        let output = fixture.output(&config).await;
        output.trim().parse::<i32>().unwrap()
    };
    assert_eq!(score(memory(64, None)).await, 0);
    assert_eq!(score(memory(64, Some(64))).await, 0);
    let (little, more) = (
        score(memory(64, Some(2048))).await,
        score(memory(1024, Some(2048))).await,
    );
    assert!(
        0 < more && more < little && little < 1000,
        "{little}, {more}"
    );
    // Whatever the launcher has, and so the agent that started it.
    let launchers = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let socket = fixture.folder.path().join("run/launcher.sock");
            String::from_utf8_lossy(&line).contains(&*socket.to_string_lossy())
        });
    for launcher in launchers {
        let file = launcher.path().join("oom_score_adj");
        if let Err(error) = std::fs::write(file, "-900") {
            eprintln!("skipped: a launcher that is spared takes CAP_SYS_RESOURCE: {error}");
            return;
        }
    }
    config.limits = memory(64, None);
    assert_eq!(fixture.output(&config).await, "0\n");
}

async fn memory_is_watched_while_the_container_goes_on() {
    let Some(mut fixture) = Fixture::new("cgroups/mem", |_| ()) else {
        return;
    };
    // The shell survives what is killed.
    let mut config = fixture.config("tail /dev/zero; exec sleep 1000");
    config.limits = Limits {
        mem: Some(48 << 20),
        ..Limits::default()
    };
    let isolators = fixture.isolators.clone();
    let draft = isolators.prepare(&config).await.unwrap();
    let plan = draft.to_plan("c").unwrap();
    let launcher = fixture.launcher.as_mut().unwrap();
    launcher.launch(&plan, &[]).unwrap();
    let limitation = tokio::time::timeout(PATIENCE, isolators.watch(&config.id))
        .await
        .unwrap();
    assert_eq!(
        limitation.reason,
        i32::from(Reason::ContainerLimitationMemory)
    );
    launcher.kill("c", libc::SIGKILL, Scope::All).unwrap();
    let exit = launcher.next_event(Some(PATIENCE)).unwrap().unwrap();
    assert_eq!(exit.status, libc::SIGKILL);
    isolators.cleanup(&config.id).await.unwrap();
}

async fn cpu_time_stays_below_the_quota() {
    let change = |config: &mut IsolationConfig| config.cgroups_enable_cfs = true;
    let Some(mut fixture) = Fixture::new("cgroups/cpu", change) else {
        return;
    };
    let mut config = fixture.config("while :; do :; done");
    config.limits = Limits {
        cpus: Some(0.2),
        ..Limits::default()
    };
    let begin = Instant::now();
    // On a busy machine it takes a while until the loop gets as much as it may have.
    let long_enough = |usage: &ResourceStatistics| {
        let throttled = usage.cpus_nr_throttled > Some(0);
        begin.elapsed() > Duration::from_secs(2) && throttled || begin.elapsed() > PATIENCE
    };
    let usage = fixture.run(&config, long_enough).await.usage;
    let used = usage.cpus_user_time_secs.unwrap() + usage.cpus_system_time_secs.unwrap();
    let most = 0.2 * begin.elapsed().as_secs_f64() + 0.1;
    assert!(used <= most, "{used} s of CPU time, {most} s allowed");
    if usage.cpus_nr_throttled == Some(0) {
        eprintln!("skipped: the machine never had as much to give");
    }
    assert!((usage.cpus_limit.unwrap() - 0.2).abs() < 0.01);
}

async fn a_fork_bomb_is_contained_and_ends_with_its_container() {
    for isolation in [
        "cgroups/pids",
        "cgroups/pids,namespaces/pid,filesystem/linux",
    ] {
        let change = |config: &mut IsolationConfig| config.pids_limit = Some(30);
        let Some(mut fixture) = Fixture::new(isolation, change) else {
            return;
        };
        let script =
            "bomb() { sleep 98811 | bomb | bomb & wait; }; bomb 2>/dev/null & exec sleep 98811";
        let config = fixture.config(script);
        let most = AtomicU32::new(0);
        // A second more for it to get beyond the limit, once it has grown.
        let grown = OnceLock::new();
        let outcome = fixture.run(&config, |usage| {
            let threads = usage.threads.unwrap_or(0);
            most.fetch_max(threads, Ordering::Relaxed);
            if threads >= 10 {
                grown.get_or_init(Instant::now);
            }
            grown
                .get()
                .is_some_and(|since| since.elapsed() > Duration::from_secs(1))
        });
        let outcome = outcome.await;
        assert_eq!(outcome.status, libc::SIGKILL);
        let most = most.into_inner();
        assert!((10..=30).contains(&most), "{most} processes, 30 allowed");
        assert!(!runs(&["sleep", "98811"]), "something of the bomb is left");
    }
}

async fn other_processes_are_not_seen() {
    let Some(mut fixture) = Fixture::new("namespaces/pid,filesystem/linux", |_| ()) else {
        return;
    };
    let config = fixture.config("echo /proc/[0-9]*; kill -0 12345678 2>/dev/null || echo alone");
    let output = fixture.output(&config).await;
    // The init and the shell.
    assert_eq!(output, "/proc/1 /proc/2\nalone\n");

    let mut shared = config.clone();
    shared.container = Some(linux_info(|linux| linux.share_pid_namespace = Some(true)));
    let output = fixture.output(&shared).await;
    assert!(output.split(' ').count() > 2, "{output}");
}

async fn who_shares_its_parents_processes_sees_them() {
    let Some(mut fixture) = Fixture::new("namespaces/pid,filesystem/linux", |_| ()) else {
        return;
    };
    let parent = fixture.config("exec sleep 98823");
    let draft = fixture.isolators.prepare(&parent).await.unwrap();
    let plan = draft.to_plan(&parent.id.value).unwrap();
    let launcher = fixture.launcher.as_mut().unwrap();
    let pid = launcher.launch(&plan, &[]).unwrap();
    // It is a shell for a moment.
    let begin = Instant::now();
    while !runs(&["sleep", "98823"]) {
        assert!(begin.elapsed() < PATIENCE, "it never sleeps");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Which process it is by the kernel and by `/proc`, and how many are there of its parent.
    let script =
        "read pid rest < /proc/self/stat; echo $$ $pid; cat /proc/[0-9]*/comm | grep -c sleep";
    for (shared, sleepers) in [(true, "1"), (false, "0")] {
        let mut nested = fixture.config(script);
        nested.id = parent.id.child("n");
        nested.parent_pid = Some(pid);
        nested.container = Some(linux_info(|linux| linux.share_pid_namespace = Some(shared)));
        let output = fixture.output(&nested).await;
        let words: Vec<_> = output.split_whitespace().collect();
        assert_eq!(words, [words[0], words[0], sleepers]);
    }
    let launcher = fixture.launcher.as_mut().unwrap();
    let id = &parent.id.value;
    launcher.kill(id, libc::SIGKILL, Scope::All).unwrap();
    let exit = launcher.next_event(Some(PATIENCE)).unwrap().unwrap();
    launcher.acknowledge(&exit.id).unwrap();
    fixture.isolators.cleanup(&parent.id).await.unwrap();
}

async fn capabilities_not_given_cannot_be_used() {
    let one = CapabilityInfo {
        capabilities: vec![capability_info::Capability::Chown.into()],
    };
    let change = |config: &mut IsolationConfig| config.effective_capabilities = Some(one);
    let Some(mut fixture) = Fixture::new("linux/capabilities,linux/nnp", change) else {
        return;
    };
    let script = "grep -E 'Cap(Eff|Bnd|Amb)|NoNew' /proc/self/status | tr -s '\\t\\n' ' '; \
                  touch f; chown 1:1 f && echo chowned; \
                  mknod d c 1 3 2>/dev/null || echo no mknod; \
                  chroot / true 2>/dev/null || echo no chroot";
    let output = fixture.output(&fixture.config(script)).await;
    let bits = "0000000000000001";
    let sets = format!("CapEff: {bits} CapBnd: {bits} CapAmb: {bits} NoNewPrivs: 1 ");
    assert_eq!(output, format!("{sets}chowned\nno mknod\nno chroot\n"));

    // A user keeps what was given, and nothing more.
    let mut config = fixture.config("id -u; grep CapEff /proc/self/status | cut -f2");
    config.user = Some("65534".into());
    assert_eq!(fixture.output(&config).await, format!("65534\n{bits}\n"));
}

async fn capabilities_that_nobody_named_are_few() {
    let Some(mut fixture) = Fixture::new("linux/capabilities", |_| ()) else {
        return;
    };
    let mut config = fixture.config("grep -E 'Cap(Eff|Bnd|Amb)' /proc/self/status | cut -f2");
    let (default, none) = ("00000000800405fb", "0000000000000000");
    assert_eq!(
        fixture.output(&config).await,
        format!("{default}\n{default}\n{none}\n")
    );
    config.user = Some("65534".into());
    assert_eq!(
        fixture.output(&config).await,
        format!("{none}\n{default}\n{none}\n")
    );
}

async fn nobody_gets_beyond_the_bounding_capabilities() {
    use capability_info::Capability::{Chown, Kill, SysAdmin};
    let set = |of: &[capability_info::Capability]| {
        Some(CapabilityInfo {
            capabilities: of.iter().map(|&one| one.into()).collect(),
        })
    };
    let bounds = set(&[Chown, Kill]);
    let change = |config: &mut IsolationConfig| config.bounding_capabilities = bounds;
    let Some(mut fixture) = Fixture::new("linux/capabilities", change) else {
        return;
    };
    let script = "grep -E 'Cap(Eff|Bnd|Amb)' /proc/self/status | cut -f2 | tr '\\n' ' '";
    let plain = fixture.config(script);
    let asking = |effective, bounding| {
        let mut config = plain.clone();
        config.container = Some(linux_info(|linux| {
            (linux.effective_capabilities, linux.bounding_capabilities) = (effective, bounding);
        }));
        config
    };
    let (none, chown, both) = ("0000000000000000", "0000000000000001", "0000000000000021");

    // The bounds alone give root what they allow, and others nothing.
    let mut config = plain.clone();
    let output = fixture.output(&config).await;
    assert_eq!(output, format!("{both} {both} {none} "));
    config.user = Some("65534".into());
    let output = fixture.output(&config).await;
    assert_eq!(output, format!("{none} {both} {none} "));

    // Less can be asked for, and goes to whoever asks.
    let mut config = asking(set(&[Chown]), None);
    config.user = Some("65534".into());
    let output = fixture.output(&config).await;
    assert_eq!(output, format!("{chown} {chown} {chown} "));
    let output = fixture.output(&asking(None, set(&[Chown]))).await;
    assert_eq!(output, format!("{chown} {chown} {none} "));

    // More cannot, in whatever words.
    let mut old = plain.clone();
    old.container = Some(linux_info(|linux| {
        linux.capability_info = set(&[SysAdmin]);
    }));
    for config in [
        old,
        asking(set(&[SysAdmin]), None),
        asking(None, set(&[SysAdmin])),
        asking(set(&[SysAdmin]), set(&[SysAdmin])),
        asking(set(&[Kill]), set(&[Chown])),
    ] {
        let refused = fixture.isolators.prepare(&config).await.unwrap_err();
        assert!(refused.to_string().contains("beyond"), "{refused}");
    }
}

async fn system_calls_are_filtered() {
    let Some(mut fixture) = Fixture::new("linux/seccomp", |_| ()) else {
        return;
    };
    let script = "grep 'Seccomp:' /proc/self/status | cut -f2; \
                  (echo child) ; unshare -m true 2>/dev/null || echo refused";
    let mut config = fixture.config(script);
    assert_eq!(fixture.output(&config).await, "2\nchild\nrefused\n");
    config.container = Some(linux_info(|linux| {
        linux.seccomp = Some(SeccompInfo {
            unconfined: Some(true),
            ..SeccompInfo::default()
        });
    }));
    assert_eq!(fixture.output(&config).await, "0\nchild\n");
}

async fn programs_of_32_bits_are_filtered_by_their_own_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let profile = |name: &str, families: &str| {
        let profile = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", {families} "syscalls": [
                {{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}}]}}"#
        );
        std::fs::write(folder.path().join(name), profile).unwrap();
    };
    profile(
        "both",
        r#""archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],"#,
    );
    profile("one", "");
    // 39 is `mkdir` there and `getpid` for others, 36 is `sync`.
    let program = |number: u8| {
        let path = folder.path().join(format!("call-{number}"));
        std::fs::write(&path, program_of_32_bits(number)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let (mkdir, sync) = (program(39), program(36));
    if !std::process::Command::new(&sync)
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("skipped: the kernel runs no 32-bit programs");
        return;
    }
    let change = |config: &mut IsolationConfig| {
        config.seccomp_config_dir = Some(folder.path().to_owned());
    };
    let Some(mut fixture) = Fixture::new("linux/seccomp", change) else {
        return;
    };
    let mut config = fixture.config(&format!(
        "{mkdir}; echo $?; {sync}; echo $?; mkdir x || echo $?"
    ));
    for (name, expected) in [
        (Some("both"), "13 0 1"),
        (Some("one"), "159 159 1"),
        (None, "159 159"),
    ] {
        config.container = Some(linux_info(|linux| {
            linux.seccomp = name.map(|name| SeccompInfo {
                profile_name: Some(name.to_owned()),
                ..SeccompInfo::default()
            });
        }));
        let output = fixture.output(&config).await;
        let lines = output.lines().filter(|line| line.parse::<u8>().is_ok());
        let codes: Vec<_> = lines.collect();
        assert_eq!(codes.join(" "), expected, "{name:?}: {output}");
    }
}

/// A program for 32-bit x86 that makes one system call and ends with its error, or 0.
fn program_of_32_bits(number: u8) -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    let code = |path: u32| {
        let mut code = vec![0xb8, number, 0, 0, 0, 0xbb];
        code.extend(path.to_le_bytes());
        // mov ecx, 0; int 0x80; mov ebx, eax; neg ebx; mov eax, 1; int 0x80
        code.extend([
            0xb9, 0, 0, 0, 0, 0xcd, 0x80, 0x89, 0xc3, 0xf7, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80,
        ]);
        code
    };
    let head = 52 + 32;
    let length = u32::try_from(code(0).len()).unwrap();
    let mut program = b"\x7fELF\x01\x01\x01".to_vec();
    program.resize(16, 0);
    let words = |halves: &[u16]| {
        halves
            .iter()
            .flat_map(|half| half.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let longs = |values: &[u32]| {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>()
    };
    // An executable for the 386, its entry, one segment behind this head.
    program.extend(words(&[2, 3]));
    program.extend(longs(&[1, BASE + head, 52, 0, 0]));
    program.extend(words(&[52, 32, 1, 0, 0, 0]));
    let all = head + length + 3;
    program.extend(longs(&[1, 0, BASE, BASE, all, all, 5, 0x1000]));
    program.extend(code(BASE + head + length));
    program.extend(b"/x\0");
    program
}

async fn devices_not_allowed_cannot_be_opened() {
    let Some(mut fixture) = Fixture::new("cgroups/devices", |_| ()) else {
        return;
    };
    let script = "head -c 1 /dev/zero | wc -c; mknod kmsg c 1 11; head -c 1 kmsg 2>&1 | tail -c 24";
    let output = fixture.output(&fixture.config(script)).await;
    assert_eq!(output, "1\nOperation not permitted\n");
}

async fn daemons_die_with_their_container() {
    let cgroups = Cgroups::discover("mesos".as_ref()).unwrap();
    let mut isolations = vec!["posix/cpu", "namespaces/pid,filesystem/linux"];
    if cgroups.has("memory") {
        isolations.extend(["cgroups/mem", "cgroups/mem,namespaces/pid,filesystem/linux"]);
    }
    for isolation in isolations {
        let Some(mut fixture) = Fixture::new(isolation, |_| ()) else {
            return;
        };
        let script = "(setsid sleep 98821 > /dev/null 2>&1 &); sleep 0.1; echo done";
        let output = fixture.output(&fixture.config(script)).await;
        assert_eq!(output, "done\n", "{isolation}");
        assert!(
            !runs(&["sleep", "98821"]),
            "{isolation}: the daemon is left"
        );
    }
}

/// A frozen process stands for one that waits for a disk: no signal ends it.
async fn what_cannot_be_killed_yet_keeps_no_agent_from_starting() {
    let removals = Removals::new(Duration::ZERO);
    let change = |config: &mut IsolationConfig| config.removals = removals.clone();
    let Some(fixture) = Fixture::new("cgroups/mem", change) else {
        return;
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let hierarchy = |controller: &str| {
        let is_it = |line: &&str| {
            let (_, kind) = line.split_once(" - ").unwrap();
            kind.starts_with("cgroup ") && kind.split([',', ' ']).any(|word| word == controller)
        };
        let line = mounts.lines().find(is_it)?;
        Some(Path::new(line.split(' ').nth(4)?).join(&fixture.cgroups_root))
    };
    let (Some(memory), Some(freezer)) = (hierarchy("memory"), hierarchy("freezer")) else {
        eprintln!("skipped: needs the freezer of version 1");
        return;
    };
    let orphan = memory.join("orphan");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::create_dir_all(&freezer).unwrap();
    let mut process = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let pid = process.id().to_string();
    std::fs::write(orphan.join("cgroup.procs"), &pid).unwrap();
    std::fs::write(freezer.join("cgroup.procs"), &pid).unwrap();
    std::fs::write(freezer.join("freezer.state"), "FROZEN").unwrap();

    let recovered = fixture.isolators.recover(&[]).await;
    let is_left = orphan.exists();
    let begin = Instant::now();
    while removals.failed() == 0 && begin.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::write(freezer.join("freezer.state"), "THAWED").unwrap();
    recovered.unwrap();
    assert_eq!(removals.failed(), 1, "one that takes too long counts once");
    assert!(is_left, "nothing held it");
    process.wait().unwrap();
    let begin = Instant::now();
    while orphan.exists() {
        assert!(begin.elapsed() < PATIENCE, "it is never removed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn an_agent_that_starts_ends_no_other_agents_containers() {
    let isolation = "cgroups/cpu,cgroups/mem,cgroups/pids";
    let Some(mut fixture) = Fixture::new(isolation, |_| ()) else {
        return;
    };
    let other = tempfile::tempdir().unwrap();
    let other = Isolators::from_config(&IsolationConfig {
        isolation: isolation.to_owned(),
        cgroups_root: fixture.cgroups_root.clone(),
        runtime_dir: other.path().join("run"),
        work_dir: other.path().to_owned(),
        ..IsolationConfig::default()
    });
    let config = fixture.config("exec sleep 98822");
    let draft = fixture.isolators.prepare(&config).await.unwrap();
    let launcher = fixture.launcher.as_mut().unwrap();
    let plan = draft.to_plan(&config.id.value).unwrap();
    launcher.launch(&plan, &[]).unwrap();
    other.unwrap().recover(&[]).await.unwrap();
    let usage = fixture.isolators.usage(&config.id).await;
    assert_eq!(usage.processes, Some(1));
    // Its own agent does, if it knows nothing of it.
    fixture.isolators.recover(&[]).await.unwrap();
    let launcher = fixture.launcher.as_mut().unwrap();
    let exit = launcher.next_event(Some(PATIENCE)).unwrap().unwrap();
    assert_eq!(exit.status, libc::SIGKILL);
    launcher.acknowledge(&exit.id).unwrap();
    fixture.isolators.cleanup(&config.id).await.unwrap();
}

async fn an_image_is_all_a_container_sees() {
    let isolation = "filesystem/linux,namespaces/pid,namespaces/ipc,linux/seccomp";
    let Some(mut fixture) = Fixture::new(isolation, |_| ()) else {
        return;
    };
    let rootfs = fixture.folder.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("etc")).unwrap();
    let volumes = ["/usr", "/bin", "/lib", "/lib64"]
        .into_iter()
        .filter(|f| Path::new(f).exists());
    let volume = |path: &str, mode: Mode| Volume {
        container_path: path.to_owned(),
        host_path: Some(path.to_owned()),
        mode: mode.into(),
        ..Volume::default()
    };
    let data = Volume {
        host_path: Some("kept".into()),
        ..volume("data", Mode::Rw)
    };
    let volumes = volumes
        .map(|path| volume(path, Mode::Ro))
        .chain([data])
        .collect();
    let script = "ls / | tr '\\n' ' '; pwd; echo $MESOS_SANDBOX; echo x > data/file; \
                  touch /usr/x 2>/dev/null || echo read-only; ls /dev | tr '\\n' ' '; \
                  cat /proc/kcore 2>/dev/null | wc -c; echo 1 > /proc/sys/kernel/panic || echo refused";
    let mut config = fixture.config(script);
    config.container = Some(ContainerInfo {
        volumes,
        ..ContainerInfo::default()
    });
    config.rootfs = Some(rootfs);
    config
        .environment
        .push(("MESOS_SANDBOX".into(), "wrong".into()));
    let output = fixture.output(&config).await;
    let lines: Vec<_> = output.lines().collect();
    let sandbox = "/mnt/mesos/sandbox";
    assert!(
        lines[0].contains("etc") && lines[0].contains("proc"),
        "{output}"
    );
    assert!(
        !lines[0].contains("home") && lines[0].ends_with(sandbox),
        "{output}"
    );
    assert_eq!(lines[1..3], [sandbox, "read-only"], "{output}");
    assert!(
        lines[3].starts_with("fd full mqueue null ptmx pts random shm stderr"),
        "{output}"
    );
    assert!(
        lines[3].ends_with("zero 0") && lines[4..].concat().ends_with("refused"),
        "{output}"
    );
    let written = std::fs::read_to_string(config.sandbox.join("kept/file")).unwrap();
    assert_eq!(written, "x\n");
}

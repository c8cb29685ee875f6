//! Processes that try to leave a default container, or to reach what is not theirs.
//!
//! Each is root inside and runs under what an agent isolates when nobody says otherwise. What the
//! default is, and why, is in `docs/safety.md`; each of its rows names a test here.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and tells on standard output why it was skipped"
)]

mod confined;

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use confined::{Fixture, Test, linux_info};
use dcos_containerizer::isolator::IsolationConfig;
use dcos_launcher::{Client, Error};
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::{CapabilityInfo, ContainerInfo, SeccompInfo, Volume, capability_info};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == "order") {
        return order(Path::new(&arguments.next().unwrap()));
    }
    confined::main(TESTS)
}

/// What gives the launcher an order from inside a container.
fn order(socket: &Path) -> ExitCode {
    let asked = Client::connect(socket).and_then(|mut launcher| launcher.list());
    println!("{}", if asked.is_ok() { "obeyed" } else { "refused" });
    ExitCode::SUCCESS
}

const TESTS: &[(&str, Test)] = confined::tests! {
    the_defaults_are_in_force
    the_launcher_behind_process_1_cannot_be_touched
    the_launcher_takes_no_orders_from_containers
    nothing_is_mounted_and_no_namespace_made
    mounts_of_an_administrator_stay_inside
    links_in_images_lead_nowhere
    no_link_moves_what_is_hidden_or_made
    working_directories_and_mounts_stay_inside
    no_descriptor_is_left_open
    cgroups_cannot_be_left_nor_release_agents_set
    devices_are_neither_made_nor_opened
    the_kernel_is_neither_asked_nor_changed
};

/// A node that isolates what an agent isolates by default.
fn default_node() -> Option<Fixture> {
    let isolation = IsolationConfig::of_root().unwrap().isolation;
    Fixture::new(&isolation, |_| ())
}

/// Runs `script` with and without an image; both have to say the same.
async fn tries(fixture: &mut Fixture, script: &str) -> String {
    let plain = fixture.config(script);
    let output = fixture.output(&plain).await;
    let mut with_image = plain.clone();
    fixture.image(&mut with_image);
    assert_eq!(fixture.output(&with_image).await, output, "with an image");
    output
}

async fn the_defaults_are_in_force() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -s '\\t\\n' ' '; echo; \
                  cut -d: -f3 /proc/self/cgroup | sort -u | grep -v '^/$' | wc -l; \
                  set -- /proc/[0-9]*; echo $#";
    let output = tries(&mut fixture, script).await;
    let lines: Vec<_> = output.lines().collect();
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
    // sys_chroot, setfcap; nothing can be passed on to others.
    let (none, given) = ("0000000000000000", "00000000800405fb");
    let expected = format!(
        "CapInh: {none} CapPrm: {given} CapEff: {given} CapBnd: {given} CapAmb: {none} \
         NoNewPrivs: 1 Seccomp: 2 "
    );
    assert_eq!(lines[0], expected);
    // Hierarchies that no isolator uses, such as systemd's, show where the agent is.
    let unused: u32 = lines[1].parse().unwrap();
    assert!(unused <= 1, "{unused} cgroups are not the container's");
    assert!(
        lines[2].parse::<u32>().unwrap() <= 6,
        "it sees others: {output}"
    );

    // The limit of processes is the kernel's.
    let config = fixture.config("true");
    let draft = fixture.isolators.prepare(&config).await.unwrap();
    // In version 2 processes are in a folder below that of the limits.
    let folders = draft
        .cgroups
        .iter()
        .flat_map(|cgroup| cgroup.path.ancestors().take(2));
    let limits: Vec<_> = folders
        .filter_map(|folder| std::fs::read_to_string(folder.join("pids.max")).ok())
        .collect();
    fixture.isolators.cleanup(&config.id).await.unwrap();
    assert!(limits.contains(&"32768\n".to_owned()), "{limits:?}");
}

/// Process 1 is a copy of the launcher, with all its privileges and its program.
async fn the_launcher_behind_process_1_cannot_be_touched() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let program = std::env::current_exe().unwrap();
    let before = std::fs::metadata(&program).unwrap();
    let script = "for file in exe environ maps mem syscall stack; do \
                    test \"$(head -c 1 /proc/1/$file 2>/dev/null | wc -c)\" = 0 || echo read $file; \
                  done; \
                  (: >> /proc/1/exe) 2>/dev/null && echo wrote; \
                  ls -A /proc/1/root/ /proc/1/cwd/ 2>/dev/null; \
                  readlink /proc/1/exe /proc/1/fd/*; (: < /proc/1/fd/3) 2>/dev/null && echo opened; \
                  command -v strace >/dev/null && \
                    ! timeout 5 strace -p 1 2>&1 | grep -q 'not permitted' && echo traced; \
                  kill -STOP 1; kill -KILL 1; echo alive";
    assert_eq!(tries(&mut fixture, script).await, "alive\n");
    let after = std::fs::metadata(&program).unwrap();
    assert_eq!(before.len(), after.len());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

async fn the_launcher_takes_no_orders_from_containers() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let program = std::env::current_exe().unwrap();
    let socket = fixture.folder.path().join("run/launcher.sock");
    // It is root, and sees the socket.
    let script = format!(
        "test -S {0} && {1} order {0}",
        socket.display(),
        program.display()
    );
    let config = fixture.config(&script);
    assert_eq!(fixture.output(&config).await, "refused\n");
    // What is no container is obeyed.
    let said = std::process::Command::new(program)
        .arg("order")
        .arg(&socket)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "obeyed\n");
}

async fn nothing_is_mounted_and_no_namespace_made() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let script = "mkdir -p m; tried() { \"$@\" >/dev/null 2>&1 && echo done: \"$*\"; }; \
                  tried mount -t tmpfs x m; tried mount -t proc x m; tried mount --bind /proc m; \
                  tried mount -o remount,rw /sys; tried mount -o bind,remount,rw /proc/sys; \
                  tried mount --make-rshared /; tried umount /proc/sys; tried umount -l /proc/kcore; \
                  for kind in -m -p -n -u -i -C -U; do tried unshare $kind true; done; \
                  tried unshare -Ur mount -t tmpfs x m; tried nsenter -t 1 -m true; \
                  tried chroot / mount -t tmpfs x m; echo tried";
    assert_eq!(tries(&mut fixture, script).await, "tried\n");
}

fn mounted(name: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.contains(name)
}

/// One that was given `CAP_SYS_ADMIN` mounts, but not on the node.
async fn mounts_of_an_administrator_stay_inside() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let name = format!("evil-{}", std::process::id());
    let script = format!(
        "mkdir -p {name}; mount --make-rshared / 2>/dev/null; mount -t tmpfs x {name} && \
         grep -c {name} /proc/self/mountinfo; while [ ! -e go ]; do sleep 0.02; done"
    );
    let mut config = fixture.config(&script);
    config.container = Some(linux_info(|linux| {
        linux.effective_capabilities = Some(CapabilityInfo {
            capabilities: vec![capability_info::Capability::SysAdmin.into()],
        });
        linux.seccomp = Some(SeccompInfo {
            unconfined: Some(true),
            ..SeccompInfo::default()
        });
    }));
    let go = config.sandbox.join("go");
    let looked = std::sync::atomic::AtomicBool::new(false);
    let folder = config.sandbox.join(&name);
    let outcome = fixture.run(&config, |_| {
        if folder.exists() && !looked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            assert!(!mounted(&name), "it is mounted on the node");
            std::fs::write(&go, "").unwrap();
        }
        false
    });
    assert_eq!(outcome.await.output, "1\n");
    assert!(!mounted(&name), "it is mounted on the node");
}

/// An image whose folders are links to the node's, where the agent mounts and makes things.
async fn links_in_images_lead_nowhere() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let outside = fixture.folder.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let script = "echo x > /data/file; cat /data/file; cd \"$MESOS_SANDBOX\" && echo x > made; \
                  ls /dev/null; test -e /proc/self && echo proc";
    let mut config = fixture.config(script);
    let volume = |container_path: &str| Volume {
        container_path: container_path.to_owned(),
        host_path: Some("kept".into()),
        mode: Mode::Rw.into(),
        ..Volume::default()
    };
    config.container = Some(ContainerInfo {
        volumes: vec![volume("/data"), volume("/up"), volume("/etc/deep/er")],
        ..ContainerInfo::default()
    });
    config
        .environment
        .push(("MESOS_SANDBOX".into(), "wrong".into()));
    let rootfs = fixture.image(&mut config);
    std::fs::remove_dir(rootfs.join("etc")).unwrap();
    for name in ["data", "mnt", "etc"] {
        symlink(&outside, rootfs.join(name)).unwrap();
    }
    let up = "../".repeat(20) + outside.to_str().unwrap();
    symlink(up, rootfs.join("up")).unwrap();
    // Inside, the links lead to a folder of the image.
    std::fs::create_dir_all(rootfs.join(outside.strip_prefix("/").unwrap())).unwrap();
    let output = fixture.output(&config).await;
    assert_eq!(output, "x\n/dev/null\nproc\n");
    let made: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().collect();
    assert!(made.is_empty(), "something was made outside: {made:?}");
}

/// Images whose links make something else of a path once there is a mount: what was mounted there before would
/// be found at another place, and not be hidden.
async fn no_link_moves_what_is_hidden_or_made() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let outcomes: &[(&[(&str, &str)], &str)] = &[
        // `/proc` is at `/real`, until the sandbox is mounted.
        (
            &[
                ("proc", "mnt/mesos/sandbox/p"),
                ("mnt/mesos/sandbox/p", "/real"),
            ],
            "mounting /proc",
        ),
        (&[("proc", "real")], "mounting /proc"),
        (&[("sys", "real")], "mounting /sys"),
        (&[("dev", "/mnt/mesos/sandbox")], "mounting /dev"),
        (&[("mnt/mesos/sandbox", "/")], "mounting /mnt/mesos/sandbox"),
        (&[("mnt/mesos/sandbox", "/proc/sys")], "ran"),
        // There is no `/dev/null` then: it may run or not.
        (&[("mnt/mesos/sandbox", "/dev")], ""),
    ];
    let script = "for folder in /proc /real /sys /real/p; do \
                    for file in sys/kernel/core_pattern sysrq-trigger power/state; do \
                      test -e $folder/$file && (: >> $folder/$file) 2>/dev/null && \
                        echo opened $folder/$file; \
                    done; \
                  done; echo ran";
    for (number, (links, expected)) in outcomes.iter().enumerate() {
        let mut config = fixture.config(script);
        config.id.value = format!("c{number}");
        let rootfs = fixture.image(&mut config);
        std::fs::create_dir(rootfs.join("real")).unwrap();
        for (path, target) in *links {
            let path = rootfs.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, path).unwrap();
        }
        let draft = fixture.isolators.prepare(&config).await.unwrap();
        let plan = draft.to_plan(&config.id.value).unwrap();
        let (mut output, writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let launcher = fixture.launcher.as_mut().unwrap();
        let launched = launcher.launch(&plan, &[null.as_fd(), writer.as_fd(), writer.as_fd()]);
        drop((writer, plan));
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        match launched {
            Ok(_) => {
                let exit = launcher.next_event(Some(confined::PATIENCE)).unwrap();
                launcher.acknowledge(&exit.unwrap().id).unwrap();
            }
            Err(Error::Failed(failure)) => said += &failure.to_string(),
            Err(error) => panic!("{error:?}"),
        }
        fixture.isolators.cleanup(&config.id).await.unwrap();
        assert!(said.starts_with(expected), "{links:?}: {said}");
        // The task itself may have made files.
        let left = std::fs::read_dir(&config.sandbox).unwrap().flatten();
        let mut left = left.filter(|entry| !entry.file_type().unwrap().is_file());
        assert!(left.next().is_none(), "{links:?}: made in the sandbox");
        std::fs::remove_dir_all(rootfs).unwrap();
    }
}

/// Where processes of the node are seen, such as process 1, their links in `/proc` lead to the node's root.
async fn working_directories_and_mounts_stay_inside() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let mut config = fixture.config("pwd");
    config.container = Some(linux_info(|linux| linux.share_pid_namespace = Some(true)));
    let rootfs = fixture.image(&mut config);
    let root = format!("/proc/{}/root", std::process::id());
    symlink(&root, rootfs.join("w")).unwrap();
    symlink("new/folder", rootfs.join("fine")).unwrap();
    std::fs::create_dir_all(rootfs.join("new/folder")).unwrap();
    let outside = fixture.folder.path().join("outside");
    let below = format!("/w{}", outside.display());
    for (directory, volume) in [
        (root.as_str(), None),
        ("/w", None),
        (below.as_str(), None),
        ("/", Some(format!("{below}/volume"))),
        ("/fine", None),
        ("/made/here", None),
    ] {
        let mut config = config.clone();
        let volumes = &mut config.container.as_mut().unwrap().volumes;
        volumes.extend(volume.clone().map(|path| Volume {
            container_path: path,
            host_path: Some("/usr".to_owned()),
            mode: Mode::Ro.into(),
            ..Volume::default()
        }));
        let mut draft = fixture.isolators.prepare(&config).await.unwrap();
        draft.directory(directory.into());
        let plan = draft.to_plan("c").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let launcher = fixture.launcher.as_mut().unwrap();
        let launched = launcher.launch(&plan, &[null.as_fd()]);
        let is_inside = directory == "/fine" || directory == "/made/here";
        assert_eq!(launched.is_ok(), is_inside, "{directory}: {launched:?}");
        if is_inside {
            let exit = launcher.next_event(Some(confined::PATIENCE)).unwrap();
            launcher.acknowledge(&exit.unwrap().id).unwrap();
        }
        fixture.isolators.cleanup(&config.id).await.unwrap();
        assert!(!outside.exists(), "{directory} was made on the node");
    }
}

async fn no_descriptor_is_left_open() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    // What this test has open without the flag to close it reaches the launcher, and no further.
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let output = tries(&mut fixture, "readlink /proc/$$/fd/[3-9]*; echo none").await;
    assert_eq!(output, "none\n");
}

async fn cgroups_cannot_be_left_nor_release_agents_set() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let script = "for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do \
                    for file in release_agent notify_on_release tasks cgroup.procs \
                        memory.limit_in_bytes pids.max devices.allow; do \
                      (echo 1 > $folder/$file) 2>/dev/null && echo wrote $folder/$file; \
                    done; \
                    mkdir $folder/evil 2>/dev/null && echo made $folder/evil; \
                  done; mkdir -p c; mount -t cgroup -o memory x c 2>/dev/null && echo mounted; \
                  mount -t cgroup2 x c 2>/dev/null && echo mounted; echo tried";
    assert_eq!(tries(&mut fixture, script).await, "tried\n");
}

async fn devices_are_neither_made_nor_opened() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let script = "mknod disk b 254 0 2>/dev/null && echo made; mknod log c 1 11 2>/dev/null && echo made; \
                  for device in /dev/*; do test -L $device && continue; \
                    test -b $device -o -c $device || continue; \
                    (: < $device) 2>/dev/null && case $device in \
                      */null|*/zero|*/full|*/random|*/urandom|*/tty|*/ptmx|*/console|*/tty0|*/tty1) ;; \
                      *) echo opened $device;; esac; done; echo tried";
    assert_eq!(tries(&mut fixture, script).await, "tried\n");

    // Nodes that somebody else has made do not help.
    let config = fixture.config("(: < left) 2>/dev/null && echo opened; echo tried");
    let left = config.sandbox.join("left");
    let copied = std::process::Command::new("cp")
        .args(["-a", "/dev/kmsg"])
        .arg(left)
        .status();
    if copied.is_ok_and(|copied| copied.success()) {
        assert_eq!(fixture.output(&config).await, "tried\n");
    }
}

async fn the_kernel_is_neither_asked_nor_changed() {
    let Some(mut fixture) = default_node() else {
        return;
    };
    let script = "for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/panic \
                      /proc/sys/vm/drop_caches /proc/sysrq-trigger /proc/irq/default_smp_affinity \
                      /sys/kernel/uevent_helper /sys/power/state /sys/module/*/parameters/*; do \
                    test -e $file && (: >> $file) 2>/dev/null && echo opened $file; \
                  done; \
                  for file in kcore keys timer_list timer_stats sched_debug latency_stats; do \
                    test \"$(head -c 1 /proc/$file 2>/dev/null | wc -c)\" = 0 || echo read $file; \
                  done; ls /sys/firmware /sys/devices/virtual/powercap /proc/acpi /proc/scsi 2>/dev/null | grep -v ':$' | grep .; \
                  dmesg >/dev/null 2>&1 && echo dmesg; hostname evil 2>/dev/null && echo named; \
                  date -s \"$(date)\" >/dev/null 2>&1 && echo dated; \
                  keyctl show >/dev/null 2>&1 && echo keys; \
                  echo tried";
    assert_eq!(tries(&mut fixture, script).await, "tried\n");
}

//! How long a container takes from the order to run it to its end, noticed and cleaned up.
//!
//! `cargo bench -p dcos-launcher --bench launch`, as root; `-- --json` for machines.
//!
//! The program is `true`, in an own root, with new pid, mount, IPC, UTS and network namespaces
//! (loopback up), `/proc`, `/sys`, `/dev` with nodes, and cgroups that limit memory, CPU and
//! processes, made and removed.
//!
//! | contestant | what it is |
//! |---|---|
//! | limit | one process a container that clones, mounts, attaches, executes and nothing else |
//! | dcos | the launcher, asked over its socket |
//! | crun, runc | the program's `run`, where installed |
//!
//! Contestants take turns in rounds, back to back and after rests of 25 ms, since a kernel that
//! was left alone makes some waits longer. The ratio is that of the medians to the limit's, taken
//! inside each round.

#![expect(
    unsafe_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its table, may panic, and has a limit program of bare system calls"
)]

use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use dcos_launcher::{
    Cgroup, CgroupVersion, Client, Device, Mount, Namespaces, Plan, Root, Variable,
};

const ROUNDS: usize = 6;
const LAUNCHES: usize = 20;
const REST: Duration = Duration::from_millis(25);
const CONTESTANTS: [&str; 4] = ["limit", "dcos", "crun", "runc"];

/// What is mounted besides the root: target, type, flags, options.
const MOUNTS: [(&str, &str, u64, &str); 6] = [
    (
        "/proc",
        "proc",
        libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        "",
    ),
    (
        "/sys",
        "sysfs",
        libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        "",
    ),
    ("/dev", "tmpfs", libc::MS_NOSUID, "mode=755,size=64k"),
    (
        "/dev/pts",
        "devpts",
        libc::MS_NOSUID | libc::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620",
    ),
    (
        "/dev/shm",
        "tmpfs",
        libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        "mode=1777,size=64m",
    ),
    (
        "/dev/mqueue",
        "mqueue",
        libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        "",
    ),
];
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["launcher", ..] => return dcos_launcher::main(std::env::args_os().skip(2)),
        ["limit", folder, number] => limit(Path::new(folder), number),
        ["measure", contestant, folder, rest] => {
            measure(contestant, Path::new(folder), rest == "rest")
        }
        _ if !rustix::process::geteuid().is_root() => println!("skipped: needs root"),
        _ => compare(words.contains(&"--json")),
    }
    ExitCode::SUCCESS
}

fn compare(json: bool) {
    let folder = tempfile::tempdir().unwrap();
    make_root(&folder.path().join("bundle/rootfs"));
    fs::write(folder.path().join("bundle/config.json"), oci_config()).unwrap();
    let present = |name: &&&str| {
        !matches!(**name, "crun" | "runc") || Command::new(**name).arg("--version").output().is_ok()
    };
    let contestants: Vec<_> = CONTESTANTS.iter().filter(present).copied().collect();
    if !json {
        println!(
            "{:<8}{:<14}{:>10}{:>18}{:>8}{:>18}",
            "", "", "ms", "spread", "ratio", "spread"
        );
    }
    for (pace, rest) in [("back to back", "busy"), ("after a rest", "rest")] {
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); contestants.len()];
        for _ in 0..ROUNDS {
            for (contestant, times) in contestants.iter().zip(&mut times) {
                times.push(round(contestant, folder.path(), rest));
            }
        }
        for (place, contestant) in contestants.iter().enumerate() {
            let ratios = times[place]
                .iter()
                .zip(&times[0])
                .map(|(time, limit)| time / limit);
            let (time, ratio) = (Spread::of(times[place].iter().copied()), Spread::of(ratios));
            if json {
                println!(
                    "{{\"bench\":\"launch\",\"pace\":\"{pace}\",\"contestant\":\"{contestant}\",\
                     \"median_ms\":{:.3},\"min_ms\":{:.3},\"max_ms\":{:.3},\"ratio\":{:.3},\
                     \"ratio_min\":{:.3},\"ratio_max\":{:.3}}}",
                    time.median, time.min, time.max, ratio.median, ratio.min, ratio.max
                );
            } else {
                println!(
                    "{contestant:<8}{pace:<14}{:>10.2}{:>18}{:>7.2}x{:>18}",
                    time.median,
                    format!("{:.2} to {:.2}", time.min, time.max),
                    ratio.median,
                    format!("{:.2} to {:.2}", ratio.min, ratio.max)
                );
            }
        }
    }
}

struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[sorted.len() / 2];
        Self {
            median,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }
}

/// The median of some launches by one contestant, in a process of their own, milliseconds.
fn round(contestant: &str, folder: &Path, rest: &str) -> f64 {
    let own = std::env::current_exe().unwrap();
    let mut command = if contestant == "crun" {
        // It refuses hosts that have cgroup v2 beside v1: there it is given a view without.
        let mut command = Command::new("unshare");
        let script = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" \"$@\"";
        command.args(["-m", "sh", "-c", script]).arg(own);
        command
    } else {
        Command::new(own)
    };
    let output = command
        .args(["measure", contestant])
        .arg(folder)
        .arg(rest)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{contestant} failed: {text}"))
}

fn measure(contestant: &str, folder: &Path, rest: bool) {
    let own = std::env::current_exe().unwrap();
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let mut client = (contestant == "dcos").then(|| {
        let socket = folder.join("launcher.sock");
        Client::connect_or_start(&socket, &own, &["launcher"]).unwrap()
    });
    let mut run = |number: usize| {
        let id = format!("bench-{}-{number}", std::process::id());
        if let Some(client) = &mut client {
            let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
            let cgroups = make_cgroups(&id, &unified);
            let plan = plan(folder, &id, cgroups);
            client
                .launch(&plan, &[null.as_fd(), null.as_fd(), null.as_fd()])
                .unwrap();
            let exit = client.next_event(None).unwrap().unwrap();
            assert_eq!(exit.status, 0);
            client.acknowledge(&exit.id).unwrap();
            remove_cgroups(&plan.cgroups);
            return;
        }
        let mut command = match contestant {
            "limit" => Command::new(&own),
            other => Command::new(other),
        };
        match contestant {
            "limit" => command.arg("limit").arg(folder).arg(&id),
            "crun" => command
                .args(["--cgroup-manager=cgroupfs", "run", "--bundle"])
                .arg(folder.join("bundle"))
                .arg(&id),
            _ => command
                .args(["run", "--bundle"])
                .arg(folder.join("bundle"))
                .arg(&id),
        };
        let null = || Stdio::from(null.try_clone().unwrap());
        let status = command.stdin(null()).stdout(null()).status().unwrap();
        assert!(status.success(), "{contestant}: {status}");
    };
    (0..3).for_each(&mut run);
    let mut times: Vec<_> = (3..LAUNCHES + 3)
        .map(|number| {
            if rest {
                std::thread::sleep(REST);
            }
            let begin = Instant::now();
            run(number);
            begin.elapsed()
        })
        .collect();
    times.sort();
    if let Some(client) = client {
        client.stop().unwrap();
    }
    println!("{}", times[times.len() / 2].as_secs_f64() * 1000.0);
}

/// A root that holds `true` and what it is linked with.
fn make_root(root: &Path) {
    let listed = Command::new("ldd").arg("/bin/true").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/true"]) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
    for folder in ["proc", "sys", "dev"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
}

/// Limits that are set: hierarchy of v1, file, value.
const LIMITS: [(&str, &str, &str); 5] = [
    ("memory", "memory.limit_in_bytes", "134217728"),
    ("cpu", "cpu.shares", "512"),
    ("cpu", "cpu.cfs_period_us", "100000"),
    ("cpu", "cpu.cfs_quota_us", "100000"),
    ("pids", "pids.max", "1000"),
];

/// Makes cgroups for limits, and one in the first of the v2 places there is.
fn make_cgroups(id: &str, v2: &[&str]) -> Vec<Cgroup> {
    let mut cgroups = Vec::new();
    for name in ["memory", "cpu", "pids"] {
        let path = Path::new("/sys/fs/cgroup").join(name).join(id);
        if fs::create_dir(&path).is_ok() {
            for (_, file, value) in LIMITS.iter().filter(|(hierarchy, ..)| *hierarchy == name) {
                fs::write(path.join(file), value).unwrap();
            }
            cgroups.push(Cgroup {
                path,
                version: CgroupVersion::V1,
            });
        }
    }
    for place in v2 {
        let path = Path::new(place).join(id);
        if Path::new(place).join("cgroup.procs").exists() && fs::create_dir(&path).is_ok() {
            cgroups.push(Cgroup {
                path,
                version: CgroupVersion::V2,
            });
            break;
        }
    }
    cgroups
}

fn remove_cgroups(cgroups: &[Cgroup]) {
    for cgroup in cgroups {
        while fs::remove_dir(&cgroup.path).is_err() {
            std::thread::yield_now();
        }
    }
}

fn plan(folder: &Path, id: &str, cgroups: Vec<Cgroup>) -> Plan {
    let mount = |(target, kind, flags, data): &(&str, &str, u64, &str)| Mount {
        target: target.into(),
        source: kind.into(),
        kind: (*kind).to_owned(),
        flags: *flags,
        data: (*data).to_owned(),
        ..Mount::default()
    };
    let device = |(path, major, minor): &(&str, u32, u32)| Device {
        path: path.into(),
        block: false,
        major: *major,
        minor: *minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    Plan {
        id: id.to_owned(),
        new: Namespaces {
            pid: true,
            mount: true,
            ipc: true,
            uts: true,
            network: true,
            ..Namespaces::default()
        },
        cgroups,
        hostname: Some("bench".to_owned()),
        root: Some(Root {
            path: folder.join("bundle/rootfs"),
            readonly: false,
        }),
        mounts: MOUNTS.iter().map(mount).collect(),
        devices: NODES.iter().map(device).collect(),
        arguments: vec!["/bin/true".to_owned()],
        environment: vec![Variable {
            name: "PATH".to_owned(),
            value: "/bin".to_owned(),
        }],
        ..Plan::default()
    }
}

fn oci_config() -> String {
    let option = |flags: u64, data: &str| {
        let names = [
            (libc::MS_RDONLY, "ro"),
            (libc::MS_NOSUID, "nosuid"),
            (libc::MS_NODEV, "nodev"),
            (libc::MS_NOEXEC, "noexec"),
        ];
        let names = names
            .iter()
            .filter(|(flag, _)| flags & flag != 0)
            .map(|(_, name)| *name);
        let all: Vec<_> = names
            .chain(data.split(',').filter(|option| !option.is_empty()))
            .map(|option| format!("\"{option}\""))
            .collect();
        all.join(",")
    };
    let mounts: Vec<_> = MOUNTS
        .iter()
        .map(|(target, kind, flags, data)| {
            format!(
                "{{\"destination\":\"{target}\",\"type\":\"{kind}\",\"source\":\"{kind}\",\
                 \"options\":[{}]}}",
                option(*flags, data)
            )
        })
        .collect();
    let namespaces = ["pid", "mount", "ipc", "uts", "network"];
    let namespaces: Vec<_> = namespaces
        .iter()
        .map(|kind| format!("{{\"type\":\"{kind}\"}}"))
        .collect();
    format!(
        "{{\"ociVersion\":\"1.0.2\",\"hostname\":\"bench\",\"root\":{{\"path\":\"rootfs\"}},\
         \"process\":{{\"args\":[\"/bin/true\"],\"cwd\":\"/\",\"env\":[\"PATH=/bin\"],\
         \"user\":{{\"uid\":0,\"gid\":0}}}},\"mounts\":[{}],\"linux\":{{\"namespaces\":[{}],\
         \"resources\":{{\"memory\":{{\"limit\":134217728}},\"pids\":{{\"limit\":1000}},\
         \"cpu\":{{\"shares\":512,\"period\":100000,\"quota\":100000}}}}}}}}",
        mounts.join(","),
        namespaces.join(",")
    )
}

/// The limit program: what cannot be left out, by the shortest way.
fn limit(folder: &Path, id: &str) {
    let cgroups = make_cgroups(id, &[]);
    let root = c_string(&folder.join("bundle/rootfs"));
    let tasks: Vec<_> = cgroups
        .iter()
        .map(|cgroup| cgroup.path.join("cgroup.procs"))
        .collect();
    let flags = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    let mut args = [0_u64; 11];
    args[0] = u64::from(flags.cast_unsigned());
    args[4] = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: a clone_args of the full size; the process has one thread and copies its memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) };
    if pid == 0 {
        for path in tasks {
            fs::write(path, "0").unwrap();
        }
        inside(&root);
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    unsafe { libc::waitpid(i32::try_from(pid).unwrap(), &raw mut status, 0) };
    remove_cgroups(&cgroups);
    assert_eq!(status, 0, "pid {pid}");
}

fn inside(root: &CString) -> ! {
    let text = |text: &str| CString::new(text).unwrap();
    let check = |outcome: i32| assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    let none = std::ptr::null();
    let (dot, slash) = (text("."), text("/"));
    // SAFETY: all pointers are to strings that end with a zero and live on, or null where allowed.
    unsafe {
        check(libc::sethostname(c"bench".as_ptr(), 5));
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = 1;
        check(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request));
        check(libc::mount(
            none,
            slash.as_ptr(),
            none,
            libc::MS_SLAVE | libc::MS_REC,
            none.cast(),
        ));
        check(libc::mount(
            root.as_ptr(),
            root.as_ptr(),
            none,
            libc::MS_BIND | libc::MS_REC,
            none.cast(),
        ));
        check(libc::chdir(root.as_ptr()));
        let pivoted = libc::syscall(libc::SYS_pivot_root, dot.as_ptr(), dot.as_ptr());
        check(i32::try_from(pivoted).unwrap());
        check(libc::umount2(dot.as_ptr(), libc::MNT_DETACH));
        check(libc::chdir(slash.as_ptr()));
        for (target, kind, flags, data) in MOUNTS {
            let (target, kind, data) = (text(target), text(kind), text(data));
            libc::mkdir(target.as_ptr(), 0o755);
            check(libc::mount(
                kind.as_ptr(),
                target.as_ptr(),
                kind.as_ptr(),
                flags,
                data.as_ptr().cast(),
            ));
        }
        libc::umask(0);
        for (path, major, minor) in NODES {
            check(libc::mknod(
                text(path).as_ptr(),
                libc::S_IFCHR | 0o666,
                libc::makedev(major, minor),
            ));
        }
        let (program, path) = (text("/bin/true"), text("PATH=/bin"));
        let (arguments, environment) = ([program.as_ptr(), none], [path.as_ptr(), none]);
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        let _ = std::io::stderr().write_all(b"exec failed\n");
        libc::_exit(1)
    }
}

fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

//! Containers made by the real launcher, for tests that look at what confines them. Needs root.
//!
//! Each program of such tests is also the launcher of its tests, and that must have one thread only;
//! so they have a harness of their own.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "shared by several test programs, each of which uses a part; a test's helpers may panic"
)]

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dcos_containerizer::containerizer::launcher_socket;
use dcos_containerizer::isolator::{ContainerConfig, IsolationConfig, Isolators, Limitation};
use dcos_launcher::{Client, Scope};
use dcos_proto::mesos::volume::Mode;
use dcos_proto::mesos::{
    CommandInfo, ContainerId, ContainerInfo, LinuxInfo, ResourceStatistics, Volume,
};

/// Longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the tests one after the other: with names as arguments those only, with `--list` none.
///
/// As `launcher ...` it is the launcher instead.
pub(crate) fn main(tests: &[(&str, Test)]) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "launcher") {
        return dcos_launcher::main(arguments.into_iter().skip(1));
    }
    let arguments: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let has = |flag: &str| arguments.iter().any(|word| word == flag);
    if has("--list") {
        // None is ignored.
        let tests = if has("--ignored") { &[] } else { tests };
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = arguments
        .iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let chosen = |name: &str| {
        let matches = |word: &str| {
            if has("--exact") {
                name == word
            } else {
                name.contains(word)
            }
        };
        wanted.is_empty() || wanted.iter().any(|word| matches(word))
    };
    let mut failed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| chosen(name)) {
        let passed = std::panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(test());
        });
        failed += u8::from(passed.is_err());
        println!(
            "test {name} ... {}",
            if passed.is_ok() { "ok" } else { "FAILED" }
        );
    }
    ExitCode::from(failed)
}

pub(crate) type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! tests {
    ($($name:ident)*) => { &[$((stringify!($name), || Box::pin($name()))),*] };
}
pub(crate) use tests;

pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) launcher: Option<Client>,
    pub(crate) isolators: Isolators,
    pub(crate) cgroups_root: PathBuf,
}

/// What became of a container.
pub(crate) struct Outcome {
    pub(crate) output: String,
    pub(crate) status: i32,
    pub(crate) limitation: Option<Limitation>,
    pub(crate) usage: ResourceStatistics,
}

impl Fixture {
    /// None, and a word why, where these tests cannot run.
    pub(crate) fn new(isolation: &str, change: impl FnOnce(&mut IsolationConfig)) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = format!("mesos-test-{}-{number}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let mut config = IsolationConfig {
            isolation: isolation.to_owned(),
            cgroups_root: root.clone().into(),
            runtime_dir: folder.path().join("run"),
            ..IsolationConfig::default()
        };
        change(&mut config);
        let isolators = match Isolators::from_config(&config) {
            Ok(isolators) => isolators,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        let program = std::env::current_exe().unwrap();
        let socket = launcher_socket(&folder.path().join("run"));
        let launcher = Client::connect_or_start(&socket, &program, &["launcher"]).unwrap();
        Some(Self {
            folder,
            launcher: Some(launcher),
            isolators,
            cgroups_root: root.into(),
        })
    }

    pub(crate) fn config(&self, script: &str) -> ContainerConfig {
        let sandbox = self.folder.path().join("sandbox");
        std::fs::create_dir_all(&sandbox).unwrap();
        ContainerConfig {
            id: ContainerId::root("c"),
            command: CommandInfo {
                value: Some(script.to_owned()),
                ..Default::default()
            },
            environment: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
            sandbox,
            ..ContainerConfig::default()
        }
    }

    /// Gives a container a root file system that shows the node's programs, and nothing else of it.
    pub(crate) fn image(&self, config: &mut ContainerConfig) -> PathBuf {
        let rootfs = self.folder.path().join("rootfs");
        std::fs::create_dir_all(rootfs.join("etc")).unwrap();
        let folders = ["/usr", "/bin", "/sbin", "/lib", "/lib64"].into_iter();
        let volume = |path: &str| Volume {
            container_path: path.to_owned(),
            host_path: Some(path.to_owned()),
            mode: Mode::Ro.into(),
            ..Volume::default()
        };
        let volumes = folders.filter(|path| Path::new(path).exists()).map(volume);
        let container = config.container.get_or_insert_default();
        container.volumes.extend(volumes);
        config.rootfs = Some(rootfs.clone());
        rootfs
    }

    /// Runs a container to its end, or kills it when `enough` says so.
    pub(crate) async fn run(
        &mut self,
        config: &ContainerConfig,
        enough: impl Fn(&ResourceStatistics) -> bool,
    ) -> Outcome {
        let id = &config.id;
        let launcher = self.launcher.as_mut().unwrap();
        let draft = self.isolators.prepare(config).await.unwrap();
        let plan = draft.to_plan(&id.value).unwrap();
        let (mut output, writer) = std::io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let pid = launcher
            .launch(&plan, &[null.as_fd(), writer.as_fd(), writer.as_fd()])
            .unwrap_or_else(|error| panic!("{error:?}"));
        drop(writer);
        self.isolators.isolate(id, pid).await.unwrap();

        let mut usage = ResourceStatistics::default();
        let begin = Instant::now();
        let exit = loop {
            if let Some(exit) = launcher
                .next_event(Some(Duration::from_millis(20)))
                .unwrap()
            {
                break exit;
            }
            usage = self.isolators.usage(id).await;
            if enough(&usage) || begin.elapsed() > PATIENCE {
                launcher.kill(&id.value, libc::SIGKILL, Scope::All).unwrap();
            }
        };
        launcher.acknowledge(&exit.id).unwrap();
        let limitation = self.isolators.limitation(id);
        self.isolators.cleanup(id).await.unwrap();
        let mut text = Vec::new();
        output.read_to_end(&mut text).unwrap();
        let output = String::from_utf8_lossy(&text).into_owned();
        Outcome {
            output,
            status: exit.status,
            limitation,
            usage,
        }
    }

    pub(crate) async fn output(&mut self, config: &ContainerConfig) -> String {
        self.run(config, |_| false).await.output
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(launcher) = self.launcher.take() {
            launcher.stop().unwrap();
        }
        // Nothing may be left in any hierarchy.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let cgroups = mounts.lines().filter(|line| line.contains(" - cgroup"));
        for folder in cgroups.filter_map(|line| line.split(' ').nth(4)) {
            let root = Path::new(folder).join(&self.cgroups_root);
            if root.exists() {
                let empty = std::fs::remove_dir(&root);
                assert!(
                    std::thread::panicking() || empty.is_ok(),
                    "{} is left",
                    root.display()
                );
            }
        }
    }
}

/// Whether a process with this command line lives.
pub(crate) fn runs(words: &[&str]) -> bool {
    let wanted = words.join("\0") + "\0";
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    })
}

pub(crate) fn linux_info(change: impl FnOnce(&mut LinuxInfo)) -> ContainerInfo {
    let mut linux = LinuxInfo::default();
    change(&mut linux);
    ContainerInfo {
        linux_info: Some(linux),
        ..ContainerInfo::default()
    }
}

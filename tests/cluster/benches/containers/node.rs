//! The node that is measured: a master and an agent, as programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster_tests::process::Process;
use dcos_wire::Client;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::peers;

/// What the launcher calls the first process of a container.
const INIT: &str = "dcos-init";

/// A master and an agent.
pub(crate) struct Node {
    pub(crate) master: String,
    agent: Process,
    cgroups: PathBuf,
    runtime: PathBuf,
    running: Process,
    _runtime: Tmpfs,
}

pub(crate) struct Memory {
    pub(crate) agent: u64,
    pub(crate) launcher: u64,
    /// Of the init of one container, what it shares with nobody.
    pub(crate) init: u64,
}

impl Node {
    pub(crate) async fn start(folder: &Path, registry: &str) -> Self {
        let [master_port, agent_port] = [free_port(), free_port()];
        let master = format!("127.0.0.1:{master_port}");
        let mut command = Command::new(program("dcos-master"));
        command
            .args(["--ip=127.0.0.1", "--hostname=127.0.0.1", "--only=master"])
            .arg(format!("--port={master_port}"))
            .arg("--allocation_interval=50ms")
            .arg(format!("--work_dir={}", folder.join("master").display()))
            .env("RUST_LOG", "error");
        let running = Process::start("master", folder, command).unwrap();
        answers(&format!("http://{master}/health")).await;
        let runtime = Tmpfs::mount(folder.join("run"));
        let root = format!("mesos-bench-{}", std::process::id());
        let mut command = Command::new(program("dcos-agent"));
        command
            .args(["--ip=127.0.0.1", "--hostname=127.0.0.1"])
            .arg(format!("--port={agent_port}"))
            .arg(format!("--master={master}"))
            .arg(format!("--work_dir={}", folder.join("agent").display()))
            .arg(format!("--runtime_dir={}", folder.join("run").display()))
            .arg(format!("--cgroups_root={root}"))
            .arg("--image_providers=docker")
            .arg(format!("--docker_plain_registries={registry}"))
            .arg("--resources=cpus:100000;mem:10000000;disk:1000000");
        let agent = Process::start("agent", folder, command).unwrap();
        answers(&format!("http://127.0.0.1:{agent_port}/health")).await;
        let cgroups = PathBuf::from("/sys/fs/cgroup").join("memory").join(&root);
        Self {
            master,
            agent,
            cgroups,
            runtime: folder.join("run/containers"),
            running,
            _runtime: runtime,
        }
    }

    /// Waits until `count` containers are left, and no cgroup or note of another.
    pub(crate) async fn settled(&self, count: usize) {
        let folders = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
            entries.filter(folder).count()
        };
        while folders(&self.cgroups) > count || folders(&self.runtime) > count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends all that runs, the agent and its launcher.
    pub(crate) async fn sign_off(&self) {
        self.agent.signal(Signal::USR1);
        while !self.launcher_processes().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Seconds of CPU time so far: of the agent, of the launcher and all it launched, of the master, and of this
    /// process, which is the scheduler.
    pub(crate) fn cpu(&self) -> [f64; 4] {
        let launcher = self.launcher_processes();
        let launcher = launcher.into_iter().find(|(name, _)| name != INIT);
        let launcher = launcher.map_or(0.0, |(_, pid)| cpu(pid));
        let (agent, master) = (cpu(self.agent.id()), cpu(self.running.id()));
        [agent, launcher, master, cpu(std::process::id())]
    }

    /// The launcher and the inits it made, by name.
    fn launcher_processes(&self) -> Vec<(String, u32)> {
        let socket = self.runtime.with_file_name("launcher.sock");
        let socket = socket.display().to_string();
        let is_its = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&socket)
        };
        let name = |pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (name.trim().to_owned(), pid)
        };
        peers::processes().filter(is_its).map(name).collect()
    }

    pub(crate) fn memory(&self) -> Memory {
        let agent = self.agent.id();
        let mut memory = Memory {
            agent: status(agent, "status", &["VmRSS:"]),
            launcher: 0,
            init: 0,
        };
        for (name, pid) in self.launcher_processes() {
            if name == INIT {
                let own = ["Private_Clean:", "Private_Dirty:"];
                memory.init = memory.init.max(status(pid, "smaps_rollup", &own));
            } else {
                memory.launcher = status(pid, "status", &["VmRSS:"]);
            }
        }
        memory
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The agent first: it starts another launcher where one is missing.
        self.agent.kill();
        for (_, pid) in self.launcher_processes() {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }
}

/// A file system in memory, for as long as this lives.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

/// Seconds of CPU time of a process, and of all it has waited for.
fn cpu(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before may hold anything.
    let (_, fields) = text.rsplit_once(") ").unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(4);
    let ticks: u32 = ticks.filter_map(|text| text.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}

/// The sum of some figures that a file of a process tells in KB, in bytes.
fn status(pid: u32, file: &str, keys: &[&str]) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let rest = keys.iter().find_map(|key| line.strip_prefix(key))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    lines.sum::<u64>() * 1024
}

async fn answers(url: &str) {
    let client = Client::new();
    for _ in 0..2000 {
        let answer = client.get(url).await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{url} does not answer");
}

/// One of our programs, built in release.
fn program(name: &str) -> PathBuf {
    // This program is target/release/deps/containers-….
    let own = std::env::current_exe().unwrap();
    let folder =
        bench::argument("--programs").unwrap_or_else(|| own.ancestors().nth(2).unwrap().to_owned());
    let program = folder.join(name);
    assert!(program.exists(), "{} is not built", program.display());
    program
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

//! What a local cluster consists of: programs, flags, ports.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use dcos_wire::tls::Ssl;
use serde::{Deserialize, Serialize};

use super::process::{Program, Running};
use crate::cli::LocalUp;

/// What was started, in `local.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) master: String,
    pub(super) marathon: String,
    pub(super) metronome: String,
    /// `host:port` of the DNS server.
    pub(super) dns: String,
    pub(super) mesos_dns: String,
    /// The router: the cluster's URL for people.
    #[serde(default)]
    pub(super) router: String,
    /// The name of the agents' control groups, all below this one.
    pub(super) cgroups_root: String,
    pub(super) processes: Vec<Running>,
}

impl Notes {
    pub(super) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let file = dir.join("local.json");
        match std::fs::read(&file) {
            Ok(text) => {
                let notes = serde_json::from_slice(&text);
                notes
                    .map(Some)
                    .with_context(|| format!("{} is damaged", file.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| file.display().to_string()),
        }
    }

    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let file = dir.join("local.json");
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(&file, text).with_context(|| file.display().to_string())
    }
}

/// The ports a cluster listens on.
#[derive(Debug, Clone, Copy)]
struct Ports {
    master: u16,
    marathon: u16,
    metronome: u16,
    dns: u16,
    mesos_dns: u16,
    router: u16,
}

/// What is about to be started.
#[derive(Debug)]
pub(super) struct Plan {
    dir: PathBuf,
    /// Whether the Linux isolators can be used.
    pub(super) root: bool,
    ports: Ports,
    /// The port of each agent, and of its router.
    agents: Vec<(u16, u16)>,
}

/// Holds a port that nobody has, below those that the kernel gives to connections (`ip_local_port_range`): one of
/// these could take it again before whoever it is for does.
fn free() -> io::Result<TcpListener> {
    for _ in 0..100 {
        let random = RandomState::new().build_hasher().finish() % 20_000;
        let port = 10_000 + u16::try_from(random).unwrap_or_default();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener);
        }
    }
    TcpListener::bind(("127.0.0.1", 0))
}

/// Isolators of an agent that is root; without root it takes what it can have.
const LINUX_ISOLATION: &str = "cgroups/cpu,cgroups/mem,cgroups/pids,cgroups/devices,\
filesystem/linux,namespaces/pid,namespaces/ipc,linux/capabilities,linux/nnp,linux/seccomp,\
posix/rlimits,volume/host_path,volume/sandbox_path";

impl Plan {
    pub(super) fn new(dir: &Path, up: &LocalUp) -> anyhow::Result<Self> {
        let mut held = Vec::new();
        let mut port = |usual: u16| -> anyhow::Result<u16> {
            let listener = if up.free_ports {
                free()
            } else {
                TcpListener::bind(("127.0.0.1", usual))
            };
            let Ok(listener) = listener else {
                bail!(
                    "port {usual} of 127.0.0.1 is taken; stop what holds it, or use --free-ports"
                );
            };
            let port = listener.local_addr()?.port();
            // Held until all are chosen, so that no port is chosen twice.
            held.push(listener);
            Ok(port)
        };
        let ports = Ports {
            master: port(5050)?,
            marathon: port(8080)?,
            metronome: port(9000)?,
            dns: port(5353)?,
            mesos_dns: port(8123)?,
            router: port(8880)?,
        };
        let agents = (0..up.agents)
            .map(|index| Ok((port(5051 + index)?, port(61001 + index)?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            dir: dir.to_owned(),
            root: rustix::process::geteuid().is_root(),
            ports,
            agents,
        })
    }

    pub(super) fn notes(&self) -> Notes {
        let Ports {
            master,
            marathon,
            metronome,
            dns,
            mesos_dns,
            router,
        } = self.ports;
        // The programs inherit this environment.
        let scheme = Ssl::scheme();
        Notes {
            master: format!("{scheme}://127.0.0.1:{master}"),
            marathon: format!("{scheme}://127.0.0.1:{marathon}"),
            metronome: format!("{scheme}://127.0.0.1:{metronome}"),
            dns: format!("127.0.0.1:{dns}"),
            mesos_dns: format!("http://127.0.0.1:{mesos_dns}"),
            router: format!("http://127.0.0.1:{router}"),
            cgroups_root: format!("dcos-local-{master}"),
            processes: Vec::new(),
        }
    }

    /// The programs, in the order they are started.
    pub(super) fn programs(&self) -> anyhow::Result<Vec<Program>> {
        let mut programs = vec![self.master()?];
        for (index, ports) in self.agents.iter().enumerate() {
            programs.push(self.agent(index, *ports)?);
        }
        Ok(programs)
    }

    fn master(&self) -> anyhow::Result<Program> {
        let Ports {
            master,
            marathon,
            metronome,
            dns,
            mesos_dns,
            router,
        } = self.ports;
        let flags = vec![
            "--ip=127.0.0.1".to_owned(),
            "--hostname=127.0.0.1".to_owned(),
            "--cluster=local".to_owned(),
            format!("--port={master}"),
            format!("--marathon_port={marathon}"),
            format!("--metronome_port={metronome}"),
            format!("--dns_port={dns}"),
            format!("--mesos_dns_port={mesos_dns}"),
            format!("--router_port={router}"),
            format!(
                "--router_agent_port={}",
                self.agents.first().map_or(61001, |ports| ports.1)
            ),
            format!(
                "--router_access_log={}",
                self.dir.join("access.log").display()
            ),
            format!("--work_dir={}", self.dir.join("master").display()),
        ];
        Program::new("dcos-master", "master", flags, &self.dir)
    }

    fn agent(&self, index: usize, (port, router): (u16, u16)) -> anyhow::Result<Program> {
        let name = format!("agent-{index}");
        let root = self.dir.join(&name);
        let notes = self.notes();
        // Several agents share the machine's ports.
        let first = 31000 + index * 1000 % 30000;
        let mut flags = vec![
            "--ip=127.0.0.1".to_owned(),
            "--hostname=127.0.0.1".to_owned(),
            format!("--port={port}"),
            format!("--router_port={router}"),
            format!("--master=127.0.0.1:{}", self.ports.master),
            format!("--work_dir={}", root.join("work").display()),
            format!("--runtime_dir={}", root.join("run").display()),
            format!("--resources=ports:[{first}-{}]", first + 999),
        ];
        if self.root {
            flags.push("--launcher=linux".to_owned());
            flags.push(format!("--isolation={LINUX_ISOLATION}"));
            // An agent removes what it finds in its root and does not know: others have their own.
            flags.push(format!("--cgroups_root={}/{name}", notes.cgroups_root));
            flags.push("--cgroups_enable_cfs=true".to_owned());
        } else {
            // Whose files are all of one user's can be removed by that one.
            flags.push("--no-switch_user".to_owned());
        }
        Program::new("dcos-agent", &name, flags, &self.dir)
    }
}
